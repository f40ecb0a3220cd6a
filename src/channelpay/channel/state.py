"""What one side of a channel knows. Spec chapter 6, sections 1 to 3.

`own` is what I have paid, `peer` what the peer has paid; sides (party 0 and 1) matter only where
bytes are made. Everything durable is in `hot` and `cold` (see `saved.py`) and in the batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from channelpay.batches import Batch
from channelpay.channel.effects import JournalBatch, Queued
from channelpay.crypto import SigningKey, verify
from channelpay.limits import DUPLICATE_WINDOW_BATCHES
from channelpay.messages.ledger import OPEN
from channelpay.messages.peer import Message
from channelpay.statements import FLAG_ONE_WAY, ZERO_HALF, ChannelTerms, Half, genesis, link, state_bytes

UNKNOWN_SALT: Final = bytes(32)
"""Salt of a channel of which only the ledger told; a salt is random, so no channel has it."""


class Phase(IntEnum):
    """Where a channel stands (spec C-3). The numbers are stored."""

    ACCEPTED = 0  # both consented; the ledger has not opened it yet
    FUNDED = 1  # the ledger opened it; my READY is out, the peer's is not in
    OPEN = 2  # payments flow
    SHUTDOWN = 3  # no new payments; what is under way is drained
    FINAL = 4  # I signed FINAL
    CLOSING = 5  # a dispute runs on the ledger, or I have decided to start one
    SETTLED = 6  # the ledger paid out; nothing more happens
    ABANDONED = 7  # it never was opened on the ledger and never will be


class ReceiveLimits(NamedTuple):
    """What one side accepts from the other: payments and units not yet acknowledged, least payment."""

    max_unacked: int
    max_unacked_value: int
    min_payment: int


class Held(NamedTuple):
    """A STATE that the peer signed, seen from here."""

    own: Half
    peer: Half
    signature: bytes


class Withdrawal(NamedTuple):
    """An agreement that `party` may have taken out `total` units in all until `expiry`.

    Signatures are b"" as long as they are not given.
    """

    party: int
    total: int
    expiry: int
    signature0: bytes
    signature1: bytes

    @property
    def agreed(self) -> bool:
        """Whether both have signed: the ledger may execute it."""
        return bool(self.signature0 and self.signature1)


class FinalAgreement(NamedTuple):
    """FINAL of drained halves; signatures are b"" as long as they are not given."""

    half0: Half
    half1: Half
    expiry: int
    signature0: bytes
    signature1: bytes

    @property
    def agreed(self) -> bool:
        """Whether both have signed: the ledger settles it at once."""
        return bool(self.signature0 and self.signature1)


class Reading(NamedTuple):
    """What this node has itself read of the channel on the ledger. Deposits and withdrawals only grow."""

    status: int = OPEN
    deposits: tuple[int, int] = (0, 0)
    withdrawn: tuple[int, int] = (0, 0)
    halves: tuple[Half, Half] = (ZERO_HALF, ZERO_HALF)
    deadline: int = 0
    outs: tuple[int, int] = (0, 0)
    number: int = 0


@dataclass(slots=True)
class SentBatch:
    """A batch of mine that the peer has not acknowledged yet."""

    batch: Batch
    half: Half
    items: list[Queued]


@dataclass(frozen=True, slots=True)
class Setup:
    """What never changes: terms, whose side I am on, who the peer is, salts and limits."""

    terms: ChannelTerms
    side: int
    peer_id: bytes
    key_index: int
    salt0: bytes
    salt1: bytes
    deposit: int  # what party 0 promised to put in
    my_limits: ReceiveLimits
    peer_limits: ReceiveLimits

    @property
    def found(self) -> bool:
        """Whether the channel was found on the ledger: no payment of it can be proved, so it is only closed (N-26)."""
        return self.salt0 == self.salt1 == UNKNOWN_SALT


@dataclass(slots=True, weakref_slot=True, eq=False)
class Channel:
    """One side of a channel. Changed only by the functions of this package."""

    channel_id: bytes
    setup: Setup
    key: SigningKey

    # Durable.
    phase: Phase = Phase.ACCEPTED
    own: Half = ZERO_HALF
    peer: Half = ZERO_HALF
    held: Held | None = None  # the newest that the peer signed and whose records I hold
    evidence: Held | None = None  # newer, without records: for the ledger only (spec C-22)
    own_known: Half | None = None  # rolled back: my records are known up to here, own is adopted
    peer_known: Half | None = None  # the same for the peer's records
    withdrawals: dict[int, Withdrawal] = field(default_factory=dict)  # by party; one open each
    final: FinalAgreement | None = None
    close_asked: bool = False  # by this side's operator
    force_asked: bool = False
    reading: Reading | None = None
    unacked: deque[SentBatch] = field(default_factory=deque)
    recent: deque[tuple[int, Half, Half]] = field(default_factory=lambda: deque(maxlen=DUPLICATE_WINDOW_BATCHES))
    """Newest batches of the peer: (first_n, half before, half after)."""

    # Lives as long as the process.
    queue: deque[Queued] = field(default_factory=deque)
    queued_count: int = 0
    queued_total: int = 0
    pending_ids: dict[bytes, Queued] = field(default_factory=dict)  # queued, or sent and not acknowledged
    boundaries: dict[int, Half] = field(default_factory=dict)  # my halves the peer may show: acked and unacked
    reestablished: bool = False  # ever, in this process (spec X-11)
    started_at: float = 0.0
    restored: bool = False  # the store is known to come from a backup (spec C-28, X-11)
    closing_since: float | None = None  # since when a cooperative close waits for its end
    submit_after: float | None = None  # a refused submission is not repeated before
    in_flight: set[str] = field(default_factory=set)  # ledger operations submitted and not answered

    # Lives as long as the connection.
    connected: bool = False
    heard: bool = False  # the peer's REESTABLISH or READY came
    reestablish_sent: bool = False
    reestablish_owed: bool = False  # the peer is past READY: only a REESTABLISH of mine tells it anything
    live: bool = False  # the peer was heard and the channel is open: payments may flow
    suspended: str = ""  # an ERROR stopped it until the next connection
    ack_due: bool = False
    shutdown_sent: bool = False
    peer_last_n: int | None = None
    held_back: list[Message] = field(default_factory=list)
    held_back_bytes: int = 0  # of records and memos among them
    recalled: dict[int, list[JournalBatch]] = field(default_factory=dict)  # by payer; not yet proved (spec C-25)
    awaiting_reading: bool = False  # held_back waits for a reading asked for after it came
    reading_is_newer: bool = False  # and that reading has come
    final_sent: bool = False
    final_wait: float | None = None  # until when party 1 leaves the submission of FINAL to party 0
    waiting_since: float | None = None  # since when the peer owes an ACK
    waiting_for_n: int = 0

    def __post_init__(self) -> None:
        self.rebuild_boundaries()

    # --- Names -----------------------------------------------------------------------------

    @property
    def side(self) -> int:
        """My party number."""
        return self.setup.side

    @property
    def peer_key(self) -> bytes:
        """The peer's channel key."""
        terms = self.setup.terms
        return terms.key1 if self.side == 0 else terms.key0

    @property
    def one_way(self) -> bool:
        """Whether party 1 never pays."""
        return self.setup.terms.flags == FLAG_ONE_WAY

    @property
    def may_pay(self) -> bool:
        """Whether my side may pay at all."""
        return not (self.one_way and self.side == 1)

    @property
    def acked(self) -> Half:
        """My newest half that the peer has signed as held."""
        return self.held.own if self.held else ZERO_HALF

    @property
    def resolved(self) -> bool:
        """Whether all records of both directions are known (spec C-23)."""
        return self.own_known is None and self.peer_known is None

    # --- Statements ------------------------------------------------------------------------

    def in_order(self, own: Half, peer: Half) -> tuple[Half, Half]:
        """(half0, half1) of an (own, peer) pair."""
        return (own, peer) if self.side == 0 else (peer, own)

    def sign_state(self, own: Half, peer: Half) -> bytes:
        """My signature over STATE of the pair."""
        return self.key.sign(state_bytes(self.channel_id, *self.in_order(own, peer)))

    def verify_state(self, own: Half, peer: Half, signature: bytes) -> None:
        """Raises BadSignature unless the peer signed STATE of the pair."""
        verify(self.peer_key, signature, state_bytes(self.channel_id, *self.in_order(own, peer)))

    def next_half(self, payer: int, before: Half, batch: Batch, total: int) -> Half:
        """The payer's half after `batch`, whose amounts sum to `total` (spec S-16)."""
        h = before.h if before.n else genesis(self.channel_id, self.setup.salt0, self.setup.salt1)
        size = batch.size
        h = link(self.channel_id, payer, h, batch.first_n, size, batch.records, batch.memos)
        return Half(before.n + size, before.total + total, h)

    # --- Balance (spec C-8) ----------------------------------------------------------------

    def withdrawn(self, party: int) -> int:
        """W of `party`: what the ledger shows, or more if an open withdrawal may still execute."""
        on_ledger = self.reading.withdrawn[party] if self.reading else 0
        hold = self.withdrawals.get(party)
        return max(on_ledger, hold.total) if hold else on_ledger

    def balance(self, party: int, half0: Half, half1: Half) -> int:
        """balance_p = D_p - W_p - T_p + T_q on a pair; below zero if the pair is not valid."""
        if self.reading is None:
            return 0
        paid, got = (half0.total, half1.total) if party == 0 else (half1.total, half0.total)
        return self.reading.deposits[party] - self.withdrawn(party) - paid + got

    def own_balance(self) -> int:
        """What I could pay now, the queue not counted."""
        return self.balance(self.side, *self.in_order(self.own, self.peer))

    def peer_balance(self) -> int:
        """What the peer could pay now."""
        return self.balance(1 - self.side, *self.in_order(self.own, self.peer))

    def spendable(self) -> int:
        """What a new payment may use: the balance less the queue; never below zero."""
        return max(0, self.own_balance() - self.queued_total)

    # --- Boundaries ------------------------------------------------------------------------

    def rebuild_boundaries(self) -> None:
        """After loading or adopting: the halves of mine that the peer may name."""
        self.boundaries = {half.n: half for half in self._boundary_halves()}

    def _boundary_halves(self) -> Iterator[Half]:
        yield self.acked
        for sent in self.unacked:
            yield sent.half
        yield self.own
