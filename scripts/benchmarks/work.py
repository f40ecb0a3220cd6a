"""What the processes of a benchmark are told to do. Functions of `benchmarks.worker`: JSON in, JSON out."""

from __future__ import annotations

import itertools
import math
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

import trio

import channelpay
from benchmarks.worker import Worker

_SORTED: Final = 50_000
"""Latencies of which a percentile is taken, spread evenly over a run."""


async def open_channel(
    worker: Worker, peer: str, deposit: str, window_s: int = 10, max_batch: int | None = None, one_way: bool = False
) -> str:
    """Open a channel and give its id."""
    channel = await worker.node.open_channel(peer, deposit, window_s=window_s, max_batch=max_batch, one_way=one_way)
    return str(channel)


async def open_channels(worker: Worker, peer: str, deposit: str, count: int, at_once: int = 32) -> list[str]:
    """Open so many channels with one peer, some at once; their ids."""
    found: list[str] = []
    left = iter(range(count))

    async def one() -> None:
        for _ in left:
            found.append(await open_channel(worker, peer, deposit))

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(one)
    return found


async def close_channel(worker: Worker, channel: str) -> str:
    """Close together with the peer, wait for the settlement; the phase it is in then."""
    return (await worker.node.close_channel(channel)).phase


# --- Paying ------------------------------------------------------------------------------------


class Tally:
    """Payments that were made, and how long each took from the call of pay until the payee held it."""

    def __init__(self) -> None:
        self.payments = 0
        self.latencies = array("d")
        self.began = time.perf_counter()

    def told(self) -> dict[str, float]:
        """JSON."""
        # Not all of them: a list of a million numbers would be the peak of this process's memory.
        latencies = sorted(self.latencies[:: len(self.latencies) // _SORTED + 1])
        return {
            "payments": self.payments,
            "p50_ms": percentile(latencies, 50) * 1000,
            "p99_ms": percentile(latencies, 99) * 1000,
        }


def percentile(ordered: Sequence[float], per_cent: float) -> float:
    """The nearest-rank percentile of sorted values; 0.0 of none."""
    return ordered[max(1, -int(-len(ordered) * per_cent // 100)) - 1] if ordered else 0.0


async def pay_once(worker: Worker, channel: str, units: int) -> None:
    """One payment of so many units."""
    await worker.node.pay(bytes.fromhex(channel), units)


async def pay(
    worker: Worker, channel: str, tasks: int, seconds: float = math.inf, payments: int | None = None
) -> dict[str, float]:
    """`tasks` tasks, each awaiting one pay() after another of one unit: for so long, or until so many are made."""
    tally, node, channel_id = Tally(), worker.node, bytes.fromhex(channel)
    end, turns = tally.began + seconds, _turns(payments)

    async def one() -> None:
        add, clock, made = tally.latencies.append, time.perf_counter, 0
        before = clock()
        for _ in turns:
            await node.pay(channel_id, 1)
            after = clock()
            add(after - before)
            before = after
            made += 1
            if after >= end:
                break
        tally.payments += made

    await _at_once(tasks, one)
    return tally.told()


async def pay_many(
    worker: Worker, channel: str, tasks: int, many: int, seconds: float = math.inf, payments: int | None = None
) -> dict[str, float]:
    """`tasks` tasks, each awaiting one pay_many() of `many` payments of one unit after another: for so long, or
    until so many are made, to the next multiple of `many`. A latency is that of a call."""
    tally, node, channel_id = Tally(), worker.node, bytes.fromhex(channel)
    end, turns = tally.began + seconds, _turns(payments and -(-payments // many))
    orders = [1] * many

    async def one() -> None:
        for _ in turns:
            before = time.perf_counter()
            paid = await node.pay_many(channel_id, orders)
            after = time.perf_counter()
            tally.latencies.append(after - before)
            tally.payments += paid.count
            if after >= end:
                break

    await _at_once(tasks, one)
    return tally.told()


def _turns(count: int | None) -> Iterator[None]:
    """What tasks take a turn from before each call, so that they make `count` in all; None: without end."""
    return itertools.repeat(None) if count is None else itertools.repeat(None, count)


async def _at_once(tasks: int, one: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(one)


# --- Being paid --------------------------------------------------------------------------------


class _Reading:
    """All that was read so far, by channel: [payments, units]."""

    def __init__(self) -> None:
        self.by_channel: dict[str, list[int]] = {}
        self.payments = 0
        self.moved = trio.lowlevel.ParkingLot()

    async def run(self, node: channelpay.Client) -> None:
        async for batch in node.payment_batches():
            record = batch.record
            row = self.by_channel.setdefault(record.channel_id.hex(), [0, 0])
            row[0] += record.count
            row[1] += record.total
            self.payments += record.count
            self.moved.unpark_all()


async def start_reading(worker: Worker) -> None:
    """From now on the process reads what its node is paid, batch by batch, as it comes."""
    worker.kept["reading"] = reading = _Reading()
    worker.nursery.start_soon(reading.run, worker.node)


async def received(worker: Worker, payments: int, limit_s: float) -> dict[str, list[int]]:
    """Wait until so many payments were read in all, or `limit_s` is over; [payments, units] of each channel then."""
    reading: Any = worker.kept["reading"]
    with trio.move_on_after(limit_s):
        while reading.payments < payments:
            await reading.moved.park()
    found: dict[str, list[int]] = reading.by_channel
    return found
