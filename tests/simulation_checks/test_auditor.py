"""The auditor at the end: a sound world of files, and each anomaly planted in it is counted where it belongs."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import apsw
import msgpack
import pytest
from simulation.archive import Archive
from simulation.auditor import audit
from simulation.guarantees import OLD_COPY, OLD_COPY_CHEATED, excuse_for
from simulation.model import Account, ChannelAccount, Payment, Seen, State
from simulation.world import FUNDS

ID = b"c" * 32
ACCOUNTS = {"node0": b"0" * 32, "node1": b"1" * 32}
_NODE = """
CREATE TABLE channels (ref INTEGER PRIMARY KEY, channel_id BLOB);
CREATE TABLE batches (channel, payer, first_n, last_n, total, h, records, memos, position, repeated);
CREATE TABLE requests (request_id);
CREATE TABLE pruned (channel, payer, last_n);
"""
_LEDGER = """
CREATE TABLE asset (issued);
CREATE TABLE balance (account, units);
CREATE TABLE line (number, entry, holder, owner, delta, time, kind);
CREATE TABLE channel (channel_id, account0, account1, key0, key1, status, deposit0, deposit1, withdrawn0, withdrawn1,
                      half0, half1, out0, out1, window_s, flags);
"""


class Small:
    """node0 opened with 1,000 units and paid node1 10 and 20 under the ids p1 and p2; all is settled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.account = Account()
        self.rolled_back: dict[str, set[str]] = {}
        self.cheaters: set[str] = set()
        self.shown = 2
        self.nodes = [self._process(name) for name in ACCOUNTS]
        self.ledger = self._process("ledger")
        self.channel = ChannelAccount(ID, ("node0", "node1"), 0, 60, (0, 1000))
        self.channel.payments = [self.payment(b"p1", 10, 1), self.payment(b"p2", 20, 2)]
        self.account.channels[ID] = self.channel
        for name, received in (("node0", False), ("node1", True)):
            self.run(name, f"{_NODE} INSERT INTO channels VALUES (1, x'{ID.hex()}')")
            for n, total, payment in ((1, 10, b"p1"), (2, 30, b"p2")):
                self.batch(name, n, total, payment, n - 1 if received else None)
        half = b"\0" * 88
        row = (ID, ACCOUNTS["node0"], ACCOUNTS["node1"], b"k", b"k", 2, 1000, 0, 0, 0, half, half, 970, 30, 60, 0)
        self.run("ledger", _LEDGER)
        self.run("ledger", f"INSERT INTO channel VALUES ({', '.join('?' * 16)})", row)
        self.run("ledger", "INSERT INTO asset VALUES (?)", (2 * FUNDS,))
        for name, change in (("node0", -30), ("node1", 30)):
            self.run("ledger", "INSERT INTO balance VALUES (?, ?)", (ACCOUNTS[name], FUNDS + change))
            self.run(
                "ledger", "INSERT INTO line VALUES (1, 1, 0, ?, ?, 0, 'transfer')", (ACCOUNTS[name], FUNDS + change)
            )
        self.run("ledger", "INSERT INTO line VALUES (1, 1, 2, x'00', ?, 0, 'issue')", (-2 * FUNDS,))

    @property
    def tap(self) -> SimpleNamespace:
        """A payee that has shown `shown` payments of node0."""
        channel = SimpleNamespace(names=("node0", "node1"), newest=[0, 0], total=lambda payer, n: 0)
        return SimpleNamespace(channels={ID: channel}, acknowledged=lambda channel_id, payer: self.shown)

    def is_settled(self, channel_id: bytes) -> bool:
        return False

    def _process(self, name: str) -> SimpleNamespace:
        keys = SimpleNamespace(account=SimpleNamespace(public=ACCOUNTS.get(name, b"")))
        directory = self.path / name
        directory.mkdir()
        return SimpleNamespace(name=name, keys=keys, disk=SimpleNamespace(directory=directory, damaged=False))

    @property
    def processes(self) -> list[SimpleNamespace]:
        return [self.ledger, *self.nodes]

    @staticmethod
    def payment(payment_id: bytes, amount: int, n: int) -> Payment:
        return Payment("node0", ID, payment_id * 8, amount, state=State.PAID, n=n, asked=1)

    def run(self, name: str, sql: str, values: tuple[object, ...] = ()) -> None:
        file = "ledger.db" if name == "ledger" else "node.db"
        connection = apsw.Connection(str(self.path / name / file))
        connection.execute(sql, values).fetchall()
        connection.close()

    def batch(self, name: str, n: int, total: int, payment_id: bytes, position: int | None) -> None:
        amount = 10 * n
        records = struct.pack(">Q16s", amount, payment_id * 8)
        values = (1, 0, n, n, total, bytes(32), records, b"", position, None)
        self.run(name, f"INSERT INTO batches VALUES ({', '.join('?' * 10)})", values)

    def counters(self) -> dict[str, int]:
        return {name: n for name, n in audit(self, Archive(self)).counters.numbers() if n}


