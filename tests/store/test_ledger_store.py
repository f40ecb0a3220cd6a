"""Books on a real SQLite file: restarts, kills, and the schema's own checks."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from channelpay.errors import StoreFailed
from channelpay.ledger.audit import audit
from channelpay.ledger.books import Holder, Kind, Line
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.requests import advance, execute
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import CLOSING, SETTLED
from channelpay.store.ledger import LedgerStore, open_books
from ledger_world import ALICE, BOB, KEY0, KEY1, LEDGER, START, USD, WINDOW_S, World, half, key, state


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def store(path):
    store = LedgerStore.create(path, LEDGER.public, START)
    yield store
    store.close()


class StoredWorld(World):
    """A world whose writes are committed one by one."""

    def __init__(self, store: LedgerStore) -> None:
        super().__init__(store.books)
        self.store = store

    def send(self, request):
        response, self.touched = self.store.commit(lambda books: execute(self.ledger, books, request, self.now))
        return response


@pytest.fixture
def world(store):
    return StoredWorld(store).with_money()


def _image(path, name):
    """The files as a kill at this moment leaves them."""
    image = path.parent / name
    image.mkdir()
    for file in path.parent.glob("ledger.db*"):
        if not file.name.endswith((".lock", "-shm")):
            shutil.copy(file, image / file.name)
    return image / "ledger.db"


def test_everything_is_there_after_a_restart(world, path):
    channel = world.open()
    world.ask(KEY0, ops.Close(channel, (state(channel, half(3, 30), half(1, 4)),)))
    before = world.everything()
    world.store.close()
    again = LedgerStore.open(path, LEDGER.public)
    assert World(again.books).everything() == before
    assert again.books.clock() == START
    again.close()


def test_a_kill_in_the_middle_of_a_transaction_leaves_nothing_of_it(world, path):
    world.open(1)
    before = world.everything()
    request = world.request(ALICE, ops.Transfer(USD, BOB.public, 500))

    def killed(books):
        assert execute(world.ledger, books, request, world.now).outcome == Outcome.DONE
        return _image(path, "killed")

    image, _ = world.store.commit(killed)
    after = _image(path, "after")
    restarted = LedgerStore.open(image, LEDGER.public)
    world_again = StoredWorld(restarted)
    assert world_again.everything() == before
    assert audit(restarted.books).balanced
    # The client asks again; it is paid once.
    assert world_again.send(request).outcome == Outcome.DONE
    assert world_again.balance(ALICE) == 10_000 - 1000 - 500
    restarted.close()
    # Killed just after the commit: the answer is stored.
    committed = LedgerStore.open(after, LEDGER.public)
    world_again = StoredWorld(committed)
    number = committed.books.number()
    assert world_again.send(request).outcome == Outcome.DONE
    assert committed.books.number() == number
    assert world_again.balance(ALICE) == 10_000 - 1000 - 500
    committed.close()


def test_an_exception_undoes_the_whole_commit(world):
    before = world.everything()

    def fail(books):
        execute(world.ledger, books, world.request(ALICE, ops.Transfer(USD, BOB.public, 5)), world.now)
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        world.store.commit(fail)
    assert world.everything() == before
    world.open()  # and the store goes on


def test_a_refusal_undoes_its_own_request_only(world):
    requests = [
        world.request(ALICE, ops.Transfer(USD, BOB.public, 1)),
        world.request(ALICE, ops.Transfer(USD, BOB.public, 1_000_000)),
        world.request(ALICE, ops.Transfer(USD, BOB.public, 2)),
    ]
    responses, touched = world.store.commit(
        lambda books: [execute(world.ledger, books, request, world.now) for request in requests]
    )
    assert [response.outcome for response in responses] == [0, Outcome.INSUFFICIENT_FUNDS, 0]
    assert world.balance(BOB) == 10_003
    assert touched == {ALICE.public, BOB.public}


def test_a_commit_tells_whom_it_concerns(world):
    channel = world.open()
    assert world.touched == {ALICE.public, BOB.public}
    world.ask(BOB, ops.Topup(channel, 0, 5))
    assert world.touched == {ALICE.public, BOB.public}
    world.ask(BOB, ops.Info())
    assert world.touched == frozenset()


def test_disputes_survive_an_outage(world, path):
    channel = world.open()
    world.ask(KEY0, ops.Close(channel, ()))
    world.store.close()
    store = LedgerStore.open(path, LEDGER.public)
    again = StoredWorld(store)
    again.now, _ = store.commit(lambda books: advance(again.ledger, books, START + 10 * WINDOW_S))
    assert again.channel(channel).deadline == START + 11 * WINDOW_S
    again.ask(KEY1, ops.Respond(channel, (state(channel, half(9, 90)),)))
    again.now += WINDOW_S
    assert again.ask(BOB, ops.Settle(channel)).out1 == 90
    assert audit(store.books).balanced
    store.close()


def test_disputes_are_found_by_deadline(world):
    for nonce in (1, 2, 3):
        world.ask(KEY0, ops.Close(world.open(nonce), ()))
        world.now += 1
    books = world.store.books
    deadlines = [START + WINDOW_S + n for n in range(3)]
    assert [row.deadline for row in books.disputes(None, None)] == deadlines
    assert [row.deadline for row in books.disputes(deadlines[1], None)] == deadlines[:2]
    assert [row.deadline for row in books.disputes(None, 1)] == deadlines[:1]
    assert {row.status for row in books.disputes(None, None)} == {CLOSING}


def test_an_audit_reads_beside_the_daemon(world, path):
    world.open()
    books = open_books(path)
    with books.snapshot():
        world.open(1)
        result = audit(books)
    assert result.balanced
    assert result.open_channels == 1
    books.close()


def test_the_books_of_another_ledger_are_refused(store, path):
    store.close()
    with pytest.raises(StoreFailed, match="another ledger"):
        LedgerStore.open(path, key("another").public)
    LedgerStore.open(path, LEDGER.public).close()  # and the lock was given back


def test_a_ledger_is_created_once(store, path):
    with pytest.raises(StoreFailed, match="used by process"):
        LedgerStore.create(path, LEDGER.public, START)
    store.close()
    with pytest.raises(StoreFailed, match="exists already"):
        LedgerStore.create(path, LEDGER.public, START)


# --- The schema's own checks: what a defect of the core would run into -----------------------


def _line(number, entry, delta, after, holder=Holder.ACCOUNT):
    return Line(number, entry, START, Kind.TRANSFER, holder, ALICE.public, USD, delta, after, watchers=(ALICE.public,))


def _append(*lines):
    return lambda books: books.append(lines)


def _settle_wrongly(books):
    row = next(books.all_channels())
    books.replace_channel(row, replace(row, status=SETTLED, out0=1, out1=1))


def _lower_clock(books):
    books.set_clock(START - 1)


def _overwithdraw(books):
    row = next(books.all_channels())
    books.replace_channel(row, replace(row, withdrawn0=600, withdrawn1=600))


def _change_settled(books):
    row = next(books.all_channels())
    settled = replace(row, status=SETTLED, out0=1000)
    books.replace_channel(row, settled)
    books.replace_channel(settled, replace(settled, number=settled.number + 1))


DEFECTS = {
    "balance below zero": (lambda books: books.put_balance(ALICE.public, USD, -1), "contradict"),
    "balance of no asset": (lambda books: books.put_balance(ALICE.public, bytes(16), 1), "contradict"),
    "money from nowhere": (_append(_line(90, 90, 5, 5)), "sum to zero"),
    "account below zero": (_append(_line(90, 90, -5, -5), _line(91, 90, 5, 5)), "contradict"),
    "entry without lines": (lambda books: books._db.run("INSERT INTO entry (number) VALUES (90)"), "sum to zero"),
    "number used twice": (_append(_line(1, 1, 0, 0)), "contradict"),
    "wrong payout": (_settle_wrongly, "contradict"),
    "withdrawn beyond the deposits": (_overwithdraw, "contradict"),
    "settled for ever": (_change_settled, "a settled channel never changes"),
    "clock that goes back": (_lower_clock, "the clock never goes back"),
    "journal that changes": (lambda books: books._db.run("UPDATE line SET delta = 1"), "the journal only grows"),
    "journal that shrinks": (lambda books: books._db.run("DELETE FROM line"), "the journal only grows"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_the_schema_stops_a_defect(world, name, path):
    defect, message = DEFECTS[name]
    world.open()
    before = world.everything()
    with pytest.raises(StoreFailed, match=message):
        world.store.commit(defect)
    assert world.everything() == before
    with pytest.raises(StoreFailed):  # and nothing goes on
        world.open(1)


def test_a_line_without_its_entry_is_not_committed(world):
    world.open()
    insert = (
        "INSERT INTO line SELECT 90, 90, time, kind, holder, owner, asset_id, 0, after, counterpart, body FROM line"
        " WHERE number = 2"
    )
    with pytest.raises(StoreFailed, match="contradict"):
        world.store.commit(lambda books: books._db.run(insert))


def test_a_channel_that_is_not_as_it_was_read_is_not_replaced(world):
    world.open()
    row = next(world.store.books.all_channels())
    with pytest.raises(StoreFailed, match="is not as it was read"):
        world.store.commit(lambda books: books.replace_channel(replace(row, status=CLOSING), row))


def test_refusals_leave_the_store_in_use(world):
    with pytest.raises(LedgerRefused):
        world.ask(ALICE, ops.Redeem(USD, 10**9))
    world.ask(ALICE, ops.Redeem(USD, 1))
