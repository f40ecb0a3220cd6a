"""Nodes' own wall clocks that leap, forwards and backwards, as when somebody sets them.

Payment ids bear the time of their owner, who lives on the same machine. They may lie an hour ahead (PAYMENT_ID_FUTURE)
and records are kept for at least that long after the last moment in which their ids are good (spec N-32), so clocks
leap by less than that, and in worlds that forget, by less than what is left there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import trio

from simulation.world import World

_SHARE: Final = 0.3
"""Of the seeds."""

_AHEAD_S: Final = (-1_700.0, -60.0, -3.0, 0.0, 3.0, 60.0, 1_700.0)
_AHEAD_WHERE_IT_FORGETS_S: Final = (-1.0, 0.0, 1.0)


class Clocks:
    """`note` is told of every leap."""

    def __init__(self, world: World, note: Callable[[str], None]) -> None:
        self.world = world
        self._note = note
        self._rng = random.Random(f"clocks {world.seed}")

    async def run(self) -> None:
        """While owners act, in some of the seeds: now and then one node's clock is set."""
        if self._rng.random() >= _SHARE:
            return
        ahead = _AHEAD_WHERE_IT_FORGETS_S if self.world.limits.forgets else _AHEAD_S
        for _ in range(self._rng.randint(1, 4)):
            await trio.sleep(self._rng.uniform(0.2, 4.0))
            node = self._rng.choice(self.world.nodes)
            if (ahead_s := self._rng.choice(ahead)) != node.ahead_s:
                node.ahead_s = ahead_s
                self._note("own clock leapt")
