"""The tables of a ledger's books. Spec L-1, L-12, L-13, L-15.

The schema repeats what the core promises: no balance below zero, a settled channel pays out its pot,
the lines of an entry sum to zero. An error there is a defect of the program and stops the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from channelpay.store.rows import checksum
from channelpay.store.sqlite import Database, Schema

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

_VERSION_2: Final = """
-- Entries are checked where a transaction ends, not one by one, and need no table of their own: a foreign key to one
-- had every entry look through the whole journal. Columns that are new: see ledger.number, outcome.line.
CREATE TABLE line_2 (
    number INTEGER PRIMARY KEY CHECK (number > 0),
    entry INTEGER NOT NULL CHECK (entry BETWEEN 1 AND number),
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
INSERT INTO line_2 SELECT * FROM line ORDER BY number;
CREATE TABLE concern_2 (
    account BLOB NOT NULL,
    number INTEGER NOT NULL,
    own INTEGER NOT NULL CHECK (own IN (0, 1)),
    PRIMARY KEY (account, number)
) STRICT, WITHOUT ROWID;
INSERT INTO concern_2 SELECT * FROM concern ORDER BY account, number;
CREATE TABLE outcome_2 (
    ordinal INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    request_id BLOB NOT NULL CHECK (length(request_id) = 16),
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    valid_until INTEGER NOT NULL,
    line INTEGER, -- the answer is this line's body, or else
    body BLOB,
    UNIQUE (key, request_id),
    CHECK ((line IS NULL) <> (body IS NULL))
) STRICT;
INSERT INTO outcome_2 (key, request_id, request_hash, valid_until, body)
    SELECT key, request_id, request_hash, valid_until, body FROM outcome ORDER BY valid_until;

DROP TABLE outcome;
DROP TABLE concern;
DROP TABLE line;
DROP TABLE entry;
ALTER TABLE line_2 RENAME TO line;
ALTER TABLE concern_2 RENAME TO concern;
ALTER TABLE outcome_2 RENAME TO outcome;
CREATE INDEX line_money ON line (owner, asset_id, number) WHERE holder = 0;
CREATE INDEX outcome_age ON outcome (valid_until);
CREATE TRIGGER lines_stay BEFORE UPDATE ON line BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
CREATE TRIGGER lines_remain BEFORE DELETE ON line BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;

-- The newest line: it is set at the end of every transaction, and what came since the last one is checked then.
ALTER TABLE ledger ADD COLUMN number INTEGER NOT NULL DEFAULT 0 CHECK (number >= 0);
UPDATE ledger SET number = (SELECT COALESCE(MAX(number), 0) FROM line);
CREATE TRIGGER entries_are_whole BEFORE UPDATE OF number ON ledger
BEGIN
    SELECT RAISE(ABORT, 'the lines of an entry sum to zero') WHERE EXISTS (
        SELECT 1 FROM line WHERE number > OLD.number GROUP BY entry HAVING SUM(delta) <> 0 OR MIN(number) <> entry
    );
    SELECT RAISE(ABORT, 'the lines of a journal follow one another') WHERE NEW.number <> OLD.number + (
        SELECT COUNT(*) FROM line WHERE number > OLD.number
    );
END;
"""

SUMMED: Final = {
    "asset": "asset_id, code, scale, issuer, issued",
    "balance": "account, asset_id, units",
    "channel": (
        "channel_id, asset_id, key0, key1, account0, account1, open_nonce, flags, window_s, max_batch, status, "
        "deposit0, deposit1, opened, number, withdrawn0, withdrawn1, half0, half1, deadline, out0, out1"
    ),
    "line": "number, entry, time, kind, holder, owner, asset_id, delta, after, counterpart, body",
    "outcome": "key, request_id, request_hash, valid_until, line, body",
    "ledger": "ledger_id, clock, number",
}
"""Tables and the columns that a row's checksum covers, the row's name first."""

_NAMES: Final = {"balance": 2, "outcome": 2}
"""How many of these columns are a row's name; one, where nothing else is said."""

_SETTLED_FOR_EVER: Final = """
CREATE TRIGGER settled_for_ever BEFORE UPDATE ON channel WHEN OLD.status = 2
BEGIN SELECT RAISE(ABORT, 'a settled channel never changes'); END;
"""
_LINES_STAY: Final = """
CREATE TRIGGER lines_stay BEFORE UPDATE ON line BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END;
"""


def _to_version_3(db: Database) -> None:
    """Every row that says where money is gets a checksum of its own (`rows`)."""
    db.run("DROP TRIGGER settled_for_ever; DROP TRIGGER lines_stay;")
    _add_sums(db, ("asset", "balance", "channel", "line"))
    db.run(_SETTLED_FOR_EVER + _LINES_STAY)


def _to_version_4(db: Database) -> None:
    """So does every answer, by which a request is not executed twice, and the row with the ledger's clock."""
    _add_sums(db, ("outcome", "ledger"))


def _add_sums(db: Database, tables: Iterable[str]) -> None:
    """Row by row, as tables may be larger than memory: the columns that are read are not those that are written."""
    for table in tables:
        columns = SUMMED[table]
        names = columns.split(", ")[: _NAMES.get(table, 1)]
        db.run(f"ALTER TABLE {table} ADD COLUMN sum INTEGER NOT NULL DEFAULT 0")
        rows = db.stream(f"SELECT {columns} FROM {table}")
        where = " AND ".join(f"{name} = ?" for name in names)
        db.run_many(f"UPDATE {table} SET sum = ? WHERE {where}", ((checksum(*row), *row[: len(names)]) for row in rows))


SCHEMA: Final = Schema("ledger", 0x63706C31, (_VERSION_1, _VERSION_2, _to_version_3, _to_version_4))  # "cpl1"
