"""Those who have no part in a world's channels and try to gain by them: a forger and an impostor."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import trio

from simulation.forger import Forger
from simulation.impostor import Impostor
from simulation.world import World

_SHARE: Final = 0.4
"""Of the seeds, for each of them."""

_BEGIN_S: Final = 6.0
_FORGERIES: Final = 4


class Strangers:
    """`note` is told what they did. They draw from a generator of their own, so that seeds without them stay as is."""

    def __init__(self, world: World, note: Callable[[str], None]) -> None:
        self.world = world
        self._note = note
        self._rng = random.Random(f"strangers {world.seed}")
        self.forger = Forger(world, self._rng)

    async def run(self) -> None:
        """While owners act and faults happen."""
        if self._rng.random() < _SHARE:
            await trio.sleep(self._rng.random() * _BEGIN_S)
            impostor = Impostor(self.world, self._rng)
            await impostor.run()
            if impostor.done:
                self._note("impersonation")
        if self._rng.random() < _SHARE:
            await self.forge(_FORGERIES)

    async def forge(self, count: int) -> None:
        """Ask the ledger for what not all have signed."""
        before = self.forger.tried
        await self.forger.run(count)
        if self.forger.tried > before:
            self._note("forgery")
