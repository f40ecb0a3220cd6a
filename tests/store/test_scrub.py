"""A row that a flipped bit has hidden is missed by whoever needs it, and by the look through the store. Spec N-33."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import apsw
import pytest

from channelpay.errors import StoreFailed
from channelpay.limits import CHECK_STEP_ROWS
from channelpay.node.ready import Persist
from channelpay.store.node import NodeStore
from node_store import LEDGER, NODE, Fixture, records

HOUR = 3_600
KEEP = 25 * HOUR


@pytest.fixture
def fixture(tmp_path):
    made = Fixture(tmp_path)
    yield made
    made.store.close()


def used(fixture: Fixture) -> list[bytes]:
    """A store with some of everything, part of it pruned: the ids of its channels."""
    channels = [fixture.channel(side) for side in (0, 1, 0)]
    fixture.store.commit(Persist(peers=[(bytes([3]) * 32, "cp1x@h:1")], next_key_index=5))
    for hours in (0, 100, 200):
        while fixture.store.prune(hours * HOUR, KEEP):
            pass
        for i in range(20):
            for c in channels:
                fixture.journal(
                    fixture.entry(c, 0, records(2, 3, first_id=1000 * hours + 10 * i)), fixture.entry(c, 1, records(4))
                )
        fixture.journal(fixture.gap(channels[0], 1, 3, 12))
    while fixture.store.prune(200 * HOUR, KEEP):
        pass
    return [c.channel_id for c in channels]


def look_through(store: NodeStore) -> int:
    """How many steps it took."""
    return sum(1 for _ in store.check())


def test_a_sound_store_passes_and_no_step_reads_more_than_a_few_rows(fixture, monkeypatch):
    used(fixture)
    (batches,) = fixture.store._db.row("SELECT count(*) FROM batches")
    assert batches > 2 * CHECK_STEP_ROWS
    table, largest = fixture.store._batches, 0

    def whole(where, parameters, original=table.whole):
        nonlocal largest
        rows = list(original(where, parameters))
        largest = max(largest, len(rows))
        yield from rows

    monkeypatch.setattr(table, "whole", whole)
    assert look_through(fixture.store) >= batches / CHECK_STEP_ROWS
    assert largest == CHECK_STEP_ROWS
    assert fixture.store.kept_from > 0
    look_through(fixture.reopen())


def test_payments_go_on_between_the_steps(fixture):
    used(fixture)
    c = next(iter(fixture.channels.values()))
    for step, _ in enumerate(fixture.store.check()):
        fixture.journal(fixture.entry(c, 0, records(1)), fixture.entry(c, 1, records(1)))
        if step == 20:
            while fixture.store.prune(400 * HOUR, KEEP):
                pass


HIDING = {
    "DELETE FROM halves WHERE ref = 2": "channel 2 has no state",
    "DELETE FROM states WHERE ref = 3": "channel 3 has no state",
    "DELETE FROM batches WHERE id = (SELECT max(id) FROM batches WHERE channel = 2 AND payer = 0)": "is not found",
    "DELETE FROM batches WHERE id = (SELECT max(id) - 20 FROM batches)": "is not found|has nothing",
    "DELETE FROM pruned WHERE channel = 2 AND payer = 0": "is not found",
}


@pytest.mark.parametrize("change", HIDING)
def test_a_row_that_is_gone_is_missed(fixture, change):
    used(fixture)
    fixture.store._db.run(change)
    with pytest.raises(StoreFailed, match=f"is damaged: .*({HIDING[change]})"):
        look_through(fixture.store)


def test_a_bit_that_flips_in_a_key_or_an_index_is_found(fixture):
    used(fixture)
    fixture.store.close()
    raw = apsw.Connection(str(fixture.path))
    raw.execute("PRAGMA journal_mode = DELETE; VACUUM")
    page_size = raw.execute("PRAGMA page_size").fetchone()[0]
    trees = dict(raw.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 1"))
    raw.close()
    sound = fixture.path.read_bytes()
    missed = []
    for name in ("sqlite_autoindex_channels_1", "batches_by_number", "batches_by_position", "batches_by_id_time"):
        for page in _leaves(sound, trees[name], page_size):
            for place in _cells(sound, page, page_size):
                fixture.path.write_bytes(_flipped(sound, place))
                if not _is_found(fixture.path):
                    missed.append((name, place))
    fixture.path.write_bytes(sound)
    assert _is_found(fixture.path) == ""
    assert missed == []


def _leaves(data: bytes, root: int, size: int) -> list[int]:
    """Offsets of the leaf pages of an index (SQLite's file format, section 1.6)."""
    start = (root - 1) * size
    if data[start] == 10:
        return [start]
    assert data[start] == 2, "an interior page of an index"
    count = int.from_bytes(data[start + 3 : start + 5], "big")
    pointers = [int.from_bytes(data[start + 12 + 2 * i : start + 14 + 2 * i], "big") for i in range(count)]
    children = [int.from_bytes(data[start + at : start + at + 4], "big") for at in pointers]
    children.append(int.from_bytes(data[start + 8 : start + 12], "big"))
    return [page for child in children for page in _leaves(data, child, size)]


def _cells(data: bytes, page: int, size: int) -> list[int]:
    """The middle of some of the entries of a leaf."""
    count = int.from_bytes(data[page + 3 : page + 5], "big")
    pointers = [int.from_bytes(data[page + 8 + 2 * i : page + 10 + 2 * i], "big") for i in range(count)]
    return [page + at + 1 + data[page + at] // 2 + 1 for at in pointers[:: max(1, count // 4)]]


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


def _is_found(path: Path) -> str:
    """What a start and a look through the store say; "" if nothing."""
    try:
        store = NodeStore(path, NODE, LEDGER)
    except StoreFailed as error:
        return str(error)
    try:
        look_through(store)
    except StoreFailed as error:
        return str(error)
    finally:
        store.close()
    return ""


# --- Where rows are used ------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["max(id)", "max(id) - 6"])
def test_a_channel_whose_newest_batches_are_not_found_is_not_loaded(fixture, which):
    c = fixture.channel(0)
    for _ in range(5):
        fixture.journal(fixture.entry(c, 0, records(2, 3)), fixture.entry(c, 1, records(4)))
    fixture.store._db.run(f"DELETE FROM batches WHERE id = (SELECT {which} FROM batches WHERE payer = 0)")
    with pytest.raises(StoreFailed, match=r"payment \d+ of party 0 of channel 1 is not found"):
        list(fixture.reopen().channels(fixture.keys))


@pytest.mark.parametrize("payer", [0, 1])
def test_a_peer_gets_no_records_with_a_hole(fixture, payer):
    c = fixture.channel(0)
    for _ in range(5):
        fixture.journal(fixture.entry(c, 0, records(2)), fixture.entry(c, 1, records(4)))
    fixture.store._db.run("DELETE FROM batches WHERE last_n = 3")
    with pytest.raises(StoreFailed, match=f"payment 3 of party {payer} of channel 1 is not found"):
        fixture.store.batches(c.channel_id, payer, 1)
    with pytest.raises(StoreFailed, match=f"payment 3 of party {payer} of channel 1 is not found"):
        fixture.store.batches(c.channel_id, payer, 4 - 1)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_the_journal_is_not_read_over_a_hole(fixture, n):
    c = fixture.channel(0)
    for _ in range(5):
        fixture.journal(fixture.entry(c, 1, records(4)))
    fixture.store._db.run("DELETE FROM batches WHERE last_n = ?", (n,))
    with pytest.raises(StoreFailed, match="the journal has nothing from position"):
        fixture.all_rows()


def test_a_channel_that_its_index_names_wrongly_is_not_believed(fixture):
    first, second = fixture.channel(0), fixture.channel(0)
    store = fixture.reopen()
    rows = store._db.row

    def row(sql, parameters=()):
        if sql == "SELECT ref FROM channels WHERE channel_id = ?":
            return (2,) if parameters[0] == first.channel_id else (1,)
        return rows(sql, parameters)

    store._db.row = row
    with pytest.raises(StoreFailed, match=f"channel {second.channel_id.hex()} is not found by its index"):
        store.kept_n(second.channel_id, 0)


def test_a_start_does_not_believe_an_index_in_which_the_newest_payments_are_out_of_order(fixture):
    """Whoever asks for the greatest number finds it, and whoever goes through in order does not come so far."""
    c = fixture.channel(0)
    for _ in range(5):
        fixture.journal(fixture.entry(c, 0, records(4)))
    assert [half.n for _, half in fixture.store._batches.unacked(1, 0, 2, 5)] == [3, 4, 5]
    stream = fixture.store._db.stream

    def cut(sql, parameters=()):
        yield from islice(stream(sql, parameters), 2)

    fixture.store._db.stream = cut
    with pytest.raises(StoreFailed, match="payment 5 of party 0 of channel 1 is not found: the payments end at 4"):
        fixture.store._batches.unacked(1, 0, 2, 5)
    with pytest.raises(StoreFailed, match="the payments end at 2"):
        fixture.store.channel(c.channel_id, fixture.keys)
