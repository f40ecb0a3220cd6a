"""Two sides of one channel, their disks, the wire between them and a ledger: all in memory, nothing moves by itself.

Each side commits before it sends, may die before or after any commit, and may wake up with an older disk. The
ledger is the real book of `channelpay.ledger`. After every step the pair checks what must hold always: the order
of signatures, nothing shown that is not on disk, no payment twice in a journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import ledger_world as world
from channelpay.batches import Batch, pack_record
from channelpay.channel import channel as step
from channelpay.channel import closing, payments, withdrawals
from channelpay.channel.closing import Now
from channelpay.channel.effects import (
    Effects,
    FailedNote,
    JournalBatch,
    JournalGap,
    PaidNote,
    Queued,
    RecallAnswer,
    Submission,
)
from channelpay.channel.saved import Saved, load, pack_cold, pack_hot, pack_setup
from channelpay.channel.state import Channel, Phase, Reading, ReceiveLimits, Setup
from channelpay.crypto import SigningKey
from channelpay.errors import RemoteError
from channelpay.ledger.book import Book
from channelpay.ledger.outcomes import LedgerRefused
from channelpay.limits import DUPLICATE_WINDOW_BATCHES, RECORD_BYTES
from channelpay.messages import ledger as ops
from channelpay.messages import peer
from channelpay.messages.peer import Message, Pay
from channelpay.statements import FLAG_TWO_WAY, TAG_STATE, ZERO_HALF, Half, state_bytes

SALTS = bytes([1]) * 32, bytes([2]) * 32
LIMITS = ReceiveLimits(1000, 100_000, 1)


class Crash(Exception):
    """The process died in the middle of a step."""


class RecordingKey(SigningKey):
    """A channel key that remembers which states it signed."""

    __slots__ = ("states",)

    def __init__(self, seed: bytes) -> None:
        super().__init__(seed)
        self.states: list[tuple[Half, Half]] = []

    def sign(self, message: bytes) -> bytes:
        if message.startswith(TAG_STATE):
            self.states.append((Half.unpack(message[56:144]), Half.unpack(message[144:232])))
        return super().sign(message)


@dataclass
class Disk:
    """What one side committed."""

    setup: bytes
    cold: bytes
    hot: bytes
    journal: list[JournalBatch | JournalGap] = field(default_factory=list)
    owes_receipt: bool = False  # the newest of the peer's signatures waits for a commit to ride with

    def copy(self) -> Disk:
        return Disk(self.setup, self.cold, self.hot, list(self.journal))

    def commit(self, c: Channel, fx: Effects) -> None:
        for entry in fx.journal:
            first_n, size = span(entry)
            assert first_n == self.last_n(entry.payer) + 1, "exactly once and in order"
            assert entry.half.n == first_n + size - 1
            self.journal.append(entry)
        if fx.save:
            self.cold = pack_cold(c)
        self.owes_receipt |= fx.receipt
        leaves = fx.save or fx.journal or fx.messages or fx.submissions or fx.recalls
        if fx.save_hot or (self.owes_receipt and leaves):
            self.hot = pack_hot(c)
            self.owes_receipt = False

    def save_receipt(self, c: Channel) -> None:
        """Nothing came along for the newest receipt to ride with, so it goes by itself."""
        if self.owes_receipt:
            self.hot, self.owes_receipt = pack_hot(c), False

    def last_n(self, payer: int) -> int:
        return max((entry.half.n for entry in self.journal if entry.payer == payer), default=0)

    def batches(self, payer: int) -> list[JournalBatch]:
        return [entry for entry in self.journal if entry.payer == payer and isinstance(entry, JournalBatch)]

    def payments(self, payer: int) -> list[tuple[int, int]]:
        """(n, units) of all payments with records."""
        return [(p.n, p.amount) for entry in self.batches(payer) for p in entry.batch.payments()]

    def load(self, channel_id: bytes, key: SigningKey) -> Channel:
        empty = load(channel_id, Saved(self.setup, self.cold, self.hot), key, [], [])
        unacked = [(e.batch, e.half) for e in self.batches(empty.side) if e.half.n > empty.acked.n]
        recent: list[tuple[int, Half, Half]] = []
        before = ZERO_HALF
        for entry in self.journal:
            if entry.payer != empty.side:
                if isinstance(entry, JournalBatch):
                    recent.append((entry.batch.first_n, before, entry.half))
                before = entry.half
        recent = recent[-DUPLICATE_WINDOW_BATCHES:]
        return load(channel_id, Saved(self.setup, self.cold, self.hot), key, unacked, recent)


def span(entry: JournalBatch | JournalGap) -> tuple[int, int]:
    if isinstance(entry, JournalGap):
        return entry.first_n, entry.size
    return entry.batch.first_n, entry.batch.size


class Side:
    """One node's end of the channel."""

    def __init__(self, pair: Pair, party: int, setup: Setup) -> None:
        self.pair, self.party = pair, party
        self.key = RecordingKey(world.sha256(f"channel key {party}".encode()))
        self.c = Channel(setup.terms.channel_id(), setup, self.key)
        self.disk = Disk(pack_setup(setup), pack_cold(self.c), pack_hot(self.c))
        self.inbox: deque[Message] = deque()
        self.sent: list[Message] = []
        self.notes: list[Any] = []
        self.submissions: list[Submission] = []
        self.refusals: list[tuple[str, str]] = []
        self.errors: list[RemoteError] = []
        self.wants_reading = False
        self.dropped = ""
        self.stale = False
        self.die = ""  # "before" or "after" the next commit
        self.kept_from = 1  # older records are pruned
        self.pieces = 4096  # batches in one RECORDS
        self.signed = (0, 0)  # newest own and peer count under any signature since the last rollback
        self.readings = True  # whether the ledger answers this side

    # --- Steps -----------------------------------------------------------------------------

    def now(self) -> Now:
        return Now(self.pair.clock, self.pair.time, self.stale)

    def do(self, what: Callable[[Channel, Effects], None]) -> Effects:
        """One step: effects are committed, then done. A RemoteError is kept in `errors`."""
        fx = Effects()
        try:
            what(self.c, fx)
        except RemoteError as error:
            self.errors.append(error)
        self._finish(fx)
        if fx.again:
            self.advance()
        return fx

    def _finish(self, fx: Effects) -> None:
        if self.die == "before":
            raise Crash
        self.disk.commit(self.c, fx)
        assert pack_cold(self.c) == self.disk.cold, "what changed is saved"
        assert self.disk.owes_receipt or pack_hot(self.c) == self.disk.hot
        if self.die == "after":
            raise Crash
        self._check_signatures(fx)
        self.notes += fx.notes
        self.submissions += fx.submissions
        self.wants_reading |= fx.read_ledger
        self.dropped = fx.drop or self.dropped
        for message in fx.messages:
            self.send(message)
        for recall in fx.recalls:
            self.send(self.answer_recall(recall))

    def send(self, message: Message) -> None:
        self.sent.append(message)
        if isinstance(message, peer.Error):
            return  # the node's business, not the channel's
        if self.c.connected and self.pair.other(self).c.connected:
            self.pair.other(self).inbox.append(type(message).decode(message.encode()))

    def _check_signatures(self, fx: Effects) -> None:
        """Every STATE is >= all signed before; a resent batch may show an older half of mine (spec C-12)."""
        for message in fx.messages:
            if isinstance(message, peer.Pay):
                own, other = message.first_n + len(message.records) // RECORD_BYTES - 1, message.ack_n
                resent = own <= self.signed[0]
            elif isinstance(message, peer.Ack):
                own, other, resent = message.own_n, message.n, False
            elif isinstance(message, peer.Reestablish):
                halves = Half.unpack(message.mine.half0), Half.unpack(message.mine.half1)
                own, other, resent = halves[self.party].n, halves[1 - self.party].n, False
            else:
                continue
            assert resent or own >= self.signed[0]
            assert other >= self.signed[1]
            self.signed = max(own, self.signed[0]), other
            if self.c.resolved:  # D1: what is shown is on disk
                assert self.disk.last_n(1 - self.party) >= other
                assert self.disk.last_n(self.party) >= own

    def answer_recall(self, recall: RecallAnswer) -> peer.PastRecords:
        past: list[peer.PastBatch] = []
        next_n = recall.from_n
        for entry in self.disk.batches(recall.payer):
            if entry.batch.first_n == next_n >= self.kept_from and len(past) < self.pieces:
                past.append(peer.PastBatch(*entry.batch))
                next_n = entry.half.n + 1
        return peer.PastRecords(self.c.channel_id, recall.payer, tuple(past))

    def receive(self, *messages: Message) -> Effects:
        return self.do(lambda c, fx: step.receive(c, list(messages), self.now(), fx))

    def deliver(self, count: int | None = None) -> bool:
        """Give in what has arrived: all of it in one step, or `count` messages."""
        count = len(self.inbox) if count is None else min(count, len(self.inbox))
        messages = [self.inbox.popleft() for _ in range(count)]
        if messages:
            self.receive(*messages)
        return bool(messages)

    def read(self, asked: bool = True) -> None:
        self.wants_reading = self.stale = False
        reading = self.pair.reading()
        if reading is not None:
            self.do(lambda c, fx: step.ledger_reading(c, reading, self.pair.time, self.now(), fx, asked))

    def submit(self) -> bool:
        """Hand what waits to the ledger, then its reading and its answer to the channel."""
        waiting, self.submissions = self.submissions, []
        for submission in waiting:
            refused = ""
            try:
                self.pair.execute(self.key.public, submission.operation)
            except LedgerRefused as error:
                refused = error.outcome.name
                self.refusals.append((submission.operation.OP, refused))
            self.read()
            self.do(
                lambda c, fx, op=submission.operation.OP, no=bool(refused): step.answered(c, op, no, self.now(), fx)
            )
        return bool(waiting)

    def advance(self) -> Effects:
        return self.do(lambda c, fx: step.advance(c, self.now(), fx))

    def pay(self, *amounts: int, advance: bool = True, memos: list[tuple[int, bytes]] | None = None) -> list[Queued]:
        """Payments of these units, queued and (unless told) flushed."""
        records = b"".join(pack_record(amount) for amount in amounts)
        items = payments.split_payments(self.c, records, memos or [])
        step.pay(self.c, items, self.now())
        if advance:
            self.advance()
        return items

    def close(self, force: bool = False) -> None:
        self.do(lambda c, fx: closing.ask(c, force, self.now(), fx))
        self.advance()

    def withdraw(self, units: int) -> None:
        self.do(lambda c, fx: withdrawals.ask(c, units, self.now(), fx))

    def claim(self) -> None:
        self.do(lambda c, fx: withdrawals.claim(c, self.now(), fx))

    # --- Life and death --------------------------------------------------------------------

    def crash(self, disk: Disk | None = None) -> None:
        """Forget all but the disk (or wake with an older one)."""
        self.pair.cut()
        if disk is not None:
            self.disk = disk.copy()
            self.signed = (0, 0)
        self.disk.owes_receipt = False
        self.c = self.disk.load(self.c.channel_id, self.key)
        self.c.started_at = self.pair.clock
        self.submissions, self.wants_reading, self.die, self.stale = [], False, "", False
        assert pack_cold(self.c) == self.disk.cold
        assert pack_hot(self.c) == self.disk.hot

    def paid(self) -> list[Queued]:
        return [item for note in self.notes if isinstance(note, PaidNote) for item in note.items]

    def failed(self) -> list[Queued]:
        return [item for note in self.notes if isinstance(note, FailedNote) for item in note.items]

    def last(self, kind: type[Message]) -> Any:
        return next(message for message in reversed(self.sent) if isinstance(message, kind))

    def bytes(self) -> tuple[bytes, bytes]:
        """All that is durable of the channel, to compare."""
        return pack_cold(self.c), pack_hot(self.c)


