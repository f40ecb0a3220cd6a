"""Records that are old enough go, in small steps. Spec N-32.

Nothing is stored with a batch for this: once an hour that the node runs a mark says how far the table had come, and
what lies below a mark that is old enough is pruned in the order in which it was written. Of each payer
the half after the newest pruned batch remains, from which the rows that are kept go on. Batches that
the peer has not acknowledged are kept, however old.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from channelpay.channel.saved import unpack_hot_held
from channelpay.channel.state import Phase
from channelpay.limits import PRUNE_MARK_S, PRUNE_STEP_BATCHES, PRUNE_STEP_BYTES
from channelpay.store.batches import HEAD, BatchTable, Stored
from channelpay.store.meta import Meta
from channelpay.store.rows import check, checksum
from channelpay.store.sqlite import Database

_DEAD: Final = (Phase.SETTLED, Phase.ABANDONED)


class _Payer(NamedTuple):
    """One direction of a channel."""

    ref: int
    payer: int


class Pruning:
    """Prunes one store. `step` is one short transaction; between two of them payments go on."""

    def __init__(self, database: Database, batches: BatchTable, meta: Meta) -> None:
        self._db = database
        self._batches = batches
        self._meta = meta
        self._marked_at = self._newest_mark()

    def _newest_mark(self) -> int:
        row = self._db.row("SELECT max(at) FROM marks")
        return 0 if row is None or row[0] is None else int(row[0])

    def clock_at_start(self, wall_s: int) -> int:
        """What the time of `step` is at a start at `wall_s` by the wall, in Unix seconds.

        It goes on from the newest mark; of the time since then, which nobody saw pass, an hour counts at most: a wall
        clock that leapt forward makes nothing old.
        """
        if not self._marked_at:
            return wall_s
        return min(max(wall_s, self._marked_at), self._marked_at + PRUNE_MARK_S)

    def step(self, now_s: int, keep_s: int) -> bool:
        """Prune a little of what was written more than `keep_s` seconds before `now_s`; whether there is more.

        `now_s` began at `clock_at_start` and moved on with the time for which the node ran since.
        """
        if now_s >= self._marked_at + PRUNE_MARK_S:
            self._mark(now_s)
        end = self._end(now_s - keep_s)
        begin = self._meta["pruned_to"]
        if begin >= end:
            return False
        rows = self._next(begin, end)
        with self._db.transaction():
            for payer, newest in _newest(rows).items():
                self._prune(payer, newest)
            self._meta.set("pruned_to", rows[-1].id + 1 if rows else end)
            received = [row.next_position for row in rows if row.position is not None]
            if received:
                self._meta.set("kept_from", received[-1])
        return bool(rows)

    def _mark(self, now_s: int) -> None:
        """From now on it is known that all batches so far are at least as old as this."""
        with self._db.transaction():
            self._db.run("INSERT INTO marks VALUES (?, ?)", (now_s, self._batches.next_id))
        self._marked_at = now_s

    def _end(self, before_s: int) -> int:
        """Batches with lower ids are older than `before_s`."""
        row = self._db.row("SELECT at, batch FROM marks WHERE at <= ? ORDER BY at DESC LIMIT 1", (before_s,))
        if row is None:
            return 0
        self._forget_marks(row[0])
        return int(row[1])

    def _forget_marks(self, at: int) -> None:
        if self._db.row("SELECT 1 FROM marks WHERE at < ?", (at,)) is not None:
            with self._db.transaction():
                self._db.run("DELETE FROM marks WHERE at < ?", (at,))

    def _next(self, begin: int, end: int) -> list[Stored]:
        """Batches in the order of their ids, as many as one step takes; `records` empty, and None where there are none.

        Their bodies are not read: they may be long, and they go.
        """
        found: list[Stored] = []
        room = PRUNE_STEP_BYTES
        rows = self._db.rows(
            f"SELECT {HEAD}, records IS NULL, coalesce(length(records), 0) FROM batches "
            "WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (begin, end, PRUNE_STEP_BATCHES),
        )
        for *head, gone, size in rows:
            row = Stored(*head)._replace(records=None if gone else b"")
            check(self._batches.path, "batches", row[:11], row.head_sum)
            room -= size
            if found and room < 0:
                break
            found.append(row)
        return found

    def _prune(self, payer: _Payer, newest: Stored) -> None:
        """Delete what the payer wrote up to `newest`, as far as its peer has acknowledged it."""
        end: Stored | None = newest
        acked_n = self._acked_n(payer)
        if acked_n is not None and newest.last_n > acked_n:
            where = "channel = ? AND payer = ? AND last_n <= ? ORDER BY last_n DESC LIMIT 1"
            end = next(iter(self._batches.heads(where, (*payer, acked_n))), None)
        if end is not None:
            half = (*payer, *end.half[:3])
            self._db.run("DELETE FROM batches WHERE channel = ? AND payer = ? AND last_n <= ?", (*payer, end.last_n))
            self._db.run("INSERT OR REPLACE INTO pruned VALUES (?, ?, ?, ?, ?, ?)", (*half, checksum(*half)))

    def _acked_n(self, payer: _Payer) -> int | None:
        """How far the peer has acknowledged a payer's batches; None where that does not matter (any more)."""
        row = self._db.row("SELECT side, phase, hot FROM channels JOIN halves USING (ref) WHERE ref = ?", (payer.ref,))
        assert row is not None
        side, phase, hot = row
        return unpack_hot_held(hot) if side == payer.payer and phase not in _DEAD else None


def _newest(rows: list[Stored]) -> dict[_Payer, Stored]:
    """The last of each payer's rows."""
    return {_Payer(row.channel, row.payer): row for row in rows}
