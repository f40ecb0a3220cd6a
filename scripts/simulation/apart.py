"""One more channel whose parties cannot hear each other while it is closed, when all faults are over.

Nobody cheats. Either the payee closes with payments whose ACK never left it, while their callers still wait; or the
payee of a one-way channel, which the ledger pays at once, goes on from an old copy and wants to close in its first
seconds, when nobody has shown it what it forgot (spec X-11).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import trio

from channelpay.messages import control
from simulation.model import UNEXCUSED, ChannelAccount
from simulation.partition import join, part
from simulation.workload import Owner
from simulation.world import World, address_of

_UNHEARD_SHARE: Final = 0.15
_OLD_COPY_SHARE: Final = 0.08
"""Of the seeds; a store that went back excuses more in what follows, so these are few."""

_FLAGS_ONE_WAY: Final = 1
_PAID_S: Final = 5.0
_ARRIVES_S: Final = 0.5
_SETTLED_S: Final = 30.0
"""After its window a dispute has been paid out, and both have heard of it."""

_FIRST_SECONDS_S: Final = 3.0
_MEET_S: Final = 20.0


class Apart:
    """`restart` ends a node and has it start from a copy."""

    def __init__(
        self, world: World, owners: list[Owner], note: Callable[[str], None], restart: Callable[..., None]
    ) -> None:
        self.world = world
        self._rng = random.Random(f"apart {world.seed}")
        self._owners = owners
        self._note = note
        self._restart = restart

    async def run(self) -> None:
        """One of the two in some of the seeds, between two whose stores are their own."""
        chance = self._rng.random()
        if chance >= _UNHEARD_SHARE + _OLD_COPY_SHARE:
            return
        fit = [o for o in self._owners if o.name not in self.world.rolled_back]
        if len(fit) < 2:
            return
        payer, payee = self._rng.sample(fit, 2)
        goes_back = chance >= _UNHEARD_SHARE
        channel = await payer.open(payee.process, _FLAGS_ONE_WAY if goes_back else None)
        if channel is None:
            return
        channel.ends_early = True
        await self._pay(payer, channel, _PAID_S)
        if goes_back:
            await self._from_an_old_copy(payer, payee, channel)
        else:
            await self._unheard(payer, payee, channel)

    async def _pay(self, payer: Owner, channel: ChannelAccount, patience_s: float) -> None:
        payments = [payer.payment(channel, 10) for _ in range(self._rng.choice((1, 3)))]
        await payer.ask(channel, payments)
        await payer.answered(payments, patience_s)

    async def _unheard(self, payer: Owner, payee: Owner, channel: ChannelAccount) -> None:
        """The payee takes payments, is not heard any more, and closes with the state that it has just taken."""
        network, pair = self.world.network, frozenset((payer.name, payee.name))
        self._note("one-way silence")
        network.unreachable.add(pair)
        for stream in network.between(payee.name, payer.name):
            network.silence(stream)
        for _ in range(self._rng.choice((1, 2))):
            await self._pay(payer, channel, 0.0)
            await trio.sleep(_ARRIVES_S)
        await payee.call(control.CloseChannel(channel.channel_id, 1, 0))
        deadline = trio.current_time() + channel.window_s + _SETTLED_S
        while not self.world.is_settled(channel.channel_id) and trio.current_time() < deadline:
            await trio.sleep(1.0)
        await trio.sleep(_ARRIVES_S)
        self._meet(payer, payee)

    async def _from_an_old_copy(self, payer: Owner, payee: Owner, channel: ChannelAccount) -> None:
        """The payer cannot be heard, so the payee must not close: what it would show is not all that it was paid."""
        copy = payee.process.disk.content()
        await self._pay(payer, channel, _PAID_S)
        paid_n = self.world.tap.acknowledged(channel.channel_id, payer.name)
        self._note("unreachable")
        part(self.world.network, payer.name, payee.name)
        life = payee.process.life
        self._restart(payee.process, copy, "not told")
        if life is not None:
            await life.exited.wait()
        await payee.call(control.CloseChannel(channel.channel_id, 1, 0))
        await trio.sleep(_FIRST_SECONDS_S)
        money = self.world.money(channel.channel_id)
        if money is not None and money.over and money.settled[0] < paid_n:
            what = (
                f"the payee was paid {paid_n} payments and closes with {money.settled[0]}, before it has heard its peer"
            )
            self.world.account.find("below_entitlement", what, UNEXCUSED)
        self._meet(payer, payee)
        await payee.call(control.ConnectPeer(address_of(payer.process)), patience_s=_MEET_S)
        await trio.sleep(_ARRIVES_S)

    def _meet(self, payer: Owner, payee: Owner) -> None:
        join(self.world.network, payer.name, payee.name)
        for stream in self.world.network.between(payee.name, payer.name):
            self.world.network.cut(stream)
