"""What a node must not forget: channels, every batch, peers, unanswered requests. Spec N-8.

A batch is one row whatever its size, and a channel's hot part one small row beside it, so a flush is
one transaction of two rows. Payments are found by number, by position in the journal of received
payments, and by id (`payment_ids`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from channelpay.batches import Batch
from channelpay.channel.effects import JournalBatch, JournalGap
from channelpay.channel.saved import Saved, load, unpack_hot_held, unpack_setup
from channelpay.channel.state import Channel, Phase
from channelpay.errors import StoreFailed
from channelpay.keys import Keyring
from channelpay.limits import DUPLICATE_WINDOW_BATCHES, MAX_ARRAY_ITEMS, MAX_FRAME
from channelpay.messages.control import ENTRY_PAYMENTS, ENTRY_UNAVAILABLE
from channelpay.messages.peer import Request
from channelpay.node.ready import Persist
from channelpay.statements import ZERO_HALF, Half
from channelpay.store.payment_ids import Found, PaymentIds, id_time_range
from channelpay.store.sqlite import Database, Schema, open_database

_CREATE: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE identity (node_id BLOB NOT NULL, ledger_id BLOB NOT NULL) STRICT;
CREATE TABLE peers (peer_id BLOB PRIMARY KEY, address TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE requests (request_id BLOB PRIMARY KEY, blob BLOB NOT NULL, signature BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE channels (
    ref INTEGER PRIMARY KEY,
    channel_id BLOB NOT NULL UNIQUE CHECK (length(channel_id) = 32),
    setup BLOB NOT NULL,
    cold BLOB NOT NULL,
    hot BLOB NOT NULL
) STRICT;
CREATE TABLE batches (
    channel INTEGER NOT NULL REFERENCES channels,
    payer INTEGER NOT NULL CHECK (payer IN (0, 1)),
    first_n INTEGER NOT NULL CHECK (first_n >= 1),
    last_n INTEGER NOT NULL CHECK (last_n >= first_n),
    total INTEGER NOT NULL CHECK (total >= last_n),  -- of all payments up to last_n
    h BLOB NOT NULL CHECK (length(h) = 32),          -- history hash after last_n
    records BLOB,                                    -- NULL: the peer no longer had them
    memos BLOB NOT NULL,
    id_from INTEGER,                                 -- least and greatest time in the payment ids; NULL: no ids
    id_to INTEGER,
    position INTEGER,                                -- received ones: place of the first in the journal
    repeated BLOB                                    -- u16 indexes whose payment id had come before; NULL: none
) STRICT;
CREATE UNIQUE INDEX batches_by_number ON batches (channel, payer, last_n);
CREATE UNIQUE INDEX batches_by_position ON batches (position) WHERE position IS NOT NULL;
CREATE INDEX batches_by_id_time ON batches (channel, payer, id_to) WHERE id_to IS NOT NULL;
"""

SCHEMA: Final = Schema(name="node store", application_id=0x63704E31, migrations=(_CREATE,))

_INSERT_BATCH: Final = "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_BATCHES_FROM: Final = (
    "SELECT first_n, records, memos FROM batches WHERE channel = ? AND payer = ? AND last_n >= ? ORDER BY last_n"
)
_JOURNAL_FROM: Final = (
    "SELECT position, (SELECT channel_id FROM channels WHERE ref = channel), payer, first_n, last_n, records, memos, "
    "repeated, total, channel FROM batches "
    "WHERE position >= coalesce((SELECT max(position) FROM batches WHERE position <= ?), 0) ORDER BY position"
)


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


def create_node_store(path: Path, node_id: bytes, ledger_id: bytes, *, vfs: str | None = None) -> None:
    """A new, empty store for this node on this ledger; raises StoreFailed if there is one."""

    def fill(database: Database) -> None:
        database.run("INSERT INTO identity VALUES (?, ?)", (node_id, ledger_id))
        database.run_many(
            "INSERT INTO meta VALUES (?, 0)", [("next_key_index",), ("ledger_number",), ("restored_until",)]
        )

    open_database(path, SCHEMA, create=fill, vfs=vfs).close()


