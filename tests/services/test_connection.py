"""One connection to a daemon: many calls in flight, room, cancellation, loss."""

import pytest
import trio
import trio.testing

from channelpay.batches import NO_ID, pack_record
from channelpay.codec import pack
from channelpay.errors import LocalError, Reason
from channelpay.framing import frame
from channelpay.messages import control
from channelpay.messages.control import Failed, Paid
from channelpay.services.bulk import chunked
from channelpay.services.connection import MAX_CALLS_IN_FLIGHT, MAX_CHUNKS_IN_FLIGHT, Connection
from channelpay.services.exceptions import NotReachable, PaymentUnknown
from channelpay.services.ids import new_payment_id
from services.fake_daemon import CHANNEL, FakeDaemon, FakeNode, channel_info


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
async def link(node, nursery):
    """A connection with 16 places to a daemon of `node`; `link.daemon` is the daemon."""
    ours, theirs = trio.testing.memory_stream_pair()
    connection = Connection(ours, "memory", max_in_flight=16)
    connection.daemon = FakeDaemon(node)
    nursery.start_soon(connection.run)
    nursery.start_soon(connection.daemon.serve, theirs)
    return connection


@pytest.fixture
async def scripted(nursery):
    """A connection whose other end is the test itself."""
    ours, theirs = trio.testing.memory_stream_pair()
    connection = Connection(ours, "memory", max_in_flight=16)
    nursery.start_soon(connection.run)
    return connection, theirs


async def test_answers_find_their_calls_in_any_order(scripted, nursery):
    link, theirs = scripted
    got = {}

    async def pay(amount):
        got[amount] = await link.pay(CHANNEL, amount, NO_ID, b"")

    nursery.start_soon(pay, 10)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(pay, 20)
    await trio.testing.wait_all_tasks_blocked()
    await theirs.send_all(Paid(2, 8, 1, 1).to_frame() + Paid(1, 7, 1, 0).to_frame())
    await trio.testing.wait_all_tasks_blocked()
    assert got == {10: (7, 0), 20: (8, 1)}


async def test_payments_of_one_task_arrive_in_order_with_all_they_carry(link, node):
    ids = [new_payment_id() for _ in range(50)]
    for index, payment_id in enumerate(ids, 1):
        assert await link.pay(CHANNEL, index, payment_id, b"memo %d" % index) == (index, 0)
    assert node.made == [(CHANNEL, index, ids[index - 1], b"memo %d" % index) for index in range(1, 51)]


async def test_what_is_queued_during_a_send_leaves_in_one_write(nursery):
    class Gate(trio.abc.Stream):
        """Counts writes; the first one waits."""

        def __init__(self):
            self.writes = []
            self.open = trio.Event()

        async def send_all(self, data):
            self.writes.append(bytes(data))
            await self.open.wait()

        async def wait_send_all_might_not_block(self):
            await trio.lowlevel.checkpoint()

        async def receive_some(self, max_bytes=None):
            await trio.sleep_forever()

        async def aclose(self):
            await trio.lowlevel.checkpoint()

    stream = Gate()
    link = Connection(stream, "gate")
    nursery.start_soon(link.run)
    nursery.start_soon(link.pay, CHANNEL, 1, NO_ID, b"")
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(100):
        nursery.start_soon(link.pay, CHANNEL, 1, NO_ID, b"")
    await trio.testing.wait_all_tasks_blocked()
    assert len(stream.writes) == 1
    stream.open.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(stream.writes) == 2
    nursery.cancel_scope.cancel()


async def test_without_room_a_payment_waits_and_goes_on_in_turn(link, node, nursery):
    node.hold()
    done = []

    async def pay(amount):
        await link.pay(CHANNEL, amount, NO_ID, b"")
        done.append(amount)

    for amount in range(1, 41):
        nursery.start_soon(pay, amount)
        await trio.testing.wait_all_tasks_blocked()
    assert [amount for _, amount, _, _ in node.made] == list(range(1, 17))
    node.held.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(node.made) == len(done) == 40


async def test_a_refusal_carries_its_reason_and_harms_no_other_call(link, node):
    node.channels[CHANNEL] = channel_info(deposit=5)
    with pytest.raises(LocalError) as caught:
        await link.pay(CHANNEL, 6, NO_ID, b"")
    assert caught.value.reason is Reason.INSUFFICIENT_BALANCE
    assert await link.pay(CHANNEL, 5, NO_ID, b"") == (1, 0)


