"""The node store: all that was committed is there, found by number, position and id; what failed stops everything."""

from __future__ import annotations

import apsw
import pytest

from channelpay.batches import pack_memos, pack_record
from channelpay.channel.saved import pack_cold, pack_hot
from channelpay.channel.state import Held, Phase
from channelpay.crypto import sha256
from channelpay.errors import StoreFailed
from channelpay.limits import MAX_ARRAY_ITEMS
from channelpay.messages.control import ENTRY_PAYMENTS, ENTRY_UNAVAILABLE
from channelpay.messages.peer import Request
from channelpay.node.ready import Persist
from channelpay.statements import Half
from channelpay.store import payment_ids, sqlite
from channelpay.store.node import NodeStore, create_node_store
from node_store import LEDGER, NODE, Fixture, payment_id, records, saved
from node_world import open_pair


@pytest.fixture
def fixture(tmp_path):
    made = Fixture(tmp_path)
    yield made
    made.store.close()


# --- Persistence -------------------------------------------------------------------------------


def test_everything_is_there_again(fixture):
    a, b = fixture.channel(0), fixture.channel(1)
    request = Request(bytes([7]) * 16, b"blob", bytes(64))
    fixture.store.commit(
        Persist(
            peers=[(bytes([3]) * 32, "cp1x@h:1")], requests=[request], next_key_index=5, ledger_number=77,
            journal=[fixture.entry(a, 0, records(3, 4)), fixture.entry(a, 1, records(5))],
        )
    )  # fmt: skip
    a.phase = Phase.SHUTDOWN
    a.own, a.peer = fixture.halves[a.channel_id, 0], fixture.halves[a.channel_id, 1]
    fixture.store.commit(
        Persist(hot=[(a.channel_id, pack_hot(a))], cold=[(a.channel_id, pack_cold(a))], peers=[(bytes(32), "other")])
    )
    store = fixture.reopen()
    assert sorted(store.peers()) == [(bytes(32), "other"), (bytes([3]) * 32, "cp1x@h:1")]
    assert store.requests() == [request]
    assert (store.next_key_index(), store.ledger_number(), store.received) == (5, 77, 1)
    loaded = {c.channel_id: c for c in store.channels(fixture.keys)}
    assert set(loaded) == {a.channel_id, b.channel_id}
    again = loaded[a.channel_id]
    assert saved(again) == saved(a)
    assert again.key.public == a.key.public
    assert [(sent.batch.first_n, sent.half) for sent in again.unacked] == [(1, a.own)]
    assert [(first_n, half) for first_n, _, half in again.recent] == [(1, a.peer)]
    store.commit(Persist(requests_done=[request.request_id], peers=[(bytes(32), "moved")]))
    assert fixture.reopen().requests() == []
    assert (bytes(32), "moved") in fixture.store.peers()


def test_what_is_acknowledged_is_not_sent_again(fixture):
    c = fixture.channel()
    fixture.journal(*(fixture.entry(c, 0, records(n)) for n in range(1, 6)))
    c.own = fixture.halves[c.channel_id, 0]
    c.held = Held(Half(3, 6, sha256(records(3))), Half(0, 0, bytes(32)), bytes(64))
    fixture.store.commit(Persist(hot=[(c.channel_id, pack_hot(c))]))
    (again,) = fixture.reopen().channels(fixture.keys)
    assert [sent.half.n for sent in again.unacked] == [4, 5]
    c.phase = Phase.SETTLED
    fixture.store.commit(Persist(cold=[(c.channel_id, pack_cold(c))]))
    (again,) = fixture.reopen().channels(fixture.keys)
    assert not again.unacked


def test_a_commit_is_all_or_nothing(fixture):
    c = fixture.channel()
    entry = fixture.entry(c, 1, records(1))
    wrong = entry._replace(half=entry.half._replace(total=0))
    with pytest.raises(StoreFailed, match="a check of the schema failed"):
        fixture.store.commit(Persist(next_key_index=9, journal=[entry, wrong]))
    store = fixture.reopen()
    assert (store.next_key_index(), store.received) == (0, 0)
    assert store.journal(0, 10, 1000) == []


# --- Positions ---------------------------------------------------------------------------------


