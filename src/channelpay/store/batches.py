"""Batches on disk: one row for each, whatever its size. Spec N-14, N-30.

A row has a head and a body (repeated ids, memos, records). Heads are read and checked without their
bodies, which may be a hundred kilobytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from channelpay.batches import Batch
from channelpay.limits import DUPLICATE_WINDOW_BATCHES, MAX_ARRAY_ITEMS
from channelpay.messages.control import ENTRY_PAYMENTS, ENTRY_UNAVAILABLE
from channelpay.statements import ZERO_HALF, Half
from channelpay.store.rows import check, checksum
from channelpay.store.sqlite import Database, Parameters, damaged

HEAD: Final = "id, channel, payer, first_n, last_n, total, h, id_from, id_to, position, body_sum, head_sum"
WHOLE: Final = HEAD + ", repeated, memos, records"
INSERT: Final = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Stored(NamedTuple):
    """A row of `batches`; of one that was read by its head alone the body is empty."""

    id: int
    channel: int
    payer: int
    first_n: int
    last_n: int
    total: int
    h: bytes
    id_from: int | None
    id_to: int | None
    position: int | None
    body_sum: int
    head_sum: int
    repeated: bytes | None = None
    memos: bytes = b""
    records: bytes | None = None

    @property
    def half(self) -> Half:
        """The payer's half after the batch."""
        return Half(self.last_n, self.total, self.h)

    @property
    def batch(self) -> Batch:
        """The payments; only of a whole row that has its records."""
        assert self.records is not None
        return Batch(self.first_n, self.records, self.memos)

    @property
    def next_position(self) -> int:
        """The position in the journal after a received batch, read whole."""
        assert self.position is not None
        return self.position + (1 if self.records is None else self.last_n - self.first_n + 1)


def new_row(
    id_: int,
    channel: int,
    payer: int,
    first_n: int,
    last_n: int,
    total: int,
    h: bytes,
    id_from: int | None,
    id_to: int | None,
    position: int | None,
    repeated: bytes | None,
    memos: bytes,
    records: bytes | None,
) -> Stored:
    """A row with its checksums."""
    body_sum = checksum(repeated, memos, records)
    head = (id_, channel, payer, first_n, last_n, total, h, id_from, id_to, position, body_sum)
    return Stored(*head, checksum(*head), repeated, memos, records)


class JournalRow(NamedTuple):
    """Received payments as they stand in the journal; `records` is empty for ones that are unavailable."""

    position: int
    channel_id: bytes
    kind: int
    first_n: int
    size: int
    total: int
    records: bytes
    memos: bytes
    repeated: tuple[int, ...]

    @property
    def next_position(self) -> int:
        """The position after this row."""
        return self.position + (self.size if self.kind == ENTRY_PAYMENTS else 1)


