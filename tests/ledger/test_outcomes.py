"""The names of refusals."""

import pytest

from channelpay.ledger.outcomes import LedgerRefused, Outcome


def test_numbers_are_the_order_of_precedence_and_travel_unchanged():
    # Written out: a number that moves would change the meaning of an answer on the wire.
    expected = {
        "DONE": 0, "BAD_REQUEST": 1, "BAD_SIGNATURE": 2, "EXPIRED": 3, "TOO_FAR_AHEAD": 4, "REQUEST_ID_REUSED": 5,
        "ALREADY_SUBSCRIBED": 6, "UNKNOWN_NUMBER": 7, "NOT_OPERATOR": 10, "UNKNOWN_ASSET": 11, "NOT_ISSUER": 12,
        "ASSET_REFUSED": 13, "ASSET_CODE_TAKEN": 14, "TOO_MANY_ASSETS": 15, "ZERO_AMOUNT": 16, "NOT_PAYER": 20,
        "ALREADY_OPEN": 21, "FLAGS_UNKNOWN": 22, "WINDOW_OUT_OF_BOUNDS": 23, "BATCH_OUT_OF_BOUNDS": 24,
        "DEPOSIT_TOO_SMALL": 25, "KEY_REFUSED": 26, "BAD_CONSENT_SIGNATURE": 27, "UNKNOWN_CHANNEL": 40,
        "NOT_A_PARTY": 41, "NOT_ONE_WAY": 42, "ALREADY_SETTLED": 43, "NOT_CLOSING": 44, "DEADLINE_PASSED": 45,
        "DEADLINE_NOT_REACHED": 46, "EXPIRED_AGREEMENT": 47, "NO_STATE": 48, "RESERVED_FIELD": 49, "UNSOUND_HALF": 50,
        "BAD_STATE_SIGNATURE": 51, "BAD_FINAL_SIGNATURE": 52, "BAD_WITHDRAW_SIGNATURE": 53, "NOT_HIGHER": 54,
        "BEYOND_POT": 55, "INSUFFICIENT_FUNDS": 60, "OVERFLOW": 61,
    }  # fmt: skip
    assert {outcome.name: outcome.value for outcome in Outcome} == expected
    assert list(Outcome) == sorted(Outcome)


def test_every_outcome_explains_itself_in_one_line():
    explanations = [outcome.explanation for outcome in Outcome]
    assert len(set(explanations)) == len(explanations)
    assert all(text and "\n" not in text for text in explanations)


def test_a_refusal_names_itself_and_gives_its_details():
    refusal = LedgerRefused(Outcome.ALREADY_SETTLED)
    assert str(refusal) == "already-settled: the channel is settled; nothing changes it any more"
    assert LedgerRefused(Outcome.BEYOND_POT, "it holds 3").text == "it holds 3"
    with pytest.raises(ValueError):
        Outcome(8)
