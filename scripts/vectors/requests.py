"""ledger.json: request blobs, signed requests, signed answers and views."""

from __future__ import annotations

from typing import Any

from vectors.common import (
    BUYER,
    CHANNEL,
    EXPIRY,
    GENESIS,
    ISSUER,
    LEDGER,
    SELLER,
    TERMS,
    USD,
    Case,
    case,
    fill,
    hexed,
    show,
    shown,
)
from vectors.statements import HALF0, HALF1, LEDGER_ID, REQUEST_ID
from vectors.wire import least_of, most_of, smallest, wrong_fields

from channelpay import codec, crypto, statements
from channelpay.errors import BadSignature, ErrorCode, RemoteError
from channelpay.ledger.books import Rules
from channelpay.ledger.requests import Ledger
from channelpay.messages import ledger as ops
from channelpay.messages import peer
from channelpay.messages.schema import Record

KEY = BUYER.account.public
JUDGE = Ledger(LEDGER.identity, Rules(LEDGER.account.public))


def ledger_cases() -> list[Case]:
    return blob_cases() + request_cases() + answer_cases() + view_cases()


# --- Blobs -------------------------------------------------------------------------------------


def blob_cases() -> list[Case]:
    blobs = {op: ops.LedgerRequest(KEY, EXPIRY, smallest(kind)).encode() for op, kind in ops.OPERATIONS.items()}  # type: ignore[arg-type]
    for op in sample_operations():
        blobs[f"{op.OP}, a sample"] = ops.LedgerRequest(KEY, EXPIRY, op).encode()
    return [blob_case(name, blob) for name, blob in {**blobs, **bad_blobs()}.items()]


def blob_case(name: str, blob: bytes) -> Case:
    return case("request blob", name, {"blob": hexed(blob)}, lambda: read_blob(blob))


def read_blob(blob: bytes) -> Any:
    found = ops.LedgerRequest.decode(blob)
    wire = zip(found.operation._fields, found.operation.to_wire(), strict=True)
    arguments = {name: show(value) for (name, _), value in wire}
    told = {"op": found.operation.OP, "key": found.key.hex(), "valid_until": str(found.valid_until)}
    return {**told, "arguments": arguments}


def co_signed() -> ops.CoSigned:
    message = statements.state_bytes(CHANNEL, HALF0, HALF1)
    signatures = (BUYER.channel(0).sign(message), SELLER.channel(0).sign(message))
    return ops.CoSigned(HALF0.pack(), HALF1.pack(), *signatures)


def sample_operations() -> list[ops.Operation]:
    """One plausible request of each operation that has arguments of some size."""
    keys = (BUYER.channel(0), SELLER.channel(0))
    consent = statements.accepted_bytes(CHANNEL)
    final = statements.final_bytes(CHANNEL, HALF0, HALF1, EXPIRY)
    withdraw = statements.withdraw_bytes(CHANNEL, 1, 300, EXPIRY)
    terms = TERMS._asdict()
    del terms["ledger_id"]
    return [
        ops.CreateAsset("USD", 6, ISSUER.account.public),
        ops.Issue(USD, KEY, 10**12),
        ops.Transfer(USD, SELLER.account.public, 2**63 - 1),
        ops.OpenChannel(**terms, deposit=100_000_000, **_both("accepted", consent)),
        ops.Topup(CHANNEL, 1, 5_000_000),
        ops.Withdraw(CHANNEL, 1, 300, EXPIRY, *(key.sign(withdraw) for key in keys)),
        ops.Claim(CHANNEL, co_signed()),
        ops.CloseFinal(CHANNEL, HALF0.pack(), HALF1.pack(), EXPIRY, *(key.sign(final) for key in keys)),
        ops.Close(CHANNEL, (co_signed(),)),
        ops.Respond(CHANNEL, (co_signed(), co_signed())),
    ]


def _both(name: str, message: bytes) -> dict[str, Any]:
    return {f"{name}0": BUYER.channel(0).sign(message), f"{name}1": SELLER.channel(0).sign(message)}


