"""The curves: speed against concurrency and batch size, the cost of a payment against channels and past payments.

Every point is the median of several rounds on one channel between two processes with embedded nodes; the rounds of a
curve are played on the same pair, after one to warm up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from benchmarks.pair import PAY, PAY_MANY, TASKS, Order, Pair, open_pair
from benchmarks.result import Size, medians
from benchmarks.stage import Stage

_AT_ONCE: Final = 64
"""Payments that wait at once while the cost of one is measured."""

_CHUNK: Final = 4096
_MANY_CHANNELS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Point:
    """What was measured at `x`. `cpu_us`: CPU of payer and payee together, for each payment."""

    x: float
    payments_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float

    @classmethod
    def of(cls, x: float, found: dict[str, float]) -> Point:
        """From the figures of `Pair.round`."""
        cpu = found["payer_cpu_us"] + found["payee_cpu_us"]
        return cls(x, found["payments_per_s"], found["p50_ms"], found["p99_ms"], cpu)


@dataclass(frozen=True, slots=True)
class Curve:
    """`x`: what the points stand against."""

    x: str
    points: list[Point]

    def as_json(self) -> dict[str, Any]:
        return {"x": self.x, "points": [asdict(point) for point in self.points]}


async def concurrency(stage: Stage, size: Size) -> Curve:
    """Tasks that each await one pay() after another."""
    tasks = size.of([2**k for k in range(11)], [1, 16])
    orders = [(n, _awaited(n, size.of(0.8, 0.05))) for n in tasks]
    return await _curve(stage, size, "tasks, each awaiting pay()", _awaited(TASKS, size.of(1.0, 0.05)), orders)


async def batch(stage: Stage, size: Size) -> Curve:
    """Payments that are handed over in one call of pay_many, one call after another."""
    counts = size.of([2**k for k in range(13)], [1, 256])
    orders = [(n, _handed_over(n, size.of(0.6, 0.05))) for n in counts]
    return await _curve(stage, size, "payments in each call of pay_many()", _handed_over(_CHUNK, 0.05), orders)


async def _curve(stage: Stage, size: Size, x: str, warm_up: Order, orders: list[tuple[int, Order]]) -> Curve:
    async with open_pair(stage) as pair:
        await pair.round(warm_up)
        points = [await _point(pair, at, order, size) for at, order in orders]
        await pair.settle()
    return Curve(x, points)


async def channels(stage: Stage, size: Size) -> Curve:
    """Payments on one channel while both nodes have others too."""
    points = []
    async with open_pair(
        stage, policy__max_channels=_MANY_CHANNELS, policy__max_channels_per_peer=_MANY_CHANNELS
    ) as pair:
        await pair.round(_awaited(_AT_ONCE, size.of(0.5, 0.05)))
        opened = 1
        for count in size.of([1, 10, 100, 1000, 10_000], [1, 3]):
            await pair.open_others(count - opened)
            opened = count
            points.append(await _point(pair, count, _counted(size.of(10_000, 100)), size))
        await pair.settle()
    return Curve("channels of both nodes", points)


async def past(stage: Stage, size: Size) -> Curve:
    """Payments on a channel that has seen many; the rounds themselves are part of its past."""
    points = []
    async with open_pair(stage) as pair:
        await pair.round(_counted(size.of(500, 50)))
        for count in size.of([10**3, 10**4, 10**5, 10**6, 10**7], [10**3, 10**4]):
            many = min(_CHUNK, count // 10)
            await pair.round((PAY_MANY, {"tasks": 4, "payments": count - pair.payer.paid, "many": many}))
            before = pair.payer.paid
            points.append(await _point(pair, before, _counted(min(before // 3, 10_000)), size))
        await pair.settle()
    return Curve("payments made on the channel before", points)


CURVES: Final[dict[str, Callable[[Stage, Size], Awaitable[Curve]]]] = {
    "concurrency": concurrency, "batch": batch, "channels": channels, "past": past,
}  # fmt: skip


async def _point(pair: Pair, x: float, order: Order, size: Size) -> Point:
    return Point.of(x, medians([await pair.round(order) for _ in range(size.of(3, 1))]))


def _awaited(tasks: int, seconds: float) -> Order:
    return PAY, {"tasks": tasks, "seconds": seconds}


def _handed_over(many: int, seconds: float) -> Order:
    return PAY_MANY, {"tasks": 1, "many": many, "seconds": seconds}


def _counted(payments: int) -> Order:
    return PAY, {"tasks": _AT_ONCE, "payments": payments}
