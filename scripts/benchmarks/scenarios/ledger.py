"""What a ledger does in a second: whole lives of channels, asked for by many clients, and each operation alone.

In the mix every client has its channels opened, transfers money, and closes one channel together with its peer, the
next one in a dispute which is answered. Meanwhile somebody else reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from benchmarks.ledger_clients import SIGNATURES
from benchmarks.limits import Limits
from benchmarks.result import BenchFailed, Result, Size, medians
from benchmarks.stage import MONEY, Stage, Usage, Worker
from benchmarks.work import percentile
from channelpay.crypto import SigningKey
from channelpay.daemon.ledger_client import LedgerClient
from channelpay.daemon.outside import random_bytes
from channelpay.messages.ledger import Account

_CLIENTS: Final = 64
_KINDS: Final = tuple(SIGNATURES)
_LIFE_S: Final = 3000
"""How long the requests are valid: below the bound of an hour, above any run."""

_READ_EACH_S: Final = 0.01
_SEVERAL: Final = 8


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module."""
    address = await stage.ledger_address()
    process = await stage.process("clients", "benchmarks.ledger_clients", str(address), str(size.of(_CLIENTS, 4)))
    accounts = [bytes.fromhex(one) for one in await process.call("benchmarks.ledger_clients:accounts")]
    await stage.issue_to(accounts, MONEY // 1000)
    rounds = size.of(3, 1)
    bench = _Bench(stage, process, limits)
    async with stage.ledger() as reader:
        now = (await reader.info(SigningKey(random_bytes(32)))).time
        signed = await process.call(
            "benchmarks.ledger_clients:prepare",
            asset_id=stage.asset_id.hex(), valid_until=now + _LIFE_S, rounds=rounds + 2, lives=size.of(4, 1),
            each=size.of(24, 1),
        )  # fmt: skip
        await bench.play("mix0", at_once=1)  # to warm up
        quiet = await _readings(reader, accounts[0], size.of(1.0, 0.05))
        async with _reading(reader, accounts[0]) as busy:
            found = medians([await bench.play(f"mix{number}", at_once=1) for number in range(1, rounds + 1)])
        several = await bench.play(f"mix{rounds + 1}", at_once=_SEVERAL)
        alone = {kind: await bench.play(kind, at_once=1) for kind in _KINDS}
    extra = {
        "signatures": found["signatures"],
        "alone": {kind: _shown(one) for kind, one in alone.items()},
        f"{_SEVERAL} under way": _shown(several),
        "reading_p99_ms": {"quiet": percentile(quiet, 99) * 1000, "busy": percentile(sorted(busy), 99) * 1000},
    }
    journal = stage.journalled()
    journalled = sum(journal[kind] for kind in _KINDS)
    figures = {name: value for name, value in found.items() if name not in ("ratio", "signatures")}
    witnesses = {"asked": signed, "answered": bench.answered, "journalled": journalled}
    return Result({"ratio": found["ratio"]}, **figures, accounts=witnesses, extra=extra)


class _Bench:
    """Plays rows of requests and counts what was answered."""

    def __init__(self, stage: Stage, process: Worker, limits: Limits) -> None:
        self.answered = 0
        self._stage = stage
        self._process = process
        self._limits = limits

    async def _used(self) -> tuple[Usage, Usage]:
        return await self._process.usage(), await self._stage.ledger_daemon.usage()

    async def play(self, row: str, at_once: int) -> dict[str, float]:
        """The figures of a Result for each operation of a row; `signatures` that one needs, and its `ratio`."""
        before = await self._used()
        told = await self._process.call("benchmarks.ledger_clients:play", row=row, at_once=at_once)
        clients, ledger = (now.since(then) for now, then in zip(await self._used(), before, strict=True))
        count = told["operations"]
        if told["done"] != count:
            raise BenchFailed(f"{row}: {count - told['done']} of {count} requests were refused")
        self.answered += count
        per_s, signatures = count / told["seconds"], told["signatures"] / count
        return {
            "payments_per_s": per_s,
            "p50_ms": told["p50_ms"],
            "p99_ms": told["p99_ms"],
            "payer_cpu_us": clients.cpu_s * 1e6 / count,
            "payee_cpu_us": ledger.cpu_s * 1e6 / count,
            "wire_bytes": (clients.wire_bytes + ledger.wire_bytes) / count,
            "commits": ledger.commits / count,
            "peak_mib": ledger.peak_kib / 1024,
            "signatures": signatures,
            "ratio": per_s * signatures * self._limits.verify_us / 1e6,
        }


def _shown(figures: dict[str, float]) -> dict[str, float]:
    names = {"payments_per_s": "per_s", "payee_cpu_us": "ledger_cpu_us"}
    kept = ("payments_per_s", "ratio", "p50_ms", "p99_ms", "payee_cpu_us", "commits")
    return {names.get(name, name): round(figures[name], 3) for name in kept}


# --- Reading meanwhile ---------------------------------------------------------------------------


@asynccontextmanager
async def _reading(reader: LedgerClient, account: bytes) -> AsyncIterator[list[float]]:
    """Seconds that each reading took, one after another with a pause, for as long as the block lasts."""
    latencies: list[float] = []

    async def read(*, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            before = trio.current_time()
            await reader.request(SigningKey(random_bytes(32)), Account(account))
            latencies.append(trio.current_time() - before)
            await trio.sleep(_READ_EACH_S)

    async with trio.open_nursery() as nursery:
        await nursery.start(read)
        yield latencies
        nursery.cancel_scope.cancel()


async def _readings(reader: LedgerClient, account: bytes, seconds: float) -> list[float]:
    """Seconds that each reading takes while nobody writes, sorted."""
    async with _reading(reader, account) as latencies:
        await trio.sleep(seconds)
    return sorted(latencies)
