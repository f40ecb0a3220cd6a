"""One awaited payment after another: the price of a payment that nothing shares."""

from __future__ import annotations

from typing import Final

from benchmarks.limits import Limits, measure, merged
from benchmarks.pair import PAY, open_pair
from benchmarks.result import Result, Size
from benchmarks.stage import Stage

_REST_S: Final = 0.001
"""About as long as each process waits for the other one, and for its disk, in one payment."""


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module. Disks drift within seconds, so what is compared with is measured before and after.

    The same is measured with a rest before every step, too: that much a payment loses by coming alone.
    """
    async with open_pair(stage) as pair:
        found = await pair.medians(size, PAY, tasks=1)
        around = merged([limits, await measure(stage.directory, size)])
        at_rest = await measure(stage.directory, size, _REST_S)
        accounts = await pair.settle()
    ratio, rested = (found["p50_ms"] * 1000 / limit.alone_us for limit in (around, at_rest))
    told = {"limit_us": around.alone_us, "limit_at_rest_us": at_rest.alone_us, "ratio_at_rest": rested}
    return Result.of(found, ratio, accounts, **told)
