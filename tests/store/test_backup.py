"""Backups: made while the store is used, judged to the bit, put back so that rule D6 is obeyed. Spec N-25, C-28."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import apsw
import pytest

import durable
from channelpay.channel.state import Phase
from channelpay.errors import LocalError, Reason, StoreFailed
from channelpay.limits import CLAIM_WAIT_S
from channelpay.node.ledger_link import RESTORED
from channelpay.store import backup, scrub
from channelpay.store.backup import LEDGER, NODE, BackupRefused
from channelpay.store.ledger import LedgerStore
from channelpay.store.node import NodeStore, create_node_store
from channelpay.store.rows import checksum
from node_world import NodeWorld, World, open_pair

NOW = 1_800_000_123


def back_up(node: NodeWorld, directory: Path) -> Path:
    backup.create(NODE, node.path, directory, NOW)
    return directory


def put_back(node: NodeWorld, directory: Path, *, replace: bool = True) -> Path | None:
    ledger_id = node.world.ledger.ledger.ledger_id
    return backup.restore(directory, NODE, node.path, node.id, ledger_id, NOW + 1, replace=replace)


def sign_anew(directory: Path) -> None:
    """Make the manifest fit a file that was changed."""
    path = directory / backup.MANIFEST
    values = json.loads(path.read_text())
    data = (directory / f"{values['kind']}.db").read_bytes()
    path.write_text(json.dumps(values | {"size": len(data), "sha256": sha256(data).hexdigest()}))


def change(directory: Path, sql: str) -> None:
    """Change the store in a backup so that everything but its content seems right."""
    manifest = json.loads((directory / backup.MANIFEST).read_text())
    connection = apsw.Connection(str(directory / f"{manifest['kind']}.db"))
    connection.execute(sql)
    connection.close()
    sign_anew(directory)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[World, NodeWorld, NodeWorld]:
    """A channel on which a has paid b twice and b has paid a once."""
    world, a, b = open_pair(tmp_path)
    a.pay(100)
    world.settle()
    b.pay(7)
    a.pay(20)
    world.settle()
    return world, a, b


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A ledger's empty books."""
    path = tmp_path / "ledger.db"
    LedgerStore.create(path, bytes([9]) * 32, NOW).close()
    return path


# --- Making and judging ------------------------------------------------------------------------


def test_a_backup_is_made_while_the_store_is_open_and_says_whose_it_is(pair, tmp_path):
    world, a, _ = pair
    directory = back_up(a, tmp_path / "backup")
    manifest = backup.verify(directory)
    assert (manifest.kind, manifest.created) == (NODE, NOW)
    assert (manifest.owner, manifest.ledger) == (a.id.hex(), world.ledger.ledger.ledger_id.hex())
    assert sorted(path.name for path in directory.iterdir()) == ["backup.json", "node.db"]
    a.pay(3)  # the store goes on
    world.settle()
    assert len(a.paid) == 3


def test_nobody_else_can_read_it_whatever_the_umask(pair, tmp_path):
    old = os.umask(0)
    try:
        directory = back_up(pair[1], tmp_path / "backup")
    finally:
        os.umask(old)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    assert modes == {"backup": 0o700, "backup.json": 0o600, "node.db": 0o600}


def test_a_transaction_under_way_is_not_in_it(books, tmp_path):
    writer = apsw.Connection(str(books))
    writer.create_scalar_function("checksum", checksum)
    writer.execute(
        "BEGIN IMMEDIATE; UPDATE ledger SET clock = clock + 50, sum = checksum(ledger_id, clock + 50, number)"
    )
    backup.create(LEDGER, books, tmp_path / "backup", NOW)
    writer.execute("COMMIT")
    copy = apsw.Connection(str(tmp_path / "backup" / "ledger.db"))
    assert copy.execute("SELECT clock FROM ledger").fetchall() == [(NOW,)]
    assert writer.execute("SELECT clock FROM ledger").fetchall() == [(NOW + 50,)]
    for connection in (copy, writer):
        connection.close()


