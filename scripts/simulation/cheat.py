"""A dishonest party: it keeps old states that its peer signed, goes away, and shows the ledger one of them."""

from __future__ import annotations

import random

import trio

from channelpay.crypto import SigningKey
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import CoSigned
from simulation.crashes import LIES
from simulation.model import NO_ID, ChannelAccount, State, records_of
from simulation.outsider import key_of, submit
from simulation.process import NodeProcess
from simulation.tamper import KINDS, REPEATED_ID, WITHHELD, Tamper
from simulation.tap import Channel
from simulation.world import World


class Cheater:
    """The owner of a node that shall run no more."""

    def __init__(self, world: World, process: NodeProcess, rng: random.Random) -> None:
        self.world = world
        self.process = process
        self.rng = rng
        self.kind = ""  # how it lies on the wire, if it does

    def _old_state(self, channel: Channel, side: int, key: SigningKey) -> CoSigned | None:
        """One that the peer signed before it received what it holds now."""
        states = channel.states[1 - side]
        if not states:
            return None
        older = states[: max(1, len(states) // 2)]
        if self.kind == WITHHELD:  # all that the peer has paid, and not all that it was paid
            older = [state for state in states if state[1] < channel.newest[side]][-1:] or older
        peer_n, own_n, signature = self.rng.choice(older)
        counts = (own_n, peer_n) if side == 0 else (peer_n, own_n)
        mine = key.sign(channel.state(*counts))
        signatures = (mine, signature) if side == 0 else (signature, mine)
        return CoSigned(channel.halves[0][counts[0]], channel.halves[1][counts[1]], *signatures)

    def tamper(self, account: ChannelAccount) -> str:
        """From now on what the node sends on this channel is not what it says; the kind of it."""
        channel = self.world.tap.channels.get(account.channel_id)
        side = account.sides.index(self.process.name)
        key = key_of(self.process, channel.keys[side]) if channel is not None else None
        if channel is None or key is None:
            return ""
        kind = self.kind = self.rng.choice(LIES or KINDS)
        tamper = self.world.network.tampers[self.process.name] = Tamper(kind, channel, side, key, self.rng)
        if kind == REPEATED_ID and self.rng.random() < 0.7:
            tamper.old = self._paid_long_ago(account)
        return kind

    def _paid_long_ago(self, account: ChannelAccount) -> bytes:
        """The record of one of its first payments whose id its peer must still know; empty if there is none."""
        mine = [p for p in account.payments if p.payer == self.process.name and p.payment_id != NO_ID]
        paid = [p for p in mine if p.state is State.PAID][:10]
        return b"" if self.world.limits.forgets or not paid else records_of([self.rng.choice(paid)])

    async def close(self, account: ChannelAccount) -> None:
        """Begin a dispute with an old state or with none. The node is not asked, and never comes back."""
        channel = self.world.tap.channels.get(account.channel_id)
        if channel is None:
            return
        side = channel.names.index(self.process.name)
        key = key_of(self.process, channel.keys[side])
        if key is None:
            return
        state = self._old_state(channel, side, key)
        states = (state,) if state is not None and self.rng.random() < 0.8 else ()
        operations: list[ops.Operation] = [ops.Close(account.channel_id, states)]
        if (again := self._old_state(channel, side, key)) is not None and self.rng.random() < 0.5:
            operations.append(ops.Respond(account.channel_id, (again,)))  # once the other has answered
        for operation in operations:
            await submit(self.world, self.rng, key, operation)
            await trio.sleep(self.rng.uniform(1.0, 5.0))
