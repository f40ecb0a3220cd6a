"""The arithmetic of the summary."""

import json

import pytest

from channelpay.services.demo.summary import Check, Summary, card_cost_units, percentile


def summary(**changed):
    facts = {
        "file": "song.flac", "file_bytes": 1_280_000, "sha256": "ab" * 32, "pieces": 5000, "payments": 5000,
        "seconds": 2.5, "median_ms": 3.25, "p99_ms": 9.5, "wire_bytes": 150_000, "ledger_transactions": 2, "kills": 0,
        "unknown": 0, "found_paid": 0, "checks": (Check("copy identical", True, "SHA-256 abab"),),
    }  # fmt: skip
    return Summary(**(facts | changed))


@pytest.mark.parametrize(
    ("values", "per_cent", "expected"),
    [
        ([], 50, 0.0),
        ([7.0], 50, 7.0),
        ([7.0], 99, 7.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([4.0, 3.0, 1.0, 2.0], 50, 2.0),
        ([float(value) for value in range(100, 0, -1)], 99, 99.0),
        ([float(value) for value in range(1, 201)], 99, 198.0),
        ([1.0, 2.0], 100, 2.0),
    ],
)
def test_percentiles_are_values_that_occurred(values, per_cent, expected):
    assert percentile(values, per_cent) == expected


@pytest.mark.parametrize(
    ("payments", "total", "cost"),
    [
        (1, 100, 300_003),  # 0.30 USD and 2.9 units, rounded up
        (1, 1_000_000, 329_000),  # 1 USD: 0.329 USD
        (5000, 500_000, 1_500_014_500),
        (0, 0, 0),
    ],
)
def test_what_a_card_would_have_cost(payments, total, cost):
    assert card_cost_units(payments, total) == cost


def test_derived_numbers():
    it = summary()
    assert it.total_units == 500_000
    assert it.payments_per_second == 2000
    assert it.wire_bytes_per_payment == 30
    assert it.ledger_transactions_per_payment == 0.0004
    nothing = summary(payments=0, seconds=0.0)
    assert (nothing.payments_per_second, nothing.wire_bytes_per_payment) == (0, 0)
    assert nothing.ledger_transactions_per_payment == 0


def test_it_is_ok_only_if_every_check_holds():
    good, bad = Check("a", True, ""), Check("b", False, "")
    assert summary(checks=(good, good)).ok
    assert not summary(checks=(good, bad, good)).ok


def test_for_programs():
    told = json.loads(json.dumps(summary().as_json()))
    assert told["ok"] is True
    assert told["price"] == {"units": "100", "text": "0.000100 USD"}
    assert told["total"] == {"units": "500000", "text": "0.500000 USD"}
    assert told["card_cost"] == {"units": "1500014500", "text": "1500.014500 USD"}
    assert told["latency_ms"] == {"median": 3.25, "p99": 9.5}
    assert told["file"] == {"name": "song.flac", "bytes": 1_280_000, "sha256": "ab" * 32}
    assert told["checks"] == [{"name": "copy identical", "holds": True, "detail": "SHA-256 abab"}]
    assert (told["ledger_transactions_per_payment"], told["wire_bytes_per_payment"]) == (0.0004, 30.0)


def test_for_people():
    lines = summary(checks=(Check("one", True, "fine"), Check("two", False, "too little"))).as_lines()
    text = "\n".join(lines)
    assert "5,000 of 0.000100 USD each" in text
    assert "2,000 payments/s (2.50 s)" in text
    assert "3.2 ms median, 9.5 ms 99th percentile" in text
    assert "1500.014500 USD" in text
    assert "killed" not in text
    assert lines[-2:] == ["ok             one: fine", "FAILED         two: too little"]


def test_kills_are_told_with_what_became_of_unknown_payments():
    killed = summary(kills=2, unknown=12, found_paid=9)
    assert any("2 daemons; 12 payments were unknown: 9 had been paid, 3 were" in line for line in killed.as_lines())
    assert killed.as_json()["unknown_payments"] == {"count": 12, "had_been_paid": 9, "paid_again": 3}
