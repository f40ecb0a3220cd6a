"""A failed fsync, and a start without one of the machine: what the store then shows is on disk. Spec N-8, N-30."""

from __future__ import annotations

import random

import pytest
from simulation.disk import VFS_NAME, Disk, Loss, mount, unmount

from channelpay.errors import StoreFailed
from channelpay.store.sqlite import Schema, open_database

TILL = Schema("till", 0x74696C6C, ("CREATE TABLE coin (units INTEGER)",))


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk", random.Random(1), lambda event: None)
    mount(disk)
    yield disk
    unmount(disk)


def coins(disk):
    database = open_database(disk.directory / "till.db", TILL, vfs=VFS_NAME)
    try:
        return [units for (units,) in database.rows("SELECT units FROM coin")]
    finally:
        disk.freeze(Loss.POWER)
        database.close()
        disk.thaw()


def fail_to_commit(disk):
    """A process whose commit fails at the disk and that then ends; the machine goes on with what it has in memory."""
    path = disk.directory / "till.db"
    open_database(path, TILL, create=lambda _: None).close()
    disk.put({path.name: path.read_bytes()})
    database = open_database(path, TILL, vfs=VFS_NAME)
    database.run("INSERT INTO coin VALUES (1)")
    disk.sync_fails = True
    with pytest.raises(StoreFailed, match="reading or writing failed"):
        database.run("INSERT INTO coin VALUES (2)")
    on_disk = disk.content()
    in_memory = {name: (disk.directory / name).read_bytes() for name in on_disk}
    database.close()
    disk.put(on_disk)
    for name, data in in_memory.items():
        (disk.directory / name).write_bytes(data)


def test_what_a_start_shows_after_a_failed_sync_outlives_the_power(disk):
    fail_to_commit(disk)
    shown = coins(disk)
    assert shown == [1, 2], "the log's pages are still in memory"
    assert coins(disk) == shown


def test_a_start_whose_sync_fails_again_is_none(disk):
    fail_to_commit(disk)
    disk.sync_fails = True
    with pytest.raises(StoreFailed, match=r"till\.db: reading or writing failed; check the disk"):
        coins(disk)
