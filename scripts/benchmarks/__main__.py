"""scripts/bench [NAME ...]: measures channelpay and the limits of this machine, each figure also as a ratio."""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import trio

from benchmarks import limits as machine
from benchmarks.limits import Limits
from benchmarks.report import result_json
from benchmarks.result import Result, Size
from benchmarks.stage import open_stage
from benchmarks.table import BY_NAME, ROWS
from channelpay.errors import ChannelpayError
from channelpay.services.demo.stage import tails


def main() -> int:
    """0: every scenario ran and its accounting is right, whatever its speed; 1: one did not; 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BY_NAME)}; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--small", action="store_true", help="a second or two each: figures mean nothing then")
    parser.add_argument("--directory", type=Path, help="where the stores are made; default: /var/tmp")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BY_NAME]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    names = [row.name for row in ROWS if row.name in options.names or not options.names]
    return trio.run(run_all, names, Size(options.small), options.directory or Path("/var/tmp"), options.json)


async def run_all(names: list[str], size: Size, parent: Path, as_json: bool) -> int:
    """Run scenarios one after another, and report."""
    measured: list[Limits] = []
    results: dict[str, Any] = {}
    failed = False
    for name in names:
        directory = Path(tempfile.mkdtemp(prefix="channelpay-bench-", dir=parent))
        try:
            limits, result = await run_one(name, size, directory)
            measured.append(limits)
            results[name] = result_json(BY_NAME[name], result)
        except* Exception as group:
            failed = True
            results[name] = {"error": why(group)}
            print(f"{name}: {why(group)}\n{tails(directory)}", file=sys.stderr)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps({"limits": machine.merged(measured).as_json() if measured else {}, "results": results}, indent=2))
    return int(failed)


async def run_one(name: str, size: Size, directory: Path) -> tuple[Limits, Result]:
    """The machine's limits just before a scenario, and its result; the ledger's books have been audited."""
    scenario = importlib.import_module(f"benchmarks.scenarios.{name.replace('-', '_')}")
    limits = await machine.measure(directory, size)
    async with open_stage(directory, size) as stage:
        result = await scenario.run(stage, limits, size)
        stage.check_books()
    return limits, result


def why(group: BaseException) -> str:
    """What went wrong first, in words."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return str(group) if isinstance(group, ChannelpayError) else f"{type(group).__name__}: {group}"


if __name__ == "__main__":
    sys.exit(main())
