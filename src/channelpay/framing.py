"""Bytes to frames: length u32, type u8, payload. Spec T-2 and T-3.

`FrameBuffer` holds at most one frame beyond what was fed, and refuses a length above its bound
before the bytes come.
"""

from __future__ import annotations

import struct
from typing import Final

from channelpay.errors import ErrorCode, RemoteError
from channelpay.limits import FRAME_HEADER_BYTES, MAX_FRAME_BEFORE_AUTH

_HEADER: Final = struct.Struct(">IB")


def frame(kind: int, payload: bytes) -> bytes:
    """One frame: the length counts the type byte and the payload."""
    return _HEADER.pack(len(payload) + 1, kind) + payload


class FrameBuffer:
    """Cuts a byte stream into (type, payload) pairs.

    `max_frame` bounds type byte and payload; it is raised once the peer is authenticated.
    """

    def __init__(self, max_frame: int = MAX_FRAME_BEFORE_AUTH) -> None:
        self.max_frame = max_frame
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes as they came from the stream."""
        self._buffer += data

    def next_frame(self) -> tuple[int, bytes] | None:
        """The next whole frame, or None until more bytes are fed. Raises RemoteError."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        length = int.from_bytes(buffer[:4], "big")
        if length == 0:
            raise RemoteError(ErrorCode.MALFORMED, "a frame of length 0 has no type")
        if length > self.max_frame:
            raise RemoteError(ErrorCode.TOO_LARGE, f"a frame of {length} bytes; the bound is {self.max_frame}")
        end = 4 + length
        if len(buffer) < end:
            return None
        kind = buffer[4]
        payload = bytes(buffer[FRAME_HEADER_BYTES:end])
        del buffer[:end]
        return kind, payload

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._buffer)
