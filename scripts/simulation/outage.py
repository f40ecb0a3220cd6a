"""An outage in a dispute: the ledger, and mostly whoever must answer, are away for the window or a part of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from simulation.disk import Loss
from simulation.partition import join, part
from simulation.process import NodeProcess
from simulation.world import World

SHARE: Final = 0.5
"""Of the false closes."""

_PAST_THE_DEADLINE_S: Final = 5.0


def keep_from_ledger(world: World, victim: NodeProcess) -> None:
    """The victim does not hear of the dispute before the outage."""
    part(world.network, victim.name, "ledger")


def strike(world: World, victim: NodeProcess, window_s: int, note: Callable[[str], None]) -> None:
    """The ledger, and mostly the victim, lose their power for a part of the window or all of it.

    They come back together; if the window is over by then, the ledger must give time to answer (spec L-16).
    """
    rng = random.Random(f"strike {world.seed}")
    away_s = window_s * rng.choice((0.3, 1.0, 1.0)) + _PAST_THE_DEADLINE_S
    struck = (world.ledger, victim) if rng.random() < 0.7 else (world.ledger,)
    note("outage in a dispute")
    join(world.network, victim.name, "ledger")
    for process in struck:
        process.rest_s = away_s
        if process.life is not None:
            process.life.kill(Loss.POWER)
