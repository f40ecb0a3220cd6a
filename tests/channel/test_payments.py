"""Paying: the queue, flushes, limits, batches, and the balance to the unit."""

import pytest

import ledger_world
from channel_pair import LIMITS, Pair
from channelpay.batches import pack_record, parse_memos
from channelpay.channel import channel as step
from channelpay.channel import payments
from channelpay.channel.effects import Effects, FailedNote, PaidNote, Queued
from channelpay.channel.state import ReceiveLimits
from channelpay.errors import LocalError, Reason
from channelpay.limits import FLUSH_BATCHES, MAX_MEMOS_BYTES, MAX_QUEUED_PAYMENTS, MAX_UNITS, RECORD_BYTES
from channelpay.messages import peer
from channelpay.statements import FLAG_ONE_WAY


def limited(max_unacked: int = 1000, value: int = 100_000, least: int = 1) -> tuple[ReceiveLimits, ReceiveLimits]:
    return ReceiveLimits(max_unacked, value, least), LIMITS


def test_one_payment_is_one_pay_and_one_ack() -> None:
    pair = Pair().open()
    (item,) = pair.a.pay(5)
    pair.run()
    pair.check_agree()
    assert [type(m) for m in pair.a.sent[-1:] + pair.b.sent[-1:]] == [peer.Pay, peer.Ack]
    assert pair.a.paid() == [item]
    assert item.first_n == 1
    assert (pair.a.c.own_balance(), pair.b.c.own_balance()) == (995, 505)


def test_what_waits_leaves_as_one_batch() -> None:
    pair = Pair().open()
    for amount in range(1, 21):
        pair.a.pay(amount, advance=False)
    pair.a.advance()
    assert len([m for m in pair.a.sent if isinstance(m, peer.Pay)]) == 1
    pair.run()
    assert pair.b.disk.payments(0) == [(n, n) for n in range(1, 21)]
    assert len(pair.a.paid()) == 20


def test_several_pays_under_way_are_acknowledged_by_one_ack() -> None:
    pair = Pair().open()
    for _ in range(5):
        pair.a.pay(10)
    before = len(pair.b.sent)
    pair.b.deliver()
    (ack,) = pair.b.sent[before:]
    assert ack.n == 5
    pair.run()
    pair.check_agree()
    assert len(pair.a.paid()) == 5


def test_both_pay_at_once_and_a_pay_replaces_the_ack() -> None:
    pair = Pair().open()
    for _ in range(3):
        pair.a.pay(10)
        pair.b.pay(7)
    pair.b.pay(1, advance=False)
    before = len(pair.b.sent)
    pair.b.deliver()
    (replaced,) = pair.b.sent[before:]
    assert isinstance(replaced, peer.Pay)
    assert replaced.ack_n == 3
    pair.run()
    pair.check_agree()
    assert pair.a.c.own_balance() == 1000 - 30 + 22


def test_money_received_can_be_paid_back_at_once() -> None:
    pair = Pair(deposits=(100, 0)).open()
    for _ in range(5):
        pair.a.pay(100)
        pair.run()
        pair.b.pay(100)
        pair.run()
    pair.check_agree()
    assert (pair.a.c.own.total, pair.b.c.own.total) == (500, 500)


def test_the_balance_is_spent_to_the_unit() -> None:
    pair = Pair(deposits=(100, 0)).open()
    with pytest.raises(LocalError, match="101 units to pay, 100 units left") as refusal:
        pair.a.pay(101)
    assert refusal.value.reason is Reason.INSUFFICIENT_BALANCE
    pair.a.pay(40, advance=False)
    with pytest.raises(LocalError, match="61 units to pay, 60"):
        pair.a.pay(61)
    pair.a.pay(60)
    pair.run()
    pair.check_agree()
    assert pair.a.c.own_balance() == 0
    with pytest.raises(LocalError):
        pair.a.pay(1)


def test_all_or_nothing_of_one_call_is_queued() -> None:
    pair = Pair(deposits=(100, 0), max_batch=1).open()
    with pytest.raises(LocalError):
        pair.a.pay(50, 51)
    assert not pair.a.c.queue
    assert pair.a.c.queued_total == pair.a.c.queued_count == 0
    assert pair.a.c.spendable() == 100


def test_max_batch_1_signs_every_payment() -> None:
    pair = Pair(max_batch=1).open()
    pair.a.pay(1, 2, 3)
    assert [m.first_n for m in pair.a.sent if isinstance(m, peer.Pay)] == [1, 2, 3]
    pair.run()
    pair.check_agree()


def test_the_unacknowledged_count_stays_within_the_peers_limit() -> None:
    pair = Pair(limits=(LIMITS, limited(max_unacked=3)[0])).open()
    pair.a.pay(1, 1, 1)
    pair.a.pay(1, 1)
    assert pair.a.c.own.n == 3
    assert pair.a.c.queued_count == 2
    pair.run()
    assert pair.a.c.own.n == 5
    pair.check_agree()


