"""Where payments come in: ids are looked up, items queued, callers told. Spec C-9, N-13."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from channelpay.batches import Batch, parse_memos
from channelpay.channel.effects import Queued
from channelpay.channel.payments import split_payments
from channelpay.channel.state import Channel, Phase
from channelpay.daemon.engine import Engine, Waiter
from channelpay.daemon.outside import wall_time
from channelpay.errors import LocalError, Reason, RemoteError
from channelpay.limits import (
    LEDGER_REQUEST_TIMEOUT_S,
    MAX_QUEUED_ITEMS,
    MAX_QUEUED_PAYMENTS,
    PAYMENT_ID_FUTURE_S,
    PAYMENT_ID_HORIZON_S,
    RECORD_BYTES,
)
from channelpay.messages.control import (
    PAYMENT_PAID,
    PAYMENT_QUEUED,
    PAYMENT_SENT,
    PAYMENT_UNKNOWN,
    Paid,
    PayEach,
    PayMany,
    PaymentView,
    Refusal,
)
from channelpay.node.views import money
from channelpay.store.payment_ids import Found, Ids, id_time_ms

Done = Callable[["Paid | LocalError"], None]
EachDone = Callable[["Paid | Refusal"], None]
Memos = list[tuple[int, bytes]]
"""(index in the frame, memo), indexes rising."""
_RESUME_BELOW: Final = MAX_QUEUED_PAYMENTS // 2
_FIRST_READING_S: Final = LEDGER_REQUEST_TIMEOUT_S
"""How long payments wait for the first reading of the ledger after a start, before they are refused as stalled."""


class _Frame(NamedTuple):
    """A PayEach: payment i of `batch` answers to call `first` + i."""

    channel: Channel
    batch: Batch
    memos: Memos
    has_ids: bool
    first: int
    done: EachDone


class PaymentDesk:
    """Takes payments for the engine's channels. Everything that was not refused at once is answered by `done`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._node = engine.node
        self._store = engine.store
        self._started_at = trio.current_time()

    def has_room(self, channel_id: bytes) -> bool:
        """Whether the channel's queue takes more; when it does not, the caller should wait."""
        channel = self._node.channels.get(channel_id)
        if channel is None:
            return True
        few = channel.queued_count < _RESUME_BELOW and len(channel.queue) < MAX_QUEUED_ITEMS
        return few and not self._is_starting()

    def _is_starting(self) -> bool:
        """A node that has just started has not read its ledger yet: it will in a moment, so nobody is refused."""
        return not self._node.ledger.was_read and trio.current_time() < self._started_at + _FIRST_READING_S

    async def wait_room(self, channel_id: bytes) -> None:
        """Wait for room in the channel's queue: `pay` slows its caller down instead of being refused."""
        await trio.lowlevel.checkpoint()
        while not self.has_room(channel_id):
            self._engine.check_running()
            with trio.move_on_at(self._started_at + _FIRST_READING_S if self._is_starting() else math.inf):
                await self._engine.room.park()

    # --- Each on its own ---------------------------------------------------------------------

    def pay_each(self, message: PayEach, done: EachDone) -> None:
        """Queue or refuse every payment by itself, in order. Never raises: `done` is told of each, now or later.

        One Paid answers for all payments of an item, numbered from its `call_id` on.
        """
        first, count = message.call_id, len(message.records) // RECORD_BYTES
        try:
            channel = self._node.channel(message.channel_id)
            batch, memos = _sound(message)
        except LocalError as error:
            for call_id in range(first, first + max(1, count)):
                done(Refusal(call_id, error))
            return
        ids = list(batch.ids())
        frame = _Frame(channel, batch, memos, bool(ids), first, done)
        begin, seen = 0, set[bytes]()
        for n, payment_id, amount in [] if self._all_new(channel, ids) else ids:
            index = n - 1
            if self._is_new(channel, payment_id, seen):
                seen.add(payment_id)
                continue
            self._queue_each(frame, begin, index)
            self._pay_again(frame, index, amount, payment_id)
            begin = index + 1
        self._queue_each(frame, begin, count)

    def _all_new(self, channel: Channel, ids: Ids) -> bool:
        """Whether all ids are in their time, none was ever used and none stands twice: none needs a look of its own."""
        if not ids:
            return True
        only = [payment_id for _, payment_id, _ in ids]
        return (
            _is_timely(min(only))  # an id begins with its time
            and _is_timely(max(only))
            and channel.pending_ids.keys().isdisjoint(only)
            and self._store.are_new(channel.channel_id, channel.side, only)
        )

    def _is_new(self, channel: Channel, payment_id: bytes, seen: set[bytes]) -> bool:
        """Whether the id is in its time and was never used: then it needs no more care than no id at all."""
        return (
            _is_timely(payment_id)
            and payment_id not in seen
            and payment_id not in channel.pending_ids
            and self._store.find(channel.channel_id, channel.side, payment_id) is None
        )

    def _pay_again(self, frame: _Frame, index: int, amount: int, payment_id: bytes) -> None:
        """A payment whose id was used before, or whose id's time is out of bounds."""
        call_id, done = frame.first + index, frame.done

        def told(answer: Paid | LocalError) -> None:
            done(answer if isinstance(answer, Paid) else Refusal(call_id, answer))

        try:
            _check_time(payment_id)
            if not self._known(frame.channel, payment_id, amount, call_id, told):  # its namesake here was refused
                self._queue_each(frame, index, index + 1)
        except LocalError as error:
            done(Refusal(call_id, error))

    def _queue_each(self, frame: _Frame, begin: int, end: int) -> None:
        """Queue payments `begin` .. `end` - 1 of the frame; if not all can be, one by one."""
        if begin == end:
            return
        records = frame.batch.records[begin * RECORD_BYTES : end * RECORD_BYTES]
        memos = [(index - begin, memo) for index, memo in frame.memos if begin <= index < end]
        try:
            items = split_payments(frame.channel, records, memos)
            if frame.has_ids:
                _learn_ids(items)
            call_id = frame.first + begin
            for item in items:
                item.waiters.append(_each(call_id, frame.done))
                call_id += item.count
            self._queue(frame.channel, items)
        except LocalError as error:
            if end - begin == 1:
                frame.done(Refusal(frame.first + begin, error))
                return
            for index in range(begin, end):
                self._queue_each(frame, index, index + 1)

    def _queue(self, channel: Channel, items: list[Queued]) -> None:
        """Raises LocalError; amounts in it are written as people write them."""
        try:
            self._node.pay(channel.channel_id, items, trio.current_time())
        except LocalError as error:
            if error.reason is not Reason.INSUFFICIENT_BALANCE:
                raise
            wanted, left = (
                money(self._node, channel, units) for units in (sum(i.total for i in items), channel.spendable())
            )
            raise LocalError(
                error.reason, f"{wanted} to pay, {left} left in the channel; a top-up adds to it"
            ) from None
        self._engine.wake()

    def _known(self, channel: Channel, payment_id: bytes, amount: int, call_id: int, done: Done) -> bool:
        """Whether the id has been used: then `done` is told (or will be) and nothing is paid (spec C-9)."""
        item = channel.pending_ids.get(payment_id)
        if item is not None:
            found = next(Found(n, units) for n, candidate, units in _ids_of(item) if candidate == payment_id)
            _check_amount(found, amount)
            item.waiters.append(_repeated(call_id, found.n - 1, done))
            return True
        stored = self._store.find(channel.channel_id, channel.side, payment_id)
        if stored is None:
            return False
        _check_amount(stored, amount)
        self._follow(channel, stored.n, call_id, done)
        return True

    @staticmethod
    def _follow(channel: Channel, n: int, call_id: int, done: Done) -> None:
        """Have `done` told what becomes of payment n, which is on disk: now, or when it is acknowledged."""
        if n <= paid_n(channel):
            done(Paid(call_id, n, 1, 1))
        elif channel.phase is Phase.SETTLED:
            raise LocalError(Reason.CLOSING, "not paid: the channel settled without this payment")
        elif sent := next((sent for sent in channel.unacked if sent.batch.first_n <= n <= sent.half.n), None):
            sent.items.append(Queued(b"", 0, 0, [], waiters=[_repeated(call_id, n, done, absolute=True)]))
        else:  # never, unless the store is damaged where no look has come yet
            raise LocalError(Reason.UNKNOWN_OUTCOME, f"payment {n} is not found among those that wait for their ACK")

    # --- Many --------------------------------------------------------------------------------

    def pay_many(self, message: PayMany, done: Done) -> None:
        """Queue payments in a row, all or none; raises LocalError if they are refused at once.

        Payments whose ids have been paid before are left out and not paid again: `repeated` is 1 and
        `count` is what was paid now. The answer comes when the old ones are paid too, or one of them is not.
        """
        channel = self._node.channel(message.channel_id)
        batch, memos = _sound(message)
        records, memos, old = self._new_ones(channel, batch, memos)
        items = split_payments(channel, records, memos) if records else []
        answers = _Answers(message.call_id, items, len(old), done)
        try:
            if items:
                _learn_ids(items)
                self._queue(channel, items)
                items[-1].waiters.append(answers.new)
            for payment_id, amount in old:
                self._known(channel, payment_id, amount, message.call_id, answers.old)
        except LocalError as error:
            raise answers.for_all(error) from None

    def _new_ones(self, channel: Channel, batch: Batch, memos: Memos) -> tuple[bytes, Memos, list[tuple[bytes, int]]]:
        """(records, memos, (id, units) of those left out): without the payments whose ids were used before."""
        ids = list(batch.ids())
        if self._all_new(channel, ids):
            return batch.records, memos, []
        old: dict[int, tuple[bytes, int]] = {}
        seen: set[bytes] = set()
        for n, payment_id, amount in ids:
            _check_time(payment_id)
            if payment_id in seen:
                raise LocalError(Reason.ID_REUSED, f"payment id {payment_id.hex()} stands twice in one call")
            seen.add(payment_id)
            item = channel.pending_ids.get(payment_id)
            found = (
                next(Found(i, units) for i, candidate, units in _ids_of(item) if candidate == payment_id)
                if item is not None
                else self._store.find(channel.channel_id, channel.side, payment_id)
            )
            if found is not None:
                _check_amount(found, amount)
                old[n - 1] = payment_id, amount
        if not old:
            return batch.records, memos, []
        kept = [index for index in range(batch.size) if index not in old]
        records = b"".join([batch.records[i * RECORD_BYTES : (i + 1) * RECORD_BYTES] for i in kept])
        places = {index: place for place, index in enumerate(kept)}
        return records, [(places[i], memo) for i, memo in memos if i in places], list(old.values())

    # --- Looking -------------------------------------------------------------------------------

    def find(self, payment_id: bytes, channel_id: bytes | None) -> PaymentView:
        """Status of a payment that this node made, by its id."""
        roster = self._node.roster
        for channel in [self._node.channel(channel_id)] if channel_id is not None else roster.loaded.values():
            item = channel.pending_ids.get(payment_id)
            if item is not None and not item.first_n:
                amount = next(units for _, candidate, units in _ids_of(item) if candidate == payment_id)
                return PaymentView(PAYMENT_QUEUED, channel.channel_id, 0, amount, payment_id)
        where = self._store.find_own(payment_id, channel_id)
        if where is not None:
            key, found = where
            status = PAYMENT_PAID if found.n <= paid_n(roster.peek(key)) else PAYMENT_SENT
            return PaymentView(status, key, found.n, found.amount, payment_id)
        return PaymentView(PAYMENT_UNKNOWN, None, 0, 0, payment_id)


