"""A close that is asked for once: its owner is answered, its node dies before the ledger hears, and nobody asks again.

What was answered is durable, so the node itself must bring it to its end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from channelpay.messages import control
from simulation.disk import Loss
from simulation.model import ChannelAccount
from simulation.partition import join, part
from simulation.workload import Owner
from simulation.world import World

_SHARE: Final = 0.3
"""Of the channels that are closed in a world where nobody cheats: who is cheated needs its ledger."""

_PATIENCE_S: Final = 2.0
"""Shorter than any window, which runs while the node cannot hear its ledger."""


async def decided(world: World, owner: Owner, channel: ChannelAccount, note: Callable[[str], None]) -> bool:
    """Whether `owner` has been told that the channel is being closed alone, and its node was killed then."""
    rng = random.Random(b"asked once " + channel.channel_id)
    if rng.random() >= _SHARE or world.cheaters:
        return False
    life, _ = await owner.api()
    note("ledger unreachable")
    part(world.network, owner.name, "ledger")
    answer = await owner.call(control.CloseChannel(channel.channel_id, 1, 0), patience_s=_PATIENCE_S)
    note("killed")
    life.kill(rng.choice((Loss.KILLED, Loss.POWER)))
    await life.exited.wait()
    join(world.network, owner.name, "ledger")
    return isinstance(answer, control.ChannelOne) and answer.channel.phase == "closing"
