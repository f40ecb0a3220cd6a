"""ACKs and ack_n that the kit sends: which batches of the node's they may name. Spec C-15."""

from __future__ import annotations

from channelpay.batches import Batch, pack_record
from channelpay.conformance.case import case
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party
from channelpay.errors import ErrorCode
from channelpay.messages.peer import Ack


def paid_by_node(kit: Kit, *counts: int, amount: int = 20) -> Party:
    """A channel on which the node has paid as many batches as there are counts; none is acknowledged."""
    party = kit.open()
    party.pay(1_000)
    for count in counts:
        kit.order_pay(party, amount, count)
        while party.peer.n < sum(counts[: counts.index(count) + 1]):
            party.expect_pay()
    return party


@case("C-15")
def ack_of_what_was_never_paid(kit: Kit) -> None:
    """ACK of payments that the node has not made is unknown_boundary"""
    party = kit.open()
    party.refused(Ack(party.channel_id, 3, 0, bytes(64)), ErrorCode.UNKNOWN_BOUNDARY)


@case("C-15")
def ack_shows_less_than_was_paid(kit: Kit) -> None:
    """ACK whose own_n is below what the node holds is a regression"""
    party = kit.open()
    party.pay(10)
    party.refused(party.ack_message(own_n=0), ErrorCode.REGRESSION)


@case("C-15")
def ack_shows_more_than_was_sent(kit: Kit) -> None:
    """ACK whose own_n is above what the node holds is a gap"""
    party = kit.open()
    party.next_pay(10)
    party.refused(party.ack_message(), ErrorCode.GAP)


@case("C-16 C-13")
def ack_bad_signature(kit: Kit) -> None:
    """ACK with a bad signature ends the connection"""
    party = kit.open()
    party.refused(Ack(party.channel_id, 0, 0, bytes(64)), ErrorCode.BAD_SIGNATURE)


@case("C-15", needs="pay")
def ack_inside_a_batch(kit: Kit) -> None:
    """ACK of a part of a batch is unknown_boundary"""
    party = paid_by_node(kit, 3)
    if len(party.batches[1]) != 1:
        party = paid_by_node(kit, 4)
    last = party.batches[1][-1]
    party.refused(Ack(party.channel_id, last.last_n - 1, party.own.n, bytes(64)), ErrorCode.UNKNOWN_BOUNDARY)


@case("C-15", needs="pay")
def ack_goes_back(kit: Kit) -> None:
    """ACK of less than was acknowledged before is a regression"""
    party = paid_by_node(kit, 1, 2)
    party.ack()
    party.refused(party.ack_message(n=1), ErrorCode.REGRESSION)


@case("C-15 C-12", needs="pay")
def pay_ack_n_goes_back(kit: Kit) -> None:
    """PAY whose ack_n is below what was acknowledged before is a regression"""
    party = paid_by_node(kit, 1)
    party.ack()
    batch = Batch(party.own.n + 1, pack_record(10), b"")
    half = party.half_after(0, party.own, batch)
    party.refused(party.pay_of(batch, half, party.peer_halves[0]), ErrorCode.REGRESSION)


@case("C-15 C-16", needs="pay")
def ack_of_the_first_of_two(kit: Kit) -> None:
    """ACK of the first of two batches leaves the second open"""
    party = paid_by_node(kit, 1, 2)
    party.link.send(party.ack_message(n=1))
    party.link.send(party.ack_message())
    party.pay(10)


@case("C-17 C-15", needs="pay")
def pay_acknowledges(kit: Kit) -> None:
    """The ack_n of a PAY acknowledges as ACK does"""
    party = kit.open()
    party.pay(1_000)
    call = kit.order_pay(party, 20)
    party.expect_pay()
    party.pay(10)
    call.result(kit.runner.patience_s)
