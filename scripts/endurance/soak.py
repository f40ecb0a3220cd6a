"""Real daemons under a steady load for a long time: memory, open files and tasks of each must stay flat.

A ledger and two nodes run with one channel between them; the service of each pays on it, one payment at a time and in
bulk, tops up and withdraws. After a warm-up, in which caches fill, every daemon is asked every few seconds what it
uses (SIGUSR2). The slope of the least that it used in every three minutes, by least squares, in per cent of the mean
and hour, must stay below the limit: what comes and goes with a call is not counted, what stays is. In the end the
channel is closed and the accounts are judged as scripts/torture judges them. See spec/19-real-processes.md.

Exit codes: 0 everything is flat; 1 something is not, or the run could not be played; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean, linear_regression
from typing import Any, Final

import trio

from channelpay.daemon.link import leaves
from channelpay.daemon.usage import SIGNAL
from channelpay.errors import ChannelpayError
from channelpay.services.demo.stage import tails
from endurance.audit import judge
from endurance.chapter import SOAK, renew, soak_table
from endurance.company import CLOSE_LIMIT_S, STOP_LIMIT_S, Company, Employed, Load
from endurance.daemons import Daemon, EnduranceFailed, World, open_world, run_to_end

ABOUT: Final = "A run of scripts/soak: what each daemon used on average, and how it grew, in per cent an hour."
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
MOST_PERCENT_PER_HOUR: Final = 1.0
LEAST_WARM_UP_S: Final = 180.0
"""Of a run that counts: also what grows slowly, such as the pages that SQLite keeps, has reached its bound by then."""

PAYMENTS_BEFORE: Final = 20_000
"""Made by each node in the warm-up: the ids that `endurance.small` remembers have been replaced often by then."""

SAMPLE_S: Final = 2.0
SAMPLES_IN_BUCKET: Final = 90
"""Three minutes, as long as the pause between two top-ups: each bucket has moments without a call of the owner's."""

MONEY: Final = 10**12
WINDOW_S: Final = 60
LOAD: Final = Load(tasks=4, pause_s=0.1, action_every_s=180.0, quiet=True)
"""Little for the ledger to do: its books grow with that, and SQLite keeps pages of them in memory up to a bound."""

MEASURES: Final = ("memory", "files", "tasks")
_ANSWER_LIMIT_S: Final = 10.0
_LOOK_AGAIN_S: Final = 0.01
_PROGRESS_LIMIT_S: Final = 120.0


@dataclass
class Watched:
    """A daemon, how far its log was read, and (hours, value) of everything that it told."""

    daemon: Daemon
    log: Path
    read: int = 0
    series: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {name: [] for name in MEASURES})

    async def sample(self, hours: float) -> None:
        """Ask what it uses now; raises EnduranceFailed if it does not tell."""
        self.read = self.log.stat().st_size
        assert self.daemon.child is not None
        self.daemon.child.process.send_signal(SIGNAL)
        with trio.move_on_after(_ANSWER_LIMIT_S):
            while (told := self._told()) is None:
                await trio.sleep(_LOOK_AGAIN_S)
            for name in MEASURES:
                self.series[name].append((hours, float(told[name])))
            return
        raise EnduranceFailed(f"{self.daemon.name} did not tell what it uses within {_ANSWER_LIMIT_S:.0f} s")

    def _told(self) -> dict[str, Any] | None:
        with self.log.open("rb") as file:
            file.seek(self.read)
            lines = file.read().split(b"\n")[:-1]
        records = (json.loads(line) for line in lines if line.startswith(b"{"))
        return next((record for record in records if record.get("event") == "usage"), None)

    def report(self) -> dict[str, dict[str, float]]:
        """Of each measure: see `trend`."""
        return {name: trend(floor(series)) for name, series in self.series.items()}