def test_what_exists_is_not_overwritten_and_a_failure_leaves_nothing(pair, tmp_path, monkeypatch):
    _, a, _ = pair
    directory = back_up(a, tmp_path / "backup")
    with pytest.raises(BackupRefused, match="backup exists already"):
        back_up(a, directory)
    (tmp_path / "half.unfinished").mkdir()
    with pytest.raises(BackupRefused, match=r"half\.unfinished is left from a backup that was cut off"):
        back_up(a, tmp_path / "half")
    with pytest.raises(StoreFailed, match="No such file or directory"):
        back_up(a, tmp_path / "nowhere" / "backup")
    with pytest.raises(StoreFailed, match="but no ledger"):
        backup.create(LEDGER, a.path, tmp_path / "other", NOW)
    assert not (tmp_path / "other.unfinished").exists()
    assert not (tmp_path / "other").exists()


def test_every_flipped_bit_is_found(pair, tmp_path):
    directory = back_up(pair[1], tmp_path / "backup")
    path = directory / "node.db"
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreFailed, match=r"node\.db is damaged: it is not what was written"):
            backup.verify(directory)
    path.write_bytes(whole[:-1])
    with pytest.raises(StoreFailed, match="is damaged"):
        backup.verify(directory)
    path.write_bytes(whole)
    backup.verify(directory)
    path.unlink()
    with pytest.raises(StoreFailed, match=r"node\.db cannot be read: No such file"):
        backup.verify(directory)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE batches SET memos = x'90'", r"row \d+ of batches is damaged"),
        ("UPDATE halves SET hot = zeroblob(257)", r"row 1 of halves is damaged"),
        ("UPDATE states SET cold = setup", r"row 1 of states is damaged"),
        ("UPDATE meta SET value = 7", r"of meta is damaged"),
        ("UPDATE identity SET node_id = ledger_id", "names another owner"),
        ("PRAGMA user_version = 1", "has schema version 1|no such"),
    ],
)
def test_what_was_damaged_before_the_copy_is_found(pair, tmp_path, sql, message):
    directory = back_up(pair[1], tmp_path / "backup")
    change(directory, sql)
    with pytest.raises(StoreFailed, match=message):
        backup.verify(directory)


def test_every_checksum_of_a_nodes_store_is_looked_at(tmp_path):
    create_node_store(tmp_path / "node.db", bytes([1]) * 32, bytes([2]) * 32)
    connection = apsw.Connection(str(tmp_path / "node.db"))
    found = connection.execute(
        "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c "
        "WHERE t.type = 'table' AND c.name GLOB '*sum'"
    ).fetchall()
    connection.close()
    looked_at = {table for table, _, _ in scrub._LISTED} | {"channels", "states", "halves", "batches"}
    assert {table for table, _ in found} == looked_at
    assert len(found) == len(looked_at) + 2  # states and batches have two


def test_a_broken_index_is_found(pair, tmp_path):
    directory = back_up(pair[1], tmp_path / "backup")
    change(
        directory,
        "PRAGMA writable_schema = 1; "
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = 'batches_by_id_time') "
        "WHERE name = 'batches_by_number'",
    )
    with pytest.raises(StoreFailed, match="is damaged"):
        backup.verify(directory)


def test_an_answer_that_was_damaged_is_found(books, tmp_path):
    writer = apsw.Connection(str(books))
    writer.execute(
        "INSERT INTO outcome (key, request_id, request_hash, valid_until, body, sum)"
        " VALUES (zeroblob(32), zeroblob(16), zeroblob(32), 1, x'00', 7)"
    )
    writer.close()
    with pytest.raises(StoreFailed, match=r"row 0+ of outcome is damaged"):
        backup.create(LEDGER, books, tmp_path / "backup", NOW)


