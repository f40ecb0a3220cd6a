"""Channels are loaded when they are wanted; what concerns one that is not in memory reaches it. Spec N-31."""

from __future__ import annotations

import random

import pytest

from channelpay.channel.closing import co_sign
from channelpay.channel.saved import Summary
from channelpay.channel.state import Channel, Phase
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import LedgerRequest
from channelpay.node.roster import Roster
from node_world import NodeWorld, World, open_pair


def another(world: World, a: NodeWorld, b: NodeWorld) -> bytes:
    """One more open channel; its id."""
    before = set(a.node.channels)
    a.node.open_channel(b.id, world.ledger.asset_id, 1000, 0, 60, 4096, world.clock)
    world.settle()
    (new,) = set(a.node.channels) - before
    return new


def loaded(node: NodeWorld) -> set[bytes]:
    return set(node.node.roster.loaded)


def test_a_start_loads_no_channel_that_rests_and_asks_the_ledger_once_for_all(tmp_path):
    world, a, b = open_pair(tmp_path)
    ids = {*a.node.channels, *(another(world, a, b) for _ in range(5))}
    asked = []
    for _ in range(2):
        b.crash()
        b.restart()
        assert set(b.node.channels) == ids
        assert loaded(b) == set()
        b.turn()
        asked += [LedgerRequest.decode(request.blob).operation for request in b.requests]
        world.settle()
        assert loaded(b) == set(), "neither the subscription nor the first reading wants any"
    assert {type(operation) for operation in asked} == {ops.Subscribe}
    assert b.node.ledger.was_read


def test_a_channel_is_loaded_when_its_peer_connects_and_leaves_with_it(tmp_path):
    world, a, b = open_pair(tmp_path)
    c = world.add(funds=10_000)
    world.settle()
    world.connect(c, b)
    world.settle()
    another(world, c, b)
    b.crash()
    b.restart()
    world.settle()
    world.connect(a, b)
    world.settle()
    assert loaded(b) == {a.channel().channel_id}, "the other peer is not here"
    a.pay(1, 2)
    world.settle()
    assert [amount for _, amount in b.journal()] == [1, 2]
    world.cut(b)
    world.settle()
    assert loaded(b) == set()
    assert loaded(a) == set()
    world.connect(a, b)
    a.pay(3)
    world.settle()
    assert [amount for _, amount in b.journal()] == [1, 2, 3]


def test_payments_for_a_peer_that_is_away_keep_the_channel_until_they_are_paid(tmp_path):
    world, a, b = open_pair(tmp_path)
    world.cut(a)
    world.settle()
    (item,) = a.pay(5)
    world.settle()
    assert loaded(a) == {item_channel(a)}
    world.connect(a, b)
    world.settle()
    assert a.paid == [item]
    world.cut(a)
    world.settle()
    assert loaded(a) == set()


def item_channel(node: NodeWorld) -> bytes:
    (channel_id,) = node.node.channels
    return channel_id