def _sound(message: PayEach | PayMany) -> tuple[Batch, Memos]:
    """The payments of a frame as a batch from 1 on, and its memos; raises LocalError."""
    if len(message.records) % RECORD_BYTES:
        raise LocalError(Reason.USAGE, f"{len(message.records)} bytes are no records of {RECORD_BYTES} bytes each")
    batch = Batch(1, message.records, message.memos)
    try:
        return batch, parse_memos(message.memos, batch.size)
    except RemoteError as error:  # the same rules as on the wire; here the fault is our caller's
        raise LocalError(Reason.USAGE, error.text) from None


def _learn_ids(items: list[Queued]) -> None:
    """Tell each item the payment ids in it."""
    for item in items:
        item.ids = tuple(payment_id for _, payment_id, _ in Batch(1, item.records, b"").ids())


def _each(call_id: int, done: EachDone) -> Waiter:
    """A waiter that answers for every payment of its item, numbered from `call_id` on."""

    def paid(item: Queued, error: LocalError | None) -> None:
        if error is None:
            done(Paid(call_id, item.first_n, item.count, 0))
            return
        for number in range(call_id, call_id + item.count):
            done(Refusal(number, error))

    return paid


def _ids_of(item: Queued) -> list[tuple[int, bytes, int]]:
    """(place in the item from 1, id, units)."""
    return list(Batch(1, item.records, b"").ids())


