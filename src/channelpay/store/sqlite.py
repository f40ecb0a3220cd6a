"""One SQLite file, opened so that a commit is a promise. Spec L-9, N-8.

WAL with `synchronous=FULL`: a commit that returned is on disk, readers do not wait for the writer.
One process writes a file; a second is refused by name. Whatever SQLite cannot do (full disk, failed
fsync, corrupt file) becomes StoreFailed, after which the database refuses everything: nothing goes on
as if it had been written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from channelpay.errors import StoreFailed
from channelpay.store.files import (
    being_created,
    being_restored,
    last_opened,
    lock_store,
    put_in_place,
    sync,
    touch,
)

Row = tuple[Any, ...]
Parameters = Sequence[Any]

_BUSY_TIMEOUT_MS: Final = 10_000
"""Other processes only read or check the file; none holds a lock longer than a checkpoint."""

_READERS_TIMEOUT_MS: Final = 2_000
"""How long whoever opens a store waits for those who only look into it: a copy gives way, an answer is soon read."""

_PAGES_AT_ONCE: Final = 1024
"""4 MiB: a copy gives way after each, to whoever opens the file."""

_STATEMENTS: Final = 256
"""Prepared statements kept for each connection: more than any store has."""

_EXPLAINED: Final[tuple[tuple[type[apsw.Error], str], ...]] = (
    (apsw.FullError, "the disk is full; make room and start again"),
    (apsw.IOError, "reading or writing failed; check the disk before starting again"),
    (apsw.CorruptError, "the file is damaged; restore a backup"),
    (apsw.NotADBError, "this is no SQLite file"),
    (apsw.ReadOnlyError, "the file cannot be written; check its permissions"),
    (apsw.CantOpenError, "the file cannot be opened; check that its directory exists and may be written"),
    (apsw.PermissionsError, "access is denied; check the permissions"),
    (apsw.BusyError, "another program has locked the file"),
    (apsw.ConstraintError, "a check of the schema failed: the books would contradict themselves"),
)


_READ_ERRORS: Final = (apsw.Error, UnicodeDecodeError)
"""A flipped bit may make text of bytes, which apsw then decodes."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a file must be: `application_id` marks its kind, `migrations[i]` leads from version i to i + 1.

    A migration is SQL, or a function for what SQL alone cannot do.
    """

    name: str
    application_id: int
    migrations: tuple[str | Callable[[Database], None], ...]

    @property
    def version(self) -> int:
        """The version that this program writes."""
        return len(self.migrations)


class Database:
    """One connection to one file; made by `open_database` or `reader`.

    Statements are prepared once and kept. A Database is used by one thread at a time. Every method
    raises StoreFailed when SQLite fails, and after a failed write always.
    """

    def __init__(self, path: Path, connection: apsw.Connection, lock: int | None = None) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock
        self._failed: str | None = None

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Row]:
        """All rows of a statement."""
        self._check()
        try:
            return self._connection.execute(sql, parameters).fetchall()
        except _READ_ERRORS as error:
            raise self._fail(error) from error

    def row(self, sql: str, parameters: Parameters = ()) -> Row | None:
        """The first row of a statement, or None."""
        self._check()
        try:
            # Exhausted, so that no statement keeps a read transaction open.
            found = self._connection.execute(sql, parameters).fetchall()
        except _READ_ERRORS as error:
            raise self._fail(error) from error
        return found[0] if found else None

    def stream(self, sql: str, parameters: Parameters = ()) -> Generator[Row, None, None]:
        """The rows of a statement one by one, for tables that do not fit in memory. Close it if you stop early."""
        self._check()
        try:
            yield from self._connection.execute(sql, parameters)
        except _READ_ERRORS as error:
            raise self._fail(error) from error

    def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Execute a statement; how many rows it changed."""
        self._check()
        try:
            self._connection.execute(sql, parameters).fetchall()
            return self._connection.changes()
        except apsw.Error as error:
            raise self._fail(error) from error

    def run_many(self, sql: str, parameters: Iterable[Parameters]) -> None:
        """Execute a statement once for each of the parameters."""
        self._check()
        try:
            self._connection.executemany(sql, parameters).fetchall()
        except apsw.Error as error:
            raise self._fail(error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction: durable when the block has ended, undone when an exception leaves it."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._undo("ROLLBACK")
            raise
        try:
            self.run("COMMIT")
        except StoreFailed:
            self._undo("ROLLBACK")
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Reads inside see one moment of the file, whatever is committed meanwhile."""
        self.run("BEGIN")
        try:
            self.row("SELECT 1 FROM sqlite_schema")  # the first read fixes the moment
            yield
        finally:
            self._undo("COMMIT")

    def reader(self) -> Database:
        """A second connection to the same file that can only read; it does not wait for the writer."""
        return open_reader(self.path, vfs=self._connection.open_vfs or None)

    def copy_to(self, path: Path) -> None:
        """The file as it is at one moment, whole in itself, as a new file with mode 0600; others go on writing.

        Raises StoreFailed, also when a process opens the file for writing meanwhile: a daemon does not wait for a copy.
        """
        if path.exists():
            raise StoreFailed(f"{path} exists already")
        touch(path)
        opened = last_opened(self.path)
        try:
            with self.snapshot(), closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as copy:
                with copy.backup("main", self._connection, "main") as backup:
                    while not backup.step(_PAGES_AT_ONCE):
                        if last_opened(self.path) != opened:
                            raise StoreFailed(f"{self.path} was opened by another process meanwhile: copy it again")
                copy.execute("PRAGMA journal_mode = DELETE")  # no log beside it that could be left behind
        except apsw.Error as error:
            raise _failure(path, error) from error
        sync(path)

    def check_structure(self, table: str | None = None) -> None:
        """Raises StoreFailed unless SQLite finds the file, or one table, sound and every index what its table says."""
        found = self.rows(f"PRAGMA integrity_check({table or 1})")
        if found != [("ok",)]:
            raise damaged(self.path, str(found[0][0]))

    def close(self) -> None:
        """Close the file and let another process have it. Harmless a second time."""
        try:
            self._connection.close()
        except apsw.Error as error:
            raise self._fail(error) from error
        finally:
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _undo(self, sql: str) -> None:
        # After a failed write SQLite may have rolled back by itself; the database is then refused anyway.
        with suppress(apsw.Error):
            self._connection.execute(sql)

    def _check(self) -> None:
        if self._failed is not None:
            raise StoreFailed(self._failed)

    def _fail(self, error: apsw.Error | UnicodeDecodeError) -> StoreFailed:
        failure = _failure(self.path, error)
        self._failed = str(failure)
        return failure


def open_database(
    path: Path, schema: Schema, *, create: Callable[[Database], None] | None = None, vfs: str | None = None
) -> Database:
    """Open `path` for writing, alone, at the newest version of `schema`.

    `create` makes a new database and fills in its first rows: under another name, so that after a power
    cut at any moment there is all of it or none; without it there must be one. `vfs` names an apsw VFS.
    Raises StoreFailed: used by another process, missing or existing, of another kind, newer than this
    program, or not readable and writable.
    """
    if create is None and not path.exists():
        raise StoreFailed(f"{path} does not exist; create the {schema.name} first")
    if create is not None:
        _begin_to_create(path, schema)
    with ExitStack() as undo:
        lock = lock_store(path, schema.name)
        undo.callback(os.close, lock)
        if create is not None:
            _create(path, schema, create, vfs)
        connection = _connect(path, apsw.SQLITE_OPEN_READWRITE, vfs)
        undo.callback(_close_quietly, connection)
        database = Database(path, connection, lock)
        _prepare(database, schema)
        undo.pop_all()
    return database


def _begin_to_create(path: Path, schema: Schema) -> None:
    """Refuse what must not be made; else leave a sign that it is being made, before the lock says that it was."""
    if path.exists():
        raise StoreFailed(f"{path} exists already; a {schema.name} is created once")
    if being_restored(path).exists():
        raise StoreFailed(f"{path} is missing: putting a backup in its place was cut off; do it again")
    touch(being_created(path))
    sync(path.parent)


def _create(path: Path, schema: Schema, create: Callable[[Database], None], vfs: str | None) -> None:
    """A new database at `path`, which is held alone: complete and on disk before it has its name."""
    if path.exists():
        raise StoreFailed(f"{path} exists already; a {schema.name} is created once")
    fresh = being_created(path)
    with closing(_connect(fresh, apsw.SQLITE_OPEN_READWRITE, vfs)) as connection:
        database = Database(fresh, connection)
        try:
            _empty(connection)
        except apsw.Error as error:
            raise _failure(fresh, error) from error
        _migrate(database, schema, 0, create)
    sync(fresh)
    put_in_place(fresh, path)


def _empty(connection: apsw.Connection) -> None:
    """Nothing is left of a creation that was cut off."""
    connection.config(apsw.SQLITE_DBCONFIG_RESET_DATABASE, 1)
    connection.execute("VACUUM").fetchall()
    connection.config(apsw.SQLITE_DBCONFIG_RESET_DATABASE, 0)


def _close_quietly(connection: apsw.Connection) -> None:
    """Why the file cannot be opened is known already; that its last close failed too says nothing more."""
    with suppress(apsw.Error):
        connection.close()


def open_reader(path: Path, schema: Schema | None = None, *, vfs: str | None = None) -> Database:
    """Open `path` for reading beside whoever writes it; raises StoreFailed."""
    if not path.exists():
        raise StoreFailed(f"{path} does not exist")
    database = Database(path, _connect(path, apsw.SQLITE_OPEN_READONLY, vfs))
    if schema is not None:
        try:
            _check_kind(database, schema)
            if (version := _pragma(database, "user_version")) != schema.version:
                raise StoreFailed(f"{path} has schema version {version}, this program reads {schema.version}")
        except StoreFailed:
            database.close()
            raise
    return database


def _connect(path: Path, flags: int, vfs: str | None) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path), flags=flags, vfs=vfs, statementcachesize=_STATEMENTS)
        connection.set_busy_timeout(_BUSY_TIMEOUT_MS)
        connection.execute("PRAGMA foreign_keys = ON")
    except apsw.Error as error:
        raise _failure(path, error) from error
    return connection


def _prepare(database: Database, schema: Schema) -> None:
    _check_kind(database, schema)
    version = _pragma(database, "user_version")
    if not version:
        raise StoreFailed(f"{database.path} is empty, as a {schema.name} never is; restore a backup")
    if version > schema.version:
        raise StoreFailed(
            f"{database.path} has schema version {version}, this program knows {schema.version}: use a newer channelpay"
        )
    mode = database.row("PRAGMA journal_mode = WAL")
    if mode != ("wal",):
        raise StoreFailed(f"{database.path}: this file system cannot do WAL (got {mode})")
    database.run("PRAGMA synchronous = FULL")
    _write_log_anew(database, version)
    if version < schema.version:
        _migrate(database, schema, version)


def _write_log_anew(database: Database, version: int) -> None:
    """Copy the log into the file and begin a new one, all of it synced: what is believed from now on is on disk.

    After a failed fsync the system shows pages of the log that it never wrote and takes for written. A process that
    starts on them would promise what a power cut takes away; and what the disk has of the old log would then be laid
    over the newer file, unless the first commit of a new log is there.
    """
    database.run(f"PRAGMA busy_timeout = {_READERS_TIMEOUT_MS}")
    (busy, *_), *_ = database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    if busy:
        raise StoreFailed(f"{database.path}: another program still reads it; end that, or start again when it is done")
    database.run(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    database.run(f"PRAGMA user_version = {version}")


def _migrate(database: Database, schema: Schema, version: int, fill: Callable[[Database], None] | None = None) -> None:
    """From `version` to the newest, in one transaction; `fill` writes the first rows of a new database."""
    with database.transaction():
        for migration in schema.migrations[version:]:
            if callable(migration):
                migration(database)
            else:
                database.run(migration)
        if fill is not None:
            fill(database)
        database.run(f"PRAGMA application_id = {schema.application_id}")
        database.run(f"PRAGMA user_version = {schema.version}")


def _check_kind(database: Database, schema: Schema) -> None:
    kind = _pragma(database, "application_id")
    fresh = kind == 0 and _pragma(database, "user_version") == 0 and not database.rows("SELECT 1 FROM sqlite_schema")
    if kind != schema.application_id and not fresh:
        raise StoreFailed(f"{database.path} is an SQLite file, but no {schema.name}")


def _pragma(database: Database, name: str) -> int:
    row = database.row(f"PRAGMA {name}")
    return int(row[0]) if row else 0


def damaged(path: Path, what: str) -> StoreFailed:
    """What to raise when a file is not what it was when it was written."""
    return StoreFailed(f"{path} is damaged: {what}; check the disk and restore a backup (channelpay backup restore)")


def _failure(path: Path, error: apsw.Error | UnicodeDecodeError) -> StoreFailed:
    if isinstance(error, UnicodeDecodeError):
        return damaged(path, f"a row has text that is none ({error})")
    for kind, explanation in _EXPLAINED:
        if isinstance(error, kind):
            return StoreFailed(f"{path}: {explanation} ({error})")
    return StoreFailed(f"{path}: {type(error).__name__}: {error}")
