"""REESTABLISH by the rules after every kind of loss. Spec 6.7."""

from __future__ import annotations

from channelpay.conformance.case import case
from channelpay.conformance.cases.acknowledging import paid_by_node
from channelpay.conformance.cases.node_pays import rich
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party
from channelpay.conformance.verdict import require, same
from channelpay.errors import ErrorCode
from channelpay.messages.peer import Ack, Message, Pay, Reestablish, Shutdown, TopupHint


def meet(kit: Kit, party: Party, **shown: object) -> Reestablish:
    """A new connection; REESTABLISH both ways, the kit's with what the case wants to show. The node's."""
    kit.drop(party)
    party.talk = kit.connect()
    party.link.send(party.reestablish_message(**shown))  # type: ignore[arg-type]
    return party.expect_reestablish()


@case("C-20")
def reestablish_comes_first(kit: Kit) -> None:
    """On a new connection the node says REESTABLISH about each channel, unasked, before anything else"""
    party = kit.open()
    party.pay(10)
    kit.drop(party)
    party.talk = kit.connect()
    party.expect_reestablish()


@case("C-20 C-17")
def reestablish_shows_what_is_held(kit: Kit) -> None:
    """`mine` shows the newest pair, `yours` the newest state of the kit's that is held"""
    party = kit.open()
    party.pay(10)
    party.pay(11, 12)
    shown = meet(kit, party)
    same(party.pair(shown.mine), (party.own, party.peer), "`mine`")
    require(shown.yours is not None, "`yours` is nil, though the kit has signed states")
    assert shown.yours is not None
    same(party.pair(shown.yours), (party.own, party.peer), "`yours`")
    party.pay(13)


@case("C-22")
def reestablish_lost_pay(kit: Kit) -> None:
    """A PAY that was lost is sent again and counts once"""
    party = kit.open()
    party.pay(10)
    party.next_pay(11)  # lost
    shown = meet(kit, party)
    same(party.pair(shown.mine)[0].n, 1, "the payments held")
    party.resend(1)
    party.expect_acked()
    kit.expect_delivered(party, [10, 11])


@case("C-22 C-14")
def reestablish_lost_ack(kit: Kit) -> None:
    """A lost ACK comes back as REESTABLISH, and nothing is delivered twice"""
    party = kit.open()
    party.link.send(party.next_pay(10))
    party.link.expect(Ack)  # lost
    shown = meet(kit, party)
    same(party.pair(shown.mine)[0].n, 1, "the payments held")
    party.learn(shown)
    party.resend(0)  # though it is held: the kit may not have looked
    party.expect_ack()
    party.pay(11)
    kit.expect_delivered(party, [10, 11])


@case("C-22")
def reestablish_several_lost(kit: Kit) -> None:
    """Of several batches the lost ones are sent again, in one piece with REESTABLISH"""
    party = kit.open()
    party.pay(10)
    lost = [party.next_pay(11), party.next_pay(12, 13)]
    kit.drop(party)
    party.talk = kit.connect()
    party.link.send(party.reestablish_message(), *lost)
    party.expect_reestablish()
    party.expect_acked()
    kit.expect_delivered(party, [10, 11, 12, 13])


@case("C-22")
def reestablish_evidence_is_not_held(kit: Kit) -> None:
    """A state without records is no acknowledgement, is not shown back, and moves no number"""
    party = kit.open()
    party.pay(10)
    party.next_pay(11)  # lost
    for _ in range(2):
        shown = meet(kit, party)
        same(party.pair(shown.mine)[0].n, 1, "the payments that the node says it holds")
        require(shown.yours is not None and party.pair(shown.yours)[0].n == 1, "evidence is shown back as `yours`")
    party.resend(1)
    party.expect_acked()
    party.pay(12)
    kit.expect_delivered(party, [10, 11, 12])


@case("C-20 C-22")
def reestablish_again_and_again(kit: Kit) -> None:
    """Ten connections in a row lose nothing"""
    party = kit.open()
    for amount in range(10, 20):
        kit.reconnect(party)
        party.pay(amount)
    kit.expect_delivered(party, list(range(10, 20)))


@case("T-8")
def frame_cut_off_by_the_end(kit: Kit) -> None:
    """A frame of which the connection's end cut off the last byte does not count"""
    party = kit.open()
    party.link.send_bytes(Shutdown(party.channel_id, 0).to_frame()[:-1])
    kit.reconnect(party)
    party.pay(10)


@case("C-20")
def reestablish_each_channel(kit: Kit) -> None:
    """Each channel of a pair has its own REESTABLISH"""
    talk = kit.connect()
    parties = [kit.open(talk), kit.open(talk)]
    for party in parties:
        party.pay(10)
    talk.close()
    talk = kit.connect()
    seen = {talk.expect(Reestablish).channel_id for _ in parties}
    same(seen, {party.channel_id for party in parties}, "the channels in REESTABLISH")
    for party in parties:
        party.talk = talk
        talk.send(party.reestablish_message())
        party.pay(11)


@case("C-20")
def pay_before_reestablish(kit: Kit) -> None:
    """A PAY before REESTABLISH is unexpected"""
    _before_reestablish(kit, lambda party: party.next_pay(10))