def paid_n(channel: Channel) -> int:
    """How many payments of this node are paid for good: held by the peer, or in the settlement."""
    if channel.phase is Phase.SETTLED and channel.reading is not None:
        return max(channel.acked.n, channel.reading.halves[channel.side].n)
    return channel.acked.n


class _Answers:
    """The one answer to a call that pays several times: once all is paid, or as soon as something is not."""

    def __init__(self, call_id: int, items: list[Queued], old: int, done: Done) -> None:
        self._call_id = call_id
        self._items = items
        self._old = old
        self._missing = old + (1 if items else 0)
        self._done: Done | None = done

    def new(self, _: Queued, error: LocalError | None) -> None:
        """The last of the new payments is paid, and with it all before it; or it is not."""
        self._part(error)

    def old(self, answer: Paid | LocalError) -> None:
        """A payment that had been made before is paid; or it is not."""
        self._part(answer if isinstance(answer, LocalError) else None)

    def for_all(self, error: LocalError) -> LocalError:
        """What to answer for the whole call when some of it met `error`: others of it may be paid."""
        sent = sum(item.count for item in self._items if item.first_n)
        if not sent and (not self._old or (self._old == 1 and not self._items)):
            return error
        text = f"{error}; the first {sent} of the new payments had been sent" if sent else str(error)
        if self._old:
            text += f"; {self._old} of these payments had been asked for before and may be paid"
        return LocalError(Reason.UNKNOWN_OUTCOME, f"{text}: ask for each by its id, or pay each again with its id")

    def _part(self, error: LocalError | None) -> None:
        self._missing -= 1
        if self._done is not None and (error is not None or not self._missing):
            done, self._done = self._done, None
            first_n, count = (self._items[0].first_n if self._items else 0), sum(item.count for item in self._items)
            done(self.for_all(error) if error else Paid(self._call_id, first_n, count, int(self._old > 0)))


