"""Opening a file safely, transactions, and what happens when the disk does not play along."""

from __future__ import annotations

import subprocess
import sys

import apsw
import pytest

import durable
from channelpay.errors import StoreFailed
from channelpay.store import sqlite
from channelpay.store.sqlite import Schema, open_database, open_reader

SCHEMA = Schema("till", 0x74696C6C, ("CREATE TABLE coin (units INTEGER NOT NULL CHECK (units > 0)) STRICT;",))


def _fill(database):
    database.run("INSERT INTO coin VALUES (1)")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "till.db"


@pytest.fixture
def database(path):
    database = open_database(path, SCHEMA, create=_fill)
    yield database
    database.close()


def _coins(database):
    return [units for (units,) in database.rows("SELECT units FROM coin ORDER BY units")]


# --- Opening -------------------------------------------------------------------------------


def test_a_commit_is_a_promise(database):
    assert database.row("PRAGMA journal_mode") == ("wal",)
    assert database.row("PRAGMA synchronous") == (2,)  # FULL
    assert database.row("PRAGMA foreign_keys") == (1,)


def test_the_file_belongs_to_its_owner_alone(database, path):
    database.run("INSERT INTO coin VALUES (7)")  # the log is made by the first write
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("till.db-wal").stat().st_mode & 0o777 == 0o600


def test_what_was_created_can_be_opened_again(database, path):
    database.close()
    again = open_database(path, SCHEMA)
    assert _coins(again) == [1]
    again.close()


def test_a_new_file_has_its_name_when_all_of_it_is_on_disk(path, tmp_path, monkeypatch):
    seen = durable.watch(monkeypatch, tmp_path)
    open_database(path, SCHEMA, create=_fill).close()
    assert seen == [
        "sync .: till.db.creating",
        "sync till.db.creating",
        "rename till.db.creating till.db",
        "sync .: till.db till.db.lock",
    ]


def test_a_second_user_is_refused_by_name(database, path):
    with pytest.raises(StoreFailed, match=r"this till is used by process \d+; only one may use it"):
        open_database(path, SCHEMA)


