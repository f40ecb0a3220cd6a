"""Both services in one thread: every piece is delivered once for one payment, whatever the connection does."""

import random
from collections import Counter

import pytest
import trio

from channelpay.batches import Batch
from channelpay.errors import LocalError, Reason
from channelpay.messages.control import Refusal
from channelpay.services.backend import InProcess
from channelpay.services.client import Client
from channelpay.services.demo.buyer import Buyer, Offer
from channelpay.services.demo.events import Holds
from channelpay.services.demo.goods import PRICE_UNITS, piece_count
from channelpay.services.demo.seller import Shop
from channelpay.services.demo.wire import OFFER, PIECE, Wire
from channelpay.services.exceptions import NotReachable, PaymentUnknown
from channelpay.services.ids import new_payment_id
from services.fake_daemon import CHANNEL, FakeNode

GOODS = bytes(index % 253 for index in range(256 * 300 - 100))


class Linked(FakeNode):
    """A node whose payments arrive at another one."""

    def __init__(self, payee):
        super().__init__()
        self.payee = payee

    def pay_each(self, message, done):
        payments = list(Batch(1, message.records, message.memos).payments())

        def told(answer):
            if not answer.repeated:
                trio.lowlevel.spawn_system_task(self.arrive, payments[answer.call_id - message.call_id], answer, done)
            else:
                done(answer)

        super().pay_each(message, told)

    async def arrive(self, payment, answer, done):
        await self.payee.receive((payment.amount, payment.payment_id, payment.memo))
        done(answer)


class Flaky(InProcess):
    """A node that goes away again and again: before a payment, after it, in the middle of a call."""

    def __init__(self, api, seed):
        super().__init__(api)
        self.random = random.Random(seed)
        self.fates = Counter()

    async def pay(self, channel_id, amount, payment_id, memo):
        fate = self.random.choice(["fine", "fine", "not reachable", "not now", "lost before", "lost after"])
        self.fates[fate] += 1
        await trio.lowlevel.checkpoint()
        if fate == "not reachable":
            raise NotReachable("gone")
        if fate == "not now":
            raise LocalError(Reason.STALLED, "no word from the ledger yet")
        if fate == "lost before":
            raise PaymentUnknown("gone", channel_id, payment_id)
        paid = await super().pay(channel_id, amount, payment_id, memo)
        if fate == "lost after":
            raise PaymentUnknown("gone", channel_id, payment_id)
        return paid

    async def call(self, method):
        await trio.lowlevel.checkpoint()
        if self.random.random() < 0.3:
            raise NotReachable("gone")
        return await super().call(method)


class CountingShop(Shop):
    """Counts what leaves the shop."""

    delivered = 0

    def deliver(self, payment_id):
        if payment_id in self.paid and payment_id in self.asked:
            self.delivered += 1
        super().deliver(payment_id)


async def begin(nursery, shop, node):
    """A buyer connected to the shop, with the offer read."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(shop.serve_buyer, theirs)
    wire = Wire(ours)
    nursery.start_soon(wire.write)
    wire.send(OFFER)
    kind, values = await anext(wire)
    assert kind == OFFER
    offer = Offer(*values)
    buyer = Buyer(node, wire, offer, bytearray(offer.size))
    nursery.start_soon(buyer.take_pieces)
    return buyer


@pytest.mark.parametrize("seed", range(5))
async def test_every_piece_once_for_one_payment_with_a_node_that_comes_and_goes(seed, capsys, autojump_clock):
    receiving = FakeNode()
    paying = Linked(receiving)
    flaky = Flaky(paying, seed)
    shop = CountingShop("goods", GOODS, "cp1seller@127.0.0.1:1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.take_payments, Client(Flaky(receiving, seed + 100)))
        buyer = await begin(nursery, shop, Client(flaky))
        assert buyer.offer == Offer("goods", len(GOODS), PRICE_UNITS, "USD", "cp1seller@127.0.0.1:1")
        await buyer.buy(CHANNEL, 16, Holds([]))
        nursery.cancel_scope.cancel()
    assert bytes(buyer.copy) == GOODS
    assert len(paying.made) == shop.delivered == buyer.pieces == piece_count(len(GOODS)) == 300
    assert len(buyer.latencies_ms) == 300
    assert flaky.fates["lost after"] > 20
    assert flaky.fates["lost after"] <= buyer.found_paid <= buyer.unknown
    assert buyer.unknown <= flaky.fates["lost before"] + flaky.fates["lost after"]
    assert '{"pieces": 300}' in capsys.readouterr().out


async def test_a_payment_that_the_node_refuses_ends_the_buyer(nursery):
    class Poor(FakeNode):
        def pay_each(self, message, done):
            done(Refusal(message.call_id, LocalError(Reason.INSUFFICIENT_BALANCE, "too little")))

    shop = Shop("goods", GOODS, "cp1seller@127.0.0.1:1")
    buyer = await begin(nursery, shop, Client(InProcess(Poor())))
    with pytest.raises(ExceptionGroup) as caught:
        await buyer.buy(CHANNEL, 2, Holds([]))
    assert caught.group_contains(LocalError, match="too little")
    nursery.cancel_scope.cancel()


class Till:
    """Stands for a buyer's connection in the shop."""

    def __init__(self):
        self.sent = []

    def send(self, kind, *values):
        assert kind == PIECE
        self.sent.append(values)


async def sold(payments, asked):
    """What the shop delivers for these payments and requests, the requests coming first or last."""
    for requests_first in (True, False):
        node, till = FakeNode(), Till()
        shop = Shop("goods", GOODS, "cp1seller@127.0.0.1:1")

        def request(shop=shop, till=till):
            for index, payment_id in asked:
                shop.asked[payment_id] = (index, till)
                shop.deliver(payment_id)

        if requests_first:
            request()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shop.take_payments, Client(InProcess(node)))
            for payment, repeated in payments:
                await node.receive(payment, repeated=(0,) if repeated else ())
            await trio.testing.wait_all_tasks_blocked()
            if not requests_first:
                request()
            nursery.cancel_scope.cancel()
        yield [index for index, _ in till.sent]


@pytest.mark.parametrize(
    ("payments", "delivered"),
    [
        ([((PRICE_UNITS, "A", b""), False)], [3]),
        ([((PRICE_UNITS, "A", b""), False), ((PRICE_UNITS, "A", b""), True)], [3]),
        ([((PRICE_UNITS - 1, "A", b""), False)], []),
        ([((PRICE_UNITS, "B", b""), False)], []),
        ([((PRICE_UNITS, "none", b""), False)], []),
    ],
)
async def test_what_a_payment_buys(payments, delivered):
    ids = {"A": new_payment_id(), "B": new_payment_id(), "none": bytes(16)}
    received = [((amount, ids[name], memo), repeated) for (amount, name, memo), repeated in payments]
    async for indexes in sold(received, [(3, ids["A"])]):
        assert indexes == delivered


async def test_holds_let_nobody_past_before_they_are_lifted(nursery):
    holds = Holds([20, 10])
    passed = []

    async def walk(index):
        await holds.pass_by(index)
        passed.append(index)

    for index in (5, 10, 15, 20, 25):
        nursery.start_soon(walk, index)
    await trio.testing.wait_all_tasks_blocked()
    assert passed == [5]
    ours, theirs = trio.testing.memory_stream_one_way_pair()
    nursery.start_soon(holds.release, theirs)
    for expected in ([5, 10, 15], [5, 10, 15, 20, 25]):
        await ours.send_all(b"\n")
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(passed) == expected
