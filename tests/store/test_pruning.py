"""Old records go, in small steps; what later ones rest on, and what is not acknowledged, stays. Spec N-32."""

from __future__ import annotations

from itertools import pairwise

import pytest

from channelpay.channel.saved import pack_cold, pack_hot
from channelpay.channel.state import Channel, Held, Phase
from channelpay.crypto import sha256
from channelpay.errors import StoreFailed
from channelpay.limits import PRUNE_MARK_S
from channelpay.messages.control import ENTRY_PAYMENTS
from channelpay.node.ready import Persist
from channelpay.statements import ZERO_HALF, Half
from channelpay.store import pruning
from node_store import Fixture, records

HOUR = PRUNE_MARK_S
KEEP = 25 * HOUR


@pytest.fixture
def fixture(tmp_path):
    made = Fixture(tmp_path)
    yield made
    made.store.close()


def acknowledge(fixture: Fixture, c: Channel) -> None:
    """All that this node has paid so far is acknowledged, and on disk as such."""
    c.own = fixture.halves.get((c.channel_id, c.side), ZERO_HALF)
    c.peer = fixture.halves.get((c.channel_id, 1 - c.side), ZERO_HALF)
    c.held = Held(c.own, c.peer, bytes(64))
    fixture.store.commit(Persist(hot=[(c.channel_id, pack_hot(c))]))


def prune(fixture: Fixture, now: int) -> int:
    """Until there is nothing more to prune; how many steps."""
    steps = 1
    while fixture.store.prune(now, KEEP):
        steps += 1
    return steps


def count(fixture: Fixture, what: str = "count(*)") -> int:
    (found,) = fixture.store._db.row(f"SELECT {what} FROM batches")
    return found or 0


def pay_both_ways(fixture: Fixture, c: Channel, times: int = 10) -> None:
    for _ in range(times):
        fixture.journal(fixture.entry(c, 0, records(2, 3)), fixture.entry(c, 1, records(4)))


def test_what_is_old_goes_and_what_is_new_stays(fixture):
    c = fixture.channel(0)
    prune(fixture, HOUR)
    pay_both_ways(fixture, c)
    acknowledge(fixture, c)
    prune(fixture, 10 * HOUR)
    pay_both_ways(fixture, c)
    acknowledge(fixture, c)
    prune(fixture, 20 * HOUR)
    before = fixture.all_rows()
    assert prune(fixture, 10 * HOUR + KEEP - 1) == 1
    assert count(fixture) == 40, "not old enough yet"
    prune(fixture, 10 * HOUR + KEEP)
    for _ in range(2):
        store = fixture.store
        assert count(fixture) == 20
        assert (store.received, store.kept_from) == (20, 10)
        assert [store.kept_n(c.channel_id, payer) for payer in (0, 1)] == [21, 11]
        assert fixture.all_rows() == before[10:], "the same positions, numbers and totals"
        assert store.batches(c.channel_id, 0, 1) == [], "a RECALL is answered by none"
        assert [batch.first_n for batch in store.batches(c.channel_id, 0, 21)] == list(range(21, 41, 2))
        assert [b.first_n for b in store.batches(c.channel_id, 1, 1, over_gaps=True)] == list(range(11, 21))
        (again,) = store.channels(fixture.keys)
        assert not again.unacked
        assert again.recent[0] == (11, Half(10, 40, sha256(records(4))), Half(11, 44, sha256(records(4))))
        fixture.reopen()


def test_when_all_is_old_numbers_and_totals_go_on(fixture):
    c = fixture.channel(0)
    for day in range(6):
        prune(fixture, day * KEEP)
        pay_both_ways(fixture, c)
        acknowledge(fixture, c)
        prune(fixture, day * KEEP + HOUR)
        if day > 1:
            assert count(fixture) <= 40, "two days at most"
    prune(fixture, 9 * KEEP)
    assert count(fixture) == 0
    fixture.reopen()
    assert fixture.store.received == 60
    fixture.journal(fixture.entry(c, 1, records(7)))
    row = fixture.all_rows()[-1]
    assert (row.position, row.kind, row.first_n, row.total) == (60, ENTRY_PAYMENTS, 61, 7)


