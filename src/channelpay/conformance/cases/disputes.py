"""Closing alone, and what the node does when it sees a dispute. Spec 7.2."""

from __future__ import annotations

from channelpay.conformance.case import case
from channelpay.conformance.cases.closing import agreed, drained, propose, submit
from channelpay.conformance.cases.node_pays import rich
from channelpay.conformance.cases.reconnecting import meet
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party
from channelpay.conformance.verdict import require, same
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import ChannelView
from channelpay.messages.peer import Ack, Error, Funded, Ready


def _half0_until(kit: Kit, party: Party, n: int) -> ChannelView:
    """The channel on the ledger once it shows half0 of payment n."""

    def look() -> ChannelView | None:
        view = kit.ledger.channel(party.channel_id)
        return view if view.half0 == party.own_halves[n].pack() else None

    return kit.until(look, kit.runner.patience_s, f"an answer to the dispute with payment {n}")


@case("X-5 L-35")
def node_answers_a_stale_close(kit: Kit) -> None:
    """The kit closes with an old state: the node shows the newest within the window"""
    party = kit.open()
    party.pay(10)
    old = party.held
    party.pay(500)
    assert old is not None
    closed = kit.close_on_ledger(party, old)
    same(closed.status, ops.CLOSING, "the status")
    view = _half0_until(kit, party, 2)
    same(view.deadline, closed.deadline, "the deadline")


@case("X-5 L-34")
def node_answers_a_close_on_zero(kit: Kit) -> None:
    """The kit closes without any state: the node shows the newest"""
    party = kit.open()
    party.pay(10)
    kit.close_on_ledger(party)
    _half0_until(kit, party, 1)


@case("X-5 C-1", needs="kill start", alone=True)
def node_answers_after_a_crash(kit: Kit) -> None:
    """A node that was down when the dispute began answers when it is back"""
    party = kit.open()
    party.pay(10)
    kit.order("kill")
    kit.close_on_ledger(party)
    kit.order("start")
    _half0_until(kit, party, 1)


@case("X-5 L-40 L-36", takes_s=20)
def dispute_pays_the_newest(kit: Kit) -> None:
    """A stale close settles at the newest state, to the unit"""
    party = kit.open(window_s=max(10, kit.info.min_window_s))
    party.pay(10)
    old = party.held
    party.pay(500, 200)
    assert old is not None
    closed = kit.close_on_ledger(party, old)
    view = kit.channel_until(party, ops.SETTLED, closed.deadline - closed.time + 10)
    same((view.out0, view.out1), (kit.deposit - 710, 710), "the payout")
    same(kit.ledger.credited(kit.account, party.channel_id), kit.deposit - 710, "what the kit's account got")


@case("X-5 C-6")
def node_stops_when_the_ledger_closes(kit: Kit) -> None:
    """Once it has seen the dispute the node takes no payment, and sends no ERROR for one on its way"""
    party = kit.open()
    party.pay(10)
    kit.close_on_ledger(party)
    _half0_until(kit, party, 1)
    party.link.send(party.next_pay(11), party.ack_message())
    party.link.expect_alive()
    party.link.expect_quiet()


@case("C-20 X-5")
def reestablish_while_closing(kit: Kit) -> None:
    """A closing node sends and reads REESTABLISH, for the evidence"""
    party = kit.open()
    party.pay(10)
    kit.close_on_ledger(party)
    _half0_until(kit, party, 1)
    shown = meet(kit, party)
    same(party.pair(shown.mine)[0].n, 1, "the payments that the node shows")


@case("X-5 C-22")
def node_answers_with_evidence(kit: Kit) -> None:
    """Evidence that a later REESTABLISH brings goes to the ledger too"""
    party = kit.open()
    party.pay(10)
    kit.close_on_ledger(party)
    _half0_until(kit, party, 1)
    party.next_pay(300)  # never sent: only its state is shown
    meet(kit, party)
    _half0_until(kit, party, 2)


@case("X-4 C-17", needs="close")
def node_closes_alone(kit: Kit) -> None:
    """By force the node submits the newest state that the kit signed, countersigned"""
    party = kit.open()
    party.pay(10)
    party.pay(20)
    kit.order("close", channel=party.channel_id.hex(), force=True)
    view = kit.channel_until(party, ops.CLOSING)
    same((view.half0, view.half1), (party.own.pack(), party.peer.pack()), "the halves on the ledger")
    party.link.send(party.next_pay(30))
    party.link.expect_alive()
    party.link.expect_quiet()


@case("X-4 C-12", needs="pay close")
def node_closes_alone_with_what_the_kit_signed(kit: Kit) -> None:
    """Only states that the kit signed count: a payment that it never acknowledged is not on the ledger"""
    party = rich(kit)
    kit.order_pay(party, 20)
    party.expect_pay()
    kit.order("close", channel=party.channel_id.hex(), force=True)
    view = kit.channel_until(party, ops.CLOSING)
    same((view.half0, view.half1), (party.own.pack(), party.peer_halves[0].pack()), "the halves on the ledger")


@case("X-4 L-38", needs="close")
def node_closes_before_ready(kit: Kit) -> None:
    """A node whose peer vanished before READY closes on the zero state"""
    party = kit.funded(kit.connect())
    party.link.send(Funded(party.channel_id))
    kit.take_ready(party, party.link.expect(Ready))
    kit.drop(party)
    kit.order("close", channel=party.channel_id.hex(), force=True)
    same(kit.channel_until(party, ops.CLOSING).half0, party.own.pack(), "half0 on the ledger")


@case("X-4 X-13 C-1 C-3", needs="close kill start", alone=True)
def node_closes_alone_through_a_crash(kit: Kit) -> None:
    """The decision to close alone survives a crash"""
    party = kit.open()
    party.pay(10)
    kit.order("close", channel=party.channel_id.hex(), force=True)
    kit.order("kill")
    kit.order("start")
    view = kit.channel_until(party, ops.CLOSING)
    same(view.half0, party.own.pack(), "half0 on the ledger")


@case("X-7 C-6")
def settled_channel_is_silent(kit: Kit) -> None:
    """Messages about a settled channel change nothing and get no answer"""
    party = drained(kit)
    answer = agreed(kit, party, propose(kit, party))
    submit(kit, party, answer.expiry, answer.signature)
    seen_it = kit.until(lambda: _ignored(kit, party), kit.runner.patience_s, "the node's notice of the settlement")
    require(seen_it, "the node does not see the settlement")


def _ignored(kit: Kit, party: Party) -> bool:
    """Whether the node ignores a REESTABLISH about the channel, on a new connection: it does once it is SETTLED."""
    if party.talk is not None:
        kit.drop(party)
    party.talk = kit.connect()
    party.link.send(party.reestablish_message())
    message = party.link.receive(kit.runner.quiet_s)
    require(not isinstance(message, Ack | Error), "a settled channel is answered")
    return message is None
