"""The node and its ledger: events in order, requests that outlive connections, answers that cannot be."""

from __future__ import annotations

import dataclasses

import pytest

from channelpay.channel.effects import OperatorNote
from channelpay.errors import LocalError, Reason, RemoteError
from channelpay.ledger.outcomes import Outcome
from channelpay.ledger.views import events
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import ChannelView
from channelpay.messages.peer import Error
from channelpay.node.ready import OperationAnswered, RequestAnswered
from node_world import NodeWorld, Phase, World, open_pair


def view(world: World, a: NodeWorld) -> ChannelView:
    """The channel as the ledger shows it now."""
    return world.ledger.request(a.keys.account, ops.Channel(a.channel().channel_id))


def asked(node: NodeWorld, kind: type[ops.Operation]) -> list[bytes]:
    return [key for key, waiting in node.node.ledger.asked.items() if isinstance(waiting.operation, kind)]


# --- Requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize("crash", [True, False])
def test_a_topup_whose_answer_was_lost_is_done_once(tmp_path, executed, crash):
    world, a, _ = open_pair(tmp_path, deposit=1000)
    request_id = a.node.topup(a.channel().channel_id, 500, world.clock)
    a.turn()
    if executed:
        assert a.ledger_takes()
    if crash:
        a.crash()
        a.restart()
    else:
        a.lose_ledger()
        a.connect_ledger()
    world.settle()
    assert a.channel().reading.deposits == (1500, 0)
    assert world.ledger.balance(a.keys.account.public) == 10_000 - 1500
    assert [note for note in a.notes if isinstance(note, RequestAnswered)][-1] == (request_id, 0, "")
    assert a.store.requests() == []
    assert world.ledger.books.channel(a.channel().channel_id).deposit0 == 1500


def test_a_topup_needs_a_ledger(tmp_path):
    world, a, _ = open_pair(tmp_path, deposit=1000)
    a.lose_ledger()
    for wish in (
        lambda: a.node.topup(a.channel().channel_id, 1, world.clock),
        lambda: a.node.claim(a.channel().channel_id, world.clock),
    ):
        with pytest.raises(LocalError) as refused:
            wish()
        assert refused.value.reason is Reason.LEDGER_UNREACHABLE
    assert a.node.read_account(world.clock) is None
    assert not a.node.ledger.asked


def test_a_close_that_was_cut_off_is_submitted_again(tmp_path):
    world, a, b = open_pair(tmp_path, deposit=1000)
    world.cut(a)
    a.node.close(a.channel().channel_id, True, world.clock)
    a.turn()
    assert len(a.requests) == 1
    a.lose_ledger()  # before the ledger had it
    a.connect_ledger()
    world.settle()
    assert world.ledger.books.channel(a.channel().channel_id).status == ops.CLOSING
    assert b.channel().phase is Phase.CLOSING


def test_a_close_decided_without_a_ledger_is_submitted_when_it_is_back(tmp_path):
    world, a, _ = open_pair(tmp_path, deposit=1000)
    a.lose_ledger()
    a.node.close(a.channel().channel_id, True, world.clock)
    a.turn()
    a.crash()
    a.restart()
    world.settle()
    assert world.ledger.books.channel(a.channel().channel_id).status == ops.CLOSING


def test_a_refused_operation_waits_before_it_is_tried_again(tmp_path):
    world, a, b = open_pair(tmp_path, deposit=1000)
    world.cut(a)
    a.node.close(a.channel().channel_id, True, world.clock)
    a.turn()
    a.requests.clear()
    (request_id,) = asked(a, ops.Close)
    a.node.ledger_answer(request_id, int(Outcome.OVERFLOW), "overflow", None, world.clock)
    a.turn()
    assert not asked(a, ops.Close)
    assert any("the ledger refused close: overflow" in text for text in a.warnings())
    told = [note for note in a.notes if isinstance(note, OperationAnswered)]
    assert told[1:] == [(a.channel().channel_id, "close", int(Outcome.OVERFLOW), "overflow")]
    world.pass_time(3)
    assert b.channel().phase is Phase.CLOSING


