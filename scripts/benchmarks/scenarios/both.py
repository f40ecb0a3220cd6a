"""Both sides pay at once: neither waits for a turn, so two cores make what one direction costs, and no more."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import Final

from benchmarks.limits import Limits
from benchmarks.pair import PAY, TASKS, open_pair
from benchmarks.result import Result, Size, medians
from benchmarks.stage import Stage

CORES: Final = 2
ENDOWMENT: Final = 10**12


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module. After each round the cost in one direction is measured, on the same channel."""
    async with open_pair(stage) as pair:
        await pair.endow(ENDOWMENT)
        both, awaited = await pair.in_turn(
            size, partial(pair.both_ways, PAY, tasks=TASKS), partial(pair.one_way, PAY, tasks=TASKS)
        )
        accounts = await pair.settle()
    cpu_us = [one["payer_cpu_us"] + one["payee_cpu_us"] for one in awaited]
    ratio = median(one["payments_per_s"] * cost / 1e6 / CORES for one, cost in zip(both, cpu_us, strict=True))
    return Result.of(medians(both), ratio, accounts, awaited_cpu_us=median(cpu_us))
