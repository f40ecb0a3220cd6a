"""What a service must not forget: JSON lines in a file, forced to the disk before anybody relies on them.

A service that was killed finds what it had written: whole lines only, the end of a torn one is cut off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio


class Journal:
    """A journal that is being written; `run` is its one writer, which forces many lines to the disk at once."""

    def __init__(self, path: Path) -> None:
        whole = _whole_bytes(path)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)
        self._lines: list[str] = []
        self._waiting = trio.lowlevel.ParkingLot()
        self._more = trio.Event()

    async def write(self, *entry: Any) -> None:
        """Append a line; it is on disk when this returns."""
        self._lines.append(json.dumps(entry, separators=(",", ":")) + "\n")
        self._more.set()
        await self._waiting.park()

    async def run(self) -> None:
        """Write and force what has come meanwhile, until cancelled."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            lines, self._lines = self._lines, []
            waiting, self._waiting = self._waiting, trio.lowlevel.ParkingLot()
            await trio.to_thread.run_sync(self._force, "".join(lines).encode())
            waiting.unpark_all()

    def _force(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._file, data) :]
        os.fdatasync(self._file)


def read_journal(path: Path) -> Iterator[list[Any]]:
    """Every whole line of a journal, in order; a file that is not there has none."""
    whole = _whole_bytes(path)
    if not whole:
        return
    with path.open("rb") as file:
        while file.tell() < whole:
            yield json.loads(file.readline())


def _whole_bytes(path: Path) -> int:
    """How many bytes of a journal are whole lines."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    return data.rfind(b"\n") + 1
