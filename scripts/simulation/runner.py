"""Many seeds one after another: what was found, what was met, and how to see it again."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from simulation import results
from simulation.crashes import focus, plan_names
from simulation.guarantees import KINDS
from simulation.life import Outcome, live

EXIT_OK: Final = 0
EXIT_FOUND: Final = 1
SAME_TRACE_EVERY: Final = 100
"""One seed of so many is lived twice: both must leave the same trace."""

MEETS_ALL: Final = 1000
"""From so many seeds on, every kind of fault must have been met and every crash point hit."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which seeds; `trace`: how many last lines of each to print."""

    first: int | None
    count: int
    payments: int
    trace: int = 0
    minutes: float | None = None
    until_failure: bool = False


@dataclass(slots=True)
class Tally:
    """What seeds came to, together."""

    first: int
    tried: int = 0
    seeds: int = 0
    payments: int = 0
    lived_twice: int = 0
    seconds: float = 0.0
    profiles: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.seeds += 1
        self.payments += outcome.payments
        self.profiles[outcome.profile] += 1
        self.faults.update(outcome.faults)
        self.hits.update(outcome.hits)
        self.excused.update(outcome.verdict.excused)
        self.counters.update(dict(outcome.verdict.counters.numbers()))


def run(plan: Plan, file: Path | None = None) -> int:
    """Live the seeds of a plan; EXIT_FOUND if anything was found that must not be."""
    known = results.read(file) if file else None
    first = plan.first if plan.first is not None else (known.next_seed if known else 0)
    tally = Tally(first)
    began, began_cpu = time.monotonic(), time.process_time()
    for seed in range(first, first + plan.count):
        if plan.minutes is not None and time.monotonic() - began > plan.minutes * 60:
            break
        tally.tried += 1
        if not _one(seed, plan, tally):
            tally.failed.append(seed)
            if plan.until_failure:
                break
    tally.seconds = time.process_time() - began_cpu
    complaints = missing(tally.faults, tally.hits, tally.seeds) if file is None else []
    if file is not None and known is not None:
        complaints = results.add(file, known, tally)
    _report(tally, complaints)
    return EXIT_FOUND if tally.failed or complaints else EXIT_OK


def _one(seed: int, plan: Plan, tally: Tally) -> bool:
    """Live one seed, sometimes twice; whether all is well."""
    again = f"scripts/simulate --seed {seed} --payments {plan.payments} --trace 200{focus()}"
    try:
        outcome = live(seed, plan.payments, verbose=plan.trace > 0)
    except Exception as error:
        print(f"seed {seed}: {type(error).__name__}: {error}\n  again: {again}", file=sys.stderr)
        if plan.trace:
            raise
        return False
    tally.add(outcome)
    if plan.trace:
        print("\n".join(outcome.tail[-plan.trace :]))
    for finding in outcome.verdict.counters.findings:
        print(f"seed {seed}: {finding}", file=sys.stderr)
    clean = outcome.verdict.clean
    if seed % SAME_TRACE_EVERY == 0:
        tally.lived_twice += 1
        if live(seed, plan.payments).trace != outcome.trace:
            print(f"seed {seed}: two lives of one seed differ", file=sys.stderr)
            clean = False
    if not clean:
        print(f"  again: {again}", file=sys.stderr)
    return clean


def missing(faults: Counter[str], hits: Counter[str], seeds: int) -> list[str]:
    """What a run of many seeds should have met and has not."""
    if seeds < MEETS_ALL:
        return []
    found = [f"no seed has met the fault {kind!r}" for kind in KINDS if not faults[kind]]
    return found + [f"no crash at {name}" for name in plan_names() if not hits[name]]


def _report(tally: Tally, complaints: list[str]) -> None:
    names = plan_names()
    hit = sum(1 for name in names if tally.hits[name])
    each = tally.seconds / max(1, tally.seeds)
    print(f"{tally.seeds} seeds from {tally.first}, {tally.payments} payments, {each:.2f} s of a core for each")
    print(f"crash points hit: {hit} of {len(names)}; lived twice: {tally.lived_twice}")
    print("faults met: " + (", ".join(f"{kind} {n}" for kind, n in sorted(tally.faults.items())) or "none"))
    print("counters: " + ", ".join(f"{name} {tally.counters[name]}" for name in tally.counters))
    if tally.excused:
        print("excused: " + ", ".join(f"{kind} {n}" for kind, n in sorted(tally.excused.items())))
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if tally.failed:
        print(f"seeds that failed: {' '.join(map(str, tally.failed))}", file=sys.stderr)
