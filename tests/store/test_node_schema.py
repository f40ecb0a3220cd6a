"""A store of version 1 becomes one of today; one of tomorrow is refused; a flipped bit is found. Spec N-30."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from channelpay.batches import pack_memos, pack_record
from channelpay.channel.effects import JournalBatch
from channelpay.channel.state import Phase
from channelpay.errors import StoreFailed
from channelpay.messages.control import ENTRY_PAYMENTS, ENTRY_UNAVAILABLE
from channelpay.messages.peer import Request
from channelpay.node.ready import Persist
from channelpay.statements import Half
from channelpay.store.node import NodeStore
from channelpay.store.node_schema import SCHEMA
from node_world import keyring

NODE, LEDGER = bytes([1]) * 32, bytes([2]) * 32
NODE_STORE_V1 = Path(__file__).with_name("node_store_v1.sql")
TABLES = ("meta", "peers", "requests", "channels", "states", "halves", "batches")


def payment_id(n: int) -> bytes:
    return (1000).to_bytes(6, "big") + n.to_bytes(10, "big")


@pytest.fixture
def old(tmp_path) -> Path:
    """A file of version 1: two open channels and a settled one, payments both ways, a gap, a repeated id."""
    path = tmp_path / "node.db"
    connection = apsw.Connection(str(path))
    connection.execute(NODE_STORE_V1.read_text())
    connection.close()
    return path


def version(path: Path) -> int:
    connection = apsw.Connection(str(path))
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return found


def test_a_store_of_version_1_is_migrated(old):
    assert version(old) == 1
    for _ in range(2):  # the second time there is nothing to migrate
        store = NodeStore(old, NODE, LEDGER)
        assert version(old) == SCHEMA.version == 2
        assert (store.next_key_index(), store.ledger_number(), store.restored_until()) == (4, 77, -1)
        assert store.peers() == [(bytes([3]) * 32, "cp1x@h:1")]
        assert store.requests() == [Request(bytes([7]) * 16, b"blob", bytes(64))]
        assert store.received == 5
        a, b, c = sorted(store.channels(keyring(1)), key=lambda found: found.setup.key_index)
        assert [(s.phase, s.rests, s.side) for s in store.roster()] == [
            (Phase.OPEN, True, 0), (Phase.OPEN, False, 1), (Phase.SETTLED, True, 0),
        ]  # fmt: skip
        assert (a.own.n, a.own.total, a.peer.n, a.peer.total, a.acked.n) == (3, 14, 13, 519, 2)
        assert [sent.batch.first_n for sent in a.unacked] == [3]
        assert [(first_n, half.n) for first_n, _, half in a.recent] == [(1, 2), (3, 3), (4, 13)]
        assert b.withdrawals[0].total == 5
        assert c.phase is Phase.SETTLED
        rows = store.journal(0, 100, 100_000)
        assert [(r.position, r.kind, r.first_n, r.size, r.total, r.repeated) for r in rows] == [
            (0, ENTRY_PAYMENTS, 1, 2, 11, ()), (2, ENTRY_PAYMENTS, 3, 1, 8, (0,)),
            (3, ENTRY_UNAVAILABLE, 4, 10, 500, ()), (4, ENTRY_PAYMENTS, 1, 1, 1, ()),
        ]  # fmt: skip
        assert rows[0].memos == pack_memos([(1, b"memo")])
        assert store.find(a.channel_id, 1, payment_id(2)) == (2, 6)
        assert store.find_own(payment_id(9)) == (a.channel_id, (3, 7))
        assert store.find_own(payment_id(2)) is None
        store.close()


def test_a_migrated_store_goes_on(old):
    store = NodeStore(old, NODE, LEDGER)
    a = next(c for c in store.channels(keyring(1)) if c.setup.key_index == 1)
    batch = a.unacked[0].batch._replace(first_n=14, records=pack_record(1, payment_id(2)))
    store.commit(Persist(journal=[JournalBatch(a.channel_id, 1, True, batch, Half(14, 520, bytes(32)))]))
    row = store.journal(5, 1, 1)[0]
    assert (row.position, row.repeated) == (5, (0,))
    store.close()


def test_a_cut_off_migration_changes_nothing(old, monkeypatch):
    monkeypatch.setattr("channelpay.store.node_schema._DROP_OLD", "SELECT nothing")
    with pytest.raises(StoreFailed, match="nothing"):
        NodeStore(old, NODE, LEDGER)
    assert version(old) == 1
    monkeypatch.undo()
    NodeStore(old, NODE, LEDGER).close()


def test_a_newer_store_is_refused(old):
    connection = apsw.Connection(str(old))
    connection.execute(f"PRAGMA user_version = {SCHEMA.version + 1}")
    connection.close()
    with pytest.raises(StoreFailed, match="use a newer channelpay"):
        NodeStore(old, NODE, LEDGER)
    assert version(old) == SCHEMA.version + 1


def read_all(path: Path) -> None:
    store = NodeStore(path, NODE, LEDGER)
    try:
        store.peers(), store.requests()
        for channel in store.channels(keyring(1)):
            for payer in (0, 1):
                store.batches(channel.channel_id, payer, 1, over_gaps=True)
        store.journal(0, 1000, 10**7)
    finally:
        store.close()


@pytest.mark.parametrize("table", TABLES)
def test_a_flipped_bit_in_any_column_is_found(old, table):
    NodeStore(old, NODE, LEDGER).close()
    read_all(old)
    connection = apsw.Connection(str(old))
    connection.execute("PRAGMA ignore_check_constraints = ON")
    row = connection.execute(f"SELECT * FROM {table}").fetchall()[1 if table == "batches" else 0]  # a received one
    columns = [info[1] for info in connection.execute(f"PRAGMA table_info({table})")]
    flipped = 0
    for column, value in zip(columns, row, strict=True):
        if value is None or column in ("id", "ref"):  # not stored as columns, but as keys of the table
            continue
        connection.execute("SAVEPOINT flip")
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {columns[0]} = ?", (_flipped(value), row[0]))
        connection.execute("RELEASE flip")
        with pytest.raises(StoreFailed, match="is damaged: "):
            read_all(old)
        key = _flipped(value) if column == columns[0] else row[0]
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {columns[0]} = ?", (value, key))
        flipped += 1
    assert flipped >= 2
    connection.close()
    read_all(old)


def _flipped(value: int | str | bytes) -> int | str | bytes:
    if isinstance(value, int):
        return value ^ 64
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1)
    return value[:-1] + bytes([value[-1] ^ 1]) if value else b"\x01"
