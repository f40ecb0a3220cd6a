"""The strict encoding: W-2 to W-4."""

from __future__ import annotations

import hashlib
import re
from typing import Any

TOP = 2**63 - 1
Json = Any


class Refused(Exception):
    """The input is refused with this error."""


def refuse(error: str) -> Any:
    raise Refused(error)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def encode(value: Any) -> bytes:
    if value is None:
        return b"\xc0"
    if type(value) is int and 0 <= value < 2**64:
        if value < 128:
            return bytes([value])
        size = next(n for n in (1, 2, 4, 8) if value < 1 << 8 * n)
        return bytes([{1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}[size]]) + value.to_bytes(size, "big")
    if type(value) is list:
        head = sized(len(value), 0x90, 16, {2: 0xDC, 4: 0xDD})
        return head + b"".join(encode(item) for item in value)
    if type(value) is str:
        data = value.encode()
        return sized(len(data), 0xA0, 32, {1: 0xD9, 2: 0xDA, 4: 0xDB}) + data
    if type(value) is bytes:
        return sized(len(value), 0, 0, {1: 0xC4, 2: 0xC5, 4: 0xC6}) + value
    return refuse("malformed")


def sized(length: int, fixed: int, below: int, heads: dict[int, int]) -> bytes:
    if length < below:
        return bytes([fixed | length])
    size = next(n for n in heads if length < 1 << 8 * n)
    return bytes([heads[size]]) + length.to_bytes(size, "big")


class Reader:
    """Reads one value; every step takes the shortest form only."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            refuse("malformed")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int, least: int) -> int:
        found = int.from_bytes(self.take(size), "big")
        return found if found >= least else refuse("malformed")

    def value(self, depth: int = 0) -> Any:
        head = self.take(1)[0]
        if head < 0x80:
            return head
        if head == 0xC0:
            return None
        if 0xCC <= head <= 0xCF:
            return self.number(1 << head - 0xCC, {0xCC: 128, 0xCD: 2**8, 0xCE: 2**16, 0xCF: 2**32}[head])
        if 0xC4 <= head <= 0xC6:
            return self.take(self.number(1 << head - 0xC4, {0xC4: 0, 0xC5: 2**8, 0xC6: 2**16}[head]))
        if 0xA0 <= head <= 0xBF or 0xD9 <= head <= 0xDB:
            size = (
                head & 31 if head < 0xC0 else self.number(1 << head - 0xD9, {0xD9: 32, 0xDA: 2**8, 0xDB: 2**16}[head])
            )
            return self.text(self.take(size))
        if 0x90 <= head <= 0x9F or head in (0xDC, 0xDD):
            size = head & 15 if head < 0xA0 else self.number(2 if head == 0xDC else 4, 16 if head == 0xDC else 2**16)
            if size > 4096 or depth > 16:
                refuse("malformed")
            return [self.value(depth + 1) for _ in range(size)]
        return refuse("malformed")  # negative integers, booleans, floats, maps, extension types

    @staticmethod
    def text(data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            return refuse("malformed")


def decode(data: bytes) -> list[Any]:
    reader = Reader(data)
    value = reader.value()
    if reader.at != len(data) or type(value) is not list:
        refuse("malformed")
    return value


def from_json(value: Json) -> Any:
    if isinstance(value, dict):
        return int(value["uint"]) if "uint" in value else unhex(value["bytes"])
    return [from_json(item) for item in value] if isinstance(value, list) else value


def to_json(value: Any) -> Json:
    if type(value) is int:
        return {"uint": str(value)}
    if type(value) is bytes:
        return {"bytes": rehex(value)}
    return [to_json(item) for item in value] if type(value) is list else value


def unhex(text: str) -> bytes:
    """Bytes of a case: hexadecimal pieces between spaces, `piece*count` for a piece many times over."""
    pieces = (piece.partition("*") for piece in text.split(" "))
    return b"".join(bytes.fromhex(piece) * int(count or 1) for piece, _, count in pieces)


def rehex(data: bytes) -> str:
    """The same bytes as text: a run of 256 or more equal bytes is a piece of its own."""
    pieces, rest = [], data.hex()
    runs = [(m.start(), m.end()) for m in re.finditer(rb"(.)\1{255,}", data, re.DOTALL)]
    for start, end in reversed(runs):
        pieces += [rest[2 * end :], f"{data[start]:02x}*{end - start}"]
        rest = rest[: 2 * start]
    return " ".join(piece for piece in [rest, *reversed(pieces)] if piece)
