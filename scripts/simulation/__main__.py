"""The command line: see `scripts/simulate --help`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import structlog

from simulation import agreements, crashes, runner
from simulation.faults import PROFILES
from simulation.tamper import KINDS

_RESULTS = Path(__file__).resolve().parents[2] / "spec" / "results" / "simulation.json"


def main() -> int:
    """Run as the options say; 0 when nothing was found that must not be."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate", description="Live through seeds: daemons, a ledger, faults, and an auditor."
    )
    parser.add_argument(
        "--seed", type=int, default=None, help="the first seed; default: 0, with --add the next new one"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--payments", type=int, default=100, help="payments that owners ask for in each")
    parser.add_argument("--trace", type=int, default=0, metavar="LINES", help="print the last lines of each trace")
    parser.add_argument("--log", action="store_true", help="print what the daemons log")
    parser.add_argument("--minutes", type=float, default=None, help="stop after so long, between two seeds")
    parser.add_argument("--points", nargs="+", default=[], metavar="NAME", help="crash at these crash points only")
    parser.add_argument("--profile", nargs=1, default=[], choices=list(PROFILES), help="draw all faults from this one")
    parser.add_argument(
        "--fate", nargs=1, default=[], choices=sorted(set(agreements.FATES)), help="of an agreement in every seed"
    )
    parser.add_argument("--lie", nargs=1, default=[], choices=KINDS, help="have a party lie so in every seed")
    parser.add_argument("--first", action="store_true", help="stop at the first seed that fails")
    parser.add_argument(
        "--add", action="store_true", help=f"add what was found to {_RESULTS.name} and renew the chapter"
    )
    parser.add_argument(
        "--sabotage", nargs="*", metavar="NAME", help="check that sabotaged code is found out; none: all"
    )
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable, [sys.executable, "-m", "simulation", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"}
        )
    if not options.log:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if options.sabotage is not None:
        from simulation import sabotage

        return sabotage.check(options.sabotage)
    unknown = sorted(set(options.points) - set(crashes.plan_names()))
    if unknown:
        parser.error(f"no crash point is called {', '.join(unknown)}")
    crashes.FOCUS += options.points
    crashes.PROFILE += options.profile
    crashes.LIES += options.lie
    agreements.FATE += options.fate
    plan = runner.Plan(options.seed, options.seeds, options.payments, options.trace, options.minutes, options.first)
    return runner.run(plan, _RESULTS if options.add else None)


if __name__ == "__main__":
    sys.exit(main())
