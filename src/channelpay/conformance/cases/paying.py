"""The kit pays the node, by the rules. Spec 6.5 and 6.6."""

from __future__ import annotations

from channelpay.conformance.case import case
from channelpay.conformance.kit import Kit
from channelpay.conformance.verdict import require, same
from channelpay.limits import MAX_MEMO_BYTES
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Ack, Ping, Pong, TopupHint


@case("C-9 C-14 C-16 S-11 S-15 S-16")
def pay_one(kit: Kit) -> None:
    """One payment is acknowledged with a signature over the new state"""
    party = kit.open()
    party.pay(10)
    same((party.held.own.n, party.held.own.total) if party.held else None, (1, 10), "the state that the node signed")
    kit.expect_delivered(party, [10])


@case("C-10 S-20")
def pay_batch(kit: Kit) -> None:
    """A batch of as many payments as agreed is one acknowledgement"""
    party = kit.open()
    amounts = [10 + index for index in range(party.terms.max_batch)]
    party.pay(*amounts)
    kit.expect_delivered(party, amounts)


@case("S-21 C-10")
def pay_with_memos(kit: Kit) -> None:
    """Memos, among them one of 256 bytes, are part of the link"""
    party = kit.open()
    party.pay(10, 11, 12, memos=[(0, b"a"), (2, bytes(MAX_MEMO_BYTES))])


@case("S-22 C-9")
def pay_with_ids(kit: Kit) -> None:
    """Payment ids travel; the same id again is another payment, for the payee's application to see"""
    party = kit.open()
    name = bytes([1]) * 16
    party.pay(10, ids=[name])
    party.pay(10, ids=[name])
    kit.expect_delivered(party, [10, 10])


@case("C-13 C-16")
def pay_many_at_once(kit: Kit) -> None:
    """PAYs that come together are all taken, and the last acknowledgement covers them"""
    party = kit.open()
    amounts = list(range(10, 20))
    party.link.send(*[party.next_pay(amount) for amount in amounts])
    party.expect_acked()
    kit.expect_delivered(party, amounts)


@case("C-13")
def pay_newest_signature_covers(kit: Kit) -> None:
    """Of PAYs read together a node may verify the newest signature alone, and must take it"""
    party = kit.open()
    first, second = party.next_pay(10), party.next_pay(11)
    party.link.send(first, second)
    party.expect_acked()
    same(party.held.own.total if party.held else 0, 21, "what the node acknowledged")


@case("C-8")
def pay_all_there_is(kit: Kit) -> None:
    """The payer may spend its balance to the last unit"""
    party = kit.open()
    limit = party.limits.max_unacked_value if party.limits else 0
    left = kit.deposit
    while left:
        amount = min(left, limit)
        if 0 < left - amount < 10:
            amount -= 10
        party.pay(amount)
        left -= amount


@case("C-14 C-16")
def pay_duplicate_same_bytes(kit: Kit) -> None:
    """A PAY that is held already is acknowledged again, and changes nothing"""
    party = kit.open()
    message = party.pay(10)
    party.pay(11)
    party.link.send(message)
    ack = party.expect_ack()
    same(ack.n, 2, "the newest acknowledgement")
    kit.expect_delivered(party, [10, 11])


@case("C-14")
def pay_duplicate_in_one_read(kit: Kit) -> None:
    """The same PAY twice in one read is one payment"""
    party = kit.open()
    message = party.next_pay(10)
    party.link.send(message, message)
    party.expect_acked()
    party.pay(11)
    kit.expect_delivered(party, [10, 11])


@case("C-18 L-31")
def pay_after_topup_without_hint(kit: Kit) -> None:
    """Before the node refuses for balance it reads the ledger again: the payer may have seen its top-up first"""
    party = kit.open()
    _spend(kit, party, kit.deposit)
    kit.ledger.answer(kit.account, ops.Topup(party.channel_id, 0, 50))
    party.pay(50)


@case("C-8")
def pay_after_topup_with_hint(kit: Kit) -> None:
    """TOPUP-HINT makes the node look at the ledger"""
    party = kit.open()
    kit.ledger.answer(kit.account, ops.Topup(party.channel_id, 0, 50))
    party.link.send(TopupHint(party.channel_id))
    _spend(kit, party, kit.deposit + 50)


def _spend(kit: Kit, party: object, units: int) -> None:
    limit = party.limits.max_unacked_value  # type: ignore[attr-defined]
    while units:
        amount = min(units, limit)
        party.pay(amount)  # type: ignore[attr-defined]
        units -= amount


@case("T-24 C-16")
def pay_and_ping_together(kit: Kit) -> None:
    """Payments and pings do not stand in each other's way"""
    party = kit.open()
    party.link.send(Ping(1), party.next_pay(10), Ping(2))
    seen = [party.link.receive() for _ in range(3)]
    tokens = [message.token for message in seen if isinstance(message, Pong)]
    same(tokens, [1, 2], "the tokens of PONG")
    acks = [message for message in seen if isinstance(message, Ack)]
    require(len(acks) == 1, "no ACK came")
    party.take_ack(acks[0])


@case("C-9 C-14")
def pay_on_two_channels(kit: Kit) -> None:
    """Two channels of one pair count on their own"""
    talk = kit.connect()
    first, second = kit.open(talk), kit.open(talk)
    messages = [first.next_pay(10), second.next_pay(20), first.next_pay(11)]
    talk.send(*messages)
    waiting = {first.channel_id: first, second.channel_id: second}
    while any(p.held is None or p.held.own != p.own for p in waiting.values()):
        ack = talk.expect(Ack)
        waiting[ack.channel_id].take_ack(ack)
