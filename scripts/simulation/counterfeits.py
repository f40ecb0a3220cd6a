"""A dishonest party that shows what its peer has not signed, or has not let go, each on a connection of its own.

Each lie is refused, and on the next connection the channel goes on with the truth.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from channelpay.crypto import SigningKey
from channelpay.messages import control
from channelpay.messages import ledger as ops
from simulation import books
from simulation.model import UNEXCUSED, ChannelAccount
from simulation.network import Stream
from simulation.outsider import key_of, submit
from simulation.tap import Channel
from simulation.wire import READY, RECORDS, REESTABLISH, WITHDRAW_ASK, WITHDRAW_OK, fields_of, frames, packed
from simulation.workload import Owner
from simulation.world import World, address_of, usd

SHARE: Final = 0.8
"""Of the lives in which a party lies."""

FORGETS: Final = 0.4
"""Of those in which it lies so: the victim's store goes back, which excuses much of what follows."""

_HALF: Final = struct.Struct(">QQ32sQ32s")
_MEET_S: Final = 15.0
"""Longer than an attempt to connect that nobody answers."""

_SOON_S: Final = 3.0
_ARRIVES_S: Final = 0.3
_LIFE_S: Final = 60
_DEPOSIT: Final = 20_000
_WINDOW_S: Final = 30
_PIECES: Final = 3

Change = Callable[[list[Any]], None]
"""Makes a lie of the fields of a message."""


@dataclass(slots=True)
class Parties:
    """A channel, and the side and key of the party that lies."""

    channel: ChannelAccount
    tapped: Channel
    side: int
    key: SigningKey

    @property
    def false(self) -> bytes:
        """A signature of its own key over something else."""
        return self.key.sign(b"something else")


class _Forged:
    """Changes the messages of one kind on one channel, and says when the first has left."""

    def __init__(self, kind: int, channel_id: bytes, change: Change) -> None:
        self.sent = trio.Event()
        self._kind = kind
        self._channel_id = channel_id
        self._change = change

    def __call__(self, _: Stream, data: bytes) -> bytes:
        return b"".join(self._frame(kind, frame) for kind, frame in frames(data))

    def _frame(self, kind: int, frame: bytes) -> bytes:
        if kind != self._kind:
            return frame
        fields = fields_of(frame)
        if fields[0] != self._channel_id:
            return frame
        self._change(fields)
        self.sent.set()
        return packed(kind, fields)


class _Behind:
    """Sends something of its own behind the next message on one channel."""

    def __init__(self, channel_id: bytes, own: bytes) -> None:
        self._channel_id = channel_id
        self._own = own

    def __call__(self, _: Stream, data: bytes) -> bytes:
        ours = any(kind >= REESTABLISH - 2 and fields_of(frame)[0] == self._channel_id for kind, frame in frames(data))
        own, self._own = (self._own, b"") if ours else (b"", self._own)
        return data + own


class _NothingSigned:
    """But for the `known` channels: READY is falsely signed, and nothing that has the signature follows."""

    def __init__(self, known: set[bytes], false: bytes) -> None:
        self.sent = trio.Event()
        self._known = known
        self._false = false

    def __call__(self, _: Stream, data: bytes) -> bytes:
        return b"".join(self._frame(kind, frame) for kind, frame in frames(data))

    def _frame(self, kind: int, frame: bytes) -> bytes:
        if kind not in (READY, REESTABLISH):
            return frame
        channel_id = fields_of(frame)[0]
        if channel_id in self._known:
            return frame
        self.sent.set()
        return packed(READY, [channel_id, self._false]) if kind == READY else b""


