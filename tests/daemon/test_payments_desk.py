"""Payments through the desk: every caller gets one answer, an id pays once."""

from __future__ import annotations

import pytest
import trio

from channelpay.batches import NO_ID, pack_memos, pack_record
from channelpay.daemon import payments as desk
from channelpay.errors import LocalError, Reason
from channelpay.messages import control
from channelpay.messages.control import PAYMENT_PAID, PAYMENT_QUEUED, PAYMENT_SENT, PAYMENT_UNKNOWN
from channelpay.messages.peer import Ack, Pay
from daemon_rig import connect, open_channel, rigs

NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def _still_wall_clock(monkeypatch):
    monkeypatch.setattr(desk, "wall_time", lambda: float(NOW))


def new_id(n: int, at: float = NOW) -> bytes:
    return int(at * 1000).to_bytes(6, "big") + n.to_bytes(10, "big")


def many(channel_id: bytes, *payments: tuple[int, bytes], memos: bytes = b"") -> control.PayMany:
    return control.PayMany(9, channel_id, b"".join(pack_record(*payment) for payment in payments), memos)


async def refused(awaitable) -> LocalError:
    with pytest.raises(LocalError) as caught:
        await awaitable
    return caught.value


async def test_a_payment_is_answered_once_the_payee_holds_it(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        assert await a.pay(5, memo=b"tea") == control.Paid(7, 1, 1, 0)
        assert await a.pay(6) == control.Paid(7, 2, 1, 0)
        assert b.received() == [5, 6]


async def test_the_same_id_again_returns_the_first_outcome_and_pays_nothing(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        assert await a.pay(5, new_id(1)) == control.Paid(7, 1, 1, 0)
        assert await a.pay(5, new_id(1)) == control.Paid(7, 1, 1, 1)
        assert b.received() == [5]
        assert (await refused(a.pay(6, new_id(1)))).reason is Reason.ID_REUSED
        assert b.received() == [5]


async def test_ids_that_are_too_old_or_from_the_future_are_refused(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        await a.pay(1, new_id(1, NOW - 86_400))
        await a.pay(1, new_id(2, NOW + 3_600))
        assert (await refused(a.pay(1, new_id(3, NOW - 86_401)))).reason is Reason.ID_EXPIRED
        assert (await refused(a.pay(1, new_id(4, NOW + 3_601)))).reason is Reason.ID_FROM_FUTURE
        method = many(a.channel().channel_id, (1, new_id(5)), (1, new_id(6, NOW - 90_000)))
        assert (await refused(a.pay_many(method))).reason is Reason.ID_EXPIRED
        assert b.received() == [1, 1]


async def test_a_repeat_while_the_payment_is_queued_or_under_way_waits_for_the_same_answer(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        answers = []

        async def pay(amount: int) -> None:
            answers.append(await a.pay(amount, new_id(1)))

        b.links[0].hold(True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, 5)
            nursery.start_soon(pay, 5)  # queued
            await a.until(lambda: a.channel().unacked)
            nursery.start_soon(pay, 5)  # sent
            assert (await refused(a.pay(6, new_id(1)))).reason is Reason.ID_REUSED
            assert answers == []
            b.links[0].hold(False)
        assert sorted(answers, key=lambda paid: paid.repeated) == [control.Paid(7, 1, 1, r) for r in (0, 1, 1)]
        assert b.received() == [5]


async def test_a_repeat_after_a_restart_waits_for_the_acknowledgement(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        b.links[0].hold(True)
        answers = []
        with trio.move_on_after(1):
            await a.pay(5, new_id(1))
        a.kill()
        a.start()
        await a.join_ledger()
        view = await a.api.call(control.FindPayment(new_id(1), None))
        assert (view.status, view.n, view.amount) == (PAYMENT_SENT, 1, 5)

        async def again() -> None:
            answers.append(await a.pay(5, new_id(1)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(again)
            await trio.sleep(1)
            assert answers == []
            connect(a, b)
        assert answers == [control.Paid(7, 1, 1, 1)]
        assert b.received() == [5]
        view = await a.api.call(control.FindPayment(new_id(1), a.channel().channel_id))
        assert view.status == PAYMENT_PAID


async def test_a_cancelled_payment_goes_on_and_is_found(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        b.links[0].hold(True)
        with trio.move_on_after(1) as scope:
            await a.pay(5, new_id(1))
        assert scope.cancelled_caught
        assert (await a.api.call(control.FindPayment(new_id(1), None))).status == PAYMENT_SENT
        b.links[0].hold(False)
        await a.until(lambda: a.channel().acked.n == 1)
        assert (await a.api.call(control.FindPayment(new_id(1), None))).status == PAYMENT_PAID
        assert (await a.api.call(control.FindPayment(new_id(2), None))).status == PAYMENT_UNKNOWN
        assert b.received() == [5]


async def test_a_queued_payment_is_found(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        a.links[0].end()
        await a.until(lambda: not a.channel().connected)
        with trio.move_on_after(1):
            await a.pay(5, new_id(1))
        view = await a.api.call(control.FindPayment(new_id(1), None))
        assert (view.status, view.amount) == (PAYMENT_QUEUED, 5)
        connect(a, b)
        await a.until(lambda: b.received() == [5])


async def test_many_payments_are_one_call(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, max_batch=3)
        channel_id = a.channel().channel_id
        memos = pack_memos([(0, b"first"), (4, b"last")])
        method = many(channel_id, *[(n, NO_ID) for n in range(1, 6)], memos=memos)
        assert await a.pay_many(method) == control.Paid(9, 1, 5, 0)
        assert b.received() == [1, 2, 3, 4, 5]
        batches = b.store.batches(channel_id, 0, 1)
        assert [(p.n, p.memo) for batch in batches for p in batch.payments() if p.memo] == [(1, b"first"), (5, b"last")]


async def test_many_payments_of_which_some_were_paid_before(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        channel_id = a.channel().channel_id
        await a.pay(2, new_id(2))
        method = many(channel_id, (1, new_id(1)), (2, new_id(2)), (3, new_id(3)), memos=pack_memos([(2, b"three")]))
        assert await a.pay_many(method) == control.Paid(9, 2, 2, 1)
        assert b.received() == [2, 1, 3]
        assert [p.memo for batch in b.store.batches(channel_id, 0, 2) for p in batch.payments()] == [b"", b"three"]
        assert await a.pay_many(method) == control.Paid(9, 0, 0, 1)
        other = many(channel_id, (7, new_id(7)), (9, new_id(3)))
        assert (await refused(a.pay_many(other))).reason is Reason.ID_REUSED
        twice = many(channel_id, (7, new_id(7)), (7, new_id(7)))
        assert (await refused(a.pay_many(twice))).reason is Reason.ID_REUSED
        assert b.received() == [2, 1, 3]


async def test_a_repeated_call_is_not_answered_before_its_payments_are_paid(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        method = many(a.channel().channel_id, (1, new_id(1)), (2, new_id(2)))
        b.links[0].hold(True)
        answers = []

        async def pay(message: control.PayMany) -> None:
            answers.append(await a.pay_many(message))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, method)
            await a.until(lambda: a.channel().unacked)
            nursery.start_soon(pay, method)
            nursery.start_soon(pay, many(a.channel().channel_id, (2, new_id(2)), (3, new_id(3))))
            await trio.sleep(1)
            assert answers == []
            b.links[0].hold(False)
        assert sorted((p.first_n, p.count, p.repeated) for p in answers) == [(0, 0, 1), (1, 2, 0), (3, 1, 1)]
        assert b.received() == [1, 2, 3]


@pytest.mark.parametrize(
    ("records", "memos"),
    [
        (bytes(25), b""),
        (bytes(24), b""),
        (b"\xff" * 24, b""),
        (b"\xff" * 8 + bytes(16), b""),
        (pack_record(1), b"\x00"),
        (pack_record(1), pack_memos([(1, b"there is no second payment")])),
        (bytes(8) + b"\x01" * 16, b""),
    ],
)
async def test_senseless_bytes_are_refused(tmp_path, autojump_clock, records, memos):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        message = control.PayMany(9, a.channel().channel_id, records, memos)
        assert (await refused(a.pay_many(message))).reason in (
            Reason.USAGE,
            Reason.ID_EXPIRED,
            Reason.ID_FROM_FUTURE,
        )
        assert await a.pay(1)
        assert b.received() == [1]


async def test_an_amount_of_nothing_is_refused(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        nothing = control.PayEach(1, a.channel().channel_id, bytes(24), b"")
        assert (await refused(a.pay_each(nothing))).reason is Reason.USAGE
        stranger = control.PayEach(1, bytes(32), pack_record(1), b"")
        assert (await refused(a.pay_each(stranger))).reason is Reason.UNKNOWN_CHANNEL


async def test_a_full_queue_slows_its_callers_down(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr(desk, "_RESUME_BELOW", 10)
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        a.links[0].end()
        await a.until(lambda: not a.channel().connected)
        async with trio.open_nursery() as nursery:
            for amount in range(1, 31):
                nursery.start_soon(a.pay, amount)
            await trio.sleep(1)
            assert a.channel().queued_count == 10
            connect(a, b)
        assert sorted(b.received()) == list(range(1, 31))


async def test_a_close_answers_every_caller(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        b.links[0].hold(True)
        answers: list[object] = []

        async def pay(amount: int) -> None:
            try:
                answers.append((await a.pay(amount)).first_n)
            except LocalError as error:
                answers.append(error.reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay, 1)  # sent
            await a.until(lambda: a.channel().unacked)
            a.links[0].end()
            await a.until(lambda: not a.channel().connected)
            nursery.start_soon(pay, 2)  # queued
            await a.until(lambda: a.channel().queue)
            await a.api.call(control.CloseChannel(a.channel().channel_id, 1, 1))
        assert answers == [Reason.CLOSING, Reason.CLOSING]
        assert b.received() == []
        assert (await a.api.call(control.FindPayment(new_id(1), None))).status == PAYMENT_UNKNOWN


async def test_a_payment_that_missed_the_settlement_is_never_called_paid(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        b.links[0].hold(True)
        with trio.move_on_after(1):
            await a.pay(1, new_id(1))
        a.links[0].end()
        await a.api.call(control.CloseChannel(a.channel().channel_id, 1, 1))
        assert (await refused(a.pay(1, new_id(1)))).reason is Reason.CLOSING
        method = many(a.channel().channel_id, (1, new_id(1)))
        assert (await refused(a.pay_many(method))).reason is Reason.CLOSING
        assert (await a.api.call(control.FindPayment(new_id(1), None))).status == PAYMENT_SENT


async def test_a_call_of_which_a_part_was_sent_says_so(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        b.node.policy = b.node.policy._replace(max_unacked=2)
        await open_channel(a, b)
        b.links[0].hold(True)
        failures = []

        async def pay() -> None:
            failures.append(await refused(a.pay_many(many(a.channel().channel_id, *[(1, NO_ID)] * 5))))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay)
            await a.until(lambda: a.channel().unacked)
            await a.api.call(control.CloseChannel(a.channel().channel_id, 1, 0))
        assert failures[0].reason is Reason.UNKNOWN_OUTCOME
        assert "the first 2 of the new payments had been sent" in str(failures[0])


async def test_a_call_that_a_close_cuts_off_says_that_it_does_not_speak_of_repeated_payments(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        channel_id = a.channel().channel_id
        await a.pay(1, new_id(1))
        b.links[0].hold(True)
        failures = []

        async def told(message: control.PayMany) -> None:
            failures.append(await refused(a.pay_many(message)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(told, many(channel_id, (2, new_id(2)), (3, new_id(3))))
            await a.until(lambda: a.channel().unacked)
            a.links[0].end()
            await a.until(lambda: not a.channel().connected)
            nursery.start_soon(told, many(channel_id, (1, new_id(1)), (2, new_id(2)), (4, new_id(4))))
            nursery.start_soon(told, many(channel_id, (5, new_id(5)), (6, new_id(6))))
            await a.until(lambda: a.channel().queued_count == 3)
            await a.api.call(control.CloseChannel(channel_id, 1, 0))
            await a.until(lambda: len(failures) == 2)
            nursery.cancel_scope.cancel()  # the payments that were sent wait for the settlement
        reasons = {error.reason: str(error) for error in failures}
        assert reasons.keys() == {Reason.UNKNOWN_OUTCOME, Reason.CLOSING}
        assert reasons[Reason.CLOSING] == "not paid: the channel is being closed on the ledger"
        assert "2 of these payments had been asked for before and may be paid" in reasons[Reason.UNKNOWN_OUTCOME]
        assert "ask for each by its id" in reasons[Reason.UNKNOWN_OUTCOME]


async def test_a_refused_call_says_that_it_does_not_speak_of_repeated_payments(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        channel = await open_channel(a, b, deposit=20)
        await a.pay(15, new_id(1))
        error = await refused(a.pay_many(many(channel.channel_id, (15, new_id(1)), (10, new_id(2)))))
        assert error.reason is Reason.UNKNOWN_OUTCOME
        assert "left in the channel" in str(error)
        assert "1 of these payments had been asked for before and may be paid" in str(error)
        error = await refused(a.pay_many(many(channel.channel_id, (10, new_id(2)))))
        assert error.reason is Reason.INSUFFICIENT_BALANCE
        assert b.received() == [15]


async def test_of_several_repeated_payments_one_that_the_settlement_missed_does_not_speak_for_all(
    tmp_path, autojump_clock
):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        channel_id = a.channel().channel_id
        await a.pay(1, new_id(1))
        b.links[0].hold(True)
        with trio.move_on_after(1):
            await a.pay(2, new_id(2))
        waiting = []

        async def pay() -> None:
            waiting.append(await refused(a.pay_many(many(channel_id, (1, new_id(1)), (2, new_id(2))))))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay)
            await trio.sleep(1)
            a.links[0].end()
            await a.api.call(control.CloseChannel(channel_id, 1, 1))
        waiting.append(await refused(a.pay_many(many(channel_id, (1, new_id(1)), (2, new_id(2))))))
        waiting.append(await refused(a.pay_many(many(channel_id, (2, new_id(2)), (1, new_id(1))))))
        assert [error.reason for error in waiting] == [Reason.UNKNOWN_OUTCOME] * 3
        assert all("the channel settled without this payment" in str(error) for error in waiting)


async def test_a_node_that_stops_tells_everybody(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        b.links[0].hold(True)
        answers = []

        async def told(awaitable) -> None:
            answers.append((await refused(awaitable)).reason)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(told, a.pay(1))
            await a.until(lambda: a.channel().unacked)
            a.links[0].end()
            await a.until(lambda: not a.channel().connected)
            nursery.start_soon(told, a.pay(2))
            nursery.start_soon(told, a.api.call(control.Payments(0, 10, 1)))
            await a.until(lambda: a.channel().queue)
            a.engine.stop()
        assert sorted(answers) == sorted([Reason.TIMED_OUT, Reason.STOPPING, Reason.STOPPING])


async def test_what_is_sent_is_one_batch_for_all_that_waited(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        await trio.sleep(1)
        commits = a.store.commits
        async with trio.open_nursery() as nursery:
            for amount in range(1, 101):
                nursery.start_soon(a.pay, amount)
        pays = [message for message in a.links[0].sent if isinstance(message, Pay)]
        assert len(pays) == 1
        assert len([message for message in b.links[0].sent if isinstance(message, Ack)]) == 1
        assert a.store.commits - commits == 1  # its acknowledgement rides with the next, or goes a little later
        await a.until(lambda: a.store.commits - commits == 2)


async def test_after_a_start_payments_wait_for_the_first_reading_of_the_ledger(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        a.kill()
        a.start()
        answers = []

        async def pay() -> None:
            answers.append(await a.pay(5))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pay)
            await trio.sleep(1)
            assert answers == []
            await a.join_ledger()
            connect(a, b)
        assert answers == [control.Paid(7, 1, 1, 0)]


async def test_after_a_start_payments_do_not_wait_for_ever_for_the_ledger(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        a.kill()
        a.start()
        began = trio.current_time()
        assert (await refused(a.pay(5))).reason is Reason.STALLED
        assert trio.current_time() == began + desk._FIRST_READING_S


# --- A frame of payments, each on its own --------------------------------------------------------


def each(channel_id: bytes, *payments: tuple[int, bytes], memos: bytes = b"") -> control.PayEach:
    records = b"".join(amount.to_bytes(8, "big") + payment_id for amount, payment_id in payments)
    return control.PayEach(100, channel_id, records, memos)


async def answers_to(rig, message) -> dict[int, tuple[int, int] | Reason]:
    """By call id: (number, repeated), or why it was refused."""
    found: dict[int, tuple[int, int] | Reason] = {}

    def done(answer: control.Paid | control.Refusal) -> None:
        if isinstance(answer, control.Refusal):
            assert answer.call_id not in found
            found[answer.call_id] = answer.error.reason
            return
        for index in range(answer.count):
            assert answer.call_id + index not in found
            found[answer.call_id + index] = answer.first_n + index, answer.repeated

    rig.api.pay_each(message, done)
    await rig.until(lambda: len(found) == len(message.records) // 24)
    return found


async def test_payments_of_one_frame_are_one_item_with_one_answer(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        (paid,) = await a.pay_each(each(a.channel().channel_id, *[(5, NO_ID)] * 300))
        assert paid == control.Paid(100, 1, 300, 0)
        assert b.received() == [5] * 300


async def test_each_payment_of_a_frame_is_refused_by_itself(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        channel = await open_channel(a, b, deposit=20)
        await a.pay(1, new_id(1))
        found = await answers_to(
            a,
            each(
                channel.channel_id,
                (7, NO_ID),
                (1, new_id(1)),  # paid before
                (2, new_id(1)),  # with another amount
                (6, new_id(2)),
                (6, new_id(2)),  # twice in this frame
                (3, new_id(3, NOW - 86_401)),
                (0, NO_ID),
                (9, NO_ID),  # more than is left
                (4, new_id(4)),
                memos=pack_memos([(0, b"first"), (3, b"fourth"), (8, b"last")]),
            ),
        )
        assert found == {
            100: (2, 0), 101: (1, 1), 102: Reason.ID_REUSED, 103: (3, 0), 104: (3, 1), 105: Reason.ID_EXPIRED,
            106: Reason.USAGE, 107: Reason.INSUFFICIENT_BALANCE, 108: (4, 0),
        }  # fmt: skip
        assert b.received() == [1, 7, 6, 4]
        (row,) = [batch for batch in b.store.batches(channel.channel_id, 0, 2) if batch.first_n == 2]
        assert [(p.amount, p.memo) for p in row.payments()] == [(7, b"first"), (6, b"fourth"), (4, b"last")]


async def test_an_id_that_was_refused_earlier_in_its_frame_is_no_repetition(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        channel = await open_channel(a, b, deposit=20)
        found = await answers_to(a, each(channel.channel_id, (21, new_id(1)), (20, new_id(1))))
        assert found == {100: Reason.INSUFFICIENT_BALANCE, 101: (1, 0)}
        assert b.received() == [20]


async def test_a_senseless_frame_refuses_every_payment_in_it(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        channel = await open_channel(a, b)
        found = await answers_to(a, each(bytes(32), (1, NO_ID), (2, NO_ID)))
        assert found == dict.fromkeys((100, 101), Reason.UNKNOWN_CHANNEL)
        found = await answers_to(a, each(channel.channel_id, (1, NO_ID), memos=pack_memos([(1, b"nowhere")])))
        assert found == {100: Reason.USAGE}


async def test_payments_of_a_frame_that_was_cut_are_answered_batch_by_batch(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        channel = await open_channel(a, b, max_batch=100)
        found = await answers_to(a, each(channel.channel_id, *[(1, new_id(n)) for n in range(250)]))
        assert found == {100 + index: (index + 1, 0) for index in range(250)}
        assert await answers_to(a, each(channel.channel_id, (1, new_id(249)))) == {100: (250, 1)}
