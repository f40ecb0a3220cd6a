"""Disks that go back in time, the kit's and the node's: RECALL and RECORDS. Spec C-23 to C-26."""

from __future__ import annotations

from channelpay.conformance.case import case
from channelpay.conformance.cases.node_pays import rich
from channelpay.conformance.cases.reconnecting import meet
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party
from channelpay.conformance.runner import ControlRefused
from channelpay.conformance.verdict import Violation, require, same
from channelpay.errors import ErrorCode
from channelpay.messages import ledger as ops
from channelpay.messages.peer import PastBatch, PastRecords, Recall
from channelpay.statements import ZERO_HALF

# --- The kit has lost its disk -----------------------------------------------------------------


@case("C-20 C-23")
def kit_rolled_back_is_told(kit: Kit) -> None:
    """To a peer that has forgotten all, the node shows that peer's own newest signature"""
    party = kit.open()
    party.pay(10)
    party.pay(11)
    shown = meet(kit, party, mine=(ZERO_HALF, ZERO_HALF), yours=None)
    require(shown.yours is not None, "`yours` is nil: the kit's signature is withheld")
    assert shown.yours is not None
    same(party.pair(shown.yours), (party.own, party.peer), "`yours`: the newest state of the kit's")


def _recall(party: Party, payer: int, from_n: int) -> PastRecords:
    party.link.send(Recall(party.channel_id, payer, from_n))
    answer = party.link.expect(PastRecords)
    same((answer.channel_id, answer.payer), (party.channel_id, payer), "channel and payer of RECORDS")
    return answer


@case("C-24 C-10")
def recall_gives_the_batches(kit: Kit) -> None:
    """RECALL is answered with the batches from that number on, byte for byte"""
    party = kit.open()
    party.pay(10)
    party.pay(11, 12, memos=[(1, b"twelve")])
    party.pay(13)
    sent = tuple(PastBatch(*batch) for batch in party.batches[0])
    same(_recall(party, 0, 1).batches, sent, "the batches from 1")
    same(_recall(party, 0, 2).batches, sent[1:], "the batches from 2")
    same(_recall(party, 0, 4).batches, sent[2:], "the batches from 4")


@case("C-24")
def recall_beyond_the_newest(kit: Kit) -> None:
    """RECALL of what was never paid is answered with no batch"""
    party = kit.open()
    party.pay(10)
    same(_recall(party, 0, 2).batches, (), "the batches from 2")
    same(_recall(party, 1, 1).batches, (), "the node's batches")
    party.pay(11)


@case("C-24")
def recall_from_zero(kit: Kit) -> None:
    """RECALL from 0 is malformed"""
    party = kit.open()
    party.refused(Recall(party.channel_id, 0, 0), ErrorCode.MALFORMED)


@case("C-24 C-22", needs="pay")
def recall_of_the_nodes_payments(kit: Kit) -> None:
    """The node gives its own batches too"""
    party = rich(kit)
    kit.order_pay(party, 20)
    party.expect_pay()
    party.ack()
    same(_recall(party, 1, 1).batches, tuple(PastBatch(*b) for b in party.batches[1]), "the node's batches")


@case("W-9 C-24")
def recall_is_cut_to_frames(kit: Kit) -> None:
    """RECORDS that would not fit one frame are cut, and go on from the next number"""
    party = kit.open(max_batch=64)
    least = party.limits.min_payment if party.limits else 1
    for _ in range(10):
        party.pay(*[max(2, least)] * 60, memos=[(index, bytes(256)) for index in range(60)])
    batches: list[PastBatch] = []
    while len(batches) < 10:
        answer = _recall(party, 0, 60 * len(batches) + 1)
        require(answer.batches, "RECORDS without a batch, though there are more")
        batches += answer.batches
    same(tuple(batches), tuple(PastBatch(*b) for b in party.batches[0]), "the batches")


@case("C-25")
def records_unasked_are_ignored(kit: Kit) -> None:
    """RECORDS that were not asked for are ignored"""
    party = kit.open()
    party.pay(10)
    party.link.send(party.records(0, 1))
    party.pay(11)
    kit.expect_delivered(party, [10, 11])


# --- The node has lost its disk ----------------------------------------------------------------


def _rolled_back(kit: Kit) -> Party:
    """A channel whose node has forgotten the payments 11 and 12, 13."""
    party = kit.open()
    party.pay(10)
    kit.order("kill")
    kit.order("snapshot")
    kit.order("start")
    kit.reconnect(party)
    party.pay(11)
    party.pay(12, 13)
    _go_back(kit)
    return party


def _go_back(kit: Kit) -> None:
    kit.order("kill")
    kit.order("restore")
    kit.order("start")


def _expect_recall(party: Party, payer: int, from_n: int) -> None:
    recall = party.link.expect(Recall)
    same((recall.channel_id, recall.payer, recall.from_n), (party.channel_id, payer, from_n), "RECALL")


_ROLLBACK = "kill start snapshot restore"


@case("C-23 C-25", needs=_ROLLBACK, alone=True)
def node_rolled_back_recalls(kit: Kit) -> None:
    """Shown its own newer signature, the node adopts it, asks for the records, and goes on"""
    party = _rolled_back(kit)
    meet(kit, party)
    _expect_recall(party, 0, 2)
    party.link.send(party.records(0, 2))
    party.pay(14)
    kit.expect_delivered(party, [10, 11, 12, 13, 14])


