"""The simulated disk keeps what was synced, and of the rest what luck has written."""

from __future__ import annotations

import random

import apsw
import pytest
from simulation.damage import Flip
from simulation.disk import VFS_NAME, Disk, Loss, mount, unmount


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path / "disk", random.Random(1), lambda event: None)
    mount(disk)
    yield disk
    unmount(disk)


def opened(disk: Disk) -> apsw.Connection:
    connection = apsw.Connection(str(disk.directory / "x.db"), vfs=VFS_NAME)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def coins(disk: Disk) -> list[int]:
    connection = opened(disk)
    try:
        return [row[0] for row in connection.execute("SELECT units FROM coin ORDER BY rowid")]
    finally:
        connection.close()


def filled(disk: Disk) -> apsw.Connection:
    connection = opened(disk)
    connection.execute("CREATE TABLE coin (units INTEGER)")
    connection.execute("INSERT INTO coin VALUES (1)")
    return connection


@pytest.mark.parametrize("loss", Loss)
def test_a_commit_that_returned_is_there_after_a_crash_and_what_came_after_the_crash_is_not(disk, loss):
    connection = filled(disk)
    disk.freeze(loss)
    connection.execute("INSERT INTO coin VALUES (2)")  # a dead process goes on for nothing
    connection.close()
    disk.thaw()
    assert coins(disk) == [1]


def test_without_a_sync_a_power_cut_takes_a_commit_away(disk):
    connection = filled(disk)
    connection.execute("PRAGMA synchronous = OFF")
    kept = set()
    for _ in range(30):
        connection.execute("INSERT INTO coin VALUES (2)")
        disk.freeze(Loss.POWER)
        connection.close()
        disk.thaw()
        kept.add(len(coins(disk)))
        disk.put({})
        connection = filled(disk)
        connection.execute("PRAGMA synchronous = OFF")
    connection.close()
    assert kept == {1, 2}  # sometimes luck has written it
    assert {"unsynced writes lost", "torn write"} <= set(disk.faults)


def test_after_a_failed_sync_a_second_one_writes_nothing(disk):
    connection = filled(disk)
    disk.sync_fails = True
    with pytest.raises(apsw.IOError):
        connection.execute("INSERT INTO coin VALUES (2)")
    assert disk.faults == ["sync error"]
    disk.freeze(Loss.POWER)
    connection.close()
    disk.thaw()
    assert coins(disk) == [1]


def test_a_full_disk_takes_so_many_writes_and_no_more(disk):
    connection = filled(disk)
    disk.full_after = 1
    with pytest.raises(apsw.FullError):
        connection.execute("INSERT INTO coin VALUES (2)")
    disk.freeze(Loss.KILLED)
    connection.close()
    assert disk.faults[:1] == ["disk full"]


def test_a_copy_is_what_was_durable(disk):
    connection = filled(disk)
    copy = disk.content()
    connection.execute("INSERT INTO coin VALUES (2)")
    connection.close()
    disk.put(copy)
    assert coins(disk) == [1]


def test_damage_is_undone_where_it_stands_now():
    flip = Flip(None, b"abXcd", 2, 0x01)
    content = {"x": bytearray(b"..abXcd.."), "y": bytearray(b"abXcd")}
    flip.undo(content)
    assert content == {"x": bytearray(b"..abYcd.."), "y": bytearray(b"abYcd")}
