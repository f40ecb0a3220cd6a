"""Attacks real daemons on this machine while honest payments go on, and judges what became of them.

The attackers come from 127.0.0.2 and up, each in a process of its own, at the rates of the table in
spec/18-threat-model.md. Exit codes: 0 everything kept its bounds; 1 something did not; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import trio

from channelpay.errors import ChannelpayError
from channelpay.services.demo.stage import tails
from hostility import arena, closing
from hostility.report import Report, renew

_PLACE: Final = Path("/var/tmp")
_SPEC: Final = Path(__file__).resolve().parents[2] / "spec"
_RESULTS: Final = _SPEC / "results" / "hostile.json"
_CHAPTER: Final = _SPEC / "18-threat-model.md"
_CLOSES: Final = "closes"
_NAMES: Final = (*(row.name for row in arena.ROWS), _CLOSES)


def main() -> int:
    """Options in, exit code out."""
    parser = argparse.ArgumentParser(
        prog="scripts/hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_NAMES)}; default: all")
    parser.add_argument("--small", action="store_true", help="seconds only: latencies mean nothing then")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--directory", type=Path, default=_PLACE, help=f"where homes are made; default: {_PLACE}")
    parser.add_argument("--write", action="store_true", help="a full run's results into spec/")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in _NAMES]
    if unknown or not options.directory.is_dir():
        parser.error(f"no scenario {', '.join(unknown)}" if unknown else f"{options.directory} is no directory")
    if options.write and (options.names or options.small):
        parser.error("--write is for a full run")
    try:
        report = trio.run(play, tuple(options.names) or _NAMES, options.small, options.directory)
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        report.print()
    if options.write and not report.failures:
        _RESULTS.write_text(json.dumps(report.as_json(), indent=1) + "\n", "utf-8")
        renew(_CHAPTER, _RESULTS)
    return 0 if report.kept else 1


async def play(names: tuple[str, ...], small: bool, directory: Path) -> Report:
    """The scenarios one after the other; one that cannot be played is told, and the others go on."""
    report, began = Report(small), time.monotonic()
    rows = [row for row in arena.ROWS if row.name in names]
    if rows:
        await _in_a_home(directory, report, "attacks", _attacks, report, rows, arena.SMALL if small else arena.FULL)
    if _CLOSES in names:
        await _in_a_home(directory, report, _CLOSES, _closes, report, closing.SMALL if small else closing.FULL)
    report.seconds = time.monotonic() - began
    return report


async def _in_a_home(directory: Path, report: Report, name: str, function: Any, *arguments: Any) -> None:
    """Call with a directory that is removed afterwards, and note how it failed if it did."""
    place = Path(tempfile.mkdtemp(prefix="hostile", dir=directory))
    try:
        await function(place, *arguments)
    except* (ChannelpayError, OSError, AssertionError) as group:
        report.failures[name] = f"{group.exceptions[0]!r}\n{tails(place)}"
    finally:
        shutil.rmtree(place)


async def _attacks(place: Path, report: Report, rows: list[arena.Row], pace: arena.Pace) -> None:
    async with arena.open_arena(place) as opened:
        for row in rows:
            report.attacks[row.name] = (await opened.play(row, pace)).as_json()


async def _closes(place: Path, report: Report, plan: closing.Plan) -> None:
    report.closes = (await closing.close_all_at_once(place, plan)).as_json()


if __name__ == "__main__":
    sys.exit(main())