def test_a_settled_channel_asks_for_nothing_more(tmp_path):
    world, a, b = open_pair(tmp_path, deposit=1000)
    a.pay(500)
    world.settle()
    b.node.withdraw(b.channel().channel_id, 100, world.clock)
    b.turn()
    world.deliver(a)
    a.turn()
    world.deliver(b)  # consented; b has not submitted it yet
    a.node.close(a.channel().channel_id, True, world.clock)
    world.cut(a)
    b.requests.clear()
    b.lose_ledger()
    world.pass_time(100, step=5)
    b.connect_ledger()
    world.settle()
    assert (a.channel().phase, b.channel().phase) == (Phase.SETTLED, Phase.SETTLED)
    assert b.channel().withdrawals == {}
    assert not asked(b, ops.Withdraw)


def test_an_answer_that_nobody_waits_for_is_ignored(tmp_path):
    world, a, _ = open_pair(tmp_path)
    a.node.ledger_answer(bytes(16), 0, "", view(world, a), world.clock)
    ready = a.node.ready()
    assert not ready.notes
    assert not ready.persist


def test_a_ledger_that_does_not_answer_is_overdue(tmp_path):
    world, a, _ = open_pair(tmp_path)
    assert not a.node.ledger.overdue(world.clock + 1000)
    a.node.read_channel(a.channel().channel_id)
    assert not a.node.ledger.overdue(world.clock + 20)
    assert a.node.ledger.overdue(world.clock + 21)


# --- Readings ----------------------------------------------------------------------------------


def test_events_are_replayed_from_the_last_one_on_disk(tmp_path):
    world, a, b = open_pair(tmp_path, deposit=1000)
    b.crash()
    for _ in range(3):
        a.node.topup(a.channel().channel_id, 100, world.clock)
        world.settle()
    b.restart()
    assert b.node.ledger.number < world.ledger.books.number()
    world.settle()
    assert b.channel().reading.deposits == (1300, 0)
    assert b.store.ledger_number() == b.node.ledger.number == world.ledger.books.number()


def test_an_older_event_changes_nothing(tmp_path):
    world, a, b = open_pair(tmp_path, deposit=1000)
    before = view(world, a)
    a.node.topup(a.channel().channel_id, 100, world.clock)
    world.settle()
    b.node.ledger_event(before.number, before.time, before, world.clock)
    assert b.channel().reading.deposits == (1100, 0)
    b.node.ledger_event(10**6, before.time, before, world.clock)  # a new number with an old view
    assert b.channel().reading.deposits == (1100, 0)


def test_an_event_under_way_is_no_reason_to_refuse_a_payment(tmp_path):
    """The payer has seen its top-up first. Only a reading asked for after the payment may say no."""
    world, a, b = open_pair(tmp_path, deposit=1000)
    b.seen_number = 10**9  # b gets no events by itself
    before = view(world, a)
    a.node.topup(a.channel().channel_id, 500, world.clock)
    a.turn()
    a.use_ledger()
    a.pay(1200)
    a.turn()
    b.node.read_channel(b.channel().channel_id)
    b.turn()
    b.requests.clear()
    (early,) = asked(b, ops.Channel)  # asked for before the payment came
    world.deliver(b)
    b.turn()
    b.node.ledger_event(before.number, before.time, before, world.clock)
    b.node.ledger_answer(early, 0, "", before, world.clock)
    b.turn()
    assert not any(isinstance(m, Error) for inbox in world.inboxes.values() for m in inbox)
    assert b.channel().suspended == ""
    assert len(asked(b, ops.Channel)) == 1, "it is read once more"
    world.settle()
    assert b.journal() == [(0, 1200)]


