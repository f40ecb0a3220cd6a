"""Many channels, peers and connections; errors that end one channel, one connection, or nothing."""

from __future__ import annotations

import dataclasses

import pytest

from channelpay.channel import channel as step
from channelpay.errors import Effect, ErrorCode, LocalError, Reason
from channelpay.limits import ANSWER_TIMEOUT_S
from channelpay.messages.peer import Ack, Error, Pay, Request, TopupHint
from node_world import NodeWorld, Phase, World, open_pair


def number(node: NodeWorld, peer: NodeWorld) -> int:
    return node.node.connections[peer.id][0]


def another(world: World, a: NodeWorld, b: NodeWorld, deposit: int = 1000, max_batch: int = 4096):
    """One more channel between the two, seen from a."""
    before = set(a.node.channels)
    a.node.open_channel(b.id, world.ledger.asset_id, deposit, 0, 60, max_batch, world.clock)
    world.settle()
    (new,) = set(a.node.channels) - before
    return a.node.channels[new]


def pay_message(world: World, a: NodeWorld, b: NodeWorld, channel) -> Pay:
    """A PAY of a's, taken off the wire."""
    a.pay(5, channel=channel)
    a.turn()
    inbox = world.inboxes[id(b), number(b, a)]
    message = inbox.pop()
    assert isinstance(message, Pay)
    return message


# --- Two connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("lower_first", [True, False])
def test_when_both_dial_the_lower_ones_connection_stays_on_both_sides(tmp_path, lower_first):
    world, a, b = open_pair(tmp_path)
    world.cut(a)
    lower, higher = sorted((a, b), key=lambda node: node.id)
    for dialler, other in ((lower, higher), (higher, lower))[:: 1 if lower_first else -1]:
        world.connect(dialler, other)
    world.settle()
    assert lower.node.connections[higher.id][1] is True
    assert higher.node.connections[lower.id][1] is False
    assert len(a.node.peer_of) == len(b.node.peer_of) == 1
    a.pay(5)
    world.settle()
    assert b.journal() == [(0, 5)]


def test_a_newer_connection_of_one_diallers_replaces_the_older(tmp_path):
    world, a, b = open_pair(tmp_path)
    old = number(a, b)
    world.connect(a, b)
    ready = a.node.ready()
    assert [(connection, error.code) for connection, error in ready.close] == [(old, ErrorCode.REPLACED)]
    assert number(a, b) != old


def test_what_came_on_a_fenced_connection_and_was_not_taken_is_dropped(tmp_path):
    world, a, b = open_pair(tmp_path)
    message = pay_message(world, a, b, a.channel())
    old = number(b, a)
    world.connect(a, b)
    b.node.received(old, [message], world.clock)
    assert b.channel().peer.n == 0
    world.settle()
    assert b.journal() == [(0, 5)], "it came again on the new one, once"


def test_a_refused_connection_says_nothing_of_the_channels(tmp_path):
    world, a, b = open_pair(tmp_path)
    lower, higher = sorted((a, b), key=lambda node: node.id)
    world.cut(a)
    world.connect(lower, higher)
    world.settle()
    assert higher.node.connected(999, lower.id, True, world.clock) is False
    higher.node.received(999, [TopupHint(a.channel().channel_id)], world.clock)
    ready = higher.node.ready()
    assert ready.send == []
    assert [(connection, error.code) for connection, error in ready.close] == [(999, ErrorCode.REPLACED)]
    higher.node.disconnected(999, world.clock)
    assert lower.id in higher.node.connections


# --- Faults ------------------------------------------------------------------------------------


