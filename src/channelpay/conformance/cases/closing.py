"""SHUTDOWN and FINAL. Spec 7.1."""

from __future__ import annotations

from channelpay.batches import Batch, pack_record
from channelpay.conformance.case import case
from channelpay.conformance.cases.node_pays import refused, rich
from channelpay.conformance.cases.reconnecting import meet
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party
from channelpay.conformance.verdict import require, same
from channelpay.errors import ErrorCode
from channelpay.limits import CLOSE_TIMEOUT_S, FINAL_EXPIRY_S, FINAL_SUBMIT_DELAY_S
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import ChannelView
from channelpay.messages.peer import Final, Ping, Shutdown, WithdrawAsk, WithdrawNo


def drained(kit: Kit, party: Party | None = None) -> Party:
    """A channel on which both have said SHUTDOWN and nothing is under way."""
    if party is None:
        party = kit.open()
        party.pay(10)
        party.pay(11)
    party.link.send(party.shutdown_message())
    expect_shutdown(party)
    return party


def expect_shutdown(party: Party) -> None:
    """The node's SHUTDOWN after its last payment (X-1)."""
    message = party.link.expect(Shutdown)
    same(message.channel_id, party.channel_id, "the channel of SHUTDOWN")
    same(message.last_n, party.peer.n, "last_n of SHUTDOWN")


def propose(kit: Kit, party: Party, expiry: int = 0) -> Final:
    """FINAL of the kit's, for ten minutes unless told otherwise."""
    expiry = expiry or kit.ledger.time() + 600
    return Final(party.channel_id, expiry, party.key.sign(party.final_statement(expiry)))


def agreed(kit: Kit, party: Party, proposal: Final) -> Final:
    """The node countersigns exactly this (X-3)."""
    party.link.send(proposal)
    answer = party.link.expect(Final)
    same((answer.channel_id, answer.expiry), (party.channel_id, proposal.expiry), "channel and expiry of FINAL")
    party.verify(answer.signature, party.final_statement(answer.expiry), "FINAL")
    return answer


def submit(kit: Kit, party: Party, expiry: int, signature: bytes) -> ChannelView:
    """Hand FINAL to the ledger; it pays what the halves say."""
    own = party.key.sign(party.final_statement(expiry))
    signatures = (own, signature) if party.side == 0 else (signature, own)
    half0, half1 = party.in_order(party.own, party.peer)
    operation = ops.CloseFinal(party.channel_id, half0.pack(), half1.pack(), expiry, *signatures)
    return kit.ledger.channel_op(party.key, operation)


@case("X-1 X-2 X-3 L-37")
def close_together(kit: Kit) -> None:
    """SHUTDOWN both ways, FINAL both ways, and the ledger pays out exactly the newest halves"""
    party = drained(kit)
    answer = agreed(kit, party, propose(kit, party))
    view = submit(kit, party, answer.expiry, answer.signature)
    same((view.status, view.out0, view.out1), (ops.SETTLED, kit.deposit - 21, 21), "status and payout")
    same(kit.ledger.credited(kit.account, party.channel_id), kit.deposit - 21, "what the kit's account got")


@case("X-1")
def close_unused_channel(kit: Kit) -> None:
    """A channel without a payment closes on zero halves"""
    party = drained(kit, kit.open())
    answer = agreed(kit, party, propose(kit, party))
    view = submit(kit, party, answer.expiry, answer.signature)
    same((view.out0, view.out1), (kit.deposit, 0), "the payout")


@case("X-1 X-3", needs="close")
def close_asked_by_the_node(kit: Kit) -> None:
    """The node's operator closes: the node says SHUTDOWN and countersigns FINAL"""
    party = kit.open()
    party.pay(10)
    kit.order("close", channel=party.channel_id.hex(), force=False)
    expect_shutdown(party)
    party.link.send(party.shutdown_message())
    answer = agreed(kit, party, propose(kit, party))
    submit(kit, party, answer.expiry, answer.signature)


@case("X-3 X-6", needs="id open close")
def close_proposed_by_the_node(kit: Kit) -> None:
    """As party 0 the drained node proposes FINAL, an hour ahead at most, and submits what is agreed"""
    party = kit.opened_by_node()
    kit.order("close", channel=party.channel_id.hex(), force=False)
    expect_shutdown(party)
    party.link.send(party.shutdown_message())
    proposal = party.link.expect(Final)
    party.verify(proposal.signature, party.final_statement(proposal.expiry), "FINAL")
    now = kit.ledger.time()
    require(now < proposal.expiry <= now + FINAL_EXPIRY_S + 60, f"FINAL expires at {proposal.expiry}; it is {now}")
    party.link.send(propose(kit, party, proposal.expiry))
    view = kit.channel_until(party, ops.SETTLED)
    same((view.out0, view.out1), (kit.deposit, 0), "the payout")


