"""A run as JSON, as tables for people, and as tables of the specification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.limits import Limits
from benchmarks.result import FIGURES, BenchFailed, Result
from benchmarks.table import BY_NAME, Mark, Row
from channelpay.cli.show import print_pairs, print_table

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


@dataclass
class Report:
    """What a run has found so far. `failures`: why a scenario gave nothing, by its name."""

    machine: Mapping[str, str]
    versions: Mapping[str, str]
    limits: Limits | None
    results: dict[str, Result]
    failures: dict[str, str]
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        results = {name: result_json(BY_NAME[name], result) for name, result in self.results.items()}
        return {
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "seconds": round(self.seconds, 1),
            "limits": self.limits.as_json() if self.limits else {},
            "results": results | {name: {"error": why} for name, why in self.failures.items()},
        }

    def print(self) -> None:
        """For people, on stdout."""
        print_pairs([*self.machine.items(), *self.versions.items()])
        print()
        print_pairs(self._limit_rows())
        print()
        print_table(_capitals(_HEADERS), self._figure_rows(), right=_capitals(_HEADERS[1:9]))
        print()
        print_table(_capitals(_MARK_HEADERS), self._mark_rows(), right=_capitals(_MARK_HEADERS[2:5]))
        print(f"\n{self.seconds:.0f} s in all")
        for name, why in self.failures.items():
            print(f"FAILED {name}: {why}")

    def markdown(self) -> str:
        """For the specification."""
        about = "; ".join(f"{name} {value}" for name, value in (*self.machine.items(), *self.versions.items()))
        return "\n\n".join(
            [
                f"{about}. The whole run took {self.seconds:.0f} s.",
                _markdown(("limit of the machine", "is"), self._limit_rows()),
                _markdown(_HEADERS, self._figure_rows()),
                _markdown(_MARK_HEADERS, self._mark_rows()),
            ]
        )

    def renew(self, file: Path) -> None:
        """Write the tables into a chapter, in place of those that stand between its two markers."""
        text = file.read_text("utf-8")
        if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
            raise BenchFailed(f"{file} has no place for the tables: a line {BEGIN!r} and below it a line {END!r}")
        before, after = text[: text.index(BEGIN)], text[text.index(END) :]
        file.write_text(f"{before}{BEGIN}\n\n{self.markdown()}\n\n{after}", "utf-8")

    def _limit_rows(self) -> list[tuple[str, str]]:
        found = self.limits.as_json() if self.limits else {}
        return [(text, f"{number(found[name])} {unit}") for name, text, unit in _LIMITS if name in found]

    def _figure_rows(self) -> Iterator[list[str]]:
        for name, result in self.results.items():
            yield [name, *(number(getattr(result, figure)) for figure in FIGURES), BY_NAME[name].topology]

    def _mark_rows(self) -> Iterator[list[str]]:
        for name, result in self.results.items():
            for mark in BY_NAME[name].marks:
                value, sign = result.values[mark.name], "<=" if mark.lower_is_better else ">="
                bounds = [f"{sign} {number(bound)}" for bound in (mark.floor, mark.goal)]
                yield [name, mark.text, number(value), *bounds, _verdict(mark, value)]


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


def _markdown(headers: Sequence[str], rows: Iterator[list[str]] | list[tuple[str, str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
