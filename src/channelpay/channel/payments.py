"""Paying and being paid: the rules D1 to D5 of the protocol. Spec chapter 6, sections 4 to 6.

A payment enters the queue (`enqueue`), a flush turns the queue into batches (`flush`), the peer's
ACK or PAY tells that it holds them. What comes in is judged as a run (`receive_run`): every message
is checked, the newest signature alone is verified, because it covers all before it.
"""

from __future__ import annotations

import struct

from channelpay.batches import Batch, pack_memos, parse_memos, records_total, smallest_amount
from channelpay.channel.effects import Effects, FailedNote, JournalBatch, PaidNote, Queued
from channelpay.channel.state import Channel, Held, Phase, SentBatch
from channelpay.errors import BadSignature, ErrorCode, LocalError, Reason, RemoteError
from channelpay.limits import (
    FLUSH_BATCHES,
    MAX_MEMOS_BYTES,
    MAX_QUEUED_PAYMENTS,
    MAX_UNACKED_BATCHES,
    MAX_UNITS,
    RECORD_BYTES,
)
from channelpay.messages.peer import Ack, Pay
from channelpay.statements import Half

MEMO_OVERHEAD = 7  # a pair's array byte, index (3) and length (3) at most
_MEMOS_HEADER = 3

_NOT_OPEN = {
    Phase.ACCEPTED: (Reason.NOT_OPEN, "the channel is still being opened"),
    Phase.FUNDED: (Reason.NOT_OPEN, "the channel is still being opened"),
    Phase.SHUTDOWN: (Reason.CLOSING, "the channel is being closed"),
    Phase.FINAL: (Reason.CLOSING, "the channel is being closed"),
    Phase.CLOSING: (Reason.CLOSING, "the channel is being closed on the ledger"),
    Phase.SETTLED: (Reason.NOT_OPEN, "the channel is settled"),
    Phase.ABANDONED: (Reason.NOT_OPEN, "the channel was never opened"),
}

_CLOSING = (Phase.SHUTDOWN, Phase.FINAL, Phase.CLOSING)


# --- Paying ----------------------------------------------------------------------------------


def enqueue(c: Channel, items: list[Queued], stale: bool) -> None:
    """Take all items into the queue, or raise LocalError and change nothing (spec C-9)."""
    # First of all: what may have been paid before the store was rolled back is not told to be not paid.
    if c.setup.found:
        raise LocalError(Reason.UNRESOLVED, "this channel was found on the ledger: what was paid before is not known")
    if not c.resolved or (c.phase in _CLOSING and c.restored and not c.reestablished):
        raise LocalError(Reason.UNRESOLVED, "this node's store was rolled back; the peer is being asked for the rest")
    if c.phase != Phase.OPEN:
        raise LocalError(*_NOT_OPEN[c.phase])
    if not c.may_pay:
        raise LocalError(Reason.ONE_WAY, "this channel is one-way and this node is the payee")
    if stale:
        raise LocalError(
            Reason.STALLED,
            "no reading of the ledger for a quarter of the dispute window, or a restored store that must wait",
        )
    limits = c.setup.peer_limits
    count = total = 0
    for item in items:
        if item.total > limits.max_unacked_value:
            raise LocalError(
                Reason.ABOVE_LIMIT,
                f"a payment of {item.total} units is above the {limits.max_unacked_value} units that the peer takes "
                "unacknowledged",
            )
        if limits.min_payment > 1 and smallest_amount(item.records) < limits.min_payment:
            raise LocalError(Reason.BELOW_MINIMUM, f"the peer takes payments of at least {limits.min_payment} units")
        if item.memos:
            pack_memos(item.memos)  # refuses what no batch could carry
        count += item.count
        total += item.total
    if c.queue and c.queued_count + count > MAX_QUEUED_PAYMENTS:
        raise LocalError(Reason.QUEUE_FULL, f"{c.queued_count} payments wait already")
    if total > c.own_balance() - c.queued_total:
        raise LocalError(
            Reason.INSUFFICIENT_BALANCE, f"{total} units to pay, {c.spendable()} units left in the channel"
        )
    if c.own.total + c.queued_total + total > MAX_UNITS:
        raise LocalError(
            Reason.INSUFFICIENT_BALANCE,
            "all payments of this channel together would pass 2^63-1 units: close it and open another",
        )
    c.queue.extend(items)
    c.queued_count += count
    c.queued_total += total
    for item in items:
        for payment_id in item.ids:
            c.pending_ids[payment_id] = item


