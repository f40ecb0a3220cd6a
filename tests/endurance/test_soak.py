"""A small run of scripts/soak tells what every daemon uses; what grows is seen to grow."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def soak() -> ModuleType:
    return importlib.import_module("endurance.soak")


def test_the_slope_is_that_of_the_line(soak: ModuleType) -> None:
    flat = soak.trend([(hours / 10, 200.0) for hours in range(10)])
    assert flat == {"mean": 200.0, "least": 200.0, "most": 200.0, "percent_per_hour": 0.0}
    growing = soak.trend([(hours / 10, 100 + hours / 10) for hours in range(-10, 11)])
    assert growing == {"mean": 100.0, "least": 99.0, "most": 101.0, "percent_per_hour": 1.0}


def test_what_comes_and_goes_is_not_counted_and_what_stays_is(soak: ModuleType) -> None:
    size = soak.SAMPLES_IN_BUCKET
    jumping = [(i / 1000, 20.0 + (i % size > 0) * i) for i in range(4 * size)]
    assert [value for _, value in soak.floor(jumping)] == [20.0] * 4
    leaking = [(i / 1000, 20.0 + i // size) for i in range(4 * size)]
    assert [value for _, value in soak.floor(leaking)] == [20.0, 21.0, 22.0, 23.0]
    assert soak.floor(leaking[: 3 * size - 1]) == leaking[: 3 * size - 1]


def test_the_steepest_is_found(soak: ModuleType) -> None:
    def facts(percent: float) -> dict[str, dict[str, float]]:
        return {"memory": {"percent_per_hour": percent}, "files": {"percent_per_hour": -1.0}}

    assert soak.steepest({"daemons": {"a": facts(0.2), "b": facts(0.9)}}) == (0.9, "memory of b")


async def test_a_small_run(soak: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> None:
    place: Path = tmp_path_factory.mktemp("s")
    report = await soak.Soak(place, minutes=0.2, warm_up_s=1.0, payments_before=100).play()
    assert report["payments"] > 0
    assert set(report["daemons"]) == {"ledger", "a", "b"}
    for measures in report["daemons"].values():
        assert set(measures) == {"memory", "files", "tasks"}
        assert all(facts["least"] > 0 for facts in measures.values())
    assert set(report["counters"].values()) == {0}
    assert json.loads(json.dumps(report)) == report
    assert len(soak.soak_table(report).splitlines()) == 4 + 9