class Pair:
    """Both sides, the wire and the ledger."""

    def __init__(
        self,
        flags: int = FLAG_TWO_WAY,
        deposits: tuple[int, int] = (1000, 500),
        max_batch: int = 4096,
        limits: tuple[ReceiveLimits, ReceiveLimits] = (LIMITS, LIMITS),
        window_s: int = world.WINDOW_S,
    ) -> None:
        self.clock, self.time = 1000.0, world.START
        self.books = world.World().with_money(10**12, 10**12).books
        self.terms = copy(world.terms(0, flags, window_s))._replace(max_batch=max_batch)
        self.deposits = deposits
        setups = [
            Setup(self.terms, party, bytes([7 + party]) * 32, 0, *SALTS, deposits[0], *limits[:: 1 - 2 * party])
            for party in (0, 1)
        ]
        self.a, self.b = Side(self, 0, setups[0]), Side(self, 1, setups[1])

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.a, self.b

    def other(self, side: Side) -> Side:
        return self.b if side is self.a else self.a

    # --- The ledger ------------------------------------------------------------------------

    def book(self) -> Book:
        return Book(self.books, world.RULES, world.LEDGER.public, self.time)

    def fund(self) -> None:
        """The channel on the ledger, with both deposits."""
        self.book().open_channel(world.ALICE.public, world.opening(self.terms, self.deposits[0]))
        if self.deposits[1]:
            self.topup(1, self.deposits[1])

    def topup(self, party: int, units: int) -> None:
        channel_id = self.terms.channel_id()
        self.book().topup((world.ALICE, world.BOB)[party].public, ops.Topup(channel_id, party, units))

    def execute(self, key: bytes, operation: ops.Operation) -> None:
        book = self.book()
        match operation:
            case ops.Withdraw():
                book.withdraw(operation)
            case ops.Claim():
                book.claim(key, operation)
            case ops.CloseFinal():
                book.close_final(operation)
            case ops.Close():
                book.close(key, operation)
            case ops.Respond():
                book.respond(operation)
            case _:
                raise AssertionError(operation)

    def row(self) -> Any:
        return self.books.channel(self.terms.channel_id())

    def reading(self) -> Reading | None:
        r = self.row()
        if r is None:
            return None
        return Reading(
            r.status, (r.deposit0, r.deposit1), (r.withdrawn0, r.withdrawn1), (r.half0, r.half1), r.deadline,
            (r.out0, r.out1), r.number,
        )  # fmt: skip

    def pass_time(self, seconds: float, read: bool = True) -> None:
        """The clocks go on; the ledger settles what is due; both read it."""
        self.clock += seconds
        self.time += int(seconds)
        self.book().settle_due()
        for side in self.sides:
            if read and side.readings:
                side.read()
            side.advance()

    # --- The wire --------------------------------------------------------------------------

    def connect(self) -> None:
        self.cut()
        for side in self.sides:
            side.c.connected = True  # so that neither's first message is lost
        for side in self.sides:
            side.do(lambda c, fx, s=side: step.connected(c, s.now(), fx))

    def cut(self) -> None:
        """The connection is gone and what was under way with it."""
        for side in self.sides:
            side.inbox.clear()
            step.disconnected(side.c)

    def run(self, ledger: bool = True) -> None:
        """Everything that can happen without time passing, message by message."""
        moved = True
        while moved:
            moved = False
            for side in self.sides:
                moved |= side.deliver(1)
                if ledger and side.readings and side.wants_reading:
                    side.read()
                    moved |= not side.wants_reading
                if ledger:
                    moved |= side.submit()
        for side in self.sides:
            side.disk.save_receipt(side.c)

    def open(self) -> Pair:
        """An open channel, both sides live."""
        self.fund()
        self.connect()
        self.run()
        for side in self.sides:
            assert side.c.phase == Phase.OPEN
            assert side.c.live
        return self

    def reconnect(self) -> None:
        self.connect()
        self.run()

    # --- What must hold --------------------------------------------------------------------

    def faults(self) -> list[str]:
        return [str(error) for side in self.sides for error in side.errors]

    def check_agree(self) -> None:
        """Quiet: both hold the same halves, co-signed, and balances add up to the pot."""
        a, b = self.a.c, self.b.c
        assert not self.faults()
        assert (a.own, a.peer) == (b.peer, b.own)
        assert a.acked == a.own
        assert b.acked == b.own
        row = self.row()
        assert a.own_balance() + b.own_balance() == row.pot
        assert a.own_balance() == b.peer_balance() >= 0
        assert b.own_balance() == a.peer_balance() >= 0

    def settle_alone(self) -> None:
        """Let a dispute run out."""
        self.pass_time(1)
        self.run()
        self.pass_time(self.terms.window_s + 1)


def forge(side: Side, *amounts: int, first_n: int | None = None, ack_n: int | None = None, **changes: object) -> Pay:
    """A PAY that `side`'s own channel would not send, soundly signed; `changes` replace fields after signing."""
    c = side.c
    records = b"".join(pack_record(amount) if amount else bytes(24) for amount in amounts)
    batch = Batch(c.own.n + 1 if first_n is None else first_n, records, b"")
    half = c.next_half(c.side, c.own, batch, sum(amounts))
    acked = c.peer if ack_n is None else c.peer._replace(n=ack_n)
    pay = Pay(
        c.channel_id,
        batch.first_n,
        records,
        b"",
        acked.n,
        SigningKey.sign(side.key, state_bytes(c.channel_id, *c.in_order(half, acked))),
    )
    return replace(pay, **changes)  # type: ignore[arg-type]
