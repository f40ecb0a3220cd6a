"""A ledger's books on SQLite. Spec L-1, L-9, L-12, L-13.

The schema repeats what the core promises: no balance below zero, a settled channel pays out its pot,
the lines of an entry sum to zero. An error there is a defect of the program and stops the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, TypeVar

from channelpay.errors import StoreFailed
from channelpay.ledger.books import AssetRow, ChannelRow, Holder, Kind, Line, StoredOutcome
from channelpay.messages.ledger import CLOSING
from channelpay.statements import Half
from channelpay.store.sqlite import Database, Row, Schema, open_database, open_reader

_T = TypeVar("_T")

_VERSION_1: Final = """
CREATE TABLE ledger (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    ledger_id BLOB NOT NULL CHECK (length(ledger_id) = 32),
    clock INTEGER NOT NULL CHECK (clock >= 0)
) STRICT;
CREATE TRIGGER clock_never_goes_back BEFORE UPDATE OF clock ON ledger WHEN NEW.clock < OLD.clock
BEGIN SELECT RAISE(ABORT, 'the clock never goes back'); END;

CREATE TABLE asset (
    ordinal INTEGER PRIMARY KEY,
    asset_id BLOB NOT NULL UNIQUE CHECK (length(asset_id) = 16),
    code TEXT NOT NULL UNIQUE,
    scale INTEGER NOT NULL CHECK (scale BETWEEN 0 AND 18),
    issuer BLOB NOT NULL CHECK (length(issuer) = 32),
    issued INTEGER NOT NULL CHECK (issued >= 0)
) STRICT;

