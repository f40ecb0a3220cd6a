"""What all vectors share: the parties and the channel of the examples, and how a case is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from channelpay import crypto, errors, keys, statements
from channelpay.ledger.outcomes import LedgerRefused

Case = dict[str, Any]


def fill(label: str, size: int = 32) -> bytes:
    """`size` bytes that depend on the label only."""
    return (crypto.sha256(label.encode()) * (size // 32 + 1))[:size]


def ring(label: str) -> keys.Keyring:
    return keys.Keyring(keys.words_from_entropy(fill(f"entropy of {label}")))


BUYER, SELLER, LEDGER, ISSUER = (ring(name) for name in ("buyer", "seller", "ledger", "issuer"))
USD = statements.asset_id(LEDGER.identity.public, ISSUER.account.public, 6, "USD")
TERMS = statements.ChannelTerms(
    LEDGER.identity.public,
    USD,
    BUYER.channel(0).public,
    SELLER.channel(0).public,
    BUYER.account.public,
    SELLER.account.public,
    fill("open nonce"),
    statements.FLAG_TWO_WAY,
    86_400,
    4096,
)
CHANNEL = TERMS.channel_id()
SALT0, SALT1 = fill("salt of party 0"), fill("salt of party 1")
GENESIS = statements.genesis(CHANNEL, SALT0, SALT1)
PAYMENT_ID = bytes.fromhex("01978e2f4a007c3d8b1e5f2a9c6d0e47")
MEMO = b"piece 0"
EXPIRY = 1_750_003_600


def hexed(data: bytes) -> str:
    """Bytes as vectors write them: hexadecimal, a run of 256 or more equal bytes as a piece `00*256` of its own."""
    pieces, at = [], 0
    for run in re.finditer(rb"(.)\1{255,}", data, re.DOTALL):
        pieces += [data[at : run.start()].hex(), f"{run[1].hex()}*{len(run[0])}"]
        at = run.end()
    return " ".join(piece for piece in [*pieces, data[at:].hex()] if piece)


def shown(fields: dict[str, Any]) -> dict[str, str]:
    """Named numbers and bytes as the texts of a case."""
    return {name: hexed(value) if isinstance(value, bytes) else str(value) for name, value in fields.items()}


def show(value: Any) -> Any:
    """A wire value as JSON."""
    if isinstance(value, bool | float):
        raise TypeError("not a value of the wire")
    if isinstance(value, int):
        return {"uint": str(value)}
    if isinstance(value, bytes):
        return {"bytes": hexed(value)}
    if isinstance(value, list):
        return [show(item) for item in value]
    return value


def name_of(error: errors.ChannelpayError) -> str:
    """How vectors name an error: a wire code's name, or what kind of input was refused."""
    if isinstance(error, errors.RemoteError):
        return error.code.name.lower()
    if isinstance(error, LedgerRefused):
        return error.outcome.label
    return {
        errors.AmountError: "amount",
        errors.AddressError: "address",
        errors.KeyRefused: "key",
        errors.BadSignature: "signature",
    }[type(error)]


def case(kind: str, name: str, given: Any, judge: Callable[[], Any], *also: str) -> Case:
    """One case; what `judge` returns is expected, what it raises is the error.

    `also` are requirements that this case shows beside those of its kind (see requirements.py).
    """
    found = {"name": name, "kind": kind, "requirements": also, "input": given}
    try:
        return {**found, "expect": judge()}
    except errors.ChannelpayError as error:
        return {**found, "error": name_of(error)}


def made(kind: str, name: str, given: Any, expect: Any, *also: str) -> Case:
    """A case that shows what is made, where nothing can be refused."""
    return {"name": name, "kind": kind, "requirements": also, "input": given, "expect": expect}
