"""After a lost connection, a crash, or a disk that went back: rule D6, case by case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from channel_pair import Crash, Disk, Pair, Side
from channelpay.batches import pack_record
from channelpay.channel.effects import JournalBatch, JournalGap, OperatorNote
from channelpay.channel.state import Phase
from channelpay.crypto import SigningKey
from channelpay.errors import ErrorCode, LocalError, Reason
from channelpay.messages import peer
from channelpay.messages.peer import Pay, Reestablish, SignedState
from channelpay.statements import FLAG_ONE_WAY, ZERO_HALF, Half, state_bytes


def paid(pair: Pair) -> list[int]:
    """What b's journal has of a's payments; equal to what a's has."""
    assert pair.a.disk.payments(0) == pair.b.disk.payments(0)
    return [amount for _, amount in pair.b.disk.payments(0)]


def rest(pair: Pair) -> None:
    pair.reconnect()
    pair.check_agree()


def amounts(side: Side, payer: int) -> list[int]:
    return [amount for _, amount in side.disk.payments(payer)]


def operator(side: Side) -> list[str]:
    return [note.text for note in side.notes if isinstance(note, OperatorNote)]


# --- Messages lost --------------------------------------------------------------------------------


def test_nothing_was_lost() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.run()
    sent = len(pair.a.sent), len(pair.b.sent)
    rest(pair)
    assert [type(m) for m in pair.a.sent[sent[0] :] + pair.b.sent[sent[1] :]] == [Reestablish, Reestablish]


def test_a_pay_was_lost() -> None:
    pair = Pair().open()
    (item,) = pair.a.pay(1)
    original = pair.a.last(Pay)
    rest(pair)
    again = pair.a.last(Pay)
    assert (again.first_n, again.records, again.memos) == (original.first_n, original.records, original.memos)
    assert paid(pair) == [1]
    assert pair.a.paid() == [item]


def test_an_ack_was_lost() -> None:
    pair = Pair().open()
    (item,) = pair.a.pay(1)
    pair.b.deliver()
    sent = len(pair.a.sent)
    rest(pair)
    assert [type(m) for m in pair.a.sent[sent:]] == [Reestablish]  # REESTABLISH acknowledges
    assert pair.a.paid() == [item]
    assert paid(pair) == [1]


def test_one_pay_arrived_and_one_did_not() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2)
    pair.b.deliver(1)
    rest(pair)
    assert paid(pair) == [1, 2]
    assert [m.first_n for m in pair.a.sent if isinstance(m, Pay)] == [1, 2, 2]


def test_a_resent_batch_is_signed_over_the_newest_half_of_the_peer() -> None:
    """b's payment arrived here meanwhile: its acknowledgement goes with the resend, over my older half."""
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2)
    pair.b.pay(7)
    pair.a.deliver()
    rest(pair)
    resent = [m for m in pair.a.sent if isinstance(m, Pay)][2:]
    assert [(m.first_n, m.ack_n) for m in resent] == [(1, 1), (2, 1)]


def test_both_directions_lost_everything_under_way() -> None:
    pair = Pair().open()
    for n in range(1, 4):
        pair.a.pay(n)
        pair.b.pay(10 * n)
    pair.a.deliver(2)
    pair.b.deliver(1)
    rest(pair)
    assert amounts(pair.b, 0) == [1, 2, 3]
    assert amounts(pair.a, 1) == [10, 20, 30]


def test_evidence_beyond_the_records_is_never_taken_for_them() -> None:
    """The resend is lost too: the state seen in REESTABLISH must not make the peer skip it."""
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2)
    pair.connect()
    pair.b.deliver(1)  # a's REESTABLISH over both payments
    assert pair.b.c.evidence is not None
    assert pair.b.c.evidence.peer.n == 2
    assert pair.b.c.peer.n == 0
    assert pair.b.c.own_balance() == 500
    pair.connect()
    assert pair.b.last(Reestablish).yours is not None
    assert Half.unpack(pair.b.last(Reestablish).yours.half0).n == 0
    rest(pair)
    assert paid(pair) == [1, 2]
    assert pair.b.c.evidence is None


def test_evidence_survives_a_restart_and_goes_to_the_ledger() -> None:
    pair = Pair().open()
    pair.a.pay(100)
    pair.connect()
    pair.b.deliver(1)
    pair.b.crash()
    assert pair.b.c.evidence is not None
    pair.b.close(force=True)
    pair.run()
    pair.settle_alone()
    assert pair.row().out1 == 600
    gaps = [e for e in pair.b.disk.journal if isinstance(e, JournalGap)]  # it was paid for what it never saw
    assert [(g.first_n, g.size, g.total) for g in gaps] == [(1, 1, 100)]


