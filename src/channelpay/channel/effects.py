"""What a step on a channel asks of its caller, in the order in which it must happen. Spec C-1.

1. Make `journal` and every channel in `save` durable, in one commit.
2. Only then send `messages`, submit `requests`, answer `recalls` and tell `notes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from channelpay.batches import Batch
from channelpay.errors import LocalError
from channelpay.messages.ledger import Operation
from channelpay.messages.peer import Message
from channelpay.statements import Half


class JournalBatch(NamedTuple):
    """A batch to keep: `half` is the payer's half after it."""

    channel_id: bytes
    payer: int
    received: bool
    batch: Batch
    half: Half


class JournalGap(NamedTuple):
    """Payments whose records the peer no longer has: all that is known of them (spec C-26)."""

    channel_id: bytes
    payer: int
    received: bool
    first_n: int
    size: int
    total: int
    half: Half


class RecallAnswer(NamedTuple):
    """Read the batches of `payer` from payment `from_n` on and send them as RECORDS."""

    channel_id: bytes
    payer: int
    from_n: int


class Submission(NamedTuple):
    """A ledger request; `by_channel_key` says who signs it: the channel's key or the account's."""

    channel_id: bytes
    operation: Operation
    by_channel_key: bool


class PaidNote(NamedTuple):
    """The payee holds these queued payments, co-signed."""

    items: list[Queued]


class FailedNote(NamedTuple):
    """These queued payments were never sent and never will be."""

    items: list[Queued]
    error: LocalError


class ChangedNote(NamedTuple):
    """The channel moved: a phase, a withdrawal, a settlement. Whoever waits looks again."""

    channel_id: bytes


class OperatorNote(NamedTuple):
    """Something that a person should read."""

    channel_id: bytes
    text: str


Note = PaidNote | FailedNote | ChangedNote | OperatorNote


@dataclass(slots=True, eq=False)
class Queued:
    """Payments of one caller that wait for a flush, then for their acknowledgement.

    `records` holds `count` records, `memos` (index, bytes) pairs within them, `ids` the payment ids
    among them. `waiters` are the callers' own; `first_n` is set by the flush.
    """

    records: bytes
    count: int
    total: int
    memos: list[tuple[int, bytes]]
    ids: tuple[bytes, ...] = ()
    waiters: list[Any] = field(default_factory=list)
    first_n: int = 0


@dataclass(slots=True)
class Effects:
    """Collected by one step; see the module's docstring for the order."""

    journal: list[JournalBatch | JournalGap] = field(default_factory=list)
    save: bool = False  # the cold part of the channel changed
    save_hot: bool = False  # the halves or the peer's newest signature changed
    receipt: bool = False  # only the peer's signature for payments of mine came: it may wait for the next commit
    again: bool = False  # more could be sent than one step takes: the caller steps once more
    messages: list[Message] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    recalls: list[RecallAnswer] = field(default_factory=list)
    read_ledger: bool = False
    drop: str = ""  # end the connection: the peer let a time-out pass
    notes: list[Note] = field(default_factory=list)