class Counterfeits:
    """`note` is told of every lie that was told. It has its own luck, so that others keep theirs.

    `restart` ends a node and has it go on from a copy of its store, told or not told.
    """

    def __init__(
        self, world: World, liar: Owner, victim: Owner, note: Callable[[str], None], restart: Callable[..., None]
    ) -> None:
        self.world = world
        self.liar = liar
        self.victim = victim
        self._note = note
        self._restart = restart
        self._rng = random.Random(f"counterfeits {world.seed}")

    async def run(self) -> None:
        """One after another, in some of the lives."""
        names = {self.liar.name, self.victim.name}
        if self._rng.random() >= SHARE or names & self.world.waiting:
            return
        parties = self._on_a_channel()
        if parties is not None:
            await self._show_what_is_not_signed(parties)
            await self._false_consent(parties)
            if self._rng.random() < FORGETS:
                await self._false_records(parties)
                return
        await self._two_withdrawals()
        await self._never_ready(set(self.world.tap.channels))

    # --- At the beginning of a connection ----------------------------------------------------------

    async def _show_what_is_not_signed(self, parties: Parties) -> None:
        if parties.channel.flags == 0:
            await self._under_way(parties)
            await self._shown(parties, partial(self._acknowledges_all, parties))
            await self._shown(parties, partial(self._has_paid_more, parties))
            await self._pay(self.victim, parties.channel)
        await self._shown(parties, partial(self._withdrawal, parties))
        await self._shown(parties, partial(self._final, parties))

    async def _shown(self, parties: Parties, change: Change) -> None:
        """The next REESTABLISH is a lie, and the one after it is not."""
        await self._told(parties, REESTABLISH, change, self._meet)
        await self._meet()

    async def _told(self, parties: Parties, kind: int, change: Change, occasion: Callable[[], Any]) -> None:
        """Messages of this kind are lies while there is occasion for them."""
        forged = _Forged(kind, parties.channel.channel_id, change)
        pair = self.liar.name, self.victim.name
        self.world.network.replaced[pair] = forged
        await occasion()
        with trio.move_on_after(_SOON_S):
            await forged.sent.wait()
            await trio.sleep(_ARRIVES_S)
            self._note("counterfeit")
        self.world.network.replaced.pop(pair, None)

    async def _meet(self) -> None:
        """On a new connection."""
        for stream in self.world.network.between(self.liar.name, self.victim.name):
            self.world.network.cut(stream)
        await self.liar.call(control.ConnectPeer(address_of(self.victim.process)), patience_s=_MEET_S)
        await trio.sleep(_ARRIVES_S)

    async def _under_way(self, parties: Parties) -> None:
        """The victim has payments under way that do not arrive."""
        for stream in self.world.network.between(self.victim.name, self.liar.name):
            self.world.network.silence(stream)
        await self._pay(self.victim, parties.channel)
        await trio.sleep(_ARRIVES_S)

    def _acknowledges_all(self, parties: Parties, fields: list[Any]) -> None:
        """All that the victim has signed, without a signature that says so."""
        victim = 1 - parties.side
        fields[1][victim] = parties.tapped.halves[victim][parties.tapped.newest[victim]]
        fields[1][2] = parties.false

    def _has_paid_more(self, parties: Parties, fields: list[Any]) -> None:
        """The victim is shown one payment more of its own than it has made."""
        victim = 1 - parties.side
        n, total, *_ = _HALF.unpack(parties.tapped.halves[victim][parties.tapped.newest[victim]])
        halves = list(fields[1][:2])
        halves[victim] = _HALF.pack(n + 1, total + 1, self._rng.randbytes(32), 0, bytes(32))
        fields[2] = [*halves, parties.false]

    def _withdrawal(self, parties: Parties, fields: list[Any]) -> None:
        """The victim is shown a withdrawal of its own that it never asked for."""
        victim, money = 1 - parties.side, self.world.money(parties.channel.channel_id)
        total = (money.withdrawn[victim] if money else 0) + 1
        expiry = self._now() + _LIFE_S
        statement = _withdraw(parties.channel.channel_id, victim, total, expiry)
        fields[3] = [[victim, total, expiry, *self._signatures(parties, statement)]]

    def _final(self, parties: Parties, fields: list[Any]) -> None:
        """The victim is shown a FINAL that it has not signed."""
        halves, expiry = fields[1][:2], self._now() + _LIFE_S
        seq = sum(int.from_bytes(half[:8], "big") for half in halves).to_bytes(8, "big")
        statement = b"channelpay.fi.v1" + parties.channel.channel_id + seq + b"".join(halves)
        fields[4] = [*halves, expiry, *self._signatures(parties, statement + expiry.to_bytes(8, "big"))]

    def _signatures(self, parties: Parties, statement: bytes) -> tuple[bytes, bytes]:
        """The liar's own, and a false one in place of the victim's."""
        own = parties.key.sign(statement)
        return (own, parties.false) if parties.side == 0 else (parties.false, own)

    # --- On the way --------------------------------------------------------------------------------

    async def _false_consent(self, parties: Parties) -> None:
        """The victim asks for a withdrawal and gets an answer that is not signed."""
        channel, victim = parties.channel, self.victim

        def change(fields: list[Any]) -> None:
            fields[3] = parties.false

        async def ask() -> None:
            channel.withdrawals[1 - parties.side].perhaps += 1
            await victim.call(control.WithdrawChannel(channel.channel_id, 1), patience_s=1.0)

        await self._told(parties, WITHDRAW_OK, change, ask)
        await self._meet()

    async def _false_records(self, parties: Parties) -> None:
        """The victim has forgotten payments, and asks for what it has signed: what comes does not link up to that."""
        victim, copy = self.victim.process, self.victim.process.disk.content()
        forged_id = self._rng.randbytes(16)

        def change(fields: list[Any]) -> None:
            for batch in fields[2][:1]:
                batch[1] = batch[1][:8] + forged_id + batch[1][24:]

        async def forget() -> None:
            self._restart(victim, copy, "not told")
            await trio.sleep(_ARRIVES_S)
            await victim.come_up()
            await self._meet()

        await self._pay(self.liar, parties.channel)
        await self._told(parties, RECORDS, change, forget)
        await self._meet()
        if any(forged_id in (row.records or b"") for row in books.batches(victim.disk.directory / "node.db")):
            what = "the journal has a payment that does not link up to what was signed"
            self.world.account.find("phantom", f"{victim.name}: {what}", UNEXCUSED)

    async def _two_withdrawals(self) -> None:
        """Two are agreed, the first of nearly everything; then the money is paid, and the first is handed in.

        What was paid beyond the withdrawal is shown again in REESTABLISH: the ledger pays what there is (spec X-7).
        """
        channel = await self._open(self.liar, self.victim)
        parties = self._parties(channel) if channel is not None else None
        if channel is None or parties is None or not (units := await self.liar.spendable(channel)):
            return
        agreed, expiry = units - units // 8, self._now() + _LIFE_S
        asks = b"".join(self._ask(parties, *terms) for terms in ((agreed, expiry), (1, expiry + 1)))
        pair = self.liar.name, self.victim.name
        self.world.network.replaced[pair] = _Behind(channel.channel_id, asks)
        await self._pay(self.liar, channel)
        await trio.sleep(_ARRIVES_S)
        self.world.network.replaced.pop(pair, None)
        consent = parties.tapped.consents.get((parties.side, agreed, expiry), {}).get(1 - parties.side)
        if consent is None:
            return
        self._note("counterfeit")
        await self._pay(self.liar, channel, units // _PIECES - 5)
        channel.withdrawals[parties.side].perhaps += agreed
        own = parties.key.sign(_withdraw(channel.channel_id, parties.side, agreed, expiry))
        signatures = (own, consent) if parties.side == 0 else (consent, own)
        operation = ops.Withdraw(channel.channel_id, parties.side, agreed, expiry, *signatures)
        await submit(self.world, self._rng, parties.key, operation)

    @staticmethod
    def _ask(parties: Parties, total: int, expiry: int) -> bytes:
        channel_id = parties.channel.channel_id
        signature = parties.key.sign(_withdraw(channel_id, parties.side, total, expiry))
        return packed(WITHDRAW_ASK, [channel_id, total, expiry, signature])

    async def _never_ready(self, others: set[bytes]) -> None:
        """The victim's deposit is in a channel whose first state the liar never signs: it goes away soon."""
        nothing = self._sign_nothing(others)
        if await self._open(self.victim, self.liar) is not None and nothing.sent.is_set():
            self._note("counterfeit")

    def _sign_nothing(self, others: set[bytes]) -> _NothingSigned:
        """From now on, but on other channels."""
        false = SigningKey(self._rng.randbytes(32)).sign(b"something else")
        nothing = self.world.network.replaced[self.liar.name, self.victim.name] = _NothingSigned(others, false)
        return nothing

    # --- Means -------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self.world.ledger.time())

    def _on_a_channel(self) -> Parties | None:
        """A channel of both, on which the victim can pay if there is one."""
        names = {self.liar.name, self.victim.name}
        fit = [c for c in self.world.account.channels.values() if set(c.sides) == names and not c.ends_early]
        fit.sort(key=lambda c: c.flags)
        return self._parties(fit[0]) if fit else None

    def _parties(self, channel: ChannelAccount) -> Parties | None:
        tapped = self.world.tap.channels.get(channel.channel_id)
        side = channel.sides.index(self.liar.name)
        key = key_of(self.liar.process, tapped.keys[side]) if tapped is not None else None
        return Parties(channel, tapped, side, key) if tapped is not None and key is not None else None

    async def _open(self, opener: Owner, other: Owner) -> ChannelAccount | None:
        known = set(self.world.account.channels)
        method = control.OpenChannel(address_of(other.process), usd(), _DEPOSIT, 0, _WINDOW_S, 0)
        await opener.call(method, patience_s=_SOON_S)
        await opener.adopt(other.process, _DEPOSIT, 0)
        return next((c for key, c in self.world.account.channels.items() if key not in known), None)

    async def _pay(self, owner: Owner, channel: ChannelAccount, units: int = 1) -> None:
        payments = [owner.payment(channel, 1, named=True) for _ in range(_PIECES)]
        for payment in payments:
            payment.amount = units
        with trio.move_on_after(_SOON_S):
            await owner.ask(channel, payments)
        await owner.answered(payments, 1.0)


def _withdraw(channel_id: bytes, party: int, total: int, expiry: int) -> bytes:
    return b"channelpay.wd.v1" + channel_id + bytes([party]) + total.to_bytes(8, "big") + expiry.to_bytes(8, "big")
