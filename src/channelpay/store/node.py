"""What a node must not forget: channels, every batch, peers, unanswered requests. Spec N-8, N-30.

A batch is one row whatever its size, and a channel's hot part one small row beside it, so a flush is
one transaction of two rows. Payments are found by number, by position in the journal of received
payments (`batches`), and by id (`payment_ids`). `pruning` takes away what is old enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from channelpay.batches import Batch
from channelpay.channel.effects import JournalBatch, JournalGap
from channelpay.channel.saved import Summary, load, phase_and_rest, stored_n, unpack_hot_held, unpack_setup
from channelpay.channel.state import Channel, Phase
from channelpay.errors import StoreFailed
from channelpay.keys import Keyring
from channelpay.limits import MAX_ARRAY_ITEMS, MAX_FRAME
from channelpay.messages.peer import Request
from channelpay.node.ready import Persist
from channelpay.store.batches import INSERT, BatchTable, JournalRow, Stored, new_row
from channelpay.store.files import is_lost
from channelpay.store.meta import Meta
from channelpay.store.node_schema import SCHEMA, insert_channel
from channelpay.store.payment_ids import Found, PaymentIds, id_time_ms, id_time_range
from channelpay.store.pruning import Pruning
from channelpay.store.rows import check, checksum
from channelpay.store.scrub import SMALL_TABLES, Scrub, read_saved
from channelpay.store.sqlite import Database, damaged, open_database


def create_node_store(path: Path, node_id: bytes, ledger_id: bytes, *, vfs: str | None = None) -> None:
    """A new, empty store for this node on this ledger; raises StoreFailed if there is one, or was one (spec N-34)."""
    if is_lost(path):
        raise StoreFailed(
            f"{path} is missing, and this home was used before: put a backup in its place (channelpay backup restore), "
            "or make another home from the 24 words (channelpay init --words-from), which finds its channels by itself"
        )

    def fill(database: Database) -> None:
        database.run("INSERT INTO identity VALUES (?, ?)", (node_id, ledger_id))

    open_database(path, SCHEMA, create=fill, vfs=vfs).close()


class NodeStore:
    """The open store of one node; one process, one thread. Every method raises StoreFailed."""

    def __init__(self, path: Path, node_id: bytes, ledger_id: bytes, *, vfs: str | None = None) -> None:
        self._db = open_database(path, SCHEMA, vfs=vfs)
        try:
            if self._db.row("SELECT node_id, ledger_id FROM identity") != (node_id, ledger_id):
                raise StoreFailed(f"{path} belongs to another node or another ledger than this home's seed and config")
            for table in SMALL_TABLES:
                self._db.check_structure(table)
            self._meta = Meta(self._db)
            self._batches = BatchTable(self._db, self._meta["pruned_to"])
            self.received = max(self.kept_from, self._batches.newest_received())
            row = self._db.row("SELECT max(ref) FROM channels")
            self._next_ref = 1 if row is None or row[0] is None else int(row[0]) + 1
            self._pruning = Pruning(self._db, self._batches, self._meta)
        except BaseException:
            self._db.close()
            raise
        self.commits = 0
        self._refs: dict[bytes, int] = {}
        self._pending: list[Stored] = []
        self._ids = PaymentIds(self._batches, self._write_pending)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- Writing ---------------------------------------------------------------------------

    def commit(self, persist: Persist) -> None:
        """Make everything durable in one transaction. After StoreFailed the node must stop."""
        received = self.received
        with self._db.transaction():
            for channel_id, saved in persist.channels:
                insert_channel(self._db, self._next_ref, channel_id, saved)
                self._refs[channel_id] = self._next_ref
                self._next_ref += 1
            for entry in persist.journal:
                row = self._row(entry, received)
                self._pending.append(row)
                if row.position is not None:
                    received = row.next_position
            self._write_pending()
            self._update_channels(persist)
            self._update(persist)
        self.received = received
        self.commits += 1

    def _write_pending(self) -> None:
        """Write the rows that were made, and make them findable on disk."""
        pending, self._pending = self._pending, []
        if len(pending) == 1:
            self._db.run(INSERT, pending[0])
        elif pending:
            self._db.run_many(INSERT, pending)

    def _row(self, entry: JournalBatch | JournalGap, received: int) -> Stored:
        ref = self._ref_of(entry.channel_id)
        position = received if entry.received else None
        number, half = self._batches.next_id, entry.half
        self._batches.next_id += 1
        if isinstance(entry, JournalGap):
            return new_row(number, ref, entry.payer, entry.first_n, *half[:3], None, None, position, None, b"", None)
        batch = entry.batch
        ids = list(batch.ids())
        id_from, id_to = id_time_range(ids)
        repeated = self._ids.repeated(ref, entry.payer, batch.first_n, ids) if entry.received and ids else None
        if ids:
            self._ids.learn(ref, entry.payer, ids)  # before the commit: if that fails, the node stops
        return new_row(
            number, ref, entry.payer, batch.first_n, *half[:3], id_from, id_to, position, repeated, batch.memos,
            batch.records,
        )  # fmt: skip

    def _update_channels(self, persist: Persist) -> None:
        db = self._db
        for ref, setup in self._with_refs(persist.setups):
            self._name_peer(ref, setup)
        hot = [(data, checksum(ref, data), ref) for ref, data in self._with_refs(persist.hot)]
        if hot:
            db.run_many("UPDATE halves SET hot = ?, sum = ? WHERE ref = ?", hot)
        for ref, cold in self._with_refs(persist.cold):
            db.run("UPDATE states SET cold = ?, cold_sum = ? WHERE ref = ?", (cold, checksum(ref, cold), ref))
            row = db.row("SELECT ref, channel_id, peer_id, side, window_s FROM channels WHERE ref = ?", (ref,))
            assert row is not None
            phase, rests = phase_and_rest(cold)
            facts = (int(phase), int(rests))
            db.run(
                "UPDATE channels SET phase = ?, rests = ?, sum = ? WHERE ref = ?",
                (*facts, checksum(*row, *facts), ref),
            )

    def _name_peer(self, ref: int, setup: bytes) -> None:
        """A channel was found without its peer, which is known now (spec N-26)."""
        db = self._db
        db.run("UPDATE states SET setup = ?, setup_sum = ? WHERE ref = ?", (setup, checksum(ref, setup), ref))
        row = db.row("SELECT channel_id, side, window_s, phase, rests FROM channels WHERE ref = ?", (ref,))
        assert row is not None
        channel_id, *facts = row
        peer_id = unpack_setup(setup).peer_id
        db.run(
            "UPDATE channels SET peer_id = ?, sum = ? WHERE ref = ?",
            (peer_id, checksum(ref, channel_id, peer_id, *facts), ref),
        )

    def _with_refs(self, parts: list[tuple[bytes, bytes]]) -> Iterator[tuple[int, bytes]]:
        return ((self._ref_of(channel_id), data) for channel_id, data in parts)

    def _update(self, persist: Persist) -> None:
        db = self._db
        for peer in persist.peers:
            db.run("INSERT OR REPLACE INTO peers VALUES (?, ?, ?)", (*peer, checksum(*peer)))
        for request in persist.requests:
            row = (request.request_id, request.blob, request.signature)
            db.run("INSERT INTO requests VALUES (?, ?, ?, ?)", (*row, checksum(*row)))
        for request_id in persist.requests_done:
            db.run("DELETE FROM requests WHERE request_id = ?", (request_id,))
        for name, value in (
            ("next_key_index", persist.next_key_index),
            ("ledger_number", persist.ledger_number),
            ("restored_until", persist.restored_until),
        ):
            if value is not None:
                self._meta.set(name, value)

    def prune(self, now_s: int, keep_s: int) -> bool:
        """Prune a little of what is older than `keep_s` seconds; whether there is more (spec N-32).

        A short transaction of its own. `now_s` is `pruning_clock` and the seconds for which the node ran since.
        """
        return self._pruning.step(now_s, keep_s)

    def pruning_clock(self, wall_s: int) -> int:
        """How far the clock by which records grow old had come, at a start at `wall_s` by the wall; Unix seconds."""
        return self._pruning.clock_at_start(wall_s)

    def check(self) -> Iterator[None]:
        """Look through the whole store once, a few rows with every step, while it is used (spec N-33)."""
        return Scrub(self._db, self._batches, self._meta).steps()

    # --- Loading ---------------------------------------------------------------------------

    def next_key_index(self) -> int:
        """The first channel key that was never used."""
        return self._meta["next_key_index"]

    def ledger_number(self) -> int:
        """The newest journal number of the ledger that was taken in."""
        return self._meta["ledger_number"]

    def restored_until(self) -> int:
        """When a restored store may pay again, on the ledger's clock; 0: it was not restored, or long ago."""
        return self._meta["restored_until"]

    @property
    def kept_from(self) -> int:
        """The first position in the journal of received payments that was not pruned."""
        return self._meta["kept_from"]

    def peers(self) -> list[tuple[bytes, str]]:
        """(peer id, address) of every peer whose address is known."""
        return [(peer, address) for peer, address in self._checked("peers", "peer_id, address")]

    def requests(self) -> list[Request]:
        """Ledger requests that were not answered."""
        return [Request(*row) for row in self._checked("requests", "request_id, blob, signature")]

    def roster(self) -> Iterator[Summary]:
        """What must be known of every channel at a start."""
        for row in self._checked("channels", "ref, channel_id, peer_id, side, window_s, phase, rests"):
            _, channel_id, peer_id, side, window_s, phase, rests = row
            yield Summary(channel_id, peer_id, side, window_s, Phase(phase), bool(rests))

    def _checked(self, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
        """All rows of a table whose last column is the checksum of the others."""
        for row in self._db.stream(f"SELECT {columns}, sum FROM {table}"):
            check(self._db.path, table, row[:-1], row[-1])
            yield row[:-1]

    def channel(self, channel_id: bytes, keyring: Keyring) -> Channel:
        """A channel of the roster as it was at the last commit."""
        ref = self._ref_of(channel_id)
        saved = read_saved(self._db, ref)
        setup = unpack_setup(saved.setup)
        own_n, peer_n = stored_n(saved)
        self._batches.check_newest(ref, setup.side, own_n)
        self._batches.check_newest(ref, 1 - setup.side, peer_n)
        ended = phase_and_rest(saved.cold)[0] in (Phase.SETTLED, Phase.ABANDONED)
        acked_n = unpack_hot_held(saved.hot)
        return load(
            channel_id,
            saved,
            keyring.channel(setup.key_index),
            [] if ended else self._batches.unacked(ref, setup.side, acked_n, own_n),
            self._batches.recent(ref, 1 - setup.side),
        )

    def channels(self, keyring: Keyring) -> Iterator[Channel]:
        """Every channel as it was at the last commit."""
        return (self.channel(summary.channel_id, keyring) for summary in list(self.roster()))

    # --- Reading ---------------------------------------------------------------------------

    def _ref(self, channel_id: bytes) -> int | None:
        ref = self._refs.get(channel_id)
        if ref is None:
            row = self._db.row("SELECT ref FROM channels WHERE channel_id = ?", (channel_id,))
            if row is None:
                return None
            ref = int(row[0])
            if self._db.row("SELECT channel_id FROM channels NOT INDEXED WHERE ref = ?", (ref,)) != (channel_id,):
                raise damaged(self._db.path, f"channel {channel_id.hex()} is not found by its index")
            self._refs[channel_id] = ref
        return ref

    def _ref_of(self, channel_id: bytes) -> int:
        ref = self._ref(channel_id)
        if ref is None:
            raise StoreFailed(f"{self._db.path} has no channel {channel_id.hex()}")
        return ref

    def find(self, channel_id: bytes, payer: int, payment_id: bytes) -> Found | None:
        """Where a payment id stands among a payer's durable payments, or None."""
        ref = self._ref(channel_id)
        return None if ref is None else self._ids.find(ref, payer, payment_id)

    def are_new(self, channel_id: bytes, payer: int, ids: Sequence[bytes]) -> bool:
        """Whether a payer has used none of these ids and none stands twice; False: ask for each by `find`."""
        ref = self._ref(channel_id)
        return ref is not None and self._ids.are_new(ref, payer, ids)

    def find_own(self, payment_id: bytes, channel_id: bytes | None = None) -> tuple[bytes, Found] | None:
        """Where an id stands among the payments of this node, on one channel or on all: (channel id, where), or None.

        The newest channel first.
        """
        time = id_time_ms(payment_id)
        rows = self._db.rows(
            "SELECT ref, channel_id, side FROM channels WHERE channel_id = ?1 OR ?1 IS NULL AND EXISTS (SELECT 1 FROM "
            "batches WHERE channel = ref AND payer = side AND id_to >= ?2 AND id_from <= ?2) ORDER BY ref DESC",
            (channel_id, time),
        )
        for ref, owner, side in rows:
            found = self._ids.find(ref, side, payment_id, remember=channel_id is not None)
            if found is not None:
                return owner, found
        return None

    def kept_n(self, channel_id: bytes, payer: int) -> int:
        """The number of a payer's first payment that was not pruned; of the next one if all were."""
        ref = self._ref(channel_id)
        return 1 if ref is None else self._batches.pruned(ref, payer).n + 1

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

        Ends before payments whose records are unavailable or pruned, or leaves them out with `over_gaps`.
        """
        ref = self._ref(channel_id)
        found: list[Batch] = []
        if ref is None:
            return found
        with closing(self._batches.from_number(ref, payer, from_n)) as rows:
            for row in rows:
                if not over_gaps and (row.records is None or (not found and row.first_n > from_n)):
                    break
                if row.records is None:
                    continue
                max_bytes -= len(row.records) + len(row.memos) + 16
                if (found and max_bytes < 0) or len(found) >= MAX_ARRAY_ITEMS:
                    break
                found.append(row.batch)
        return found

    def journal(self, after: int, limit: int, max_bytes: int) -> list[JournalRow]:
        """Received payments from position `after` on, whole batches: one at least, if there are any.

        Ends once there are `limit` payments, about `max_bytes` bytes or MAX_ARRAY_ITEMS rows.
        """
        rows = self._batches.journal(after, limit, max_bytes)
        self._batches.check_journal(rows, max(after, self.kept_from), self.received)
        return rows
