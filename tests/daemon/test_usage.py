"""What a daemon uses: read from the system, and logged when its operator asks by a signal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import trio

from channelpay.daemon.usage import SIGNAL, tell_usage, usage


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.written = trio.Event()

    def info(self, event: str, **facts: Any) -> None:
        self.records.append((event, facts))
        self.written.set()


async def test_tasks_files_and_memory_are_those_of_this_process(tmp_path: Path) -> None:
    before = usage()
    block = b"x" * 64 * 2**20
    with (tmp_path / "one").open("w"), (tmp_path / "two").open("w"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            now = usage()
            nursery.cancel_scope.cancel()
    assert (now.tasks, now.files) == (before.tasks + 1, before.files + 2)
    assert now.memory - before.memory > len(block) * 3 // 4


async def test_a_signal_has_it_logged() -> None:
    log = Log()
    async with trio.open_nursery() as nursery:
        await nursery.start(tell_usage, log)
        os.kill(os.getpid(), SIGNAL)
        with trio.fail_after(10):
            await log.written.wait()
        nursery.cancel_scope.cancel()
    ((event, facts),) = log.records
    assert event == "usage"
    assert set(facts) == {"memory", "files", "tasks"}
    assert all(value > 0 for value in facts.values())