@case("X-3", needs="id open close")
def close_refuses_a_bad_countersignature(kit: Kit) -> None:
    """FINAL that party 1 has not signed over the same halves is final_mismatch"""
    party = kit.opened_by_node()
    kit.order("close", channel=party.channel_id.hex(), force=False)
    expect_shutdown(party)
    party.link.send(party.shutdown_message())
    proposal = party.link.expect(Final)
    party.refused(Final(party.channel_id, proposal.expiry, party.key.sign(b"no")), ErrorCode.FINAL_MISMATCH)
    same(kit.ledger.channel(party.channel_id).status, ops.OPEN, "the status on the ledger")


@case("X-1", needs="pay close")
def close_pays_what_was_promised(kit: Kit) -> None:
    """Payments taken before the close are still paid before SHUTDOWN"""
    party = rich(kit, max_unacked=1)
    kit.order_pay(party, 20, count=2)
    kit.order("close", channel=party.channel_id.hex(), force=False)
    for _ in range(2):
        party.expect_pay()
        party.ack()
    expect_shutdown(party)


@case("X-1")
def shutdown_with_a_wrong_count(kit: Kit) -> None:
    """SHUTDOWN after another number of payments than the node holds is a gap"""
    party = kit.open()
    party.pay(10)
    party.refused(Shutdown(party.channel_id, 2), ErrorCode.GAP)


@case("X-1")
def pay_after_shutdown(kit: Kit) -> None:
    """A payment after SHUTDOWN is illegal_now"""
    party = drained(kit)
    party.refused(party.next_pay(10), ErrorCode.ILLEGAL_NOW)


@case("X-1 C-14")
def duplicate_after_shutdown(kit: Kit) -> None:
    """A payment held before SHUTDOWN may still come again: it is acknowledged"""
    party = kit.open()
    message = party.pay(10)
    drained(kit, party)
    party.link.send(message)
    party.expect_ack()


@case("C-6")
def final_before_shutdown(kit: Kit) -> None:
    """FINAL on an open channel is illegal_now"""
    party = kit.open()
    party.refused(propose(kit, party), ErrorCode.ILLEGAL_NOW)


@case("X-2 X-3", needs="pay")
def final_before_drained(kit: Kit) -> None:
    """FINAL while the node's own payments are not acknowledged is final_mismatch"""
    party = rich(kit)
    kit.order_pay(party, 20)
    party.expect_pay()
    party.link.send(party.shutdown_message())
    expect_shutdown(party)
    party.refused(propose(kit, party), ErrorCode.FINAL_MISMATCH)


@case("X-3")
def final_over_other_halves(kit: Kit) -> None:
    """FINAL over an older half of the kit's is final_mismatch"""
    party = drained(kit)
    expiry = kit.ledger.time() + 600
    newest, party.own = party.own, party.own_halves[1]
    stale = party.key.sign(party.final_statement(expiry))
    party.own = newest
    party.refused(Final(party.channel_id, expiry, stale), ErrorCode.FINAL_MISMATCH)


@case("X-3 S-12")
def final_signed_as_state(kit: Kit) -> None:
    """A signature over STATE is no FINAL"""
    party = drained(kit)
    expiry = kit.ledger.time() + 600
    forged = Final(party.channel_id, expiry, party.sign(party.own, party.peer))
    party.refused(forged, ErrorCode.FINAL_MISMATCH)


@case("X-6 E-2")
def final_expired(kit: Kit) -> None:
    """FINAL that has expired is declined, and a better one is still taken"""
    party = drained(kit)
    party.refused(propose(kit, party, kit.ledger.time() - 5), ErrorCode.EXPIRY_REFUSED)
    agreed(kit, party, propose(kit, party))


@case("X-6 E-2")
def final_too_far_ahead(kit: Kit) -> None:
    """FINAL for more than two hours is declined, and a better one is still taken"""
    party = drained(kit)
    party.refused(propose(kit, party, kit.ledger.time() + 2 * FINAL_EXPIRY_S + 120), ErrorCode.EXPIRY_REFUSED)
    agreed(kit, party, propose(kit, party))


@case("X-3")
def final_again_is_signed_again(kit: Kit) -> None:
    """The same FINAL again gets the same signature; one with a later expiry gets another"""
    party = drained(kit)
    proposal = propose(kit, party)
    first = agreed(kit, party, proposal)
    same(agreed(kit, party, proposal), first, "the answer to the same FINAL again")
    agreed(kit, party, propose(kit, party, proposal.expiry + 60))