@pytest.fixture
def world(tmp_path):
    return Small(tmp_path)


def test_a_sound_world(world):
    assert world.counters() == {}


def test_an_acknowledged_payment_that_is_not_delivered_is_lost(world):
    world.channel.payments.append(world.payment(b"p3", 5, 3))
    assert world.counters() == {"lost": 1}


def test_a_payment_of_nobody_is_a_phantom(world):
    del world.channel.payments[1]
    assert world.counters() == {"phantom": 1}


def test_a_payment_whose_payer_was_told_no_is_a_phantom(world):
    world.channel.payments[1].state = State.REFUSED
    assert world.counters() == {"phantom": 1}


def test_one_id_twice_is_duplicated(world):
    world.run("node1", "UPDATE batches SET records = ? WHERE first_n = 2", (struct.pack(">Q16s", 20, b"p1" * 8),))
    assert world.counters()["duplicated"] == 1


def test_an_id_twice_that_the_payee_marked_is_a_lie_of_the_payers(world):
    records = struct.pack(">Q16s", 10, b"p1" * 8)
    world.run("node1", "UPDATE batches SET records = ?, total = 20 WHERE first_n = 2", (records,))
    world.run("node0", "UPDATE batches SET records = ?, total = 20 WHERE first_n = 2", (records,))
    world.run("ledger", "UPDATE channel SET out0 = 980, out1 = 20")
    del world.channel.payments[1]
    for name, change in (("node0", -20), ("node1", 20)):
        world.run("ledger", "UPDATE balance SET units = ? WHERE account = ?", (FUNDS + change, ACCOUNTS[name]))
        world.run("ledger", "UPDATE line SET delta = ? WHERE owner = ?", (FUNDS + change, ACCOUNTS[name]))
    world.cheaters.add("node0")
    assert world.counters() == {"duplicated": 1}
    world.run("node1", "UPDATE batches SET repeated = x'0000' WHERE first_n = 2")
    assert world.counters() == {}
    world.cheaters.clear()
    assert world.counters() == {"duplicated": 1}


def test_another_memo_is_drift(world):
    world.channel.payments[1].memo = b"for the tea"
    assert world.counters() == {"drift": 1}
    for name in ACCOUNTS:
        world.run(name, "UPDATE batches SET memos = ? WHERE first_n = 2", (msgpack.packb([[0, b"for the tea"]]),))
    assert world.counters() == {}


def test_a_queue_that_was_refused_without_a_dispute_is_unresolved(world):
    world.channel.payments.append(world.payment(b"p3", 5, 0))
    world.channel.payments[2].state, world.channel.payments[2].failed_in_queue = State.REFUSED, True
    assert world.counters() == {"unresolved": 1}
    for number, (time, what) in enumerate(((100, "close"), (160, "settle")), 2):
        world.run("ledger", f"INSERT INTO line VALUES ({number}, {number}, 1, x'{ID.hex()}', 0, {time}, '{what}')")
    assert world.counters() == {}


def test_what_was_pruned_must_have_stood_there_and_been_acknowledged(world):
    archive = Archive(world)
    archive.look()
    world.run("node0", "DELETE FROM batches WHERE first_n = 1")
    world.run("node0", "INSERT INTO pruned VALUES (1, 0, 1)")
    world.shown = 1
    assert audit(world, archive).clean
    assert not audit(world, Archive(world)).clean  # it was never seen there
    world.shown = 0
    assert dict(audit(world, archive).counters.numbers())["lost"] == 1


