"""Crashes inside a commit that carries payments: all of it is on disk then, or nothing (spec 12, the store).

Other crash points count every write and sync, of which few belong to such a commit.
"""

from __future__ import annotations

import random
from typing import Final

import trio

from simulation.crashes import Armed
from simulation.workload import Owner
from simulation.world import World

_SHARE: Final = 0.2
_BETWEEN_S: Final = (1.0, 8.0)
_POINTS: Final = ("node wal sync after", "node wal sync after", "node wal sync before", "node wal write after")


async def crash_in_one(world: World, owners: list[Owner]) -> None:
    """In some of the worlds that crash at all: the node of one owner, soon after it was asked to pay."""
    rng = random.Random(f"payment commits {world.seed}")
    if rng.random() >= _SHARE:
        return
    await trio.sleep(rng.uniform(*_BETWEEN_S))
    owner = rng.choice(owners)
    life = owner.process.life
    if life is None or not owner.process.alive:
        return
    life.in_payments = Armed(rng.choice(_POINTS), 1, rng.random() < 0.5)
    with trio.move_on_after(2.0):
        await owner.provoke("pay")
