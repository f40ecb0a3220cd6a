"""Every case can fail: nodes and ledgers that break one requirement on purpose are caught by the case for it."""

from __future__ import annotations

from pathlib import Path

import pytest

import conformance.mutants.closings
import conformance.mutants.connections
import conformance.mutants.ledgers
import conformance.mutants.payments  # noqa: F401  these four fill the table
from channelpay import crypto
from channelpay.conformance.cases import all_cases
from channelpay.conformance.play import play
from channelpay.conformance.verdict import Result, Status
from conformance.memory import POCKET, MemoryRunner
from conformance.mutants import MUTANTS

PAIRS = [(name, case) for name, (_, cases) in MUTANTS.items() for case in cases]


def against(mutant: str, case: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """What becomes of a case against a mutant."""
    with monkeypatch.context() as patch:
        runner = MemoryRunner(place)
        MUTANTS[mutant][0](patch)
        crypto._loaded.cache_clear()
        try:
            return play(all_cases()[case], runner, POCKET, runner.asset_id, longest_s=1_000)
        finally:
            crypto._loaded.cache_clear()


@pytest.mark.parametrize(("mutant", "case"), PAIRS)
def test_mutant_is_caught(mutant: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = against(mutant, case, tmp_path, monkeypatch)
    assert result.status is Status.FAIL, f"{case} does not notice {mutant}"
    assert result.requirements
