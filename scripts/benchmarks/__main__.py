"""Measures channelpay and the limits of this machine, each figure also as a ratio. See spec/16-performance.md.

Exit codes: 0 every scenario ran and its accounting is right, however fast it was; 1 one did not; 2 wrong usage;
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

import trio

from benchmarks.curves import CURVES
from benchmarks.environment import is_durable
from benchmarks.plot import draw
from benchmarks.report import Report, check_place, renew
from benchmarks.result import BenchFailed, Size
from benchmarks.run import Plan, play
from benchmarks.table import BY_NAME

_PLACE: Final = Path("/var/tmp")
_TOP: Final = Path(__file__).resolve().parents[2]
_CHAPTER: Final = Path("spec/16-performance.md")
_README: Final = Path("README.md")
_PLOT: Final = Path("spec/performance.svg")
_NAMES: Final = [*BY_NAME, *CURVES]


def main() -> int:
    """Options in, exit code out."""
    options = _options()
    names = [name for name in _NAMES if name in options.names or not options.names]
    report, code = trio.run(play, Plan(names, Size(options.small), options.directory, quiet=options.json))
    if report is None:
        return code
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        report.print()
    if options.plot:
        options.plot.write_text(draw(report.curves, report.limits), "utf-8")
    if options.write:
        _write(report, options.write)
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    scenarios, curves = ", ".join(BY_NAME), ", ".join(CURVES)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"scenarios: {scenarios}; curves: {curves}; default: all of both"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--small", action="store_true", help="a second or two each: only the accounting counts then")
    parser.add_argument("--directory", type=Path, default=_PLACE, help=f"where stores are made; default: {_PLACE}")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves that were measured, as SVG")
    parser.add_argument(
        "--write", type=Path, nargs="?", const=_TOP, metavar="DIR",
        help=f"after a full run: renew {_CHAPTER}, {_README} and {_PLOT} in DIR; default: this checkout",
    )  # fmt: skip
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in _NAMES]:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(_NAMES)}")
    _check_places(parser, options)
    return options


def _check_places(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What would be found wrong only after the run."""
    if not options.directory.is_dir() or not (is_durable(options.directory) or options.small):
        parser.error(
            f"{options.directory} is no directory on a disk: there fsync would cost nothing; name another one with "
            "--directory"
        )
    if options.plot and not options.plot.parent.is_dir():
        parser.error(f"{options.plot}: there is no directory {options.plot.parent}")
    if options.write and options.names:
        parser.error("--write is for a full run: name no scenario")
    try:
        for file in (_CHAPTER, _README) if options.write else ():
            check_place(options.write / file)
    except BenchFailed as error:
        parser.error(str(error))


def _write(report: Report, top: Path) -> None:
    renew(top / _CHAPTER, report.markdown())
    renew(top / _README, report.summary())
    (top / _PLOT).write_text(draw(report.curves, report.limits), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
