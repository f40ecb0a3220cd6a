"""The results that are kept in spec/results/simulation.json, and their table in the chapter."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simulation.crashes import awaits, plan_names

if TYPE_CHECKING:
    from simulation.runner import Tally

_BEGIN = "<!-- results of scripts/simulate --add: begin -->"
_END = "<!-- results of scripts/simulate --add: end -->"


@dataclass(slots=True)
class Results:
    """All reported runs together."""

    next_seed: int = 0
    seeds: int = 0
    payments: int = 0
    lived_twice: int = 0
    seconds: float = 0.0
    failed: list[int] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    excused: dict[str, int] = field(default_factory=dict)
    profiles: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    crash_points: dict[str, int] = field(default_factory=dict)

    @property
    def bound(self) -> float:
        """With 95 % confidence a seed fails with at most this probability, if none of them has (rule of three)."""
        return 3 / max(1, self.seeds)


def read(file: Path) -> Results:
    """What is known so far."""
    if not file.exists():
        return Results()
    return Results(**json.loads(file.read_text())["results"])


def add(file: Path, known: Results, tally: Tally) -> list[str]:
    """Write the sum of both; what all runs together should have met and have not."""
    from simulation.runner import missing

    total = Results(
        max(known.next_seed, tally.first + tally.tried),
        known.seeds + tally.seeds,
        known.payments + tally.payments,
        known.lived_twice + tally.lived_twice,
        round(known.seconds + tally.seconds, 1),
        [*known.failed, *tally.failed],
        _sum(known.counters, tally.counters),
        _sum(known.excused, tally.excused),
        _sum(known.profiles, tally.profiles),
        _sum(known.faults, tally.faults),
        {name: n for name, n in _sum(known.crash_points, tally.hits).items() if name in set(plan_names())},
    )
    file.parent.mkdir(exist_ok=True)
    about = "Sums over all reported runs of scripts/simulate --add; see spec/17-simulation.md."
    file.write_text(json.dumps({"about": about, "results": asdict(total)}, indent=1) + "\n")
    chapter = file.parents[1] / "17-simulation.md"
    if chapter.exists():
        _renew(chapter, table(total))
    return missing(Counter(total.faults), Counter(total.crash_points), total.seeds)


def _sum(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {name: a.get(name, 0) + b.get(name, 0) for name in sorted({*a, *b})}


def table(results: Results) -> str:
    """The results for people."""
    hit = sum(1 for name in plan_names() if results.crash_points.get(name))
    lines = [
        "| what | |", "|---|---|",
        f"| seeds | {results.seeds:,} |",
        f"| payments | {results.payments:,} |",
        f"| seeds that failed | {len(results.failed)} |",
        f"| 95 % bound on the probability that a seed fails (3/N) | {results.bound:.2%} |",
        f"| seeds lived twice, with the same trace | {results.lived_twice} |",
        f"| seconds a seed | {results.seconds / max(1, results.seeds):.2f} |",
        f"| crash points hit | {hit} of {len(plan_names())}, of which {len(awaits())} are awaits |",
        f"| crashes at crash points | {sum(results.crash_points.values()):,} |",
        f"| counters | {', '.join(f'{name} {n}' for name, n in results.counters.items())} |",
        f"| excused | {', '.join(f'{name} {n}' for name, n in results.excused.items()) or 'nothing'} |",
        "", "| fault | met |", "|---|---|",
        *(f"| {kind} | {n:,} |" for kind, n in results.faults.items()),
    ]  # fmt: skip
    return "\n".join(lines)


def _renew(chapter: Path, text: str) -> None:
    before, _, rest = chapter.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    chapter.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")
