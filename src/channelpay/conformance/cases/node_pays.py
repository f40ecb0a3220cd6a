"""The node pays the kit. Spec 6.5."""

from __future__ import annotations

from typing import Any

from channelpay.conformance.case import case
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party
from channelpay.conformance.runner import Call, ControlRefused
from channelpay.conformance.verdict import NotRun, Violation, require, same
from channelpay.errors import ErrorCode
from channelpay.limits import ANSWER_TIMEOUT_S
from channelpay.messages.peer import Error, Pay, Ping, Pong
from channelpay.statements import FLAG_ONE_WAY


def rich(kit: Kit, **terms: Any) -> Party:
    """An open channel in which the node has 1,000 units to pay with."""
    party = kit.open(**terms)
    party.pay(1_000)
    return party


def refused(kit: Kit, party: Party, amount: int, what: str) -> None:
    """The node must refuse to pay, and nothing leaves."""
    try:
        call = kit.order_pay(party, amount)
        call.result(kit.runner.patience_s)
    except ControlRefused:
        party.link.expect_quiet()
        return
    raise Violation(f"the node paid {what}")


def settle(kit: Kit, party: Party, call: Call) -> None:
    """Acknowledge whatever the node pays until its caller has its answer."""
    while not call.done():
        message = party.link.receive(max(kit.runner.quiet_s, 0.1))
        if isinstance(message, Pay):
            party.take_pay(message)
            party.ack()
    call.result(kit.runner.patience_s)


@case("C-9 C-10 C-12 S-11", needs="pay")
def node_pays_one(kit: Kit) -> None:
    """The node's PAY has the next number, the right link, and a signature over what it acknowledges"""
    party = rich(kit)
    call = kit.order_pay(party, 20)
    message = party.expect_pay()
    same(message.ack_n, 1, "ack_n: the newest half of the kit's")
    same(party.peer.total, 20, "what was paid")
    party.ack()
    call.result(kit.runner.patience_s)


@case("C-17", needs="pay")
def node_waits_for_the_ack(kit: Kit) -> None:
    """A payment is done when it is acknowledged, and not before"""
    party = rich(kit)
    call = kit.order_pay(party, 20)
    party.expect_pay()
    kit.sleep(0.2)
    require(not call.done(), "the node called a payment done that nobody has acknowledged")
    party.ack()
    call.result(kit.runner.patience_s)


@case("C-12 C-16", needs="pay")
def node_pays_while_it_is_paid(kit: Kit) -> None:
    """Payments that cross count both, and both sides end with the same state"""
    party = rich(kit)
    call = kit.order_pay(party, 20)
    party.link.peek(kit.runner.patience_s)  # it is on its way, and the kit has not read it
    party.link.send(party.next_pay(30, ack_n=0))
    party.expect_pay()
    party.expect_ack()
    party.ack()
    call.result(kit.runner.patience_s)
    party.pay(10)
    same(party.held.peer.total if party.held else 0, 20, "what the node shows to have paid")


@case("C-10", needs="pay")
def node_respects_max_batch(kit: Kit) -> None:
    """With max_batch 1 every payment of the node has its own PAY"""
    party = rich(kit, max_batch=1)
    call = kit.order_pay(party, 20, count=3)
    for _ in range(3):
        same(len(party.expect_pay().records), 24, "the bytes of records")
    party.ack()
    call.result(kit.runner.patience_s)


@case("C-11", needs="pay")
def node_respects_max_unacked(kit: Kit) -> None:
    """No more payments than the kit takes are unacknowledged at any time"""
    party = rich(kit, max_unacked=2)
    call = kit.order_pay(party, 20, count=5)
    for most in (2, 4, 5):
        while party.peer.n < most:
            party.expect_pay()
        same(party.peer.n, most, "the payments that came")
        party.link.expect_quiet()
        party.ack()
    call.result(kit.runner.patience_s)


@case("C-11", needs="pay")
def node_respects_max_unacked_value(kit: Kit) -> None:
    """No more value than the kit takes is unacknowledged at any time"""
    party = rich(kit, max_unacked_value=50)
    call = kit.order_pay(party, 20, count=4)
    for most in (40, 80):
        while party.peer.total < most:
            party.expect_pay()
        same(party.peer.total, most, "the units that came")
        party.link.expect_quiet()
        party.ack()
    call.result(kit.runner.patience_s)


@case("C-9", needs="pay")
def node_refuses_above_max_unacked_value(kit: Kit) -> None:
    """A payment that can never leave is refused at once"""
    party = rich(kit, max_unacked_value=50)
    refused(kit, party, 51, "more than the kit takes unacknowledged")