def _repeated(call_id: int, n: int, done: Done, absolute: bool = False) -> Waiter:
    """A waiter that answers for payment `n` of the item (or of the channel) without having paid."""

    def paid(item: Queued, error: LocalError | None) -> None:
        done(error or Paid(call_id, n if absolute else item.first_n + n, 1, 1))

    return paid


def _check_amount(found: Found, amount: int) -> None:
    if found.amount != amount:
        raise LocalError(
            Reason.ID_REUSED, f"this payment id was used for {found.amount} units; a retry must name the same amount"
        )


def _age_s(payment_id: bytes) -> float:
    return wall_time() - id_time_ms(payment_id) / 1000


def _is_timely(payment_id: bytes) -> bool:
    return -PAYMENT_ID_FUTURE_S <= _age_s(payment_id) <= PAYMENT_ID_HORIZON_S


def _check_time(payment_id: bytes) -> None:
    """Spec C-9: an id's time bounds how long it must be remembered."""
    age_s = _age_s(payment_id)
    if age_s > PAYMENT_ID_HORIZON_S:
        raise LocalError(
            Reason.ID_EXPIRED,
            f"the payment id was made {age_s:.0f} s ago; ids are remembered for {PAYMENT_ID_HORIZON_S} s, so whether "
            "it was paid cannot be told: make ids with new_payment_id()",
        )
    if age_s < -PAYMENT_ID_FUTURE_S:
        raise LocalError(
            Reason.ID_FROM_FUTURE,
            f"the payment id is stamped {-age_s:.0f} s ahead: make ids with new_payment_id() and check the clock",
        )
