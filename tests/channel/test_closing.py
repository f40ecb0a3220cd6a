"""Closing together and alone, disputes, settlement, and what happens when either side dies at any step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from channel_pair import Crash, Pair, Side, forge
from channelpay.channel import channel as step
from channelpay.channel.effects import FailedNote
from channelpay.channel.state import Phase, ReceiveLimits
from channelpay.crypto import SigningKey
from channelpay.errors import ErrorCode, LocalError, Reason
from channelpay.limits import (
    CLAIM_WAIT_S,
    CLOSE_TIMEOUT_S,
    FINAL_EXPIRY_S,
    FINAL_SUBMIT_DELAY_S,
    SUBMIT_RETRY_S,
)
from channelpay.messages import ledger as ops
from channelpay.messages import peer
from channelpay.messages.ledger import CLOSING, SETTLED
from channelpay.statements import FLAG_ONE_WAY, ZERO_HALF, final_bytes


def busy(flags: int = 0) -> Pair:
    pair = Pair(flags).open()
    pair.a.pay(100)
    if not flags:
        pair.b.pay(30)
    pair.run()
    return pair


def outs(pair: Pair) -> tuple[int, int, int]:
    row = pair.row()
    return row.status, row.out0, row.out1


def operations(pair: Pair) -> list[str]:
    return [line.kind.value for line in pair.books.whole_journal()]


# --- Together -------------------------------------------------------------------------------------


@pytest.mark.parametrize("party", [0, 1])
def test_together(party: int) -> None:
    pair = busy()
    pair.sides[party].close()
    pair.run()
    assert outs(pair) == (SETTLED, 930, 570)
    pair.a.read()
    pair.b.read()
    assert [side.c.phase for side in pair.sides] == [Phase.SETTLED, Phase.SETTLED]
    assert not pair.faults()


def test_both_at_once() -> None:
    pair = busy()
    pair.a.close()
    pair.b.close()
    pair.run()
    assert outs(pair) == (SETTLED, 930, 570)
    assert not pair.faults()


def test_an_unused_channel() -> None:
    pair = Pair().open()
    pair.b.close()
    pair.run()
    assert outs(pair) == (SETTLED, 1000, 500)


def test_what_is_under_way_and_what_waits_is_paid_first() -> None:
    pair = Pair(max_batch=1, limits=(limits(2), limits(2))).open()
    items = pair.a.pay(*[1] * 7) + pair.a.pay(2)
    pair.b.pay(9)
    pair.a.close()
    assert not [m for m in pair.a.sent if isinstance(m, peer.Shutdown)]
    pair.run()
    assert outs(pair) == (SETTLED, 1000, 500)
    assert pair.a.paid() == items
    assert not pair.faults()


def limits(max_unacked: int) -> ReceiveLimits:
    return ReceiveLimits(max_unacked, 1000, 1)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("closer", [0, 1])
@pytest.mark.parametrize("at", range(6))
def test_a_crash_at_any_commit_of_a_cooperative_close(closer: int, party: int, when: str, at: int) -> None:
    """Whatever dies at its at-th step from now: both come back, and the close goes through."""
    pair = busy()
    pair.sides[1 - closer].pay(5)
    victim = pair.sides[party]
    real, seen = victim._finish, 0

    def finish(fx: object) -> None:
        nonlocal seen
        seen += 1
        victim.die = when if seen == at + 1 else ""
        real(fx)  # type: ignore[arg-type]

    victim._finish = finish  # type: ignore[method-assign]
    try:
        pair.sides[closer].close()
        pair.run()
    except Crash:
        victim._finish = real  # type: ignore[method-assign]
        victim.crash()
    victim._finish = real  # type: ignore[method-assign]
    for side in pair.sides:
        side.die = ""
        side.advance()
        side.read()
    pair.reconnect()
    if all(side.c.phase is Phase.OPEN for side in pair.sides):  # it died before it had decided
        pair.sides[closer].close()
        pair.run()
    pair.pass_time(FINAL_SUBMIT_DELAY_S)
    pair.run()
    row = pair.row()
    assert row.status == SETTLED
    assert row.out0 == 1000 - row.half0.total + row.half1.total
    assert not pair.faults()
    assert "close" not in operations(pair)


@pytest.mark.parametrize("cut_after", range(12))
def test_a_cut_at_any_message_of_a_cooperative_close(cut_after: int) -> None:
    pair = busy()
    pair.b.pay(5)
    pair.a.close()
    delivered = 0
    while delivered < cut_after and any(side.inbox for side in pair.sides):
        for side in pair.sides:
            delivered += side.deliver(1)
    pair.reconnect()
    assert outs(pair) == (SETTLED, 935, 565)
    assert not pair.faults()


def test_shutdown_is_said_on_every_connection() -> None:
    pair = busy()
    pair.a.close()
    pair.connect()
    pair.b.deliver()
    pair.a.deliver()
    pair.connect()
    pair.run()
    shutdowns = [m for m in pair.a.sent if isinstance(m, peer.Shutdown)]
    assert len(shutdowns) >= 2
    assert outs(pair)[0] == SETTLED


def test_no_payment_after_shutdown() -> None:
    pair = busy()
    pay = forge(pair.a, 1)
    pair.a.close()
    pair.b.deliver()
    assert pair.b.c.phase is Phase.SHUTDOWN
    before = pair.b.bytes()
    pair.b.receive(pay)
    assert pair.b.errors[0].code is ErrorCode.ILLEGAL_NOW
    assert pair.b.bytes() == before


def test_shutdown_that_counts_wrongly() -> None:
    pair = busy()
    pair.b.receive(peer.Shutdown(pair.b.c.channel_id, 2))
    assert pair.b.errors[0].code is ErrorCode.GAP
    assert pair.b.c.phase is Phase.OPEN


# --- FINAL ----------------------------------------------------------------------------------------


def proposed() -> tuple[Pair, peer.Final]:
    """a has signed FINAL; b has not read it."""
    pair = busy()
    pair.a.close()
    pair.b.deliver()
    pair.a.deliver()
    final = pair.b.inbox.pop()
    assert isinstance(final, peer.Final)
    assert pair.a.c.phase is Phase.FINAL
    assert pair.b.c.phase is Phase.SHUTDOWN
    return pair, final


def test_final_is_durable_before_it_leaves() -> None:
    pair = busy()
    pair.a.close()
    pair.b.deliver()
    pair.a.die = "before"
    with pytest.raises(Crash):
        pair.a.deliver()
    assert not [m for m in pair.a.sent if isinstance(m, peer.Final)]
    pair.a.crash()
    assert pair.a.c.phase is Phase.SHUTDOWN


def test_an_expired_final_is_signed_again_over_the_same_halves() -> None:
    pair, final = proposed()
    first = pair.a.c.final
    pair.cut()
    pair.a.crash()
    pair.b.crash()
    pair.time += FINAL_EXPIRY_S + 1
    pair.a.readings = pair.b.readings = True
    pair.reconnect()
    second = pair.a.c.final
    assert first is not None
    assert second is not None
    assert second[:2] == first[:2]
    assert second.expiry > final.expiry
    assert outs(pair) == (SETTLED, 930, 570)


def test_an_agreed_final_that_expired_unused_is_renewed_too() -> None:
    pair, final = proposed()
    pair.b.receive(final)
    pair.a.deliver()
    assert pair.a.c.final is not None
    assert pair.a.c.final.agreed
    pair.a.crash()
    pair.b.crash()
    pair.time += FINAL_EXPIRY_S + 1
    pair.reconnect()
    assert pair.a.c.final.expiry > final.expiry
    assert outs(pair) == (SETTLED, 930, 570)


def test_an_unexpired_final_goes_again_as_it_was() -> None:
    pair, final = proposed()
    pair.reconnect()
    assert [m.expiry for m in pair.a.sent if isinstance(m, peer.Final)] == [final.expiry] * 2
    assert outs(pair)[0] == SETTLED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda pair, f: replace(f, signature=bytes(64)), ErrorCode.FINAL_MISMATCH),
        (lambda pair, f: signed(pair, f.expiry, total=99), ErrorCode.FINAL_MISMATCH),
    ],
)
def test_a_final_over_other_halves(change: Callable[[Pair, peer.Final], peer.Final], code: ErrorCode) -> None:
    pair, final = proposed()
    before = pair.b.bytes()
    pair.b.receive(change(pair, final))
    assert pair.b.errors[0].code is code
    assert pair.b.bytes() == before


def signed(pair: Pair, expiry: int, total: int = 100) -> peer.Final:
    """FINAL by a, over its own half with this total."""
    own = pair.a.c.own._replace(total=total)
    text = final_bytes(pair.a.c.channel_id, own, pair.a.c.peer, expiry)
    return peer.Final(pair.a.c.channel_id, expiry, SigningKey.sign(pair.a.key, text))


@pytest.mark.parametrize("ahead", [0, 2 * FINAL_EXPIRY_S + 1])
def test_a_final_that_lives_too_long_or_not_at_all_is_declined_and_nothing_stops(ahead: int) -> None:
    pair, final = proposed()
    before = pair.b.bytes()
    fx = pair.b.receive(signed(pair, pair.time + ahead))
    assert [m.code for m in fx.messages if isinstance(m, peer.Error)] == [int(ErrorCode.EXPIRY_REFUSED)]
    assert pair.b.bytes() == before
    pair.b.receive(final)
    pair.run()
    assert outs(pair)[0] == SETTLED


def test_a_final_waits_for_the_ledgers_time() -> None:
    pair, final = proposed()
    time, pair.time = pair.time, 0
    pair.b.receive(final)
    assert not pair.b.errors
    assert pair.b.c.held_back == [final]
    pair.time = time
    pair.b.receive()
    assert pair.b.c.phase is Phase.FINAL


def test_no_final_is_proposed_without_the_ledgers_time() -> None:
    pair = busy()
    time, pair.time = pair.time, 0
    pair.a.close()
    pair.run(ledger=False)
    assert pair.a.c.final is None
    pair.time = time
    pair.a.advance()
    pair.run()
    assert outs(pair)[0] == SETTLED


def test_a_final_before_both_are_drained() -> None:
    pair = busy()
    pair.b.close()
    before = pair.b.bytes()
    pair.b.receive(signed(pair, pair.time + 60))
    assert pair.b.errors[0].code is ErrorCode.FINAL_MISMATCH
    assert pair.b.bytes() == before


def test_party_1_submits_if_party_0_does_not() -> None:
    pair, final = proposed()
    pair.b.receive(final)
    assert not pair.b.submissions
    assert step.next_deadline(pair.b.c) == pair.clock + FINAL_SUBMIT_DELAY_S
    pair.clock += FINAL_SUBMIT_DELAY_S
    pair.b.advance()
    assert [s.operation.OP for s in pair.b.submissions] == ["close_final"]


def test_after_final_no_payment_is_signed_or_accepted() -> None:
    pair, _ = proposed()
    with pytest.raises(LocalError) as refusal:
        pair.a.pay(1)
    assert refusal.value.reason is Reason.CLOSING
    pair.a.receive(forge(pair.b, 1))
    assert pair.a.errors[0].code is ErrorCode.ILLEGAL_NOW


def test_final_settles_in_a_dispute_too() -> None:
    pair, final = proposed()
    pair.b.receive(final)
    pair.a.deliver()
    pair.a.submissions.clear()
    pair.a.c.in_flight.clear()
    pair.b.c.in_flight.clear()
    pair.execute(pair.b.key.public, ops.Close(pair.b.c.channel_id, ()))
    pair.a.read()
    assert pair.a.c.phase is Phase.CLOSING
    pair.a.submit()
    assert outs(pair) == (SETTLED, 930, 570)


def test_a_final_forgotten_by_a_rolled_back_disk_binds_again() -> None:
    for party in (0, 1):
        pair = busy()
        side = pair.sides[party]
        old = side.disk.copy()
        pair.a.close()
        pair.b.deliver()
        pair.a.deliver()
        pair.b.deliver()
        pair.a.deliver()
        assert pair.b.c.phase is Phase.FINAL
        side.crash(old)
        assert side.c.phase is Phase.OPEN
        pair.connect()
        while side.c.phase is not Phase.FINAL:
            assert side.deliver(1)
        with pytest.raises(LocalError):
            side.pay(1)
        pair.run()
        pair.pass_time(FINAL_SUBMIT_DELAY_S)
        pair.run()
        assert outs(pair) == (SETTLED, 930, 570)
        assert not pair.faults()


def test_a_forged_final_in_reestablish() -> None:
    pair, final = proposed()
    pair.b.receive(final)
    pair.cut()
    old = pair.a.disk.copy()
    pair.connect()
    shown = pair.a.inbox.popleft()
    assert isinstance(shown, peer.Reestablish)
    assert shown.final is not None
    pair.a.c.final = None
    pair.a.c.phase = Phase.OPEN
    pair.a.disk.cold = pair.a.bytes()[0]
    pair.a.receive(replace(shown, final=replace(shown.final, signature1=bytes(64))))
    assert pair.a.errors[0].code is ErrorCode.BAD_SIGNATURE
    assert pair.a.c.final is None
    assert old


# --- Time-outs ------------------------------------------------------------------------------------


def test_a_close_that_takes_too_long_goes_on_alone() -> None:
    pair = busy()
    pair.cut()
    pair.a.close()
    assert step.next_deadline(pair.a.c) == pair.clock + CLOSE_TIMEOUT_S
    pair.clock += CLOSE_TIMEOUT_S
    pair.a.advance()
    assert pair.a.c.phase is Phase.CLOSING
    pair.run()
    pair.settle_alone()
    assert outs(pair) == (SETTLED, 930, 570)


def test_the_wait_begins_anew_after_a_restart() -> None:
    pair = busy()
    pair.a.close()
    pair.a.crash()
    pair.clock += 1000
    pair.a.advance()
    assert step.next_deadline(pair.a.c) == pair.clock + CLOSE_TIMEOUT_S


@pytest.mark.parametrize("flags", [0, FLAG_ONE_WAY])
@pytest.mark.parametrize("expired", [False, True])
@pytest.mark.parametrize("party", [0, 1])
def test_no_timer_stays_in_the_past(party: int, flags: int, expired: bool) -> None:
    """A caller that calls advance at every next_deadline never spins."""
    pair = busy(flags)
    side = pair.sides[party]
    pair.a.close()
    pair.run(ledger=False)
    side.crash()
    if expired:
        pair.time += FINAL_EXPIRY_S + 1
    side.advance()
    for _ in range(50):
        due = step.next_deadline(side.c)
        if due is None:
            break
        assert due > pair.clock
        pair.clock = due
        side.advance()
    assert side.c.phase in (Phase.CLOSING, Phase.FINAL)


def test_a_refused_submission_is_repeated_later() -> None:
    pair = busy()
    pair.a.close(force=True)
    pair.a.submissions.clear()
    pair.a.do(lambda c, fx: step.answered(c, "close", True, pair.a.now(), fx))
    assert not pair.a.submissions
    assert step.next_deadline(pair.a.c) == pair.clock + SUBMIT_RETRY_S
    pair.clock += SUBMIT_RETRY_S
    pair.a.advance()
    assert len(pair.a.submissions) == 1


# --- Alone ----------------------------------------------------------------------------------------


def test_a_wish_to_close_alone_that_comes_in_the_peers_dispute_is_saved() -> None:
    pair = busy()
    pair.b.close(force=True)
    pair.b.submit()
    pair.a.read()
    assert pair.a.c.phase is Phase.CLOSING
    pair.a.close(force=True)  # the pair checks that all that changed is saved
    pair.a.crash()
    assert pair.a.c.force_asked


@pytest.mark.parametrize("party", [0, 1])
def test_alone(party: int) -> None:
    pair = busy()
    pair.sides[party].close(force=True)
    pair.run()
    assert pair.row().status == CLOSING
    pair.settle_alone()
    assert outs(pair) == (SETTLED, 930, 570)
    assert all(side.c.phase is Phase.SETTLED for side in pair.sides)


def test_the_decision_is_durable_before_the_ledger_hears_of_it() -> None:
    pair = busy()
    pair.a.die = "after"
    with pytest.raises(Crash):
        pair.a.close(force=True)
    assert not pair.a.submissions
    pair.a.crash()
    pair.a.advance()
    assert pair.a.c.phase is Phase.CLOSING
    assert [s.operation.OP for s in pair.a.submissions] == ["close"]


def test_a_channel_whose_peer_never_came_back_returns_the_deposit() -> None:
    pair = Pair(deposits=(1000, 0))
    pair.fund()
    pair.a.read()
    assert pair.a.c.phase is Phase.FUNDED
    with pytest.raises(LocalError, match="close with force"):
        pair.a.close()
    pair.a.close(force=True)
    pair.a.submit()
    pair.pass_time(pair.terms.window_s + 1)
    assert outs(pair) == (SETTLED, 1000, 0)
    assert pair.a.c.phase is Phase.SETTLED


def test_before_funding_and_after_settlement_there_is_nothing_to_close() -> None:
    for force in (False, True):
        with pytest.raises(LocalError) as refusal:
            Pair().a.close(force)
        assert refusal.value.reason is Reason.NOT_OPEN


def test_a_stale_close_is_answered_with_the_newest_state() -> None:
    pair = Pair().open()
    pair.a.pay(100)
    pair.run()
    old = pair.a.disk.copy()
    pair.a.pay(300)
    pair.run()
    pair.a.crash(old)
    pair.a.close(force=True)
    pair.a.submit()
    assert pair.row().half0.total == 100
    pair.b.read()
    assert pair.b.c.phase is Phase.CLOSING
    assert [s.operation.OP for s in pair.b.submissions] == ["respond"]
    pair.run()
    pair.settle_alone()
    assert outs(pair) == (SETTLED, 600, 900)


def test_two_states_answer_where_the_newest_has_no_records() -> None:
    """Neither covers the other: the ledger joins them."""
    pair = Pair(deposits=(1000, 500)).open()
    pair.a.pay(10)
    pair.b.pay(20)
    pair.run()
    pair.a.pay(200)
    pair.connect()
    pair.b.deliver(1)
    assert pair.b.c.evidence is not None
    pair.execute(pair.a.key.public, ops.Close(pair.a.c.channel_id, ()))
    pair.b.read()
    (submission,) = pair.b.submissions
    assert len(submission.operation.states) == 2  # type: ignore[attr-defined]
    pair.b.submit()
    assert pair.row().half0.total == 210


def test_nothing_is_answered_when_the_ledger_knows_everything_or_the_deadline_has_passed() -> None:
    pair = busy()
    pair.a.close(force=True)
    pair.a.submit()
    pair.b.read()
    assert not pair.b.submissions
    late = busy()
    late.execute(late.a.key.public, ops.Close(late.a.c.channel_id, ()))
    late.time += late.terms.window_s
    late.b.read()
    assert not late.b.submissions


def test_evidence_that_comes_during_a_dispute_is_shown() -> None:
    pair = Pair().open()
    pair.a.pay(100)
    pair.cut()
    pair.b.close(force=True)
    pair.b.submit()
    assert pair.row().half0 == ZERO_HALF
    pair.connect()
    pair.b.deliver(1)
    assert [s.operation.OP for s in pair.b.submissions] == ["respond"]
    pair.b.submit()
    assert pair.row().half0.total == 100


def test_a_payment_that_crosses_a_close_is_nobodys_fault() -> None:
    pair = Pair().open()
    (item,) = pair.a.pay(100)
    pair.b.close(force=True)
    pair.b.deliver()
    pair.run()
    assert not pair.faults()
    pair.settle_alone()
    assert pair.a.failed() == [item]
    assert outs(pair) == (SETTLED, 1000, 500)


def test_at_settlement_everybody_is_told_what_became_of_what_was_under_way() -> None:
    pair = Pair().open()
    first, second = *pair.a.pay(100), *pair.a.pay(50)
    pair.b.deliver(1)  # b holds the first; its ACK is lost
    pair.cut()
    (queued,) = pair.a.pay(7)
    pair.b.close(force=True)
    pair.b.submit()
    pair.a.read()
    pair.settle_alone()
    assert pair.a.paid() == [first]
    assert pair.a.failed() == [queued, second]
    assert all(isinstance(n.error, LocalError) for n in pair.a.notes if isinstance(n, FailedNote))
    assert outs(pair) == (SETTLED, 900, 600)


def test_seeing_closing_stops_paying_at_once() -> None:
    pair = busy()
    pair.execute(pair.b.key.public, ops.Close(pair.b.c.channel_id, ()))
    pair.cut()
    (item,) = pair.a.pay(1)
    pair.a.read()
    assert pair.a.failed() == [item]
    with pytest.raises(LocalError):
        pair.a.pay(1)


# --- One way --------------------------------------------------------------------------------------


def one_way_restarted() -> tuple[Pair, Side]:
    pair = busy(FLAG_ONE_WAY)
    pair.b.crash()
    return pair, pair.b


def test_party_1_of_a_one_way_channel_waits_for_its_peer_before_it_closes() -> None:
    """Its close settles at once: on an old disk it would give away what it was paid since."""
    pair, payee = one_way_restarted()
    with pytest.raises(LocalError) as refusal:
        payee.close(force=True)
    assert refusal.value.reason is Reason.UNRESOLVED
    assert payee.c.phase is Phase.OPEN
    pair.reconnect()
    payee.close(force=True)
    payee.submit()
    assert outs(pair) == (SETTLED, 900, 600)


def test_or_for_a_named_time() -> None:
    pair, payee = one_way_restarted()
    pair.clock += CLAIM_WAIT_S
    payee.close(force=True)
    payee.submit()
    assert outs(pair) == (SETTLED, 900, 600)


def test_the_time_out_of_a_cooperative_close_waits_as_long() -> None:
    pair, payee = one_way_restarted()
    payee.close()
    assert step.next_deadline(payee.c) == pair.clock + CLAIM_WAIT_S
    pair.clock += CLOSE_TIMEOUT_S
    payee.advance()
    assert payee.c.phase is Phase.SHUTDOWN
    pair.clock += CLAIM_WAIT_S - CLOSE_TIMEOUT_S
    payee.advance()
    assert payee.c.phase is Phase.CLOSING


def test_it_answers_a_dispute_without_waiting() -> None:
    pair, payee = one_way_restarted()
    pair.execute(pair.a.key.public, ops.Close(pair.a.c.channel_id, ()))
    payee.read()
    assert [s.operation.OP for s in payee.submissions] == ["respond"]
    payee.submit()
    pair.pass_time(pair.terms.window_s + 1)
    assert outs(pair) == (SETTLED, 900, 600)


def test_an_old_disk_in_the_middle_of_opening_was_not_heard_either() -> None:
    """READY on disk is not the peer's voice: the state may be years old."""
    pair = Pair(FLAG_ONE_WAY, deposits=(1000, 0))
    pair.fund()
    pair.connect()
    pair.a.read()
    pair.b.deliver()
    old = pair.b.disk.copy()
    pair.run()
    pair.a.pay(100)
    pair.run()
    pair.b.crash(old)
    assert pair.b.c.phase is Phase.ACCEPTED
    pair.b.read()
    assert pair.b.c.phase is Phase.OPEN
    with pytest.raises(LocalError):
        pair.b.close(force=True)
    pair.reconnect()
    pair.check_agree()
    assert pair.b.disk.payments(0) == [(1, 100)]