@pytest.mark.parametrize("reason", [Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME])
async def test_a_payment_of_which_the_node_cannot_tell_is_unknown_and_not_refused(scripted, nursery, reason):
    link, theirs = scripted
    payment_id, found = new_payment_id(), []

    async def pay():
        with pytest.raises(PaymentUnknown, match="it may be paid") as caught:
            await link.pay(CHANNEL, 5, payment_id, b"")
        found.append(caught.value)
        found.extend(await link.pay_chunks(CHANNEL, [part.chunk for part in chunked([5])]))

    nursery.start_soon(pay)
    for call_id in (1, 2):
        await trio.testing.wait_all_tasks_blocked()
        await theirs.send_all(Failed(call_id, reason.value, "it may be paid").to_frame())
    await trio.testing.wait_all_tasks_blocked()
    assert [type(error) for error in found] == [PaymentUnknown, PaymentUnknown]
    assert [error.payment_id for error in found] == [payment_id, None]


async def test_a_payment_in_a_cancelled_scope_is_not_sent(link, node):
    with trio.CancelScope() as scope:
        scope.cancel()
        await link.pay(CHANNEL, 1, NO_ID, b"")
    assert scope.cancelled_caught
    await trio.testing.wait_all_tasks_blocked()
    assert node.made == []


async def test_a_cancelled_payment_is_made_and_keeps_its_place_until_answered(link, node, nursery):
    node.hold()
    with trio.CancelScope() as scope:
        for _ in range(15):
            nursery.start_soon(link.pay, CHANNEL, 1, NO_ID, b"")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(_cancel_when_blocked, scope)
        await link.pay(CHANNEL, 99, NO_ID, b"")
    assert scope.cancelled_caught
    nursery.start_soon(link.pay, CHANNEL, 7, NO_ID, b"")
    await trio.testing.wait_all_tasks_blocked()
    assert [amount for _, amount, _, _ in node.made] == [1] * 15 + [99]
    node.held.set()
    await trio.testing.wait_all_tasks_blocked()
    assert node.made[-1][1] == 7


async def _cancel_when_blocked(scope):
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_a_cancelled_wait_is_called_off_and_frees_its_place(link, node):
    for round_number in range(1, MAX_CALLS_IN_FLIGHT + 10):  # more often than there are places
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as waiting:
                waiting.start_soon(_cancel_when_blocked, scope)
                await link.call(control.Payments(0, 10, 1))
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert node.called_off == round_number
    assert await link.pay(CHANNEL, 1, NO_ID, b"") == (1, 0)


async def test_calls_above_what_a_daemon_takes_wait_and_payments_go_on(link, node, nursery):
    for _ in range(MAX_CALLS_IN_FLIGHT + 5):
        nursery.start_soon(link.call, control.Payments(0, 10, 1))
    await trio.testing.wait_all_tasks_blocked()
    assert len(node.calls) == MAX_CALLS_IN_FLIGHT
    assert await link.pay(CHANNEL, 1, NO_ID, b"") == (1, 0)
    await node.receive((1, NO_ID, b""))
    await trio.testing.wait_all_tasks_blocked()
    assert len(node.calls) == MAX_CALLS_IN_FLIGHT + 5


async def test_calls_that_wait_for_room_fail_with_the_connection(link, node, nursery):
    failed = []

    async def poll():
        with pytest.raises(NotReachable):
            await link.call(control.Payments(0, 10, 1))
        failed.append(1)

    for _ in range(MAX_CALLS_IN_FLIGHT + 5):
        nursery.start_soon(poll)
    await trio.testing.wait_all_tasks_blocked()
    await link.daemon.drop()
    await trio.testing.wait_all_tasks_blocked()
    assert len(failed) == MAX_CALLS_IN_FLIGHT + 5


async def test_cancelled_while_it_waits_for_room_a_payment_is_not_made(link, node, nursery):
    node.hold()
    for _ in range(16):
        nursery.start_soon(link.pay, CHANNEL, 1, NO_ID, b"")
    await trio.testing.wait_all_tasks_blocked()
    with trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_blocked, scope)
        await link.pay(CHANNEL, 99, NO_ID, b"")
    assert scope.cancelled_caught
    node.held.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [amount for _, amount, _, _ in node.made] == [1] * 16


