"""Payments handed over by the thousand: what a payment costs when it shares everything."""

from __future__ import annotations

from typing import Final

from benchmarks.limits import Limits
from benchmarks.pair import PAY_MANY, open_pair
from benchmarks.result import Result, Size
from benchmarks.stage import Stage

MANY: Final = 4096
TASKS: Final = 4
"""Calls of pay_many at once: one waits for the payee while another is being signed."""


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module. The latencies are those of whole calls."""
    async with open_pair(stage) as pair:
        found = await pair.medians(size, PAY_MANY, tasks=TASKS, many=MANY)
        accounts = await pair.settle()
    return Result.of(found, found["payments_per_s"] / limits.sign_per_s, accounts, pay_many=MANY, tasks=TASKS)
