"""Every case against the production core in memory: all pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from channelpay.conformance.cases import all_cases
from channelpay.conformance.play import play
from channelpay.conformance.verdict import Status
from conformance.memory import POCKET, MemoryRunner

CASES = all_cases()
UNREACHABLE = {name for name, case in CASES.items() if "pay-id" in case.needs or case.real}
"""Payment ids and TLS are the daemon's business, above the core: these are played against real daemons only."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in UNREACHABLE])
def test_case_passes(name: str, tmp_path: Path) -> None:
    runner = MemoryRunner(tmp_path)
    result = play(CASES[name], runner, POCKET, runner.asset_id, longest_s=1_000)
    assert result.status is Status.PASS, result.text
