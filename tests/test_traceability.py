"""Every requirement has code, a conformance case and a vector, or stands in the list with the reason."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("tracing")


def test_nothing_is_missing_that_is_not_listed(tracing: ModuleType) -> None:
    assert list(tracing.read().problems()) == []


def test_every_chapter_with_requirements_is_read(tracing: ModuleType) -> None:
    requirements = tracing.read().requirements
    assert sorted({number[0] for number in requirements}) == sorted("MSTWCXLEN")
    assert len(set(requirements)) == len(requirements) > 150


# --- The check itself --------------------------------------------------------------------------


def traced(tracing: ModuleType, *exempt: Any, **found: dict[str, set[str]]) -> Any:
    """Two requirements with something of each kind, except where `found` says otherwise."""
    whole = {kind: {"S-1": {"here"}, "S-2": {"here"}} for kind in tracing.KINDS}
    return tracing.Trace(["S-1", "S-2"], whole | found, list(exempt))


def row(tracing: ModuleType, kind: str, *numbers: str, reason: str = "why", pending: bool = False) -> Any:
    return tracing.Exempt(kind, numbers, reason, pending)


def test_what_is_whole_has_no_problems(tracing: ModuleType) -> None:
    assert list(traced(tracing).problems()) == []


@pytest.mark.parametrize("kind", ["code", "conformance", "vector"])
def test_a_new_requirement_without_one_kind_is_found(tracing: ModuleType, kind: str) -> None:
    trace = traced(tracing, **{kind: {"S-1": {"here"}}})
    assert [problem.partition(":")[0] for problem in trace.problems()] == [f"S-2 has no {kind}"]
    trace.exempt.append(row(tracing, kind, "S-2"))
    assert list(trace.problems()) == []


def test_a_row_that_is_no_longer_true_is_found(tracing: ModuleType) -> None:
    (problem,) = traced(tracing, row(tracing, "code", "S-1")).problems()
    assert problem.startswith("S-1 is listed without code, but here has it")


def test_pending_rows_are_counted_until_they_are_written(tracing: ModuleType) -> None:
    trace = traced(tracing, row(tracing, "conformance", "S-1", "S-2", pending=True), conformance={"S-1": {"case"}})
    assert list(trace.problems()) == []
    assert trace.pending("conformance") == ["S-2"]
    assert "conformance: 1 of 2 requirements; 0 need none, 1 pending" in list(tracing.summary(trace))
    assert [line.split() for line in tracing.table(trace)][1:] == [["S-1", "1", "1", "1"], ["S-2", "1", "pending", "1"]]


@pytest.mark.parametrize(
    ("exempt", "found"),
    [
        (("vector", "S-9"), "the list names S-9, which no chapter defines"),
        (("vectors", "S-1"), "the list names the kind 'vectors'; there are code, conformance, vector"),
    ],
)
def test_rows_that_make_no_sense_are_found(tracing: ModuleType, exempt: tuple[str, str], found: str) -> None:
    assert found in list(traced(tracing, row(tracing, *exempt)).problems())


def test_a_row_needs_a_reason_and_stands_once(tracing: ModuleType) -> None:
    gap = {"S-1": {"here"}}
    assert list(traced(tracing, row(tracing, "code", "S-2", reason=" "), code=gap).problems()) == [
        "the list gives no reason for code of S-2"
    ]
    twice = traced(tracing, row(tracing, "code", "S-2"), row(tracing, "code", "S-2"), code=gap)
    assert list(twice.problems()) == ["the list names S-2 twice for code"]


def test_a_number_that_no_chapter_defines_is_found(tracing: ModuleType) -> None:
    found = {"S-1": {"here"}, "S-2": {"here"}, "S-77": {"a case"}}
    (problem,) = traced(tracing, conformance=found).problems()
    assert problem == "S-77 is named by a case, but no chapter defines it"


def test_numbers_count_after_the_word_spec_only(tracing: ModuleType) -> None:
    text = '"""Spec S-1, S-2 and\nS-3."""\n# spec L-4: why; see T-9\n# (spec W-5 to\n#  W-7)\nname = "X-11"\n'
    assert list(tracing.named(text)) == ["S-1", "S-2", "S-3", "L-4", "W-5", "W-7"]
