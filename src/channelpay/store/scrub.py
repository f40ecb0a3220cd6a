"""Reads every row of a node's store and holds it against its checksum. Spec N-25, N-30."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from channelpay.store.batches import BatchTable
from channelpay.store.rows import check
from channelpay.store.sqlite import Database

_SUMMED: Final = (
    ("meta", "name, value, sum"),
    ("peers", "peer_id, address, sum"),
    ("requests", "request_id, blob, signature, sum"),
    ("channels", "ref, channel_id, peer_id, side, window_s, phase, rests, sum"),
    ("states", "ref, setup, setup_sum"),
    ("states", "ref, cold, cold_sum"),
    ("halves", "ref, hot, sum"),
    ("pruned", "*"),
)
"""Tables and the columns that a checksum covers, which comes last."""


def check_every_row(database: Database) -> None:
    """Raises StoreFailed for the first row whose checksum does not hold."""
    for table, columns in _SUMMED:
        with closing(database.stream(f"SELECT {columns} FROM {table}")) as rows:
            for *covered, stored in rows:
                check(database.path, table, tuple(covered), stored)
    for _ in BatchTable(database, 0).whole("id >= ? ORDER BY id", (0,)):
        pass
