"""What travels after AUTH: frames, the strict encoding, pings. Spec 4.1, 4.6, 5.1."""

from __future__ import annotations

from collections.abc import Callable

from channelpay.conformance.case import add, case
from channelpay.conformance.kit import Kit
from channelpay.conformance.verdict import same
from channelpay.errors import ErrorCode
from channelpay.framing import frame
from channelpay.limits import MAX_FRAME, PING_INTERVAL_S, PING_TIMEOUT_S
from channelpay.messages.peer import Error, Hello, Ping, Pong, Request, Role


@case("T-24")
def ping_answered_in_order(kit: Kit) -> None:
    """Every PING gets its PONG, in order"""
    talk = kit.connect()
    talk.send(Ping(3), Ping(2**64 - 1), Ping(0))
    for token in (3, 2**64 - 1, 0):
        same(talk.expect(Pong).token, token, "the token of PONG")


@case("T-24")
def pong_unasked(kit: Kit) -> None:
    """A PONG without a PING is refused"""
    talk = kit.connect()
    talk.send(Pong(1))
    talk.expect_error(ErrorCode.UNEXPECTED)


@case("T-23", takes_s=int(PING_TIMEOUT_S) + 2)
def silence_is_noticed(kit: Kit) -> None:
    """After 15 s of silence comes a PING, after 15 s more the end"""
    talk = kit.connect()
    talk.answers_pings = False
    kit.sleep(PING_INTERVAL_S + 1)
    talk.expect(Ping)
    kit.sleep(PING_TIMEOUT_S - PING_INTERVAL_S + 1)
    talk.expect_error(ErrorCode.TIMED_OUT)


@case("T-2")
def frames_cut_anywhere(kit: Kit) -> None:
    """A frame that comes byte by byte is the same frame"""
    talk = kit.connect()
    for byte in Ping(9).to_frame():
        talk.send_bytes(bytes([byte]))
    same(talk.expect(Pong).token, 9, "the token of PONG")


@case("T-3")
def frame_of_the_largest_size(kit: Kit) -> None:
    """A frame of 131,072 bytes is read, and judged by what it holds"""
    talk = kit.connect()
    talk.send_bytes(frame(0x04, b"\x91" + bytes(MAX_FRAME - 2)))
    talk.expect_error(ErrorCode.MALFORMED)


@case("T-4")
def what_came_before_a_fault_counts(kit: Kit) -> None:
    """Messages before a fault in the same read are acted upon"""
    talk = kit.connect()
    talk.send_bytes(Ping(6).to_frame() + bytes(4))
    same(talk.expect(Pong).token, 6, "the token of PONG")
    talk.expect_error(ErrorCode.MALFORMED)


@case("T-21")
def error_with_nil_ends_the_connection(kit: Kit) -> None:
    """On ERROR with nil the node closes and says nothing"""
    talk = kit.connect()
    talk.send(Error(int(ErrorCode.BUSY), None, "enough"))
    talk.expect_end("on ERROR with nil")


_MALFORMED = ErrorCode.MALFORMED
_NINE = (9).to_bytes(1, "big")
_PING = b"\x91"
_ERROR = b"\x93\x01\xc0"

