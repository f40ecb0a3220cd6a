"""Books on a real SQLite file: restarts, kills, and the schema's own checks."""

from __future__ import annotations

import re
import shutil
from functools import partial

import apsw
import pytest

from channelpay.errors import StoreFailed
from channelpay.ledger.audit import audit
from channelpay.ledger.books import Holder, Kind, Line
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.requests import advance, execute, settle_due
from channelpay.ledger.views import events
from channelpay.limits import MAX_PAGE
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import CLOSING, SETTLED
from channelpay.store import ledger_batch
from channelpay.store.ledger import LedgerStore, open_books
from channelpay.store.ledger_schema import SCHEMA, SUMMED
from channelpay.store.rows import checksum
from channelpay.store.sqlite import Database, Schema, open_database, open_reader
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
        LedgerStore.open(path, LEDGER.public)
    store.close()
    with pytest.raises(StoreFailed, match="exists already"):
        LedgerStore.create(path, LEDGER.public, START)


# --- Older files -------------------------------------------------------------------------------


def _version_1(path, new):
    """The books of the file `new` as the first version would have kept them."""
    old = open_database(path, Schema("ledger", SCHEMA.application_id, SCHEMA.migrations[:1]), create=lambda _: None)
    source = open_reader(new)
    copied = [
        ("ledger", "one, ledger_id, clock"), ("asset", f"ordinal, {SUMMED['asset']}"), ("balance", SUMMED["balance"]),
        ("channel", SUMMED["channel"]), ("line", SUMMED["line"]), ("concern", "*"),
    ]  # fmt: skip
    with old.transaction():
        for table, columns in copied:
            rows = source.rows(f"SELECT {columns} FROM {table}")
            old.run_many(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        outcomes = source.rows(
            "SELECT key, request_id, request_hash, valid_until, COALESCE(outcome.body, line.body)"
            " FROM outcome LEFT JOIN line ON outcome.line = line.number"
        )
        old.run_many("INSERT INTO outcome VALUES (?, ?, ?, ?, ?)", outcomes)
        old.run_many("INSERT INTO entry VALUES (?)", source.rows("SELECT DISTINCT entry FROM line"))
    source.close()
    old.close()


def test_a_file_of_the_first_version_is_migrated(world, path):
    channel = world.open()
    world.ask(KEY0, ops.Close(channel, (state(channel, half(3, 30), half(1, 4)),)))
    request = world.request(ALICE, ops.Transfer(USD, BOB.public, 5))
    answer = world.send(request)
    before = world.everything()
    world.store.close()
    older = path.with_name("older.db")
    _version_1(older, path)
    store = LedgerStore.open(older, LEDGER.public)
    again = StoredWorld(store)
    assert again.everything() == before
    assert audit(store.books).balanced
    number = store.books.number()
    assert again.send(request) == answer
    assert store.books.number() == number
    again.ask(KEY1, ops.Respond(channel, (state(channel, half(9, 90)),)))
    assert audit(store.books).balanced
    store.close()


def _version_3(path):
    """Turn the books of this file into what the third version would have kept."""
    raw = apsw.Connection(str(path))
    for table in ("outcome", "ledger"):
        raw.execute(f"ALTER TABLE {table} DROP COLUMN sum")
    raw.execute("PRAGMA user_version = 3")
    raw.close()


def test_a_file_of_the_third_version_is_migrated(world, path):
    channel = world.open()
    requests = [
        world.request(KEY0, ops.Close(channel, (state(channel, half(3, 30)),))),  # answered by a line
        world.request(ALICE, ops.Transfer(USD, BOB.public, 5)),
    ]
    answers = [world.send(request) for request in requests]
    before = world.everything()
    world.store.close()
    _version_3(path)
    store = LedgerStore.open(path, LEDGER.public)
    again = StoredWorld(store)
    assert again.everything() == before
    assert [again.send(request) for request in requests] == answers
    store.close()


def test_the_answer_to_a_request_is_kept_whether_it_stands_in_the_journal_or_not(world):
    channel = world.open()
    for signer, operation in (
        (KEY0, ops.Close(channel, (state(channel, half(3, 30)),))),  # the channel's line has the answer
        (KEY0, ops.Close(channel, ())),  # changes nothing
        (ALICE, ops.Transfer(USD, BOB.public, 5)),
    ):
        request = world.request(signer, operation)
        answer = world.send(request)
        world.ask(BOB, ops.Topup(channel, 1, 5))  # the channel is another one now
        assert world.send(request) == answer


# --- What a reading costs ----------------------------------------------------------------------

GROWING = {"balance", "channel", "line", "concern", "outcome"}


def _plans(database, statements):
    """Steps of the plans of all statements, by statement."""
    for sql in statements:
        marks = [None] * (sql.count("?") if "?1" not in sql else 3)
        yield sql, [row[3] for row in database.rows(f"EXPLAIN QUERY PLAN {sql}", marks)]


def test_no_statement_looks_through_a_table_that_grows(world, monkeypatch):
    """Every statement that requests, readings, subscriptions and the timer make, and the plan of each."""
    seen = set()
    for name in ("rows", "row", "run", "run_many"):
        original = getattr(Database, name)

        def watched(self, sql, *rest, original=original):
            seen.add(sql)
            return original(self, sql, *rest)

        monkeypatch.setattr(Database, name, watched)
    world.store.batch.forget()  # what it knows it need not read
    channel = world.open()
    close = world.request(KEY0, ops.Close(channel, (state(channel, half(3, 30), half(1, 4)),)))
    assert world.send(close) == world.send(close)
    world.now += WINDOW_S
    world.store.commit(lambda books: advance(world.ledger, books, world.now))  # an outage
    world.now += WINDOW_S
    world.store.commit(lambda books: settle_due(world.ledger, books, world.now))
    for reading in (ops.Info(), ops.Account(ALICE.public), ops.Channels(0), ops.Journal(0), ops.Channel(channel)):
        world.ask(ALICE, reading)
    assert len(events(world.store.books, ALICE.public, 0)) == 7
    statements = {sql for sql in seen if sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))}
    assert len(statements) >= 20
    for sql, plan in _plans(world.store._reading, statements):
        scans = [step for step in plan if step.startswith("SCAN") and step.split()[1] in GROWING]
        assert scans == [], sql
        # The two halves of a page of channels are cut off before they are merged: see the next test.
        assert "UNION ALL" in sql or not [step for step in plan if "TEMP B-TREE" in step], sql