def test_a_bad_signature_ends_the_connection_of_all_channels_and_changes_none(tmp_path):
    world, a, b = open_pair(tmp_path)
    first, second = a.channel(), another(world, a, b)
    good = pay_message(world, a, b, second)
    bad = dataclasses.replace(pay_message(world, a, b, first), signature=bytes(64))
    connection = number(b, a)
    b.node.received(connection, [bad, good], world.clock)
    ready = b.node.ready()
    assert [(c, error.code) for c, error in ready.close] == [(connection, ErrorCode.BAD_SIGNATURE)]
    assert not ready.persist.journal
    assert all(not c.connected and not c.live for c in b.node.channels.values())
    assert a.id not in b.node.connections
    world.cut(a)
    world.connect(a, b)
    world.settle()
    assert sorted(amount for _, amount in b.journal()) == [5, 5]


def test_a_fault_on_one_channel_suspends_it_alone(tmp_path):
    world, a, b = open_pair(tmp_path)
    first, second = a.channel(), another(world, a, b)
    gap = dataclasses.replace(pay_message(world, a, b, first), first_n=3)
    good = pay_message(world, a, b, second)
    b.node.received(number(b, a), [gap, good], world.clock)
    ready = b.node.ready()
    assert not ready.close
    errors = [message for _, message in ready.send if isinstance(message, Error)]
    assert [(error.code, error.channel) for error in errors] == [(ErrorCode.GAP, first.channel_id)]
    assert [type(m) for _, m in ready.send if not isinstance(m, Error)] == [Ack]
    assert b.node.channels[first.channel_id].suspended
    assert not b.node.channels[second.channel_id].suspended
    assert any("broke a rule" in note.text for note in ready.notes)


def test_errors_of_the_peer(tmp_path):
    world, a, b = open_pair(tmp_path)
    first, second = a.channel(), another(world, a, b)
    for code in (int(ErrorCode.STALLED), int(ErrorCode.GAP), 777):
        first.suspended = ""
        a.node.received(number(a, b), [Error(code, first.channel_id, "because")], world.clock)
        ready = a.node.ready()
        assert [("because" in note.text) for note in ready.notes] == [True]
        retry = code == ErrorCode.STALLED
        assert ErrorCode.STALLED.effect is Effect.RETRY
        assert bool(first.suspended) is not retry
        assert not second.suspended
        assert not ready.close
        assert not ready.send, "an error is never answered by an error"


def test_a_suspended_channel_goes_on_with_the_next_connection(tmp_path):
    world, a, b = open_pair(tmp_path)
    step.suspend(b.channel(), "something")
    a.pay(5)
    world.settle()
    assert b.journal() == []
    world.cut(a)
    world.connect(a, b)
    world.settle()
    assert b.journal() == [(0, 5)]


def test_messages_that_are_not_for_a_node_end_the_connection(tmp_path):
    world, a, b = open_pair(tmp_path)
    connection = number(b, a)
    b.node.received(connection, [Request(bytes(16), b"x", bytes(64)), TopupHint(a.channel().channel_id)], world.clock)
    ready = b.node.ready()
    assert [(c, error.code) for c, error in ready.close] == [(connection, ErrorCode.UNEXPECTED)]
    assert not ready.send


def test_a_stranger_sees_no_channel_of_others(tmp_path):
    world, a, b = open_pair(tmp_path)
    c = world.add()
    world.settle()
    world.connect(c, b)
    b.turn()
    message = pay_message(world, a, b, a.channel())
    b.node.received(number(b, c), [message], world.clock)
    ready = b.node.ready()
    assert [m.code for connection, m in ready.send if connection == number(b, c)] == [ErrorCode.UNKNOWN_CHANNEL]
    assert b.channel().peer.n == 0


def test_a_peer_that_does_not_acknowledge_loses_the_connection(tmp_path):
    world, a, b = open_pair(tmp_path)
    second = another(world, a, b)
    a.pay(5, channel=second)
    a.turn()
    world.inboxes[id(b), number(b, a)].clear()
    connection = number(a, b)
    world.clock += ANSWER_TIMEOUT_S
    assert a.node.next_deadline() <= world.clock
    a.node.tick(world.clock)
    ready = a.node.ready()
    assert [(c, error.code) for c, error in ready.close] == [(connection, ErrorCode.TIMED_OUT)]
    assert b.id not in a.node.connections
    assert all(not c.connected for c in a.node.channels.values())