def test_evidence_over_more_than_the_channel_holds_counts_as_what_the_ledger_paid() -> None:
    """A liar signs for money that it does not have, and nothing but its REESTABLISH tells of it."""
    pair = Pair().open()
    pair.a.pay(100)
    pair.connect()
    shown = pair.b.inbox.popleft()
    assert isinstance(shown, Reestablish)
    half = Half.unpack(shown.mine.half0)._replace(total=5000)
    mine = SignedState(half.pack(), shown.mine.half1, pair.a.c.sign_state(half, ZERO_HALF))
    pair.b.receive(replace(shown, mine=mine))
    pair.b.close(force=True)
    pair.b.submit()
    pair.cut()
    pair.pass_time(pair.terms.window_s + 1)
    assert (pair.row().out0, pair.row().out1) == (0, 1500)
    (gap,) = (e for e in pair.b.disk.journal if isinstance(e, JournalGap))
    assert (gap.first_n, gap.size, gap.total, gap.half.total) == (1, 1, 1000, 1000)
    assert pair.b.c.peer.total == 1000


# --- Crashes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("who", ["payer", "payee", "payer at the ack"])
def test_a_crash_around_a_commit(who: str, when: str) -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.run()
    victim = pair.b if who == "payee" else pair.a
    steps: list[Callable[[], object]] = [lambda: pair.a.pay(2), pair.b.deliver, pair.a.deliver]
    for position, action in enumerate(steps):
        if ["payer", "payee", "payer at the ack"][position] == who:
            victim.die = when
            with pytest.raises(Crash):
                action()
            victim.crash()
            break
        action()
    rest(pair)
    assert paid(pair) == ([1] if (who, when) == ("payer", "before") else [1, 2])


def test_a_crash_between_commit_and_send_of_many() -> None:
    pair = Pair(max_batch=1).open()
    pair.a.die = "after"
    with pytest.raises(Crash):
        pair.a.pay(1, 2, 3)
    pair.a.crash()
    assert [sent.half.n for sent in pair.a.c.unacked] == [1, 2, 3]
    rest(pair)
    assert paid(pair) == [1, 2, 3]


# --- Rollbacks ------------------------------------------------------------------------------------


def busy() -> tuple[Pair, Disk, Disk]:
    """Payments both ways; the disks as they were in the middle."""
    pair = Pair().open()
    pair.a.pay(1, 2)
    pair.b.pay(10)
    pair.run()
    old = pair.a.disk.copy(), pair.b.disk.copy()
    for n in range(3):
        pair.a.pay(3 + n, 30 + n)
        pair.b.pay(20 + n)
        pair.run()
    pair.check_agree()
    return pair, *old


@pytest.mark.parametrize("pieces", [1, 2, 4096])
@pytest.mark.parametrize("who", ["a", "b", "both"])
def test_a_disk_that_went_back_is_restored(who: str, pieces: int) -> None:
    pair, old_a, old_b = busy()
    halves, expected = (pair.a.c.own, pair.a.c.peer), [amounts(pair.b, 0), amounts(pair.a, 1)]
    for side in pair.sides:
        side.pieces = pieces
    if who in ("a", "both"):
        pair.a.crash(old_a)
    if who in ("b", "both"):
        pair.b.crash(old_b)
    rest(pair)
    if who != "both":
        assert (pair.a.c.own, pair.a.c.peer) == halves
        assert [amounts(pair.b, 0), amounts(pair.a, 1)] == expected
        assert [amounts(pair.a, 0), amounts(pair.b, 1)] == expected
        assert any("rolled back" in text for text in operator(pair.a if who == "a" else pair.b))
    pair.a.pay(1)
    pair.b.pay(1)
    pair.run()
    pair.check_agree()


def test_a_restored_store_whose_channel_is_being_closed_does_not_tell_that_nothing_was_paid() -> None:
    """Its owner may ask again for what the copy has forgotten; the peer has not told yet."""
    pair, old_a, _ = busy()
    pair.b.close(force=True)
    pair.b.submit()
    pair.a.crash(old_a)
    pair.a.c.restored = True
    pair.a.read()
    assert pair.a.c.phase is Phase.CLOSING
    with pytest.raises(LocalError) as refusal:
        pair.a.pay(1)
    assert refusal.value.reason is Reason.UNRESOLVED
    pair.connect()
    pair.run()
    with pytest.raises(LocalError) as refusal:
        pair.a.pay(1)
    assert refusal.value.reason is Reason.CLOSING


