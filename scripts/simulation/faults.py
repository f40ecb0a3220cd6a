"""Whatever goes wrong: drawn from the seed, done at its moment, healed at the end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from simulation.crashes import (
    AT_THE_END,
    AT_THE_START,
    CALLED,
    FOCUS,
    PROFILE,
    UNREAD,
    UPON_CONNECTING,
    WHILE_IT_SEARCHES,
    WHILE_IT_STARTS,
    Armed,
    moments,
    plan_names,
)
from simulation.damage import Damage
from simulation.disk import Content, Loss
from simulation.guarantees import LOST
from simulation.partition import join, part
from simulation.process import Life, NodeProcess, Process
from simulation.scenes import Scenes
from simulation.workload import Owner
from simulation.world import World

_ACTIVE_S: Final = 12.0
"""Faults fall into so many seconds."""

_MOST_LIVES: Final = 60
"""A process that starts more often than any seed makes it start is not well."""

PROFILES: Final[dict[str, tuple[str, ...]]] = {
    "calm": (),
    "network": (
        "delay", "cut", "cut at a byte", "half-open", "one-way silence", "slow reader", "reconnect storm",
        "stale connection", "unreachable",
    ),
    "crashes": (
        "crash point", "crash point", "crash point", "killed", "power cut", "cut", "stopped in order", "stopped unread",
    ),
    "disk": ("disk full", "sync error", "power cut", "bit flipped", "crash point"),
    "ledger": ("ledger killed", "ledger unreachable", "ledger power cut", "ledger disk full", "ledger sync error",
               "ledger bit flipped", "ledger stopped in order", "ledger answer lost", "crash point"),
    "damage": ("bit flipped", "bit flipped", "bit flipped", "ledger bit flipped", "cut"),
    "old copy": ("old copy, told", "old copy, not told", "store lost", "cut", "crash point"),
}  # fmt: skip
PROFILES["everything"] = tuple(kind for name in ("network", "crashes", "disk", "ledger") for kind in PROFILES[name])
"""Which faults one seed draws from."""


class Nemesis:
    """Keeps the processes of a world running, and sees to it that they have trouble."""

    def __init__(self, world: World, owners: list[Owner]) -> None:
        self.world = world
        self.rng = random.Random(world.rng.random())
        self.profile = self.rng.choices(list(PROFILES), (1, 4, 6, 4, 4, 2, 3, 4))[0]
        if FOCUS or PROFILE:
            self.profile = PROFILE[0] if PROFILE else "crashes"
        self.crashes = "crash point" in PROFILES[self.profile]
        self._owners = {owner.name: owner for owner in owners}
        self._done: Counter[str] = Counter()
        self._healed = False
        self._crashes = 0
        self._pending: dict[str, Armed] = {}
        self.damage = Damage(world, self.rng)
        self._scenes = Scenes(world, self.rng, self._owners, self.note)
        self._acts: dict[str, Callable[[], Awaitable[None]]] = {
            "delay": self._delay, "cut": self._cut, "cut at a byte": self._cut_at, "half-open": self._half_open,
            "one-way silence": self._silence, "slow reader": self._slow, "reconnect storm": self._storm,
            "stale connection": self._stale, "unreachable": self._unreachable, "crash point": self._crash_point,
            "killed": self._killed, "power cut": self._power, "disk full": self._full, "sync error": self._sync_error,
            "bit flipped": self._flip, "old copy, told": partial(self._scenes.old_copy, "told"),
            "old copy, not told": partial(self._scenes.old_copy, "not told"), "store lost": self._scenes.store_lost,
            "ledger killed": self._ledger_killed, "ledger power cut": self._ledger_power,
            "ledger unreachable": self._ledger_unreachable, "ledger disk full": self._ledger_full,
            "ledger sync error": self._ledger_sync_error, "stopped in order": self._stopped,
            "ledger stopped in order": self._ledger_stopped, "ledger bit flipped": self._ledger_flip,
            "ledger answer lost": self._scenes.answer_lost, "stopped unread": self._scenes.stopped_unread,
        }  # fmt: skip

    # --- Lives ---------------------------------------------------------------------------------

    async def keep_alive(self, process: Process) -> None:
        """Start a process again whenever it has ended, as its operator would."""
        while not self.world.over:
            if (
                process.name not in self._pending
                and not self._healed
                and self.crashes
                and self.rng.random() < (0.2 if FOCUS else 0.6)
            ):
                target, armed = self._next_crash()
                self._pending[target.name] = armed
            life = await process.live(self._pending.pop(process.name, None))
            if isinstance(process, NodeProcess):
                self._owners[process.name].process_ended(list(self.world.account.channels.values()))
            if self.world.over or process.name in self.world.cheaters:
                return
            self._mend(process, life.why)
            await trio.sleep(0.05 + self.rng.random() * (0.3 if self._healed else 3.0) + process.rest_s)
            process.rest_s = 0.0

    def _mend(self, process: Process, why: str) -> None:
        """What becomes of the disk between two lives."""
        what = self._scenes.replace.pop(process.name, "")
        if what == "flip":
            if self.damage.flip(process):
                self.note("bit flipped" if isinstance(process, NodeProcess) else "ledger bit flipped")
        elif what == LOST or (what and process.name in self._scenes.copies):
            process.disk.put({} if what == LOST else self._scenes.copies[process.name])
            process.restored = what == "told"
            self.note("store lost" if what == LOST else f"old copy, {'told' if what == 'told' else 'not told'}")
            self.world.rolled_back.setdefault(process.name, set()).add(what)
        elif why and "simulated:" not in why and self.damage.repair(process):
            self.world.detected += 1
        if len(process.lived) > _MOST_LIVES:
            self.world.account.find("unresolved", f"does not stay up: {why}", process.name)
            self.world.scope.cancel()

    def note(self, kind: str) -> None:
        """A fault happened."""
        self._done[kind] += 1
        self.world.log("fault", kind)

    def met(self) -> Counter[str]:
        """Kinds of faults that happened, and how often."""
        met = Counter(self._done)
        if crashes := sum(1 for process in self.world.processes for life in process.lived if life.crashed):
            met["crash point"] = crashes
        for process in self.world.processes:
            prefix = "" if isinstance(process, NodeProcess) else "ledger "
            met.update(f"{prefix}{kind}" for kind in process.disk.faults)
        return met

    # --- The plan ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what the seed has in store."""
        kinds = PROFILES[self.profile]
        if not kinds:
            return
        count = self.rng.randint(1, 6)
        times = sorted(self.rng.random() * _ACTIVE_S for _ in range(count))
        began = trio.current_time()
        for number, at in enumerate(times):
            if self.profile == "old copy" or self.rng.random() < 0.2:
                self._scenes.copy(self._node())
            await trio.sleep(max(0.0, began + at - trio.current_time()))
            kind = kinds[(self.world.seed + number) % len(kinds)] if number == 0 else self.rng.choice(kinds)
            await self._acts[kind]()

    async def heal(self) -> None:
        """No more trouble: everything that is down comes up, and stays."""
        self._healed = True
        self._pending.clear()
        self.world.network.heal()
        for process in self.world.processes:
            if process.life is not None:
                process.life.armed = None
            process.disk.full_after = None
            process.disk.sync_fails = False
        for process in self.world.processes:
            while not process.alive:
                await trio.sleep(0.05)

    def restart(self, process: NodeProcess, copy: Content | None, what: str) -> None:
        """End a node, which goes on from a copy of its store (its operator `told` or `not told`) or from its own."""
        if copy is not None:
            self._scenes.copies[process.name] = copy
            self._scenes.replace[process.name] = what
        self._end(process, Loss.KILLED)

    def cheat(self, process: NodeProcess, victim: NodeProcess, window_s: int) -> None:
        """A node goes away for good, and its peer may be away too, for a part of the window."""
        self.world.cheaters.add(process.name)
        self.note("cheating close")
        self._end(process, Loss.KILLED)
        if self.rng.random() < 0.5:
            victim.rest_s = self.rng.random() * 0.6 * window_s
            self._end(victim, Loss.KILLED)

    async def stop(self, process: Process) -> None:
        """End it in order."""
        if process.life is not None:
            process.life.stop.set()
            await process.life.exited.wait()

    def _node(self) -> NodeProcess:
        return self.rng.choice(self.world.nodes)

    # --- The network ---------------------------------------------------------------------------

    def _stream(self) -> object:
        streams = [s for s in self.world.network.streams if not s.owner.dead]
        return self.rng.choice(streams) if streams else None

    async def _delay(self) -> None:
        self.note("delay")
        self.world.network.delay_s = self.rng.choice((0.05, 0.3, 1.5))
        await trio.sleep(self.rng.random() * 3)
        self.world.network.delay_s = 0.0

    async def _cut(self) -> None:
        if (stream := self._stream()) is not None:
            self.note("cut")
            self.world.network.cut(stream)

    async def _cut_at(self) -> None:
        if (stream := self._stream()) is not None:
            self.note("cut at a byte")
            self.world.network.cut(stream, after=self.rng.randint(1, 400))

    async def _half_open(self) -> None:
        """A connection of which one end is gone and the other has not been told."""
        if (stream := self._stream()) is not None:
            self.note("half-open")
            self.world.network.abandon(stream, 1e9)

    async def _stale(self) -> None:
        """The same, but what was under way arrives later, beside the connection that took its place."""
        if (stream := self._stream()) is not None:
            self.note("stale connection")
            self.world.network.abandon(stream, self.rng.choice((0.3, 1.0, 3.0)))

    async def _silence(self) -> None:
        if (stream := self._stream()) is not None:
            self.note("one-way silence")
            self.world.network.silence(stream)

    async def _slow(self) -> None:
        self.note("slow reader")
        process = self.rng.choice(self.world.processes)
        seconds = self.rng.choice((0.5, 3.0, 10.0))
        self.world.network.asleep[process.name] = trio.current_time() + seconds
        if self.rng.random() < 0.3:
            self.world.network.full.add(process.name)
            await trio.sleep(seconds)
            self.world.network.full.discard(process.name)

    async def _storm(self) -> None:
        self.note("reconnect storm")
        for _ in range(self.rng.randint(5, 12)):
            await trio.sleep(self.rng.random() * 0.15)
            for stream in list(self.world.network.streams):
                if self.rng.random() < 0.5:
                    self.world.network.cut(stream)

    async def _unreachable(self) -> None:
        self.note("unreachable")
        a, b = self.rng.sample(self.world.processes, 2)
        await self._part(a, b, self.rng.choice((1.0, 6.0)))

    async def _part(self, a: Process, b: Process, seconds: float) -> None:
        part(self.world.network, a.name, b.name)
        await trio.sleep(seconds)
        join(self.world.network, a.name, b.name)

    # --- Processes -----------------------------------------------------------------------------

    async def _crash_point(self) -> None:
        """One of the crash points, at one of the next times that some process passes it."""
        process, armed = self._next_crash()
        if process.alive and process.life is not None and await self._in_a_scene(process, process.life, armed):
            return
        starts, ends = armed.point.startswith(AT_THE_START), armed.point.startswith(AT_THE_END)
        if starts or ends:
            armed.passes = 1
        if not (starts or ends):
            ends = starts = self.rng.random() < 0.1
        if process.alive and process.life is not None and (self.rng.random() < 0.7 or ends) and (not starts or ends):
            process.life.armed = armed
            for point, call in CALLED.items():
                if armed.point.startswith(point) and isinstance(process, NodeProcess):
                    armed.passes = 1
                    await self._owners[process.name].provoke(call)
            if armed.point in moments() and process is self.world.ledger:
                armed.passes = 1
                await self._scenes.provoke(self._node(), "topup")
            if ends and process.life is not None:
                process.life.stop.set()
            return
        self._crash_in_next_life(process, armed)

    async def _in_a_scene(self, process: Process, life: Life, armed: Armed) -> bool:
        """For points that hardly anybody passes by chance; whether this is one."""
        point, passes, armed.passes = armed.point, armed.passes, 1
        if point.startswith(UNREAD):
            await self._scenes.stopped_unread(process, armed)
        elif point.startswith(WHILE_IT_STARTS) and isinstance(process, NodeProcess):
            await self._scenes.paid_at_the_start(process, partial(self._crash_in_next_life, process, armed))
        elif point.startswith(WHILE_IT_SEARCHES):
            await self._scenes.store_lost(partial(self._crash_in_next_life, armed=armed))
        elif point.startswith(UPON_CONNECTING):
            life.armed = armed
            for stream in [s for s in self.world.network.streams if s.owner is life]:
                self.world.network.cut(stream)
        else:
            armed.passes = passes
            return False
        return True

    def _crash_in_next_life(self, process: Process, armed: Armed) -> None:
        """From its first moment."""
        self._pending[process.name] = armed
        self._end(process, Loss.KILLED)

    def _next_crash(self) -> tuple[Process, Armed]:
        """Points take turns over the seeds, so that rare ones have their turn as often as others."""
        names = FOCUS or (moments() if self.rng.random() < 0.3 else plan_names())
        name = names[(self.world.seed * 5 + self._crashes) % len(names)]
        self._crashes += 1
        ledger = name.startswith(("ledger_server.", "ledger "))
        if name.startswith(("accepting.", "dialling.", "link.")) and self.rng.random() < 0.3:
            ledger = True
        process: Process = self.world.ledger if ledger else self._node()
        return process, Armed(name, self.rng.choice((1, 1, 2, 5, 20)), self.rng.random() < 0.5)

    def _end(self, process: Process, loss: Loss) -> None:
        if process.life is not None:
            process.life.kill(loss)

    async def _killed(self) -> None:
        await self._end_of_a_node("killed", Loss.KILLED)

    async def _power(self) -> None:
        await self._end_of_a_node("power cut", Loss.POWER)

    async def _end_of_a_node(self, kind: str, loss: Loss) -> None:
        """At any moment; half of the time while payments are under way."""
        node = self._node()
        if node.alive and self.rng.random() < 0.5:
            await self._owners[node.name].provoke("pay")
            await trio.sleep(self.rng.random() * 0.005)
        self.note(kind)
        self._end(node, loss)

    async def _stopped(self) -> None:
        """By its operator, who starts it again."""
        await self._stop(self._node(), "stopped in order")

    async def _ledger_stopped(self) -> None:
        await self._stop(self.world.ledger, "ledger stopped in order")

    async def _stop(self, process: Process, kind: str) -> None:
        if process.life is not None and process.alive:
            self.note(kind)
            process.life.stop.set()

    async def _ledger_killed(self) -> None:
        self.note("ledger killed")
        self._end(self.world.ledger, Loss.KILLED)

    async def _ledger_power(self) -> None:
        self.note("ledger power cut")
        self._end(self.world.ledger, Loss.POWER)

    async def _ledger_unreachable(self) -> None:
        self.note("ledger unreachable")
        await self._part(self._node(), self.world.ledger, self.rng.choice((2.0, 8.0)))

    # --- Disks ---------------------------------------------------------------------------------

    async def _full(self) -> None:
        self._node().disk.full_after = self.rng.randrange(4)

    async def _sync_error(self) -> None:
        await self._scenes.sync_error(self._node(), "pay")

    async def _ledger_full(self) -> None:
        self.world.ledger.disk.full_after = self.rng.randrange(4)

    async def _ledger_sync_error(self) -> None:
        await self._scenes.sync_error(self.world.ledger, "topup")

    async def _flip(self) -> None:
        process = self._node()
        self._scenes.replace[process.name] = "flip"
        self._end(process, Loss.KILLED)

    async def _ledger_flip(self) -> None:
        self._scenes.replace["ledger"] = "flip"
        self._end(self.world.ledger, Loss.KILLED)
