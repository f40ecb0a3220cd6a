"""What a ledger keeps, and the storage interface that keeps it. Spec L-1, L-8, L-12 to L-15.

The journal is the truth: every change is one entry of one or more lines, and the lines of an entry
sum to zero. Assets, balances and channels are an index of it, which `audit` rebuilds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple, Protocol

from channelpay.limits import MAX_WINDOW_S, MIN_WINDOW_S
from channelpay.messages.ledger import SETTLED
from channelpay.statements import ZERO_HALF, Half

NOBODY: Final = bytes(32)
"""The counterpart of a line that has none."""


class Kind(StrEnum):
    """Why an entry was written."""

    ASSET = "asset"
    ISSUE = "issue"
    REDEEM = "redeem"
    TRANSFER = "transfer"
    OPEN = "open"
    TOPUP = "topup"
    WITHDRAW = "withdraw"
    CLAIM = "claim"
    CLOSE = "close"
    RESPOND = "respond"
    EQUIVOCATION = "equivocation"
    EXTEND = "extend"
    CLOSE_FINAL = "close_final"
    SETTLE = "settle"


class Holder(IntEnum):
    """What a line's `owner` is."""

    ACCOUNT = 0  # a key that owns money
    CHANNEL = 1  # a channel's pot
    ISSUED = 2  # the source of an asset's money: below zero by what was issued


class Line(NamedTuple):
    """One line of the journal: `owner` gained `delta` units (or lost them) and then held `after`.

    `number` counts lines over the whole ledger from 1 on; `entry` is the number of the entry's first
    line. `counterpart` is the other side as an account statement shows it. `body` is the packed
    ChannelView or AssetView after the change, empty for accounts. `watchers` are the accounts that
    the line concerns; it is not given back when a line is read.
    """

    number: int
    entry: int
    time: int
    kind: Kind
    holder: Holder
    owner: bytes
    asset_id: bytes
    delta: int
    after: int
    counterpart: bytes = NOBODY
    body: bytes = b""
    watchers: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class AssetRow:
    """A registered asset and how many units of it exist."""

    asset_id: bytes
    code: str
    scale: int
    issuer: bytes
    issued: int = 0

    @property
    def owner(self) -> bytes:
        """The asset as the 32-byte owner of a line: its id and 16 zero bytes."""
        return self.asset_id + bytes(16)


class ChannelRow(NamedTuple):
    """A channel; `number` is its newest line in the journal, `opened` its first.

    Halves are the join of all states that the ledger was shown. `deadline` is 0 until a dispute
    begins, `out0` and `out1` are 0 until the channel is settled.
    """

    channel_id: bytes
    asset_id: bytes
    key0: bytes
    key1: bytes
    account0: bytes
    account1: bytes
    open_nonce: bytes
    flags: int
    window_s: int
    max_batch: int
    status: int
    deposit0: int
    deposit1: int
    opened: int
    number: int
    withdrawn0: int = 0
    withdrawn1: int = 0
    half0: Half = ZERO_HALF
    half1: Half = ZERO_HALF
    deadline: int = 0
    out0: int = 0
    out1: int = 0

    @property
    def pot(self) -> int:
        """Units that the channel holds now."""
        if self.status == SETTLED:
            return 0
        return self.deposit0 + self.deposit1 - self.withdrawn0 - self.withdrawn1


class StoredOutcome(NamedTuple):
    """The answer to an executed request, kept until `valid_until` has passed (spec L-8).

    Found by key and request id, never by a signature (spec S-4).
    """

    request_hash: bytes
    valid_until: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator of a ledger has decided: its own key and the bounds of channels."""

    operator: bytes
    min_window_s: int = MIN_WINDOW_S
    max_window_s: int = MAX_WINDOW_S
    min_deposit: int = 1


class ReadBooks(Protocol):
    """Books that can be read; one consistent view for as long as one request reads it."""

    def clock(self) -> int:
        """The last time the ledger has used, seconds since 1970; it never goes back."""

    def number(self) -> int:
        """The newest line's number; 0 for an empty journal."""

    def asset(self, asset_id: bytes) -> AssetRow | None:
        """The asset with this id."""

    def assets(self) -> Sequence[AssetRow]:
        """All assets in the order of their registration."""

    def balance(self, account: bytes, asset_id: bytes) -> int:
        """Units that the account holds; 0 for an account that nobody has named."""

    def holdings(self, account: bytes, number: int | None = None) -> Sequence[tuple[bytes, int]]:
        """(asset id, units) of all assets the account ever held: now, or right after line `number`."""

    def channel(self, channel_id: bytes) -> ChannelRow | None:
        """The channel with this id."""

    def channels(self, account: bytes, after: int, limit: int) -> Sequence[ChannelRow]:
        """Channels of the account with `opened` > after, in that order."""

    def disputes(self, until: int | None, limit: int | None) -> Sequence[ChannelRow]:
        """Channels that are closing, by deadline: those with deadline <= until, or all; at most `limit`, or all."""

    def lines(self, account: bytes, after: int, limit: int, *, own: bool) -> Sequence[Line]:
        """Lines after number `after` that concern the account, or only its `own` money."""

    def outcome(self, key: bytes, request_id: bytes) -> StoredOutcome | None:
        """The stored answer to a request."""

    def whole_journal(self) -> Iterator[Line]:
        """Every line in order."""

    def all_balances(self) -> Iterator[tuple[bytes, bytes, int]]:
        """(account, asset id, units) of every balance row."""

    def all_channels(self) -> Iterator[ChannelRow]:
        """Every channel."""


class Books(ReadBooks, Protocol):
    """Books that can be written, inside one transaction that its owner commits."""

    def set_clock(self, now: int) -> None:
        """Store the time used; never less than before."""

    def put_asset(self, row: AssetRow) -> None:
        """Insert or replace an asset."""

    def put_balance(self, account: bytes, asset_id: bytes, units: int) -> None:
        """Insert or replace a balance."""

    def add_channel(self, row: ChannelRow) -> None:
        """Insert a channel."""

    def replace_channel(self, old: ChannelRow, new: ChannelRow) -> None:
        """Replace a channel that must still have the status and number of `old` (spec L-13)."""

    def append(self, lines: Iterable[Line]) -> None:
        """Write one entry: numbers follow `number()`, deltas sum to zero."""

    def put_outcome(self, key: bytes, request_id: bytes, outcome: StoredOutcome) -> None:
        """Store the answer to an executed request."""

    def drop_outcomes(self, now: int) -> None:
        """Forget answers whose valid_until is before `now`."""

    def savepoint(self) -> AbstractContextManager[None]:
        """What was written inside is undone when an exception leaves the block."""