def test_unacknowledged_payments_of_a_channel_that_is_not_loaded_are_sent_again(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.pay(7)
    a.turn(send=False)
    a.crash()
    a.restart()
    world.settle()
    assert loaded(a) == set()
    world.connect(a, b)
    world.settle()
    assert [amount for _, amount in b.journal()] == [7]


@pytest.mark.parametrize("away", [True, False], ids=["while it was down", "while it runs"])
def test_a_stale_close_of_a_channel_that_is_not_loaded_is_answered(tmp_path, away):
    world, a, b = open_pair(tmp_path)
    a.pay(100)
    world.settle()
    old = co_sign(a.channel(), a.channel().held)
    a.pay(900)
    world.settle()
    b.crash()
    if not away:
        b.restart()
        world.settle()
        assert loaded(b) == set()
    key, channel_id = a.channel().key, a.channel().channel_id
    a.crash()
    world.ledger.request(key, ops.Close(channel_id, (old,)))
    if away:
        b.restart()
    world.settle()
    assert b.channel().phase is Phase.CLOSING
    world.pass_time(70)
    assert b.channel().phase is Phase.SETTLED
    assert world.ledger.balance(b.keys.account.public) == 1000


def test_what_can_fall_due_by_itself_is_loaded_at_the_start(tmp_path):
    world, a, b = open_pair(tmp_path)
    resting, closing = item_channel(a), another(world, a, b)
    b.crash()
    a.node.close(closing, False, world.clock)
    world.settle()
    a.crash()
    a.restart()
    assert loaded(a) == {closing}
    assert a.node.roster.phase(closing) is Phase.SHUTDOWN
    world.pass_time(300)
    assert a.node.roster.phase(closing) is Phase.SETTLED, "its time-out made it a unilateral close"
    assert a.node.roster.phase(resting) is Phase.OPEN
    assert loaded(a) == set()


def test_an_event_about_a_settled_channel_loads_nothing(tmp_path):
    world, a, b = open_pair(tmp_path)
    settled = item_channel(a)
    a.node.close(settled, False, world.clock)
    world.pass_time(30)
    assert a.node.roster.is_dead(settled)
    for node in (a, b):
        node.crash()
        node.restart()
        node.seen_number = 0  # all events once more
        world.settle()
        assert loaded(node) == set()
        assert dict(node.node.roster.live) == {}


def test_an_answer_about_a_channel_leaves_nothing_in_memory(tmp_path):
    world, _, b = open_pair(tmp_path)
    (channel_id,) = b.node.channels
    world.cut(b)
    world.settle()
    b.node.read_channel(channel_id)
    world.settle()
    assert b.node.ledger.wants_reading(channel_id), "it was answered"
    assert loaded(b) == set()


def test_whoever_holds_a_channel_that_was_dropped_holds_the_one_that_comes_back(tmp_path):
    world, a, b = open_pair(tmp_path)
    held = a.channel()
    world.cut(a)
    world.settle()
    assert loaded(a) == set()
    assert a.node.roster.peek(held.channel_id) is held
    world.connect(a, b)
    world.settle()
    a.pay(4)
    world.settle()
    assert a.channel() is held
    assert held.acked.total == 4


def test_a_store_found_to_be_old_is_so_for_a_channel_that_somebody_still_holds(tmp_path):
    """Else it would close alone with what it knows, without having heard the peer (spec X-11)."""
    world, _, b = open_pair(tmp_path)
    channel = b.channel()
    world.cut(b)
    world.settle()
    assert loaded(b) == set()
    b.node.mark_restored()
    assert b.node.channels[channel.channel_id] is channel
    assert channel.restored


def test_a_look_leaves_nothing_in_memory(tmp_path):
    _, a, _ = open_pair(tmp_path)
    a.crash()
    a.restart()
    (channel_id,) = a.node.channels
    assert a.node.roster.peek(channel_id).own_balance() == 1_000_000
    assert loaded(a) == set()


# --- In the order of ids -------------------------------------------------------------------------


def summaries(count: int, seed: int = 1) -> list[Summary]:
    chance = random.Random(seed)
    phases = (Phase.OPEN, Phase.SETTLED)
    return [
        Summary(chance.randbytes(32), bytes([chance.randrange(5)]) * 32, 0, 60, chance.choice(phases), True)
        for _ in range(count)
    ]


def never(_: bytes) -> Channel:
    raise AssertionError("nothing is to be loaded")


def test_pages_and_prefixes_without_loading():
    roster, known = Roster(), summaries(1000)
    assert roster.learn(known[:700], never) == []
    assert len(roster.page(b"", 10_000, dead=True)) == 700
    roster.learn(known[700:], never)
    for dead in (True, False):
        wanted = sorted(s.channel_id for s in known if dead or s.phase is Phase.OPEN)
        found: list[bytes] = []
        while page := roster.page(found[-1] if found else b"", 77, dead=dead):
            found += page
        assert found == wanted
    for prefix in ("0", "ab", "abc", "f", "ff", known[3].channel_id.hex(), "00000000"):
        assert roster.named(prefix) == sorted(s.channel_id for s in known if s.channel_id.hex().startswith(prefix))
    assert roster.phases == {phase: sum(s.phase is phase for s in known) for phase in (Phase.OPEN, Phase.SETTLED)}
    assert len(roster.live) == roster.phases[Phase.OPEN]
    for peer in range(5):
        mine = [s for s in known if s.peer_id[0] == peer and s.phase is Phase.OPEN]
        assert roster.count_with(bytes([peer]) * 32) == len(mine)


def test_what_does_not_rest_is_told():
    known = summaries(10)
    known[4] = known[4]._replace(phase=Phase.CLOSING, rests=False)
    assert Roster().learn(known, never) == [known[4].channel_id]
