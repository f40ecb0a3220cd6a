"""codec.json, messages.json and ledger.json."""

from __future__ import annotations

from typing import Any

from vectors.common import BUYER, CHANNEL, EXPIRY, LEDGER, SALT0, SALT1, SELLER, TERMS, USD, Case, case, fill, show
from vectors.signing import auth_cases, half, hello

from channelpay import batches, codec, crypto, errors, statements
from channelpay.framing import FrameBuffer, frame
from channelpay.limits import MAX_FRAME
from channelpay.messages import ledger, peer, schema


def codec_cases() -> list[Case]:
    values = [
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
    cases = [encoded(f"value {i}", value) for i, value in enumerate(values)]
    refused = {
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
        "array16 bomb": "dcffff",
        "array32 bomb": "ddffffffff",
        "bin32 bomb": "91c6ffffffff",
        "str32 bomb": "91dbffffffff",
        "map32 bomb": "dfffffffff",
        "2,000 levels deep": "91" * 2000 + "90",
        "nested bombs": "dc1001" * 40,
    }
    for name, data in refused.items():
        cases.append(case("decode", name, {"bytes": data}, lambda d=data: show(codec.unpack(bytes.fromhex(d)))))
    return cases


def encoded(name: str, value: list[Any]) -> Case:
    return {
        "name": name,
        "kind": "encode",
        "input": {"value": show(value)},
        "expect": {"bytes": codec.pack(value).hex()},
    }


def least(field: schema.Field) -> Any:
    """The smallest value that a field takes."""
    if isinstance(field, schema.Bounded):
        return field.kind(field.least)
    if isinstance(field, schema.Array):
        return (least(field.inner),) * field.least
    if isinstance(field, schema.Nested):
        return smallest(field.kind)
    return None if isinstance(field, schema.Optional) else "A"


def smallest(kind: type[schema.Record]) -> schema.Record:
    return kind(*(field.kind() if _is_text(field) else least(field) for _, field in kind._fields))


def _is_text(field: schema.Field) -> bool:
    return isinstance(field, schema.Bounded) and field.kind is str


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
    answer = statements.response_bytes(LEDGER.identity.public, fill("request", 16), crypto.sha256(blob), 513, b"")
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
        peer.Response(fill("request", 16), crypto.sha256(blob), 513, b"", LEDGER.identity.sign(answer)),
        peer.Event(77, EXPIRY, "topup", CHANNEL, b"\x90"),
    ]


def message_case(name: str, message: peer.Message) -> Case:
    fields = {field: show(value) for (field, _), value in zip(message._fields, message.to_wire(), strict=True)}
    return {
        "name": f"{message.__class__.__name__}, {name}",
        "kind": "message",
        "input": {"type": f"{message.TYPE:02x}", "fields": fields},
        "expect": {"frame": message.to_frame().hex()},
    }