def test_until_the_records_are_known_nothing_is_paid_or_delivered() -> None:
    pair, old_a, _ = busy()
    pair.a.crash(old_a)
    pair.connect()
    pair.b.pay(99)
    queued = None
    while pair.a.inbox and isinstance(pair.a.inbox[0], Reestablish):
        pair.a.deliver(1)
    assert not pair.a.c.resolved
    with pytest.raises(LocalError) as refusal:
        queued = pair.a.pay(1)
    assert refusal.value.reason is Reason.UNRESOLVED
    assert queued is None
    pair.b.deliver(2)  # a's REESTABLISH and its first RECALL
    records = [m for m in pair.a.inbox if isinstance(m, peer.PastRecords)]
    later = Pay(pair.a.c.channel_id, 5, pack_record(1), b"", 0, bytes(64))
    assert records
    pair.a.receive(later)
    assert pair.a.c.held_back == [later]
    assert pair.a.disk.last_n(1) == 1
    rest(pair)


def test_a_queue_from_before_the_rollback_was_known_is_not_paid() -> None:
    """Its ids may have been paid already, in what was forgotten: the caller has to ask again."""
    pair, old_a, _ = busy()
    pair.a.crash(old_a)
    items = pair.a.pay(5)
    rest(pair)
    assert pair.a.failed() == items
    assert items[0] not in pair.a.paid()


def test_records_no_longer_kept_become_one_entry() -> None:
    pair, _, old_b = busy()
    pair.a.kept_from = 4
    total = pair.b.c.peer.total
    pair.b.crash(old_b)
    rest(pair)
    (gap,) = (e for e in pair.b.disk.journal if isinstance(e, JournalGap) and e.payer == 0)
    assert (gap.received, gap.first_n, gap.size, gap.total) == (True, 3, 6, total - 3)
    assert gap.half == pair.a.c.own
    assert pair.b.c.own_balance() == pair.a.c.peer_balance()
    pair.a.pay(1)
    pair.run()
    pair.check_agree()


def test_a_crash_while_records_are_recalled_begins_anew() -> None:
    pair, old_a, _ = busy()
    pair.b.pieces = 1
    pair.a.crash(old_a)
    pair.connect()
    for _ in range(6):
        pair.a.deliver(1)
        pair.b.deliver(1)
    assert not pair.a.c.resolved
    assert any(pair.a.c.recalled.values())
    pair.a.crash()
    assert not pair.a.c.resolved  # it knows from its disk
    rest(pair)
    assert amounts(pair.a, 0) == amounts(pair.b, 0)


def test_both_went_back_and_one_had_not_finished() -> None:
    """The evidence that the first one kept is the last copy of what the second signed."""
    pair, old_a, old_b = busy()
    own = pair.a.c.own
    pair.b.crash(old_b)
    pair.connect()
    pair.b.deliver(1)  # b adopts, and has no records yet
    assert pair.b.c.peer == own
    pair.a.crash(old_a)
    rest(pair)
    assert pair.a.c.own == own
    assert [(e.payer, e.size) for e in pair.b.disk.journal if isinstance(e, JournalGap)] == [(1, 3), (0, 6)]


def test_a_payer_that_forgot_what_is_evidence_alone_is_refused() -> None:
    """a went back and signs another payment under the same number: b takes it not, and keeps the evidence."""
    pair = Pair().open()
    old = pair.a.disk.copy()
    pair.a.pay(100)
    pair.connect()
    pair.b.deliver(1)
    assert pair.b.c.evidence is not None
    pair.a.crash(old)
    pair.reconnect()
    pair.a.pay(30)
    pair.run()
    assert [text.partition(":")[0] for text in pair.faults()] == ["regression"]
    pair.reconnect()  # a has signed as many by now, and others
    pair.run()
    assert [text.partition(":")[0] for text in pair.faults()] == ["regression", "bad_history"]
    assert pair.b.disk.payments(0) == []
    pair.b.close(force=True)
    pair.run()
    pair.settle_alone()
    assert pair.row().out1 == 600


def test_an_acknowledgement_never_goes_back() -> None:
    """b shows more of its own and less of mine than the state that I hold: its disk went back."""
    pair = Pair().open()
    pair.a.pay(1)
    pair.run()
    held = pair.a.c.held
    assert held is not None
    pair.b.pay(2)
    pair.run()
    pair.a.c.held = held  # as after records of b were recalled: its signature on them is not here
    pair.a.disk.hot = pair.a.bytes()[1]
    pair.connect()
    message = pair.a.inbox.popleft()
    assert isinstance(message, Reestablish)
    shown = signed_state(pair.b, Half(), pair.b.c.own)
    pair.a.receive(replace(message, mine=shown, yours=None))
    assert not pair.a.errors
    assert pair.a.c.held == held
    assert pair.a.c.evidence is not None
    assert pair.a.c.evidence.signature == shown.signature