@case("C-23", needs=_ROLLBACK, alone=True)
def node_rolled_back_is_bound_durably(kit: Kit) -> None:
    """What the node adopted it shows on the next connection, records or not"""
    party = _rolled_back(kit)
    meet(kit, party)
    _expect_recall(party, 0, 2)
    shown = meet(kit, party)
    same(party.pair(shown.mine)[0], party.own, "the kit's half in `mine` after the adoption")
    _expect_recall(party, 0, 2)
    party.link.send(party.records(0, 2))
    party.pay(14)


@case("C-25", needs=_ROLLBACK, alone=True)
def node_rolled_back_refuses_other_records(kit: Kit) -> None:
    """RECORDS that do not link up to what was signed are bad_history, and nothing of them is delivered"""
    party = _rolled_back(kit)
    meet(kit, party)
    _expect_recall(party, 0, 2)
    true = party.records(0, 2)
    first = PastBatch(*party.batch(11, memos=[(0, b"no")], first_n=2))
    party.refused(PastRecords(party.channel_id, 0, (first, *true.batches[1:])), ErrorCode.BAD_HISTORY)
    kit.expect_delivered(party, [10])
    meet(kit, party)
    _expect_recall(party, 0, 2)
    party.link.send(true)
    party.pay(14)
    kit.expect_delivered(party, [10, 11, 12, 13, 14])


@case("C-25", needs=_ROLLBACK, alone=True)
def node_rolled_back_takes_pieces(kit: Kit) -> None:
    """RECORDS in several pieces are asked for one by one, and delivered when all are proved"""
    party = _rolled_back(kit)
    meet(kit, party)
    _expect_recall(party, 0, 2)
    all_of_them = party.records(0, 2).batches
    party.link.send(PastRecords(party.channel_id, 0, all_of_them[:1]))
    _expect_recall(party, 0, 3)
    kit.expect_delivered(party, [10])
    party.link.send(PastRecords(party.channel_id, 0, all_of_them[1:]))
    party.pay(14)
    kit.expect_delivered(party, [10, 11, 12, 13, 14])


@case("C-26", needs=_ROLLBACK, alone=True)
def node_rolled_back_without_records(kit: Kit) -> None:
    """When the records are gone the money counts all the same, and the channel goes on"""
    party = _rolled_back(kit)
    meet(kit, party)
    _expect_recall(party, 0, 2)
    party.link.send(PastRecords(party.channel_id, 0, ()))
    party.pay(14)


@case("C-23 C-18", needs=_ROLLBACK, alone=True)
def node_rolled_back_holds_payments_back(kit: Kit) -> None:
    """New payments wait until the records are known"""
    party = _rolled_back(kit)
    meet(kit, party)
    _expect_recall(party, 0, 2)
    party.link.send(party.next_pay(14))
    party.link.expect_quiet()
    party.link.send(party.records(0, 2))
    party.expect_acked()
    kit.expect_delivered(party, [10, 11, 12, 13, 14])


@case("C-22 C-23", needs=_ROLLBACK, alone=True)
def node_rolled_back_and_not_told(kit: Kit) -> None:
    """A peer that shows no signature of the node's sends again what the node has forgotten"""
    party = _rolled_back(kit)
    shown = meet(kit, party, yours=None)
    same(party.pair(shown.mine)[0].n, 1, "the payments that the node remembers")
    party.held = None
    party.resend(1)
    party.expect_acked()
    kit.expect_delivered(party, [10, 11, 12, 13])


@case("C-23 C-9", needs=f"pay {_ROLLBACK}", alone=True)
def node_rolled_back_never_reuses_a_number(kit: Kit) -> None:
    """A node that forgot its own payments refuses to pay until it knows them, and goes on behind them"""
    party = rich(kit)
    kit.order("kill")
    kit.order("snapshot")
    kit.order("start")
    kit.reconnect(party)
    call = kit.order_pay(party, 20)
    party.expect_pay()
    party.ack()
    call.result(kit.runner.patience_s)
    _go_back(kit)
    meet(kit, party)
    _expect_recall(party, 1, 1)
    try:
        kit.order_pay(party, 30).result(kit.runner.quiet_s)
    except ControlRefused:
        pass
    else:
        raise Violation("the node pays before it knows what it has paid")
    party.link.send(party.records(1, 1))
    party.pay(10)
    kit.order_pay(party, 40)
    same(party.expect_pay().first_n, 2, "the number of the next payment")
    party.ack()


@case("C-22 X-4", needs=f"close {_ROLLBACK}", alone=True)
def node_rolled_back_closes_with_evidence(kit: Kit) -> None:
    """A state beyond the node's records is evidence: it goes to the ledger when the node closes alone"""
    party = _rolled_back(kit)
    meet(kit, party, yours=None)
    party.link.expect_alive()
    kit.order("close", channel=party.channel_id.hex(), force=True)
    view = kit.channel_until(party, ops.CLOSING)
    same(view.half0, party.own.pack(), "half0 on the ledger")
