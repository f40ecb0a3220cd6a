"""Joins, payouts, deadlines: small numbers, all orders."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay.ledger.books import ChannelRow
from channelpay.ledger.disputes import clamp, extended_deadline, join, share_of_party1
from channelpay.messages.ledger import CLOSING, OPEN, SETTLED
from channelpay.statements import ZERO_HALF, Half
from ledger_world import ALICE, BOB, KEY0, KEY1, USD, half

ROW = ChannelRow(
    bytes(32), USD, KEY0.public, KEY1.public, ALICE.public, BOB.public, bytes(32), 0, 100, 16, OPEN, 100, 50, 2, 2
)  # fmt: skip

halves = st.builds(
    lambda n, extra, h: Half(n, n + extra, bytes([h]) * 32) if n else ZERO_HALF,
    st.integers(0, 4), st.integers(0, 3), st.integers(0, 2),
)  # fmt: skip


@given(halves, halves, halves)
def test_a_join_does_not_depend_on_the_order_of_arrival(a, b, c):
    results = {join(join(x, y).half, z).half for x, y, z in permutations((a, b, c))}
    assert len(results) == 1
    (joined,) = results
    assert (joined.n, joined.h) == max((x.n, x.h) for x in (a, b, c))
    assert joined.total == max(x.total for x in (a, b, c))
    assert join(joined, a).half == joined


@given(halves, halves)
def test_ordered_halves_are_no_equivocation(a, b):
    ordered = a == b or (a.n < b.n and a.total <= b.total) or (b.n < a.n and b.total <= a.total)
    if ordered:
        assert join(a, b) == (max(a, b, key=lambda x: x.n), False)


def test_a_lower_total_under_a_higher_number_is_equivocation_whichever_came_first():
    old, new = half(5, 100), half(7, 50)
    assert join(old, new) == (new._replace(total=100), True)
    assert join(new, old) == (new._replace(total=100), True)
    again = join(old, new).half
    assert not join(again, old).equivocation
    assert not join(again, new).equivocation


def test_two_histories_of_the_same_length_are_equivocation():
    one, two = sorted((half(5, 100, "a"), half(5, 100, "b")), key=lambda x: x.h)
    assert join(one, two) == (two, True)
    assert join(two, one) == (two, False)  # nothing changes, nothing is logged


@pytest.mark.parametrize(
    ("paid0", "paid1", "withdrawn0", "withdrawn1", "share"),
    [
        (0, 0, 0, 0, 50),
        (30, 0, 0, 0, 80),
        (0, 50, 0, 0, 0),
        (30, 10, 0, 0, 70),
        (30, 10, 20, 40, 30),
        (1000, 0, 0, 0, 150),  # beyond the pot: all of it
        (0, 1000, 0, 0, 0),  # below zero: none of it
        (0, 0, 0, 90, 0),  # withdrawn more than its deposit
        (100, 0, 149, 0, 1),
    ],
)
def test_the_share_of_party_1(paid0, paid1, withdrawn0, withdrawn1, share):
    row = ROW._replace(
        half0=half(1, paid0) if paid0 else ZERO_HALF, half1=half(1, paid1) if paid1 else ZERO_HALF,
        withdrawn0=withdrawn0, withdrawn1=withdrawn1,
    )  # fmt: skip
    assert share_of_party1(row) == share


@given(st.integers(0, 2**62), st.integers(0, 2**62), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_the_share_is_within_the_pot_at_any_size(deposit0, deposit1, paid0, paid1):
    row = ROW._replace(deposit0=deposit0, deposit1=deposit1, half0=Half(1, paid0), half1=Half(1, paid1))
    share = share_of_party1(row)
    assert 0 <= share <= row.pot
    if 0 <= deposit1 - paid1 + paid0 <= row.pot:
        assert share == deposit1 - paid1 + paid0


def test_a_settled_channel_holds_nothing():
    assert ROW.pot == 150
    assert ROW._replace(status=SETTLED, out0=100, out1=50).pot == 0


def test_clamp():
    assert [clamp(value, 0, 10) for value in (-1, 0, 5, 10, 11)] == [0, 0, 5, 10, 10]


@pytest.mark.parametrize(
    ("window_s", "deadline", "now", "expected"),
    [
        (100, 1050, 1000, 1100),  # 50 s were left, the outage gives the whole window again
        (100, 900, 1000, 1100),  # it had run out during the outage
        (5000, 900, 1000, 1600),  # no more than the grace
        (5000, 3000, 1000, 3000),  # enough was left
    ],
)
def test_the_deadline_after_an_outage(window_s, deadline, now, expected):
    assert extended_deadline(ROW._replace(status=CLOSING, window_s=window_s, deadline=deadline), now) == expected
