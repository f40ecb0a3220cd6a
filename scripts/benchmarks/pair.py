"""Two nodes with a channel between them: what most scenarios measure, and the accounting of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from benchmarks.result import BenchFailed, Size, medians
from benchmarks.stage import MONEY, Daemon, Stage, Usage, Worker

_DEPOSIT: Final = MONEY // 10
PAY: Final = "benchmarks.work:pay"
PAY_MANY: Final = "benchmarks.work:pay_many"
_READ_LIMIT_S: Final = 60.0
TASKS: Final = 512
"""Payments that wait at once in the scenarios that share."""

Rounds = list[dict[str, float]]
"""The figures of a Result, round by round."""

Order = tuple[str, dict[str, Any]]
"""A function for a worker and its arguments; what it returns has `payments`, `p50_ms`, `p99_ms`."""


@dataclass
class Side:
    """One node of a pair: the process that pays and is paid, what it paid; where that is a client, the daemon too."""

    worker: Worker
    daemon: Daemon | None = None
    paid: int = 0
    units: int = 0

    async def usage(self) -> Usage:
        """What the node has used, the client's CPU included."""
        used = await self.worker.usage()
        if self.daemon is None:
            return used
        node = await self.daemon.usage()
        return Usage(used.cpu_s + node.cpu_s, max(used.peak_kib, node.peak_kib), node.commits, node.wire_bytes)


@dataclass
class Pair:
    """Party 0 is `payer`, who has opened the channel with a deposit; both may pay."""

    stage: Stage
    payer: Side
    payee: Side
    channel: str = ""

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.payer, self.payee

    async def open(self, max_batch: int | None = None) -> None:
        """Open the channel and let both read what they are paid."""
        for side in self.sides:
            await side.worker.call("benchmarks.work:start_reading")
        self.channel = await self.payer.worker.call(
            "benchmarks.work:open_channel",
            peer=self.payee.worker.address, deposit=f"{_DEPOSIT // 10**6} USD", max_batch=max_batch,
        )  # fmt: skip

    async def open_others(self, count: int) -> None:
        """Open so many more channels between the two; nobody pays on them."""
        await self.payer.worker.call(
            "benchmarks.work:open_channels", peer=self.payee.worker.address, deposit="1 USD", count=count
        )

    async def endow(self, units: int) -> None:
        """Give party 1 something to pay with: one payment of so many units."""
        await self.payer.worker.call("benchmarks.work:pay_once", channel=self.channel, units=units)
        self.payer.paid += 1
        self.payer.units += units

    async def medians(self, size: Size, function: str, **arguments: Any) -> dict[str, float]:
        """The figures of `function`, run by the payer: medians of several rounds after one to warm up."""
        (found,) = await self.in_turn(size, partial(self.one_way, function, **arguments))
        return medians(found)

    async def in_turn(self, size: Size, *plays: Callable[[float], Awaitable[dict[str, float]]]) -> list[Rounds]:
        """The figures of each of `plays`, which are given their seconds: several rounds of them after one to warm up.

        They take turns, as what is compared must be measured at the same time: machines drift.
        """
        for play in plays:
            await play(size.of(1.0, 0.05))
        rounds = [[await play(size.of(3.0, 0.3)) for play in plays] for _ in range(size.of(5, 1))]
        return [list(of_one) for of_one in zip(*rounds, strict=True)]

    async def one_way(self, function: str, seconds: float, **arguments: Any) -> dict[str, float]:
        """One round of `function`, run by the payer."""
        return await self.round((function, {**arguments, "seconds": seconds}))

    async def both_ways(self, function: str, seconds: float, **arguments: Any) -> dict[str, float]:
        """One round of `function`, run by both at once."""
        order = function, {**arguments, "seconds": seconds}
        return await self.round(order, order)

    async def round(self, payer: Order | None, payee: Order | None = None) -> dict[str, float]:
        """Run orders on both sides at once; the figures of a Result, read when all was read by its payee."""
        before = [await side.usage() for side in self.sides]
        orders = zip(self.sides, (payer, payee), strict=True)
        began = time.perf_counter()
        answers = await both(*[partial(self._pay, side, order) for side, order in orders if order is not None])
        await self.all_received()
        seconds = time.perf_counter() - began
        used = [(await side.usage()).since(b) for side, b in zip(self.sides, before, strict=True)]
        payments = sum(answer["payments"] for answer in answers)
        return {
            "payments": payments,
            "payments_per_s": payments / seconds,
            "p50_ms": max(answer["p50_ms"] for answer in answers),
            "p99_ms": max(answer["p99_ms"] for answer in answers),
            "payer_cpu_us": used[0].cpu_s * 1e6 / payments,
            "payee_cpu_us": used[1].cpu_s * 1e6 / payments,
            "wire_bytes": sum(one.wire_bytes for one in used) / payments,
            "commits": sum(one.commits for one in used) / payments,
            "peak_mib": max(one.peak_kib for one in used) / 1024,
        }

    async def _pay(self, side: Side, order: Order) -> dict[str, float]:
        function, arguments = order
        answer: dict[str, float] = await side.worker.call(function, channel=self.channel, **arguments)
        side.paid += int(answer["payments"])
        side.units += int(answer["payments"])
        return answer

    async def all_received(self) -> list[int]:
        """Wait until each has read what the other paid; how many payments each read. Raises BenchFailed.

        What is read must be exactly what was paid.
        """
        counts = []
        for payer, payee in (self.sides, self.sides[::-1]):
            read = await payee.worker.call("benchmarks.work:received", payments=payer.paid, limit_s=_READ_LIMIT_S)
            wanted = {self.channel: [payer.paid, payer.units]} if payer.paid else {}
            if read != wanted:
                raise BenchFailed(f"paid {wanted}, received {read}: [payments, units] by channel")
            counts.append(sum(payments for payments, _ in read.values()))
        return counts

    async def settle(self) -> dict[str, int]:
        """Close together and compare: payments sent, received by their payee, settled on the ledger. Or BenchFailed."""
        received = await self.all_received()
        await self.payer.worker.call("benchmarks.work:close_channel", channel=self.channel)
        settled = await self.stage.settled(self.channel)
        units = tuple(side.units for side in self.sides)
        if settled.units != units:
            raise BenchFailed(f"paid {units} units; the ledger settled {settled.units}")
        sent = sum(side.paid for side in self.sides)
        return {"sent": sent, "received": sum(received), "settled": sum(settled.payments)}


@asynccontextmanager
async def open_pair(
    stage: Stage, *, daemons: bool = False, max_batch: int | None = None, **settings: Any
) -> AsyncIterator[Pair]:
    """Two nodes, embedded each in a process or run by daemons with a client each, and an open channel.

    `settings` are those of `Stage.make_home`.
    """

    async def side(name: str, money: int) -> Side:
        home = await stage.make_home(name, money, **settings)
        if not daemons:
            return Side(await stage.node(name, home))
        daemon = await stage.daemon(f"{name}-node", home)
        return Side(await stage.client(name, home), daemon)

    await stage.ledger_address()
    pair = Pair(stage, *await both(partial(side, "payer", MONEY), partial(side, "payee", 0)))
    await pair.open(max_batch)
    yield pair


async def both(*tasks: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What all tasks return, run at the same time."""
    results: list[Any] = [None] * len(tasks)

    async def run(index: int, task: Callable[[], Awaitable[Any]]) -> None:
        results[index] = await task()

    async with trio.open_nursery() as nursery:
        for index, task in enumerate(tasks):
            nursery.start_soon(run, index, task)
    return results