def test_another_amount_is_drift(world):
    world.channel.payments[1].amount = 21
    assert world.counters() == {"drift": 1}


def test_a_row_that_does_not_sum_up_is_drift(world):
    world.run("node1", "UPDATE batches SET total = 31 WHERE first_n = 2")
    assert world.counters()["drift"] >= 1


def test_a_gap_in_the_journal_is_drift(world):
    world.run("node1", "UPDATE batches SET position = 7 WHERE first_n = 2")
    assert world.counters() == {"drift": 1}


def test_a_payer_that_forgot_is_drift(world):
    world.run("node0", "DELETE FROM batches WHERE first_n = 2")
    assert world.counters() == {"drift": 1}


def test_a_journal_that_was_read_otherwise_is_drift(world):
    world.account.seen["node1"] = {0: Seen(ID, b"other")}
    assert world.counters() == {"drift": 1}


def test_a_payment_without_an_answer_is_unresolved(world):
    world.channel.payments[1].state = State.UNKNOWN
    assert world.counters() == {"unresolved": 1}


def test_a_channel_that_is_not_settled_is_unresolved(world):
    world.run("ledger", "UPDATE channel SET status = 1, out0 = 0, out1 = 0")
    assert world.counters()["unresolved"] == 1


def test_too_little_is_below_the_entitlement(world):
    world.run("ledger", "UPDATE channel SET out0 = 990, out1 = 10")
    counters = world.counters()
    assert counters["below_entitlement"] == 1  # node1
    assert counters["drift"] == 2  # neither is what was paid


@pytest.mark.parametrize(
    ("settled", "kind", "counters"),
    [
        (160, "settle", {}),
        (155, "settle", {"below_entitlement": 1}),
        (155, "close_final", {}),
        (300, "settle", {"unresolved": 1}),
    ],
)
def test_a_dispute_ends_with_its_window(world, settled, kind, counters):
    for number, (time, what) in enumerate(((100, "close"), (settled, kind)), 2):
        world.run("ledger", f"INSERT INTO line VALUES ({number}, {number}, 1, x'{ID.hex()}', 0, {time}, '{what}')")
    assert world.counters() == counters


def test_a_request_to_the_ledger_that_is_left_behind_is_unresolved(world):
    world.run("node0", "INSERT INTO requests VALUES (x'01')")
    assert world.counters() == {"unresolved": 1}


def test_a_topup_twice_is_duplicated(world):
    world.channel.topups[0].perhaps = 100
    world.run("ledger", "UPDATE channel SET deposit0 = 1200, out0 = 1170")
    assert world.counters()["duplicated"] == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE asset SET issued = issued + 1",
        "UPDATE balance SET units = units + 1",
        "UPDATE line SET delta = delta + 1 WHERE holder = 0",
        "UPDATE channel SET out0 = out0 + 1",
    ],
)
def test_money_from_nowhere_is_no_conservation(world, change):
    world.run("ledger", change)
    assert world.counters()["conservation"] >= 1


def test_what_was_seen_on_the_way_counts(world):
    world.account.find("drift", "the journal changed", "node0")
    assert world.counters() == {"drift": 1}


def test_the_table_excuses_what_it_says_and_sets_it_apart(world):
    world.rolled_back["node1"] = {"told"}
    world.account.seen["node1"] = {0: Seen(ID, b"other")}
    verdict = audit(world, Archive(world))
    assert verdict.clean
    assert verdict.excused == Counter({f"{OLD_COPY.name}: drift": 1})
    world.channel.payments.append(world.payment(b"p3", 5, 3))
    assert not audit(world, Archive(world)).clean  # nothing excuses a loss among honest parties


def test_only_with_a_dishonest_peer_an_old_copy_may_lose(world):
    world.rolled_back["node1"] = {"not told"}
    assert excuse_for(world, "node0", "node1") is OLD_COPY
    assert excuse_for(world, "node0") is None
    world.cheaters.add("node0")
    assert excuse_for(world, "node0", "node1") is OLD_COPY_CHEATED