def test_the_unacknowledged_value_stays_within_the_peers_limit() -> None:
    pair = Pair(limits=(LIMITS, limited(value=10)[0])).open()
    pair.a.pay(6)
    pair.a.pay(5)
    assert pair.a.c.own.n == 1
    pair.run()
    assert pair.a.c.own.total == 11
    pair.check_agree()
    with pytest.raises(LocalError, match="above the 10 units") as refusal:
        pair.a.pay(11)
    assert refusal.value.reason is Reason.ABOVE_LIMIT


def test_payments_below_the_peers_minimum_are_refused_here() -> None:
    pair = Pair(limits=(LIMITS, limited(least=5)[0])).open()
    pair.a.pay(5)
    with pytest.raises(LocalError, match="at least 5 units") as refusal:
        pair.a.pay(9, 4)
    assert refusal.value.reason is Reason.BELOW_MINIMUM


def test_party_1_of_a_one_way_channel_does_not_pay() -> None:
    pair = Pair(FLAG_ONE_WAY, deposits=(100, 0)).open()
    with pytest.raises(LocalError) as refusal:
        pair.b.pay(1)
    assert refusal.value.reason is Reason.ONE_WAY


def test_a_stale_reading_stops_paying() -> None:
    pair = Pair().open()
    pair.a.pay(1, advance=False)
    pair.a.stale = True
    pair.a.advance()
    assert pair.a.c.own.n == 0
    with pytest.raises(LocalError) as refusal:
        pair.a.pay(1)
    assert refusal.value.reason is Reason.STALLED
    pair.a.stale = False
    pair.a.advance()
    pair.run()
    pair.check_agree()


def test_payments_queue_while_the_peer_is_away() -> None:
    pair = Pair().open()
    pair.cut()
    pair.a.pay(1)
    pair.a.pay(2)
    assert pair.a.c.own.n == 0
    pair.reconnect()
    pair.check_agree()
    assert len([m for m in pair.a.sent if isinstance(m, peer.Pay)]) == 1


def test_the_queue_is_bounded() -> None:
    pair = Pair(deposits=(10**6, 0), limits=(LIMITS, limited(MAX_QUEUED_PAYMENTS, 10**9)[0])).open()
    pair.cut()
    pair.a.pay(*[1] * MAX_QUEUED_PAYMENTS)
    with pytest.raises(LocalError) as refusal:
        pair.a.pay(1)
    assert refusal.value.reason is Reason.QUEUE_FULL


def test_before_and_after_open_nothing_is_queued() -> None:
    pair = Pair()
    with pytest.raises(LocalError) as refusal:
        pair.a.pay(1)
    assert refusal.value.reason is Reason.NOT_OPEN
    pair.open()
    pair.a.close()
    with pytest.raises(LocalError) as refusal:
        pair.a.pay(1)
    assert refusal.value.reason is Reason.CLOSING


def test_a_forgotten_withdrawal_fails_the_newest_of_the_queue() -> None:
    pair = Pair(deposits=(100, 0)).open()
    pair.cut()
    first, second = *pair.a.pay(50), *pair.a.pay(50)
    agreement = pair.time + 60
    world_withdraw(pair, 0, 30, agreement)
    pair.a.read()
    pair.reconnect()
    assert pair.a.failed() == [second]
    assert pair.a.paid() == [first]
    assert pair.a.c.queued_total == 0
    pair.b.read()
    pair.check_agree()


def world_withdraw(pair: Pair, party: int, total: int, expiry: int) -> None:
    pair.execute(b"", ledger_world.withdrawal(pair.terms.channel_id(), party, total, expiry))


def test_the_counter_never_passes_its_last_number() -> None:
    pair = Pair(deposits=(100, 0)).open()
    pair.a.c.own = pair.a.c.own._replace(n=1, total=MAX_UNITS - 50)
    pair.a.c.peer = pair.a.c.peer._replace(n=1, total=MAX_UNITS - 50)
    with pytest.raises(LocalError, match="close it and open another"):
        pair.a.pay(51)


# --- Splitting -----------------------------------------------------------------------------------


def test_a_large_call_is_cut_into_batches() -> None:
    pair = Pair(max_batch=10, limits=(LIMITS, limited(max_unacked=4, value=12)[0])).open()
    items = pair.a.pay(*[5, 5, 5, 12, 1, 1, 1, 1, 1])
    assert sum(item.count for item in items) == 9
    assert all(item.count <= 4 and item.total <= 12 for item in items)
    pair.run()
    pair.check_agree()
    assert [amount for _, amount in pair.b.disk.payments(0)] == [5, 5, 5, 12, 1, 1, 1, 1, 1]


