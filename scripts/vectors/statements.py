"""statements.json: everything that is signed or hashed, and signatures that are of something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vectors.common import (
    BUYER,
    CHANNEL,
    EXPIRY,
    GENESIS,
    ISSUER,
    LEDGER,
    MEMO,
    PAYMENT_ID,
    SALT0,
    SALT1,
    SELLER,
    TERMS,
    Case,
    case,
    fill,
    made,
    shown,
)

from channelpay import batches, crypto, statements
from channelpay.messages import ledger, peer
from channelpay.statements import Half

ZERO = statements.ZERO_HALF
LEDGER_ID = LEDGER.identity.public
REQUEST_ID = fill("request", 16)


def half(payer: int, *amounts_paid: int) -> Half:
    """The half after one batch of these payments."""
    records = b"".join(batches.pack_record(units) for units in amounts_paid)
    h = statements.link(CHANNEL, payer, GENESIS, 1, len(amounts_paid), records, b"")
    return Half(len(amounts_paid), sum(amounts_paid), h)


HALF0, HALF1 = half(0, 100, 250), half(1, 7)


def statement_cases() -> list[Case]:
    cases = asset_cases() + channel_cases() + half_cases()
    pairs = {"nothing paid": (ZERO, ZERO), "party 0 paid": (HALF0, ZERO), "both paid": (HALF0, HALF1)}
    for name, (half0, half1) in pairs.items():
        halves = {"channel_id": CHANNEL, "half0": half0.pack(), "half1": half1.pack()}
        cases += [signed("state", name, halves), signed("final", name, {**halves, "expiry": EXPIRY})]
    for party in (0, 1):
        fields = {"channel_id": CHANNEL, "party": party, "total": 5_000_000, "expiry": EXPIRY}
        cases.append(signed("withdraw", f"party {party}", fields))
    top = {"channel_id": CHANNEL, "party": 1, "total": 2**63 - 1, "expiry": 2**63 - 1}
    cases += [signed("withdraw", "the largest", top), signed("accepted", "consent", {"channel_id": CHANNEL})]
    given = shown({"channel_id": CHANNEL, "salt0": SALT0, "salt1": SALT1})
    cases.append(made("genesis", "genesis", given, {"hash": GENESIS.hex()}))
    swapped = shown({"channel_id": CHANNEL, "salt0": SALT1, "salt1": SALT0})
    found = statements.genesis(CHANNEL, SALT1, SALT0).hex()
    cases.append(made("genesis", "salts exchanged", swapped, {"hash": found}))
    cases += link_cases() + auth_cases() + ledger_statements()
    return cases + signature_cases()


# --- The bytes of each statement ---------------------------------------------------------------

BYTES: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "state": lambda f: statements.state_bytes(f["channel_id"], _half(f["half0"]), _half(f["half1"])),
    "final": lambda f: statements.final_bytes(f["channel_id"], _half(f["half0"]), _half(f["half1"]), f["expiry"]),
    "withdraw": lambda f: statements.withdraw_bytes(f["channel_id"], f["party"], f["total"], f["expiry"]),
    "accepted": lambda f: statements.accepted_bytes(f["channel_id"]),
    "auth": lambda f: statements.auth_bytes(f["side"], f["hellos"], f["certificate"], f["node_id"], f["peer_id"]),
    "request": lambda f: statements.request_bytes(f["ledger_id"], f["request_id"], f["blob"]),
    "response": lambda f: statements.response_bytes(
        f["ledger_id"], f["request_id"], f["request_hash"], f["outcome"], f["body"]
    ),
}
"""A statement's bytes from its fields by name."""


def _half(data: bytes) -> Half:
    return Half.unpack(data)


def signed(kind: str, name: str, fields: dict[str, Any], *signers: crypto.SigningKey) -> Case:
    """A statement's bytes and signatures; by both channel keys unless others are named."""
    data = BYTES[kind](fields)
    by = signers or (BUYER.channel(0), SELLER.channel(0))
    signatures = [{"key": signer.public.hex(), "signature": signer.sign(data).hex()} for signer in by]
    return made(kind, name, shown(fields), {"bytes": data.hex(), "signatures": signatures})


def asset_cases() -> list[Case]:
    cases = []
    issuer = ISSUER.account.public
    other = BUYER.account.public
    rows = ((6, "USD", issuer), (0, "JPY", issuer), (18, "A23456789012", issuer), (2, "USD", issuer), (6, "USD", other))
    for scale, code, owner in rows:
        given = shown({"ledger_id": LEDGER_ID, "issuer": owner, "scale": scale, "code": code})
        found = statements.asset_id(LEDGER_ID, owner, scale, code)
        name = f"{code}, scale {scale}" + (", another issuer" if owner is other else "")
        cases.append(made("asset id", name, given, {"asset_id": found.hex()}))
    return cases