@case("C-9", needs="pay")
def node_refuses_below_min_payment(kit: Kit) -> None:
    """A payment below the least that the kit takes is refused at once"""
    party = rich(kit, min_payment=30)
    refused(kit, party, 29, "less than the kit takes")


@case("C-8 C-9", needs="pay")
def node_refuses_more_than_it_has(kit: Kit) -> None:
    """The node signs no pair on which its balance is below zero"""
    party = rich(kit)
    refused(kit, party, 1_001, "more than it has in the channel")
    call = kit.order_pay(party, 1_000)
    party.expect_pay()
    party.ack()
    call.result(kit.runner.patience_s)


@case("C-2 C-9", needs="pay")
def node_never_pays_on_one_way(kit: Kit) -> None:
    """Party 1 of a one_way channel does not pay"""
    party = rich(kit, flags=FLAG_ONE_WAY)
    refused(kit, party, 10, "as party 1 of a one_way channel")


@case("C-2 E-1", needs="id open")
def one_way_payment_by_party_1(kit: Kit) -> None:
    """A PAY of party 1 on a one_way channel is one_way"""
    party = kit.opened_by_node(flags=FLAG_ONE_WAY)
    party.refused(party.next_pay(10), ErrorCode.ONE_WAY)


@case("C-9 S-22", needs="pay pay-id")
def node_pays_an_id_once(kit: Kit) -> None:
    """The same payment id again gives the first outcome and pays nothing; another amount is refused"""
    party = rich(kit)
    name = (kit.ledger.time() * 1000).to_bytes(6, "big") + kit.runner.entropy(10)
    call = kit.order_pay(party, 20, payment_id=name)
    party.expect_pay()
    party.ack()
    first = call.result(kit.runner.patience_s)
    again = kit.order_pay(party, 20, payment_id=name).result(kit.runner.patience_s)
    same(again["first_n"], first["first_n"], "the payment that the id names")
    party.link.expect_quiet()
    try:
        kit.order_pay(party, 21, payment_id=name).result(kit.runner.patience_s)
    except ControlRefused:
        party.link.expect_quiet()
        return
    raise Violation("the node took an id again with another amount")


@case("C-9 S-22", needs="pay pay-id")
def node_refuses_an_old_id(kit: Kit) -> None:
    """An id older than the horizon is refused unread"""
    party = rich(kit)
    name = ((kit.ledger.time() - 90_000) * 1000).to_bytes(6, "big") + kit.runner.entropy(10)
    try:
        kit.order_pay(party, 20, payment_id=name).result(kit.runner.patience_s)
    except ControlRefused:
        party.link.expect_quiet()
        return
    raise Violation("the node paid with an id older than a day")


@case("C-19", needs="pay", takes_s=int(ANSWER_TIMEOUT_S) + 5)
def node_gives_up_waiting_for_an_ack(kit: Kit) -> None:
    """A connection without the acknowledgement that is due ends after 30 s, though its pings are answered"""
    party = rich(kit)
    kit.order_pay(party, 20)
    party.expect_pay()
    end = kit.runner.clock() + ANSWER_TIMEOUT_S + 4
    while kit.runner.clock() < end:
        party.link.send(Ping(1))
        message = party.link.peek(kit.runner.quiet_s)
        if message is not None and not isinstance(message, Pong):
            break
        if message is not None:
            party.link.receive()
        kit.sleep(1)
    else:
        raise Violation("the node waits for an acknowledgement for ever")
    party.link.expect_error(ErrorCode.TIMED_OUT)


@case("C-11 C-20", needs="pay")
def node_does_not_pay_before_reestablish(kit: Kit) -> None:
    """What is to be paid on a new connection waits for REESTABLISH of both sides"""
    party = rich(kit)
    kit.drop(party)
    party.talk = kit.connect()
    shown = party.expect_reestablish()
    call = kit.order_pay(party, 20)
    party.link.expect_quiet()
    party.link.send(party.reestablish_message())
    party.learn(shown)
    party.expect_pay()
    party.ack()
    call.result(kit.runner.patience_s)


@case("C-30 E-2", needs="pay")
def node_does_not_pay_while_suspended(kit: Kit) -> None:
    """After an ERROR of effect suspend nothing is paid on the channel until the next connection"""
    party = rich(kit)
    party.link.send(Error(int(ErrorCode.GAP), party.channel_id, "stop"))
    party.link.expect_alive()
    try:
        kit.order_pay(party, 20)
    except ControlRefused as why:
        raise NotRun(f"the node's operator is refused while a channel is suspended: {why}") from None
    party.link.expect_quiet()
    kit.reconnect(party)
    party.expect_pay()