def recalling() -> tuple[Pair, peer.PastRecords]:
    """b was rolled back; the RECORDS that a sends it."""
    pair, _, old_b = busy()
    pair.b.crash(old_b)
    pair.connect()
    pair.b.deliver(1)
    pair.a.deliver()
    while not isinstance(pair.b.inbox[0], peer.PastRecords) or pair.b.inbox[0].payer != 0:
        pair.b.inbox.popleft()
    records = pair.b.inbox.popleft()
    assert isinstance(records, peer.PastRecords)
    pair.b.inbox.clear()
    return pair, records


def changed(batch: peer.PastBatch, amount: int) -> peer.PastBatch:
    return replace(batch, records=pack_record(amount) + batch.records[24:])


@pytest.mark.parametrize(
    "lie",
    [
        lambda past: (changed(past[0], 1), *past[1:]),
        lambda past: (*past[:2], changed(past[2], 1)),
        lambda past: past[1:],
        lambda past: (past[0], past[0], *past[1:]),
        lambda past: (past[0], past[2]),
        lambda past: (*past[:2], replace(past[2], records=past[2].records + pack_record(1))),
        lambda past: (replace(past[0], memos=b"\x91\x92\x00\xc4\x01m"), *past[1:]),
        lambda past: (changed(past[0], 10**9), *past[1:]),
    ],
)
def test_records_that_do_not_link_up_are_not_believed(lie: Callable[[tuple[peer.PastBatch, ...]], object]) -> None:
    pair, records = recalling()
    before, journal = pair.b.bytes(), len(pair.b.disk.journal)
    pair.b.receive(replace(records, batches=lie(records.batches)))
    assert pair.b.errors[0].code is ErrorCode.BAD_HISTORY
    assert pair.b.bytes() == before
    assert len(pair.b.disk.journal) == journal
    pair.b.errors.clear()
    rest(pair)


def test_a_lie_in_the_first_of_several_pieces_is_not_delivered() -> None:
    pair, records = recalling()
    journal = len(pair.b.disk.journal)
    first, *others = records.batches
    pair.b.receive(replace(records, batches=(changed(first, first.records[7] - 1),)))
    assert len(pair.b.disk.journal) == journal
    pair.b.receive(replace(records, batches=tuple(others)))
    assert pair.b.errors[0].code is ErrorCode.BAD_HISTORY
    assert len(pair.b.disk.journal) == journal


def test_pieces_and_then_nothing_is_nothing() -> None:
    pair, records = recalling()
    pair.b.receive(replace(records, batches=records.batches[:1]))
    pair.b.receive(replace(records, batches=()))
    assert [type(e) for e in pair.b.disk.journal if e.payer == 0] == [JournalBatch, JournalGap]


def test_records_that_nobody_asked_for_are_ignored() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.run()
    before = pair.b.bytes()
    pair.b.receive(peer.PastRecords(pair.b.c.channel_id, 0, (peer.PastBatch(1, pack_record(1), b""),)))
    assert pair.b.bytes() == before
    assert not pair.b.errors


def test_recall_of_payment_0() -> None:
    pair = Pair().open()
    pair.b.receive(peer.Recall(pair.b.c.channel_id, 0, 0))
    assert pair.b.errors[0].code is ErrorCode.MALFORMED


# --- Lies -----------------------------------------------------------------------------------------


def shown(pair: Pair) -> Reestablish:
    """What a says to b on a new connection, not yet given in."""
    pair.connect()
    message = pair.b.inbox.popleft()
    assert isinstance(message, Reestablish)
    return message


def signed_state(side: Side, half0: Half, half1: Half) -> peer.SignedState:
    signature = SigningKey.sign(side.key, state_bytes(side.c.channel_id, half0, half1))
    return peer.SignedState(half0.pack(), half1.pack(), signature)


def refused(pair: Pair, message: Reestablish) -> ErrorCode:
    before = pair.b.bytes()
    sent = len(pair.b.sent)
    pair.b.receive(message)
    assert pair.b.bytes() == before
    assert len(pair.b.sent) == sent
    return pair.b.errors[0].code


def quiet() -> Pair:
    pair = Pair().open()
    pair.a.pay(1)
    pair.b.pay(2)
    pair.a.pay(3)
    pair.run()
    pair.check_agree()
    return pair


def test_a_state_that_its_shower_did_not_sign() -> None:
    pair = quiet()
    message = shown(pair)
    assert refused(pair, replace(message, mine=replace(message.mine, signature=bytes(64)))) is ErrorCode.BAD_SIGNATURE


