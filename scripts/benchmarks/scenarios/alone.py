"""One awaited payment after another: the price of a payment that nothing shares."""

from __future__ import annotations

from benchmarks.limits import Limits
from benchmarks.pair import open_pair
from benchmarks.result import FIGURES, Result, Size, medians
from benchmarks.stage import Stage

PAY = "benchmarks.work:pay"


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module."""
    async with open_pair(stage) as pair:
        await pair.round((PAY, {"tasks": 1, "seconds": size.of(1.0, 0.05)}))
        order = (PAY, {"tasks": 1, "seconds": size.of(3.0, 0.3)})
        found = medians([await pair.round(order) for _ in range(size.of(5, 1))])
        await pair.settle()
    ratio = found["p50_ms"] * 1000 / limits.alone_us
    return Result({"ratio": ratio}, **{name: found[name] for name in FIGURES}, extra={"limit_us": limits.alone_us})
