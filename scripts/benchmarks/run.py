"""Plays scenarios one after another, each on a stage of its own, and collects what they found."""

from __future__ import annotations

import importlib
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from benchmarks import environment
from benchmarks import limits as machine
from benchmarks.curves import CURVES
from benchmarks.limits import Limits
from benchmarks.report import Report
from benchmarks.result import BenchFailed, Result, Size
from benchmarks.stage import open_stage
from channelpay.errors import ChannelpayError
from channelpay.services.demo.stage import tails

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130


LIMIT_S: Final = 240.0
"""When a scenario that does not end is given up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Scenarios and curves by name, and the directory in which each gets one of its own."""

    names: list[str]
    size: Size
    directory: Path
    quiet: bool = False


async def play(plan: Plan) -> tuple[Report | None, int]:
    """(what was found, exit code); no report when a signal interrupted it: every process has ended even so."""
    report = Report(environment.machine(plan.directory), environment.versions())
    finished = False
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, nursery.cancel_scope)
        await _play_all(plan, report)
        finished = True
        nursery.cancel_scope.cancel()
    if not finished:
        return None, EXIT_INTERRUPTED
    return report, EXIT_FAILED if report.failures else EXIT_OK


async def _play_all(plan: Plan, report: Report) -> None:
    for name in plan.names:
        began = time.monotonic()
        if not plan.quiet:
            print(f"measuring {name}", file=sys.stderr, flush=True)
        directory = Path(tempfile.mkdtemp(prefix="cp-bench-", dir=plan.directory))
        try:
            await _play_one(name, plan.size, directory, report)
        except* Exception as group:
            report.failures[name] = _why(group)
            print(f"{name}: {_why(group)}\n{tails(directory)}", file=sys.stderr)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
            report.seconds[name] = time.monotonic() - began


async def _play_one(name: str, size: Size, directory: Path, report: Report) -> None:
    with trio.move_on_after(LIMIT_S) as given:
        if name in CURVES:
            async with open_stage(directory, size) as stage:
                report.curves[name] = await CURVES[name](stage, size)
                stage.check_books()
        else:
            report.results[name] = await play_scenario(name, size, directory, report.measured)
    if given.cancelled_caught:
        raise BenchFailed(f"it took longer than {LIMIT_S:g} s")


async def play_scenario(name: str, size: Size, directory: Path, measured: list[Limits]) -> Result:
    """A scenario's result, compared with the machine's limits just before it, which are added to `measured`.

    A small run, in which figures mean nothing, measures them once. The ledger's books have been audited at the end.
    """
    scenario = importlib.import_module(f"benchmarks.scenarios.{name.replace('-', '_')}")
    if not (size.small and measured):
        measured.append(await machine.measure(directory, size))
    limits = measured[-1]
    async with open_stage(directory, size) as stage:
        result: Result = await scenario.run(stage, limits, size)
        result.check(name)
        stage.check_books()
    return result


async def _watch_signals(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _why(error: BaseException) -> str:
    """What went wrong first, in words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, ChannelpayError) else f"{type(error).__name__}: {error}"