def may_flush(c: Channel, stale: bool) -> bool:
    """Whether a signature for new payments may leave now (spec C-11)."""
    return c.live and not c.suspended and not stale and c.resolved and c.phase in (Phase.OPEN, Phase.SHUTDOWN)


def flush(c: Channel, fx: Effects, stale: bool) -> None:
    """Turn the queue into PAYs as far as the peer's limits allow; else a due ACK goes alone (spec C-11, C-16)."""
    if may_flush(c, stale):
        if c.queued_total > c.own_balance():
            _drop_unaffordable(c, fx)
        while c.queue and not c.shutdown_sent and len(c.unacked) < MAX_UNACKED_BATCHES:
            if len(fx.messages) >= FLUSH_BATCHES:
                fx.again = True
                break
            batch_items = _take_batch(c)
            if not batch_items:
                break
            fx.messages.append(_pay(c, batch_items, fx))
            c.ack_due = False
    if c.ack_due and c.live and not c.suspended:
        c.ack_due = False
        signature = c.sign_state(c.own, c.peer)
        fx.messages.append(Ack(c.channel_id, c.peer.n, c.own.n, signature))


def _drop_unaffordable(c: Channel, fx: Effects) -> None:
    """The newest that was queued goes when a withdrawal that this node had forgotten took its money (spec C-11)."""
    room = c.own_balance()
    dropped: list[Queued] = []
    while c.queue and c.queued_total > room:
        item = c.queue.pop()
        c.queued_count -= item.count
        c.queued_total -= item.total
        dropped.append(item)
    dropped.reverse()
    forget_ids(c, dropped)
    error = LocalError(Reason.INSUFFICIENT_BALANCE, "not paid: the ledger shows less left in the channel than before")
    fx.notes.append(FailedNote(dropped, error))


def _take_batch(c: Channel) -> list[Queued]:
    """Items from the queue's head that fit one batch and the peer's limits."""
    limits, acked = c.setup.peer_limits, c.acked
    count_room = min(c.setup.terms.max_batch, limits.max_unacked - (c.own.n - acked.n))
    value_room = limits.max_unacked_value - (c.own.total - acked.total)
    memo_room = MAX_MEMOS_BYTES - _MEMOS_HEADER
    queue = c.queue
    taken: list[Queued] = []
    while queue:
        item = queue[0]
        count_room -= item.count
        value_room -= item.total
        if item.memos:
            memo_room -= sum(len(memo) + MEMO_OVERHEAD for _, memo in item.memos)
        if count_room < 0 or value_room < 0 or (memo_room < 0 and taken):
            break
        taken.append(queue.popleft())
    return taken


def _pay(c: Channel, items: list[Queued], fx: Effects) -> Pay:
    first_n = c.own.n + 1
    memos: list[tuple[int, bytes]] = []
    count = total = 0
    for item in items:
        item.first_n = first_n + count
        if item.memos:
            memos += [(index + count, memo) for index, memo in item.memos]
        count += item.count
        total += item.total
    c.queued_count -= count
    c.queued_total -= total
    records = items[0].records if len(items) == 1 else b"".join([item.records for item in items])
    batch = Batch(first_n, records, pack_memos(memos) if memos else b"")
    half = c.next_half(c.side, c.own, batch, total)
    c.own = half
    c.boundaries[half.n] = half
    c.unacked.append(SentBatch(batch, half, items))
    fx.journal.append(JournalBatch(c.channel_id, c.side, False, batch, half))
    fx.save_hot = True
    # Spec C-12: the newest half of the peer that I hold, always.
    return Pay(c.channel_id, first_n, batch.records, batch.memos, c.peer.n, c.sign_state(half, c.peer))


# --- Being paid ------------------------------------------------------------------------------