def test_what_a_batch_remembers_is_bounded(world, monkeypatch):
    monkeypatch.setattr(ledger_batch, "_ROWS_KEPT", 10)
    batch = world.store.batch
    for nonce in range(1, 30):
        world.open(nonce, deposit=5)
        assert len(batch._held) + len(batch._found) <= 10
    assert audit(world.store.books).balanced


def test_expired_answers_are_dropped_in_steps(world, monkeypatch):
    monkeypatch.setattr(ledger_batch, "_EXPIRED_AT_ONCE", 4)
    kept = lambda: world.store._reading.row("SELECT COUNT(*) FROM outcome")[0]  # noqa: E731
    while kept() < 10:
        world.ask(ALICE, ops.Transfer(USD, BOB.public, 1))
    steps = []
    while kept():
        world.now += 61
        world.store.commit(lambda books: advance(world.ledger, books, world.now))
        steps.append(kept())
    assert steps == [6, 2, 0]


def test_disputes_that_end_together_are_settled_in_few_transactions(world):
    count = 2 * MAX_PAGE + 1
    for nonce in range(1, count + 1):
        world.ask(KEY0, ops.Close(world.open(nonce, deposit=5), ()))
    world.now += WINDOW_S
    settled = [world.store.commit(lambda books: settle_due(world.ledger, books, world.now))[0] for _ in range(4)]
    assert settled == [MAX_PAGE, MAX_PAGE, 1, 0]
    assert audit(world.store.books).settled_channels == count