_BAD_FRAMES: dict[str, tuple[str, str, ErrorCode, bytes]] = {
    "frame-length-zero": ("T-2", "a frame of length 0", _MALFORMED, bytes(4)),
    "frame-too-large": (
        "T-3", "a frame above 131,072 bytes, by its length alone", ErrorCode.TOO_LARGE,
        (MAX_FRAME + 1).to_bytes(4, "big"),
    ),
    "type-unknown": ("W-5 T-22", "an unknown message type", _MALFORMED, frame(0x7F, b"\x90")),
    "type-of-the-local-socket": ("W-8", "a message of the local socket", _MALFORMED, frame(0xA0, b"\x90")),
    "type-for-a-ledger": (
        "T-22", "a REQUEST, which is for a ledger, even malformed", ErrorCode.UNEXPECTED, frame(Request.TYPE, b"\xc1"),
    ),
    "hello-again": (
        "T-22", "a second HELLO", ErrorCode.UNEXPECTED,
        Hello((1,), (), int(Role.NODE), bytes(32), (), "again").to_frame(),
    ),
    "payload-empty": ("W-1", "a payload without an array", _MALFORMED, frame(0x04, b"")),
    "payload-no-array": ("W-1", "a payload that is no array", _MALFORMED, frame(0x04, _NINE)),
    "payload-trailing-byte": (
        "W-1 W-3", "a byte after the array", _MALFORMED, frame(0x04, _PING + _NINE + b"\x00"),
    ),
    "payload-cut-off": ("W-3", "an array that ends too early", _MALFORMED, frame(0x04, b"\x92" + _NINE)),
    "fields-too-few": ("W-5", "a message without its field", _MALFORMED, frame(0x04, b"\x90")),
    "fields-too-many": ("W-5", "a message with a field too many", _MALFORMED, frame(0x04, b"\x92\x09\x09")),
    "int-not-shortest": ("W-3", "an integer in two bytes for one", _MALFORMED, frame(0x04, b"\x91\xcc\x09")),
    "int-signed": ("W-2", "an integer in the signed form", _MALFORMED, frame(0x04, _PING + b"\xd0\x09")),
    "int-negative": ("W-2 W-6", "a negative integer", _MALFORMED, frame(0x04, _PING + b"\xff")),
    "bool-for-int": ("W-2 W-6", "a boolean for an integer", _MALFORMED, frame(0x04, _PING + b"\xc3")),
    "float-for-int": ("W-2 W-6", "a float for an integer", _MALFORMED, frame(0x04, _PING + b"\xcb" + bytes(8))),
    "map-in-payload": ("W-2", "a map", _MALFORMED, frame(0x04, _PING + b"\x80")),
    "ext-in-payload": ("W-2", "an extension type", _MALFORMED, frame(0x04, _PING + b"\xd4\x01\x00")),
    "text-for-bytes": (
        "W-6", "text where bytes belong", _MALFORMED, frame(0x50, b"\x91\xd9\x20" + b"a" * 32),
    ),
    "bytes-of-wrong-length": (
        "W-6", "31 bytes where 32 belong", _MALFORMED, frame(0x50, b"\x91\xc4\x1f" + bytes(31)),
    ),
    "bytes-not-shortest": (
        "W-3", "a length in two bytes for one", _MALFORMED, frame(0x50, b"\x91\xc5\x00\x20" + bytes(32)),
    ),
    "text-not-utf8": ("W-2", "text that is no UTF-8", _MALFORMED, frame(0x03, _ERROR + b"\xa1\xff")),
    "text-too-long": (
        "W-6", "text above 256 bytes", _MALFORMED, frame(0x03, _ERROR + b"\xda\x01\x01" + b"a" * 257),
    ),
    "array-claims-much": (
        "W-4", "an array that claims 2^32-1 items", _MALFORMED, frame(0x04, b"\xdd\xff\xff\xff\xff"),
    ),
    "array-above-4096": (
        "W-4", "an array of 4,097 items", _MALFORMED,
        frame(0x24, b"\x93\xc4\x20" + bytes(32) + b"\x00\xdc\x10\x01" + b"\x93\x01\xc4\x00\xc4\x00" * 4097),
    ),
    "arrays-deeply-nested": ("W-4", "60,000 arrays in each other", _MALFORMED, frame(0x04, b"\x91" * 60_000)),
}  # fmt: skip


def _refused_frame(data: bytes, code: ErrorCode) -> Callable[[Kit], None]:
    def script(kit: Kit) -> None:
        talk = kit.connect()
        talk.send_bytes(data)
        talk.expect_error(code)

    return script


for _name, (_numbers, _about, _code, _data) in _BAD_FRAMES.items():
    add(f"refuses-{_name}", f"The node refuses {_about}", _numbers, _refused_frame(_data, _code))
