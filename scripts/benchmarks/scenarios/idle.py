"""Ten thousand channels that rest, each with its connection: what they cost in memory, and what they cost a payment."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Final

import trio

from benchmarks.crowd import Crowds, open_crowds
from benchmarks.limits import Limits
from benchmarks.pair import PAY, open_pair
from benchmarks.result import Result, Size
from benchmarks.stage import Stage
from benchmarks.worker import Worker

_PROCESSES: Final = 4
_SETTLE_S: Final = 2.0
"""How long a node is left alone before its memory is read: the openings' last messages are through."""


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module. A payment is measured on the same channel before the others are there and after."""
    channels = size.of(10_000, 40)
    async with open_pair(stage, **Crowds.SETTINGS) as pair:
        node = pair.payee.worker
        alone = await pair.medians(size, PAY, tasks=1)
        before = await node.call(_RESIDENT)
        began = trio.current_time()
        crowds = await open_crowds(stage, node, _PROCESSES, channels)
        opened_s = trio.current_time() - began
        await trio.sleep(size.of(_SETTLE_S, 0.1))
        kib = (await node.call(_RESIDENT) - before) / channels
        among = await pair.medians(size, PAY, tasks=1)
        await crowds.check_all_here()
        accounts = await pair.settle()
    result = Result.of(among, kib, accounts, alone_p50_ms=alone["p50_ms"], opened_s=opened_s, channels=channels)
    return replace(result, values={"ratio": kib, "alone": among["p50_ms"] / alone["p50_ms"]})


_RESIDENT: Final = "benchmarks.scenarios.idle:resident_kib"


async def resident_kib(worker: Worker) -> int:
    """Memory of this process that is resident now, in KiB."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("Linux tells it")
