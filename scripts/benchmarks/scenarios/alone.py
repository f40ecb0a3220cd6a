"""One awaited payment after another: the price of a payment that nothing shares."""

from __future__ import annotations

from benchmarks.limits import Limits, measure, merged
from benchmarks.pair import PAY, open_pair
from benchmarks.result import Result, Size
from benchmarks.stage import Stage


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module. Disks drift within seconds, so what is compared with is measured before and after."""
    async with open_pair(stage) as pair:
        found = await pair.medians(size, PAY, tasks=1)
        around = merged([limits, await measure(stage.directory, size)])
        accounts = await pair.settle()
    return Result.of(found, found["p50_ms"] * 1000 / around.alone_us, accounts, limit_us=around.alone_us)
