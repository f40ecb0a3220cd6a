"""codec.json and messages.json."""

from __future__ import annotations

from typing import Any

from vectors.common import (
    BUYER,
    CHANNEL,
    EXPIRY,
    LEDGER,
    SALT0,
    SALT1,
    SELLER,
    TERMS,
    USD,
    Case,
    case,
    fill,
    hexed,
    made,
    show,
)
from vectors.statements import auth_cases, half, hello

from channelpay import batches, codec, crypto, errors, statements
from channelpay.framing import FrameBuffer, frame
from channelpay.limits import MAX_FRAME
from channelpay.messages import ledger, peer, schema

VALUES: list[list[Any]] = [
    [],
    [None],
    [0],
    [127],
    [128],
    [255],
    [256],
    [65535],
    [65536],
    [2**32 - 1],
    [2**32],
    [2**63 - 1],
    [2**64 - 1],
    [b""],
    [bytes(255)],
    [bytes(256)],
    [""],
    ["a" * 31],
    ["a" * 32],
    ["\u20ac \U0001f600"],
    [[], [[]]],
    [0] * 15,
    [0] * 16,
    [[1, b"x", "y", None], 2],
]
BAD_CODINGS = {
    "nothing": "",
    "no array": "00",
    "nil": "c0",
    "a map": "80",
    "an empty map inside": "9180",
    "a map inside": "91810102",
    "an empty extension": "91c70000",
    "an extension": "91d40100",
    "a time stamp": "91d6ff00000000",
    "reserved c1": "91c1",
    "a byte more": "9000",
    "two arrays": "9090",
    "cut off": "9200",
    "cut off in bytes": "91c405aa",
    "0 as uint8": "91cc00",
    "127 as uint8": "91cc7f",
    "255 as uint16": "91cd00ff",
    "1 as uint32": "91ce00000001",
    "1 as uint64": "91cf0000000000000001",
    "1 as int8": "91d001",
    "1 as int64": "91d30000000000000001",
    "float32": "91ca3f800000",
    "bytes as bin16": "91c50001aa",
    "bytes as bin32": "91c600000001aa",
    "text as str8": "91d90161",
    "text as str16": "91da000161",
    "an array as array16": "dc000100",
    "an array as array32": "dd0000000100",
    "text that is no UTF-8": "91a1ff",
    "overlong UTF-8": "91a2c080",
    "a surrogate": "91a3eda080",
    "a map with a key twice": "918200010002",
    "a map with rising keys": "918200010102",
    "fixext 16": "91d801" + "00" * 16,
    "1 as int16": "91d10001",
    "1 as int32": "91d200000001",
    "255 as uint64": "91cf00000000000000ff",
    "65,535 as uint32": "91ce0000ffff",
    "2^32-1 as uint64": "91cf00000000ffffffff",
    "bytes of 255 as bin16": "91c500ff" + "00" * 255,
    "text of 31 as str8": "91d91f" + "61" * 31,
    "text as str32": "91db0000000161",
    "15 items as array16": "dc000f" + "00" * 15,
    "UTF-8 beyond U+10FFFF": "91a4f4908080",
    "UTF-8 cut off": "91a2e282",
    "4,097 items": "dc1001" + "00" * 4097,
    "ext8 bomb": "91c7ff01",
    "ext32 bomb": "91c9ffffffff01",
    "bin16 bomb": "91c5ffff",
    "str16 bomb": "91daffff",
    "map16 bomb": "deffff",
    "array16 bomb": "dcffff",
    "array32 bomb": "ddffffffff",
    "bin32 bomb": "91c6ffffffff",
    "str32 bomb": "91dbffffffff",
    "map32 bomb": "dfffffffff",
    "2,000 levels deep": "91" * 2000 + "90",
    "nested bombs": "dc1001" * 40,
}
"""Bytes that are not the one encoding of an array, in hexadecimal."""