class NodeStore:
    """The open store of one node; one process, one thread. Every method raises StoreFailed."""

    def __init__(self, path: Path, node_id: bytes, ledger_id: bytes, *, vfs: str | None = None) -> None:
        self._db = open_database(path, SCHEMA, vfs=vfs)
        try:
            if self._db.row("SELECT node_id, ledger_id FROM identity") != (node_id, ledger_id):
                raise StoreFailed(f"{path} belongs to another node or another ledger than this home's seed and config")
            self._refs: dict[bytes, int] = dict(self._db.rows("SELECT channel_id, ref FROM channels"))
            last = self._db.row(
                "SELECT position, first_n, last_n, records IS NULL FROM batches "
                "WHERE position IS NOT NULL ORDER BY position DESC LIMIT 1"
            )
        except BaseException:
            self._db.close()
            raise
        self.received = 0 if last is None else last[0] + (1 if last[3] else last[2] - last[1] + 1)
        self.commits = 0
        self._ids = PaymentIds(self._db)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- Writing ---------------------------------------------------------------------------

    def commit(self, persist: Persist) -> None:
        """Make everything durable in one transaction. After StoreFailed the node must stop."""
        received = self.received
        with self._db.transaction():
            for channel_id, saved in persist.channels:
                self._insert_channel(channel_id, saved)
            for entry in persist.journal:
                ref = self._refs[entry.channel_id]
                # At once: the next entry's payment ids are looked for in this one too.
                row, received = self._journal_row(ref, entry, received)
                self._db.run(_INSERT_BATCH, row)
            self._update(persist)
        self.received = received
        self.commits += 1

    def _insert_channel(self, channel_id: bytes, saved: Saved) -> None:
        self._db.run("INSERT INTO channels (channel_id, setup, cold, hot) VALUES (?, ?, ?, ?)", (channel_id, *saved))
        row = self._db.row("SELECT ref FROM channels WHERE channel_id = ?", (channel_id,))
        assert row is not None
        self._refs[channel_id] = row[0]

    def _journal_row(self, ref: int, entry: JournalBatch | JournalGap, received: int) -> tuple[tuple[object, ...], int]:
        position = received if entry.received else None
        half = entry.half
        if isinstance(entry, JournalGap):
            gap = (ref, entry.payer, entry.first_n, half.n, half.total, half.h, None, b"", None, None, position, None)
            return gap, received + (1 if entry.received else 0)
        batch = entry.batch
        id_from, id_to = id_time_range(batch)
        repeated = None
        if entry.received and id_to is not None:
            repeated = self._ids.repeated(ref, entry.payer, batch)
        if id_to is not None:
            self._ids.learn(ref, entry.payer, batch)  # before the commit: if that fails, the node stops
        row = (
            ref, entry.payer, batch.first_n, half.n, half.total, half.h, batch.records, batch.memos,
            id_from, id_to, position, repeated,
        )  # fmt: skip
        return row, received + (batch.size if entry.received else 0)

    def _update(self, persist: Persist) -> None:
        db, refs = self._db, self._refs
        for channel_id, hot in persist.hot:
            db.run("UPDATE channels SET hot = ? WHERE ref = ?", (hot, refs[channel_id]))
        for channel_id, cold in persist.cold:
            db.run("UPDATE channels SET cold = ? WHERE ref = ?", (cold, refs[channel_id]))
        for peer_id, address in persist.peers:
            db.run("INSERT OR REPLACE INTO peers VALUES (?, ?)", (peer_id, address))
        for request in persist.requests:
            db.run("INSERT INTO requests VALUES (?, ?, ?)", (request.request_id, request.blob, request.signature))
        for request_id in persist.requests_done:
            db.run("DELETE FROM requests WHERE request_id = ?", (request_id,))
        for name, value in (
            ("next_key_index", persist.next_key_index),
            ("ledger_number", persist.ledger_number),
            ("restored_until", persist.restored_until),
        ):
            if value is not None:
                db.run("UPDATE meta SET value = ? WHERE name = ?", (value, name))

    # --- Loading ---------------------------------------------------------------------------

    def next_key_index(self) -> int:
        """The first channel key that was never used."""
        return self._meta("next_key_index")

    def ledger_number(self) -> int:
        """The newest journal number of the ledger that was taken in."""
        return self._meta("ledger_number")

    def restored_until(self) -> int:
        """When a restored store may pay again, on the ledger's clock; 0: it was not restored, or long ago."""
        return self._meta("restored_until")

    def _meta(self, name: str) -> int:
        row = self._db.row("SELECT value FROM meta WHERE name = ?", (name,))
        return int(row[0]) if row else 0

    def peers(self) -> list[tuple[bytes, str]]:
        """(peer id, address) of every peer whose address is known."""
        return [(row[0], row[1]) for row in self._db.rows("SELECT peer_id, address FROM peers")]

    def requests(self) -> list[Request]:
        """Ledger requests that were not answered."""
        return [Request(*row) for row in self._db.rows("SELECT request_id, blob, signature FROM requests")]

    def channels(self, keyring: Keyring) -> Iterator[Channel]:
        """Every channel as it was at the last commit."""
        for ref, channel_id, *parts in self._db.rows("SELECT ref, channel_id, setup, cold, hot FROM channels"):
            saved = Saved(*parts)
            setup = unpack_setup(saved.setup)
            channel = load(
                channel_id,
                saved,
                keyring.channel(setup.key_index),
                self._unacked(ref, setup.side, unpack_hot_held(saved.hot)),
                self._recent(ref, 1 - setup.side),
            )
            if channel.phase in (Phase.SETTLED, Phase.ABANDONED):
                channel.unacked.clear()
            yield channel

    def _unacked(self, ref: int, side: int, acked_n: int) -> list[tuple[Batch, Half]]:
        rows = self._db.rows(
            "SELECT first_n, last_n, total, h, records, memos FROM batches "
            "WHERE channel = ? AND payer = ? AND last_n > ? AND records IS NOT NULL ORDER BY last_n",
            (ref, side, acked_n),
        )
        return [(Batch(first, records, memos), Half(last, total, h)) for first, last, total, h, records, memos in rows]

    def _recent(self, ref: int, payer: int) -> list[tuple[int, Half, Half]]:
        rows = self._db.rows(
            "SELECT first_n, last_n, total, h FROM batches WHERE channel = ? AND payer = ? "
            "ORDER BY last_n DESC LIMIT ?",
            (ref, payer, DUPLICATE_WINDOW_BATCHES + 1),
        )[::-1]
        halves = [Half(last, total, h) for _, last, total, h in rows]
        before = [ZERO_HALF, *halves] if rows and rows[0][0] == 1 else [None, *halves]
        return [
            (row[0], earlier, half)
            for row, earlier, half in zip(rows, before, halves, strict=False)
            if earlier is not None
        ]

    # --- Reading ---------------------------------------------------------------------------

    def find(self, channel_id: bytes, payer: int, payment_id: bytes, *, remember: bool = True) -> Found | None:
        """Where a payment id stands among a payer's durable payments, or None; `remember`: more will be asked for."""
        ref = self._refs.get(channel_id)
        return None if ref is None else self._ids.find(ref, payer, payment_id, remember=remember)

    def batches(
        self,
        channel_id: bytes,
        payer: int,
        from_n: int,
        max_bytes: int = MAX_FRAME * 3 // 4,
        *,
        over_gaps: bool = False,
    ) -> list[Batch]:
        """Batches of a payer from the one that holds payment `from_n` on, about `max_bytes` of them at most (spec W-9).

        Ends before payments whose records are unavailable, or leaves them out with `over_gaps`.
        """
        ref = self._refs.get(channel_id)
        found: list[Batch] = []
        if ref is None:
            return found
        with closing(self._db.stream(_BATCHES_FROM, (ref, payer, from_n))) as rows:
            for first_n, records, memos in rows:
                if records is None:
                    if over_gaps:
                        continue
                    break
                max_bytes -= len(records) + len(memos) + 16
                if (found and max_bytes < 0) or len(found) >= MAX_ARRAY_ITEMS:
                    break
                found.append(Batch(first_n, records, memos))
        return found

    def journal(self, after: int, limit: int, max_bytes: int) -> list[JournalRow]:
        """Received payments from position `after` on, whole batches: one at least, if there are any.

        Ends once there are `limit` payments, about `max_bytes` bytes or MAX_ARRAY_ITEMS rows.
        """
        found: list[JournalRow] = []
        with closing(self._db.stream(_JOURNAL_FROM, (after,))) as rows:
            for values in rows:
                row = self._journal_view(*values)
                if row.next_position <= after:
                    continue
                max_bytes -= len(row.records) + len(row.memos) + 2 * len(row.repeated) + 100
                if found and (max_bytes < 0 or limit <= 0 or len(found) >= MAX_ARRAY_ITEMS):
                    break
                found.append(row)
                limit -= row.size
        return found

    def _journal_view(
        self,
        position: int,
        channel_id: bytes,
        payer: int,
        first_n: int,
        last_n: int,
        records: bytes | None,
        memos: bytes,
        repeated: bytes | None,
        total: int,
        ref: int,
    ) -> JournalRow:
        count = last_n - first_n + 1
        own = total - self._total_before(ref, payer, first_n)
        if records is None:
            return JournalRow(position, channel_id, ENTRY_UNAVAILABLE, first_n, count, own, b"", b"", ())
        indexes = tuple(array("H", repeated)) if repeated else ()
        return JournalRow(position, channel_id, ENTRY_PAYMENTS, first_n, count, own, records, memos, indexes)

    def _total_before(self, ref: int, payer: int, first_n: int) -> int:
        row = self._db.row(
            "SELECT total FROM batches WHERE channel = ? AND payer = ? AND last_n = ?", (ref, payer, first_n - 1)
        )
        return int(row[0]) if row else 0
