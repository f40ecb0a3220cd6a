"""Looks through a node's store while it is used: every row is sound, and is found by every key. Spec N-25, N-33.

A checksum finds a row that is damaged once the row is read. A bit that flipped in an index, or in the key by which a
row is looked for, hides the row, and nobody reads it. So each row is looked for by all that leads to it, and each
batch must follow the one before it, in its payer's numbers and in the journal. The newest batches come first: whatever
is asked for is mostly new.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from channelpay.channel.saved import Saved, stored_n
from channelpay.limits import CHECK_STEP_ROWS
from channelpay.store.batches import BatchTable, Stored
from channelpay.store.meta import Meta
from channelpay.store.rows import check
from channelpay.store.sqlite import Database, Row, damaged

_LISTED: Final = (
    ("meta", "name, value", "name"),
    ("peers", "peer_id, address", "peer_id"),
    ("requests", "request_id, blob, signature", "request_id"),
    ("pruned", "channel, payer, last_n, total, h", "channel, payer"),
)
"""Tables that are a list of rows, the columns that their checksum covers, and their key."""

SMALL_TABLES: Final = ("identity", "meta", "peers", "requests", "marks", "pruned", "channels", "states", "halves")
"""What does not grow with payments: a tenth of a second for 30,000 channels, so SQLite checks it at every start."""

_CHANNELS: Final = "ref, channel_id, peer_id, side, window_s, phase, rests, sum"
_STATES: Final = "setup, setup_sum, cold, cold_sum, hot, sum"

_BY_NUMBER: Final = "SELECT id FROM batches INDEXED BY batches_by_number WHERE channel = ? AND payer = ? AND last_n = ?"
_BY_ID_TIME: Final = (
    "SELECT id FROM batches INDEXED BY batches_by_id_time "
    "WHERE channel = ? AND payer = ? AND id_to = ? AND id_from = ? AND id = ?"
)
_BY_POSITION: Final = "SELECT id FROM batches INDEXED BY batches_by_position WHERE position = ?"


class Scrub:
    """`steps` is one look through the store. Every step reads a few rows; in between the store may be used."""

    def __init__(self, database: Database, batches: BatchTable, meta: Meta) -> None:
        self._db = database
        self._batches = batches
        self._meta = meta

    def steps(self) -> Iterator[None]:
        """Raises StoreFailed at the first row that is damaged, or that is not found where it should be."""
        for table, columns, key in _LISTED:
            for row in self._rows(table, f"{columns}, sum", key):
                if row is None:
                    yield
                else:
                    check(self._db.path, table, row[:-1], row[-1])
        for row in self._rows("channels", _CHANNELS, "ref"):
            if row is None:
                yield
            else:
                self._check_channel(row)
        yield from self._all_batches()

    def _rows(self, table: str, columns: str, key: str) -> Iterator[Row | None]:
        """All rows in the order of the key, and None between those of one step and those of the next."""
        count = key.count(",") + 1
        after, last = "", ()
        while True:
            rows = self._db.rows(
                f"SELECT {key}, {columns} FROM {table} {after} ORDER BY {key} LIMIT {CHECK_STEP_ROWS}", last
            )
            yield from (row[count:] for row in rows)
            yield None
            if len(rows) < CHECK_STEP_ROWS:
                return
            after, last = f"WHERE ({key}) > ({', '.join('?' * count)})", rows[-1][:count]

    # --- Channels ----------------------------------------------------------------------------

    def _check_channel(self, row: Row) -> None:
        ref, channel_id, _, side, *_ = row
        check(self._db.path, "channels", row[:-1], row[-1])
        self._must_find("channel", ref, "SELECT ref FROM channels WHERE channel_id = ?", (channel_id,))
        newest = stored_n(read_saved(self._db, ref))
        for payer, n in ((side, newest[0]), (1 - side, newest[1])):
            self._batches.check_newest(ref, payer, n)

    def _must_find(self, what: str, key: int, sql: str, parameters: tuple[Any, ...]) -> None:
        found = self._db.row(sql, parameters)
        if found != (key,):
            raise damaged(self._db.path, f"{what} {key} is not found by its index")

    # --- Batches -----------------------------------------------------------------------------

    def _all_batches(self) -> Iterator[None]:
        below = self._batches.next_id
        while True:
            rows = list(self._batches.whole("id < ? ORDER BY id DESC LIMIT ?", (below, CHECK_STEP_ROWS)))
            for row in rows:
                self._check_batch(row)
            yield
            if len(rows) < CHECK_STEP_ROWS:
                return
            below = rows[-1].id

    def _check_batch(self, row: Stored) -> None:
        payer = (row.channel, row.payer)
        self._must_find("batch", row.id, _BY_NUMBER, (*payer, row.last_n))
        if row.id_to is not None:
            self._must_find("batch", row.id, _BY_ID_TIME, (*payer, row.id_to, row.id_from, row.id))
        if row.position is not None:
            self._must_find("batch", row.id, _BY_POSITION, (row.position,))
            self._check_position(row.position)
        self._batches.check_follows(row)

    def _check_position(self, position: int) -> None:
        """The place in the journal before this one is taken, or pruned."""
        before = self._db.row(
            "SELECT position + CASE WHEN records IS NULL THEN 1 ELSE last_n - first_n + 1 END FROM batches "
            "WHERE position < ? ORDER BY position DESC LIMIT 1",
            (position,),
        )
        end = self._meta["kept_from"] if before is None else before[0]
        if end != position:
            raise damaged(self._db.path, f"the journal has nothing from position {end} to {position}")


def read_saved(database: Database, ref: int) -> Saved:
    """A channel's parts as they stand in the store; raises StoreFailed."""
    row = database.row(f"SELECT {_STATES} FROM states JOIN halves USING (ref) WHERE ref = ?", (ref,))
    if row is None:
        raise damaged(database.path, f"channel {ref} has no state")
    setup, setup_sum, cold, cold_sum, hot, hot_sum = row
    for table, data, stored in (("states", setup, setup_sum), ("states", cold, cold_sum), ("halves", hot, hot_sum)):
        check(database.path, table, (ref, data), stored)
    return Saved(setup, cold, hot)


def check_every_row(database: Database) -> None:
    """Raises StoreFailed unless the whole store, which nobody uses, is sound."""
    meta = Meta(database)
    for _ in Scrub(database, BatchTable(database, meta["pruned_to"]), meta).steps():
        pass
