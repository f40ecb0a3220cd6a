"""What payments leave on the disk: in bulk, alone, with ids; and what is left of a channel after pruning."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apsw

from benchmarks.big_store import Filler
from benchmarks.limits import Limits
from benchmarks.pair import PAY, PAY_MANY, Pair, open_pair
from benchmarks.result import Result, Size
from benchmarks.stage import Stage
from benchmarks.worker import Worker
from channelpay.keys import Keyring, words_from_entropy
from channelpay.limits import DEFAULT_KEEP_S, MAX_BATCH, PRUNE_MARK_S
from channelpay.services.ids import new_payment_id
from channelpay.store.node import NodeStore, create_node_store

_LEDGER: Final = bytes(32)


def used_bytes(path: Path) -> int:
    """Bytes of a store that hold something: pages of the file and of what the log adds to it, without free ones."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        pages, free, size = (connection.pragma(name) for name in ("page_count", "freelist_count", "page_size"))
        return int((pages - free) * size)
    finally:
        connection.close()


async def pay_many_with_ids(worker: Worker, channel: str, payments: int) -> dict[str, float]:
    """Payments of one unit, every one with an id, by the thousand; how many."""
    channel_id, left = bytes.fromhex(channel), payments
    while left > 0:
        orders = [(1, new_payment_id(), b"") for _ in range(MAX_BATCH)]
        left -= (await worker.node.pay_many(channel_id, orders)).count
    return {"payments": payments - left, "seconds": 1.0, "p50_ms": 0.0, "p99_ms": 0.0}


async def _growth(pair: Pair, stores: tuple[Path, Path], function: str, **arguments: Any) -> tuple[float, float]:
    """Bytes that a payment takes in the payer's and in the payee's store."""
    before = [used_bytes(path) for path in stores]
    told = await pair.round((function, arguments))
    paid, received = ((used_bytes(path) - b) / told["payments"] for path, b in zip(stores, before, strict=True))
    return paid, received


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module. A figure is that of the side which stores more."""
    many, few = size.of(1_000_000, 20_000), size.of(5_000, 100)
    async with open_pair(stage) as pair:
        stores = stage.directory / "payer" / "node.db", stage.directory / "payee" / "node.db"
        bulk = await _growth(pair, stores, PAY_MANY, tasks=1, many=MAX_BATCH, payments=many)
        with_ids = await _growth(pair, stores, f"{__name__}:pay_many_with_ids", payments=many)
        alone = await _growth(pair, stores, PAY, tasks=1, payments=few)
        accounts = await pair.settle()
    pruned = [_left(stage.directory / f"{count}.db", count) for count in size.of((20, 20_000), (20, 400))]
    return Result(
        {"ratio": max(bulk), "alone": max(alone), "pruned": pruned[1] / pruned[0]},
        accounts=accounts,
        extra={
            "bulk_paid": bulk[0], "bulk_received": bulk[1],
            "ids_paid": with_ids[0], "ids_received": with_ids[1],
            "alone_paid": alone[0], "alone_received": alone[1],
            "pruned_channel": pruned[1],
        },
    )  # fmt: skip


def _left(path: Path, payments: int, channels: int = 20) -> float:
    """Bytes that are left of a channel with so many payments, alone and in bulk, when all have been pruned."""
    keyring = Keyring(words_from_entropy(bytes(32)))
    create_node_store(path, keyring.identity.public, _LEDGER)
    empty = used_bytes(path)
    store = NodeStore(path, keyring.identity.public, _LEDGER)
    try:
        filler = Filler(store, keyring, _LEDGER)
        filler.add_channels(channels)
        filler.add_payments(channels * payments // 20, batch=1)
        filler.add_payments(channels * payments * 19 // 20, batch=max(1, payments // 10))
        _prune_all(store.prune)
    finally:
        store.close()
    return (used_bytes(path) - empty) / channels


def _prune_all(prune: Callable[[int, int], bool]) -> None:
    """As if the node had run for as long as records are kept, and an hour more."""
    for now_s in itertools.accumulate([PRUNE_MARK_S, DEFAULT_KEEP_S]):
        while prune(now_s, DEFAULT_KEEP_S):
            pass
