"""A ledger that dies and comes back: nodes go on by themselves. Kills at random moments are scripts/torture's."""

from __future__ import annotations

import trio

import channelpay
from cluster import cluster

PRICE = 100


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
