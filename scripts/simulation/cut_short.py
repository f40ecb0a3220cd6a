"""A victim of a false close whose process ends between what it has read of the dispute and its answer.

What it has read is committed, so the ledger does not tell it again; whoever closed is away, and its owner asks for
nothing before the window is over. The next life must find by itself that an answer is due (spec X-5).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import trio

from simulation.disk import Loss
from simulation.network import Stream
from simulation.process import NodeProcess
from simulation.requests import requests_in
from simulation.world import World

SHARE: Final = 0.5
"""Of the false closes without an outage."""

_PAST_THE_DEADLINE_S: Final = 5.0


class CutShort:
    """`note` is told when the victim has ended."""

    def __init__(self, world: World, victim: NodeProcess, note: Callable[[str], None]) -> None:
        self.world = world
        self.victim = victim
        self._note = note
        self._answers = trio.Event()

    def _hold(self, stream: Stream, data: bytes) -> bytes:
        if requests_in(data, ("respond",)):
            self.world.network.silence(stream)
            self._answers.set()
        return data

    async def run(self, window_s: int) -> None:
        """Until the window is over: the first answer never arrives, and nobody wakes the next life."""
        network, link = self.world.network, (self.victim.name, "ledger")
        network.replaced[link] = self._hold
        over = trio.current_time() + window_s + _PAST_THE_DEADLINE_S
        with trio.move_on_after(window_s / 2):
            await self._answers.wait()
        network.replaced.pop(link, None)
        if self._answers.is_set() and self.victim.life is not None:
            self._note("answer cut short")
            self.victim.life.kill(random.Random(f"cut short {self.world.seed}").choice((Loss.KILLED, Loss.POWER)))
        await trio.sleep_until(over)