class _Run:
    """Judges PAYs and ACKs one after another without changing the channel."""

    def __init__(self, c: Channel) -> None:
        self.c = c
        self.peer = c.peer
        self.shown = c.acked  # newest half of mine that the peer has shown in an accepted message
        self.batches: list[tuple[Batch, Half, Half]] = []
        self.newest: Held | None = None
        self.repeated = False

    def pay(self, message: Pay) -> None:
        """Checks in the order of spec E-8; the balance is judged last, on a signature that verifies."""
        c = self.c
        if c.one_way and c.side == 0:  # party 1 never pays
            raise RemoteError(ErrorCode.ONE_WAY, "party 1 of a one-way channel sent a payment")
        if not 1 <= message.first_n <= self.peer.n + 1:  # spec C-14
            raise RemoteError(ErrorCode.GAP, f"payment {message.first_n} came, {self.peer.n + 1} is next")
        total = records_total(message.records, c.setup.terms.max_batch)
        batch = Batch(message.first_n, message.records, message.memos)
        parse_memos(batch.memos, batch.size)
        if batch.first_n <= self.peer.n:
            self._check_repeated(batch, total)
            return
        if c.peer_last_n is not None:  # spec X-1
            raise RemoteError(ErrorCode.ILLEGAL_NOW, "a payment after SHUTDOWN")
        if self.peer.total + total > MAX_UNITS or batch.last_n > MAX_UNITS:
            raise RemoteError(ErrorCode.OVERFLOW, "the counter would pass 2^63-1")
        shown = self._boundary(message.ack_n)
        self._check_limits(batch, total)
        half = c.next_half(1 - c.side, self.peer, batch, total)
        state = Held(shown, half, message.signature)
        if c.balance(1 - c.side, *c.in_order(shown, half)) < 0:  # spec C-8: on the pair as signed
            self.verify(state)
            raise RemoteError(ErrorCode.BALANCE, f"payment {batch.last_n} is more than the payer has in the channel")
        self.batches.append((batch, self.peer, half))
        self.peer, self.shown, self.newest = half, shown, state

    def _check_limits(self, batch: Batch, total: int) -> None:
        """What I agreed to take unacknowledged; what is held already is acknowledged in this step (spec C-11)."""
        c, limits = self.c, self.c.setup.my_limits
        if batch.last_n - c.peer.n > limits.max_unacked:
            raise RemoteError(ErrorCode.LIMIT_EXCEEDED, f"more than {limits.max_unacked} payments not acknowledged")
        if self.peer.total + total - c.peer.total > limits.max_unacked_value:
            raise RemoteError(ErrorCode.LIMIT_EXCEEDED, f"more than {limits.max_unacked_value} units not acknowledged")
        if limits.min_payment > 1 and smallest_amount(batch.records) < limits.min_payment:
            raise RemoteError(ErrorCode.LIMIT_EXCEEDED, f"a payment below {limits.min_payment} units")

    def ack(self, message: Ack) -> None:
        shown = self._boundary(message.n)
        if message.own_n != self.peer.n:
            code = ErrorCode.REGRESSION if message.own_n < self.peer.n else ErrorCode.GAP
            raise RemoteError(code, f"ACK shows {message.own_n} payments of its sender; {self.peer.n} are held")
        self.shown = shown
        self.newest = Held(shown, self.peer, message.signature)

    def verify(self, state: Held) -> None:
        """Raises BadSignature: then nothing of the run counts (spec C-13)."""
        self.c.verify_state(state.own, state.peer, state.signature)

    def _boundary(self, n: int) -> Half:
        if n < self.shown.n:  # spec C-15
            raise RemoteError(ErrorCode.REGRESSION, f"{n} payments acknowledged after {self.shown.n}")
        half = self.c.boundaries.get(n)
        if half is None:
            raise RemoteError(ErrorCode.UNKNOWN_BOUNDARY, f"{n} is not the end of a batch that was sent")
        return half

    def _check_repeated(self, batch: Batch, total: int) -> None:
        """Spec C-14: all of it held with the same bytes changes nothing; anything else is an error."""
        for first_n, before, after in [*self.c.recent, *((b.first_n, x, y) for b, x, y in self.batches)]:
            if first_n == batch.first_n and after.n == batch.last_n:
                if self.c.next_half(1 - self.c.side, before, batch, total) != after:
                    raise RemoteError(ErrorCode.OTHER_BYTES, f"payment {first_n} is held with other bytes")
                self.repeated = True
                return
        raise RemoteError(ErrorCode.GAP, f"payments {batch.first_n} to {batch.last_n} are partly held or long past")


def receive_run(c: Channel, run: list[Pay | Ack], fx: Effects) -> tuple[int, RemoteError | None]:
    """Take PAYs and ACKs in the order they came.

    Returns how many were taken, and why the next one was not (None when all were). Raises
    RemoteError(BAD_SIGNATURE) if the newest signature fails: then none of the run counts (spec C-13).
    """
    judge = _Run(c)
    error: RemoteError | None = None
    taken = 0
    try:
        for message in run:
            try:
                if isinstance(message, Pay):
                    judge.pay(message)
                else:
                    judge.ack(message)
            except RemoteError as broken:
                error = broken
                break
            taken += 1
        if judge.newest is not None:
            judge.verify(judge.newest)
    except BadSignature:
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "the newest signature does not verify", c.channel_id) from None
    if judge.newest is not None:
        _take(c, judge, judge.newest, fx)
    if judge.repeated:
        c.ack_due = True
    return taken, error