def bad_blobs() -> dict[str, bytes]:
    pack, state = codec.pack, [bytes(88), bytes(88), bytes(64), bytes(64)]
    found = {
        "nothing": b"",
        "no array": pack("info"),
        "an unknown operation": pack(["mint", KEY, EXPIRY, []]),
        "an operation in capitals": pack(["INFO", KEY, EXPIRY, []]),
        "an operation of 17 signs": pack(["a" * 17, KEY, EXPIRY, []]),
        "an operation as bytes": pack([b"info", KEY, EXPIRY, []]),
        "an operation as number": pack([0, KEY, EXPIRY, []]),
        "three fields": pack(["info", KEY, EXPIRY]),
        "five fields": pack(["info", KEY, EXPIRY, [], 0]),
        "arguments that are nil": pack(["info", KEY, EXPIRY, None]),
        "arguments of no array": pack(["channels", KEY, EXPIRY, 0]),
        "one argument too many": pack(["info", KEY, EXPIRY, [0]]),
        "one argument too few": pack(["account", KEY, EXPIRY, []]),
        "a key of 31 bytes": pack(["info", KEY[:31], EXPIRY, []]),
        "a key of 33 bytes": pack(["info", KEY + b"\0", EXPIRY, []]),
        "a key as text": pack(["info", "a" * 32, EXPIRY, []]),
        "valid_until of 2^63": pack(["info", KEY, 2**63, []]),
        "valid_until of -1": pack(["info", KEY, -1, []]),
        "valid_until as float": pack(["info", KEY, 1.5, []]),
        "valid_until as boolean": b"\x94\xa4info\xc4\x20" + KEY + b"\xc3\x90",
        "valid_until not in its shortest form": b"\x94\xa4info\xc4\x20" + KEY + b"\xcc\x01\x90",
        "a map for the arguments": b"\x94\xa4info\xc4\x20" + KEY + b"\x01\x80",
        "a transfer of -1": pack(["transfer", KEY, 1, [USD, KEY, -1]]),
        "three states": pack(["respond", KEY, 1, [CHANNEL, [state] * 3]]),
        "a state without its second signature": pack(["respond", KEY, 1, [CHANNEL, [state[:3]]]]),
        "a state with nil for a signature": pack(["respond", KEY, 1, [CHANNEL, [[*state[:3], None]]]]),
        "a claim without its state": pack(["claim", KEY, 1, [CHANNEL, None]]),
        "a byte more": pack(["info", KEY, EXPIRY, []]) + b"\0",
        "cut off": pack(["info", KEY, EXPIRY, []])[:-1],
    }
    for op in sample_operations():
        for name, wire in wrong_fields(op, few=True):
            found[f"{op.OP}, {name}"] = pack([op.OP, KEY, 1, wire])
    return found


# --- Signed requests ---------------------------------------------------------------------------


def request_cases() -> list[Case]:
    signer, blob = BUYER.account, ops.LedgerRequest(KEY, EXPIRY, ops.Transfer(USD, SELLER.account.public, 5)).encode()
    other_id, other_ledger = fill("another request", 16), SELLER.identity.public
    small = (1).to_bytes(32, "little")
    weak = ops.LedgerRequest(small, EXPIRY, ops.Info()).encode()
    unread = codec.pack(["mint", KEY, EXPIRY, []])

    def sign(data: bytes = blob, request_id: bytes = REQUEST_ID, ledger_id: bytes = LEDGER_ID) -> bytes:
        return signer.sign(statements.request_bytes(ledger_id, request_id, data))

    rows = {
        "a transfer": (REQUEST_ID, blob, sign()),
        "a reading": (REQUEST_ID, ops.LedgerRequest(KEY, 0, ops.Info()).encode(), None),
        "signed for another ledger": (REQUEST_ID, blob, sign(ledger_id=other_ledger)),
        "signed under another request id": (REQUEST_ID, blob, sign(request_id=other_id)),
        "another blob than signed": (REQUEST_ID, blob[:-1] + b"\6", sign()),
        "signed by another key": (REQUEST_ID, blob, SELLER.account.sign(b"")),
        "the blob itself signed": (REQUEST_ID, blob, signer.sign(blob)),
        "the blob not hashed": (REQUEST_ID, blob, signer.sign(statements.TAG_REQUEST + LEDGER_ID + REQUEST_ID + blob)),
        "under the tag of RESPONSE": (
            REQUEST_ID,
            blob,
            signer.sign(statements.TAG_RESPONSE + statements.request_bytes(LEDGER_ID, REQUEST_ID, blob)[16:]),
        ),
        "no signature": (REQUEST_ID, blob, bytes(64)),
        "a key of small order, constant signature": (REQUEST_ID, weak, small + bytes(32)),
        "an unknown operation, signed": (REQUEST_ID, unread, sign(unread)),
        "an unknown operation, not signed": (REQUEST_ID, unread, bytes(64)),
        "a blob that is no array, signed": (REQUEST_ID, b"\0", sign(b"\0")),
    }
    cases = []
    for name, (request_id, data, signature) in rows.items():
        request = peer.Request(request_id, data, signature or sign(data, request_id))
        given = {"ledger_id": LEDGER_ID.hex(), "frame": hexed(request.to_frame())}
        cases.append(case("request frame", name, given, lambda r=request: admitted(r)))
    return cases


def admitted(request: peer.Request) -> Any:
    found = JUDGE.admit(request)
    return {"op": found.operation.OP, "key": found.key.hex(), "valid_until": str(found.valid_until)}


# --- Signed answers ----------------------------------------------------------------------------


