"""Whole lives of nodes and a ledger from seeds. One more seed or a longer life: see SEEDS and STEPS.

CHANNELPAY_SEEDS=5000 scripts/test tests/node/test_simulation.py -n auto
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from node_lives import Simulation

SEEDS = int(os.environ.get("CHANNELPAY_SEEDS", "240"))
FIRST = int(os.environ.get("CHANNELPAY_FIRST_SEED", "0"))
STEPS = int(os.environ.get("CHANNELPAY_STEPS", "200"))
CHUNK = 30


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_nothing_acknowledged_is_lost_and_nothing_is_counted_twice(first):
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS)):
        with tempfile.TemporaryDirectory(dir=_fast_disk()) as home:
            try:
                Simulation(seed, Path(home)).run(STEPS)
            except Exception as error:
                again = f"CHANNELPAY_FIRST_SEED={seed} CHANNELPAY_SEEDS=1 CHANNELPAY_STEPS={STEPS}"
                raise AssertionError(f"seed {seed}: {error}\nagain: {again} scripts/test {__file__}") from error


def _fast_disk() -> str | None:
    """A crash here is one of the process, never of the machine: memory will do."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
