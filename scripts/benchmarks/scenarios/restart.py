"""A node with a long past is killed and started again: how long until a payment of its goes through."""

from __future__ import annotations

import sys
from statistics import median
from typing import Any

import trio

from benchmarks.limits import Limits
from benchmarks.result import Result, Size
from benchmarks.stage import MONEY, Stage, Worker
from channelpay.home import Home

_LIMIT_S = 60.0


class _Hub:
    """The node that is started again and again, and the one channel of it whose peer exists."""

    def __init__(self, stage: Stage, home: Home, peer: Worker) -> None:
        self._stage = stage
        self.home = home
        self._peer = peer
        self.channel = ""
        self.paid = 0
        self.worker: Worker | None = None

    async def open(self) -> None:
        """Start for the first time, open the channel."""
        self.worker = await self._stage.node("hub", self.home)
        self.channel = await self.worker.call(
            "benchmarks.work:open_channel", peer=self._peer.address, deposit="1 USD", window_s=10
        )
        await self._pay()

    async def _pay(self) -> None:
        assert self.worker is not None
        await self.worker.call("benchmarks.work:pay_once", channel=self.channel, units=1)
        self.paid += 1

    async def kill(self) -> None:
        """SIGKILL, so that the start has something to recover."""
        assert self.worker is not None
        await self._stage.end(self.worker)
        self.worker = None

    async def start(self) -> float:
        """Seconds from the start of the process until its first payment is acknowledged by the peer."""
        began = trio.current_time()
        self.worker = await self._stage.node("hub", self.home)
        with trio.fail_after(_LIMIT_S):
            await self._pay()
        return trio.current_time() - began

    async def restarts(self, times: int) -> tuple[float, float]:
        """(median seconds of several starts, MiB of the last); the node is running at the end."""
        seconds = []
        for index in range(times):
            if index:
                await self.kill()
            seconds.append(await self.start())
        assert self.worker is not None
        return median(seconds), (await self.worker.usage()).peak_kib / 1024

    async def grow(self, channels: int, payments: int) -> None:
        """Stop, and put channels or payments into the store as if years had passed."""
        await self.kill()
        numbers = "--channels", str(channels), "--payments", str(payments)
        command = [sys.executable, "-m", "benchmarks.big_store", "--home", str(self.home.path), *numbers]
        await trio.run_process(command, capture_stdout=True)


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module. Channels of others come first, payments on them later: the difference is the past's."""
    channels, payments, times = size.of(100_000, 200), size.of(10_000_000, 100_000), size.of(3, 1)
    peer = await stage.node("peer", await stage.make_home("peer"))
    await peer.call("benchmarks.work:start_reading")
    hub = _Hub(stage, await stage.make_home("hub", MONEY), peer)
    await hub.open()
    await hub.kill()
    alone_s, alone_mib = await hub.restarts(times)
    await hub.grow(channels, 0)
    without_s, mib = await hub.restarts(times)
    await hub.grow(0, payments)
    with_s, _ = await hub.restarts(times)
    return Result(
        {"ratio": with_s, "growth": with_s / without_s},
        peak_mib=mib,
        accounts=await _settle(stage, hub, peer),
        extra=_extra(hub, channels, payments, alone_s, without_s, (mib - alone_mib) * 1024 / channels),
    )


def _extra(
    hub: _Hub, channels: int, payments: int, alone_s: float, without_s: float, kib_a_channel: float
) -> dict[str, Any]:
    return {
        "channels": channels + 1,
        "payments": payments + hub.paid,
        "one_channel_s": alone_s,
        "no_payments_s": without_s,
        "kib_a_channel": kib_a_channel,
        "store_mib": hub.home.node_db.stat().st_size / 2**20,
    }


async def _settle(stage: Stage, hub: _Hub, peer: Worker) -> dict[str, int]:
    read = await peer.call("benchmarks.work:received", payments=hub.paid, limit_s=_LIMIT_S)
    assert hub.worker is not None
    await hub.worker.call("benchmarks.work:close_channel", channel=hub.channel)
    settled = await stage.settled(hub.channel)
    return {"sent": hub.paid, "received": read[hub.channel][0], "settled": sum(settled.payments)}