def test_a_page_of_channels_costs_the_same_however_many_there_are(world):
    steps = []
    for count in (20, 200):
        for nonce in range(count, 2 * count):
            world.open(nonce, deposit=5)
        steps.append(_steps(world.store, lambda books: books.channels(ALICE.public, 0, 5)))
    assert steps[1] <= 1.2 * steps[0]


def test_an_entry_costs_the_same_however_long_the_journal_is(world):
    steps = []
    for count in (20, 400):
        for _ in range(count):
            world.ask(ALICE, ops.Transfer(USD, BOB.public, 1))
        request = world.request(ALICE, ops.Transfer(USD, BOB.public, 1))
        work = partial(execute, world.ledger, request=request, now=world.now)
        steps.append(_steps(world.store, lambda _, work=work: world.store.commit(work), writing=True))
    assert steps[1] <= 1.2 * steps[0]


def _steps(store, work, *, writing=False):
    """Steps of SQLite's machine, in tens."""
    connection = (store._database if writing else store._reading)._connection
    count = 0

    def step():
        nonlocal count
        count += 1
        return False

    connection.set_progress_handler(step, 10)
    try:
        work(store.books)
    finally:
        connection.set_progress_handler(None)
    return count


# --- The schema's own checks: what a defect of the core would run into -----------------------


def _line(number, entry, delta, after, holder=Holder.ACCOUNT):
    return Line(number, entry, START, Kind.TRANSFER, holder, ALICE.public, USD, delta, after, watchers=(ALICE.public,))


def _append(*lines):
    return lambda books: books.append(lines)


def _settle_wrongly(books):
    row = next(books.all_channels())
    books.replace_channel(row, row._replace(status=SETTLED, out0=1, out1=1))


def _lower_clock(books):
    books.set_clock(START - 1)


def _overwithdraw(books):
    row = next(books.all_channels())
    books.replace_channel(row, row._replace(withdrawn0=600, withdrawn1=600))


def _change_settled(books):
    row = next(books.all_channels())
    books.replace_channel(row, row._replace(status=SETTLED, out0=1000))
    books.flush()
    books._db.run("UPDATE channel SET number = number + 1")


