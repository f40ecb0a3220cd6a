"""Checksums of stored rows: a bit that flipped on the disk is found before anybody believes it. Spec N-30.

SQLite finds a damaged page only where its own structure breaks. A row's checksum is CRC-32 over the
strict encoding (W-2) of the columns that it covers, in the order of the table; it stands in the row.
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from channelpay.codec import pack
from channelpay.errors import StoreFailed


def checksum(*columns: int | bytes | str | None) -> int:
    """CRC-32 of the columns: 0 .. 2^32-1."""
    return crc32(pack(columns))


def check(path: Path, table: str, columns: tuple[int | bytes | str | None, ...], stored: int) -> None:
    """Raises StoreFailed unless `stored` is the checksum of the columns, of which the first names the row."""
    if checksum(*columns) != stored:
        name = columns[0].hex() if isinstance(columns[0], bytes) else columns[0]
        raise StoreFailed(
            f"{path}: row {name} of {table} is damaged: its checksum does not hold; "
            "check the disk and restore a backup (run it with --restored)"
        )