def answer_cases() -> list[Case]:
    blob, other = (ops.LedgerRequest(KEY, until, ops.Info()).encode() for until in (0, 1))
    body, refusal = b"\x90", ops.Refusal("the account holds less").encode()
    request_hash, other_hash = crypto.sha256(blob), crypto.sha256(other)
    other_id, signer = fill("another request", 16), LEDGER.identity

    def signed(*changes: bytes | int, by: crypto.SigningKey = signer, ledger_id: bytes = LEDGER_ID) -> peer.Response:
        request_id, its_hash, outcome, its_body = changes
        signature = by.sign(statements.response_bytes(ledger_id, request_id, its_hash, outcome, its_body))  # type: ignore[arg-type]
        return peer.Response(request_id, its_hash, outcome, its_body, signature)  # type: ignore[arg-type]

    good = signed(REQUEST_ID, request_hash, 0, body)
    rows = {
        "done": good,
        "refused": signed(REQUEST_ID, request_hash, 60, refusal),
        "an outcome that nobody knows": signed(REQUEST_ID, request_hash, 65535, b""),
        "of another ledger": signed(REQUEST_ID, request_hash, 0, body, by=SELLER.identity),
        "signed for another ledger id": signed(REQUEST_ID, request_hash, 0, body, ledger_id=SELLER.identity.public),
        "to another request under this id": signed(REQUEST_ID, other_hash, 0, body),
        "to this request under another id": signed(other_id, request_hash, 0, body),
        "another outcome than signed": peer.Response(REQUEST_ID, request_hash, 60, body, good.signature),
        "another body than signed": peer.Response(REQUEST_ID, request_hash, 0, b"\x91\0", good.signature),
        "another request than signed": peer.Response(REQUEST_ID, other_hash, 0, body, good.signature),
        "no signature": peer.Response(REQUEST_ID, request_hash, 0, body, bytes(64)),
    }
    asked = {"ledger_id": LEDGER_ID, "request_id": REQUEST_ID, "blob": blob}
    return [
        case("answer", name, {**shown(asked), "frame": hexed(r.to_frame())}, lambda r=r: believed(r, request_hash))
        for name, r in rows.items()
    ]


def believed(r: peer.Response, request_hash: bytes) -> Any:
    """As the client of L-4 does it; an answer under an id that was not asked is not its answer."""
    try:
        message = statements.response_bytes(LEDGER_ID, r.request_id, r.request_hash, r.outcome, r.body)
        crypto.verify(LEDGER_ID, r.signature, message)
    except BadSignature:
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "not signed by the ledger") from None
    if (r.request_id, r.request_hash) != (REQUEST_ID, request_hash):
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "an answer to another request")
    return {"outcome": str(r.outcome), "body": hexed(r.body)}


# --- Views -------------------------------------------------------------------------------------

VIEWS: tuple[type[Record], ...] = (
    ops.AssetView,
    ops.LedgerInfo,
    ops.Holding,
    ops.AccountView,
    ops.ChannelView,
    ops.ChannelPage,
    ops.JournalEntry,
    ops.JournalPage,
    ops.Refusal,
)


def sample_views() -> list[Record]:
    asset = ops.AssetView(USD, "USD", 6, ISSUER.account.public)
    terms = TERMS._asdict()
    del terms["ledger_id"]
    channel = ops.ChannelView(
        channel_id=CHANNEL, **terms, status=2, deposit0=1000, deposit1=500, withdrawn0=10, withdrawn1=20,
        half0=HALF0.pack(), half1=HALF1.pack(), deadline=EXPIRY, out0=647, out1=823, opened=7, number=99, time=EXPIRY,
    )  # fmt: skip
    entry = ops.JournalEntry(12, EXPIRY, "transfer", USD, SELLER.account.public, 0, 5)
    return [
        asset,
        ops.LedgerInfo(LEDGER_ID, EXPIRY, 99, LEDGER.account.public, 10, 2_592_000, 1, (asset,)),
        ops.AccountView(KEY, 99, EXPIRY, (ops.Holding(USD, 10**12), ops.Holding(GENESIS[:16], 0))),
        channel,
        ops.ChannelPage((channel,), 7),
        ops.ChannelPage((), None),
        ops.JournalPage((entry,), 12),
        ops.JournalPage((), None),
        ops.Refusal("the account holds less"),
    ]


def view_cases() -> list[Case]:
    cases = [view_case(type(v), f"a sample, {i}", v.encode()) for i, v in enumerate(sample_views(), 1)]
    for kind in VIEWS:
        cases += [
            view_case(kind, "the smallest", least_of(kind).encode()),
            view_case(kind, "the largest", most_of(kind).encode()),
        ]
    for view in sample_views():
        names = {name for _, name in ((c["input"]["view"], c["name"]) for c in cases)}
        for name, wire in wrong_fields(view, few=True):
            if f"{type(view).__name__}, {name}" not in names:
                cases.append(view_case(type(view), name, codec.pack(wire)))
    return cases


def view_case(kind: type[Record], name: str, data: bytes) -> Case:
    def judge() -> Any:
        found = kind.decode(data)
        return {n: show(value) for (n, _), value in zip(found._fields, found.to_wire(), strict=True)}

    return case("view", f"{kind.__name__}, {name}", {"view": kind.__name__, "bytes": hexed(data)}, judge)
