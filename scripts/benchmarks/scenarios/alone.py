"""One awaited payment after another: the price of a payment that nothing shares."""

from __future__ import annotations

from benchmarks.limits import Limits
from benchmarks.pair import PAY, open_pair
from benchmarks.result import Result, Size
from benchmarks.stage import Stage


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module."""
    async with open_pair(stage) as pair:
        found = await pair.medians(size, PAY, tasks=1)
        accounts = await pair.settle()
    return Result.of(found, found["p50_ms"] * 1000 / limits.alone_us, accounts)
