"""What one transaction of a ledger changes: gathered in memory, written in one go. Spec L-9, L-12, L-13.

Requests that share a commit share rows: an account that pays ten times is read once and written once,
and each table is written by one statement, in the order of its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from channelpay.errors import StoreFailed
from channelpay.ledger.books import AssetRow, ChannelRow, Holder, Line, StoredOutcome
from channelpay.messages.ledger import CLOSING, SETTLED
from channelpay.store.ledger_books import (
    ASSET_COLUMNS,
    CHANNEL_COLUMNS,
    LINE_COLUMNS,
    OUTCOME_COLUMNS,
    SqlReadBooks,
    channel_values,
    marks,
)
from channelpay.store.rows import checksum
from channelpay.store.sqlite import Database, Row

_ROWS_KEPT: Final = 20_000
"""Accounts and channels remembered from one transaction to the next: about 20 MiB."""

_EXPIRED_AT_ONCE: Final = 10_000
"""Outcomes dropped in one transaction at most: after a long rest there may be an hour's of them."""

_INSERT_LINE: Final = f"INSERT INTO line ({LINE_COLUMNS}, sum) VALUES ({marks(LINE_COLUMNS)}, ?)"
_INSERT_CONCERN: Final = "INSERT INTO concern (account, number, own) VALUES (?, ?, ?)"
_INSERT_CHANNEL: Final = f"INSERT INTO channel ({CHANNEL_COLUMNS}, sum) VALUES ({marks(CHANNEL_COLUMNS)}, ?)"
_UPDATE_CHANNEL: Final = (
    "UPDATE channel SET status = ?, deposit0 = ?, deposit1 = ?, number = ?, withdrawn0 = ?, withdrawn1 = ?,"
    " half0 = ?, half1 = ?, deadline = ?, out0 = ?, out1 = ?, sum = ?"
    " WHERE channel_id = ? AND status = ? AND number = ?"
)
_PUT_BALANCE: Final = (
    "INSERT INTO balance (account, asset_id, units, sum) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (account, asset_id) DO UPDATE SET units = excluded.units, sum = excluded.sum"
)
_PUT_ASSET: Final = (
    f"INSERT INTO asset ({ASSET_COLUMNS}, sum) VALUES ({marks(ASSET_COLUMNS)}, ?)"
    " ON CONFLICT (asset_id) DO UPDATE SET issued = excluded.issued, sum = excluded.sum"
)
_INSERT_OUTCOME: Final = f"INSERT INTO outcome ({OUTCOME_COLUMNS}, sum) VALUES ({marks(OUTCOME_COLUMNS)}, ?)"
_DROP_OUTCOMES: Final = (
    "DELETE FROM outcome WHERE ordinal IN"
    " (SELECT ordinal FROM outcome WHERE valid_until < ? ORDER BY valid_until LIMIT ?)"
)

_ABSENT: Final = object()


