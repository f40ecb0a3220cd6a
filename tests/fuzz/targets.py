"""What is fuzzed: each target takes any bytes, and raises only if something is wrong with channelpay.

Every decoder may refuse with its named error and with nothing else; what it accepts encodes to the same bytes again.
"""

from __future__ import annotations

from collections.abc import Callable

from channelpay import limits
from channelpay.codec import pack, unpack
from channelpay.errors import ErrorCode, RemoteError
from channelpay.framing import FrameBuffer, frame
from channelpay.messages import control, peer
from channelpay.messages.ledger import VIEWS, LedgerRequest
from channelpay.messages.peer import Message
from channelpay.messages.schema import Record
from fuzz.ledger import Requests
from fuzz.source import Source
from fuzz.two_nodes import TwoNodes

Target = Callable[[bytes], None]
_MAX_FRAMES = (1, 64, limits.MAX_FRAME_BEFORE_AUTH, limits.MAX_FRAME)
_MAX_ITEMS = (1, 16, limits.MAX_ARRAY_ITEMS)
VIEW_KINDS = sorted(set(VIEWS.values()), key=lambda kind: kind.__name__)
"""Kinds of view; an input's first byte chooses one."""


def frames(data: bytes) -> None:
    """Cutting a stream into frames does not depend on how it came; what was cut is what was sent."""
    source = Source(data)
    max_frame, piece = _MAX_FRAMES[source.below(len(_MAX_FRAMES))], 1 + source.byte()
    stream = source.rest()
    whole, whole_error, whole_left = _cut([stream], max_frame)
    pieces = [stream[at : at + piece] for at in range(0, len(stream), piece)]
    assert _cut(pieces, max_frame) == (whole, whole_error, whole_left)
    sent = b"".join(frame(kind, payload) for kind, payload in whole)
    assert stream.startswith(sent)
    assert all(len(payload) < max_frame for _, payload in whole)
    assert whole_left or whole_error is not None or sent == stream


def _cut(pieces: list[bytes], max_frame: int) -> tuple[list[tuple[int, bytes]], ErrorCode | None, bool]:
    """The frames in a stream, the refusal that ended it, and whether a frame has begun and not ended."""
    buffer, found = FrameBuffer(max_frame), []
    try:
        for piece in pieces:
            buffer.feed(piece)
            while (item := buffer.next_frame()) is not None:
                found.append(item)
    except RemoteError as error:
        _expect(error, ErrorCode.MALFORMED, ErrorCode.TOO_LARGE)
        return found, error.code, True
    return found, None, buffer.partial


def values(data: bytes) -> None:
    """The codec: what is accepted has this one encoding."""
    source = Source(data)
    max_items = _MAX_ITEMS[source.below(len(_MAX_ITEMS))]
    encoded = source.rest()
    try:
        value = unpack(encoded, max_items)
    except RemoteError as error:
        _expect(error, ErrorCode.MALFORMED)
        return
    assert pack(value) == encoded


def messages(data: bytes) -> None:
    """Every message between nodes, and between a node and a ledger: type byte, then the payload."""
    _message(peer.decode, data)


def controls(data: bytes) -> None:
    """Every message of the local socket, and in a Call and a Result the parameters and what they answer with."""
    message = _message(control.decode, data)
    if isinstance(message, control.Call) and message.method in control.METHODS:
        method = control.METHODS[message.method]
        _record(method, message.body)
    elif isinstance(message, control.Result):
        for result in {method.RESULT for method in control.METHODS.values()}:
            _record(result, message.body)


def views(data: bytes) -> None:
    """Every view in a ledger's answer: one byte says which."""
    source = Source(data)
    _record(VIEW_KINDS[source.below(len(VIEW_KINDS))], source.rest())


def requests(data: bytes) -> None:
    """Requests to a ledger, executed: refused by name and nothing changed, or done and the books balance."""
    _record(LedgerRequest, data[1:])
    Requests(Source(data)).play()


def two_nodes(data: bytes) -> None:
    """Two ends of a channel: actions, a bad wire, mangled and repeated messages."""
    TwoNodes(Source(data)).play()


def _expect(error: RemoteError, *codes: ErrorCode) -> None:
    assert error.code in codes, f"refused by another name: {error}"


def _message(decode: Callable[[int, bytes], Message], data: bytes) -> Message | None:
    kind, payload = data[0] if data else 0, data[1:]
    try:
        message = decode(kind, payload)
    except RemoteError as error:
        _expect(error, ErrorCode.MALFORMED)
        return None
    assert message.to_frame() == frame(kind, payload)
    assert decode(kind, payload) == message
    return message


def _record(kind: type[Record], data: bytes) -> None:
    try:
        record = kind.decode(data)
    except RemoteError as error:
        _expect(error, ErrorCode.MALFORMED)
        return
    assert record.encode() == data
    assert kind.decode(data) == record


TARGETS: dict[str, Target] = {
    target.__name__: target for target in (frames, values, messages, controls, views, requests, two_nodes)
}
"""Every target by its name."""
