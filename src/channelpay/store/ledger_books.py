"""A ledger's books on SQLite, for reading. Spec L-1, L-12 to L-15."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from channelpay.ledger.books import AssetRow, ChannelRow, Holder, Kind, Line, StoredOutcome
from channelpay.messages.ledger import CLOSING
from channelpay.statements import Half
from channelpay.store.ledger_schema import SUMMED
from channelpay.store.rows import check
from channelpay.store.sqlite import Database, Row, damaged

CHANNEL_COLUMNS: Final = SUMMED["channel"]
LINE_COLUMNS: Final = SUMMED["line"]
ASSET_COLUMNS: Final = SUMMED["asset"]
OUTCOME_COLUMNS: Final = SUMMED["outcome"]
_CHANNEL: Final = f"{CHANNEL_COLUMNS}, sum"
_LINE: Final = ", ".join(f"line.{column}" for column in f"{LINE_COLUMNS}, sum".split(", "))
_ASSET: Final = f"{ASSET_COLUMNS}, sum"


def marks(columns: str) -> str:
    """A `?` for each column."""
    return ", ".join("?" for _ in columns.split(","))


def channel_values(row: ChannelRow) -> Row:
    """The row for a statement with CHANNEL_COLUMNS."""
    return (
        row.channel_id, row.asset_id, row.key0, row.key1, row.account0, row.account1, row.open_nonce, row.flags,
        row.window_s, row.max_batch, row.status, row.deposit0, row.deposit1, row.opened, row.number,
        row.withdrawn0, row.withdrawn1, row.half0.pack(), row.half1.pack(), row.deadline, row.out0, row.out1,
    )  # fmt: skip


class SqlReadBooks:
    """`ledger.books.ReadBooks` on one connection; a consistent view within `snapshot` or a transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def _sound(self, table: str, row: Row) -> Row:
        """The row without its checksum, which comes last; raises StoreFailed if that does not hold."""
        check(self._db.path, table, row[:-1], row[-1])
        return row[:-1]

    def _channel(self, row: Row) -> ChannelRow:
        values = list(self._sound("channel", row))
        values[17:19] = map(Half.unpack, values[17:19])
        return ChannelRow(*values)

    def _line(self, row: Row) -> Line:
        number, entry, time, kind, holder, *rest = self._sound("line", row)
        return Line(number, entry, time, Kind(kind), Holder(holder), *rest)

    def _balance(self, row: Row) -> tuple[bytes, bytes, int]:
        account, asset_id, units = self._sound("balance", row)
        return account, asset_id, units

    def snapshot(self) -> AbstractContextManager[None]:
        """All reads inside see one moment."""
        return self._db.snapshot()

    def ledger_id(self) -> bytes:
        """The ledger that these books belong to, 32 bytes."""
        return self._own()[0]

    def clock(self) -> int:
        return self._own()[1]

    def number(self) -> int:
        return self._own()[2]

    def asset(self, asset_id: bytes) -> AssetRow | None:
        row = self._db.row(f"SELECT {_ASSET} FROM asset WHERE asset_id = ?", (asset_id,))
        return AssetRow(*self._sound("asset", row)) if row else None

    def assets(self) -> Sequence[AssetRow]:
        rows = self._db.rows(f"SELECT {_ASSET} FROM asset ORDER BY ordinal")
        return [AssetRow(*self._sound("asset", row)) for row in rows]

    def balance(self, account: bytes, asset_id: bytes) -> int:
        sql = "SELECT account, asset_id, units, sum FROM balance WHERE account = ? AND asset_id = ?"
        row = self._db.row(sql, (account, asset_id))
        return self._balance(row)[2] if row else 0

    def holdings(self, account: bytes, number: int | None = None) -> Sequence[tuple[bytes, int]]:
        if number is None:
            sql = "SELECT account, asset_id, units, sum FROM balance WHERE account = ? ORDER BY asset_id"
            return [self._balance(row)[1:] for row in self._db.rows(sql, (account,))]
        sql = (
            "SELECT b.asset_id, (SELECT after FROM line WHERE holder = 0 AND owner = b.account AND"
            " line.asset_id = b.asset_id AND line.number <= ? ORDER BY line.number DESC LIMIT 1)"
            " FROM balance AS b WHERE b.account = ? ORDER BY b.asset_id"
        )
        return [(asset_id, units) for asset_id, units in self._db.rows(sql, (number, account)) if units is not None]

    def channel(self, channel_id: bytes) -> ChannelRow | None:
        row = self._db.row(f"SELECT {_CHANNEL} FROM channel WHERE channel_id = ?", (channel_id,))
        return self._channel(row) if row else None

    def channels(self, account: bytes, after: int, limit: int) -> Sequence[ChannelRow]:
        # Each half is cut off before they are joined, so that a page costs the same however many follow it.
        half = f"SELECT * FROM (SELECT {_CHANNEL} FROM channel WHERE {{}} AND opened > ?2 ORDER BY opened LIMIT ?3)"
        sql = (
            f"{half.format('account0 = ?1')} UNION ALL {half.format('account1 = ?1 AND account0 <> ?1')}"
            " ORDER BY opened LIMIT ?3"
        )
        return [self._channel(row) for row in self._db.rows(sql, (account, after, limit))]

    def disputes(self, until: int | None, limit: int | None) -> Sequence[ChannelRow]:
        sql = (
            f"SELECT {_CHANNEL} FROM channel WHERE status = {CLOSING} AND deadline <= ?"
            " ORDER BY deadline, channel_id LIMIT ?"
        )
        bounds = (2**63 - 1 if until is None else until, -1 if limit is None else limit)
        return [self._channel(row) for row in self._db.rows(sql, bounds)]

    def lines(self, account: bytes, after: int, limit: int, *, own: bool) -> Sequence[Line]:
        sql = (
            f"SELECT {_LINE} FROM concern JOIN line USING (number)"
            " WHERE concern.account = ? AND concern.number > ? AND concern.own >= ? ORDER BY concern.number LIMIT ?"
        )
        return [self._line(row) for row in self._db.rows(sql, (account, after, int(own), limit))]

    def outcome(self, key: bytes, request_id: bytes) -> StoredOutcome | None:
        row = self._db.row(
            f"SELECT {OUTCOME_COLUMNS}, sum FROM outcome WHERE key = ? AND request_id = ?", (key, request_id)
        )
        if row is None:
            return None
        _, _, request_hash, valid_until, line, body = self._sound("outcome", row)
        return StoredOutcome(request_hash, valid_until, body if line is None else self._body(line))

    def _body(self, number: int) -> bytes:
        row = self._db.row(f"SELECT {_LINE} FROM line WHERE number = ?", (number,))
        if row is None:
            raise damaged(self._db.path, f"line {number} of the journal, which answers a request, is missing")
        return self._line(row).body

    def whole_journal(self) -> Iterator[Line]:
        return (self._line(row) for row in self._db.stream(f"SELECT {_LINE} FROM line ORDER BY number"))

    def all_balances(self) -> Iterator[tuple[bytes, bytes, int]]:
        rows = self._db.stream("SELECT account, asset_id, units, sum FROM balance ORDER BY account, asset_id")
        return (self._balance(row) for row in rows)

    def all_channels(self) -> Iterator[ChannelRow]:
        rows = self._db.stream(f"SELECT {_CHANNEL} FROM channel ORDER BY channel_id")
        return (self._channel(row) for row in rows)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _own(self) -> tuple[bytes, int, int]:
        """The ledger's id, clock and newest line."""
        row = self._db.row(f"SELECT {SUMMED['ledger']}, sum FROM ledger")
        if row is None:
            raise damaged(self._db.path, "the ledger's own row is missing")
        ledger_id, clock, number = self._sound("ledger", row)
        return ledger_id, clock, number
