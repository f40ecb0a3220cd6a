"""Frames of messages, taken apart and put together without the production code."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import msgpack

READY: Final = 0x13
REESTABLISH: Final = 0x22
RECORDS: Final = 0x24
WITHDRAW_ASK: Final = 0x40
WITHDRAW_OK: Final = 0x41
RESPONSE: Final = 0x81


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(kind, frame) of each whole frame."""
    at = 0
    while at + 5 <= len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4], data[at:end]
        at = end


def fields_of(frame: bytes) -> list[Any]:
    """What a frame says."""
    return list(msgpack.unpackb(frame[5:], use_list=True))


def packed(kind: int, fields: list[Any]) -> bytes:
    """A frame that says it."""
    payload: bytes = msgpack.packb(fields)
    return struct.pack(">IB", len(payload) + 1, kind) + payload
