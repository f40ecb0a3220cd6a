"""Payments that are asked for between two writes leave as one frame, in order, and every task gets its own answer."""

import pytest
import trio
import trio.testing

from channelpay.batches import NO_ID, Batch
from channelpay.errors import LocalError, Reason
from channelpay.limits import MAX_BATCH, MAX_MEMO_BYTES
from channelpay.services.exceptions import NotReachable
from channelpay.services.gathering import Gathering

CHANNEL, OTHER = b"c" * 32, b"o" * 32


class Sender:
    """Takes what was gathered when the test says so."""

    def __init__(self, max_in_flight=4096):
        self.woken = 0
        self.gathering = Gathering(self._wake, max_in_flight)
        self.answers = {}

    def _wake(self):
        self.woken += 1

    async def pay(self, name, amount=1, payment_id=NO_ID, memo=b"", channel=CHANNEL):
        try:
            self.answers[name] = await self.gathering.pay(channel, amount, payment_id, memo)
        except NotReachable as error:
            self.answers[name] = error


@pytest.fixture
def sender():
    return Sender()


async def test_one_frame_for_all_that_came_and_an_answer_for_each(sender, nursery):
    for amount in range(1, 4):
        nursery.start_soon(sender.pay, amount, amount, b"i" * 15 + bytes([amount]), b"m" * (amount - 1))
        await trio.testing.wait_all_tasks_blocked()
    assert sender.woken == 1
    (run,) = sender.gathering.take()
    message = run.message(40)
    assert (message.call_id, message.channel_id) == (40, CHANNEL)
    payments = list(Batch(1, message.records, message.memos).payments())
    assert [(p.amount, p.payment_id[-1], p.memo) for p in payments] == [(1, 1, b""), (2, 2, b"m"), (3, 3, b"mm")]
    assert sender.gathering.take() == []
    sender.gathering.put(run.waiting[1], LocalError(Reason.CLOSING, "no"))
    sender.gathering.paid(run.waiting[2:], 8, 1)
    sender.gathering.paid(run.waiting[:1], 7, 0)
    await trio.testing.wait_all_tasks_blocked()
    assert (sender.answers[1], sender.answers[3]) == ((7, 0), (8, 1))
    assert sender.answers[2].reason is Reason.CLOSING


async def test_channels_and_full_runs_have_frames_of_their_own(nursery):
    sender = Sender(max_in_flight=MAX_BATCH + 2)
    for _ in range(MAX_BATCH + 1):
        nursery.start_soon(sender.pay, "many")
    nursery.start_soon(sender.pay, "other", 1, NO_ID, b"", OTHER)
    await trio.testing.wait_all_tasks_blocked()
    runs = sender.gathering.take()
    assert sorted((run.channel_id, len(run.waiting)) for run in runs) == [
        (CHANNEL, 1), (CHANNEL, MAX_BATCH), (OTHER, 1),
    ]  # fmt: skip
    for run in runs:
        sender.gathering.paid(run.waiting, 1, 0)


async def test_memos_fill_a_run_before_its_payments_do(sender, nursery):
    for _ in range(100):
        nursery.start_soon(sender.pay, "x", 1, NO_ID, b"m" * MAX_MEMO_BYTES)
    await trio.testing.wait_all_tasks_blocked()
    runs = sender.gathering.take()
    assert len(runs) == 2
    assert sum(len(run.waiting) for run in runs) == 100
    for run in runs:
        assert len(run.message(1).memos) <= 16 * 1024
        sender.gathering.paid(run.waiting, 1, 0)


async def test_without_room_a_payment_waits_and_a_cancelled_one_keeps_its_place(nursery):
    sender = Sender(max_in_flight=2)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as inner:
            inner.start_soon(sender.pay, "cancelled")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    nursery.start_soon(sender.pay, "second")
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(sender.pay, "third")
    await trio.testing.wait_all_tasks_blocked()
    (run,) = sender.gathering.take()
    assert len(run.waiting) == 2, "the cancelled one leaves all the same, the third waits"
    sender.gathering.paid(run.waiting, 1, 0)
    await trio.testing.wait_all_tasks_blocked()
    assert sender.answers == {"second": (2, 0)}
    (run,) = sender.gathering.take()
    sender.gathering.paid(run.waiting, 3, 0)
    await trio.testing.wait_all_tasks_blocked()
    assert sender.answers["third"] == (3, 0)


async def test_after_the_end_what_has_not_left_was_never_paid(nursery):
    sender = Sender(max_in_flight=1)
    nursery.start_soon(sender.pay, "gathered")
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(sender.pay, "without room")
    await trio.testing.wait_all_tasks_blocked()
    sender.gathering.close("gone")
    await trio.testing.wait_all_tasks_blocked()
    assert {name: str(error) for name, error in sender.answers.items()} == {"gathered": "gone", "without room": "gone"}