def codec_cases() -> list[Case]:
    cases = [encoded(f"value {i}", value) for i, value in enumerate(VALUES)]
    for name, data in BAD_CODINGS.items():
        given = {"bytes": hexed(bytes.fromhex(data))}
        cases.append(case("decode", name, given, lambda d=data: show(codec.unpack(bytes.fromhex(d)))))
    return cases


def encoded(name: str, value: list[Any]) -> Case:
    return made("encode", name, {"value": show(value)}, {"bytes": hexed(codec.pack(value))})


# --- The smallest, the largest and the wrong values of every field -----------------------------


def least(field: schema.Field) -> Any:
    """The smallest value that a field takes."""
    if isinstance(field, schema.Bounded):
        return field.kind() if field.kind is str else field.kind(field.least)
    if isinstance(field, schema.Array):
        return (least(field.inner),) * field.least
    if isinstance(field, schema.Nested):
        return least_of(field.kind)
    return None if isinstance(field, schema.Optional) else "A"


def most(field: schema.Field) -> Any:
    """The largest value that a field takes, but short lists."""
    if isinstance(field, schema.Bounded):
        if field.kind is int:
            return field.most
        return b"\xff" * field.most if field.kind is bytes else "a" * field.most
    if isinstance(field, schema.Array):
        return (most(field.inner),) * (1 if isinstance(field.inner, schema.Nested) else min(field.most, 3))
    if isinstance(field, schema.Nested):
        return most_of(field.kind)
    return most(field.inner) if isinstance(field, schema.Optional) else "A23456789012"


def least_of(kind: type[schema.Record]) -> schema.Record:
    return kind(*(least(field) for _, field in kind._fields))


def most_of(kind: type[schema.Record]) -> schema.Record:
    return kind(*(most(field) for _, field in kind._fields))


smallest = least_of


def wrong(field: schema.Field) -> dict[str, Any]:
    """Values that a field does not take, with their names."""
    if isinstance(field, schema.Optional):
        return {name: value for name, value in wrong(field.inner).items() if value is not None}
    found: dict[str, Any] = {"nil": None}
    if isinstance(field, schema.Bounded) and field.kind is int:
        found |= {"a boolean": True, "a float": 1.0, "-1": -1, "text": "1"}
        if field.most < 2**64 - 1:
            found[f"{field.most} + 1"] = field.most + 1
    elif isinstance(field, schema.Bounded) and field.kind is bytes:
        found |= {"a number": 0, f"{field.most + 1} bytes": bytes(field.most + 1)}
        found |= {
            "text": "a" * field.least,
            **({f"{field.least - 1} bytes": bytes(field.least - 1)} if field.least else {}),
        }
    elif isinstance(field, schema.Bounded):
        found |= {"bytes": b"a", f"{field.most + 1} bytes of text": "a" * (field.most + 1)}
    elif isinstance(field, schema.Array):
        found |= {"no array": 0, "an item that is wrong": [next(iter(wrong(field.inner).values()))]}
        if field.most <= 256:
            found[f"{field.most + 1} items"] = [_wire(least(field.inner))] * (field.most + 1)
    elif isinstance(field, schema.Nested):
        found |= {"an empty array": [], "bytes": b""}
    else:
        found |= {"no code": "usd", "13 signs": "A" * 13, "bytes": b"USD", "no text": ""}
    return found


def _wire(value: Any) -> Any:
    return value.to_wire() if isinstance(value, schema.Record) else value


def wrong_fields(sample: schema.Record, *, few: bool = False) -> list[tuple[str, list[Any]]]:
    """The array of `sample` with each field wrong in each way (or in the last), and with one field less and more."""
    wire = sample.to_wire()
    found = [("a field less", wire[:-1]), ("a field more", [*wire, None])]
    for index, (name, field) in enumerate(sample._fields):
        for label, value in list(wrong(field).items())[-1 if few else 0 :]:
            found.append((f"{name}: {label}", [*wire[:index], value, *wire[index + 1 :]]))
    return found


