"""The proof that the books balance: everything rebuilt from the journal and compared. Spec L-50.

The audit trusts the lines only as far as they agree with each other: each entry sums to zero, each
`after` follows from the one before, each channel moves by legal steps and its money matches the
terms, and a settlement pays what the joined halves say. Then it compares the index with the result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from channelpay.ledger.books import ChannelRow, Holder, Kind, Line, ReadBooks
from channelpay.ledger.disputes import clamp
from channelpay.ledger.views import row_of
from channelpay.messages.ledger import CLOSING, OPEN, SETTLED, ChannelView
from channelpay.statements import FLAG_ONE_WAY

_STATUS: Final = {OPEN: "open", CLOSING: "closing", SETTLED: "settled"}
_MOVES: Final[dict[Kind, frozenset[tuple[int, int]]]] = {
    Kind.TOPUP: frozenset({(OPEN, OPEN), (CLOSING, CLOSING)}),
    Kind.WITHDRAW: frozenset({(OPEN, OPEN), (CLOSING, CLOSING)}),
    Kind.CLAIM: frozenset({(OPEN, OPEN), (CLOSING, CLOSING)}),
    Kind.EQUIVOCATION: frozenset({(OPEN, OPEN), (CLOSING, CLOSING)}),
    Kind.CLOSE: frozenset({(OPEN, CLOSING)}),
    Kind.RESPOND: frozenset({(CLOSING, CLOSING)}),
    Kind.EXTEND: frozenset({(CLOSING, CLOSING)}),
    Kind.CLOSE_FINAL: frozenset({(OPEN, SETTLED), (CLOSING, SETTLED)}),
    Kind.SETTLE: frozenset({(OPEN, SETTLED), (CLOSING, SETTLED)}),
}
"""Which steps of a channel's status each kind of entry may be."""

_FREE: Final[dict[Kind, frozenset[str]]] = {
    Kind.TOPUP: frozenset({"deposit0", "deposit1"}),
    Kind.WITHDRAW: frozenset({"withdrawn0", "withdrawn1"}),
    Kind.CLAIM: frozenset({"withdrawn1", "half0", "half1"}),
    Kind.EQUIVOCATION: frozenset({"half0", "half1"}),
    Kind.CLOSE: frozenset({"status", "half0", "half1", "deadline"}),
    Kind.RESPOND: frozenset({"half0", "half1"}),
    Kind.EXTEND: frozenset({"deadline"}),
    Kind.CLOSE_FINAL: frozenset({"status", "half0", "half1", "out0", "out1"}),
    Kind.SETTLE: frozenset({"status", "half0", "half1", "out0", "out1"}),
}
"""What each kind of entry may change in a channel."""