class BatchBooks(SqlReadBooks):
    """`ledger.books.Books` on the one connection that writes. Changes show here at once.

    They reach the file's tables by `flush`, and the disk when `transaction`, which `begin` enters, is left; whoever
    leaves it then calls `committed` or `forget`. As nobody else writes the file, what was read stays true.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._ledger_id = self.ledger_id()
        self.touched: set[bytes] = set()
        """Accounts that lines of this transaction concern."""
        self.transaction = ExitStack()
        """Leaving it commits, or by an exception undoes, what has begun."""
        self._begun = False
        self._undo: list[tuple[dict[Any, Any], Any, Any]] | None = None
        self.forget()

    def begin(self) -> None:
        """Begin a transaction unless one has begun. Everything else happens in it."""
        if not self._begun:
            self.transaction.enter_context(self._db.transaction())
            self._begun = True

    def committed(self) -> None:
        """The transaction is on disk: be ready for the next one."""
        self.touched.clear()
        self._begun = False
        if len(self._held) + len(self._found) > _ROWS_KEPT:
            self._held.clear()
            self._found.clear()

    def forget(self) -> None:
        """The transaction was undone: know nothing but the file."""
        self.touched.clear()
        self._begun = False
        self._ledger: dict[str, int] = {}  # clock and number, once they were read or set
        self._assets: dict[bytes, AssetRow] = {}
        self._held: dict[bytes, dict[bytes, int]] = {}  # of every account that was read, all its holdings
        self._found: dict[bytes, ChannelRow | None] = {}  # channels as they stand in the file
        self._forget_changes()

    def _forget_changes(self) -> None:
        self._changed_assets: dict[bytes, AssetRow] = {}
        self._changed_units: dict[tuple[bytes, bytes], int] = {}
        self._changed_channels: dict[bytes, ChannelRow] = {}
        self._lines: dict[int, Line] = {}
        self._outcomes: dict[tuple[bytes, bytes], StoredOutcome] = {}
        self._expired: int | None = None

    # --- Reading ---------------------------------------------------------------------------

    def clock(self) -> int:
        if "clock" not in self._ledger:
            self._ledger["clock"] = super().clock()
        return self._ledger["clock"]

    def number(self) -> int:
        if "number" not in self._ledger:
            self._ledger["number"] = super().number()
        return self._ledger["number"]

    def asset(self, asset_id: bytes) -> AssetRow | None:
        row = self._assets.get(asset_id)
        if row is None and (row := super().asset(asset_id)) is not None:
            self._assets[asset_id] = row
        return row

    def balance(self, account: bytes, asset_id: bytes) -> int:
        return self._holdings_of(account).get(asset_id, 0)

    def holdings(self, account: bytes, number: int | None = None) -> Sequence[tuple[bytes, int]]:
        if number is None:
            return sorted(self._holdings_of(account).items())
        self.flush()
        return super().holdings(account, number)

    def _holdings_of(self, account: bytes) -> dict[bytes, int]:
        held = self._held.get(account)
        if held is None:
            held = self._held[account] = dict(super().holdings(account))
        return held

    def channel(self, channel_id: bytes) -> ChannelRow | None:
        row = self._changed_channels.get(channel_id)
        return row if row is not None else self._stored_channel(channel_id)

    def _stored_channel(self, channel_id: bytes) -> ChannelRow | None:
        if channel_id not in self._found:
            self._found[channel_id] = super().channel(channel_id)
        return self._found[channel_id]

    def disputes(self, until: int | None, limit: int | None) -> Sequence[ChannelRow]:
        changed = self._changed_channels
        stored = super().disputes(until, None if limit is None else limit + len(changed))
        rows = {row.channel_id: row for row in stored} | changed
        found = [row for row in rows.values() if row.status == CLOSING and (until is None or row.deadline <= until)]
        return sorted(found, key=lambda row: (row.deadline, row.channel_id))[:limit]

    def outcome(self, key: bytes, request_id: bytes) -> StoredOutcome | None:
        return self._outcomes.get((key, request_id)) or super().outcome(key, request_id)

    # What no operation needs is read from the tables.

    def assets(self) -> Sequence[AssetRow]:
        self.flush()
        return super().assets()

    def channels(self, account: bytes, after: int, limit: int) -> Sequence[ChannelRow]:
        self.flush()
        return super().channels(account, after, limit)

    def lines(self, account: bytes, after: int, limit: int, *, own: bool) -> Sequence[Line]:
        self.flush()
        return super().lines(account, after, limit, own=own)

    def whole_journal(self) -> Iterator[Line]:
        self.flush()
        return super().whole_journal()

    def all_balances(self) -> Iterator[tuple[bytes, bytes, int]]:
        self.flush()
        return super().all_balances()

    def all_channels(self) -> Iterator[ChannelRow]:
        self.flush()
        return super().all_channels()

    # --- Changing --------------------------------------------------------------------------

    def set_clock(self, now: int) -> None:
        self._set(self._ledger, "clock", now)

    def put_asset(self, row: AssetRow) -> None:
        self._set(self._assets, row.asset_id, row)
        self._set(self._changed_assets, row.asset_id, row)

    def put_balance(self, account: bytes, asset_id: bytes, units: int) -> None:
        self._set(self._holdings_of(account), asset_id, units)
        self._set(self._changed_units, (account, asset_id), units)

    def add_channel(self, row: ChannelRow) -> None:
        self._found[row.channel_id] = None
        self._set(self._changed_channels, row.channel_id, row)

    def replace_channel(self, old: ChannelRow, new: ChannelRow) -> None:
        row = self.channel(old.channel_id)
        if row is None or row.status == SETTLED or (row.status, row.number) != (old.status, old.number):  # spec L-13
            raise StoreFailed(f"{self._db.path}: channel {old.channel_id.hex()} is not as it was read")
        self._set(self._changed_channels, new.channel_id, new)

    def append(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._set(self._lines, line.number, line)
            self._set(self._ledger, "number", line.number)

    def put_outcome(self, key: bytes, request_id: bytes, outcome: StoredOutcome) -> None:
        self._set(self._outcomes, (key, request_id), outcome)

    def drop_outcomes(self, now: int) -> None:
        self._expired = now

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if self._undo is not None:
            self._undo.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What was changed inside is undone when an exception leaves the block; they do not nest."""
        undo = self._undo = []
        try:
            yield
        except BaseException:
            for table, key, before in reversed(undo):
                if before is _ABSENT:
                    del table[key]
                else:
                    table[key] = before
            raise
        finally:
            self._undo = None

    # --- Writing ---------------------------------------------------------------------------

    def flush(self) -> None:
        """Write all that has changed into the transaction; the schema checks it."""
        if self._undo:
            raise AssertionError("an operation reads what only tables can tell, in the middle of its changes")
        self._db.run_many(_PUT_ASSET, [_summed(self._asset_values(row)) for row in self._changed_assets.values()])
        self._write_channels()  # spec L-13: status first, money second
        self._db.run_many(_PUT_BALANCE, [_summed((*at, units)) for at, units in sorted(self._changed_units.items())])
        self._write_journal()
        self._write_outcomes()
        own = (self.clock(), self.number())
        self._db.run("UPDATE ledger SET clock = ?, number = ?, sum = ?", (*own, checksum(self._ledger_id, *own)))
        self._forget_changes()

    @staticmethod
    def _asset_values(row: AssetRow) -> Row:
        return row.asset_id, row.code, row.scale, row.issuer, row.issued

    def _write_channels(self) -> None:
        for channel_id, new in self._changed_channels.items():
            old = self._stored_channel(channel_id)
            if old is None:
                self._db.run(_INSERT_CHANNEL, _summed(channel_values(new)))
            elif self._db.run(_UPDATE_CHANNEL, (*_changing(new), channel_id, old.status, old.number)) != 1:
                raise StoreFailed(f"{self._db.path}: channel {channel_id.hex()} is not as it was read")
            self._found[channel_id] = new

    def _write_journal(self) -> None:
        lines = self._lines.values()
        self._db.run_many(_INSERT_LINE, [_summed(_line_values(line)) for line in lines])
        concerns = sorted(
            (account, line.number, int(line.holder is Holder.ACCOUNT)) for line in lines for account in line.watchers
        )
        self._db.run_many(_INSERT_CONCERN, concerns)
        self.touched.update(account for account, _, _ in concerns)

    def _write_outcomes(self) -> None:
        if self._expired is not None:
            self._db.run(_DROP_OUTCOMES, (self._expired, _EXPIRED_AT_ONCE))
        lines = {line.body: line.number for line in self._lines.values() if line.body}
        self._db.run_many(
            _INSERT_OUTCOME,
            [_summed((*at, *_outcome_values(it, lines.get(it.body)))) for at, it in self._outcomes.items()],
        )


def _changing(row: ChannelRow) -> Row:
    """What of a channel may ever change, and its checksum."""
    return (
        row.status, row.deposit0, row.deposit1, row.number, row.withdrawn0, row.withdrawn1,
        row.half0.pack(), row.half1.pack(), row.deadline, row.out0, row.out1, checksum(*channel_values(row)),
    )  # fmt: skip


def _line_values(line: Line) -> Row:
    return (*line[:3], str(line.kind), int(line.holder), *line[5:11])


def _summed(values: Row) -> Row:
    """The columns that a checksum covers, and the checksum."""
    return (*values, checksum(*values))


def _outcome_values(outcome: StoredOutcome, line: int | None) -> Row:
    """A channel's view stands in the journal already, so its line is enough."""
    return outcome.request_hash, outcome.valid_until, line, None if line is not None else outcome.body