def samples() -> list[peer.Message]:
    """One plausible message of each type, in the order of the type table."""
    half0 = half(0, 100, 250)
    zero = statements.ZERO_HALF
    pays, earns = BUYER.channel(0), SELLER.channel(0)
    state = statements.state_bytes(CHANNEL, half0, zero)
    open_fields = (
        TERMS.open_nonce,
        USD,
        TERMS.key0,
        TERMS.account0,
        100_000_000,
        0,
        86_400,
        4096,
        SALT0,
        65_536,
        1_000_000,
        1,
    )
    accept_fields = (TERMS.open_nonce, USD, TERMS.key1, TERMS.account1, 0, 0, 86_400, 4096, SALT1, 65_536, 1_000_000, 1)
    withdraw = statements.withdraw_bytes(CHANNEL, 0, 5_000_000, EXPIRY)
    final = statements.final_bytes(CHANNEL, half0, zero, EXPIRY)
    shown_state = peer.SignedState(half0.pack(), zero.pack(), pays.sign(state))
    records = batches.pack_record(100) + batches.pack_record(250)
    auth_data = bytes.fromhex(auth_cases()[0]["expect"]["bytes"])
    blob = ledger.LedgerRequest(BUYER.account.public, EXPIRY, ledger.Info()).encode()
    request = statements.request_bytes(LEDGER.identity.public, fill("request", 16), blob)
    answer = statements.response_bytes(LEDGER.identity.public, fill("request", 16), crypto.sha256(blob), 60, b"")
    ready = earns.sign(statements.state_bytes(CHANNEL, zero, zero))
    return [
        hello(peer.Role.NODE, "connector"),
        peer.Auth(SELLER.identity.public, SELLER.identity.sign(auth_data)),
        peer.Error(errors.ErrorCode.BALANCE, CHANNEL, "the payer's balance is 5 units short"),
        peer.Ping(2**64 - 1),
        peer.Pong(2**64 - 1),
        peer.Open(*open_fields),
        peer.Accept(*accept_fields, earns.sign(statements.accepted_bytes(CHANNEL))),
        peer.Funded(CHANNEL),
        peer.Ready(CHANNEL, ready),
        peer.Pay(CHANNEL, 1, records, b"", 0, pays.sign(state)),
        peer.Ack(CHANNEL, 2, 0, earns.sign(state)),
        peer.Reestablish(
            CHANNEL,
            shown_state,
            peer.SignedState(half0.pack(), zero.pack(), earns.sign(state)),
            (peer.OpenWithdrawal(0, 5_000_000, EXPIRY, pays.sign(withdraw), None),),
            None,
        ),
        peer.Recall(CHANNEL, 0, 1),
        peer.PastRecords(CHANNEL, 0, (peer.PastBatch(1, records, b""),)),
        peer.Shutdown(CHANNEL, 2),
        peer.Final(CHANNEL, EXPIRY, pays.sign(final)),
        peer.WithdrawAsk(CHANNEL, 5_000_000, EXPIRY, pays.sign(withdraw)),
        peer.WithdrawOk(CHANNEL, 5_000_000, EXPIRY, earns.sign(withdraw)),
        peer.WithdrawNo(CHANNEL, 5_000_000, EXPIRY, errors.ErrorCode.WITHDRAW_REFUSED),
        peer.TopupHint(CHANNEL),
        peer.Request(fill("request", 16), blob, BUYER.account.sign(request)),
        peer.Response(fill("request", 16), crypto.sha256(blob), 60, b"", LEDGER.identity.sign(answer)),
        peer.Event(77, EXPIRY, "topup", CHANNEL, b"\x90"),
    ]


def message_case(name: str, message: peer.Message) -> Case:
    fields = {field: show(value) for (field, _), value in zip(message._fields, message.to_wire(), strict=True)}
    given = {"type": f"{message.TYPE:02x}", "fields": fields}
    return made("message", f"{message.__class__.__name__}, {name}", given, {"frame": hexed(message.to_frame())})