def test_a_second_process_is_refused_and_told_who_has_it(database, path):
    program = (
        "import sys; from pathlib import Path\n"
        "from channelpay.store.sqlite import Schema, open_database\n"
        "try: open_database(Path(sys.argv[1]), Schema('till', 0x74696C6C, ('',)))\n"
        "except Exception as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    holder = path.with_name("till.db.lock").read_text().strip()
    assert f"used by process {holder};" in said.stdout


def test_a_killed_process_leaves_no_lock(path):
    open_database(path, SCHEMA, create=_fill).close()
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from channelpay.store.sqlite import Schema, open_database\n"
        "open_database(Path(sys.argv[1]), Schema('till', 0x74696C6C, ('',)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    open_database(path, SCHEMA).close()


def test_closing_twice_is_harmless(database):
    database.close()
    database.close()


@pytest.mark.parametrize("create", [None, _fill])
def test_a_missing_directory_is_named(tmp_path, create):
    with pytest.raises(StoreFailed, match="nowhere"):
        open_database(tmp_path / "nowhere" / "till.db", SCHEMA, create=create)


def test_missing_existing_and_empty_files_are_told_apart(path, database):
    with pytest.raises(StoreFailed, match="does not exist; create the till first"):
        open_database(path.with_name("other.db"), SCHEMA)
    database.close()
    with pytest.raises(StoreFailed, match="exists already; a till is created once"):
        open_database(path, SCHEMA, create=_fill)
    path.with_name("empty.db").touch()
    with pytest.raises(StoreFailed, match=r"empty.db is empty, as a till never is; restore a backup"):
        open_database(path.with_name("empty.db"), SCHEMA)


def test_a_creation_that_failed_can_be_repeated(path):
    def fail(database):
        raise RuntimeError("no power")

    with pytest.raises(RuntimeError, match="no power"):
        open_database(path, SCHEMA, create=fail)
    again = open_database(path, SCHEMA, create=_fill)
    assert _coins(again) == [1]
    again.close()


def test_a_creation_that_was_cut_off_leaves_no_file_of_that_name(path, monkeypatch):
    def power_cut(fresh, path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "put_in_place", power_cut)
        with pytest.raises(KeyboardInterrupt):
            open_database(path, SCHEMA, create=_fill)
    assert not path.exists()
    (left,) = path.parent.glob("*.creating")
    left.write_bytes(left.read_bytes()[:-100] + bytes(100))  # not even whole
    again = open_database(path, SCHEMA, create=_fill)
    assert _coins(again) == [1]
    again.close()
    assert [file.name for file in path.parent.glob(f"{path.name}*")] == [path.name, f"{path.name}.lock"]


def test_a_copy_gives_way_to_whoever_opens_the_file(database, path, tmp_path, monkeypatch):
    database.run_many("INSERT INTO coin VALUES (?)", [(7,)] * 5000)  # stands in the log, which the copy holds back
    program = (
        "import sys; from pathlib import Path\n"
        "from channelpay.store import sqlite\n"
        "connect = sqlite._connect\n"
        "def tell(*arguments): print('locked', flush=True); return connect(*arguments)\n"
        "sqlite._connect = tell\n"
        "schema = sqlite.Schema('till', 0x74696C6C, ('',))\n"
        "print(sqlite.open_database(Path(sys.argv[1]), schema).row('SELECT count() FROM coin'), flush=True)\n"
    )
    last_opened, looked, openers = sqlite.last_opened, [], []

    def look(file):
        looked.append(file)
        if len(looked) == 2:  # the first page has been copied
            database.close()
            openers.append(subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True))
            assert openers[0].stdout.readline() == "locked\n"
        return last_opened(file)

    monkeypatch.setattr(sqlite, "last_opened", look)
    monkeypatch.setattr(sqlite, "_PAGES_AT_ONCE", 1)
    reader = open_reader(path)
    with pytest.raises(StoreFailed, match=r"opened by another process.*copy it again"):
        reader.copy_to(tmp_path / "copy")
    assert len(looked) == 2
    with openers[0] as opener:
        assert opener.communicate() == ("(5001,)\n", None)
    assert opener.returncode == 0
    reader.close()


def test_a_log_that_another_program_holds_back_is_not_believed(database, path, monkeypatch):
    monkeypatch.setattr(sqlite, "_READERS_TIMEOUT_MS", 1)
    reader = database.reader()
    with reader.snapshot():
        with database.transaction():
            database.run("INSERT INTO coin VALUES (7)")
        database.close()
        with pytest.raises(StoreFailed, match="another program still reads it"):
            open_database(path, SCHEMA)
    reader.close()
    open_database(path, SCHEMA).close()


def test_a_newer_file_is_refused_and_an_older_one_led_on(database, path):
    database.close()
    second = Schema("till", SCHEMA.application_id, (*SCHEMA.migrations, "INSERT INTO coin VALUES (2)"))
    newer = open_database(path, second)
    assert _coins(newer) == [1, 2]
    newer.close()
    with pytest.raises(StoreFailed, match="schema version 2, this program knows 1: use a newer channelpay"):
        open_database(path, SCHEMA)
    with pytest.raises(StoreFailed, match="schema version 2, this program reads 1"):
        open_reader(path, SCHEMA)


def test_files_of_another_kind_are_refused(path, database):
    database.close()
    with pytest.raises(StoreFailed, match="is an SQLite file, but no diary"):
        open_database(path, Schema("diary", 1, ("",)))
    path.with_name("text.db").write_bytes(b"Dear diary, " * 100)
    with pytest.raises(StoreFailed, match="this is no SQLite file"):
        open_database(path.with_name("text.db"), SCHEMA)


# --- Transactions --------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing(database):

    def fail():
        with database.transaction():
            database.run_many("INSERT INTO coin VALUES (?)", [(2,), (3,)])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert _coins(database) == [1]
    with database.transaction():
        assert database.run("INSERT INTO coin VALUES (4)") == 1
    assert _coins(database) == [1, 4]


