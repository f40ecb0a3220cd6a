"""Records grow old and go while payments wait for a peer that is away; then owners ask for what is long past."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import trio

from channelpay.messages import control
from simulation.archive import Archive
from simulation.disk import Loss
from simulation.model import NO_ID, ChannelAccount, Payment, State
from simulation.partition import join, part
from simulation.workload import Owner
from simulation.world import World

_PATIENCE_S: Final = 60.0
_REPEATED: Final = 12


class LongPast:
    """In a world that forgets, after all other trouble: its nodes run on for longer than they keep records."""

    def __init__(self, world: World, owners: list[Owner], archive: Archive, note: Callable[[str], None]) -> None:
        self.world = world
        self._rng = random.Random(f"long past {world.seed}")
        self._owners = {owner.name: owner for owner in owners}
        self._archive = archive
        self._note = note

    async def run(self) -> None:
        """Wait until the past is gone, with payments under way; not where a restored store may wait for hours."""
        channel = await self._open_channel()
        if not self.world.limits.forgets or self.world.rolled_back or channel is None:
            return
        payer, payee = (self._owners[name] for name in channel.sides)
        old = [p for p in channel.payments if p.payer == payer.name and p.payment_id != NO_ID and p.asked]
        self._note("unreachable")
        part(self.world.network, *channel.sides)
        sent = await self._send(payer, channel)
        self._archive.look()
        await trio.sleep(self.world.limits.until_pruned_s)
        self._archive.look()
        if self._rng.random() < 0.7:
            await self._another_life(payer)
        join(self.world.network, *channel.sides)
        await self._arrive(payer, channel, sent)
        await payer.ask(channel, self._rng.sample(old, min(len(old), _REPEATED)))
        await payer.ask(channel, [payer.payment(channel, 3) for _ in range(4)])
        await payer.resolve(channel)
        await payee.reader.journal()

    async def _open_channel(self) -> ChannelAccount | None:
        for channel in self.world.account.channels.values():
            if channel.sides[0] in self._owners and channel.sides[1] in self._owners and not channel.ends_early:
                shown = await self._owners[channel.sides[0]].call(control.ShowChannel(channel.channel_id.hex()))
                if isinstance(shown, control.ChannelOne) and shown.channel.phase == "open":
                    return channel
        return None

    async def _send(self, payer: Owner, channel: ChannelAccount) -> list[tuple[Payment, int]]:
        """Payments that are signed and on disk and on their way to nobody, with their numbers."""
        payments = [p for p in (payer.payment(channel, 3) for _ in range(4)) if p.payment_id != NO_ID]
        await payer.ask(channel, payments)
        await trio.sleep(1.0)
        sent = []
        for payment in payments:
            view = await payer.call(control.FindPayment(payment.payment_id, channel.channel_id))
            if isinstance(view, control.PaymentView) and view.status == control.PAYMENT_SENT:
                sent.append((payment, view.n))
        return sent

    async def _another_life(self, payer: Owner) -> None:
        life = payer.process.life
        if life is not None and not life.dead:
            self._note("killed")
            life.kill(self._rng.choice((Loss.KILLED, Loss.POWER)))
            await life.exited.wait()

    async def _arrive(self, payer: Owner, channel: ChannelAccount, sent: list[tuple[Payment, int]]) -> None:
        """The peer is back: what was sent before all records went is paid now, under its numbers."""
        newest = max((n for _, n in sent), default=0)
        deadline = trio.current_time() + _PATIENCE_S
        while trio.current_time() < deadline:
            shown = await payer.call(control.ShowChannel(channel.channel_id.hex()))
            if isinstance(shown, control.ChannelOne) and shown.channel.own_acked_n >= newest:
                for payment, n in sent:
                    if payment.state is not State.PAID:
                        payer.learn_paid(payment, n)
                return
            await trio.sleep(0.5)
        self.world.account.find("unresolved", "payments that were sent long ago are not paid", payer.name)
