"""The results file of the long runs: every round is added to what stands there, so that a run can be taken up again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read_rounds(file: Path) -> list[dict[str, Any]]:
    """The rounds in a results file; one that is not there has none."""
    if not file.exists():
        return []
    rounds: list[dict[str, Any]] = json.loads(file.read_text())["rounds"]
    return rounds


def write_rounds(file: Path, about: str, rounds: list[dict[str, Any]]) -> None:
    """Replace the file in one step, with the sums of all numbers in the rounds but for seeds."""
    lines = ",\n".join("  " + json.dumps(one) for one in rounds)
    totals = json.dumps(sums(rounds), indent=1)
    temporary = file.with_suffix(".new")
    temporary.write_text(f'{{\n"about": {json.dumps(about)},\n"totals": {totals},\n"rounds": [\n{lines}\n]\n}}\n')
    os.replace(temporary, file)


def sums(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of every number in the rounds, level by level; a seed is no amount of anything."""
    found: dict[str, Any] = {"rounds": len(rounds)}
    for one in rounds:
        _add(found, one)
    return found


def _add(total: dict[str, Any], one: dict[str, Any]) -> None:
    for name, value in one.items():
        if isinstance(value, dict):
            _add(total.setdefault(name, {}), value)
        elif isinstance(value, int) and name != "seed":
            total[name] = total.get(name, 0) + value
