"""The tables of a node's store, and how an older store becomes one of today. Spec N-30.

Version 2 splits a channel in three: what is read of every channel at a start (`channels`), what is
read when the channel is wanted (`states`), and the small row that every flush writes (`halves`): many
of those share a page, so that a commit for a thousand channels writes a third of the pages. Every
row has checksums, and batches have their long columns last, where SQLite need not read past them.
"""

from __future__ import annotations

from typing import Final

from channelpay.channel.saved import Saved, summarise
from channelpay.store.batches import INSERT, new_row
from channelpay.store.rows import checksum
from channelpay.store.sqlite import Database, Schema

_VERSION_1: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE identity (node_id BLOB NOT NULL, ledger_id BLOB NOT NULL) STRICT;
CREATE TABLE peers (peer_id BLOB PRIMARY KEY, address TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE requests (request_id BLOB PRIMARY KEY, blob BLOB NOT NULL, signature BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE channels (
    ref INTEGER PRIMARY KEY,
    channel_id BLOB NOT NULL UNIQUE CHECK (length(channel_id) = 32),
    setup BLOB NOT NULL,
    cold BLOB NOT NULL,
    hot BLOB NOT NULL
) STRICT;
CREATE TABLE batches (
    channel INTEGER NOT NULL REFERENCES channels,
    payer INTEGER NOT NULL CHECK (payer IN (0, 1)),
    first_n INTEGER NOT NULL CHECK (first_n >= 1),
    last_n INTEGER NOT NULL CHECK (last_n >= first_n),
    total INTEGER NOT NULL CHECK (total >= last_n),
    h BLOB NOT NULL CHECK (length(h) = 32),
    records BLOB,
    memos BLOB NOT NULL,
    id_from INTEGER,
    id_to INTEGER,
    position INTEGER,
    repeated BLOB
) STRICT;
CREATE UNIQUE INDEX batches_by_number ON batches (channel, payer, last_n);
CREATE UNIQUE INDEX batches_by_position ON batches (position) WHERE position IS NOT NULL;
CREATE INDEX batches_by_id_time ON batches (channel, payer, id_to) WHERE id_to IS NOT NULL;
"""

_VERSION_2: Final = """
DROP INDEX batches_by_number;
DROP INDEX batches_by_position;
DROP INDEX batches_by_id_time;
ALTER TABLE batches RENAME TO old_batches;
ALTER TABLE channels RENAME TO old_channels;
ALTER TABLE meta RENAME TO old_meta;
ALTER TABLE peers RENAME TO old_peers;
ALTER TABLE requests RENAME TO old_requests;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE peers (peer_id BLOB PRIMARY KEY, address TEXT NOT NULL, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE requests (
    request_id BLOB PRIMARY KEY, blob BLOB NOT NULL, signature BLOB NOT NULL, sum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE channels (
    ref INTEGER PRIMARY KEY,
    channel_id BLOB NOT NULL UNIQUE CHECK (length(channel_id) = 32),
    peer_id BLOB NOT NULL CHECK (length(peer_id) = 32),
    side INTEGER NOT NULL CHECK (side IN (0, 1)),
    window_s INTEGER NOT NULL,
    phase INTEGER NOT NULL,
    rests INTEGER NOT NULL CHECK (rests IN (0, 1)),  -- 1: nothing falls due before the peer or the ledger speaks
    sum INTEGER NOT NULL
) STRICT;
CREATE TABLE states (
    ref INTEGER PRIMARY KEY,
    setup BLOB NOT NULL,
    setup_sum INTEGER NOT NULL,
    cold BLOB NOT NULL,
    cold_sum INTEGER NOT NULL
) STRICT;
CREATE TABLE halves (ref INTEGER PRIMARY KEY, hot BLOB NOT NULL, sum INTEGER NOT NULL) STRICT;
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,                          -- rises with every commit
    channel INTEGER NOT NULL,                        -- its ref
    payer INTEGER NOT NULL CHECK (payer IN (0, 1)),
    first_n INTEGER NOT NULL CHECK (first_n >= 1),
    last_n INTEGER NOT NULL CHECK (last_n >= first_n),
    total INTEGER NOT NULL CHECK (total >= last_n),  -- of all payments up to last_n
    h BLOB NOT NULL CHECK (length(h) = 32),          -- history hash after last_n
    id_from INTEGER,                                 -- least and greatest time in the payment ids; NULL: no ids
    id_to INTEGER,
    position INTEGER,                                -- received ones: place of the first in the journal
    body_sum INTEGER NOT NULL,                       -- checksum of repeated, memos, records
    head_sum INTEGER NOT NULL,                       -- checksum of all columns before it
    repeated BLOB,                                   -- u16 indexes whose payment id had come before; NULL: none
    memos BLOB NOT NULL,
    records BLOB                                     -- NULL: the peer no longer had them
) STRICT;
CREATE UNIQUE INDEX batches_by_number ON batches (channel, payer, last_n);
CREATE UNIQUE INDEX batches_by_position ON batches (position) WHERE position IS NOT NULL;
CREATE INDEX batches_by_id_time ON batches (channel, payer, id_to, id_from) WHERE id_to IS NOT NULL;
CREATE TABLE pruned (                                -- the half of a payer up to which batches were pruned
    channel INTEGER NOT NULL,
    payer INTEGER NOT NULL CHECK (payer IN (0, 1)),
    last_n INTEGER NOT NULL,
    total INTEGER NOT NULL,
    h BLOB NOT NULL CHECK (length(h) = 32),
    sum INTEGER NOT NULL,
    PRIMARY KEY (channel, payer)
) STRICT, WITHOUT ROWID;
CREATE TABLE marks (at INTEGER PRIMARY KEY, batch INTEGER NOT NULL) STRICT;  -- batches below were there at that time
"""

_DROP_OLD: Final = """
DROP TABLE old_batches;
DROP TABLE old_channels;
DROP TABLE old_meta;
DROP TABLE old_peers;
DROP TABLE old_requests;
"""


def insert_channel(db: Database, ref: int, channel_id: bytes, saved: Saved) -> None:
    """The three rows of a new channel."""
    s = summarise(channel_id, saved)
    facts = (ref, channel_id, s.peer_id, s.side, s.window_s, int(s.phase), int(s.rests))
    db.run("INSERT INTO channels VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*facts, checksum(*facts)))
    setup, cold, hot = saved
    db.run("INSERT INTO states VALUES (?, ?, ?, ?, ?)", (ref, setup, checksum(ref, setup), cold, checksum(ref, cold)))
    db.run("INSERT INTO halves VALUES (?, ?, ?)", (ref, hot, checksum(ref, hot)))


def _to_version_2(db: Database) -> None:
    db.run(_VERSION_2)
    for table, columns in (
        ("meta", "name, value"),
        ("peers", "peer_id, address"),
        ("requests", "request_id, blob, signature"),
    ):
        marks = ", ".join("?" * (columns.count(",") + 2))
        rows = db.stream(f"SELECT {columns} FROM old_{table}")
        db.run_many(f"INSERT INTO {table} VALUES ({marks})", ((*row, checksum(*row)) for row in rows))
    for ref, channel_id, *saved in db.stream("SELECT ref, channel_id, setup, cold, hot FROM old_channels"):
        insert_channel(db, ref, channel_id, Saved(*saved))
    rows = db.stream(
        "SELECT rowid, channel, payer, first_n, last_n, total, h, id_from, id_to, position, repeated, memos, records "
        "FROM old_batches ORDER BY rowid"
    )
    db.run_many(INSERT, (new_row(*row) for row in rows))
    db.run(_DROP_OLD)


SCHEMA: Final = Schema(name="node store", application_id=0x63704E31, migrations=(_VERSION_1, _to_version_2))