def channel_cases() -> list[Case]:
    swapped = {"key0": TERMS.key1, "key1": TERMS.key0, "account0": TERMS.account1, "account1": TERMS.account0}
    variants = {
        "the example's": TERMS,
        "another ledger": TERMS._replace(ledger_id=SELLER.identity.public),
        "another asset": TERMS._replace(asset_id=bytes(16)),
        "one_way": TERMS._replace(flags=1),
        "a payment a batch": TERMS._replace(max_batch=1),
        "another nonce": TERMS._replace(open_nonce=bytes(32)),
        "another window": TERMS._replace(window_s=10),
        "parties exchanged": TERMS._replace(**swapped),
    }
    return [
        made("channel id", n, shown(t._asdict()), {"channel_id": t.channel_id().hex()}) for n, t in variants.items()
    ]


def half_cases() -> list[Case]:
    paid, top = half(0, 100, 250), 2**63
    variants = {
        "nothing paid": ZERO,
        "two payments": paid,
        "one unit a payment": paid._replace(total=2),
        "the largest": paid._replace(n=top - 1, total=top - 1),
        "n above 2^63-1": paid._replace(n=top, total=top - 1),
        "total above 2^63-1": paid._replace(total=top),
        "n and total the largest u64": paid._replace(n=2**64 - 1, total=2**64 - 1),
        "total below n": paid._replace(total=1),
        "payments, no total": paid._replace(total=0),
        "no payments, a total": Half(total=5),
        "no payments, a hash": Half(h=fill("hash")),
        "L not zero": paid._replace(locked=1),
        "R not zero": paid._replace(root=fill("root")),
        "R with its last bit set": paid._replace(root=bytes(31) + b"\1"),
        "L of the zero half": Half(locked=1),
        "n above 2^63-1 and L not zero": paid._replace(n=top, locked=1),
        "L not zero and total below n": paid._replace(total=1, locked=1),
    }
    return [case("half", n, {"half": v.pack().hex()}, lambda v=v: half_fields(v.pack())) for n, v in variants.items()]


def half_fields(data: bytes) -> Any:
    found = Half.unpack(data)
    return {"n": str(found.n), "total": str(found.total), "h": found.h.hex()}


def link_cases() -> list[Case]:
    first = batches.pack_record(100, PAYMENT_ID) + batches.pack_record(250)
    h1 = statements.link(CHANNEL, 0, GENESIS, 1, 2, first, b"")
    memos = batches.pack_memos([(0, MEMO), (1, b"\0" * 256)])
    rows = {
        "the first batch": (0, GENESIS, 1, 2, first, b""),
        "the same by party 1": (1, GENESIS, 1, 2, first, b""),
        "the second batch": (0, h1, 3, 1, batches.pack_record(2**63 - 1 - 350), b""),
        "with memos": (0, h1, 3, 2, first, memos),
        "a full batch": (0, h1, 3, 4096, batches.pack_record(1) * 4096, b""),
    }
    cases = []
    for name, (payer, h, first_n, count, records, attached) in rows.items():
        fields = {"channel_id": CHANNEL, "payer": payer, "h": h, "first_n": first_n, "count": count, "memos": attached}
        full = count == 4096
        written = f"{records[:24].hex()}*4096" if full else records.hex()
        found = statements.link(CHANNEL, payer, h, first_n, count, records, attached)
        cases.append(made("link", name, {**shown(fields), "records": written}, {"hash": found.hex()}))
    return cases


# --- AUTH, requests and answers ----------------------------------------------------------------


def hello(role: peer.Role, label: str) -> peer.Hello:
    return peer.Hello((1,), (), role, fill(f"nonce of {label}"), (LEDGER_ID,), "channelpay/0.1")


def auth_fields(side: int) -> dict[str, Any]:
    hellos = hello(peer.Role.NODE, "connector").to_frame() + hello(peer.Role.NODE, "listener").to_frame()
    signer, other = (SELLER, b"") if side else (BUYER, SELLER.identity.public)
    fields = {"side": side, "hellos": hellos, "certificate": fill("certificate", 300)}
    return fields | {"node_id": signer.identity.public, "peer_id": other}


def auth_cases() -> list[Case]:
    return [
        signed("auth", "the listener, first", auth_fields(1), SELLER.identity),
        signed("auth", "the connector, who knows the listener", auth_fields(0), BUYER.identity),
    ]


def request_fields() -> dict[str, Any]:
    blob = ledger.LedgerRequest(BUYER.account.public, EXPIRY, ledger.Account(BUYER.account.public)).encode()
    return {"ledger_id": LEDGER_ID, "request_id": REQUEST_ID, "blob": blob}


