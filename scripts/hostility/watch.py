"""What a process holds while something happens to it, from /proc."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

_EVERY_S: Final = 0.25


@dataclass
class Held:
    """Resident KiB and open descriptors: at first, and the most that was seen; CPU seconds used meanwhile."""

    first_kib: int
    first_descriptors: int
    most_kib: int
    most_descriptors: int
    cpu_s: float = 0.0

    @property
    def grown_mib(self) -> float:
        """By how much the resident memory grew, at its largest."""
        return (self.most_kib - self.first_kib) / 1024


def resident_kib(pid: int) -> int:
    """Memory that a process has in RAM."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def descriptors(pid: int) -> int:
    """Files and sockets that it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_s(pid: int) -> float:
    """User and system time that it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Held]:
    """Look at a process for as long as the block lasts."""
    kib, files, used = resident_kib(pid), descriptors(pid), cpu_s(pid)
    held = Held(kib, files, kib, files)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_look, pid, held)
        yield held
        nursery.cancel_scope.cancel()
    held.cpu_s = cpu_s(pid) - used


async def _look(pid: int, held: Held) -> None:
    while True:
        held.most_kib = max(held.most_kib, resident_kib(pid))
        held.most_descriptors = max(held.most_descriptors, descriptors(pid))
        await trio.sleep(_EVERY_S)