def _take(c: Channel, judge: _Run, newest: Held, fx: Effects) -> None:
    payer = 1 - c.side
    for batch, before, half in judge.batches:
        fx.journal.append(JournalBatch(c.channel_id, payer, True, batch, half))
        c.recent.append((batch.first_n, before, half))
    c.peer = judge.peer
    hold(c, newest, fx)
    if judge.batches:
        c.ack_due = True
        fx.save_hot = True
    else:
        fx.receipt = True


def hold(c: Channel, newest: Held, fx: Effects) -> None:
    """Make `newest` the state held, and pay out what it acknowledges (spec C-17). The caller says how to save it."""
    before = c.acked
    c.held = newest
    if c.evidence is not None and _covers(newest.peer, c.evidence.peer):
        c.evidence = None
        fx.save = True
    paid: list[Queued] = []
    passed = [before.n]
    while c.unacked and c.unacked[0].half.n <= newest.own.n:
        sent = c.unacked.popleft()
        paid += sent.items
        passed.append(sent.half.n)
    for n in passed:
        if n < newest.own.n:
            c.boundaries.pop(n, None)
    c.boundaries[newest.own.n] = newest.own
    if paid:
        forget_ids(c, paid)
        fx.notes.append(PaidNote(paid))


def _covers(newer: Half, older: Half) -> bool:
    """Whether the ledger pays no more for `older`: a payer that was rolled back may have signed a lower total anew."""
    return newer.n >= older.n and newer.total >= older.total


def forget_ids(c: Channel, items: list[Queued]) -> None:
    """These items are no longer under way: what became of their ids is in the store, or they were never paid."""
    for item in items:
        for payment_id in item.ids:
            c.pending_ids.pop(payment_id, None)


def split_payments(c: Channel, records: bytes, memos: list[tuple[int, bytes]]) -> list[Queued]:
    """Cut a caller's records into queue items that fit a batch, its memos and the peer's limits (spec C-10).

    Raises LocalError(USAGE) unless they are whole records of 1 .. 2^63-1 units each.
    """
    amounts = _amounts(records)
    limits = c.setup.peer_limits
    size = min(c.setup.terms.max_batch, limits.max_unacked)
    items: list[Queued] = []
    inside: list[tuple[int, bytes]]
    start, next_memo = 0, 0
    while start < len(amounts):
        count = min(size, len(amounts) - start)
        while (total := sum(amounts[start : start + count])) > limits.max_unacked_value and count > 1:
            count = (count + 1) // 2
        end, inside = start + count, []
        if next_memo < len(memos):
            end, last_memo = _fit_memos(memos, next_memo, end)
            if end < start + count:
                count = end - start
                total = sum(amounts[start:end])
            inside = [(index - start, memo) for index, memo in memos[next_memo:last_memo]]
            next_memo = last_memo
        items.append(Queued(records[start * RECORD_BYTES : end * RECORD_BYTES], count, total, inside))
        start = end
    if next_memo < len(memos):
        raise LocalError(Reason.USAGE, f"a memo belongs to payment {memos[next_memo][0]}, which is not there")
    return items


def _amounts(records: bytes) -> tuple[int, ...]:
    count, rest = divmod(len(records), RECORD_BYTES)
    if rest or not count:
        raise LocalError(Reason.USAGE, f"{len(records)} bytes are no records of {RECORD_BYTES} bytes each")
    amounts: tuple[int, ...] = struct.unpack(">" + "Q16x" * count, records)
    if min(amounts) < 1 or max(amounts) > MAX_UNITS:
        raise LocalError(Reason.USAGE, "a payment is 1 .. 2^63-1 units")
    return amounts


def _fit_memos(memos: list[tuple[int, bytes]], first: int, end: int) -> tuple[int, int]:
    """Where a batch that was to end before payment `end` must end for its memos; the first memo after it."""
    room = MAX_MEMOS_BYTES - _MEMOS_HEADER
    position = first
    while position < len(memos) and memos[position][0] < end:
        room -= len(memos[position][1]) + MEMO_OVERHEAD
        if room < 0 and position > first:
            return memos[position][0], position
        position += 1
    return end, position
