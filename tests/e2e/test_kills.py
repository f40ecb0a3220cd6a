"""SIGKILL at random instants: what `pay` acknowledged is in the payee's payments and in the settlement."""

from __future__ import annotations

import os
import random

import trio

import channelpay
from cluster import Cluster, cluster

KILLS = int(os.environ.get("CHANNELPAY_TEST_KILLS", "50"))
TASKS = 16
PRICE = 100


class Payer:
    """Pays as fast as it can, every payment with an id; remembers what was acknowledged."""

    def __init__(self, client: channelpay.Client, channel: channelpay.Channel) -> None:
        self.client = client
        self.channel_id = channel.id
        self.acknowledged: set[bytes] = set()
        self.progress = trio.lowlevel.ParkingLot()
        self.stop = False

    async def pay(self) -> None:
        while not self.stop:
            payment_id = channelpay.new_payment_id()
            while payment_id not in self.acknowledged:
                try:
                    await self.client.pay(self.channel_id, PRICE, payment_id=payment_id)
                except (channelpay.NotReachable, channelpay.PaymentUnknown):
                    continue  # the daemon is being restarted; the id makes sure that it is paid once
                except channelpay.Refused as refused:
                    if refused.reason is not channelpay.Reason.STALLED:
                        raise
                    await trio.lowlevel.checkpoint()  # it has not heard of the ledger yet
                    continue
                self.acknowledged.add(payment_id)
                self.progress.unpark_all()

    async def wait_for(self, more: int) -> None:
        """Wait until `more` payments have been acknowledged."""
        target = len(self.acknowledged) + more
        while len(self.acknowledged) < target:
            await self.progress.park()


async def test_kills_lose_nothing(tmp_path):
    chance = random.Random(7668)
    with trio.fail_after(60 + 10 * KILLS):
        async with cluster(tmp_path) as c:
            channel = await c.open()
            async with c.connect(c.a) as client:
                payer = Payer(client, channel)
                async with trio.open_nursery() as nursery:
                    for _ in range(TASKS):
                        nursery.start_soon(payer.pay)
                    for _ in range(KILLS):
                        await payer.wait_for(chance.randrange(1, 200))
                        victim = chance.choice((c.a, c.b))
                        await c.kill(victim)
                        await c.start(victim)
                    await payer.wait_for(1)
                    payer.stop = True
                received = await _received(c, len(payer.acknowledged))
                assert received == payer.acknowledged
                settled = await client.close_channel(channel)
                assert settled.phase == "settled"
            assert await c.account_units(c.b) == PRICE * len(payer.acknowledged)
            assert await c.account_units(c.a) == 1_000_000_000 - PRICE * len(payer.acknowledged)
            await c.audit()


async def _received(c: Cluster, count: int) -> set[bytes]:
    """The ids of all payments that the payee journalled; none stands twice."""
    ids: set[bytes] = set()
    async with c.connect(c.b) as client:
        async for payment in client.payments():
            assert not payment.repeated
            assert payment.payment_id not in ids
            ids.add(payment.payment_id)
            if len(ids) == count:
                break
        assert (await client.status()).received == count
    return ids


async def test_killing_the_ledger_stalls_nobody_for_long(tmp_path):
    with trio.fail_after(120):
        async with cluster(tmp_path) as c:
            channel = await c.open()
            async with c.connect(c.a) as client:
                await client.pay(channel, PRICE)
                await c.kill_ledger()
                await c.start_ledger()
                await _topup(client, channel)
                await client.pay(channel, PRICE)
                closed = await client.close_channel(channel)
                assert closed.phase == "settled"
            assert await c.account_units(c.b) == 2 * PRICE
            await c.audit()


async def _topup(client: channelpay.Client, channel: channelpay.Channel) -> None:
    """Add a dollar, as soon as the ledger can be reached again."""
    while True:
        try:
            await client.topup(channel, "1 USD")
            return
        except channelpay.Refused as refused:
            if refused.reason not in (channelpay.Reason.LEDGER_UNREACHABLE, channelpay.Reason.STALLED):
                raise
            await trio.lowlevel.checkpoint()
