"""A run as JSON, as tables for people, and as tables of the specification."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks.curves import Curve
from benchmarks.limits import Limits, merged
from benchmarks.result import FIGURES, BenchFailed, Result
from benchmarks.table import BY_NAME, Mark, Row
from channelpay.cli.show import print_pairs, print_table

Table: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]]
"""Headers, rows, and those of the headers below which numbers stand."""

BEGIN: Final = "<!-- scripts/bench writes from here -->"
END: Final = "<!-- to here -->"

_LIMITS: Final = (
    ("sign_per_s", "Ed25519 signatures made", "/s"),
    ("verify_per_s", "Ed25519 signatures verified", "/s"),
    ("sha256_mb_per_s", "SHA-256", "MB/s"),
    ("fdatasync_us", "append and fdatasync", "us"),
    ("commit_us", "SQLite commit, WAL and synchronous FULL", "us"),
    ("tls_round_trip_us", "TLS 1.3 round trip between two processes", "us"),
)
_HEADERS: Final = (
    "name", "payments/s", "p50 ms", "p99 ms", "CPU us payer", "CPU us payee", "bytes", "commits", "MiB", "topology",
)  # fmt: skip
_MARK_HEADERS: Final = ("name", "what is compared", "is", "floor", "goal", "reached")


_POINT_HEADERS: Final = ("payments/s", "p50 ms", "p99 ms", "CPU us of both")


@dataclass
class Report:
    """What a run has found so far.

    `measured`: the limits before each scenario; `failures`: why one gave nothing; `seconds`: how long each took.
    """

    machine: Mapping[str, str]
    versions: Mapping[str, str]
    measured: list[Limits] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d", time.gmtime()))

    @property
    def limits(self) -> Limits | None:
        """The medians of all that were measured."""
        return merged(self.measured) if self.measured else None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        results = {name: result_json(BY_NAME[name], result) for name, result in self.results.items()}
        failures = {name: {"error": why} for name, why in self.failures.items()}
        return {
            "date": self.date,
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
            "limits": self.limits.as_json() if self.limits else {},
            "results": results | {name: why for name, why in failures.items() if name in BY_NAME},
            "curves": {name: curve.as_json() for name, curve in self.curves.items()}
            | {name: why for name, why in failures.items() if name not in BY_NAME},
        }

    def print(self) -> None:
        """For people, on stdout."""
        print_pairs([*self.machine.items(), *self.versions.items()])
        for pairs in filter(None, [self._limit_rows()]):
            print()
            print_pairs(pairs)
        for headers, rows, right in self._tables():
            print()
            print_table(_capitals(headers), rows, right=_capitals(right))
        print(f"\n{self._took()}")
        for name, why in self.failures.items():
            print(f"FAILED {name}: {why}")

    def markdown(self) -> str:
        """For the specification."""
        about = "; ".join(f"{name} {value}" for name, value in (*self.machine.items(), *self.versions.items()))
        return "\n\n".join(
            [
                f"{self.date}. {about}. {self._took()}.",
                *[f"{name} failed: {why}." for name, why in self.failures.items()],
                _markdown(("limit of the machine", "is"), self._limit_rows()),
                *[_markdown(headers, rows) for headers, rows, _ in self._tables()],
            ]
        )

    def summary(self) -> str:
        """For the README: what was reached, in one table."""
        about = f"{self.date}, {self.machine['cpu']}, {self.machine['cores']} cores, Python {self.versions['Python']}"
        rows = [
            [
                name,
                BY_NAME[name].measured,
                number(result.payments_per_s),
                number(result.p50_ms),
                _compared(BY_NAME[name].marks[0], result),
            ]
            for name, result in self.results.items()
        ]
        return f"{about}:\n\n{_markdown(('name', 'what', 'per second', 'p50 ms', 'beside the limit'), rows)}"

    def _tables(self) -> Iterator[Table]:
        if self.results:
            yield _HEADERS, list(self._figure_rows()), _HEADERS[1:9]
            yield _MARK_HEADERS, list(self._mark_rows()), _MARK_HEADERS[2:5]
        for curve in self.curves.values():
            headers = (curve.x, *_POINT_HEADERS)
            rows = [
                [number(value) for value in (p.x, p.payments_per_s, p.p50_ms, p.p99_ms, p.cpu_us)] for p in curve.points
            ]
            yield headers, rows, headers

    def _took(self) -> str:
        each = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())
        return f"The whole took {sum(self.seconds.values()):.0f} s: {each}"

    def _limit_rows(self) -> list[tuple[str, str]]:
        found = self.limits.as_json() if self.limits else {}
        return [(text, f"{number(found[name])} {unit}") for name, text, unit in _LIMITS if name in found]

    def _figure_rows(self) -> Iterator[list[str]]:
        for name, result in self.results.items():
            yield [name, *(number(getattr(result, figure)) for figure in FIGURES), BY_NAME[name].topology]

    def _mark_rows(self) -> Iterator[list[str]]:
        for name, result in self.results.items():
            for mark in BY_NAME[name].marks:
                value = result.values[mark.name]
                bounds = [f"{_sign(mark)} {number(bound)}" for bound in (mark.floor, mark.goal)]
                yield [name, mark.text, number(value), *bounds, _verdict(mark, value)]


def renew(file: Path, found: str) -> None:
    """Write what was found into a file, in place of what stands between its two markers; see `check_place`."""
    check_place(file)
    text = file.read_text("utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    file.write_text(f"{before}{BEGIN}\n\n{found}\n\n{after}", "utf-8")


def check_place(file: Path) -> None:
    """Raises BenchFailed unless the file has both markers, once and in order."""
    text = file.read_text("utf-8") if file.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise BenchFailed(f"{file} has no place for the tables: a line {BEGIN!r} and below it a line {END!r}")


def result_json(row: Row, result: Result) -> dict[str, Any]:
    """One result; `ratio`, `floor` and `goal` are those of the row's first mark, `met` holds for all marks."""
    first = row.marks[0]
    marks = [_mark_json(mark, result.values[mark.name]) for mark in row.marks]
    return {
        **{name: getattr(result, name) for name in FIGURES},
        "ratio": result.values[first.name],
        "floor": first.floor,
        "goal": first.goal,
        "met": all(mark["met"] for mark in marks),
        "goal_met": all(mark["goal_met"] for mark in marks),
        "marks": marks,
        "measured": row.measured,
        "topology": row.topology,
        "accounts": dict(result.accounts),
        "extra": dict(result.extra),
    }


def _mark_json(mark: Mark, value: float) -> dict[str, Any]:
    return {
        "name": mark.name,
        "text": mark.text,
        "value": value,
        "floor": mark.floor,
        "goal": mark.goal,
        "lower_is_better": mark.lower_is_better,
        "met": mark.reaches(value, mark.floor),
        "goal_met": mark.reaches(value, mark.goal),
    }


def _verdict(mark: Mark, value: float) -> str:
    if mark.reaches(value, mark.goal):
        return "goal"
    return "floor" if mark.reaches(value, mark.floor) else "NO"


def _sign(mark: Mark) -> str:
    return "<=" if mark.lower_is_better else ">="


def _compared(mark: Mark, result: Result) -> str:
    return f"{number(result.values[mark.name])} (goal {_sign(mark)} {number(mark.goal)})"


def number(value: float | None) -> str:
    """Three digits that count, or all of a whole number's; nothing for what was not measured."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10 or value == int(value):
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.2g}" if abs(value) < 0.1 else f"{value:.2f}"


def _capitals(headers: Sequence[str]) -> list[str]:
    return [header.upper() for header in headers]


def _markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
