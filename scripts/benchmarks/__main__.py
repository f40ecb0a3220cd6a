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

from benchmarks.environment import is_durable
from benchmarks.result import Size
from benchmarks.run import EXIT_USAGE, Plan, play
from benchmarks.table import BY_NAME, ROWS

_PLACE: Final = Path("/var/tmp")


def main() -> int:
    """Options in, exit code out."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BY_NAME)}; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--small", action="store_true", help="a second or two each: only the accounting counts then")
    parser.add_argument("--directory", type=Path, default=_PLACE, help=f"where stores are made; default: {_PLACE}")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="renew the tables between the marks in this file")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BY_NAME]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    if not options.directory.is_dir() or not (is_durable(options.directory) or options.small):
        print(
            f"error: {options.directory} is no directory on a disk: there fsync would cost nothing; name another one "
            "with --directory",
            file=sys.stderr,
        )
        return EXIT_USAGE
    names = [row.name for row in ROWS if row.name in options.names or not options.names]
    plan = Plan(names, Size(options.small), options.directory, quiet=options.json)
    report, code = trio.run(play, plan)
    if report is None:
        return code
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        report.print()
    if options.markdown:
        report.renew(options.markdown)
    return code


if __name__ == "__main__":
    sys.exit(main())
