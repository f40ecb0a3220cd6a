"""Honest work at a fixed rate, each begun at its time whether the one before is done or not (an open loop)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import trio

from channelpay.errors import ChannelpayError

Work = Callable[[], Awaitable[object]]
"""One honest payment or request, from asking to the answer."""


@dataclass
class Paid:
    """Milliseconds from when each payment was due until it was paid; how many failed, and why the first did."""

    latencies_ms: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def percentile(self, part: float) -> float:
        """The least latency that `part` of the payments did not exceed; infinity if none was paid."""
        return percentile(self.latencies_ms, part)


def percentile(values: Sequence[float], part: float) -> float:
    """The nearest-rank percentile of `values`; `part` is 0.99 for the 99th."""
    ordered = sorted(values)
    return ordered[math.ceil(part * len(ordered)) - 1] if ordered else math.inf


async def work_steadily(work: Work, rate: float, seconds: float) -> Paid:
    """Begin `work` `rate` times a second for `seconds`, and wait for the last."""
    paid, began = Paid(), trio.current_time()

    async def one(due: float) -> None:
        try:
            await work()
        except ChannelpayError as error:
            paid.failed.append(str(error))
        else:
            paid.latencies_ms.append((trio.current_time() - due) * 1000)

    async with trio.open_nursery() as nursery:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await trio.sleep_until(due)
            nursery.start_soon(one, due)
    return paid