# --- Many --------------------------------------------------------------------------------------


def test_many_channels_with_one_peer_and_two_peers(tmp_path):
    world, a, b = open_pair(tmp_path)
    c = world.add(funds=10_000)
    world.settle()
    world.connect(c, a)
    world.settle()
    channels = [another(world, a, b) for _ in range(5)] + [another(world, a, c), another(world, c, a)]
    assert len(a.node.channels) == 8
    for n, channel in enumerate(channels[:-1], 1):
        a.pay(n, channel=channel)
    c.pay(9, channel=channels[-1])
    world.settle()
    assert sorted(amount for _, amount in b.journal()) == [1, 2, 3, 4, 5]
    assert c.journal() == [(0, 6)]
    assert a.journal() == [(0, 9)]
    world.cut(b)
    a.pay(10, channel=channels[0])
    a.pay(11, channel=channels[5])
    world.settle()
    assert [amount for _, amount in c.journal()] == [6, 11], "one peer's absence is no other's affair"
    world.connect(b, a)
    world.settle()
    assert [amount for _, amount in b.journal()][-1] == 10


def test_a_flush_of_many_channels_is_one_commit(tmp_path):
    world, a, b = open_pair(tmp_path)
    channels = [another(world, a, b) for _ in range(5)]
    commits = a.store.commits, b.store.commits
    for channel in channels:
        a.pay(1, 2, channel=channel)
    world.settle()
    assert (a.store.commits - commits[0], b.store.commits - commits[1]) == (1, 1)


def test_nothing_that_is_done_with_every_payment_looks_at_every_channel(tmp_path, monkeypatch):
    world, a, b = open_pair(tmp_path)
    for _ in range(5):
        another(world, a, b)
    looked = []
    advance = step.advance
    monkeypatch.setattr(step, "advance", lambda c, now, fx: (looked.append(c), advance(c, now, fx))[1])
    channel = next(iter(a.node.channels.values()))
    a.pay(1, channel=channel)
    a.node.tick(world.clock)
    a.turn()
    a.node.next_deadline()
    assert {c.channel_id for c in looked} == {channel.channel_id}


def test_wanted_peers_are_those_with_a_living_channel_and_an_address(tmp_path):
    world, a, b = open_pair(tmp_path)
    assert a.node.wanted_peers() == []
    world.cut(a)
    assert a.node.wanted_peers() == []
    a.node.know_address(b.id, "cp1b@h:1")
    assert a.node.wanted_peers() == [b.id]
    assert a.node.wants_peer(b.id)
    a.turn()
    a.crash()
    a.restart()
    a.node.addresses.update(a.store.peers())
    assert a.node.wants_peer(b.id)
    world.settle()
    a.node.close(a.channel().channel_id, True, world.clock)
    world.settle()
    world.pass_time(61)
    assert a.channel().phase is Phase.SETTLED
    assert a.node.wanted_peers() == []
    assert not a.node.wants_peer(b.id)


def test_a_node_that_stops_takes_no_payment(tmp_path):
    _, a, _ = open_pair(tmp_path)
    a.node.stopping = True
    with pytest.raises(LocalError) as refused:
        a.pay(1)
    assert refused.value.reason is Reason.STOPPING


def test_a_queue_that_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr("channelpay.channel.payments.MAX_QUEUED_PAYMENTS", 3)
    world, a, b = open_pair(tmp_path)
    world.cut(a)
    a.pay(1, 1, 1)
    with pytest.raises(LocalError) as refused:
        a.pay(1)
    assert refused.value.reason is Reason.QUEUE_FULL
    world.connect(a, b)
    world.settle()
    assert len(b.journal()) == 3