def test_a_reader_sees_commits_only_and_a_snapshot_stands_still(database):
    reader = database.reader()
    with database.transaction():
        database.run("INSERT INTO coin VALUES (2)")
        assert _coins(reader) == [1]
    with reader.snapshot():
        assert _coins(reader) == [1, 2]
        with database.transaction():
            database.run("INSERT INTO coin VALUES (3)")
        assert _coins(reader) == [1, 2]
        assert list(reader.stream("SELECT COUNT(*) FROM coin")) == [(2,)]
    assert _coins(reader) == [1, 2, 3]
    with pytest.raises(StoreFailed, match="cannot be written"):
        reader.run("INSERT INTO coin VALUES (9)")
    reader.close()


# --- Failure -------------------------------------------------------------------------------


def test_a_full_disk_is_named_and_nothing_goes_on(database, path):
    database.run("PRAGMA max_page_count = 3")
    with pytest.raises(StoreFailed, match="the disk is full"), database.transaction():
        database.run_many("INSERT INTO coin VALUES (?)", ((n,) for n in range(1, 100_000)))
    with pytest.raises(StoreFailed, match="the disk is full"):
        database.rows("SELECT 1")
    database.close()
    again = open_database(path, SCHEMA)
    assert _coins(again) == [1]
    again.close()


def test_a_check_of_the_schema_that_fails_stops_the_database(database):
    with pytest.raises(StoreFailed, match="would contradict themselves"), database.transaction():
        database.run("INSERT INTO coin VALUES (0)")
    with pytest.raises(StoreFailed):
        database.row("SELECT 1")


def test_an_unknown_statement_is_an_error_of_the_store(database):
    with pytest.raises(StoreFailed, match="SQLError"):
        list(database.stream("SELECT nothing"))


class _FailingFile(apsw.VFSFile):
    def __init__(self, vfs, name, flags):
        super().__init__("", name, flags)
        self.disk = vfs

    def xSync(self, flags):
        if self.disk.broken:
            raise apsw.IOError("the disk says no")
        super().xSync(flags)


class _Disk(apsw.VFS):
    """The real disk until `broken` is set; then fsync fails."""

    def __init__(self):
        self.broken = False
        super().__init__("failing", "")

    def xOpen(self, name, flags):
        return _FailingFile(self, name, flags)


@pytest.fixture
def disk():
    disk = _Disk()
    yield disk
    disk.unregister()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_failing_fsync_stops_the_database(path, disk):
    database = open_database(path, SCHEMA, create=_fill, vfs="failing")
    disk.broken = True
    with pytest.raises(StoreFailed, match="reading or writing failed; check the disk"), database.transaction():
        database.run("INSERT INTO coin VALUES (2)")
    with pytest.raises(StoreFailed, match="reading or writing failed"):
        database.rows("SELECT units FROM coin")
    disk.broken = False
    with pytest.raises(StoreFailed, match="reading or writing failed"), database.transaction():
        database.run("INSERT INTO coin VALUES (3)")
    database.close()


def test_a_store_that_is_refused_is_refused_by_name_even_if_its_disk_fails_too(path, disk, tmp_path):
    database = open_database(path, SCHEMA, create=_fill, vfs="failing")
    database.run("PRAGMA user_version = 99")
    copy = tmp_path / "copy.db"
    for end in ("", "-wal"):  # as a crash leaves them: the last close has not moved the log into the file
        copy.with_name(copy.name + end).write_bytes(path.with_name(path.name + end).read_bytes())
    database.close()
    disk.broken = True
    with pytest.raises(StoreFailed, match="schema version 99"):
        open_database(copy, SCHEMA, vfs="failing")


@pytest.mark.parametrize("read", ["rows", "row", "stream"])
def test_bytes_that_damage_has_made_text_are_damage(database, path, read):
    with pytest.raises(StoreFailed, match=f"{path} is damaged"):
        list(getattr(database, read)("SELECT CAST(x'c8ff' AS TEXT)"))
    with pytest.raises(StoreFailed):  # and nothing is believed after it
        database.row("SELECT 1")
