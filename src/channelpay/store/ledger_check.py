"""What a ledger's file must be before the ledger starts on it: no row is hidden. Spec L-51.

A checksum finds a row that is damaged, once the row is read. A bit that flipped in an index, or in the
key by which a row is looked for, hides the row, and nobody reads it. So indexes are held against their
tables, every row that says where money is or what was answered is read by
itself, and the journal is counted.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing

from channelpay.store.ledger_books import SqlReadBooks
from channelpay.store.ledger_schema import SUMMED
from channelpay.store.rows import check
from channelpay.store.sqlite import Database, damaged

_CONCERNED_BY_NONE = """
SELECT line.number FROM line LEFT JOIN channel ON line.holder = 1 AND channel_id = line.owner
WHERE CASE line.holder
    WHEN 0 THEN NOT EXISTS (SELECT 1 FROM concern AS c WHERE (account, c.number, own) = (line.owner, line.number, 1))
    WHEN 1 THEN NOT EXISTS (SELECT 1 FROM concern AS c WHERE (account, c.number, own) = (account0, line.number, 0))
             OR NOT EXISTS (SELECT 1 FROM concern AS c WHERE (account, c.number, own) = (account1, line.number, 0))
END LIMIT 1
"""
_CONCERNS = """
SELECT (SELECT COUNT(*) FROM concern),
    COALESCE(SUM(CASE holder WHEN 0 THEN 1 WHEN 1 THEN 1 + (account0 <> account1) END), 0)
FROM line LEFT JOIN channel ON line.holder = 1 AND channel_id = line.owner
"""


def check_whole(database: Database) -> None:
    """Raises StoreFailed if something in a ledger's file is damaged so that a row might not be found.

    Linear in the rows: about 3 s of a core for a million lines of the journal, 2 s for a million accounts, 4 s for a
    million answers.
    """
    database.check_structure()
    check_rows(database)


def check_rows(database: Database) -> None:
    """The same of a file whose structure is known to be sound."""
    _check_money(database)
    _check_journal(database)
    _check_answers(database)


def _check_money(database: Database) -> None:
    """Read every asset, balance and channel, with its checksum: accounts and channels hold what was issued."""
    books = SqlReadBooks(database)
    held: Counter[bytes] = Counter()
    for _, asset_id, units in books.all_balances():
        held[asset_id] += units
    for row in books.all_channels():
        held[row.asset_id] += row.pot
    issued = {asset.asset_id: asset.issued for asset in books.assets()}
    for asset_id in sorted(issued.keys() | held.keys()):
        if held[asset_id] != issued.get(asset_id, 0):
            raise damaged(
                database.path,
                f"{held[asset_id]} units of {asset_id.hex()} are held, {issued.get(asset_id, 0)} were issued",
            )


def _check_journal(database: Database) -> None:
    """Lines are numbered from 1 on without a gap, and stand under each account that they concern, and no other."""
    number = SqlReadBooks(database).number()
    count, newest = database.rows("SELECT COUNT(*), COALESCE(MAX(number), 0) FROM line")[0]
    if not number == count == newest:
        raise damaged(database.path, f"the journal has {count} lines up to number {newest}, its newest is {number}")
    missing = database.row(_CONCERNED_BY_NONE)
    if missing is not None:
        raise damaged(database.path, f"line {missing[0]} of the journal is not found under an account that it concerns")
    there, expected = database.rows(_CONCERNS)[0]
    if there != expected:
        raise damaged(database.path, f"lines of the journal stand under {there} accounts, not under {expected}")


def _check_answers(database: Database) -> None:
    """Read every answer that is kept, with its checksum, so that no request is executed twice or answered wrongly."""
    with closing(database.stream(f"SELECT {SUMMED['outcome']}, sum FROM outcome")) as rows:
        for *covered, stored in rows:
            check(database.path, "outcome", tuple(covered), stored)
