"""A channel that is closed while payments wait in its queue, are under way, or belong to an earlier life."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import trio

from channelpay.messages import control
from simulation.disk import Loss
from simulation.model import NO_ID, ChannelAccount, Payment, State
from simulation.workload import Owner
from simulation.world import World

_SHARE: Final = 0.4
"""Of all worlds."""

_MOMENTS_S: Final = (0.0, 0.0, 0.0005, 0.002, 0.01, 0.1)
"""Between the payments and the close: in one turn of the node with them, or while they are on their way."""

_AWAY_S: Final = 3.0


class EarlyClose:
    """One more channel for two of the owners, which ends early. It has its own luck, so that others keep theirs."""

    def __init__(self, world: World, owners: list[Owner], note: Callable[[str], None]) -> None:
        self.world = world
        self._rng = random.Random(f"early close {world.seed}")
        self._owners = owners
        self._note = note

    async def run(self) -> None:
        """Open, pay, and close at the wrong moment, or do nothing at all."""
        if self._rng.random() > _SHARE:
            return
        payer, payee = self._rng.sample(self._owners, 2)
        await trio.sleep(self._rng.random() * 4)
        channel = await payer.open(payee.process)
        if channel is None:
            return
        channel.ends_early = True
        first = [payer.payment(channel, 10) for _ in range(3)]
        await payer.ask(channel, first)
        await payer.answered(first, 1.0)
        if self._rng.random() < 0.6:
            await self._part(payer, payee)
        waiting = await self._burst(payer, channel)
        if self._rng.random() < 0.35:
            await self._once_more(payer, channel, waiting)
        await trio.sleep(self._rng.choice(_MOMENTS_S))
        async with trio.open_nursery() as nursery:
            if self._rng.random() < 0.5:  # in one turn of the node with the close
                nursery.start_soon(self._burst, payer, channel)
            nursery.start_soon(self._close, payer, payee, channel, waiting)

    async def _part(self, payer: Owner, payee: Owner) -> None:
        """The payee does not hear, or is not heard: payments stay under way, and behind them the queue fills."""
        network = self.world.network
        if self._rng.random() < 0.5:
            self._note("slow reader")
            network.asleep[payee.name] = trio.current_time() + _AWAY_S
            return
        self._note("one-way silence")
        speaker = self._rng.choice((payer, payee))
        for stream in network.between(payer.name, payee.name):
            if stream.owner.name == speaker.name:
                network.silence(stream)

    async def _burst(self, payer: Owner, channel: ChannelAccount) -> list[Payment]:
        """More payments than a batch or a peer's limit takes, singly and in calls that are one."""
        made = []
        for _ in range(self._rng.randint(2, 4)):
            payments = [payer.payment(channel, 5) for _ in range(self._rng.choice((1, 12, 40)))]
            await payer.ask(channel, payments, together=self._rng.random() < 0.5)
            made += payments
            await trio.sleep(self._rng.choice(_MOMENTS_S) / 10)
        return made

    async def _once_more(self, payer: Owner, channel: ChannelAccount, waiting: list[Payment]) -> None:
        """The payer begins another life, and its owner asks again before the peer has been heard."""
        life = payer.process.life
        if life is None or not payer.process.alive:
            return
        self._note("killed")
        life.kill(Loss.KILLED)
        await life.exited.wait()
        known = [p for p in waiting if p.payment_id != NO_ID]
        await payer.ask(channel, known, together=self._rng.random() < 0.3)

    async def _close(self, payer: Owner, payee: Owner, channel: ChannelAccount, waiting: list[Payment]) -> None:
        force = int(self._rng.random() < 0.6)
        who = self._rng.choice(((payer,), (payer,), (payee,), (payer, payee)))
        async with trio.open_nursery() as nursery:
            for owner in who:
                nursery.start_soon(self._ask_to_close, owner, channel, force)
        if self._rng.random() < 0.3:
            late = [payer.payment(channel, 5)]
            await payer.ask(channel, late)
        if force:
            await self._nothing_waits(payer, channel, waiting)

    async def _ask_to_close(self, owner: Owner, channel: ChannelAccount, force: int) -> None:
        await owner.call(control.CloseChannel(channel.channel_id, force, 0), patience_s=20.0)

    async def _nothing_waits(self, payer: Owner, channel: ChannelAccount, waiting: list[Payment]) -> None:
        """A channel that is being closed alone has no queue any more: whoever waited in it has been told."""
        shown = await payer.call(control.ShowChannel(channel.channel_id.hex()), patience_s=20.0)
        if not isinstance(shown, control.ChannelOne) or shown.channel.phase != "closing":
            return
        for payment in waiting:
            if payment.payment_id == NO_ID or payment.state is not State.ASKED:
                continue
            view = await payer.call(control.FindPayment(payment.payment_id, channel.channel_id), patience_s=20.0)
            if isinstance(view, control.PaymentView) and view.status == control.PAYMENT_QUEUED:
                self.world.account.find("unresolved", "payments wait in the queue of a closing channel", payer.name)
                return