def test_a_payment_that_waits_for_a_reading_outlives_the_ledgers_connection(tmp_path):
    world, a, b = open_pair(tmp_path, deposit=1000)
    b.seen_number = 10**9
    a.node.topup(a.channel().channel_id, 500, world.clock)
    a.turn()
    a.use_ledger()
    a.pay(1200)
    a.turn()
    world.deliver(b)
    b.turn()
    b.lose_ledger()  # the reading is lost
    b.connect_ledger()
    world.settle()
    assert b.journal() == [(0, 1200)]


def test_hints_do_not_flood_the_ledger(tmp_path):
    world, _, b = open_pair(tmp_path)
    for _ in range(100):
        b.node.read_channel(b.channel().channel_id)
    b.turn()
    assert len(b.requests) == 1
    assert b.ledger_takes()
    assert b.ledger_answers()
    b.turn()
    assert len(b.requests) == 1, "and once more, because it was wanted after the first was asked for"
    world.settle()
    assert not asked(b, ops.Channel)


def test_a_view_that_cannot_be_is_the_ledgers_fault_and_leaves_everything_as_it_was(tmp_path):
    world, a, b = open_pair(tmp_path)
    wrong = dataclasses.replace(view(world, a), half0=b"\xff" * 88)
    with pytest.raises(RemoteError):
        a.node.ledger_event(10**6, 0, wrong, world.clock)
    request_id = a.node.topup(a.channel().channel_id, 5, world.clock)
    a.turn()
    with pytest.raises(RemoteError):
        a.node.ledger_answer(request_id, 0, "", wrong, world.clock)
    assert request_id in a.node.ledger.asked, "it counts as not answered"
    assert a.node.ledger.number < 10**6
    a.lose_ledger()
    a.connect_ledger()
    world.settle()
    assert a.store.requests() == []
    a.pay(1)
    world.settle()
    assert b.journal() == [(0, 1)]


def test_a_channel_of_mine_that_my_store_does_not_know(tmp_path):
    world, a, _ = open_pair(tmp_path)
    for n, status in enumerate((ops.OPEN, ops.SETTLED)):
        unknown = dataclasses.replace(view(world, a), channel_id=bytes([n]) * 32, status=status)
        a.node.ledger_event(10**6 + n, 0, unknown, world.clock)
    notes = a.node.ready().notes
    assert [type(note) for note in notes] == [OperatorNote]
    assert "none of this node's next keys is in it" in notes[0].text


def test_a_ledger_that_was_set_back_is_told_to_the_operator(tmp_path):
    world, a, _ = open_pair(tmp_path)
    a.lose_ledger()
    a.node.ledger.number = 10**6
    a.connect_ledger()
    world.settle()
    assert any("refused the subscription" in text for text in a.warnings())
    assert not a.node.ledger.subscribed


# --- Time --------------------------------------------------------------------------------------


def test_the_ledger_is_polled_so_that_the_shortest_window_never_stalls(tmp_path):
    world, a, b = open_pair(tmp_path, window_s=20)
    for _ in range(60):
        world.pass_time(1)
        a.pay(1)
        world.settle()
    assert len(b.journal()) == 60
    a.node.close(a.channel().channel_id, False, world.clock)
    world.settle()
    assert a.node.roster.least_window_s > 10_000, "the channel is gone, and so is the hurry"


def test_a_stale_reading_stops_paying_and_says_so(tmp_path):
    world, a, b = open_pair(tmp_path, window_s=20)
    a.lose_ledger()
    world.clock += 5.5
    with pytest.raises(LocalError) as refused:
        a.pay(1)
    assert refused.value.reason is Reason.STALLED
    a.connect_ledger()
    world.settle()
    b.node.tick(world.clock)
    a.pay(1)
    world.settle()
    assert b.journal() == [(0, 1)]


def test_events_of_others_money_are_only_counted(tmp_path):
    world, a, _ = open_pair(tmp_path)
    number = a.node.ledger.number
    world.ledger.fund(a.keys.account.public, 5)
    found = events(world.ledger.books, a.keys.account.public, number)
    assert [event.subject for event in found] == [a.keys.account.public]
    world.settle()
    assert a.node.ledger.number == found[-1].number
