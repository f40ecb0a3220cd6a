"""What owners asked for and what they were told: the auditor's own account, kept outside all daemons."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import msgpack

NO_ID = bytes(16)

UNEXCUSED = "nobody"
"""In place of the parties concerned, where nothing that a party has done or met excuses a finding."""


class State(Enum):
    """What the owner of a payer knows of one payment."""

    NEW = "new"
    ASKED = "asked"  # no answer yet
    UNKNOWN = "unknown"  # the daemon ended before it answered, or said that it does not know
    PAID = "paid"
    REFUSED = "refused"  # told that it is not paid


@dataclass(slots=True, eq=False)
class Payment:
    """One payment that an owner wants made."""

    payer: str
    channel_id: bytes
    payment_id: bytes
    amount: int
    memo: bytes = b""
    state: State = State.NEW
    n: int = 0  # its number, once told
    asked: int = 0  # how often
    may_be_paid: bool = False  # some answer, or none, left it open whether it was sent
    loose: int = 0  # askings of which nobody knows what came of them
    denied: bool = False  # told that it is not paid, when no other asking was loose
    failed_in_queue: bool = False  # it had been taken, and was refused later because the channel closes

    @property
    def open(self) -> bool:
        """Whether its owner does not know what became of it."""
        return self.state in (State.ASKED, State.UNKNOWN)


def records_of(payments: list[Payment]) -> bytes:
    """Payments as a caller packs them."""
    return b"".join(p.amount.to_bytes(8, "big") + p.payment_id for p in payments)


def memos_of(payments: list[Payment]) -> bytes:
    """Their memos as a caller packs them."""
    memos = [[index, p.memo] for index, p in enumerate(payments) if p.memo]
    return msgpack.packb(memos) if memos else b""


@dataclass(slots=True)
class Wish:
    """Money that an owner moved between account and channel: units that surely moved, units that may have."""

    surely: int = 0
    perhaps: int = 0


@dataclass(slots=True)
class ChannelAccount:
    """One channel as its owners see it."""

    channel_id: bytes
    sides: tuple[str, str]  # names of party 0 and party 1
    flags: int
    window_s: int
    opened: tuple[int, int]  # what party 0 wanted to put in: asked (least, most)
    ends_early: bool = False  # it is closed while all others pay
    proved: list[int] = field(default_factory=lambda: [0, 0])
    """By party: units that its peer has signed as paid in a REESTABLISH that arrived, if their records did not."""
    payments: list[Payment] = field(default_factory=list)
    topups: tuple[Wish, Wish] = field(default_factory=lambda: (Wish(), Wish()))
    withdrawals: tuple[Wish, Wish] = field(default_factory=lambda: (Wish(), Wish()))


@dataclass(frozen=True, slots=True)
class Seen:
    """A row of a node's journal of received payments, as an application has read it."""

    channel_id: bytes
    records: bytes  # empty where only their number and units are known
    memos: bytes = b""
    repeated: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Positions that it takes."""
        return len(self.records) // 24 or 1


@dataclass(slots=True)
class Account:
    """Everything that happened in a world, for the auditor."""

    channels: dict[bytes, ChannelAccount] = field(default_factory=dict)
    findings: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    """(counter, what, the parties concerned) of what was seen on the way."""
    seen: dict[str, dict[int, Seen]] = field(default_factory=dict)
    """By node: journal position -> row as the application read it."""

    def find(self, counter: str, what: str, *names: str) -> None:
        """Something that must not be, seen while it happened."""
        self.findings.append((counter, f"{', '.join(names)}: {what}" if names else what, names))