def test_what_is_not_acknowledged_is_kept(fixture):
    c = fixture.channel(0)
    pay_both_ways(fixture, c, 5)
    acknowledge(fixture, c)
    pay_both_ways(fixture, c, 5)
    prune(fixture, HOUR)
    prune(fixture, HOUR + KEEP)
    prune(fixture, 9 * KEEP)
    (again,) = fixture.reopen().channels(fixture.keys)
    assert [sent.batch.first_n for sent in again.unacked] == [11, 13, 15, 17, 19]
    assert fixture.store.kept_n(c.channel_id, 0) == 11
    acknowledge(fixture, c)
    pay_both_ways(fixture, c, 1)
    acknowledge(fixture, c)
    fixture.journal(fixture.entry(fixture.channel(0), 0, records(1)))
    prune(fixture, 10 * KEEP)
    prune(fixture, 12 * KEEP)
    assert count(fixture, "sum(channel = 1 AND payer = 0 AND records IS NOT NULL)") == 0


def test_of_a_settled_channel_no_payment_stays(fixture):
    c, other = fixture.channel(0), fixture.channel(1)
    pay_both_ways(fixture, c)
    c.phase = Phase.SETTLED
    fixture.store.commit(Persist(cold=[(c.channel_id, pack_cold(c))]))
    fixture.journal(fixture.entry(other, 0, records(1)))
    prune(fixture, HOUR)
    prune(fixture, HOUR + KEEP)
    assert count(fixture) == 0
    (again, _) = fixture.reopen().channels(fixture.keys)
    assert again.phase is Phase.SETTLED
    assert fixture.store.received == 11


def test_a_step_is_small(fixture, monkeypatch):
    monkeypatch.setattr(pruning, "PRUNE_STEP_BATCHES", 4)
    c = fixture.channel(0)
    pay_both_ways(fixture, c)
    acknowledge(fixture, c)
    prune(fixture, HOUR)
    left = [count(fixture)]
    while fixture.store.prune(HOUR + KEEP, KEEP):
        left.append(count(fixture))
        pay_both_ways(fixture, c, 1)  # payments go on in between
    assert all(0 <= a + 2 - b <= 4 for a, b in pairwise(left[1:]))
    monkeypatch.setattr(pruning, "PRUNE_STEP_BATCHES", 256)
    monkeypatch.setattr(pruning, "PRUNE_STEP_BYTES", 60)
    acknowledge(fixture, c)
    prune(fixture, 2 * KEEP)
    before = count(fixture)
    assert fixture.store.prune(3 * KEEP, KEEP)
    assert before - count(fixture) <= 2, "two batches of 24 and 48 bytes are more than 60"


def test_the_file_does_not_keep_growing(fixture):
    c = fixture.channel(0)
    sizes = []
    for day in range(8):
        prune(fixture, day * KEEP)
        fixture.journal(*(fixture.entry(c, 1, records(*[1] * 1000)) for _ in range(40)))
        prune(fixture, day * KEEP + HOUR)
        sizes.append(fixture.store._db.row("PRAGMA page_count")[0])
    assert sizes[-1] <= sizes[3] + 2, sizes


def test_a_clock_that_went_back_prunes_nothing(fixture):
    c = fixture.channel(0)
    prune(fixture, 10 * KEEP)
    pay_both_ways(fixture, c)
    prune(fixture, 2 * KEEP)
    prune(fixture, 3 * KEEP)
    assert count(fixture) == 20
    assert fixture.all_rows()


def test_a_full_disk_while_pruning_is_the_end(fixture):
    c = fixture.channel(0)
    pay_both_ways(fixture, c)
    prune(fixture, HOUR)
    fixture.store._db.run("PRAGMA query_only = ON")
    with pytest.raises(StoreFailed):
        fixture.store.prune(HOUR + KEEP, KEEP)
    with pytest.raises(StoreFailed):
        fixture.store.commit(Persist(next_key_index=1))


def test_a_wall_clock_that_leaps_makes_nothing_old(fixture):
    c = fixture.channel(0)
    store = fixture.store
    assert store.pruning_clock(100 * HOUR) == 100 * HOUR, "a new store has nothing that could be old"
    prune(fixture, 100 * HOUR)
    pay_both_ways(fixture, c)
    acknowledge(fixture, c)
    store = fixture.reopen()
    assert store.pruning_clock(100 * HOUR + 60) == 100 * HOUR + 60
    assert store.pruning_clock(99_999 * HOUR) == 101 * HOUR, "nobody saw that time pass"
    assert store.pruning_clock(1 * HOUR) == 100 * HOUR, "and it does not go back"
    for _ in range(3):
        prune(fixture, store.pruning_clock(99_999 * HOUR))
        store = fixture.reopen()
    assert count(fixture) == 20
    assert store.pruning_clock(99_999 * HOUR) == 104 * HOUR