class BatchTable:
    """The table `batches`. What it gives has been checked; every method raises StoreFailed."""

    def __init__(self, database: Database, pruned_to: int) -> None:
        self._db = database
        self.path: Path = database.path
        row = database.row("SELECT max(id) FROM batches")
        newest = 0 if row is None or row[0] is None else int(row[0])
        self.next_id = max(newest + 1, pruned_to)  # no id twice, also when all were pruned

    # --- Rows ------------------------------------------------------------------------------

    def heads(self, where: str, parameters: Parameters) -> list[Stored]:
        """Rows without their bodies."""
        rows = [Stored(*row) for row in self._db.rows(f"SELECT {HEAD} FROM batches WHERE {where}", parameters)]
        for row in rows:
            self._check_head(row)
        return rows

    def whole(self, where: str, parameters: Parameters) -> Generator[Stored, None, None]:
        """Rows with their bodies, one by one. Close it if you stop early."""
        with closing(self._db.stream(f"SELECT {WHOLE} FROM batches WHERE {where}", parameters)) as rows:
            for values in rows:
                row = Stored(*values)
                self._check_head(row)
                if checksum(row.repeated, row.memos, row.records) != row.body_sum:
                    check(self.path, "batches", (row.id,), -1)
                yield row

    def _check_head(self, row: Stored) -> None:
        check(self.path, "batches", row[:11], row.head_sum)

    # --- Of one channel ----------------------------------------------------------------------

    def from_number(self, ref: int, payer: int, from_n: int) -> Generator[Stored, None, None]:
        """The batches of a payer from the one that holds payment `from_n` on. Close it if you stop early."""
        before: int | None = None
        rows = self.whole("channel = ? AND payer = ? AND last_n >= ? ORDER BY last_n", (ref, payer, from_n))
        with closing(rows):
            for row in rows:
                if row.first_n > from_n if before is None else row.first_n != before + 1:
                    self.check_follows(row)
                before = row.last_n
                yield row

    def check_follows(self, row: Stored) -> None:
        """Raises StoreFailed unless the batch of the payer before this one is there, or pruned."""
        sql = "SELECT 1 FROM batches WHERE channel = ? AND payer = ? AND last_n = ?"
        n = row.first_n - 1
        if self._db.row(sql, (row.channel, row.payer, n)) is None and self.pruned(row.channel, row.payer).n != n:
            raise damaged(self.path, f"payment {n} of party {row.payer} of channel {row.channel} is not found")

    def check_newest(self, ref: int, payer: int, n: int) -> None:
        """Raises StoreFailed unless payment `n` is the newest of the payer."""
        row = self._db.row("SELECT max(last_n) FROM batches WHERE channel = ? AND payer = ?", (ref, payer))
        found = self.pruned(ref, payer).n if row is None or row[0] is None else row[0]
        if found != n:
            raise damaged(
                self.path, f"payment {n} of party {payer} of channel {ref} is not found: the newest is {found}"
            )

    def pruned(self, ref: int, payer: int) -> Half:
        """The half of a payer up to which batches were pruned; the zero half if none were."""
        row = self._db.row("SELECT * FROM pruned WHERE channel = ? AND payer = ?", (ref, payer))
        if row is None:
            return ZERO_HALF
        check(self.path, "pruned", row[:5], row[5])
        return Half(*row[2:5])

    def unacked(self, ref: int, side: int, acked_n: int, newest_n: int) -> list[tuple[Batch, Half]]:
        """A payer's batches after payment `acked_n` up to `newest_n`, each with the half after it.

        Raises StoreFailed unless they go so far: what is missing would pass for acknowledged.
        """
        rows = list(self.from_number(ref, side, acked_n + 1))
        end = rows[-1].last_n if rows else acked_n
        if end < newest_n:
            what = f"payment {newest_n} of party {side} of channel {ref} is not found: the payments end at {end}"
            raise damaged(self.path, what)
        return [(row.batch, row.half) for row in rows if row.records is not None]

    def recent(self, ref: int, payer: int) -> list[tuple[int, Half, Half]]:
        """The newest batches of a payer: (first_n, half before, half after)."""
        rows = self.heads(
            "channel = ? AND payer = ? ORDER BY last_n DESC LIMIT ?", (ref, payer, DUPLICATE_WINDOW_BATCHES + 1)
        )[::-1]
        if not rows:
            return []
        for row, after in pairwise(rows):
            if after.first_n != row.last_n + 1:
                self.check_follows(after)
        pruned = self.pruned(ref, payer)
        befores = [pruned if pruned.n == rows[0].first_n - 1 else None, *(row.half for row in rows)]
        return [
            (row.first_n, before, row.half) for row, before in zip(rows, befores, strict=False) if before is not None
        ]

    # --- The journal of received payments ------------------------------------------------------

    def newest_received(self) -> int:
        """How many positions the journal has, as far as its rows tell."""
        heads = self.heads("position IS NOT NULL ORDER BY position DESC LIMIT 1", ())
        if not heads:
            return 0
        (row,) = self.whole("id = ?", (heads[0].id,))
        return row.next_position

    def journal(self, after: int, limit: int, max_bytes: int) -> list[JournalRow]:
        """Received payments from position `after` on, whole batches: one at least, if there are any.

        Ends once there are `limit` payments, about `max_bytes` bytes or MAX_ARRAY_ITEMS rows.
        """
        found: list[JournalRow] = []
        where = "position >= coalesce((SELECT max(position) FROM batches WHERE position <= ?), 0) ORDER BY position"
        names: dict[int, bytes] = {}
        end: int | None = None
        with closing(self.whole(where, (after,))) as rows:
            for stored in rows:
                if end is not None and stored.position != end:
                    raise damaged(self.path, f"the journal has nothing from position {end} to {stored.position}")
                end = stored.next_position
                if end <= after:
                    continue
                row = self._journal_row(stored, names)
                max_bytes -= len(row.records) + len(row.memos) + 2 * len(row.repeated) + 100
                if found and (max_bytes < 0 or limit <= 0 or len(found) >= MAX_ARRAY_ITEMS):
                    break
                found.append(row)
                limit -= row.size
        return found

    def check_journal(self, rows: list[JournalRow], after: int, received: int) -> None:
        """Raises StoreFailed unless these rows begin at position `after`, and more come after them up to `received`."""
        first, end = (rows[0].position, rows[-1].next_position) if rows else (received, received)
        if first > after:
            raise damaged(self.path, f"the journal has nothing from position {after} to {first}")
        if end < received and self._db.row("SELECT 1 FROM batches WHERE position = ?", (end,)) is None:
            raise damaged(self.path, f"the journal has nothing from position {end} on")

    def _journal_row(self, row: Stored, names: dict[int, bytes]) -> JournalRow:
        assert row.position is not None
        channel_id = names.get(row.channel)
        if channel_id is None:
            found = self._db.row("SELECT channel_id FROM channels WHERE ref = ?", (row.channel,))
            assert found is not None
            channel_id = names[row.channel] = bytes(found[0])
        before = self.heads("channel = ? AND payer = ? AND last_n = ?", (row.channel, row.payer, row.first_n - 1))
        total = row.total - (before[0].half if before else self.pruned(row.channel, row.payer)).total
        count = row.last_n - row.first_n + 1
        if row.records is None:
            return JournalRow(row.position, channel_id, ENTRY_UNAVAILABLE, row.first_n, count, total, b"", b"", ())
        indexes = tuple(array("H", row.repeated)) if row.repeated else ()
        return JournalRow(
            row.position, channel_id, ENTRY_PAYMENTS, row.first_n, count, total, row.records, row.memos, indexes
        )
