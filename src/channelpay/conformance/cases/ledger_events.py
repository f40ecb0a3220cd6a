"""Subscriptions. Spec 8.5."""

from __future__ import annotations

from channelpay.conformance.case import case
from channelpay.conformance.cases.ledger_channels import Pair, half
from channelpay.conformance.kit import Kit
from channelpay.conformance.verdict import same
from channelpay.ledger.outcomes import Outcome
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import AccountView, ChannelView


@case("L-20 L-21")
def events_past_and_new(kit: Kit) -> None:
    """A subscription tells past events and then new ones, each once, in the order of their numbers"""
    purse = kit.purse(10)
    kit.ledger.answer(purse, ops.Transfer(kit.asset_id, kit.account.public, 1))
    listener = kit.new_ledger()
    listener.answer(purse, ops.Subscribe(0))
    kit.ledger.answer(purse, ops.Transfer(kit.asset_id, kit.account.public, 2))
    seen = [listener.next_event() for _ in range(3)]
    same([event.kind for event in seen], ["transfer"] * 3, "the kinds of the events")
    same(sorted({event.number for event in seen}), [event.number for event in seen], "the order of the events")
    same([AccountView.decode(event.body).holdings[0].units for event in seen], [10, 9, 7], "the balances told")
    listener.talk.expect_quiet()


@case("L-20")
def events_of_a_channel(kit: Kit) -> None:
    """Both accounts of a channel are told of every change, with the channel as it then was"""
    pair = Pair(kit)
    listener = kit.new_ledger()
    listener.answer(pair.accounts[1], ops.Subscribe(pair.view.opened - 1))
    same(listener.next_event().kind, "open", "the first event")
    pair.close(pair.state(half(1, 10)))
    pair.respond(pair.state(half(2, 20)))
    closed, answered = listener.next_event(), listener.next_event()
    same((closed.kind, answered.kind), ("close", "respond"), "the kinds of the events")
    same((closed.subject, answered.subject), (pair.id, pair.id), "the subjects of the events")
    same(ChannelView.decode(closed.body).half0, half(1, 10).pack(), "half0 in the first event")
    same(ChannelView.decode(answered.body).half0, half(2, 20).pack(), "half0 in the second event")


@case("L-21")
def events_resume(kit: Kit) -> None:
    """Whoever was cut off subscribes from the last event that it has seen, and misses nothing"""
    purse = kit.purse(10)
    listener = kit.new_ledger()
    listener.answer(purse, ops.Subscribe(0))
    first = listener.next_event()
    listener.close()
    kit.ledger.answer(purse, ops.Transfer(kit.asset_id, kit.account.public, 4))
    again = kit.new_ledger()
    again.answer(purse, ops.Subscribe(first.number))
    second = again.next_event()
    same(AccountView.decode(second.body).holdings[0].units, 6, "the balance told after the interruption")


@case("L-20")
def events_are_for_those_concerned(kit: Kit) -> None:
    """Nobody is told of what others do"""
    listener = kit.new_ledger()
    listener.answer(kit.key(), ops.Subscribe(0))
    kit.purse(1)
    listener.talk.expect_quiet()


@case("L-21")
def subscription_once(kit: Kit) -> None:
    """A second subscription on one connection is refused"""
    purse = kit.purse(1)
    listener = kit.new_ledger()
    listener.answer(purse, ops.Subscribe(0))
    listener.refused(purse, ops.Subscribe(0), Outcome.ALREADY_SUBSCRIBED)


@case("L-21")
def subscription_beyond_the_newest(kit: Kit) -> None:
    """A number beyond the newest is refused: this is another ledger, or one set back"""
    listener = kit.new_ledger()
    listener.refused(kit.key(), ops.Subscribe(2**40), Outcome.UNKNOWN_NUMBER)


@case("L-20 L-7")
def info_follows_the_events(kit: Kit) -> None:
    """An answer to info on a subscribed connection comes after every event up to its number"""
    purse = kit.purse(10)
    listener = kit.new_ledger()
    listener.answer(purse, ops.Subscribe(0))
    kit.ledger.answer(purse, ops.Transfer(kit.asset_id, kit.account.public, 1))
    listener.info()
    same(len(listener.events), 2, "the events before the answer to info")
