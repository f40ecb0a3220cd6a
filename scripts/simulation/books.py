"""The stores and the ledger's books as they stand on disk, read with SQL of the auditor's own."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw
import msgpack

from channelpay.errors import StoreFailed
from channelpay.store.ledger_check import check_whole
from channelpay.store.scrub import check_every_row
from channelpay.store.sqlite import open_reader

_RECORD: Final = struct.Struct(">Q16s")
SETTLED: Final = 2


def records(blob: bytes) -> Iterator[tuple[int, bytes]]:
    """(units, payment id) of each payment."""
    yield from _RECORD.iter_unpack(blob)


def memos(blob: bytes) -> list[tuple[int, bytes]]:
    """(index in the batch, memo) of each payment that has one."""
    return [(index, memo) for index, memo in msgpack.unpackb(blob)] if blob else []


@dataclass(frozen=True, slots=True)
class Batch:
    """One row of a node's store; `records` is None where the payments themselves are unknown."""

    channel_id: bytes
    payer: int
    first_n: int
    last_n: int
    total: int  # of all payments up to last_n
    h: bytes
    records: bytes | None
    memos: bytes
    position: int | None
    repeated: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One channel on the ledger."""

    channel_id: bytes
    accounts: tuple[bytes, bytes]
    keys: tuple[bytes, bytes]
    status: int
    deposits: tuple[int, int]
    withdrawn: tuple[int, int]
    halves: tuple[bytes, bytes]
    outs: tuple[int, int]

    @property
    def settled(self) -> tuple[int, int]:
        """How many payments of each party were paid out for good."""
        if self.status != SETTLED:
            return 0, 0
        return int.from_bytes(self.halves[0][:8], "big"), int.from_bytes(self.halves[1][:8], "big")

    @property
    def pot(self) -> int:
        """What the ledger still holds for it."""
        return 0 if self.status == SETTLED else sum(self.deposits) - sum(self.withdrawn)


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return list(connection.execute(sql))
    finally:
        connection.close()


def batches(path: Path) -> list[Batch]:
    """Every batch of a node's store, in the order in which it was written."""
    sql = (
        "SELECT c.channel_id, b.payer, b.first_n, b.last_n, b.total, b.h, b.records, b.memos, b.position, b.repeated"
        " FROM batches AS b JOIN channels AS c ON c.ref = b.channel ORDER BY b.channel, b.payer, b.last_n"
    )
    return [
        Batch(*row[:9], struct.unpack(f"={len(row[9]) // 2}H", row[9]) if row[9] else ()) for row in _rows(path, sql)
    ]


def pruned(path: Path) -> dict[tuple[bytes, int], int]:
    """(channel, payer) to the number of the newest payment whose record was pruned from a node's store."""
    sql = "SELECT c.channel_id, p.payer, p.last_n FROM pruned AS p JOIN channels AS c ON c.ref = p.channel"
    return {(row[0], row[1]): row[2] for row in _rows(path, sql)}


def requests(path: Path) -> int:
    """How many requests to the ledger a node's store holds that were not answered."""
    return int(_rows(path, "SELECT count(*) FROM requests")[0][0])


def newest(path: Path) -> dict[tuple[bytes, int], int]:
    """(channel, payer) to the number of the newest payment in a node's store."""
    sql = (
        "SELECT c.channel_id, b.payer, max(b.last_n) FROM batches AS b JOIN channels AS c ON c.ref = b.channel"
        " GROUP BY b.channel, b.payer"
    )
    found = {(row[0], row[1]): row[2] for row in _rows(path, sql)}
    return {**pruned(path), **found}


def channels(path: Path) -> dict[bytes, Row]:
    """Every channel on the ledger."""
    sql = (
        "SELECT channel_id, account0, account1, key0, key1, status, deposit0, deposit1, withdrawn0, withdrawn1,"
        " half0, half1, out0, out1 FROM channel"
    )
    return {r[0]: Row(r[0], r[1:3], r[3:5], r[5], r[6:8], r[8:10], r[10:12], r[12:14]) for r in _rows(path, sql)}


@dataclass(frozen=True, slots=True)
class Dispute:
    """When one began on the ledger, when it should have ended, and when it did."""

    channel_id: bytes
    began: int
    deadline: int
    settled: int
    at_once: bool  # by an agreement, or by the payee of a one-way channel: that needs no deadline
    extended: bool  # by the ledger, after an outage


def disputes(path: Path) -> list[Dispute]:
    """Every dispute that has ended."""
    sql = (
        "SELECT c.channel_id, b.time, c.window_s, e.time, e.kind = 'close_final' OR c.flags = 1,"
        " EXISTS (SELECT 1 FROM line AS x WHERE x.owner = c.channel_id AND x.kind = 'extend') FROM channel AS c"
        " JOIN line AS b ON b.owner = c.channel_id AND b.kind = 'close'"
        " JOIN line AS e ON e.owner = c.channel_id AND e.kind IN ('settle', 'close_final')"
    )
    return [Dispute(r[0], r[1], r[1] + r[2], r[3], bool(r[4]), bool(r[5])) for r in _rows(path, sql)]


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger's money."""

    issued: int
    balances: dict[bytes, int]
    channels: dict[bytes, Row]
    unbalanced: int  # entries whose lines do not sum to zero
    wrong_after: int  # accounts whose journal does not lead to their balance
    disputed: frozenset[bytes]  # channels that somebody closed alone


def books(path: Path) -> Books:
    """The ledger's books."""
    issued = sum(row[0] for row in _rows(path, "SELECT issued FROM asset"))
    balances = {row[0]: row[1] for row in _rows(path, "SELECT account, units FROM balance")}
    entries: dict[int, int] = {}
    sums: dict[bytes, int] = {}
    for entry, holder, owner, delta in _rows(path, "SELECT entry, holder, owner, delta FROM line ORDER BY number"):
        entries[entry] = entries.get(entry, 0) + delta
        if holder == 0:
            sums[owner] = sums.get(owner, 0) + delta
    wrong = sum(1 for account in {*sums, *balances} if sums.get(account, 0) != balances.get(account, 0))
    disputed = frozenset(row[0] for row in _rows(path, "SELECT owner FROM line WHERE kind IN ('close', 'settle')"))
    return Books(issued, balances, channels(path), sum(1 for total in entries.values() if total), wrong, disputed)


def refused(path: Path) -> str:
    """Why the production code refuses a file that it reads from beginning to end; empty if it does not."""
    check = check_whole if path.name == "ledger.db" else check_every_row
    try:
        with closing(open_reader(path)) as database:
            database.check_structure()
            check(database)
    except StoreFailed as failure:
        return str(failure)
    return ""