def floor(series: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The least of every three minutes, in their middle; of a short series every value."""
    if len(series) < 3 * SAMPLES_IN_BUCKET:
        return series
    starts = range(0, len(series) - SAMPLES_IN_BUCKET + 1, SAMPLES_IN_BUCKET)
    buckets = [series[start : start + SAMPLES_IN_BUCKET] for start in starts]
    return [(fmean(hours for hours, _ in bucket), min(value for _, value in bucket)) for bucket in buckets]


def trend(series: list[tuple[float, float]]) -> dict[str, float]:
    """Mean, least and most of (hours, value); the slope of the least-squares line in per cent of the mean and hour."""
    values = [value for _, value in series]
    mean = fmean(values)
    slope = linear_regression([hours for hours, _ in series], values).slope
    return {
        "mean": round(mean, 1),
        "least": min(values),
        "most": max(values),
        "percent_per_hour": round(100 * slope / mean, 3),
    }


class Soak:
    """One run in a directory of its own; the warm-up lasts `warm_up_s`, and for so many payments of each node."""

    def __init__(self, directory: Path, minutes: float, warm_up_s: float, payments_before: int) -> None:
        self.directory = directory
        self.minutes = minutes
        self.warm_up_s = warm_up_s
        self.payments_before = payments_before

    async def play(self) -> dict[str, Any]:
        """The report; raises EnduranceFailed or DemoFailed if the run cannot be played or an account is wrong."""
        async with trio.open_nursery() as nursery:
            async with open_world(self.directory, ("a", "b"), WINDOW_S, "endurance.small") as world:
                company = Company(world, nursery, 1, LOAD)
                report = await self._soak(world, company)
                done = await company.tell_all("stop", STOP_LIMIT_S) and await company.tell_all("close", CLOSE_LIMIT_S)
            nursery.cancel_scope.cancel()
        counters = judge(world, MONEY).counters
        if not done:
            counters.count("unresolved", "the services did not get done in time")
        if not counters.clean:
            raise EnduranceFailed("\n  ".join(["counters are not zero:", *counters.findings]))
        return report | {"counters": dict(counters.numbers())}

    async def _soak(self, world: World, company: Company) -> dict[str, Any]:
        await world.begin(MONEY)
        for service in company.services[:1]:
            await company.start(service)
        for service in company.services[1:]:
            service.peers = []  # one channel for both
            await company.start(service)
        begun = trio.current_time()
        limit_s = _PROGRESS_LIMIT_S + self.payments_before / 20
        for service in company.services:
            await company.wait_until(partial(self._is_warm, service), limit_s)
        await trio.sleep_until(begun + self.warm_up_s)
        warmed_up_s, before = trio.current_time() - begun, company.acknowledged
        watched = await self._watch(world)
        payments = company.acknowledged - before
        return {
            "minutes": self.minutes,
            "warm_up_minutes": round(warmed_up_s / 60, 1),
            "payments": payments,
            "payments_per_s": round(payments / self.minutes / 60),
            "daemons": {one.daemon.name: one.report() for one in watched},
        }

    def _is_warm(self, service: Employed) -> bool:
        return service.acknowledged >= self.payments_before

    async def _watch(self, world: World) -> list[Watched]:
        watched = [Watched(daemon, self.directory / f"{daemon.name}.log") for daemon in world.daemons]
        begun = trio.current_time()
        for number in range(1 + max(2, round(self.minutes * 60 / SAMPLE_S))):
            await trio.sleep_until(begun + number * SAMPLE_S)
            for one in watched:
                await one.sample((trio.current_time() - begun) / 3600)
        return watched


def steepest(report: dict[str, Any]) -> tuple[float, str]:
    """The largest growth in a report, in per cent an hour, and what grows so."""
    return max(
        (facts["percent_per_hour"], f"{measure} of {name}")
        for name, measures in report["daemons"].items()
        for measure, facts in measures.items()
    )


def main() -> int:
    """Options in, exit code out."""
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("minutes", type=float, metavar="MINUTES", help="how long to measure, after the warm-up")
    parser.add_argument("--results", type=Path, default=SOAK, help=f"default: {SOAK}")
    options = parser.parse_args()
    if not options.minutes > 0:
        parser.error("MINUTES: more than none")
    report = _played(options.minutes)
    if isinstance(report, int):
        return report
    print(soak_table(report))
    growth, what = steepest(report)
    if growth >= MOST_PERCENT_PER_HOUR:
        print(f"error: {what} grows by {growth} % an hour", file=sys.stderr)
        return EXIT_FAILED
    options.results.write_text(json.dumps({"about": ABOUT} | report, indent=1) + "\n")
    if options.results == SOAK:
        renew()
    return EXIT_OK


def _played(minutes: float) -> dict[str, Any] | int:
    """The report of a run, or the exit code if it failed or was interrupted."""
    directory = Path(tempfile.mkdtemp(prefix="soak-", dir="/var/tmp"))
    report: dict[str, Any] | None = None
    failures: list[str] = []
    try:
        report = trio.run(run_to_end, Soak(directory, minutes, LEAST_WARM_UP_S, PAYMENTS_BEFORE).play)
    except* (ChannelpayError, OSError) as group:
        failures = [str(error) for error in leaves(group)]
    if failures:
        print(tails(directory), file=sys.stderr)
        print(f"error: {'; '.join(failures)}\neverything is kept in {directory}", file=sys.stderr)
        return EXIT_FAILED
    shutil.rmtree(directory)
    return EXIT_INTERRUPTED if report is None else report


if __name__ == "__main__":
    sys.exit(main())
