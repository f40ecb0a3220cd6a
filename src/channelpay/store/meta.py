"""Single numbers that a node's store keeps by name."""

from __future__ import annotations

from channelpay.store.rows import check, checksum
from channelpay.store.sqlite import Database


class Meta:
    """Read once, written in the transaction of the caller. One that was never set is 0."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._values: dict[str, int] = {}
        for name, value, stored in database.rows("SELECT name, value, sum FROM meta"):
            check(database.path, "meta", (name, value), stored)
            self._values[name] = value

    def __getitem__(self, name: str) -> int:
        return self._values.get(name, 0)

    def set(self, name: str, value: int) -> None:
        """Durable with the transaction; if that fails, the store is not used any more."""
        self._db.run("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, value, checksum(name, value)))
        self._values[name] = value