def test_positions_run_over_all_channels_and_cursors_stop_anywhere(fixture):
    a, b = fixture.channel(0), fixture.channel(1)
    fixture.journal(fixture.entry(a, 1, records(1, 2, 3), pack_memos([(1, b"two")])), fixture.entry(a, 0, records(50)))
    fixture.journal(fixture.entry(b, 0, records(4, 5)), fixture.entry(a, 1, records(6)))
    for _ in range(2):
        assert fixture.store.received == 6
        rows = fixture.all_rows()
        assert [(row.position, row.channel_id, row.first_n, row.size, row.total) for row in rows] == [
            (0, a.channel_id, 1, 3, 6), (3, b.channel_id, 1, 2, 9), (5, a.channel_id, 4, 1, 6),
        ]  # fmt: skip
        assert {row.kind for row in rows} == {ENTRY_PAYMENTS}
        assert rows[0].memos == pack_memos([(1, b"two")])
        # From the middle of a batch the whole batch comes again: its position says which is meant.
        assert [row.position for row in fixture.all_rows(1)] == [0, 3, 5]
        assert [row.position for row in fixture.all_rows(3)] == [3, 5]
        assert [row.position for row in fixture.all_rows(4)] == [3, 5]
        assert fixture.all_rows(6) == []
        fixture.reopen()


def test_payments_whose_records_are_lost_take_one_position(fixture):
    c = fixture.channel(0)
    fixture.journal(fixture.entry(c, 1, records(1)), fixture.gap(c, 1, 10, 500), fixture.entry(c, 1, records(2, 3)))
    fixture.journal(fixture.gap(c, 0, 4, 40))  # my own: in no journal of received payments
    for _ in range(2):
        assert fixture.store.received == 4
        rows = fixture.all_rows()
        assert [(r.position, r.kind, r.first_n, r.size, r.total) for r in rows] == [
            (0, ENTRY_PAYMENTS, 1, 1, 1), (1, ENTRY_UNAVAILABLE, 2, 10, 500), (2, ENTRY_PAYMENTS, 12, 2, 5),
        ]  # fmt: skip
        assert [row.position for row in fixture.all_rows(2)] == [2]
        assert [batch.first_n for batch in fixture.store.batches(c.channel_id, 1, 1)] == [1]
        assert fixture.store.batches(c.channel_id, 1, 5) == []
        assert [b.first_n for b in fixture.store.batches(c.channel_id, 1, 1, over_gaps=True)] == [1, 12]
        assert [b.first_n for b in fixture.store.batches(c.channel_id, 1, 5, over_gaps=True)] == [12]
        fixture.reopen()


def test_a_gap_at_the_end_counts_one(fixture):
    c = fixture.channel(0)
    fixture.journal(fixture.gap(c, 1, 10, 500))
    assert fixture.reopen().received == 1


# --- Pages -------------------------------------------------------------------------------------


def test_pages_of_batches(fixture):
    c = fixture.channel()
    fixture.journal(*(fixture.entry(c, 0, records(*([n] * 10))) for n in range(1, 1001)))
    one = 240 + 16
    assert [b.first_n for b in fixture.store.batches(c.channel_id, 0, 1, one)] == [1]
    assert [b.first_n for b in fixture.store.batches(c.channel_id, 0, 1, 1)] == [1], "one at least"
    assert [b.first_n for b in fixture.store.batches(c.channel_id, 0, 25, 3 * one)] == [21, 31, 41]
    assert len(fixture.store.batches(c.channel_id, 0, 1, 10_000_000)) == 1000
    assert fixture.store.batches(c.channel_id, 0, 10_001) == []
    assert fixture.store.batches(c.channel_id, 1, 1) == []
    assert fixture.store.batches(bytes(32), 0, 1) == []


def test_pages_of_single_payments(fixture):
    c = fixture.channel(0)
    fixture.journal(*(fixture.entry(c, 1, records(1)) for _ in range(MAX_ARRAY_ITEMS + 10)))
    assert len(fixture.store.batches(c.channel_id, 1, 1, 10**9)) == MAX_ARRAY_ITEMS
    assert len(fixture.all_rows(0, 10**9, 10**9)) == MAX_ARRAY_ITEMS
    assert len(fixture.all_rows(0, 5)) == 5
    assert len(fixture.all_rows(0, 10**9, 10 * 124)) == 10
    assert [row.position for row in fixture.all_rows(MAX_ARRAY_ITEMS)] == list(range(MAX_ARRAY_ITEMS, 4106))


