"""What a daemon uses of its machine, for its operator: memory, open files, tasks. Spec chapter 12, section 2."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final, NamedTuple

import trio

from channelpay.daemon.memory import tidy

SIGNAL: Final = signal.SIGUSR2
"""On this a daemon logs what it uses, after it gave back what it does not."""

_SELF: Final = Path("/proc/self")


class Usage(NamedTuple):
    """`memory` is bytes resident, `files` are open descriptors of any kind, `tasks` those of trio; 0 is not known."""

    memory: int
    files: int
    tasks: int


def usage() -> Usage:
    """What this process uses now; memory and files are known on Linux alone."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    try:
        resident_pages = int((_SELF / "statm").read_text().split()[1])
        files = len(os.listdir(_SELF / "fd")) - 1  # the listing itself has one open
    except OSError:
        return Usage(0, 0, tasks)
    return Usage(resident_pages * os.sysconf("SC_PAGE_SIZE"), files, tasks)


async def tell_usage(log: Any, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """On every SIGNAL give back what is free, and write a record `usage` to the log; until cancelled."""
    with trio.open_signal_receiver(SIGNAL) as signals:
        task_status.started()
        async for _ in signals:
            tidy()
            log.info("usage", **usage()._asdict())
