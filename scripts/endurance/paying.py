"""A service that pays: every payment has an id, is written down before it is asked for, and is asked for until it is
answered, whatever dies meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import trio

import channelpay
from channelpay.services.exceptions import TRANSIENT, NotReachable, PaymentUnknown, Reason, Refused
from endurance.journal import Journal, read_journal

AGAIN: Final = frozenset({*TRANSIENT, Reason.LEDGER_UNREACHABLE, Reason.PEER_UNREACHABLE, Reason.TIMED_OUT})
"""Refusals that say nothing for good: the same is asked again."""

RETRY_S: Final = 0.05
MOST_UNITS: Final = 300
MOST_IN_BULK: Final = 64

Orders = list[tuple[bytes, int]]
"""(payment id, units)."""


class Payer:
    """Pays on a node's channels and writes down what was asked for and what came of it.

    Entries: `asked, channel, [[id, units]]`; `paid, channel, [id], n` (0: not told); `refused, channel, [id]`.
    """

    def __init__(self, node: channelpay.Client, journal: Journal, chance: random.Random, pause_s: float) -> None:
        self.node = node
        self.journal = journal
        self.chance = chance
        self.pause_s = pause_s
        """How long a task thinks between two payments, on average; 0: not at all."""

        self.channels: list[channelpay.Channel] = []
        """Those that can be paid on, as they stood a moment ago."""

        self.acknowledged = 0
        self.stopped = False

    async def run(self, bulk: bool) -> None:
        """Pay until stopped: one payment after the other, or with `bulk` many at once."""
        while not self.stopped:
            if self.pause_s:
                await trio.sleep(self.chance.expovariate(1 / self.pause_s))
            if not self.channels:
                await trio.sleep(RETRY_S)
                continue
            channel_id = self.chance.choice(self.channels).id
            count = self.chance.randint(2, MOST_IN_BULK) if bulk else 1
            orders = [(channelpay.new_payment_id(), self.chance.randint(1, MOST_UNITS)) for _ in range(count)]
            await self.journal.write("asked", channel_id.hex(), [(key.hex(), units) for key, units in orders])
            await self.settle(channel_id, orders, fresh=True)

    async def settle(self, channel_id: bytes, orders: Orders, fresh: bool = False) -> None:
        """Ask for the payments until each is answered for good; `fresh`: nobody has asked for them before.

        One answer for several may be that some may be paid: asked for one by one, each has an answer of its own.
        """
        while True:
            try:
                await self._pay(channel_id, orders)
                return
            except (NotReachable, PaymentUnknown):
                # The daemon is being started again; the ids make sure that each is paid once.
                if not fresh and len(orders) > 1:
                    for order in orders:
                        await self.settle(channel_id, [order])
                    return
            except Refused as refused:
                if refused.reason not in AGAIN:
                    if fresh and len(orders) == 1:
                        await self._write("refused", channel_id, orders)
                    else:
                        await self._look(channel_id, orders)
                    return
            fresh = False
            await trio.sleep(RETRY_S)

    async def _pay(self, channel_id: bytes, orders: Orders) -> None:
        if len(orders) == 1:
            ((payment_id, units),) = orders
            payment = await self.node.pay(channel_id, units, payment_id=payment_id)
            await self._write("paid", channel_id, orders, payment.n)
        else:
            await self.node.pay_many(channel_id, [(units, payment_id, b"") for payment_id, units in orders])
            await self._write("paid", channel_id, orders, 0)
        self.acknowledged += len(orders)

    async def _look(self, channel_id: bytes, orders: Orders) -> None:
        """The node refused, but an earlier attempt may have been made in whole or in part: look at each."""
        for payment_id, units in orders:
            n = await self._outcome(channel_id, payment_id)
            one = [(payment_id, units)]
            await (self._write("paid", channel_id, one, n) if n else self._write("refused", channel_id, one))
            self.acknowledged += n > 0

    async def _outcome(self, channel_id: bytes, payment_id: bytes) -> int:
        """The payment's number, 0 if it was not made; waits while it is under way."""
        while True:
            try:
                found = await self.node.payment(payment_id, channel_id)
                if found.state is channelpay.PaymentState.PAID:
                    return found.n
                if found.state is channelpay.PaymentState.UNKNOWN:
                    return 0
                if (await self.node.channel(channel_id)).phase == "settled":
                    return 0  # the ledger has settled the channel without it
            except NotReachable:
                pass
            except Refused as refused:
                if refused.reason not in AGAIN:
                    raise
            await trio.sleep(RETRY_S)

    async def _write(self, what: str, channel_id: bytes, orders: Orders, *more: int) -> None:
        await self.journal.write(what, channel_id.hex(), [payment_id.hex() for payment_id, _ in orders], *more)


def unanswered(journal: Path) -> Iterable[tuple[bytes, Orders]]:
    """(channel, orders) of a journal that were asked for and never answered: its writer died before."""
    asked: dict[str, tuple[str, int]] = {}
    for what, *rest in read_journal(journal):
        if what == "asked":
            asked.update({payment_id: (rest[0], units) for payment_id, units in rest[1]})
        elif what in ("paid", "refused"):
            for payment_id in rest[1]:
                del asked[payment_id]
    for payment_id, (channel_id, units) in asked.items():
        yield bytes.fromhex(channel_id), [(bytes.fromhex(payment_id), units)]
