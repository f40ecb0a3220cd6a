"""`channelpay demo`: options in, exit code out."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from channelpay.errors import ChannelpayError
from channelpay.services.demo.director import Director
from channelpay.services.demo.goods import NoGoods, load_goods
from channelpay.services.demo.progress import progress
from channelpay.services.demo.stage import DemoFailed, open_stage, tails
from channelpay.services.demo.summary import Summary

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
DEFAULT_IN_FLIGHT: Final = 256


@dataclass(frozen=True, slots=True)
class Options:
    """`file`: what is sold, else the specification; `pieces`: at most so many of it; `keep`: leave everything there."""

    file: Path | None = None
    pieces: int | None = None
    in_flight: int = DEFAULT_IN_FLIGHT
    kill: bool = False
    json: bool = False
    keep: Path | None = None
    live: bool | None = None


class _Interrupted(ChannelpayError):
    """A signal asked us to stop."""


def run_demo(options: Options) -> int:
    """Play the demo and print its summary; 0 only if every check holds.

    Everything happens in a temporary directory, which stays if something went wrong.
    """
    try:
        goods = load_goods(options.file, options.pieces)
        directory = _directory(options.keep)
    except NoGoods as error:
        return _fail(options, EXIT_USAGE, "usage", str(error))
    file = directory / "goods" / (options.file.name if options.file else "specification.md")
    file.parent.mkdir()
    file.write_bytes(goods)
    try:
        summary = trio.run(_run, options, directory, file)
    except _Interrupted:
        _remove(directory, options)
        return EXIT_INTERRUPTED
    except DemoFailed as error:
        if not options.json:
            print(tails(directory), file=sys.stderr, flush=True)
        return _fail(options, EXIT_FAILED, "demo-failed", f"{error}; everything is kept in {directory}")
    _print(options, summary)
    if summary.ok:
        _remove(directory, options)
        return EXIT_OK
    if not options.json:
        failed = ", ".join(check.name for check in summary.checks if not check.holds)
        print(f"error: failed: {failed}; everything is kept in {directory}", file=sys.stderr)
    return EXIT_FAILED


def _directory(keep: Path | None) -> Path:
    """A new directory; raises NoGoods if the one asked for is not vacant."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="channelpay-demo-"))
    keep = keep.absolute()
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise NoGoods(f"{keep} is not empty: name a new directory to keep the demo in")
    except OSError as error:
        raise NoGoods(f"{keep} cannot be used: {error.strerror}") from None
    return keep


def _remove(directory: Path, options: Options) -> None:
    if options.keep is None:
        shutil.rmtree(directory, ignore_errors=True)


async def _run(options: Options, directory: Path, file: Path) -> Summary:
    """The demo under the signals that end it; raises DemoFailed or _Interrupted once every process has ended."""
    summary: Summary | None = None
    failure: BaseExceptionGroup[Exception] | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(_watch_signals, nursery.cancel_scope)
            with progress(options.live, options.json) as shown:
                async with open_stage(directory) as stage:
                    summary = await Director(stage, shown, file, options.in_flight, options.kill).play()
            nursery.cancel_scope.cancel()
    except* Exception as group:
        failure = group  # what is raised here is wrapped in a group again by Python before 3.11.4
    if failure is not None:
        raise DemoFailed(_first(failure)) from failure
    if summary is None:
        raise _Interrupted
    return summary


async def _watch_signals(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _first(group: BaseExceptionGroup[BaseException]) -> str:
    """What went wrong first, in words."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, ChannelpayError) else f"{type(error).__name__}: {error}"


def _print(options: Options, summary: Summary) -> None:
    print(json.dumps(summary.as_json(), indent=2) if options.json else "\n".join(summary.as_lines()), flush=True)


def _fail(options: Options, code: int, reason: str, text: str) -> int:
    """Tell why there is no summary: to programs as spec N-22 says, to people on stderr."""
    if options.json:
        print(json.dumps({"error": {"code": code, "reason": reason, "message": text}}), flush=True)
    else:
        print(f"error: {text}", file=sys.stderr, flush=True)
    return code
