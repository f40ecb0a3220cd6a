"""The tables of the specification's chapter 8 and the code say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from channelpay.ledger.books import Kind
from channelpay.ledger.outcomes import Outcome
from channelpay.limits import MAX_REQUEST_LIFE_S, MAX_REQUESTS_IN_FLIGHT, OUTAGE_S, PING_TIMEOUT_S, RESTART_GRACE_S
from channelpay.messages import ledger as ops

CHAPTER = (Path(__file__).parents[2] / "spec" / "08-ledger.md").read_text()
VIEWS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        ops.AssetView,
        ops.LedgerInfo,
        ops.AccountView,
        ops.Holding,
        ops.ChannelView,
        ops.ChannelPage,
        ops.JournalPage,
        ops.JournalEntry,
    )
}


def _table(*header: str) -> list[list[str]]:
    """The rows of the table with this header."""
    lines = CHAPTER.splitlines()
    start = lines.index("| " + " | ".join(header) + " |") + 2
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_outcomes():
    assert _table("outcome", "name", "meaning") == [
        [str(int(outcome)), outcome.label, outcome.explanation] for outcome in Outcome
    ]


def test_kinds_of_entries():
    written = [kind for kinds, *_ in _table("kind", "lines", "what happened") for kind in kinds.split(", ")]
    assert sorted(written) == sorted(Kind)


def test_operations_and_their_answers():
    rows = _table("op", "arguments", "key", "answer")
    assert [row[0] for row in rows] == list(ops.OPERATIONS)
    for op, arguments, _, answer in rows:
        kind = ops.OPERATIONS[op]
        assert answer.replace(",", "").split()[0] == ops.VIEWS[kind].__name__
        written = [argument.split()[0] for argument in arguments.split(", ") if argument]
        fields = [name for name, _ in kind._fields]
        if "array of" in arguments:  # an array of states: its name says less than its type
            assert fields[-1] == "states"
            written, fields = written[:-1], fields[:-1]
        assert written == fields


@pytest.mark.parametrize("name", VIEWS)
def test_views(name):
    written = dict(_table("view", "fields"))[name].split(", ")
    fields = [field for field, _ in VIEWS[name]._fields]
    assert len(written) == len(fields)
    for text, field in zip(written, fields, strict=True):
        assert text.split()[0] == field or text.startswith("array of")


def test_numbers_in_the_text():
    text = " ".join(CHAPTER.split())
    assert f"valid_until <= now + {MAX_REQUEST_LIFE_S:,} seconds" in text
    assert f"min(window_s, {RESTART_GRACE_S})" in text
    assert f"by more than {OUTAGE_S} seconds" in text
    assert f"{MAX_REQUESTS_IN_FLIGHT:,} requests under way" in text
    assert text.count(f"for {PING_TIMEOUT_S:.0f} seconds") == 2