def test_books_that_do_not_balance_are_found(books, tmp_path):
    backup.create(LEDGER, books, tmp_path / "backup", NOW)
    assert backup.verify(tmp_path / "backup").kind == LEDGER
    total = checksum(bytes(16), "USD", 6, bytes(32), 5)
    change(tmp_path / "backup", f"INSERT INTO asset VALUES (1, zeroblob(16), 'USD', 6, zeroblob(32), 5, {total})")
    with pytest.raises(StoreFailed, match="the books do not balance"):
        backup.verify(tmp_path / "backup")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged; use another backup"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"format": 2}', "is of a newer format: use a newer channelpay"),
        ("x" * 5000, "is damaged"),
    ],
)
def test_a_manifest_that_is_none_is_refused(pair, tmp_path, text, message):
    directory = back_up(pair[1], tmp_path / "backup")
    (directory / backup.MANIFEST).write_text(text)
    with pytest.raises(StoreFailed, match=message):
        backup.verify(directory)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("kind", "purse", "is damaged"), ("size", "1", "is damaged"), ("owner", "xy", "is damaged"),
     ("version", 99, "has version 99, this program knows .*: use a newer channelpay")],
)  # fmt: skip
def test_a_manifest_that_says_what_cannot_be_is_refused(pair, tmp_path, name, value, message):
    directory = back_up(pair[1], tmp_path / "backup")
    path = directory / backup.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(StoreFailed, match=message):
        backup.verify(directory)


def test_what_is_no_backup_is_named(tmp_path):
    with pytest.raises(StoreFailed, match=r"is no backup: backup\.json cannot be read"):
        backup.verify(tmp_path)


# --- Putting back ------------------------------------------------------------------------------


def test_a_store_is_not_overwritten_unasked_and_is_kept_when_it_is(pair, tmp_path):
    world, a, _ = pair
    directory = back_up(a, tmp_path / "backup")
    a.pay(5)
    world.settle()
    a.crash()
    with pytest.raises(BackupRefused, match=r"node1\.db exists; --replace puts"):
        put_back(a, directory, replace=False)
    kept = put_back(a, directory)
    assert kept is not None
    store = NodeStore(kept, a.id, world.ledger.ledger.ledger_id)
    (newest,) = store.channels(a.keys)
    store.close()
    assert newest.own.n == 3
    store = NodeStore(a.path, a.id, world.ledger.ledger.ledger_id)
    (older,) = store.channels(a.keys)
    assert older.own.n == 2
    assert store.restored_until() == RESTORED
    store.close()
    assert stat.S_IMODE(a.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir() if "restoring" in path.name] == []


def test_a_backup_has_its_name_when_all_of_it_is_on_disk(books, tmp_path, monkeypatch):
    seen = durable.watch(monkeypatch, tmp_path)
    backup.create(LEDGER, books, tmp_path / "backup", NOW)
    assert seen == [
        "mkdir backup.unfinished",
        "sync backup.unfinished/ledger.db",
        "sync backup.unfinished/backup.json",
        "sync backup.unfinished: backup.json ledger.db",
        "rename backup.unfinished backup",
        "sync .: backup ledger.db ledger.db-shm ledger.db-wal ledger.db.lock",
    ]


def test_nothing_of_the_store_before_is_left_when_the_backup_has_its_name(books, tmp_path, monkeypatch):
    backup.create(LEDGER, books, tmp_path / "backup", NOW)
    seen = durable.watch(monkeypatch, tmp_path)
    backup.restore(tmp_path / "backup", LEDGER, books, bytes([9]) * 32, bytes([9]) * 32, NOW + 1, replace=True)
    aside = f"ledger.db.replaced-{NOW + 1}"
    assert seen == [
        "sync ledger.db.restoring",
        "sync .: backup ledger.db ledger.db-shm ledger.db-wal ledger.db.lock ledger.db.restoring",
        f"rename ledger.db {aside}",
        f"rename ledger.db-wal {aside}-wal",
        f"rename ledger.db-shm {aside}-shm",
        f"sync .: backup ledger.db.lock {aside} {aside}-shm {aside}-wal ledger.db.restoring",
        "rename ledger.db.restoring ledger.db",
        f"sync .: backup ledger.db ledger.db.lock {aside} {aside}-shm {aside}-wal",
    ]


