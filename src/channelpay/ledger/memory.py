"""Books in memory, for simulations and tests. Spec L-12.

They need no undo: an operation writes only after it has found no fault (spec L-11).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from channelpay.ledger.books import AssetRow, ChannelRow, Holder, Line, StoredOutcome
from channelpay.messages.ledger import CLOSING


class MemoryBooks:
    """`books.Books` in dictionaries; lost with the process."""

    def __init__(self, clock: int = 0) -> None:
        self._clock = clock
        self._assets: dict[bytes, AssetRow] = {}
        self._balances: dict[tuple[bytes, bytes], int] = {}
        self._channels: dict[bytes, ChannelRow] = {}
        self._journal: list[Line] = []
        self._concerning: defaultdict[bytes, list[int]] = defaultdict(list)
        self._outcomes: dict[tuple[bytes, bytes], StoredOutcome] = {}

    def clock(self) -> int:
        return self._clock

    def number(self) -> int:
        return len(self._journal)

    def asset(self, asset_id: bytes) -> AssetRow | None:
        return self._assets.get(asset_id)

    def assets(self) -> Sequence[AssetRow]:
        return list(self._assets.values())

    def balance(self, account: bytes, asset_id: bytes) -> int:
        return self._balances.get((account, asset_id), 0)

    def holdings(self, account: bytes, number: int | None = None) -> Sequence[tuple[bytes, int]]:
        if number is None:
            held = {asset_id: units for (owner, asset_id), units in self._balances.items() if owner == account}
        else:
            lines = (self._journal[n - 1] for n in self._concerning[account] if n <= number)
            held = {line.asset_id: line.after for line in lines if line.holder is Holder.ACCOUNT}
        return sorted(held.items())

    def channel(self, channel_id: bytes) -> ChannelRow | None:
        return self._channels.get(channel_id)

    def channels(self, account: bytes, after: int, limit: int) -> Sequence[ChannelRow]:
        mine = (
            row for row in self._channels.values() if account in (row.account0, row.account1) and row.opened > after
        )
        return sorted(mine, key=lambda row: row.opened)[:limit]

    def disputes(self, until: int | None, limit: int | None) -> Sequence[ChannelRow]:
        closing = (
            row for row in self._channels.values() if row.status == CLOSING and (until is None or row.deadline <= until)
        )
        return sorted(closing, key=lambda row: (row.deadline, row.channel_id))[:limit]

    def lines(self, account: bytes, after: int, limit: int, *, own: bool) -> Sequence[Line]:
        numbers = self._concerning[account]
        lines = (self._journal[number - 1] for number in numbers[bisect_right(numbers, after) :])
        return [line for line in lines if not own or line.holder is Holder.ACCOUNT][:limit]

    def outcome(self, key: bytes, request_id: bytes) -> StoredOutcome | None:
        return self._outcomes.get((key, request_id))

    def whole_journal(self) -> Iterator[Line]:
        return iter(self._journal)

    def all_balances(self) -> Iterator[tuple[bytes, bytes, int]]:
        return ((account, asset_id, units) for (account, asset_id), units in sorted(self._balances.items()))

    def all_channels(self) -> Iterator[ChannelRow]:
        return iter(sorted(self._channels.values(), key=lambda row: row.channel_id))

    def set_clock(self, now: int) -> None:
        self._clock = now

    def put_asset(self, row: AssetRow) -> None:
        self._assets[row.asset_id] = row

    def put_balance(self, account: bytes, asset_id: bytes, units: int) -> None:
        self._balances[account, asset_id] = units

    def add_channel(self, row: ChannelRow) -> None:
        self._channels[row.channel_id] = row

    def replace_channel(self, old: ChannelRow, new: ChannelRow) -> None:
        if self._channels[old.channel_id] != old:
            raise AssertionError(f"channel {old.channel_id.hex()} is not as it was read")
        self._channels[new.channel_id] = new

    def append(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._journal.append(line._replace(watchers=()))
            for account in line.watchers:
                self._concerning[account].append(line.number)

    def put_outcome(self, key: bytes, request_id: bytes, outcome: StoredOutcome) -> None:
        self._outcomes[key, request_id] = outcome

    def drop_outcomes(self, now: int) -> None:
        self._outcomes = {key: kept for key, kept in self._outcomes.items() if kept.valid_until >= now}

    def savepoint(self) -> AbstractContextManager[None]:
        return nullcontext()