CREATE TABLE balance (
    account BLOB NOT NULL CHECK (length(account) = 32),
    asset_id BLOB NOT NULL REFERENCES asset (asset_id),
    units INTEGER NOT NULL CHECK (units >= 0),
    PRIMARY KEY (account, asset_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE channel (
    channel_id BLOB PRIMARY KEY CHECK (length(channel_id) = 32),
    asset_id BLOB NOT NULL REFERENCES asset (asset_id),
    key0 BLOB NOT NULL CHECK (length(key0) = 32),
    key1 BLOB NOT NULL CHECK (length(key1) = 32),
    account0 BLOB NOT NULL CHECK (length(account0) = 32),
    account1 BLOB NOT NULL CHECK (length(account1) = 32),
    open_nonce BLOB NOT NULL CHECK (length(open_nonce) = 32),
    flags INTEGER NOT NULL CHECK (flags IN (0, 1)),
    window_s INTEGER NOT NULL CHECK (window_s > 0),
    max_batch INTEGER NOT NULL CHECK (max_batch BETWEEN 1 AND 4096),
    status INTEGER NOT NULL CHECK (status IN (0, 1, 2)),
    deposit0 INTEGER NOT NULL CHECK (deposit0 >= 0),
    deposit1 INTEGER NOT NULL CHECK (deposit1 >= 0),
    opened INTEGER NOT NULL UNIQUE CHECK (opened > 0),
    number INTEGER NOT NULL CHECK (number >= opened),
    withdrawn0 INTEGER NOT NULL CHECK (withdrawn0 >= 0),
    withdrawn1 INTEGER NOT NULL CHECK (withdrawn1 >= 0),
    half0 BLOB NOT NULL CHECK (length(half0) = 88),
    half1 BLOB NOT NULL CHECK (length(half1) = 88),
    deadline INTEGER NOT NULL CHECK (deadline >= 0 AND (status <> 1 OR deadline > 0)),
    out0 INTEGER NOT NULL CHECK (out0 >= 0),
    out1 INTEGER NOT NULL CHECK (out1 >= 0),
    CHECK (withdrawn0 + withdrawn1 <= deposit0 + deposit1),
    CHECK (out0 + out1 = CASE status WHEN 2 THEN deposit0 + deposit1 - withdrawn0 - withdrawn1 ELSE 0 END)
) STRICT;
CREATE INDEX channel_account0 ON channel (account0, opened);
CREATE INDEX channel_account1 ON channel (account1, opened);
CREATE INDEX channel_dispute ON channel (deadline, channel_id) WHERE status = 1;
CREATE TRIGGER settled_for_ever BEFORE UPDATE ON channel WHEN OLD.status = 2
BEGIN SELECT RAISE(ABORT, 'a settled channel never changes'); END;

CREATE TABLE entry (number INTEGER PRIMARY KEY CHECK (number > 0)) STRICT;
CREATE TABLE line (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    entry INTEGER NOT NULL REFERENCES entry (number) DEFERRABLE INITIALLY DEFERRED,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    holder INTEGER NOT NULL CHECK (holder IN (0, 1, 2)),
    owner BLOB NOT NULL CHECK (length(owner) = 32),
    asset_id BLOB NOT NULL REFERENCES asset (asset_id),
    delta INTEGER NOT NULL,
    after INTEGER NOT NULL CHECK (CASE holder WHEN 2 THEN after <= 0 ELSE after >= 0 END),
    counterpart BLOB NOT NULL CHECK (length(counterpart) = 32),
    body BLOB NOT NULL
) STRICT;
CREATE INDEX line_money ON line (owner, asset_id, number) WHERE holder = 0;
CREATE TABLE concern (
    account BLOB NOT NULL,
    number INTEGER NOT NULL REFERENCES line (number),
    own INTEGER NOT NULL CHECK (own IN (0, 1)),
    PRIMARY KEY (account, number)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER entries_sum_to_zero BEFORE INSERT ON entry
WHEN (SELECT COALESCE(SUM(delta), 1) FROM line
      WHERE line.number >= NEW.number AND line.entry = NEW.number) <> 0
BEGIN SELECT RAISE(ABORT, 'the lines of an entry sum to zero'); END;
CREATE TRIGGER lines_stay BEFORE UPDATE ON line BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
CREATE TRIGGER lines_remain BEFORE DELETE ON line BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;

CREATE TABLE outcome (
    key BLOB NOT NULL,
    request_id BLOB NOT NULL CHECK (length(request_id) = 16),
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    valid_until INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (key, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX outcome_age ON outcome (valid_until);
"""

SCHEMA: Final = Schema("ledger", 0x63706C31, (_VERSION_1,))  # "cpl1"

_CHANNEL: Final = (
    "channel_id, asset_id, key0, key1, account0, account1, open_nonce, flags, window_s, max_batch, status, "
    "deposit0, deposit1, opened, number, withdrawn0, withdrawn1, half0, half1, deadline, out0, out1"
)
_LINE: Final = (
    "line.number, line.entry, line.time, line.kind, line.holder, line.owner, line.asset_id, line.delta, line.after, "
    "line.counterpart, line.body"
)
_LINE_COLUMNS: Final = _LINE.replace("line.", "")
_ASSET: Final = "asset_id, code, scale, issuer, issued"


def _marks(columns: str) -> str:
    return ", ".join("?" for _ in columns.split(","))


def _channel(row: Row) -> ChannelRow:
    values = list(row)
    values[17:19] = map(Half.unpack, row[17:19])
    return ChannelRow(*values)


def _channel_values(row: ChannelRow) -> Row:
    return (
        row.channel_id, row.asset_id, row.key0, row.key1, row.account0, row.account1, row.open_nonce, row.flags,
        row.window_s, row.max_batch, row.status, row.deposit0, row.deposit1, row.opened, row.number,
        row.withdrawn0, row.withdrawn1, row.half0.pack(), row.half1.pack(), row.deadline, row.out0, row.out1,
    )  # fmt: skip


def _line(row: Row) -> Line:
    number, entry, time, kind, holder, *rest = row
    return Line(number, entry, time, Kind(kind), Holder(holder), *rest)


class SqlReadBooks:
    """`ledger.books.ReadBooks` on one connection; a consistent view within `snapshot` or a transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def snapshot(self) -> AbstractContextManager[None]:
        """All reads inside see one moment."""
        return self._db.snapshot()

    def ledger_id(self) -> bytes:
        """The ledger that these books belong to, 32 bytes."""
        return bytes(self._one("SELECT ledger_id FROM ledger"))

    def clock(self) -> int:
        return int(self._one("SELECT clock FROM ledger"))

    def number(self) -> int:
        return int(self._one("SELECT COALESCE(MAX(number), 0) FROM line"))

    def asset(self, asset_id: bytes) -> AssetRow | None:
        row = self._db.row(f"SELECT {_ASSET} FROM asset WHERE asset_id = ?", (asset_id,))
        return AssetRow(*row) if row else None

    def assets(self) -> Sequence[AssetRow]:
        return [AssetRow(*row) for row in self._db.rows(f"SELECT {_ASSET} FROM asset ORDER BY ordinal")]

    def balance(self, account: bytes, asset_id: bytes) -> int:
        row = self._db.row("SELECT units FROM balance WHERE account = ? AND asset_id = ?", (account, asset_id))
        return row[0] if row else 0

    def holdings(self, account: bytes, number: int | None = None) -> Sequence[tuple[bytes, int]]:
        if number is None:
            sql = "SELECT asset_id, units FROM balance WHERE account = ? ORDER BY asset_id"
            return [(asset_id, units) for asset_id, units in self._db.rows(sql, (account,))]
        sql = (
            "SELECT b.asset_id, (SELECT after FROM line WHERE holder = 0 AND owner = b.account AND"
            " line.asset_id = b.asset_id AND line.number <= ? ORDER BY line.number DESC LIMIT 1)"
            " FROM balance AS b WHERE b.account = ? ORDER BY b.asset_id"
        )
        return [(asset_id, units) for asset_id, units in self._db.rows(sql, (number, account)) if units is not None]

    def channel(self, channel_id: bytes) -> ChannelRow | None:
        row = self._db.row(f"SELECT {_CHANNEL} FROM channel WHERE channel_id = ?", (channel_id,))
        return _channel(row) if row else None

    def channels(self, account: bytes, after: int, limit: int) -> Sequence[ChannelRow]:
        one = f"SELECT {_CHANNEL} FROM channel WHERE {{}} = ?1 AND opened > ?2"
        sql = f"{one.format('account0')} UNION {one.format('account1')} ORDER BY opened LIMIT ?3"
        return [_channel(row) for row in self._db.rows(sql, (account, after, limit))]

    def disputes(self, until: int | None, limit: int | None) -> Sequence[ChannelRow]:
        sql = (
            f"SELECT {_CHANNEL} FROM channel WHERE status = {CLOSING} AND deadline <= ?"
            " ORDER BY deadline, channel_id LIMIT ?"
        )
        bounds = (2**63 - 1 if until is None else until, -1 if limit is None else limit)
        return [_channel(row) for row in self._db.rows(sql, bounds)]

    def lines(self, account: bytes, after: int, limit: int, *, own: bool) -> Sequence[Line]:
        sql = (
            f"SELECT {_LINE} FROM concern JOIN line USING (number)"
            " WHERE concern.account = ? AND concern.number > ? AND concern.own >= ? ORDER BY concern.number LIMIT ?"
        )
        return [_line(row) for row in self._db.rows(sql, (account, after, int(own), limit))]

    def outcome(self, key: bytes, request_id: bytes) -> StoredOutcome | None:
        sql = "SELECT request_hash, valid_until, body FROM outcome WHERE key = ? AND request_id = ?"
        row = self._db.row(sql, (key, request_id))
        return StoredOutcome(*row) if row else None

    def whole_journal(self) -> Iterator[Line]:
        return (_line(row) for row in self._db.stream(f"SELECT {_LINE} FROM line ORDER BY number"))

    def all_balances(self) -> Iterator[tuple[bytes, bytes, int]]:
        rows = self._db.stream("SELECT account, asset_id, units FROM balance ORDER BY account, asset_id")
        return ((account, asset_id, units) for account, asset_id, units in rows)

    def all_channels(self) -> Iterator[ChannelRow]:
        rows = self._db.stream(f"SELECT {_CHANNEL} FROM channel ORDER BY channel_id")
        return (_channel(row) for row in rows)

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def _one(self, sql: str) -> bytes | int:
        row = self._db.row(sql)
        if row is None:
            raise StoreFailed(f"{self._db.path}: the ledger's own row is missing")
        value: bytes | int = row[0]
        return value


class SqlBooks(SqlReadBooks):
    """`ledger.books.Books` on the one connection that writes, inside a transaction of its owner."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.touched: set[bytes] = set()
        """Accounts that lines appended since it was last cleared concern."""

    def set_clock(self, now: int) -> None:
        self._db.run("UPDATE ledger SET clock = ?", (now,))

    def put_asset(self, row: AssetRow) -> None:
        self._db.run(
            f"INSERT INTO asset ({_ASSET}) VALUES ({_marks(_ASSET)})"
            " ON CONFLICT (asset_id) DO UPDATE SET issued = excluded.issued",
            (row.asset_id, row.code, row.scale, row.issuer, row.issued),
        )

    def put_balance(self, account: bytes, asset_id: bytes, units: int) -> None:
        self._db.run(
            "INSERT INTO balance (account, asset_id, units) VALUES (?, ?, ?)"
            " ON CONFLICT (account, asset_id) DO UPDATE SET units = excluded.units",
            (account, asset_id, units),
        )

    def add_channel(self, row: ChannelRow) -> None:
        self._db.run(f"INSERT INTO channel ({_CHANNEL}) VALUES ({_marks(_CHANNEL)})", _channel_values(row))

    def replace_channel(self, old: ChannelRow, new: ChannelRow) -> None:
        changed = self._db.run(  # spec L-13
            "UPDATE channel SET status = ?, deposit0 = ?, deposit1 = ?, number = ?, withdrawn0 = ?, withdrawn1 = ?,"
            " half0 = ?, half1 = ?, deadline = ?, out0 = ?, out1 = ?"
            " WHERE channel_id = ? AND status = ? AND number = ?",
            (
                new.status, new.deposit0, new.deposit1, new.number, new.withdrawn0, new.withdrawn1,
                new.half0.pack(), new.half1.pack(), new.deadline, new.out0, new.out1,
                old.channel_id, old.status, old.number,
            ),
        )  # fmt: skip
        if changed != 1:
            raise StoreFailed(f"{self._db.path}: channel {old.channel_id.hex()} is not as it was read")

    def append(self, lines: Iterable[Line]) -> None:
        lines = list(lines)
        sql = f"INSERT INTO line ({_LINE_COLUMNS}) VALUES ({_marks(_LINE_COLUMNS)})"
        self._db.run_many(sql, [(*line[:3], str(line.kind), int(line.holder), *line[5:11]) for line in lines])
        concerns = [
            (account, line.number, int(line.holder is Holder.ACCOUNT)) for line in lines for account in line.watchers
        ]
        self._db.run_many("INSERT INTO concern (account, number, own) VALUES (?, ?, ?)", concerns)
        self._db.run("INSERT INTO entry (number) VALUES (?)", (lines[0].entry,))
        self.touched.update(account for account, _, _ in concerns)

    def put_outcome(self, key: bytes, request_id: bytes, outcome: StoredOutcome) -> None:
        self._db.run(
            "INSERT INTO outcome (key, request_id, request_hash, valid_until, body) VALUES (?, ?, ?, ?, ?)",
            (key, request_id, *outcome),
        )

    def drop_outcomes(self, now: int) -> None:
        self._db.run("DELETE FROM outcome WHERE valid_until < ?", (now,))

    def savepoint(self) -> AbstractContextManager[None]:
        return self._db.savepoint()


class LedgerStore:
    """The file of one ledger: `books` read beside the writer, `commit` writes.

    Raises StoreFailed from every method when the file cannot do it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._books = SqlBooks(database)
        self._reading = database.reader()
        self.books = SqlReadBooks(self._reading)

    @classmethod
    def create(cls, path: Path, ledger_id: bytes, now: int, *, vfs: str | None = None) -> LedgerStore:
        """A new, empty ledger in a file that must not exist; its clock begins at `now`."""

        def fill(database: Database) -> None:
            database.run("INSERT INTO ledger (one, ledger_id, clock) VALUES (1, ?, ?)", (ledger_id, now))

        return cls(open_database(path, SCHEMA, create=fill, vfs=vfs))

    @classmethod
    def open(cls, path: Path, ledger_id: bytes, *, vfs: str | None = None) -> LedgerStore:
        """The ledger in `path`, which must be the one named `ledger_id`."""
        store = cls(open_database(path, SCHEMA, vfs=vfs))
        if store.books.ledger_id() != ledger_id:
            store.close()
            raise StoreFailed(f"{path} holds the books of another ledger than this seed's")
        return store

    def commit(self, work: Callable[[SqlBooks], _T]) -> tuple[_T, frozenset[bytes]]:
        """Do `work` in one transaction; its result, and the accounts concerned, once all is on disk."""
        self._books.touched.clear()
        with self._database.transaction():
            result = work(self._books)
        return result, frozenset(self._books.touched)

    def close(self) -> None:
        """Close the file."""
        self._reading.close()
        self._database.close()


def open_books(path: Path) -> SqlReadBooks:
    """A ledger's books for reading, beside the daemon that may be running; raises StoreFailed."""
    return SqlReadBooks(open_reader(path, SCHEMA))