def test_a_page_can_be_read_while_more_is_written(fixture):
    """A page that stopped early leaves no statement open that would keep the log from being cleared."""
    c = fixture.channel(0)
    for _ in range(20):
        fixture.journal(*(fixture.entry(c, 1, records(1)) for _ in range(10)))
        assert len(fixture.all_rows(0, 1)) == 1
        assert len(fixture.store.batches(c.channel_id, 1, 1, 1)) == 1
    assert fixture.store._db.row("PRAGMA wal_checkpoint(TRUNCATE)") == (0, 0, 0)


# --- Payment ids -------------------------------------------------------------------------------


def repeated(fixture) -> list[tuple[int, tuple[int, ...]]]:
    return [(row.first_n, row.repeated) for row in fixture.all_rows() if row.repeated]


def test_repeated_ids_are_marked_wherever_the_first_one_was(fixture):
    c = fixture.channel(0)
    twice = pack_record(1, payment_id(1)) * 2 + records(1)
    fixture.journal(fixture.entry(c, 1, twice))  # within a batch
    fixture.journal(
        fixture.entry(c, 1, records(1, 1, first_id=5)),
        fixture.entry(c, 1, records(1, first_id=6) + records(1, first_id=1)),  # in one commit, and in one before
    )
    fixture.reopen()
    fixture.journal(fixture.entry(c, 1, records(1, first_id=5)))  # after a restart
    assert repeated(fixture) == [(1, (1,)), (6, (0, 1)), (8, (0,))]
    other = fixture.channel(0)
    fixture.journal(fixture.entry(other, 1, records(1, first_id=5)), fixture.entry(c, 0, records(1, first_id=5)))
    assert len(repeated(fixture)) == 3, "another channel and another payer have ids of their own"


def test_ids_are_found_beyond_what_is_remembered(fixture, monkeypatch):
    monkeypatch.setattr(payment_ids, "REMEMBERED_IDS", 8)
    c = fixture.channel(0)
    entries = [fixture.entry(c, 1, records(n, n, n, first_id=3 * n, time=1000 + n)) for n in range(1, 40)]
    fixture.journal(*entries[:20])
    for entry in entries[20:]:
        fixture.journal(entry)
    for _ in range(2):
        for n in range(1, 40):
            found = fixture.store.find(c.channel_id, 1, payment_id(3 * n + 1, 1000 + n))
            assert found == (3 * n - 1, n)
        assert fixture.store.find(c.channel_id, 1, payment_id(1, 999)) is None
        assert fixture.store.find(c.channel_id, 0, payment_id(4, 1001)) is None
        assert fixture.store.find(bytes(32), 1, payment_id(4, 1001)) is None
        fixture.reopen()
    fixture.journal(fixture.entry(c, 1, records(9, 9, first_id=4, time=1001)))
    assert repeated(fixture) == [(118, (0, 1))]


def test_ids_repeated_within_one_commit_are_found_beyond_what_is_remembered(fixture, monkeypatch):
    monkeypatch.setattr(payment_ids, "REMEMBERED_IDS", 4)
    c = fixture.channel(0)
    fixture.store.find(c.channel_id, 1, payment_id(1))  # what there is, is in memory now
    first = fixture.entry(c, 1, records(1, first_id=1))
    many = [fixture.entry(c, 1, records(1, 1, 1, first_id=10 + 3 * n)) for n in range(4)]
    fixture.journal(first, *many, fixture.entry(c, 1, records(1, first_id=1)))
    assert repeated(fixture) == [(14, (0,))]


def test_the_first_use_of_an_id_is_the_one_that_counts(fixture, monkeypatch):
    monkeypatch.setattr(payment_ids, "REMEMBERED_IDS", 4)
    c = fixture.channel(0)
    fixture.journal(fixture.entry(c, 1, records(1, first_id=1)))
    fixture.journal(fixture.entry(c, 1, records(2, first_id=1)))
    assert fixture.store.find(c.channel_id, 1, payment_id(1)) == (1, 1)
    fixture.journal(fixture.entry(c, 1, records(3, 3, 3, 3, 3, first_id=10, time=2000)))
    assert fixture.store.find(c.channel_id, 1, payment_id(1)) == (1, 1)