def test_a_state_shown_as_mine_that_i_did_not_sign() -> None:
    pair = quiet()
    message = shown(pair)
    assert message.yours is not None
    forged = replace(message.yours, half1=Half(9, 9, bytes(32)).pack())
    assert refused(pair, replace(message, yours=forged)) is ErrorCode.BAD_SIGNATURE


def test_a_claim_to_hold_more_than_i_signed() -> None:
    pair = quiet()
    message = shown(pair)
    c = pair.a.c
    mine = signed_state(pair.a, c.own, c.peer._replace(n=5, total=50))
    assert refused(pair, replace(message, mine=mine)) is ErrorCode.UNKNOWN_BOUNDARY


def test_a_claim_to_hold_a_part_of_a_batch() -> None:
    pair = Pair().open()
    pair.b.pay(1, 1, 1)
    message = shown(pair)
    mine = signed_state(pair.a, pair.a.c.own, Half(2, 2, bytes(32)))
    assert refused(pair, replace(message, mine=mine)) is ErrorCode.UNKNOWN_BOUNDARY


@pytest.mark.parametrize("whose", ["own", "peer"])
def test_a_forked_history(whose: str) -> None:
    pair = quiet()
    message = shown(pair)
    own, other = pair.a.c.own, pair.a.c.peer
    if whose == "own":
        own = own._replace(h=bytes(32))
    else:
        other = other._replace(h=bytes(32))
    assert refused(pair, replace(message, mine=signed_state(pair.a, own, other))) is ErrorCode.BAD_HISTORY


def test_a_peer_whose_own_state_is_older_than_mine_of_it() -> None:
    pair = quiet()
    old = signed_state(pair.a, Half(), Half())
    message = shown(pair)
    assert refused(pair, replace(message, mine=old)) is ErrorCode.REGRESSION


def test_my_own_signature_on_another_history_of_the_same_length() -> None:
    """This node was rolled back, unknown to it, and signed again: it stops rather than sign on."""
    pair = quiet()
    message = shown(pair)
    c = pair.b.c
    fork = signed_state(pair.b, c.peer, c.own._replace(h=bytes(32)))
    assert refused(pair, replace(message, yours=fork)) is ErrorCode.BAD_HISTORY


def test_reestablish_comes_once_and_first() -> None:
    pair = quiet()
    message = shown(pair)
    pair.b.receive(pair.b.inbox.popleft() if pair.b.inbox else message)
    pair.b.receive(message)
    assert pair.b.errors[0].code is ErrorCode.UNEXPECTED


@pytest.mark.parametrize(
    "early",
    [
        lambda i: Pay(i, 3, pack_record(1), b"", 0, bytes(64)),
        lambda i: peer.Ack(i, 0, 0, bytes(64)),
        lambda i: peer.Recall(i, 0, 1),
        lambda i: peer.PastRecords(i, 0, ()),
        lambda i: peer.Shutdown(i, 0),
        lambda i: peer.WithdrawAsk(i, 1, 1, bytes(64)),
        lambda i: peer.WithdrawOk(i, 1, 1, bytes(64)),
        lambda i: peer.WithdrawNo(i, 1, 1, 1),
    ],
)
def test_nothing_goes_before_reestablish(early: Callable[[bytes], peer.Message]) -> None:
    pair = quiet()
    shown(pair)
    before = pair.b.bytes()
    pair.b.receive(early(pair.b.c.channel_id))
    assert pair.b.errors[0].code is ErrorCode.UNEXPECTED
    assert pair.b.bytes() == before


def test_a_closing_node_still_shows_and_reads_states() -> None:
    pair = Pair().open()
    pair.a.pay(100)
    pair.a.close(force=True)
    pair.connect()
    pair.run(ledger=False)
    assert pair.b.c.evidence is not None
    assert pair.a.c.phase is Phase.CLOSING
    pair.run()
    pair.settle_alone()
    assert pair.row().out1 == 600


def test_party_1_of_a_one_way_channel_shows_payments_of_its_own() -> None:
    pair = Pair(FLAG_ONE_WAY).open()
    pair.connect()
    half0, half1 = ZERO_HALF, Half(1, 5, bytes(32))
    signature = SigningKey.sign(pair.b.key, state_bytes(pair.b.c.channel_id, half0, half1))
    before = pair.a.bytes()
    pair.a.receive(replace(pair.b.last(Reestablish), mine=SignedState(half0.pack(), half1.pack(), signature)))
    assert [error.code for error in pair.a.errors] == [ErrorCode.ONE_WAY]
    assert pair.a.bytes() == before
