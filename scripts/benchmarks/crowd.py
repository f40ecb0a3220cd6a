"""Many ends of channels with one node, spread over processes (see benchmarks.ends), and the accounting of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final

from benchmarks.pair import both
from benchmarks.result import BenchFailed
from benchmarks.stage import MONEY, Stage, Worker
from channelpay.crypto import SigningKey

_OPEN_LIMIT_S: Final = 600.0
_READ_LIMIT_S: Final = 60.0


class Crowds:
    """The processes whose ends pay `payee`, an embedded node."""

    SETTINGS: ClassVar[Mapping[str, Any]] = {
        "policy__max_channels": 1_000_000,
        "admission__per_s": 10_000,
        "admission__burst": 10_000,
        "admission__address_per_s": 10_000,
        "admission__address_burst": 10_000,
        "admission__address_pending": 1_000,
        "admission__address_guests": 10_000,
    }
    """Of the payee's home: all ends come from one address, and at once."""

    def __init__(self, stage: Stage, payee: Worker, processes: list[Worker]) -> None:
        self._stage = stage
        self._payee = payee
        self._processes = processes
        self._seed = os.urandom(32)  # of the account that pays for the channels

    async def _all(self, function: str, **arguments: Any) -> list[Any]:
        """What a function of benchmarks.ends returns in each process."""
        return await both(*[partial(p.call, f"benchmarks.ends:{function}", **arguments) for p in self._processes])

    async def open(self, channels: int) -> None:
        """Open so many channels more, shared out among the processes."""
        address = await self._stage.ledger_address()
        await self._stage.issue(SigningKey(self._seed).public, MONEY)
        await self._all(
            "open_ends",
            peer=self._payee.address, ledger=str(address), seed=self._seed.hex(),
            asset=self._stage.asset_id.hex(), count=channels // len(self._processes), limit_s=_OPEN_LIMIT_S,
        )  # fmt: skip

    # --- Paying ----------------------------------------------------------------------------

    async def pay_at_rate(self, per_s: float, seconds: float) -> dict[str, float]:
        """The figures of `benchmarks.ends.pay_at_rate`."""
        return await self._round("pay_at_rate", per_s=per_s, seconds=seconds)

    async def pay_flat_out(self, seconds: float, prepare: int) -> dict[str, float]:
        """The figures of `benchmarks.ends.pay_flat_out`."""
        return await self._round("pay_flat_out", seconds=seconds, prepare=prepare)

    async def _round(self, function: str, **arguments: Any) -> dict[str, float]:
        await self._all("prepare", payments=arguments.pop("prepare", 0))
        sides = [self._payee, *self._processes]
        before, acked = [await side.usage() for side in sides], await self._acknowledged()
        answers = await self._all(function, **arguments)
        used = [(await side.usage()).since(b) for side, b in zip(sides, before, strict=True)]
        payments = await self._acknowledged() - acked
        return {
            "payments_per_s": sum(answer["payments"] / answer["seconds"] for answer in answers),
            "p50_ms": max(answer["p50_ms"] for answer in answers),
            "p99_ms": max(answer["p99_ms"] for answer in answers),
            "payer_cpu_us": sum(one.cpu_s for one in used[1:]) * 1e6 / payments,
            "payee_cpu_us": used[0].cpu_s * 1e6 / payments,
            "wire_bytes": sum(one.wire_bytes for one in used) / payments,
            "commits": used[0].commits / payments,
            "peak_mib": max(one.peak_kib for one in used) / 1024,
            "most_least": max(a["most"] for a in answers) / max(1, min(a["least"] for a in answers)),
        }

    async def _acknowledged(self) -> int:
        return sum(await self._all("acknowledged"))

    async def check_all_here(self) -> None:
        """Raises BenchFailed if an end has lost its connection."""
        await self._all("check_all_here")

    # --- The accounting --------------------------------------------------------------------

    async def settle(self) -> dict[str, int]:
        """Close all on the ledger; payments that were sent, received and settled. Raises BenchFailed if they differ."""
        await self._all("pay_signed")
        sent = await self._acknowledged()
        read = await self._payee.call("benchmarks.work:received", payments=sent, limit_s=_READ_LIMIT_S)
        settled: dict[str, list[int]] = {}
        for some in await self._all("settle"):
            settled |= some
        settled = {channel_id: numbers for channel_id, numbers in settled.items() if numbers[0]}
        if read != settled:
            raise BenchFailed(
                f"the payee has read {len(read)} channels' payments otherwise than {len(settled)} settled"
            )
        payments = [sum(row[0] for row in found.values()) for found in (read, settled)]
        return {"sent": sent, "received": payments[0], "settled": payments[1]}


async def open_crowds(stage: Stage, payee: Worker, processes: int, channels: int) -> Crowds:
    """Processes with `channels` open channels to `payee` in all, whose home was made with Crowds.SETTINGS."""
    workers = [await stage.process(f"ends-{n}", "benchmarks.ends") for n in range(processes)]
    crowds = Crowds(stage, payee, workers)
    await crowds.open(channels)
    return crowds
