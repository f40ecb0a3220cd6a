"""Seeds are lived through, one of them twice; sabotaged code is found out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from simulation import runner, sabotage
from simulation.crashes import EVENTS, awaits, plan_names
from simulation.guarantees import KINDS

TOP = Path(__file__).resolve().parents[2]
SABOTAGES = sabotage.known()


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(TOP / "scripts"), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "simulation", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_twenty_seeds_find_nothing_and_a_seed_leaves_one_trace():
    run = simulate("--seed", "0", "--seeds", "20")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "20 seeds from 0" in run.stdout
    assert "lived twice: 1" in run.stdout  # seed 0: two traces that differ would have failed it


def test_a_trace_is_printed_on_demand():
    run = simulate("--seed", "3", "--payments", "5", "--trace", "10")
    assert run.returncode == 0, run.stderr
    assert "exited node" in run.stdout


def test_there_are_crash_points_of_every_kind():
    names = plan_names()
    assert len(names) == len(set(names)) == len(awaits()) + 2 * len(EVENTS)
    assert any(name.startswith("ledger_server.LedgerServer._commit/") for name in names)
    assert any(name.startswith("engine.Engine.run/") for name in names)


def test_a_node_that_has_lost_its_store_crashes_while_it_looks_for_its_channels():
    points = [f"ledger_stream.LedgerStream.{name}" for name in ("_prepare/1", "_take/2", "_listen/2")]
    assert set(points) <= awaits().keys()
    run = simulate("--seed", "0", "--seeds", "6", "--payments", "20", "--points", *points)
    assert run.returncode == 0, run.stdout + run.stderr
    hit = re.search(r"crash points hit: (\d+) of", run.stdout)
    assert "store lost" in run.stdout
    assert hit is not None
    assert int(hit[1]) >= len(points)


def test_a_long_run_that_meets_a_fault_never_has_failed():
    everything = Counter(KINDS), Counter(plan_names())
    assert runner.missing(*everything, runner.MEETS_ALL) == []
    assert runner.missing(Counter(), Counter(), runner.MEETS_ALL - 1) == []
    del everything[0]["torn write"], everything[1]["ledger commit before"]
    assert runner.missing(*everything, runner.MEETS_ALL) == [
        "no seed has met the fault 'torn write'", "no crash at ledger commit before",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGES)
def test_every_sabotage_fits_the_code(name, tmp_path):
    shutil.copytree(TOP / "src" / "channelpay", tmp_path / "channelpay", ignore=shutil.ignore_patterns("__pycache__"))
    SABOTAGES[name].apply(tmp_path)  # raises if what it replaces is not in the code any more


@pytest.mark.parametrize("name", ["answers-with-less", "ids-forgotten-at-start", "acknowledges-too-much"])
def test_sabotaged_code_is_found_out(name):
    found = sabotage.try_out(SABOTAGES[name], seeds=20)
    assert found.seed is not None, found.finding