@case("C-20")
def shutdown_before_reestablish(kit: Kit) -> None:
    """SHUTDOWN before REESTABLISH is unexpected"""
    _before_reestablish(kit, lambda party: party.shutdown_message())


@case("C-20")
def ack_before_reestablish(kit: Kit) -> None:
    """ACK before REESTABLISH is unexpected"""
    _before_reestablish(kit, lambda party: party.ack_message())


def _before_reestablish(kit: Kit, make: object) -> None:
    party = kit.open()
    kit.drop(party)
    party.talk = kit.connect()
    party.expect_reestablish()
    message: Message = make(party)  # type: ignore[operator]
    party.refused(message, ErrorCode.UNEXPECTED)


@case("C-20")
def hint_before_reestablish(kit: Kit) -> None:
    """TOPUP-HINT is free of REESTABLISH"""
    party = kit.open()
    kit.drop(party)
    party.talk = kit.connect()
    party.link.send(TopupHint(party.channel_id))
    party.expect_reestablish()
    party.link.send(party.reestablish_message())
    party.pay(10)


@case("C-20")
def reestablish_twice(kit: Kit) -> None:
    """A second REESTABLISH on one connection is unexpected"""
    party = kit.open()
    meet(kit, party)
    party.refused(party.reestablish_message(), ErrorCode.UNEXPECTED)


# --- The node's payments ---------------------------------------------------------------------------


@case("C-22 C-10", needs="pay")
def node_resends_what_was_lost(kit: Kit) -> None:
    """A PAY of the node's that was lost comes again with the same batch, and completes"""
    party = rich(kit)
    call = kit.order_pay(party, 20)
    first = party.link.expect(Pay)  # lost
    meet(kit, party)
    again = party.expect_pay()
    same((again.first_n, again.records, again.memos), (first.first_n, first.records, first.memos), "the batch")
    party.ack()
    call.result(kit.runner.patience_s)


@case("C-22", needs="pay")
def node_resends_only_what_is_missing(kit: Kit) -> None:
    """Of two batches only the one that is not held comes again"""
    party = paid_by_node(kit, 1)
    kit.order_pay(party, 30)
    lost = party.link.expect(Pay)
    meet(kit, party)
    again = party.expect_pay()
    same((again.first_n, again.records), (lost.first_n, lost.records), "the batch")
    party.ack()
    party.pay(10)


@case("C-22 C-17", needs="pay")
def node_does_not_resend_what_is_held(kit: Kit) -> None:
    """`mine` of the kit is an acknowledgement: the payment is done, and does not come again"""
    party = rich(kit)
    call = kit.order_pay(party, 20)
    party.expect_pay()  # its ACK is lost
    meet(kit, party)
    call.result(kit.runner.patience_s)
    party.link.expect_quiet()


@case("C-22", needs="pay")
def node_computes_the_resend_anew(kit: Kit) -> None:
    """What is sent again depends on this connection's REESTABLISH, each time"""
    party = rich(kit)
    kit.order_pay(party, 20)
    party.link.expect(Pay)
    for _ in range(3):
        meet(kit, party)
        party.link.expect(Pay)
    meet(kit, party)
    party.expect_pay()
    party.ack()
    party.pay(10)


@case("C-22 C-12", needs="pay")
def both_directions_lost(kit: Kit) -> None:
    """Payments of both sides that were lost at once both arrive"""
    party = rich(kit)
    call = kit.order_pay(party, 20)
    party.link.expect(Pay)  # lost
    party.next_pay(30)  # lost
    meet(kit, party)
    party.expect_pay()
    party.resend(1)
    party.expect_acked()
    party.ack()
    call.result(kit.runner.patience_s)
    party.pay(10)
    kit.expect_delivered(party, [1_000, 30, 10])


# --- Crashes -----------------------------------------------------------------------------------


@case("C-1 C-20", needs="kill start", alone=True)
def kill_keeps_what_was_acknowledged(kit: Kit) -> None:
    """What the node has acknowledged it still holds after it was killed"""
    party = kit.open()
    party.pay(10)
    party.pay(11)
    kit.order("kill")
    kit.order("start")
    shown = meet(kit, party)
    same(party.pair(shown.mine)[0].n, 2, "the payments held after a crash")
    party.pay(12)
    kit.expect_delivered(party, [10, 11, 12])


@case("C-1 C-9", needs="kill start", alone=True)
def kill_in_the_middle_counts_once(kit: Kit) -> None:
    """A payment sent right before a crash counts once, whatever became of it"""
    party = kit.open()
    party.link.send(party.next_pay(10), party.next_pay(11))
    kit.order("kill")
    kit.order("start")
    shown = meet(kit, party)
    party.learn(shown)
    party.resend(party.pair(shown.mine)[0].n)
    party.expect_acked()
    party.pay(12)
    kit.expect_delivered(party, [10, 11, 12])


@case("C-1 C-22", needs="pay kill start", alone=True)
def kill_keeps_what_was_paid(kit: Kit) -> None:
    """A payment that left before a crash is sent again with the same bytes"""
    party = rich(kit)
    kit.order_pay(party, 20)
    first = party.link.expect(Pay)
    kit.order("kill")
    kit.order("start")
    meet(kit, party)
    again = party.expect_pay()
    same((again.first_n, again.records, again.memos), (first.first_n, first.records, first.memos), "the batch")
    party.ack()
    party.pay(10)
