"""Payment ids: which payment of a payer carries one. Spec C-9, N-8.

An id begins with its time, so the newest are kept in memory, down to a `floor` time, and only an id
at or below the floor is looked for on disk, in the few batches whose range of times covers it. No row
and no index entry is paid for a payment.
"""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

from channelpay.batches import NO_ID, Batch
from channelpay.limits import REMEMBERED_IDS
from channelpay.store.sqlite import Database

_NOTHING: Final = -1
_MAX_REMEMBERED: Final = 16 * REMEMBERED_IDS
"""Payment ids of all channels in memory, about: some 200 MB."""


class Found(NamedTuple):
    """The payment that carries an id: its number and its units."""

    n: int
    amount: int


def id_time_ms(payment_id: bytes) -> int:
    """The Unix time in milliseconds in an id's first six bytes (spec S-22)."""
    return int.from_bytes(payment_id[:6], "big")


def id_time_range(batch: Batch) -> tuple[int | None, int | None]:
    """Least and greatest time in the ids of a batch; (None, None) if it has none."""
    times = [payment_id[:6] for _, payment_id, _ in batch.ids()]
    if not times:
        return None, None
    return int.from_bytes(min(times), "big"), int.from_bytes(max(times), "big")


class _Known:
    """The newest ids of one payer on one channel."""

    __slots__ = ("floor", "ids")

    def __init__(self, floor: int) -> None:
        self.ids: dict[bytes, Found] = {}
        self.floor = floor  # every id above this time that was ever used is in `ids`

    def add(self, payment_id: bytes, found: Found) -> None:
        if payment_id not in self.ids:  # the first use is the one that counts
            self.ids[payment_id] = found
            if len(self.ids) > REMEMBERED_IDS:
                oldest = next(iter(self.ids))
                del self.ids[oldest]
                self.floor = max(self.floor, id_time_ms(oldest))


class PaymentIds:
    """Ids of all channels of a store; loaded when a channel's are first asked for."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._known: dict[tuple[int, int], _Known] = {}

    def find(self, ref: int, payer: int, payment_id: bytes, *, remember: bool = True) -> Found | None:
        """The first payment that carries the id, or None.

        Without `remember` a payer whose ids are not in memory is looked up on disk alone.
        """
        known = self._load(ref, payer) if remember else self._known.get((ref, payer))
        time = id_time_ms(payment_id)
        if known is not None:
            found = known.ids.get(payment_id)
            if found is not None or time > known.floor:
                return found
        rows = self._db.rows(
            "SELECT first_n, records, memos FROM batches "
            "WHERE channel = ? AND payer = ? AND id_to >= ? AND id_from <= ? ORDER BY last_n",
            (ref, payer, time, time),
        )
        for row in rows:
            for n, candidate, amount in Batch(*row).ids():
                if candidate == payment_id:
                    return Found(n, amount)
        return None

    def learn(self, ref: int, payer: int, batch: Batch) -> None:
        """A batch is about to become durable."""
        known = self._known.get((ref, payer))
        if known is not None:  # otherwise it is read when it is needed
            for n, payment_id, amount in batch.ids():
                known.add(payment_id, Found(n, amount))

    def repeated(self, ref: int, payer: int, batch: Batch) -> bytes | None:
        """u16 indexes of the payments of a new batch whose ids came before, or None if there are none."""
        known = self._load(ref, payer)
        indexes = array("H")
        within: set[bytes] = set()
        for n, payment_id, _ in batch.ids():
            old = payment_id in known.ids or payment_id in within
            if old or (id_time_ms(payment_id) <= known.floor and self.find(ref, payer, payment_id) is not None):
                indexes.append(n - batch.first_n)
            within.add(payment_id)
        return indexes.tobytes() or None

    def _load(self, ref: int, payer: int) -> _Known:
        known = self._known.pop((ref, payer), None)
        if known is None:
            self._make_room()
            known = self._read(ref, payer)
        self._known[ref, payer] = known  # the newest used stands last
        return known

    def _make_room(self) -> None:
        """Forget the payers that were asked for longest ago."""
        while self._known and sum(len(known.ids) for known in self._known.values()) > _MAX_REMEMBERED:
            del self._known[next(iter(self._known))]

    def _read(self, ref: int, payer: int) -> _Known:
        batches: list[Batch] = []
        count, floor, last_n = 0, _NOTHING, None
        where = "FROM batches WHERE channel = ? AND payer = ? AND id_to IS NOT NULL"
        for first_n, records, memos in self._db.stream(
            f"SELECT first_n, records, memos {where} ORDER BY last_n DESC", (ref, payer)
        ):
            batch = Batch(first_n, records, memos)
            batches.append(batch)
            count += batch.size - batch.records.count(NO_ID)
            last_n = first_n
            if count >= REMEMBERED_IDS // 2:
                break
        if last_n is not None:
            row = self._db.row(f"SELECT max(id_to) {where} AND last_n < ?", (ref, payer, last_n))
            floor = _NOTHING if row is None or row[0] is None else int(row[0])
        known = _Known(floor)
        for batch in reversed(batches):
            for n, payment_id, amount in batch.ids():
                known.add(payment_id, Found(n, amount))
        return known