def message_cases() -> list[Case]:
    cases = [message_case("a sample", message) for message in samples()]
    for kind in peer.MESSAGES.values():
        cases += [message_case("the smallest", least_of(kind)), message_case("the largest", most_of(kind))]
    return cases + [frame_case(name, data) for name, data in (bad_frames() | wrong_frames()).items()]


def frame_case(name: str, data: bytes) -> Case:
    return case("frame", name, {"frame": hexed(data)}, lambda: read(data))


def wrong_frames() -> dict[str, bytes]:
    """Every message with each of its fields wrong."""
    found = {}
    for message in samples():
        for name, wire in wrong_fields(message):
            found[f"{type(message).__name__}, {name}"] = frame(message.TYPE, codec.pack(wire))
    return found


def read(data: bytes) -> Any:
    buffer = FrameBuffer(MAX_FRAME)
    buffer.feed(data)
    found = buffer.next_frame()
    if found is None:
        return "more bytes"
    return {"type": f"{found[0]:02x}", "fields": show(peer.decode(*found).to_wire())}


def bad_frames() -> dict[str, bytes]:
    """Frames that are refused, and three that are not yet complete."""
    pay, ping = samples()[9].to_wire(), b"\x91\x00"

    def changed(kind: int, wire: list[Any], index: int, value: Any) -> bytes:
        return frame(kind, codec.pack([*wire[:index], value, *wire[index + 1 :]]))

    hello_wire = samples()[0].to_wire()
    error, again = samples()[2].to_wire(), samples()[11].to_wire()
    return {
        "no bytes": b"",
        "three bytes": b"\0\0\0",
        "a frame without its end": frame(4, ping)[:-1],
        "length 0": bytes(4),
        "length 128 KiB + 1": (MAX_FRAME + 1).to_bytes(4, "big"),
        "length 2^32-1": b"\xff" * 4,
        "unknown type 00": frame(0, ping),
        "unknown type 99": frame(0x99, ping),
        "type of the local socket": frame(0xA0, ping),
        "no payload": frame(4, b""),
        "a payload that is no array": frame(4, b"\x00"),
        "no fields": frame(4, b"\x90"),
        "one field too many": frame(4, b"\x92\x00\x00"),
        "a token that is a boolean": frame(4, b"\x91\xc3"),
        "a token that is a float": frame(4, b"\x91\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"),
        "a token that is nil": frame(4, b"\x91\xc0"),
        "a token that is not-a-number": frame(4, b"\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
        "a token that is negative": frame(4, b"\x91\xff"),
        "a token that is text": frame(4, b"\x91\xa10"),
        "a token that is bytes": frame(4, b"\x91\xc4\x010"),
        "a token that is an array": frame(4, b"\x91\x90"),
        "a token not in its shortest form": frame(4, b"\x91\xcc\x00"),
        "a token that is a map": frame(4, b"\x91\x80"),
        "a byte after the array": frame(4, ping + b"\0"),
        "600 levels deep": frame(4, b"\x91" * 600 + b"\x90"),
        "HELLO, nine versions": changed(1, hello_wire, 0, list(range(9))),
        "HELLO, an agent of 22 signs, 66 bytes": changed(1, hello_wire, 5, "\u20ac" * 22),
        "ERROR, a channel of 16 bytes": changed(3, error, 1, bytes(16)),
        "PAY, records of 25 bytes, which S-20 refuses later": changed(0x20, pay, 2, bytes(25)),
        "REESTABLISH, a state of two fields": changed(0x22, again, 1, again[1][:2]),
        "REESTABLISH, mine is nil": changed(0x22, again, 1, None),
        "REESTABLISH, three withdrawals": changed(0x22, again, 3, again[3] * 3),
        "REESTABLISH, a withdrawal of party 2": changed(0x22, again, 3, [[2, *again[3][0][1:]]]),
        "REESTABLISH, a half of 87 bytes": changed(0x22, again, 1, [bytes(87), *again[1][1:]]),
        "RECORDS, 4,097 batches": frame(0x24, codec.pack([CHANNEL, 0, [[1, bytes(24), b""]] * 4097])),
    }
