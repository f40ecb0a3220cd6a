"""The file of one ledger: a connection that writes, and one that reads beside it. Spec L-9."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from channelpay.errors import StoreFailed
from channelpay.store.ledger_batch import BatchBooks
from channelpay.store.ledger_books import SqlReadBooks
from channelpay.store.ledger_check import check_whole
from channelpay.store.ledger_schema import SCHEMA, SUMMED
from channelpay.store.rows import checksum
from channelpay.store.sqlite import Database, open_database, open_reader

_T = TypeVar("_T")

_CACHE_KIB: Final = 32 * 1024
"""Pages that the writer keeps: a transaction touches many, spread over the keys of accounts and requests."""

_CHECKPOINT_PAGES: Final = 4000
"""Pages in the log before they are copied to the file: those that many transactions touch are copied once."""


class LedgerStore:
    """`books` are read beside the writer; `batch` gathers what the next transaction changes; `commit` ends it.

    `batch` and `commit` are used by one thread at a time. Raises StoreFailed from every method when the file cannot
    do it.
    """

    def __init__(self, database: Database) -> None:
        self.commits = 0
        """Transactions that are on disk."""
        self._database = database
        database.run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self._reading = database.reader()
        self.batch = BatchBooks(database)
        self.books = SqlReadBooks(self._reading)

    @classmethod
    def create(cls, path: Path, ledger_id: bytes, now: int, *, vfs: str | None = None) -> LedgerStore:
        """A new, empty ledger in a file that must not exist; its clock begins at `now`."""

        def fill(database: Database) -> None:
            own = (ledger_id, now, 0)
            database.run(
                f"INSERT INTO ledger (one, {SUMMED['ledger']}, sum) VALUES (1, ?, ?, ?, ?)", (*own, checksum(*own))
            )

        return cls(open_database(path, SCHEMA, create=fill, vfs=vfs))

    @classmethod
    def open(cls, path: Path, ledger_id: bytes, *, vfs: str | None = None) -> LedgerStore:
        """The ledger in `path`, which must be the one named `ledger_id`, and undamaged (spec L-51)."""
        database = open_database(path, SCHEMA, vfs=vfs)
        try:
            if SqlReadBooks(database).ledger_id() != ledger_id:
                raise StoreFailed(f"{path} holds the books of another ledger than this seed's")
            check_whole(database)
            return cls(database)
        except BaseException:
            database.close()
            raise

    def commit(self, work: Callable[[BatchBooks], _T]) -> tuple[_T, frozenset[bytes]]:
        """Do `work` after what `batch` has gathered, and end the transaction.

        Its result, and the accounts that the transaction concerns, once all is on disk.
        """
        self.batch.begin()
        try:
            with self.batch.transaction:
                result = work(self.batch)
                self.batch.flush()
                touched = frozenset(self.batch.touched)
        except BaseException:
            self.batch.forget()
            raise
        self.batch.committed()
        self.commits += 1
        return result, touched

    def close(self) -> None:
        """Close the file."""
        self._reading.close()
        self._database.close()


def open_books(path: Path) -> SqlReadBooks:
    """A ledger's books for reading, beside the daemon that may be running; raises StoreFailed."""
    return SqlReadBooks(open_reader(path, SCHEMA))
