"""A node whose request the ledger refuses for a signature has believed what nobody signed."""

from __future__ import annotations

import pytest
from simulation.model import UNEXCUSED
from simulation.refusals import FALSELY_SIGNED, Refusals
from simulation.wire import RESPONSE, packed

from channelpay.ledger.outcomes import Outcome


def answered(outcome: int, receiver: str = "node0", sender: str = "ledger") -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    tap = Refusals(lambda *finding: found.append(finding), {"node1"})
    other = packed(0x82, [1, 2, 51])
    tap.heard(1, sender, receiver, other + packed(RESPONSE, [bytes(16), bytes(32), outcome, b"", bytes(64)]))
    return found


@pytest.mark.parametrize("outcome", sorted(FALSELY_SIGNED))
def test_a_false_signature_that_an_honest_node_shows_is_a_finding(outcome):
    what = f"node0 has shown the ledger a false signature: outcome {outcome}"
    assert answered(outcome) == [("phantom", what, UNEXCUSED)]


def test_other_answers_and_those_to_liars_and_outsiders_are_none():
    assert answered(0) == answered(3) == []
    assert answered(51, receiver="node1") == answered(51, receiver="outsider") == answered(51, sender="node1") == []


def test_these_are_all_outcomes_about_signatures():
    assert {outcome for outcome in Outcome if "SIGNATURE" in outcome.name} == FALSELY_SIGNED