def test_memory_for_ids_is_bounded_over_all_channels(fixture, monkeypatch):
    monkeypatch.setattr(payment_ids, "_MAX_REMEMBERED", 20)
    channels = [fixture.channel(0) for _ in range(10)]
    for c in channels:
        fixture.journal(fixture.entry(c, 1, records(*[1] * 10, first_id=1)))
    for c in channels:
        assert fixture.store.find(c.channel_id, 1, payment_id(5)) == (5, 1)
    assert sum(len(known.ids) for known in fixture.store._ids._known.values()) <= 30
    fixture.journal(*(fixture.entry(c, 1, records(1, first_id=3)) for c in channels))
    assert [r for _, r in repeated(fixture)] == [(0,)] * 10


def test_an_id_is_found_without_knowing_the_channel(fixture):
    a, b = fixture.channel(0), fixture.channel(1)
    fixture.journal(fixture.entry(a, 0, records(5, first_id=1)), fixture.entry(b, 1, records(6, 7, first_id=2)))
    fixture.journal(fixture.entry(a, 1, records(8, first_id=9)), fixture.entry(b, 1, records(1, first_id=1)))
    for _ in range(2):
        assert fixture.store.find_own(payment_id(3)) == (b.channel_id, (2, 7))
        assert fixture.store.find_own(payment_id(1)) == (b.channel_id, (3, 1)), "on the newest channel"
        assert fixture.store.find_own(payment_id(1), a.channel_id) == (a.channel_id, (1, 5))
        assert fixture.store.find_own(payment_id(9)) is None, "that one was received"
        assert fixture.store.find_own(payment_id(3), a.channel_id) is None
        assert fixture.store.find_own(payment_id(3), bytes(32)) is None
        fixture.reopen()


def test_what_a_payment_costs_does_not_grow(fixture, monkeypatch):
    """Steps of SQLite for a flush and for looking up its id, on the thousandth payment as on the tenth."""
    monkeypatch.setattr(payment_ids, "REMEMBERED_IDS", 16)
    others = [fixture.channel(0) for _ in range(30)]
    c = fixture.channel(0)
    steps = []
    fixture.store._db._connection.set_progress_handler(lambda: steps.append(1) is not None and False, 1)

    def cost(n: int) -> int:
        entry = fixture.entry(c, 1, records(1, first_id=n, time=1000 + n))
        steps.clear()
        fixture.store.commit(Persist(journal=[entry], hot=[(c.channel_id, pack_hot(c))]))
        fixture.store.find(c.channel_id, 1, payment_id(n + 1, 1001 + n))
        return len(steps)

    costs = [cost(n) for n in range(1, 1001)]
    for other in others:
        fixture.journal(*(fixture.entry(other, 1, records(1, first_id=n)) for n in range(50)))
    cost(1001)  # looks its ids up once more if the others' have pushed them out
    assert min(costs) > 20
    assert max(costs[-100:]) <= max(costs[20:120]) + 8
    assert cost(1002) <= max(costs[20:120]) + 8


def test_the_first_look_for_an_id_reads_no_payments_without_ids(fixture):
    c = fixture.channel(0)
    fixture.journal(fixture.entry(c, 0, records(1, first_id=1)))
    steps = []

    def cost() -> int:
        fixture.reopen()
        fixture.store._db._connection.set_progress_handler(lambda: steps.append(1) is not None and False, 1)
        steps.clear()
        assert fixture.store.find(c.channel_id, 0, payment_id(1)) == (1, 1)
        return len(steps)

    before = cost()
    fixture.journal(*(fixture.entry(c, 0, records(1)) for _ in range(500)))
    assert before > 20
    assert cost() <= before + 8


# --- Refusals and failures ---------------------------------------------------------------------


def test_one_process_and_one_owner(fixture):
    with pytest.raises(StoreFailed, match="is used by process"):
        NodeStore(fixture.path, NODE, LEDGER)
    fixture.store.close()
    for node, ledger in ((bytes(32), LEDGER), (NODE, bytes(32))):
        with pytest.raises(StoreFailed, match="another node or another ledger"):
            NodeStore(fixture.path, node, ledger)
    with pytest.raises(StoreFailed, match="exists already"):
        create_node_store(fixture.path, NODE, LEDGER)
    fixture.store = NodeStore(fixture.path, NODE, LEDGER)
    with pytest.raises(StoreFailed, match="does not exist"):
        NodeStore(fixture.path.with_name("none.db"), NODE, LEDGER)


