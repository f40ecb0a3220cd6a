"""Both sides pay at once: neither waits for a turn, so two cores make what one direction costs, and no more."""

from __future__ import annotations

from typing import Final

from benchmarks.limits import Limits
from benchmarks.pair import PAY, TASKS, open_pair
from benchmarks.result import Result, Size
from benchmarks.stage import Stage

CORES: Final = 2
ENDOWMENT: Final = 10**12


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module. The cost in one direction is measured first, on the same channel."""
    async with open_pair(stage) as pair:
        await pair.endow(ENDOWMENT)
        awaited = await pair.medians(size, PAY, tasks=TASKS)
        found = await pair.medians(size, PAY, tasks=TASKS, both=True)
        accounts = await pair.settle()
    cpu_us = awaited["payer_cpu_us"] + awaited["payee_cpu_us"]
    return Result.of(found, found["payments_per_s"] * cpu_us / 1e6 / CORES, accounts, awaited_cpu_us=cpu_us)