@dataclass(frozen=True, slots=True)
class AssetTotals:
    """Where the units of one asset are: accounts + channels = issued, or the books do not balance."""

    asset_id: bytes
    code: str
    issued: int
    accounts: int
    channels: int


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found: every discrepancy as a sentence, and the totals of the journal."""

    discrepancies: tuple[str, ...]
    assets: tuple[AssetTotals, ...]
    lines: int
    entries: int
    open_channels: int
    closing_channels: int
    settled_channels: int

    @property
    def balanced(self) -> bool:
        """Whether nothing was found."""
        return not self.discrepancies


@dataclass(slots=True)
class _Replay:
    """The books as the journal says they are."""

    held: defaultdict[tuple[Holder, bytes, bytes], int] = field(default_factory=lambda: defaultdict(int))
    channels: dict[bytes, ChannelRow] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    number: int = 0
    time: int = 0
    entry: int = 0
    entries: int = 0
    open_sum: int = 0

    def take(self, line: Line) -> None:
        """Check one line against all before it."""
        self._check_sequence(line)
        self.open_sum += line.delta
        place = (line.holder, line.owner, line.asset_id)
        self.held[place] += line.delta
        if self.held[place] != line.after:
            self._report(line, f"leaves {self.held[place]}, not {line.after} as it says")
        if (line.holder is Holder.ISSUED and line.after > 0) or (line.holder is not Holder.ISSUED and line.after < 0):
            self._report(line, f"leaves {line.after}")
        if line.holder is Holder.CHANNEL:
            self._take_channel(line)

    def close_entry(self) -> None:
        """The lines of one entry sum to zero."""
        if self.open_sum:
            self.found.append(f"entry {self.entry} does not sum to zero but to {self.open_sum}")
        self.open_sum = 0

    def _check_sequence(self, line: Line) -> None:
        if line.number != self.number + 1:
            self._report(line, f"follows number {self.number}")
        if line.time < self.time:
            self._report(line, f"is earlier ({line.time}) than the line before ({self.time})")
        if line.entry != self.entry:
            self.close_entry()
            self.entry, self.entries = line.entry, self.entries + 1
            if line.entry != line.number:
                self._report(line, f"belongs to entry {line.entry}, which does not begin here")
        self.number, self.time = line.number, line.time

    def _take_channel(self, line: Line) -> None:
        new = row_of(ChannelView.decode(line.body), line.number)
        old = self.channels.get(line.owner)
        self.channels[line.owner] = new
        if new.pot != line.after:
            self._report(line, f"the channel's terms leave a pot of {new.pot}, its money {line.after}")
        if old is None:
            if line.kind is not Kind.OPEN or new.status != OPEN or new.opened != line.number:
                self._report(line, "is the first of its channel and opens it not")
            return
        if (old.status, new.status) not in _MOVES.get(line.kind, frozenset()):
            self._report(line, f"moves the channel from {_STATUS[old.status]} to {_STATUS[new.status]}")
        if (old.status, new.status) == (OPEN, SETTLED) and line.kind is Kind.SETTLE and new.flags != FLAG_ONE_WAY:
            self._report(line, "settles a two_way channel without a dispute")
        self._check_changes(line, old, new)
        if new.status == SETTLED:
            self._check_payout(line, new)

    def _check_changes(self, line: Line, old: ChannelRow, new: ChannelRow) -> None:
        free = _FREE.get(line.kind, frozenset()) | {"number"}
        kept = new._replace(**{name: getattr(old, name) for name in free})
        if kept != old:
            self._report(line, "changes what its kind may not change")
        for name in ("deposit0", "deposit1", "withdrawn0", "withdrawn1", "deadline"):
            if getattr(new, name) < getattr(old, name):
                self._report(line, f"lowers {name}")
        for name in ("half0", "half1"):
            before, after = getattr(old, name), getattr(new, name)
            if after.n < before.n or after.total < before.total:
                self._report(line, f"lowers {name}")

    def _check_payout(self, line: Line, new: ChannelRow) -> None:
        pot = new.deposit0 + new.deposit1 - new.withdrawn0 - new.withdrawn1
        out1 = clamp(new.deposit1 - new.withdrawn1 - new.half1.total + new.half0.total, 0, pot)
        if (new.out0, new.out1) != (pot - out1, out1):
            self._report(line, f"pays {new.out0} and {new.out1}; the halves say {pot - out1} and {out1}")

    def _report(self, line: Line, what: str) -> None:
        self.found.append(f"line {line.number} ({line.kind} of {line.owner.hex()[:16]}) {what}")


def audit(books: ReadBooks) -> Audit:
    """Rebuild everything from the journal and compare it with the index (spec L-50).

    Costs one pass over the journal, and memory for one row of each account and channel.
    """
    replay = _Replay()
    for line in books.whole_journal():
        replay.take(line)
    replay.close_entry()
    if books.clock() < replay.time:
        replay.found.append(f"the clock {books.clock()} is behind the journal's last time {replay.time}")
    _compare(replay, "balance", _account_balances(replay), {(a, i): u for a, i, u in books.all_balances()}, _pair)
    _compare(replay, "channel", replay.channels, {row.channel_id: row for row in books.all_channels()}, bytes.hex)
    issued = {owner[:16]: -units for (holder, owner, _), units in replay.held.items() if holder is Holder.ISSUED}
    _compare(replay, "asset", issued, {row.asset_id: row.issued for row in books.assets()}, bytes.hex)
    totals = tuple(_totals(replay, row.asset_id, row.code) for row in books.assets())
    for total in totals:
        if total.accounts + total.channels != total.issued:
            replay.found.append(
                f"{total.code}: accounts {total.accounts} + channels {total.channels} != issued {total.issued}"
            )
    status = [row.status for row in replay.channels.values()]
    return Audit(
        tuple(replay.found), totals, replay.number, replay.entries,
        status.count(OPEN), status.count(CLOSING), status.count(SETTLED),
    )  # fmt: skip


def _account_balances(replay: _Replay) -> dict[tuple[bytes, bytes], int]:
    return {(owner, asset): units for (holder, owner, asset), units in replay.held.items() if holder is Holder.ACCOUNT}


def _pair(key: tuple[bytes, bytes]) -> str:
    return f"{key[0].hex()} in {key[1].hex()}"


def _compare(replay: _Replay, what: str, journal: dict, index: dict, name: Callable[..., str]) -> None:  # type: ignore[type-arg]
    for key in sorted(journal.keys() | index.keys()):
        if journal.get(key) != index.get(key):
            replay.found.append(f"{what} {name(key)}: the journal says {journal.get(key)}, the index {index.get(key)}")


def _totals(replay: _Replay, asset_id: bytes, code: str) -> AssetTotals:
    sums: defaultdict[Holder, int] = defaultdict(int)
    for (holder, _, asset), units in replay.held.items():
        if asset == asset_id:
            sums[holder] += units
    return AssetTotals(asset_id, code, -sums[Holder.ISSUED], sums[Holder.ACCOUNT], sums[Holder.CHANNEL])
