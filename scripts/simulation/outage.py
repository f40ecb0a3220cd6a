"""An outage that outlasts a dispute: the ledger and whoever must answer are away until its deadline has passed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from simulation.disk import Loss
from simulation.process import NodeProcess
from simulation.world import World

SHARE: Final = 0.3
"""Of the false closes."""

_PAST_THE_DEADLINE_S: Final = 5.0


def keep_from_ledger(world: World, victim: NodeProcess) -> None:
    """The victim does not hear of the dispute before the outage."""
    network = world.network
    network.unreachable.add(frozenset((victim.name, "ledger")))
    for stream in (*network.between(victim.name, "ledger"), *network.between("ledger", victim.name)):
        network.silence(stream)


def strike(world: World, victim: NodeProcess, window_s: int, note: Callable[[str], None]) -> None:
    """Both lose their power and come back together, when the window is over: the ledger must give time to answer."""
    note("outage in a dispute")
    world.network.unreachable.discard(frozenset((victim.name, "ledger")))
    for process in (world.ledger, victim):
        process.rest_s = window_s + _PAST_THE_DEADLINE_S
        if process.life is not None:
            process.life.kill(Loss.POWER)
