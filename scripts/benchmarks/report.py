"""Results as JSON and as a table for people."""

from __future__ import annotations

from typing import Any

from benchmarks.result import FIGURES, Result
from benchmarks.table import Mark, Row


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
