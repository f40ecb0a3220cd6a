import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay.codec import pack
from channelpay.errors import ErrorCode, RemoteError
from channelpay.framing import FrameBuffer
from channelpay.limits import MAX_FRAME
from channelpay.messages import control, peer
from records import FEW, outcome, records

FRAMED = [*peer.MESSAGES.values(), *control.CONTROL_MESSAGES.values()]


def test_the_type_bytes_are_those_of_the_protocol() -> None:
    found = " ".join(f"{kind:02x}" for kind in peer.MESSAGES)
    assert found == "01 02 03 04 05 10 11 12 13 20 21 22 23 24 30 31 40 41 42 50 80 81 82"


def test_no_type_byte_serves_peers_and_the_local_socket() -> None:
    assert not set(peer.MESSAGES) & set(control.CONTROL_MESSAGES)


@pytest.mark.parametrize("kind", FRAMED, ids=lambda kind: kind.__name__)
@FEW
@given(data=st.data())
def test_every_message_travels_in_a_frame_of_its_own(kind: type[peer.Message], data: st.DataObject) -> None:
    message = data.draw(records(kind))
    buffer = FrameBuffer(MAX_FRAME)
    buffer.feed(message.to_frame())  # type: ignore[attr-defined]
    found = buffer.next_frame()
    assert found is not None
    decode = peer.decode if kind.TYPE in peer.MESSAGES else control.decode
    assert decode(*found) == message
    assert not buffer.partial


@pytest.mark.parametrize("kind", sorted(set(range(256)) - set(peer.MESSAGES)))
def test_unknown_types_are_malformed(kind: int) -> None:
    with pytest.raises(RemoteError, match=f"0x{kind:02x}") as caught:
        peer.decode(kind, pack([0]))
    assert caught.value.code is ErrorCode.MALFORMED


@given(st.sampled_from(sorted(peer.MESSAGES)), st.binary(max_size=200))
def test_bytes_of_a_stranger_raise_nothing_else(kind: int, payload: bytes) -> None:
    found = outcome(lambda: peer.decode(kind, payload))
    assert found is ErrorCode.MALFORMED or found.encode() == payload


@given(st.data(), st.sampled_from(list(peer.MESSAGES.values())))
def test_a_changed_byte_is_refused_or_read_as_what_it_is(data: st.DataObject, kind: type[peer.Message]) -> None:
    payload = bytearray(data.draw(records(kind)).encode())
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    found = outcome(lambda: peer.decode(kind.TYPE, bytes(payload)))
    assert found is ErrorCode.MALFORMED or found.encode() == payload