@case("X-3 C-6")
def pay_after_final(kit: Kit) -> None:
    """After FINAL no payment is taken"""
    party = drained(kit)
    agreed(kit, party, propose(kit, party))
    party.refused(party.next_pay(10), ErrorCode.ILLEGAL_NOW)


@case("X-3", needs="pay")
def node_pays_nothing_after_final(kit: Kit) -> None:
    """After FINAL the node refuses its operator's payments"""
    party = drained(kit, rich(kit))
    agreed(kit, party, propose(kit, party))
    refused(kit, party, 10, "after it signed FINAL")


@case("X-1 C-20")
def shutdown_again_after_a_reconnection(kit: Kit) -> None:
    """SHUTDOWN is said again on a new connection, by both, and then FINAL is agreed"""
    party = drained(kit)
    meet(kit, party)
    expect_shutdown(party)
    party.link.send(party.shutdown_message())
    agreed(kit, party, propose(kit, party))


@case("C-20 X-3")
def final_shown_after_a_reconnection(kit: Kit) -> None:
    """REESTABLISH shows the FINAL that may still be used, with both signatures"""
    party = drained(kit)
    answer = agreed(kit, party, propose(kit, party))
    shown = meet(kit, party)
    require(shown.final is not None, "REESTABLISH shows no FINAL")
    assert shown.final is not None
    same((shown.final.expiry, shown.final.signature1), (answer.expiry, answer.signature), "FINAL in REESTABLISH")


@case("C-1 C-3 X-3 X-13", needs="kill start", alone=True)
def final_survives_a_crash(kit: Kit) -> None:
    """A node that has agreed to FINAL remembers it after it was killed, and hands it to the ledger"""
    party = drained(kit)
    agreed(kit, party, propose(kit, party))
    kit.order("kill")
    kit.order("start")
    view = kit.channel_until(party, ops.SETTLED)
    same((view.out0, view.out1), (kit.deposit - 21, 21), "the payout")


@case("X-8 C-6")
def withdrawal_while_closing(kit: Kit) -> None:
    """A withdrawal that meets a closing channel is answered with WITHDRAW-NO"""
    party = drained(kit)
    expiry = kit.ledger.time() + 600
    signature = party.key.sign(party.withdraw_statement(0, 100, expiry))
    party.link.send(WithdrawAsk(party.channel_id, 100, expiry, signature))
    same(party.link.expect(WithdrawNo).code, int(ErrorCode.WITHDRAW_REFUSED), "the code of WITHDRAW-NO")


@case("X-3 X-12", takes_s=int(FINAL_SUBMIT_DELAY_S) + 5)
def final_submitted_by_party_1(kit: Kit) -> None:
    """If party 0 does not hand an agreed FINAL to the ledger, the node does"""
    party = drained(kit)
    agreed(kit, party, propose(kit, party))
    view = kit.channel_until(party, ops.SETTLED, FINAL_SUBMIT_DELAY_S + 10)
    same((view.out0, view.out1), (kit.deposit - 21, 21), "the payout")


@case("X-12 X-4", takes_s=int(CLOSE_TIMEOUT_S) + 10)
def close_time_out_ends_alone(kit: Kit) -> None:
    """A cooperative close that does not come to its end becomes a unilateral one"""
    party = drained(kit)
    for _ in range(int(CLOSE_TIMEOUT_S) // 5 + 1):
        party.link.send(Ping(1))
        kit.sleep(5)
    view = kit.channel_until(party, ops.CLOSING, 10)
    same(view.half0, party.own.pack(), "half0 on the ledger")


@case("X-1 X-2")
def pays_that_cross_shutdown_count(kit: Kit) -> None:
    """Payments made before SHUTDOWN in the same piece are taken and acknowledged"""
    party = kit.open()
    party.link.send(party.next_pay(10), party.next_pay(11), party.shutdown_message())
    shut = False
    while not shut or party.held is None or party.held.own != party.own:
        if isinstance(party.link.peek(kit.runner.patience_s), Shutdown):
            expect_shutdown(party)
            shut = True
        else:
            party.expect_ack()
    agreed(kit, party, propose(kit, party))


@case("X-1 C-14")
def gap_before_shutdown(kit: Kit) -> None:
    """SHUTDOWN does not hide a payment that was left out"""
    party = kit.open()
    skipped = party.wrong_pay(Batch(2, pack_record(10), b""))
    party.link.send(skipped, Shutdown(party.channel_id, 2))
    party.link.expect_error(ErrorCode.GAP, party.channel_id)
    party.link.expect_quiet()
