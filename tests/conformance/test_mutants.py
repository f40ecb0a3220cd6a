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


JUDGED_ELSEWHERE = {
    "tls-older-versions-refused", "tls-without-tickets", "certificate-of-each-process", "strangers-are-bounded",
    "node-pays-an-id-once", "node-refuses-an-old-id",
}  # fmt: skip
"""What the core in memory has nothing to do with: test_tcp and test_play show that these can fail."""


def test_every_case_has_a_mutant_that_it_catches() -> None:
    caught = {case for _, case in PAIRS}
    assert caught | JUDGED_ELSEWHERE == set(all_cases())
    assert not caught & JUDGED_ELSEWHERE
