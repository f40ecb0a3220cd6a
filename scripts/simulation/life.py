"""One seed from its first channel to the audit."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio
from trio.testing import MockClock

from channelpay.errors import LocalError
from channelpay.messages import control
from simulation import asked_once, evidence
from simulation.agreements import Agreements
from simulation.apart import Apart
from simulation.archive import Archive
from simulation.auditor import Verdict, audit
from simulation.cheat import Cheater
from simulation.clocks import Clocks
from simulation.counterfeits import Counterfeits
from simulation.crashes import LIES, Watch
from simulation.cut_short import SHARE as CUT_SHORT_SHARE
from simulation.cut_short import CutShort
from simulation.early_close import EarlyClose
from simulation.faults import Nemesis
from simulation.guarantees import LOST
from simulation.inquiries import finds_itself_old
from simulation.long_past import LongPast
from simulation.model import ChannelAccount
from simulation.outage import SHARE as OUTAGE_SHARE
from simulation.outage import keep_from_ledger, strike
from simulation.payment_commits import crash_in_one
from simulation.process import watch_commits
from simulation.requests import Requests
from simulation.rest import RESTORED_WAIT_S, Rest
from simulation.strangers import Strangers
from simulation.tamper import BAD_SIGNATURE, OTHER_BYTES, WITHHELD
from simulation.workload import Owner
from simulation.world import World, address_of, fast_disk

_TRIES: Final = 3
_ACTIVE_S: Final = 60.0
_TAMPER_S: Final = 4.0
_SETTLE_S: Final = 1500.0


@dataclass(slots=True)
class Outcome:
    """What one seed came to."""

    seed: int
    trace: str
    payments: int
    verdict: Verdict
    profile: str
    faults: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    tail: list[str] = field(default_factory=list)


def live(seed: int, payments: int, *, verbose: bool = False, survey: Counter[str] | None = None) -> Outcome:
    """Live one seed in this thread; nothing outside it decides anything."""
    watch_commits()
    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[attr-defined]
    trio._core._run._r = random.Random(seed)  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(dir=fast_disk(), prefix="simulation") as directory:
        world = World(seed, Path(directory))
        if verbose:
            world.tail = []
        try:
            watch = Watch(survey)
            with world.limits.in_force():
                return trio.run(_Story(world, payments).run, clock=MockClock(autojump_threshold=0), instruments=[watch])
        finally:
            for process in world.processes:
                process.remove()


class _Story:
    def __init__(self, world: World, payments: int) -> None:
        self.world = world
        self.payments = payments
        self.owners = [Owner(world, node) for node in world.nodes]
        self.nemesis = Nemesis(world, self.owners)
        self.strangers = Strangers(world, self.nemesis.note)
        self.requests = Requests(world, self.nemesis.note)
        self.archive = Archive(world)

    async def run(self) -> Outcome:
        world = self.world
        with world.scope:
            await self._tell()
        for process in world.processes:
            self.nemesis.damage.repair(process)  # damage that nobody has read has harmed nobody
        verdict = audit(world, self.archive)
        made = sum(1 for c in world.account.channels.values() for p in c.payments if p.asked)
        return Outcome(
            world.seed,
            world.trace,
            made,
            verdict,
            self.nemesis.profile,
            self.nemesis.met(),
            world.hits,
            world.tail or [],
        )

    async def _tell(self) -> None:
        world = self.world
        async with trio.open_nursery() as nursery:
            for process in world.processes:
                nursery.start_soon(self.nemesis.keep_alive, process)
            nursery.start_soon(self.archive.keep)
            with trio.move_on_after(_ACTIVE_S):
                await self._open()
                await self._act()
            await self.nemesis.heal()
            await self._introduce()
            await self._leap()
            await self._resolve()
            await Rest(self.world, self.owners).run()  # nobody has cheated yet
            await LongPast(world, self.owners, self.archive, self.nemesis.note).run()
            await Apart(world, self.owners, self.nemesis.note, self.nemesis.restart).run()
            await self._settle()
            world.over = True
            for process in world.processes:
                await self.nemesis.stop(process)

    async def _open(self) -> None:
        pairs = [(0, 1), (1, 2), (2, 0)][: 1 if len(self.owners) == 2 else 2]
        if self.world.rng.random() < 0.3:
            pairs.append((1, 0))
        for a, b in pairs:
            if self.world.rng.random() < 0.5:
                a, b = b, a
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.requests.late_opening, self.world.nodes[a])
                await self.owners[a].open(self.world.nodes[b])

    async def _act(self) -> None:
        world = self.world
        channels = list(world.account.channels.values())
        if not channels:
            return
        directions = [
            (owner, channel)
            for channel in channels
            for owner in self.owners
            if owner.name in channel.sides and not (channel.flags == 1 and channel.sides[1] == owner.name)
        ]
        shares = [self.payments // len(directions)] * len(directions)
        shares[0] += self.payments - sum(shares)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.nemesis.run)
            nursery.start_soon(self.strangers.run)
            nursery.start_soon(self.requests.again)
            if self.nemesis.crashes:
                nursery.start_soon(crash_in_one, world, self.owners)
            nursery.start_soon(Clocks(world, self.nemesis.note).run)
            nursery.start_soon(EarlyClose(world, self.owners, self.nemesis.note).run)
            for (owner, channel), share in zip(directions, shares, strict=True):
                nursery.start_soon(self._pay, owner, channel, share)
            for channel in channels:
                for owner in self.owners:
                    if owner.name in channel.sides:
                        nursery.start_soon(self._busy, owner, channel)

    @staticmethod
    async def _pay(owner: Owner, channel: ChannelAccount, count: int) -> None:
        await owner.endow(channel)
        await owner.pay(channel, count)

    async def _busy(self, owner: Owner, channel: ChannelAccount) -> None:
        for _ in range(owner.rng.randrange(4)):
            await trio.sleep(owner.rng.random() * 5)
            await owner.act(channel)

    async def _resolve(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + 400.0
            for channel in self.world.account.channels.values():
                for owner in self.owners:
                    if owner.name in channel.sides:
                        nursery.start_soon(owner.resolve, channel)

    async def _introduce(self) -> None:
        """Who has lost its store tells its node where its peers are, as the node says of channels that it has found."""
        for owner in self.owners:
            if LOST in self.world.rolled_back.get(owner.name, ()):
                for other in self.owners:
                    if other is not owner:
                        for _ in range(_TRIES):  # a node that ends meanwhile has to be told again
                            if await owner.call(control.ConnectPeer(address_of(other.process))) is not None:
                                break
                            await trio.sleep(1.0)

    async def _leap(self) -> None:
        """The ledger's clock leaps, so that restored stores have waited long enough; or they go on waiting."""
        told = {name for name, copies in self.world.rolled_back.items() if "told" in copies}
        for owner in self.owners:  # a copy that is older than a channel tells by itself
            if owner.name in self.world.rolled_back and await finds_itself_old(owner):
                told.add(owner.name)
        if told and self.world.rng.random() < 0.7:
            self.world.ledger.ahead_s += RESTORED_WAIT_S
            self.nemesis.note("clock leapt")
        else:
            self.world.waiting |= told

    # --- The end -------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Every channel is closed in one way or another, and the ledger pays out."""
        world = self.world
        for owner in self.owners:  # openings that were cut off and went on all the same
            for other in self.owners:
                if other is not owner:
                    await owner.adopt(other.process, 10**9, 0)
        await self.requests.at_the_end_of_life()
        await Agreements(world, self.owners, self.nemesis.note, self.nemesis.restart).run()
        await self._cheat()
        async with trio.open_nursery() as nursery:
            for channel in world.account.channels.values():
                nursery.start_soon(self._close, channel)
        async with trio.open_nursery() as nursery:
            for owner in self.owners:
                if owner.name not in world.cheaters:
                    nursery.start_soon(owner.reader.journal)
            for channel in world.account.channels.values():
                for owner in self._honest(channel):
                    nursery.start_soon(owner.reader.answers, channel)

    async def _cheat(self) -> None:
        """Sometimes a party does not want to settle as it was."""
        rng = random.Random(self.world.seed)
        fit = [c for c in self.world.account.channels.values() if not c.ends_early]
        if not fit or self.world.cheaters or (rng.random() > 0.35 and not LIES):
            return
        channel = rng.choice(fit)
        side = 0 if channel.flags == 1 else rng.randrange(2)  # the payee of a one-way channel robs itself alone
        names = {node.name: node for node in self.world.nodes}
        cheater, victim = names[channel.sides[side]], names[channel.sides[1 - side]]
        party = Cheater(self.world, cheater, rng)
        self.world.cheaters.add(cheater.name)
        lies = rng.random() < 0.75 or bool(LIES)
        if lies:
            await self._forge(cheater.name, victim.name)
        if not await self._leaves_evidence(cheater.name, channel) and lies:
            await self._tamper(party, channel)
        outage = random.Random(f"outage {self.world.seed}").random() < OUTAGE_SHARE
        if outage:
            keep_from_ledger(self.world, victim)
        cut_short = not outage and random.Random(f"cut short? {self.world.seed}").random() < CUT_SHORT_SHARE
        self.nemesis.cheat(cheater, victim, 0 if outage or cut_short else channel.window_s)
        async with trio.open_nursery() as nursery:
            if cut_short:
                nursery.start_soon(CutShort(self.world, victim, self.nemesis.note).run, channel.window_s)
            await party.close(channel)
        if outage:
            strike(self.world, victim, channel.window_s, self.nemesis.note)
            return
        if rng.random() < 0.5:
            await self.strangers.forge(1)  # now that a dispute is open

    async def _forge(self, liar: str, victim: str) -> None:
        owners = {owner.name: owner for owner in self.owners}
        await Counterfeits(self.world, owners[liar], owners[victim], self.nemesis.note, self.nemesis.restart).run()

    async def _leaves_evidence(self, name: str, channel: ChannelAccount) -> bool:
        """Half of those who will show an old state have signed payments before that did not arrive."""
        payer = next(o for o in self.owners if o.name == name)
        wanted = evidence.chosen(self.world) and not LIES
        return wanted and await evidence.leave(self.world, payer, channel, self.nemesis.note)

    async def _tamper(self, party: Cheater, channel: ChannelAccount) -> None:
        """A party lies on the wire for a while, and then shows an old state too."""
        owner = next(o for o in self.owners if o.name == party.process.name)
        kind = party.tamper(channel)
        with trio.move_on_after(_TAMPER_S):
            if kind == "payment after the last":
                await owner.call(control.CloseChannel(channel.channel_id, 0, 0))
            elif kind == "greedy withdrawal":
                await owner.call(control.WithdrawChannel(channel.channel_id, 1))
            elif kind == WITHHELD:
                await self._cross(owner, channel)
            elif kind in (BAD_SIGNATURE, OTHER_BYTES):
                await self._one_by_one(owner, channel, read_together=kind == BAD_SIGNATURE)
            else:
                await owner.ask(channel, [owner.payment(channel, 5) for _ in range(3)])
            await trio.sleep(_TAMPER_S)
        tamper = self.world.network.tampers.pop(owner.name, None)
        if tamper is not None and tamper.done:
            self.nemesis.note("tampering")

    async def _cross(self, owner: Owner, channel: ChannelAccount) -> None:
        """The peer pays more often than it is paid, and then it is paid: the newest state that it signed is not all."""
        if channel.flags == 0:
            for peer in self._honest(channel):
                await peer.ask(channel, [peer.payment(channel, 5) for _ in range(5)])
        await trio.sleep(1.0)
        await owner.ask(channel, [owner.payment(channel, 5) for _ in range(2)])

    async def _one_by_one(self, owner: Owner, channel: ChannelAccount, read_together: bool) -> None:
        """Payments that are sent one by one."""
        for peer in self._honest(channel) if read_together else ():
            self.world.network.asleep[peer.name] = trio.current_time() + 0.5
        for _ in range(3):
            await owner.ask(channel, [owner.payment(channel, 5)])
            await trio.sleep(0.05)

    def _honest(self, channel: ChannelAccount) -> list[Owner]:
        return [o for o in self.owners if o.name in channel.sides and o.name not in self.world.cheaters]

    async def _never_opened(self, channel: ChannelAccount) -> bool:
        """Whether the ledger has not opened the channel, and its opener is a liar that went away or has given it up.

        The payee, who has consented, may wait for a request's life of an hour (C-7); it signs no state and loses
        nothing, and the ledger's books hold no money for it.
        """
        if self.world.money(channel.channel_id) is not None:
            return False
        if channel.sides[0] in self.world.cheaters:
            return True
        opener = next(owner for owner in self.owners if owner.name == channel.sides[0])
        shown = await opener.call(control.ShowChannel(channel.channel_id.hex()))
        return isinstance(shown, control.ChannelOne) and shown.channel.phase == "abandoned"

    async def _close(self, channel: ChannelAccount) -> None:
        rng = random.Random(int.from_bytes(channel.channel_id[:8], "big"))
        both = self._honest(channel)
        first = rng.choice(both)
        force = int(rng.random() < 0.4)
        if rng.random() < 0.2:
            async with trio.open_nursery() as nursery:
                for owner in both:
                    nursery.start_soon(owner.call, control.CloseChannel(channel.channel_id, force, 0))
        is_decided = await asked_once.decided(self.world, first, channel, self.nemesis.note)
        deadline = trio.current_time() + _SETTLE_S
        while trio.current_time() < deadline:
            wait, answer = int(rng.random() < 0.2), None
            if not is_decided:
                answer = await first.call(control.CloseChannel(channel.channel_id, force, wait))
            shown = await first.call(control.ShowChannel(channel.channel_id.hex()))
            phase = shown.channel.phase if isinstance(shown, control.ChannelOne) else ""
            if phase in ("settled", "abandoned"):
                break
            if phase == "accepted" and await self._never_opened(channel):
                return
            if isinstance(answer, LocalError):
                force |= phase == "funded"  # the peer has never signed: nobody is there to close together with
                await trio.sleep(5.0)
            await trio.sleep(2.0)
        else:
            what = f"channel {channel.channel_id.hex()[:8]} does not settle: {phase}"
            self.world.account.find("unresolved", what, *(owner.name for owner in both))
            return
        for owner in both:
            with trio.move_on_after(200.0) as scope:
                while True:
                    shown = await owner.call(control.ShowChannel(channel.channel_id.hex()))
                    if isinstance(shown, LocalError) or (
                        isinstance(shown, control.ChannelOne) and shown.channel.phase in ("settled", "abandoned")
                    ):
                        break
                    await trio.sleep(1.0)
            if scope.cancelled_caught:
                self.world.account.find("unresolved", "does not see that a channel has settled", owner.name)
