"""Payment ids: which payment of a payer carries one. Spec C-9, N-31.

An id begins with its time, so the newest are kept in memory, down to a `floor` time, and only an id
at or below the floor is looked for on disk, in the few batches whose range of times covers it. No row
and no index entry is paid for a payment.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final, NamedTuple

from channelpay.batches import NO_ID, Batch
from channelpay.limits import MAX_SEARCHED_BATCHES, REMEMBERED_IDS
from channelpay.store.batches import BatchTable

_NOTHING: Final = -1
_MAX_REMEMBERED: Final = 16 * REMEMBERED_IDS
"""Payment ids of all channels in memory, about: some 200 MB. A payer without any counts as one."""

Ids = list[tuple[int, bytes, int]]
"""(n, payment id, amount), as of Batch.ids."""


class Found(NamedTuple):
    """The payment that carries an id: its number and its units."""

    n: int
    amount: int


def id_time_ms(payment_id: bytes) -> int:
    """The Unix time in milliseconds in an id's first six bytes (spec S-22)."""
    return int.from_bytes(payment_id[:6], "big")


def id_time_range(ids: Ids) -> tuple[int | None, int | None]:
    """Least and greatest time in the ids of a batch; (None, None) if it has none."""
    if not ids:
        return None, None
    if len(ids) == 1:
        time = id_time_ms(ids[0][1])
        return time, time
    times = [payment_id[:6] for _, payment_id, _ in ids]
    return int.from_bytes(min(times), "big"), int.from_bytes(max(times), "big")


class _Known:
    """The newest ids of one payer on one channel."""

    __slots__ = ("floor", "ids")

    def __init__(self, floor: int) -> None:
        # (n, amount) by id. A dict would grow slow at the end that is taken from.
        self.ids: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self.floor = floor  # every id above this time that was ever used is in `ids`

    def add(self, ids: Ids) -> None:
        """Ids of a later batch. The first use of one is the one that counts."""
        new = {payment_id: (n, amount) for n, payment_id, amount in reversed(ids)}
        for payment_id in new.keys() & self.ids.keys():
            del new[payment_id]
        self.ids.update(new)
        excess = len(self.ids) - REMEMBERED_IDS
        if excess > 0:
            forgotten = [self.ids.popitem(last=False)[0] for _ in range(excess)]
            self.floor = max(self.floor, id_time_ms(max(forgotten)))


class PaymentIds:
    """Ids of all channels of a store; loaded when a channel's are first asked for.

    `settle` is called before the disk is read: what was given to `learn` must be there then.
    """

    def __init__(self, batches: BatchTable, settle: Callable[[], None]) -> None:
        self._batches = batches
        self._settle = settle
        self._known: dict[tuple[int, int], _Known] = {}
        self._size = 0  # ids in `_known`, and one more for each payer

    def find(self, ref: int, payer: int, payment_id: bytes, *, remember: bool = True) -> Found | None:
        """The first payment that carries the id, or None.

        Without `remember` a payer whose ids are not in memory is looked up on disk alone.
        """
        known = self._load(ref, payer) if remember else self._known.get((ref, payer))
        if known is not None:
            found = known.ids.get(payment_id)
            if found is not None:
                return Found(*found)
            if id_time_ms(payment_id) > known.floor:
                return None
        self._settle()
        time = id_time_ms(payment_id)
        where = "channel = ? AND payer = ? AND id_to >= ? AND id_from <= ? ORDER BY last_n"
        with closing(self._batches.whole(where, (ref, payer, time, time))) as rows:
            for row in rows:
                for n, candidate, amount in row.batch.ids():
                    if candidate == payment_id:
                        return Found(n, amount)
        return None

    def are_new(self, ref: int, payer: int, ids: Sequence[bytes]) -> bool:
        """Whether none of these ids came before or stands twice, as far as memory can tell: a False may be wrong."""
        known = self._load(ref, payer)
        return id_time_ms(min(ids)) > known.floor and known.ids.keys().isdisjoint(ids) and len(set(ids)) == len(ids)

    def learn(self, ref: int, payer: int, ids: Ids) -> None:
        """A batch with these ids is about to become durable."""
        known = self._known.get((ref, payer))
        if known is not None:  # otherwise it is read when it is needed
            before = len(known.ids)
            known.add(ids)
            self._size += len(known.ids) - before

    def repeated(self, ref: int, payer: int, first_n: int, ids: Ids) -> bytes | None:
        """u16 indexes of the payments of a new batch whose ids came before, or None if there are none."""
        if self.are_new(ref, payer, [payment_id for _, payment_id, _ in ids]):
            return None
        known = self._load(ref, payer)
        old = {payment_id for _, payment_id, _ in ids if id_time_ms(payment_id) <= known.floor}
        seen = self._on_disk(ref, payer, old - known.ids.keys()) if old else set[bytes]()
        indexes = array("H")
        for n, payment_id, _ in ids:
            if payment_id in known.ids or payment_id in seen:
                indexes.append(n - first_n)
            seen.add(payment_id)
        return indexes.tobytes() or None

    def _on_disk(self, ref: int, payer: int, wanted: set[bytes]) -> set[bytes]:
        """Those of the ids that came before, as far as a peer that chose them may make us look."""
        found: set[bytes] = set()
        if not wanted:
            return found
        self._settle()
        where = "channel = ? AND payer = ? AND id_to >= ? AND id_from <= ? ORDER BY id_to DESC LIMIT ?"
        bounds = id_time_ms(min(wanted)), id_time_ms(max(wanted)), MAX_SEARCHED_BATCHES
        with closing(self._batches.whole(where, (ref, payer, *bounds))) as rows:
            for row in rows:
                found.update(payment_id for _, payment_id, _ in row.batch.ids() if payment_id in wanted)
        return found

    def _load(self, ref: int, payer: int) -> _Known:
        known = self._known.pop((ref, payer), None)
        if known is None:
            known = self._read(ref, payer)
            self._size += len(known.ids) + 1
            self._make_room()
        self._known[ref, payer] = known  # the newest used stands last
        return known

    def _make_room(self) -> None:
        """Forget the payers that were asked for longest ago."""
        while self._known and self._size > _MAX_REMEMBERED:
            forgotten = self._known.pop(next(iter(self._known)))
            self._size -= len(forgotten.ids) + 1

    def _read(self, ref: int, payer: int) -> _Known:
        self._settle()
        newest: list[Batch] = []
        count, floor = 0, _NOTHING
        # In the order of the index of batches with ids: the many that may have none are not looked at.
        where = "channel = ? AND payer = ? AND id_to IS NOT NULL ORDER BY id_to DESC"
        with closing(self._batches.whole(where, (ref, payer))) as rows:
            for row in rows:
                if count >= REMEMBERED_IDS // 2:
                    assert row.id_to is not None
                    floor = row.id_to
                    break
                newest.append(row.batch)
                count += row.batch.size - row.batch.records.count(NO_ID)
        known = _Known(floor)
        for batch in sorted(newest):
            known.add(list(batch.ids()))
        return known