def test_memos_stay_with_their_payments_and_within_their_bound() -> None:
    pair = Pair().open()
    memos = [(index, bytes([index % 250 + 1]) * 256) for index in range(0, 300, 2)]
    items = pair.a.pay(*[1] * 300, memos=memos)
    assert len(items) == 3
    pair.run()
    found = {p.n - 1: p.memo for entry in pair.b.disk.batches(0) for p in entry.batch.payments() if p.memo}
    assert found == dict(memos)
    assert all(len(entry.batch.memos) <= MAX_MEMOS_BYTES for entry in pair.b.disk.batches(0))


def test_memos_of_many_callers_share_a_batch_as_far_as_they_fit() -> None:
    pair = Pair().open()
    for _ in range(70):
        pair.a.pay(1, advance=False, memos=[(0, b"m" * 256)])
    pair.a.advance()
    sent = [m for m in pair.a.sent if isinstance(m, peer.Pay)]
    assert len(sent) == 2
    assert [index for index, _ in parse_memos(sent[0].memos, 4096)] == list(range(len(sent[0].records) // RECORD_BYTES))
    pair.run()
    pair.check_agree()


@pytest.mark.parametrize(
    ("records", "memos"),
    [
        (b"", []),
        (b"x" * 23, []),
        (bytes(24), []),
        (pack_record(1), [(1, b"beyond")]),
        (b"\xff" * 24, []),
    ],
)
def test_what_is_no_payment_is_refused_before_it_is_queued(records: bytes, memos: list[tuple[int, bytes]]) -> None:
    with pytest.raises(LocalError) as refusal:
        payments.split_payments(Pair().open().a.c, records, memos)
    assert refusal.value.reason is Reason.USAGE


@pytest.mark.parametrize("memo", [b"", b"x" * 257])
def test_a_memo_that_no_batch_carries_is_refused_before_it_is_queued(memo: bytes) -> None:
    pair = Pair().open()
    with pytest.raises(LocalError) as refusal:
        pair.a.pay(1, memos=[(0, memo)])
    assert refusal.value.reason is Reason.USAGE
    assert not pair.a.c.queue


# --- What callers are told ------------------------------------------------------------------------


def test_every_item_is_told_once_over_crashes_of_the_peer_and_cuts() -> None:
    pair = Pair().open()
    items = pair.a.pay(1) + pair.a.pay(2)
    pair.b.deliver()
    pair.b.crash()
    items += pair.a.pay(3)
    pair.reconnect()
    pair.reconnect()
    assert pair.a.paid() == items
    assert not [note for note in pair.a.notes if isinstance(note, FailedNote)]
    assert pair.b.disk.payments(0) == [(1, 1), (2, 2), (3, 3)]


def test_an_item_is_told_in_the_step_that_brought_its_acknowledgement() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.b.deliver()
    fx = pair.a.receive(pair.a.inbox.popleft())
    assert [note for note in fx.notes if isinstance(note, PaidNote)]
    assert fx.receipt
    assert not fx.save_hot


def test_one_step_takes_so_many_batches_and_says_that_there_are_more() -> None:
    pair = Pair(max_batch=1).open()
    for _ in range(FLUSH_BATCHES + 3):
        payments.enqueue(pair.a.c, [Queued(pack_record(1), 1, 1, [])], stale=False)
    fx = Effects()
    step.advance(pair.a.c, pair.a.now(), fx)
    assert fx.again
    assert len(fx.messages) == FLUSH_BATCHES
    fx = Effects()
    step.advance(pair.a.c, pair.a.now(), fx)
    assert not fx.again
    assert len(fx.messages) == 3


def test_a_receipt_that_was_not_saved_comes_again() -> None:
    pair = Pair().open()
    items = pair.a.pay(5)
    pair.b.deliver()
    pair.a.receive(pair.a.inbox.popleft())
    assert pair.a.paid() == list(items)
    assert pair.a.disk.owes_receipt
    pair.a.crash()
    assert pair.a.c.acked.n == 0
    pair.reconnect()
    assert pair.a.c.acked.n == 1
    assert pair.b.disk.payments(0) == [(1, 5)]


def test_paying_costs_no_more_with_many_payments_under_way() -> None:
    """An ACK takes off what it acknowledges and looks at nothing else."""
    pair = Pair(max_batch=1, limits=(LIMITS, limited(100_000, 10**9)[0]), deposits=(10**6, 0)).open()
    pair.a.pay(*[1] * 2000)
    pair.b.deliver(1)
    ack = pair.a.inbox.popleft()

    class Counting(dict):  # type: ignore[type-arg]
        touched = 0

        def __getitem__(self, key: int) -> object:
            Counting.touched += 1
            return super().__getitem__(key)

        def __setitem__(self, key: int, value: object) -> None:
            Counting.touched += 1
            super().__setitem__(key, value)

        def pop(self, *args: object) -> object:
            Counting.touched += 1
            return super().pop(*args)

    pair.a.c.boundaries = Counting(pair.a.c.boundaries)
    unacked = pair.a.c.unacked
    pair.a.receive(ack)
    assert pair.a.c.unacked is unacked
    assert len(unacked) == 1999
    assert Counting.touched <= 5