DEFECTS = {
    "balance below zero": (lambda books: books.put_balance(ALICE.public, USD, -1), "contradict"),
    "balance of no asset": (lambda books: books.put_balance(ALICE.public, bytes(16), 1), "contradict"),
    "money from nowhere": (_append(_line(90, 90, 5, 5)), "sum to zero"),
    "account below zero": (_append(_line(90, 90, -5, -5), _line(91, 90, 5, 5)), "contradict"),
    "half an entry": (_append(_line(8, 8, -5, 9_995)), "sum to zero"),
    "entry that begins elsewhere": (_append(_line(8, 7, 0, 0)), "sum to zero"),
    "entry of lines to come": (_append(_line(8, 9, 0, 0)), "contradict"),
    "gap in the journal": (_append(_line(9, 9, 0, 0)), "follow one another"),
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


def test_a_line_that_is_not_counted_is_not_committed(world):
    world.open()
    insert = (
        "INSERT INTO line SELECT 8, 8, time, kind, holder, owner, asset_id, 0, after, counterpart, body, 0 FROM line"
        " WHERE number = 2"
    )
    with pytest.raises(StoreFailed, match="follow one another"):
        world.store.commit(lambda books: books._db.run(insert))


COLUMNS = [(table, column) for table, columns in SUMMED.items() for column in columns.split(", ")]


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_bit_that_flips_in_a_row_is_found_by_whoever_reads_it(world, path, table, column):
    world.open()
    world.store.close()
    raw = apsw.Connection(str(path))
    for trigger in ("settled_for_ever", "lines_stay", "clock_never_goes_back", "entries_are_whole"):
        raw.execute(f"DROP TRIGGER {trigger}")
    raw.execute("PRAGMA ignore_check_constraints = ON")
    order = "" if table == "balance" else "ORDER BY rowid"
    (value,) = raw.execute(f"SELECT {column} FROM {table} WHERE {column} <> x'' {order} LIMIT 1").fetchone()
    raw.execute(f"UPDATE {table} SET {column} = ?1 WHERE {column} = ?2", (_flipped(value), value))
    raw.close()
    with pytest.raises(
        StoreFailed, match=f"row .* of {table} is damaged: its checksum does not hold|{path} is damaged: "
    ):
        _open_and_audit(path)


def test_a_bit_that_flips_in_a_key_or_an_index_stops_the_ledger_at_its_start(world, path):
    channel = world.open()
    world.ask(KEY0, ops.Close(channel, (state(channel, half(9, 90)),)))
    world.store.close()
    raw = apsw.Connection(str(path))
    raw.execute("VACUUM")
    answers = [body for (body,) in raw.execute("SELECT body FROM outcome WHERE body <> x''")]
    raw.close()
    sound = path.read_bytes()
    searched = sound
    for body in answers:  # they are no keys
        searched = searched.replace(body, bytes(len(body)))
    found = 0
    for name in (channel, ALICE.public, BOB.public, USD):
        for place in re.finditer(re.escape(name), searched):
            damage = bytearray(sound)
            damage[place.start() + 7] ^= 16
            path.write_bytes(damage)
            if says := _refusal_at_start(path):
                assert str(path) in says
                assert "restore a backup" in says
                found += 1
            else:  # in a line of the journal, whose checksum is read with it
                with pytest.raises(StoreFailed, match="of line is damaged: its checksum does not hold"):
                    _open_and_audit(path)
    path.write_bytes(sound)
    LedgerStore.open(path, LEDGER.public).close()
    assert found > 30  # the rows, their indexes, and all that leads from an account to its lines


def _open_and_audit(path):
    store = LedgerStore.open(path, LEDGER.public)
    try:
        audit(store.books)
    finally:
        store.close()


def _refusal_at_start(path):
    """Why the ledger does not start on this file; "" if it does."""
    try:
        LedgerStore.open(path, LEDGER.public).close()
    except StoreFailed as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DELETE FROM balance WHERE units = (SELECT MAX(units) FROM balance)", "units of .* are held"),
        (
            "UPDATE ledger SET number = number + 1, sum = checksum(ledger_id, clock, number + 1)",
            "its newest is",
        ),
        ("DELETE FROM concern WHERE number = 2", "line 2 of the journal is not found"),
        ("INSERT INTO concern SELECT account, 9999, own FROM concern LIMIT 1", "stand under"),
    ],
)
def test_a_row_that_is_gone_stops_the_ledger_at_its_start(world, path, change, says):
    world.open()
    world.store.close()
    raw = apsw.Connection(str(path))
    raw.create_scalar_function("checksum", checksum)
    raw.execute("DROP TRIGGER entries_are_whole")
    raw.execute(change)
    raw.close()
    with pytest.raises(StoreFailed, match=f"is damaged: .*{says}"):
        LedgerStore.open(path, LEDGER.public)


def _flipped(value):
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, str):
        return chr(ord(value[0]) ^ 1) + value[1:]
    return bytes([value[0] ^ 1]) + value[1:]


def test_a_channel_that_is_not_as_it_was_read_is_not_replaced(world):
    world.open()
    row = next(world.store.books.all_channels())
    with pytest.raises(StoreFailed, match="is not as it was read"):
        world.store.commit(lambda books: books.replace_channel(row._replace(status=CLOSING), row))


def test_refusals_leave_the_store_in_use(world):
    with pytest.raises(LedgerRefused):
        world.ask(ALICE, ops.Redeem(USD, 10**9))
    world.ask(ALICE, ops.Redeem(USD, 1))
