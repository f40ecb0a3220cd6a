"""As awaited, through the daemons and the local sockets: two clients, two daemons."""

from __future__ import annotations

from benchmarks.limits import Limits
from benchmarks.pair import PAY, TASKS, open_pair
from benchmarks.result import Result, Size
from benchmarks.stage import Stage


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module."""
    async with open_pair(stage, daemons=True) as pair:
        found = await pair.medians(size, PAY, tasks=TASKS)
        accounts = await pair.settle()
    return Result.of(found, found["payments_per_s"] / limits.sign_per_s, accounts)