async def test_a_lost_connection_makes_sent_payments_unknown_and_waiting_ones_not_made(link, node, nursery):
    node.hold()
    ids = [new_payment_id() for _ in range(18)]
    ended = {}

    async def pay(payment_id):
        try:
            await link.pay(CHANNEL, 1, payment_id, b"")
        except (PaymentUnknown, NotReachable) as error:
            ended[payment_id] = error

    async def poll():
        with pytest.raises(NotReachable):
            await link.call(control.Payments(0, 10, 1))
        ended["poll"] = None

    nursery.start_soon(poll)
    await trio.testing.wait_all_tasks_blocked()
    for payment_id in ids:
        nursery.start_soon(pay, payment_id)
        await trio.testing.wait_all_tasks_blocked()
    await link.daemon.drop()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(ended[payment_id]) for payment_id in ids] == [PaymentUnknown] * 16 + [NotReachable] * 2
    assert all(ended[payment_id].payment_id == payment_id for payment_id in ids[:16])
    assert len({id(error) for error in ended.values()}) == 19
    assert "memory" in link.lost


async def test_chunks_are_paid_in_order_with_a_bounded_number_in_flight(link, node, nursery):
    node.hold()
    answers = []

    async def pay():
        parts = chunked([amount % 100 + 1 for amount in range(20 * 4096)])
        answers.extend(await link.pay_chunks(CHANNEL, [part.chunk for part in parts]))

    nursery.start_soon(pay)
    await trio.testing.wait_all_tasks_blocked()
    assert node.unanswered == MAX_CHUNKS_IN_FLIGHT
    node.held.set()
    await trio.testing.wait_all_tasks_blocked()
    assert [answer.first_n for answer in answers] == [1 + 4096 * index for index in range(20)]
    assert [amount for _, amount, _, _ in node.made] == [amount % 100 + 1 for amount in range(20 * 4096)]


async def test_after_a_refused_chunk_no_further_one_is_begun(link, node):
    node.channels[CHANNEL] = channel_info(deposit=3 * 4096)
    parts = chunked([1] * 40 * 4096)
    answers = await link.pay_chunks(CHANNEL, [part.chunk for part in parts])
    assert [type(answer) for answer in answers[:4]] == [Paid, Paid, Paid, LocalError]
    assert len(answers) <= 4 + MAX_CHUNKS_IN_FLIGHT
    assert len(node.made) == 3 * 4096
    assert (await link.pay_chunks(CHANNEL, []), link.lost) == ([], None)


async def test_chunks_of_a_lost_connection_are_unknown_or_never_sent(link, node, nursery):
    node.hold()
    answers = {}

    async def pay(name):
        parts = chunked([1] * 6 * 4096)
        answers[name] = await link.pay_chunks(CHANNEL, [part.chunk for part in parts])

    nursery.start_soon(pay, "first")
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(pay, "second")
    await trio.testing.wait_all_tasks_blocked()
    await link.daemon.drop()
    await trio.testing.wait_all_tasks_blocked()
    assert [type(answer) for answer in answers["first"]] == [PaymentUnknown] * 6
    assert [type(answer) for answer in answers["second"]] == [PaymentUnknown] * 2 + [NotReachable]


@pytest.mark.parametrize(
    "answer",
    [
        frame(0x99, pack([1])),
        frame(Paid.TYPE, pack([1, 2])),
        frame(Paid.TYPE, b"\xff"),
        Failed(1, "no-such-reason", "text").to_frame(),
        control.PayEach(1, CHANNEL, pack_record(1), b"").to_frame(),
        b"\x7f\xff\xff\xff\xa5",
    ],
)
async def test_an_answer_of_another_version_ends_the_connection(scripted, nursery, answer):
    link, theirs = scripted

    async def pay():
        with pytest.raises(PaymentUnknown, match="another version"):
            await link.pay(CHANNEL, 1, NO_ID, b"")

    nursery.start_soon(pay)
    await trio.testing.wait_all_tasks_blocked()
    await theirs.send_all(answer)
    await trio.testing.wait_all_tasks_blocked()
    assert "another version" in link.lost


async def test_a_result_of_another_shape_fails_that_call_only(scripted, nursery):
    link, theirs = scripted

    async def ask():
        with pytest.raises(NotReachable, match="another version"):
            await link.call(control.Balance())

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    await theirs.send_all(control.Result(1, pack([1, 2, 3])).to_frame())
    await trio.testing.wait_all_tasks_blocked()
    assert link.lost is None


async def test_closing_the_client_fails_what_is_in_flight(node, nursery):
    ours, theirs = trio.testing.memory_stream_pair()
    link = Connection(ours, "memory")
    nursery.start_soon(FakeDaemon(node).serve, theirs)
    node.hold()

    async def pay():
        with pytest.raises(PaymentUnknown, match="closed"):
            await link.pay(CHANNEL, 1, NO_ID, b"")

    async with trio.open_nursery() as payers:
        async with trio.open_nursery() as inner:
            inner.start_soon(link.run)
            payers.start_soon(pay)
            await trio.testing.wait_all_tasks_blocked()
            inner.cancel_scope.cancel()
