"""The README's promise: cursor and effect in one transaction make every payment count exactly once."""

import sqlite3
from contextlib import closing

import pytest

from channelpay.services.backend import InProcess
from channelpay.services.client import Client
from channelpay.services.ids import new_payment_id
from services.fake_daemon import FakeNode

SCHEMA = """
CREATE TABLE progress (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), cursor INTEGER NOT NULL);
INSERT INTO progress VALUES (1, 0);
CREATE TABLE orders (payment_id BLOB PRIMARY KEY, paid INTEGER NOT NULL);
"""


class Crash(Exception):
    """The service dies here."""


def nothing(_):
    """The service does not die."""


async def serve(node, database, stop_at, crash=nothing):
    """A service: it books every payment it receives, and remembers how far it came."""
    (cursor,) = database.execute("SELECT cursor FROM progress").fetchone()
    async for payment in node.payments(after=cursor):
        with database:  # one transaction
            if not payment.repeated:
                database.execute("INSERT INTO orders VALUES (?, ?)", (payment.payment_id, payment.amount))
            crash("before the commit")
            database.execute("UPDATE progress SET cursor = ?", (payment.cursor,))
        crash("after the commit")
        if payment.cursor == stop_at:  # a real service goes on for ever
            return


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
async def test_a_service_that_dies_again_and_again_books_every_payment_once(tmp_path, moment):
    node = FakeNode()
    ids = [new_payment_id() for _ in range(30)]
    for start in range(0, 30, 5):
        await node.receive(*((100 + start + index, ids[start + index], b"") for index in range(5)))
    await node.receive((100, ids[0], b""), repeated=(0,))
    file = tmp_path / "service.db"
    with closing(sqlite3.connect(file)) as database:
        database.executescript(SCHEMA)

    deaths = 0
    for lifetime in range(200):
        left = lifetime % 4  # payments until the next death

        def crash(now):
            nonlocal left, deaths
            if now == moment:
                left -= 1
                if left < 0:
                    deaths += 1
                    raise Crash

        with closing(sqlite3.connect(file)) as database:
            try:
                if database.execute("SELECT cursor FROM progress").fetchone() != (31,):
                    await serve(Client(InProcess(node)), database, stop_at=31, crash=crash)
            except Crash:
                continue
            rows = database.execute("SELECT payment_id, paid FROM orders ORDER BY paid").fetchall()
            break
    assert deaths > 5
    assert rows == [(payment_id, 100 + index) for index, payment_id in enumerate(ids)]
