"""Withdrawals and FINALs that are agreed and kept from the ledger, while a party forgets them or their time runs out.

A store is restored from a copy that has not heard of the agreement, and the peer is honest and shows it, or hides it,
pays with the same money once more and executes it then; or the peer forgets on purpose what the other remembers; or
the agreement is executed when it has expired.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from channelpay.crypto import SigningKey
from channelpay.ledger.outcomes import LedgerRefused
from channelpay.messages import control
from channelpay.messages import ledger as ops
from simulation.model import UNEXCUSED, ChannelAccount
from simulation.outsider import key_of, submit
from simulation.partition import join, part
from simulation.rest import RESTORED_WAIT_S
from simulation.tamper import without_agreements
from simulation.tap import Channel
from simulation.workload import Owner
from simulation.world import World, address_of

SHARE: Final = 0.3
"""Of the seeds."""

_SHOWN, _HIDDEN, _DENIED, _LATE = "shown", "hidden", "denied", "late"
FATES: Final = (_SHOWN, _SHOWN, _HIDDEN, _HIDDEN, _HIDDEN, _DENIED, _LATE)
"""What becomes of an agreement: see `Agreements.run`."""

FATE: list[str] = []
"""What becomes of one in every seed of this run, if anything stands here."""

_SOON_S: Final = 3.0
_ARRIVES_S: Final = 0.3
_MEET_S: Final = 15.0
"""Longer than an attempt to connect that nobody answers."""

_PIECES: Final = 3


@dataclass(slots=True)
class Parties:
    """`asker` wants the agreement and pays afterwards; `other` has consented to it."""

    channel: ChannelAccount
    tapped: Channel
    asker: Owner
    other: Owner
    key: SigningKey  # the asker's


class Agreements:
    """`restart` ends a node and has it start from content told or not told, or from its own if that is None."""

    def __init__(
        self, world: World, owners: list[Owner], note: Callable[[str], None], restart: Callable[..., None]
    ) -> None:
        self.world = world
        self._owners = {owner.name: owner for owner in owners}
        self._note = note
        self._restart = restart
        self._rng = random.Random(f"agreements {world.seed}")

    async def run(self) -> None:
        """One agreement on one channel, in some of the seeds.

        shown: the asker's store goes back, not told, and its peer shows the agreement. hidden: both stores go back,
        the peer's on purpose, the other's told. denied: only the asker's, on purpose. late: nobody forgets.
        """
        if self._rng.random() >= SHARE and not FATE:
            return
        parties = await self._parties()
        if parties is None:
            return
        fate = self._rng.choice(FATE or FATES)
        is_final = self._rng.random() < 0.4 and fate != _DENIED
        before = {o.name: o.process.disk.content() for o in (parties.asker, parties.other)}
        self._cut_off(parties.asker, parties.other)
        operation = await self._agree(parties, is_final)
        self.world.log("agreement", fate, is_final, operation is not None)
        if operation is not None:
            self._note("agreement held back")
            if fate == _LATE:
                await self._late(parties, operation)
            elif fate == _SHOWN:
                await self._shown(parties, before, is_final)
            else:
                await self._hidden(parties, before, operation, forgets=fate == _HIDDEN)
        self._reach(parties.asker, parties.other)

    # --- What becomes of it ------------------------------------------------------------------------

    async def _late(self, parties: Parties, operation: ops.Operation) -> None:
        """Its time runs out before anybody hands it to the ledger."""
        self._leap()
        self._reach(parties.asker, parties.other)
        await trio.sleep(self._rng.random() * _SOON_S)
        answer = await submit(self.world, self._rng, parties.key, operation)
        if answer is not None and not isinstance(answer, LedgerRefused):
            self.world.account.find("phantom", f"the ledger executes {operation.OP} after its expiry", UNEXCUSED)
        await self._pay(parties)

    async def _shown(self, parties: Parties, before: dict[str, dict[str, bytes]], is_final: bool) -> None:
        """The asker forgets; the other, who is honest and cannot reach the ledger, shows it what it has signed.

        The asker is asked to pay before it has heard the other (after FINAL always, for with what it shows comes
        SHUTDOWN): what waits then must not be signed.
        """
        asker, other, network = parties.asker, parties.other, self.world.network
        if is_final or self._rng.random() < 0.5:
            part(network, asker.name, other.name)
        self._reach(asker)
        self._restart(asker.process, before[asker.name], "not told")
        await self._up(asker)
        await trio.sleep(_SOON_S / 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pay, parties)
            await trio.sleep(_SOON_S / 2)
            join(network, asker.name, other.name)
            await asker.call(control.ConnectPeer(address_of(other.process)), patience_s=_MEET_S)
            await trio.sleep(_ARRIVES_S)

    async def _hidden(
        self, parties: Parties, before: dict[str, dict[str, bytes]], operation: ops.Operation, forgets: bool
    ) -> None:
        """The asker pays with the money that it has agreement to take out; the other may have forgotten that."""
        asker, other, network = parties.asker, parties.other, self.world.network
        network.replaced[other.name, asker.name] = without_agreements(parties.channel.channel_id)
        self._restart(asker.process, before[asker.name], "not told")
        self._restart(other.process, before[other.name] if forgets else None, "told")
        self._reach(asker, other)
        await self._up(asker, other)
        self.world.cheaters.add(asker.name)
        await trio.sleep(_SOON_S)
        await self._pay(parties)
        await submit(self.world, self._rng, parties.key, operation)
        del network.replaced[other.name, asker.name]
        if asker.process.life is not None:
            self._restart(asker.process, None, "")
        if forgets and self._rng.random() < 0.5:
            self._leap()
        elif forgets:
            self.world.waiting.add(other.name)

    # --- Its making --------------------------------------------------------------------------------

    async def _parties(self) -> Parties | None:
        """Of a channel on which both can pay and be paid."""
        fit = [c for c in self.world.account.channels.values() if not self.world.waiting & set(c.sides)]
        self._rng.shuffle(fit)
        for channel in fit:
            tapped = self.world.tap.channels.get(channel.channel_id)
            names = list(channel.sides)
            if channel.flags == 0 and self._rng.random() < 0.5:
                names.reverse()
            asker, other = (self._owners[name] for name in names)
            key = key_of(asker.process, tapped.keys[channel.sides.index(names[0])]) if tapped is not None else None
            if tapped is None or key is None:
                continue
            shown = [await owner.call(control.ShowChannel(channel.channel_id.hex())) for owner in (asker, other)]
            if all(isinstance(s, control.ChannelOne) and s.channel.phase == "open" and not s.channel.stalled
                   for s in shown):  # fmt: skip
                return Parties(channel, tapped, asker, other, key)
        return None

    async def _agree(self, parties: Parties, is_final: bool) -> ops.Operation | None:
        """Both sign; the ledger does not hear of it."""
        channel, asker = parties.channel, parties.asker
        side = channel.sides.index(asker.name)
        if is_final:
            await asker.call(control.CloseChannel(channel.channel_id, 0, 0), patience_s=1.0)
        else:
            units = await asker.spendable(channel)
            units -= units // 8
            if not units:
                return None
            channel.withdrawals[side].perhaps += units
            await asker.call(control.WithdrawChannel(channel.channel_id, units), patience_s=1.0)
        with trio.move_on_after(_SOON_S):
            while (
                found := parties.tapped.agreed_final() if is_final else parties.tapped.agreed_withdrawal(side)
            ) is None:
                await trio.sleep(0.1)
            await trio.sleep(_ARRIVES_S)
            return ops.CloseFinal(*found) if is_final else ops.Withdraw(*found)
        return None

    async def _pay(self, parties: Parties) -> None:
        """Nearly everything, or as much as the node lets go."""
        asker, channel = parties.asker, parties.channel
        units = max(await asker.spendable(channel), 10) // _PIECES
        payments = [asker.payment(channel, 1, named=True) for _ in range(_PIECES)]
        for payment in payments:
            payment.amount = units
        with trio.move_on_after(_SOON_S):
            await asker.ask(channel, payments)
        await asker.answered(payments, _SOON_S)

    # --- Means -------------------------------------------------------------------------------------

    def _cut_off(self, *owners: Owner) -> None:
        for owner in owners:
            part(self.world.network, owner.name, "ledger")

    def _reach(self, *owners: Owner) -> None:
        network = self.world.network
        for owner in owners:
            join(network, owner.name, "ledger")
            for stream in network.between(owner.name, "ledger"):
                if stream._out.silent:
                    network.cut(stream)

    def _leap(self) -> None:
        self.world.ledger.ahead_s += RESTORED_WAIT_S
        self._note("clock leapt")

    async def _up(self, *owners: Owner) -> None:
        for owner in owners:
            await owner.process.come_up()