def test_a_store_that_is_missing_is_not_made_anew(fixture, tmp_path):
    fixture.channel(0)
    fixture.store.close()
    kept = fixture.path.rename(tmp_path / "aside")
    with pytest.raises(StoreFailed, match="is missing, and this home was used before: put a backup in its place"):
        create_node_store(fixture.path, NODE, LEDGER)
    assert not fixture.path.exists()
    kept.rename(fixture.path)
    fixture.reopen()


def test_a_first_start_that_was_cut_off_is_made_up_for(tmp_path, monkeypatch):
    def power_cut(*_):
        raise KeyboardInterrupt

    for name in ("lock_store", "_create", "put_in_place"):
        path = tmp_path / name / "node.db"
        path.parent.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(sqlite, name, power_cut)
            with pytest.raises(KeyboardInterrupt):
                create_node_store(path, NODE, LEDGER)
        create_node_store(path, NODE, LEDGER)
        NodeStore(path, NODE, LEDGER).close()
        assert not list(path.parent.glob("*.creating"))


def test_a_full_disk_is_the_end(fixture):
    c = fixture.channel(0)
    pages = fixture.store._db.row("PRAGMA page_count")[0]
    fixture.store._db.run(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(StoreFailed, match="the disk is full"):
        fixture.journal(*(fixture.entry(c, 1, records(*[1] * 4000)) for _ in range(3)))
    assert fixture.store.received == 0
    for call in (lambda: fixture.store.journal(0, 1, 1), lambda: fixture.store.commit(Persist(next_key_index=1))):
        with pytest.raises(StoreFailed):
            call()


class _FailingFile(apsw.VFSFile):
    def xSync(self, flags):
        if _FailingVfs.failing:
            raise apsw.IOError("fsync failed")
        return super().xSync(flags)


class _FailingVfs(apsw.VFS):
    failing = False

    def __init__(self) -> None:
        super().__init__("no-fsync", "")

    def xOpen(self, name, flags):
        return _FailingFile("", name, flags)


def test_a_failing_fsync_is_the_end_and_nothing_is_sent(tmp_path, monkeypatch):
    """The payment was signed in memory; as it is not on disk, no byte of it leaves."""
    vfs = _FailingVfs()
    world, a, b = open_pair(tmp_path)
    a.store.close()
    a.store = NodeStore(a.path, a.id, world.ledger.ledger.ledger_id, vfs="no-fsync")
    a.pay(5)
    monkeypatch.setattr(_FailingVfs, "failing", True)
    with pytest.raises(StoreFailed):
        a.turn()
    assert not any(world.inboxes.values())
    monkeypatch.setattr(_FailingVfs, "failing", False)
    with pytest.raises(StoreFailed):
        a.store.commit(Persist(next_key_index=1))
    a.crash()
    a.restart()
    world.settle()
    world.connect(a, b)
    world.settle()
    sent = a.channel().own.n
    assert [amount for _, amount in b.journal()] == [5] * sent, "whatever the disk kept is what is sent"
    assert vfs is not None


def test_ids_are_called_new_together_only_if_each_of_them_is(fixture, monkeypatch):
    monkeypatch.setattr(payment_ids, "REMEMBERED_IDS", 4)
    c = fixture.channel(0)
    are_new = fixture.store.are_new
    assert are_new(c.channel_id, 1, [payment_id(1), payment_id(2)])
    assert not are_new(bytes(32), 1, [payment_id(1)]), "of a channel that is not there nothing is known"
    fixture.journal(fixture.entry(c, 1, records(1, 1, first_id=1, time=1000)))
    assert are_new(c.channel_id, 1, [payment_id(3, 1000), payment_id(4, 1000)])
    assert not are_new(c.channel_id, 1, [payment_id(3, 1000), payment_id(2, 1000)]), "one was used"
    assert not are_new(c.channel_id, 1, [payment_id(3, 1000), payment_id(3, 1000)]), "one stands twice"
    fixture.journal(fixture.entry(c, 1, records(1, 1, 1, 1, first_id=10, time=2000)))
    assert not are_new(c.channel_id, 1, [payment_id(20, 2000), payment_id(5, 1000)]), (
        "one is older than what memory has"
    )
    assert are_new(c.channel_id, 1, [payment_id(20, 2000)])
