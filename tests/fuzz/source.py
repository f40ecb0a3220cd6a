"""Bytes of a fuzzer, read as what a target needs; where they end, zeros follow."""

from __future__ import annotations


class Source:
    """Reads from the front; never fails."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        """The next bytes, at most so many."""
        found = self._data[self._at : self._at + size]
        self._at += len(found)
        return found

    def byte(self) -> int:
        """A number 0 .. 255."""
        return int.from_bytes(self.take(1), "big")

    def number(self, size: int = 2) -> int:
        """An unsigned number of so many bytes."""
        return int.from_bytes(self.take(size), "big")

    def below(self, bound: int) -> int:
        """A number 0 .. bound - 1."""
        return self.byte() % bound

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
