"""What all vectors share: the parties and the channel of the examples, and how a case is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channelpay import crypto, errors, keys, statements

ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19

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


def show(value: Any) -> Any:
    """A wire value as JSON."""
    if isinstance(value, bool | float):
        raise TypeError("not a value of the wire")
    if isinstance(value, int):
        return {"uint": str(value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, list):
        return [show(item) for item in value]
    return value


def name_of(error: errors.ChannelpayError) -> str:
    """How vectors name an error: a wire code's name, or what kind of input was refused."""
    if isinstance(error, errors.RemoteError):
        return error.code.name.lower()
    return {
        errors.AmountError: "amount",
        errors.AddressError: "address",
        errors.KeyRefused: "key",
        errors.BadSignature: "signature",
    }[type(error)]


def case(kind: str, name: str, given: Any, judge: Callable[[], Any]) -> Case:
    """One case; what `judge` returns is expected, what it raises is the error."""
    try:
        return {"name": name, "kind": kind, "input": given, "expect": judge()}
    except errors.ChannelpayError as error:
        return {"name": name, "kind": kind, "input": given, "error": name_of(error)}