def test_a_store_in_use_by_another_process_is_refused(pair, tmp_path):
    _, a, _ = pair
    directory = back_up(a, tmp_path / "backup")
    a.crash()
    program = (
        "import sys; from pathlib import Path\n"
        "from channelpay.store.files import lock_store\n"
        "lock_store(Path(sys.argv[1]), 'node'); print('locked', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(a.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(StoreFailed, match=rf"used by process {holder.pid}; only one may use it"):
            put_back(a, directory)
        holder.communicate()
    put_back(a, directory)


def test_the_backup_of_another_is_refused(pair, tmp_path):
    _, a, b = pair
    directory = back_up(a, tmp_path / "backup")
    b.crash()
    with pytest.raises(BackupRefused, match="not of this home, whose seed and configuration name node"):
        put_back(b, directory)
    with pytest.raises(BackupRefused, match="not of this home"):
        backup.restore(directory, LEDGER, b.path, a.id, a.id, NOW, replace=True)


def test_a_restore_that_was_cut_off_makes_no_empty_store_and_is_done_again(pair, tmp_path, monkeypatch):
    world, a, _ = pair
    directory = back_up(a, tmp_path / "backup")
    a.crash()

    def cut_off(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    a.path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", cut_off)
        with pytest.raises(KeyboardInterrupt):
            put_back(a, directory)
    with pytest.raises(StoreFailed, match="putting a backup in its place was cut off; do it again"):
        create_node_store(a.path, a.id, world.ledger.ledger.ledger_id)
    put_back(a, directory)
    a.restart()
    assert a.channel().own.n == 2


def test_a_ledgers_books_are_put_back(books, tmp_path):
    ledger_id = bytes([9]) * 32
    backup.create(LEDGER, books, tmp_path / "backup", NOW)
    books.unlink()
    assert backup.restore(tmp_path / "backup", LEDGER, books, ledger_id, ledger_id, NOW, replace=False) is None
    store = LedgerStore.open(books, ledger_id)
    assert store.books.clock() == NOW
    store.close()


# --- An old copy lives again (rule D6) ---------------------------------------------------------


def roll_back(node: NodeWorld, directory: Path) -> None:
    node.crash()
    put_back(node, directory)
    node.restart()


@pytest.mark.parametrize("who", ["payer", "payee"])
def test_an_old_copy_gets_back_what_it_lacks_and_waits_before_it_pays(pair, tmp_path, who):
    world, a, b = pair
    node, other = (a, b) if who == "payer" else (b, a)
    directory = back_up(node, tmp_path / "backup")
    a.pay(1000, 2000)
    b.pay(40)
    world.settle()
    roll_back(node, directory)
    world.connect(node, other)
    world.pass_time(5)
    for one in (a, b):
        assert (one.channel().own.n, one.channel().peer.n) == ((4, 2) if one is a else (2, 4))
        assert one.channel().resolved
    assert [amount for _, amount in b.journal()] == [100, 20, 1000, 2000]
    assert [amount for _, amount in a.journal()] == [7, 40]
    with pytest.raises(LocalError) as refused:
        node.pay(1)
    assert refused.value.reason is Reason.STALLED
    node.node.close(node.channel().channel_id, False, world.clock)
    world.settle()
    assert world.ledger.balance(b.keys.account.public) == 3120 - 47
    assert world.ledger.balance(a.keys.account.public) == 10_000_000 - 3120 + 47


def test_an_old_copy_does_not_close_alone_before_it_heard_the_peer(pair, tmp_path):
    world, a, b = pair
    directory = back_up(b, tmp_path / "backup")
    a.pay(1000)
    world.settle()
    roll_back(b, directory)
    world.settle()
    with pytest.raises(LocalError, match="came from a backup"):
        b.node.close(b.channel().channel_id, True, world.clock)
    world.connect(a, b)
    world.settle()
    b.node.close(b.channel().channel_id, True, world.clock)
    world.pass_time(70)
    assert b.channel().phase is Phase.SETTLED
    assert world.ledger.balance(b.keys.account.public) == 1120 - 7


def test_an_old_copy_whose_peer_stays_away_may_close_alone_and_is_corrected(pair, tmp_path):
    world, a, b = pair
    directory = back_up(b, tmp_path / "backup")
    a.pay(1000)
    world.settle()
    roll_back(b, directory)
    world.pass_time(CLAIM_WAIT_S + 1, step=10)
    b.node.close(b.channel().channel_id, True, world.clock)
    world.pass_time(70)  # a reads the ledger and answers with what b acknowledged
    assert b.channel().phase is Phase.SETTLED
    assert world.ledger.balance(b.keys.account.public) == 1120 - 7
