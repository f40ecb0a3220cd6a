"""Faults of several moments, which seldom come together by chance: each is a small scene with its own actors."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import trio

from simulation.crashes import Armed
from simulation.disk import Content, Loss
from simulation.guarantees import LOST
from simulation.process import NodeProcess, Process
from simulation.workload import Owner
from simulation.world import World

_PATIENCE_S: Final = 15.0
"""How long a scene waits for a process that is down, or for an owner's answer."""

_LONGER_THAN_A_STOP_S: Final = 12.0
"""A node that stops waits ten seconds for what is under way."""


class Scenes:
    """`note` is told of every fault; what a process's disk becomes before its next start goes into `replace`."""

    def __init__(self, world: World, rng: random.Random, owners: dict[str, Owner], note: Callable[[str], None]) -> None:
        self.world = world
        self.replace: dict[str, str] = {}  # by process
        self.copies: dict[str, Content] = {}
        self._rng = rng
        self._owners = owners
        self._note = note

    def _node(self) -> NodeProcess:
        return self._rng.choice(self.world.nodes)

    async def provoke(self, process: Process, what: str) -> None:
        """Have a node's owner do something; its node may be down for a while."""
        with trio.move_on_after(_PATIENCE_S):
            await self._owners[process.name].provoke(what)

    # --- An answer of the ledger's that is lost --------------------------------------------------

    async def answer_lost(self) -> None:
        """The ledger does what it was asked and its answer never comes: whoever asked must ask again."""
        node = self._node()
        streams = self.world.network.between("ledger", node.name)
        if not node.alive or not streams:
            return
        self._note("ledger answer lost")
        for stream in streams:
            self.world.network.silence(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.provoke, node, "topup")
            await trio.sleep(self._rng.uniform(0.1, 1.0))
            fate = self._rng.choice(("connection", "ledger", "node"))
            if fate == "connection":
                for stream in streams:
                    self.world.network.cut(stream)
            else:
                process = self.world.ledger if fate == "ledger" else node
                if process.life is not None:
                    process.life.kill(self._rng.choice((Loss.KILLED, Loss.POWER)))

    # --- Old copies ------------------------------------------------------------------------------

    def copy(self, process: NodeProcess) -> None:
        """A copy of a node's store, as a backup makes it: what is durable now."""
        if process.disk.content():
            self.copies[process.name] = process.disk.content()

    def forgetful(self) -> NodeProcess:
        """Whose store goes back: always the same node, for of two neither can show what the other forgot."""
        goes_back = {*self.world.rolled_back, *(name for name, what in self.replace.items() if what != "flip")}
        for names in (goes_back, self.copies):
            for node in self.world.nodes:
                if node.name in names:
                    return node
        return self._node()

    async def old_copy(self, what: str) -> None:
        """A node goes on from a copy of its store, while its owner pays before and after."""
        process = self.forgetful()
        if process.name not in self.copies:
            self.copy(process)
        await self.provoke(process, "pay")
        await trio.sleep(self._rng.random())
        self.replace[process.name] = what
        if process.life is not None:
            process.life.kill(Loss.KILLED)
        await trio.sleep(0)
        await self.provoke(process, "pay")

    async def store_lost(self, end: Callable[[NodeProcess], None] | None = None) -> None:
        """A node ends and goes on from its seed words alone, while its owner pays before and after (spec N-26)."""
        process = self.forgetful()
        await self.provoke(process, "pay")
        self.replace[process.name] = LOST
        if end is not None:
            end(process)
        elif process.life is not None:
            process.life.kill(Loss.KILLED)
        await trio.sleep(0)
        await self.provoke(process, "pay")

    # --- Page cache and disk ---------------------------------------------------------------------

    async def sync_error(self, process: Process, what: str) -> None:
        """A sync fails, owners go on with the next life, perhaps on the same page cache, and the power fails."""
        failed = len(process.lived)
        process.disk.sync_fails = True
        rng = random.Random(f"sync error {self.world.seed} {trio.current_time()}")
        if rng.random() < 0.3:
            return
        if process.life is not None:  # killed in that moment: a stop would copy the log into the file
            process.life.armed = Armed(f"{process.kind} wal sync failed", 1, power=False)
        asked = process if isinstance(process, NodeProcess) else self._node()
        await self.provoke(asked, what)
        await process.come_up()
        if len(process.lived) == failed or not process.alive or process.life is None:
            return
        await self.provoke(asked, what)
        await trio.sleep(rng.uniform(0.0, 2.0))
        self._note("power cut" if isinstance(process, NodeProcess) else "ledger power cut")
        process.life.kill(Loss.POWER)

    # --- Full buffers ----------------------------------------------------------------------------

    async def stopped_unread(self, process: Process | None = None, armed: Armed | None = None) -> None:
        """A process is stopped in order while somebody does not read what it has sent, and its buffer is full."""
        stopped = process or self._rng.choice(self.world.processes)
        asked = stopped if isinstance(stopped, NodeProcess) else self._node()
        names = {end.other.owner.name for end in self.world.network.streams if end.owner.name == stopped.name}
        if not isinstance(stopped, NodeProcess):
            names &= {asked.name}
        if not stopped.alive or not asked.alive or not names or stopped.life is None:
            return
        self._note("stopped unread")
        life = stopped.life
        for name in names:
            self.world.network.full.add(name)
            self.world.network.asleep[name] = trio.current_time() + _LONGER_THAN_A_STOP_S
        for _ in range(3):
            with trio.move_on_after(0.3):
                await self.provoke(asked, "balance" if stopped is self.world.ledger else "pay")
        life.armed = armed or life.armed
        life.stop.set()
        await life.exited.wait()
        self.world.network.full -= names
        for name in names:
            self.world.network.asleep.pop(name, None)
        self.world.network.wake_all()

    async def paid_at_the_start(self, process: NodeProcess, restart: Callable[[], None]) -> None:
        """A node starts, its ledger takes its time, and its owner wants to pay at once."""
        self._note("slow reader")
        self.world.network.asleep["ledger"] = trio.current_time() + _PATIENCE_S / 3
        restart()
        await trio.sleep(0.1)
        await self.provoke(process, "pay")
