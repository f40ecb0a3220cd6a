"""Results are added up, and the chapter shows what stands in the results files."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType


def of(module: str) -> ModuleType:
    return importlib.import_module(f"endurance.{module}")


def test_rounds_are_added_and_summed(tmp_path: Path) -> None:
    results, file = of("results"), tmp_path / "torture.json"
    assert results.read_rounds(file) == []
    rounds = [
        {"seed": 1, "kills": {"node": 3}, "seconds": 5},
        {"seed": 2, "kills": {"node": 4, "ledger": 1}, "seconds": 6},
    ]
    results.write_rounds(file, "what it is", rounds)
    assert results.read_rounds(file) == rounds
    found = json.loads(file.read_text())
    assert found["totals"] == {"rounds": 2, "kills": {"node": 7, "ledger": 1}, "seconds": 11}
    assert [path.name for path in tmp_path.iterdir()] == ["torture.json"]


def test_the_chapter_is_up_to_date() -> None:
    chapter = of("chapter")
    text = chapter.CHAPTER.read_text()
    assert chapter.renewed(text) == text


def test_a_clean_run_of_many_kills_is_committed() -> None:
    rounds = of("results").read_rounds(of("chapter").TORTURE)
    total = of("results").sums(rounds)
    assert sum(total["kills"].values()) >= 300
    assert set(total["counters"].values()) == {0}
    assert len({one["seed"] for one in rounds}) == len(rounds)
