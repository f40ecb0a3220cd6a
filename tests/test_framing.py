import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay.errors import ErrorCode, RemoteError
from channelpay.framing import FrameBuffer, frame
from channelpay.limits import MAX_FRAME, MAX_FRAME_BEFORE_AUTH

frames = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=50)), max_size=10)


def read_all(buffer: FrameBuffer) -> list[tuple[int, bytes]]:
    return list(iter(buffer.next_frame, None))


def test_a_frame_is_length_type_payload() -> None:
    assert frame(0x20, b"abc") == bytes.fromhex("00000004 20 616263")
    assert frame(4, b"") == bytes.fromhex("00000001 04")


@given(frames, st.data())
def test_however_the_stream_is_cut_the_same_frames_come_out(sent: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(frame(kind, payload) for kind, payload in sent)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    buffer, found = FrameBuffer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer.feed(stream[start:end])
        found += read_all(buffer)
    assert found == sent
    assert not buffer.partial


@given(frames)
def test_byte_by_byte_each_frame_comes_with_its_last_byte(sent: list[tuple[int, bytes]]) -> None:
    buffer = FrameBuffer()
    for kind, payload in sent:
        whole = frame(kind, payload)
        for byte in whole[:-1]:
            buffer.feed(bytes([byte]))
            assert buffer.next_frame() is None
            assert buffer.partial
        buffer.feed(whole[-1:])
        assert buffer.next_frame() == (kind, payload)
        assert not buffer.partial


def test_a_frame_of_no_bytes_is_malformed() -> None:
    buffer = FrameBuffer()
    buffer.feed(bytes(4))
    with pytest.raises(RemoteError) as caught:
        buffer.next_frame()
    assert caught.value.code is ErrorCode.MALFORMED


@given(st.integers(MAX_FRAME_BEFORE_AUTH + 1, 2**32 - 1))
def test_a_length_above_the_bound_is_refused_before_the_bytes_come(length: int) -> None:
    buffer = FrameBuffer()
    buffer.feed(length.to_bytes(4, "big"))
    with pytest.raises(RemoteError, match=f"a frame of {length} bytes; the bound is 4096") as caught:
        buffer.next_frame()
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_the_bound_counts_type_and_payload() -> None:
    buffer = FrameBuffer()
    buffer.feed(frame(1, bytes(MAX_FRAME_BEFORE_AUTH - 1)))
    assert buffer.next_frame() == (1, bytes(MAX_FRAME_BEFORE_AUTH - 1))
    buffer.feed(frame(1, bytes(MAX_FRAME_BEFORE_AUTH)))
    with pytest.raises(RemoteError, match="too_large"):
        buffer.next_frame()


def test_the_bound_rises_after_auth_for_bytes_that_have_come_already() -> None:
    buffer = FrameBuffer()
    buffer.feed(frame(2, b"auth") + frame(0x20, bytes(MAX_FRAME - 1)))
    assert buffer.next_frame() == (2, b"auth")
    buffer.max_frame = MAX_FRAME
    assert buffer.next_frame() == (0x20, bytes(MAX_FRAME - 1))


@given(st.binary(max_size=40))
def test_any_bytes_are_frames_or_a_refusal(data: bytes) -> None:
    buffer = FrameBuffer()
    buffer.feed(data)
    try:
        found = read_all(buffer)
    except RemoteError as error:
        assert error.code in {ErrorCode.MALFORMED, ErrorCode.TOO_LARGE}  # noqa: PT017
    else:
        assert data.startswith(b"".join(frame(kind, payload) for kind, payload in found))