def response_fields(outcome: int, body: bytes) -> dict[str, Any]:
    request_hash = crypto.sha256(request_fields()["blob"])
    fields = {"ledger_id": LEDGER_ID, "request_id": REQUEST_ID, "outcome": outcome}
    return fields | {"request_hash": request_hash, "body": body}


def ledger_statements() -> list[Case]:
    refusal = ledger.Refusal("the account holds less").encode()
    return [
        signed("request", "account", request_fields(), BUYER.account),
        signed("response", "done", response_fields(0, b"\x90"), LEDGER.identity),
        signed("response", "refused", response_fields(60, refusal), LEDGER.identity),
        signed("response", "no body", response_fields(0, b""), LEDGER.identity),
    ]


# --- Signatures that are of something else -----------------------------------------------------


def signature_cases() -> list[Case]:
    """Each statement with its signature, then with every field changed: the same signature is refused."""
    halves = {"half0": HALF0.pack(), "half1": HALF1.pack()}
    pays, both = BUYER.channel(0), {"channel_id": CHANNEL, **halves}
    withdrawal = {"channel_id": CHANNEL, "party": 0, "total": 5_000_000, "expiry": EXPIRY}
    rows = [
        ("state", both, pays),
        ("final", {**both, "expiry": EXPIRY}, pays),
        ("withdraw", withdrawal, pays),
        ("accepted", {"channel_id": CHANNEL}, pays),
        ("auth", auth_fields(1), SELLER.identity),
        ("auth", auth_fields(0), BUYER.identity),
        ("request", request_fields(), BUYER.account),
        ("response", response_fields(0, b"\x90"), LEDGER.identity),
    ]
    cases = []
    for kind, fields, signer in rows:
        name = kind + (f", side {fields['side']}" if kind == "auth" else "")
        signature = signer.sign(BYTES[kind](fields))
        cases.append(signature_case(f"{name}: as signed", kind, fields, signer.public, signature))
        for field, value in changes(fields).items():
            changed = {**fields, field: value}
            cases.append(signature_case(f"{name}: another {field}", kind, changed, signer.public, signature))
        other = SELLER.channel(0).public if signer is not SELLER.channel(0) else pays.public
        cases.append(signature_case(f"{name}: another key", kind, fields, other, signature))
    return cases + taken_for_another()


def changes(fields: dict[str, Any]) -> dict[str, Any]:
    """For each field another value that is legal too."""
    others = {"half0": half(0, 100, 251).pack(), "half1": half(1, 8).pack(), "party": 1, "outcome": 60}
    if "side" in fields:
        others |= {"side": 1 - fields["side"], "peer_id": b"" if fields["peer_id"] else SELLER.identity.public}
    found = {}
    for name, value in fields.items():
        if name in others:
            found[name] = others[name]
        elif isinstance(value, int):
            found[name] = value + 1
        else:
            found[name] = value[:-1] + bytes([value[-1] ^ 1]) if value else b"\0"
    return found


def taken_for_another() -> list[Case]:
    """Signatures on one statement that are shown for another."""
    pays, both = BUYER.channel(0), {"channel_id": CHANNEL, "half0": HALF0.pack(), "half1": HALF1.pack()}
    final = {**both, "expiry": EXPIRY}
    swapped = {"channel_id": CHANNEL, "half0": both["half1"], "half1": both["half0"]}
    state = BYTES["state"](both)
    rows = {
        "final: signed as a state": ("final", final, state),
        "state: signed as final": ("state", both, BYTES["final"](final)),
        "state: halves exchanged": ("state", swapped, state),
        "accepted: the channel's id alone": ("accepted", {"channel_id": CHANNEL}, CHANNEL),
        "accepted: under the tag of STATE": (
            "accepted",
            {"channel_id": CHANNEL},
            statements.TAG_STATE + CHANNEL,
        ),
        "state: the hash of its bytes": ("state", both, crypto.sha256(state)),
        "state: without its seq": ("state", both, state[:48] + state[56:]),
        "state: seq 0": ("state", both, state[:48] + bytes(8) + state[56:]),
        "state: counters least significant byte first": ("state", both, state[:48] + state[48:56][::-1] + state[56:]),
        "request: as an answer": (
            "request",
            request_fields(),
            statements.TAG_RESPONSE + BYTES["request"](request_fields())[16:],
        ),
    }
    return [
        signature_case(name, kind, fields, pays.public, pays.sign(data)) for name, (kind, fields, data) in rows.items()
    ]


def signature_case(name: str, kind: str, fields: dict[str, Any], key: bytes, signature: bytes) -> Case:
    given = {"statement": kind, **shown(fields), "key": key.hex(), "signature": signature.hex()}
    return case("signature", name, given, lambda: crypto.verify(key, signature, BYTES[kind](fields)) or "")
