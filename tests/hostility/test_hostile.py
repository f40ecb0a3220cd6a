"""scripts/hostile runs small: bounds hold, honest work is done. Its judgement is tested on results that are made up."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def of(name: str) -> ModuleType:
    return importlib.import_module(f"hostility.{name}")


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short path: sockets are made below it."""
    return tmp_path_factory.mktemp("h")


@pytest.mark.slow
@pytest.mark.parametrize("names", [("flood", "slowloris", "oversized"), ("bad-requests", "never-reading"), ("closes",)])
async def test_honest_work_goes_on_under_attack(place: Path, names: tuple[str, ...]) -> None:
    report = await of("__main__").play(names, True, place)
    found = report.as_json()
    assert (found["failures"], found["kept"]) == ({}, True), found
    assert not list(place.iterdir())
    for name in names:
        if name == "closes":
            assert found["closes"]["answered"] == of("closing").SMALL.channels
            continue
        attack, pace = found["attacks"][name], of("arena").SMALL
        assert attack["done"] == [pace.per_s * pace.phase_s * pace.rounds] * 2
        assert attack["counts"]["attempts"] > 0


@pytest.fixture
def attack() -> dict[str, Any]:
    """What an attack that everything withstood looks like in the results."""
    return {
        "attack": {"about": "knocks"}, "p99_ms": [[5.0], [6.0]], "ratio": 1.2, "failed": [], "grown_mib": 1.0,
        "descriptors": 30, "cpu": 0.2, "newcomers": [9, 10], "counts": {},
    }  # fmt: skip


@pytest.fixture
def closes() -> dict[str, Any]:
    """What the closes look like when all were answered."""
    return {
        "channels": 10, "window_s": 60, "closes_sent_s": 0.1, "answered": 10, "first_s": 0.1, "median_s": 1.0,
        "last_s": 2.0, "settled_at_newest": 10, "p99_ms": [1.0, 2.0], "failed": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ratio", 2.01),
        ("failed", ["not paid"]),
        ("newcomers", [4, 10]),
        ("grown_mib", 129.0),
        ("descriptors", 701),
        ("counts", {"STILL OPEN": 1}),
    ],
)
def test_a_bound_that_is_broken_is_found(attack: dict[str, Any], key: str, value: object) -> None:
    report = of("report")
    assert report.attack_faults(attack, small=False) == []
    attack[key] = value
    assert len(report.attack_faults(attack, small=False)) == 1
    assert len(report.attack_faults(attack, small=True)) == (key != "ratio")
    assert not report.Report(attacks={"x": attack}).kept


@pytest.mark.parametrize(
    ("key", "value"), [("answered", 9), ("last_s", 30.0), ("settled_at_newest", 9), ("failed", ["not paid"])]
)
def test_a_close_that_is_not_answered_in_time_is_found(closes: dict[str, Any], key: str, value: object) -> None:
    report = of("report")
    assert report.close_faults(closes) == []
    assert report.Report(closes=closes).kept
    closes[key] = value
    assert len(report.close_faults(closes)) == 1
    assert not report.Report(closes=closes).kept
    assert not report.Report(failures={"closes": "no ledger"}).kept


def test_results_are_written_into_the_chapter(place: Path, attack: dict[str, Any], closes: dict[str, Any]) -> None:
    report = of("report")
    results, chapter = place / "results.json", place / "chapter.md"
    results.write_text(json.dumps(report.Report(attacks={"knock": attack}, closes=closes).as_json()), "utf-8")
    chapter.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", "utf-8")
    for _ in range(2):
        report.renew(chapter, results)
        text = chapter.read_text("utf-8")
        assert text.startswith(f"before\n{report.BEGIN}\n")
        assert text.endswith(f"{report.END}\nafter\n")
        assert "| knock | knocks | 5.0 | 6.0 | 1.20 | 9 of 10 | 1.0 | 30 | 20% | yes |" in text
        assert "10 channels closed with an old state" in text
        assert "old\n" not in text
    chapter.write_text("no marks", "utf-8")
    with pytest.raises(of("arena").HostileFailed, match="has no place"):
        report.renew(chapter, results)


def test_percentiles_are_values_that_were_measured() -> None:
    percentile = of("honest").percentile
    assert [percentile([3, 1, 2, 4], part) for part in (0.25, 0.5, 0.99, 1.0)] == [1, 2, 4, 4]
    assert percentile([], 0.99) == math.inf


def test_every_attack_of_the_table_exists_and_none_is_left_out() -> None:
    assert {row.kind for row in of("arena").ROWS} == set(of("attacks").KINDS)