def message_cases() -> list[Case]:
    cases = [message_case("a sample", message) for message in samples()]
    cases += [message_case("the smallest", smallest(kind)) for kind in peer.MESSAGES.values()]
    return cases + [case("frame", n, {"frame": f.hex()}, lambda f=f: read(f)) for n, f in bad_frames().items()]


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

    hello_wire, ack = samples()[0].to_wire(), samples()[10].to_wire()
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
        "PAY, channel id of 31 bytes": changed(0x20, pay, 0, bytes(31)),
        "PAY, channel id of 33 bytes": changed(0x20, pay, 0, bytes(33)),
        "PAY, channel id as text": changed(0x20, pay, 0, "a" * 32),
        "PAY, first_n of 2^63": changed(0x20, pay, 1, 2**63),
        "PAY, no records": changed(0x20, pay, 2, b""),
        "PAY, records of 23 bytes": changed(0x20, pay, 2, bytes(23)),
        "PAY, memos as nil": changed(0x20, pay, 3, None),
        "PAY, ack_n of 2^63": changed(0x20, pay, 4, 2**63),
        "PAY, signature of 63 bytes": changed(0x20, pay, 5, bytes(63)),
        "PAY, signature of 65 bytes": changed(0x20, pay, 5, bytes(65)),
        "ACK, a field too few": frame(0x21, codec.pack(ack[:-1])),
        "HELLO, no version": changed(1, hello_wire, 0, []),
        "HELLO, nine versions": changed(1, hello_wire, 0, list(range(9))),
        "HELLO, version 65536": changed(1, hello_wire, 0, [65536]),
        "HELLO, 33 features": changed(1, hello_wire, 1, list(range(33))),
        "HELLO, role 256": changed(1, hello_wire, 2, 256),
        "HELLO, nine ledgers": changed(1, hello_wire, 4, [bytes(32)] * 9),
        "HELLO, a ledger of 31 bytes": changed(1, hello_wire, 4, [bytes(31)]),
        "HELLO, an agent of 65 bytes": changed(1, hello_wire, 5, "a" * 65),
        "HELLO, an agent of 22 signs, 66 bytes": changed(1, hello_wire, 5, "\u20ac" * 22),
        "HELLO, an agent as bytes": changed(1, hello_wire, 5, b"agent"),
        "ERROR, text of 257 bytes": changed(3, error, 2, "a" * 257),
        "ERROR, a channel of 16 bytes": changed(3, error, 1, bytes(16)),
        "ERROR, code 65536": changed(3, error, 0, 65536),
        "REESTABLISH, a state of two fields": changed(0x22, again, 1, again[1][:2]),
        "REESTABLISH, mine is nil": changed(0x22, again, 1, None),
        "REESTABLISH, three withdrawals": changed(0x22, again, 3, again[3] * 3),
        "REESTABLISH, a withdrawal of party 2": changed(0x22, again, 3, [[2, *again[3][0][1:]]]),
        "REESTABLISH, a half of 87 bytes": changed(0x22, again, 1, [bytes(87), *again[1][1:]]),
        "RECALL, payer 2": frame(0x23, codec.pack([CHANNEL, 2, 1])),
    }


def ledger_cases() -> list[Case]:
    key = BUYER.account.public
    cases = []
    for op, kind in ledger.OPERATIONS.items():
        blob = ledger.LedgerRequest(key, EXPIRY, smallest(kind)).encode()  # type: ignore[arg-type]
        cases.append(case("request blob", op, {"blob": blob.hex()}, lambda b=blob: read_request(b)))
    pack = codec.pack
    refused = {
        "an unknown operation": pack(["mint", key, EXPIRY, []]),
        "three fields": pack(["info", key, EXPIRY]),
        "arguments that are nil": pack(["info", key, EXPIRY, None]),
        "one argument too many": pack(["info", key, EXPIRY, [0]]),
        "a key of 31 bytes": pack(["info", key[:31], EXPIRY, []]),
        "valid_until of 2^63": pack(["info", key, 2**63, []]),
        "an operation as bytes": pack([b"info", key, EXPIRY, []]),
        "a transfer of -1": pack(["transfer", key, 1, [USD, key, -1]]),
        "three states": pack(["respond", key, 1, [CHANNEL, [[bytes(88), bytes(88), bytes(64), bytes(64)]] * 3]]),
        "a state without its second signature": pack(
            ["respond", key, 1, [CHANNEL, [[bytes(88), bytes(88), bytes(64)]]]]
        ),
        "a time not in its shortest form": b"\x94\xa4info\xc4\x20" + key + b"\xcc\x01\x90",
        "a byte more": pack(["info", key, EXPIRY, []]) + b"\0",
    }
    for name, blob in refused.items():
        cases.append(case("request blob", name, {"blob": blob.hex()}, lambda b=blob: read_request(b)))
    return cases


def read_request(blob: bytes) -> Any:
    found = ledger.LedgerRequest.decode(blob)
    arguments = {n: show(v) for (n, _), v in zip(found.operation._fields, found.operation.to_wire(), strict=True)}
    return {
        "op": found.operation.OP,
        "key": found.key.hex(),
        "valid_until": str(found.valid_until),
        "arguments": arguments,
    }
