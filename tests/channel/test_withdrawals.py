"""Withdrawals by consent, the hold that makes them safe, and claims on one_way channels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channel_pair import Pair, Side, forge
from channelpay.channel.effects import OperatorNote
from channelpay.channel.state import Phase
from channelpay.crypto import SigningKey
from channelpay.errors import ErrorCode, LocalError, Reason
from channelpay.limits import CLAIM_WAIT_S, FINAL_EXPIRY_S
from channelpay.messages import ledger as ops
from channelpay.messages import peer
from channelpay.statements import FLAG_ONE_WAY, withdraw_bytes


def consented(units: int = 300) -> Pair:
    """a's withdrawal has b's consent; nothing went to the ledger."""
    pair = Pair().open()
    pair.a.withdraw(units)
    pair.b.deliver()
    pair.a.deliver()
    assert pair.a.c.withdrawals[0].agreed
    assert pair.b.c.withdrawals[0].agreed
    return pair


def refuse(side: Side, units: int) -> Reason:
    before = side.bytes()
    with pytest.raises(LocalError) as refusal:
        side.withdraw(units)
    assert side.bytes() == before
    return refusal.value.reason


@pytest.mark.parametrize("party", [0, 1])
def test_a_withdrawal(party: int) -> None:
    pair = Pair().open()
    side = pair.sides[party]
    side.withdraw(200)
    pair.run()
    row = pair.row()
    assert (row.withdrawn0, row.withdrawn1)[party] == 200
    for each in pair.sides:
        each.read()
        assert not each.c.withdrawals
    pair.check_agree()


def test_withdrawals_add_up() -> None:
    pair = Pair().open()
    for units in (100, 200):
        pair.a.withdraw(units)
        pair.run()
        pair.b.read()
    assert pair.row().withdrawn0 == 300
    assert [m.total for m in pair.a.sent if isinstance(m, peer.WithdrawAsk)] == [100, 300]
    pair.check_agree()


def test_all_of_it_and_no_more() -> None:
    pair = Pair().open()
    assert refuse(pair.a, 1001) is Reason.INSUFFICIENT_BALANCE
    assert refuse(pair.a, 0) is Reason.INSUFFICIENT_BALANCE
    pair.a.withdraw(1000)
    with pytest.raises(LocalError):
        pair.a.pay(1)
    pair.run()
    pair.check_agree()
    assert pair.a.c.own_balance() == 0


def test_when_it_cannot_be_asked() -> None:
    pair = Pair()
    assert refuse(pair.a, 1) is Reason.NOT_OPEN
    pair.open()
    pair.a.stale = True
    assert refuse(pair.a, 1) is Reason.STALLED
    pair.a.stale = False
    pair.a.withdraw(1)
    assert refuse(pair.a, 1) is Reason.WITHDRAWAL_OPEN
    pair.cut()
    assert refuse(pair.b, 1) is Reason.PEER_UNREACHABLE


# --- The hold --------------------------------------------------------------------------------------


def test_the_asker_holds_from_the_moment_it_asks() -> None:
    pair = Pair().open()
    pair.a.withdraw(300)
    assert pair.a.c.own_balance() == 700
    with pytest.raises(LocalError):
        pair.a.pay(701)
    pair.a.crash()
    assert pair.a.c.own_balance() == 700


def test_the_consenter_counts_it_before_it_executes() -> None:
    """Consent, accept a payment on the old reading, the withdrawal executes: that payment would be lost."""
    pair = consented(300)
    pair.b.receive(forge(pair.a, 701))
    pair.b.read()
    assert pair.b.errors[0].code is ErrorCode.BALANCE


def test_the_consent_is_on_disk_before_it_leaves() -> None:
    pair = Pair().open()
    pair.a.withdraw(300)
    fx = pair.b.receive(pair.b.inbox.popleft())
    assert fx.save
    pair.b.crash()
    assert pair.b.c.peer_balance() == 700


def test_the_hold_ends_by_one_reading_past_its_expiry() -> None:
    pair = consented()
    expiry = pair.a.c.withdrawals[0].expiry
    pair.time = expiry
    for side in pair.sides:
        side.read()
        assert side.c.withdrawals  # it may execute in this very second
    pair.time = expiry + 1
    for side in pair.sides:
        side.read()
        assert not side.c.withdrawals
    pair.check_agree()
    assert pair.a.c.own_balance() == 1000


def test_time_passing_here_does_not_end_a_hold() -> None:
    pair = consented()
    pair.time += FINAL_EXPIRY_S + 1
    pair.a.advance()
    assert pair.a.c.withdrawals


def test_an_expired_one_is_not_submitted() -> None:
    pair = consented()
    pair.a.submissions.clear()
    pair.a.c.in_flight.clear()
    pair.time += FINAL_EXPIRY_S + 1
    pair.a.advance()
    assert not pair.a.submissions


def test_a_restart_submits_again() -> None:
    pair = consented()
    pair.a.crash()
    pair.a.advance()
    assert [s.operation.OP for s in pair.a.submissions] == ["withdraw"]
    pair.a.submit()
    assert pair.row().withdrawn0 == 300


# --- Consent and refusal ---------------------------------------------------------------------------


def test_an_ask_that_was_lost_goes_again() -> None:
    pair = Pair().open()
    pair.a.withdraw(300)
    pair.cut()
    pair.a.crash()
    pair.reconnect()
    assert pair.row().withdrawn0 == 300
    first, second = (m for m in pair.a.sent if isinstance(m, peer.WithdrawAsk))
    assert first == second


def test_the_same_ask_gets_the_same_signature() -> None:
    pair = Pair().open()
    pair.a.withdraw(300)
    pair.b.deliver()
    pair.b.crash()
    pair.reconnect()
    first, second = (m for m in pair.b.sent if isinstance(m, peer.WithdrawOk))
    assert first == second
    assert pair.row().withdrawn0 == 300


def ask(pair: Pair, total: int, expiry: int) -> peer.WithdrawAsk:
    text = withdraw_bytes(pair.a.c.channel_id, 0, total, expiry)
    return peer.WithdrawAsk(pair.a.c.channel_id, total, expiry, SigningKey.sign(pair.a.key, text))


def answer(pair: Pair, message: peer.WithdrawAsk) -> ErrorCode:
    before = pair.b.bytes()
    fx = pair.b.receive(message)
    (no,) = fx.messages
    assert isinstance(no, peer.WithdrawNo)
    assert (no.total, no.expiry) == (message.total, message.expiry)
    assert pair.b.bytes() == before
    return ErrorCode(no.code)


def test_refusals() -> None:
    pair = Pair().open()
    soon = pair.time + 60
    assert answer(pair, ask(pair, 1001, soon)) is ErrorCode.BALANCE
    assert answer(pair, ask(pair, 0, soon)) is ErrorCode.WITHDRAW_REFUSED
    assert answer(pair, ask(pair, 1, pair.time)) is ErrorCode.EXPIRY_REFUSED
    assert answer(pair, ask(pair, 1, pair.time + 2 * FINAL_EXPIRY_S + 1)) is ErrorCode.EXPIRY_REFUSED
    pair.b.stale = True
    assert answer(pair, ask(pair, 1, soon)) is ErrorCode.STALLED
    pair.b.stale = False
    pair.b.receive(ask(pair, 1, soon))
    assert answer(pair, ask(pair, 2, soon)) is ErrorCode.WITHDRAW_REFUSED
    assert pair.b.wants_reading


@pytest.mark.parametrize("phase", [Phase.SHUTDOWN, Phase.FINAL, Phase.CLOSING])
def test_a_closing_channel_says_no(phase: Phase) -> None:
    pair = Pair().open()
    pair.b.c.phase = phase
    pair.b.disk.cold = pair.b.bytes()[0]
    pair.b.c.shutdown_sent = True
    pair.b.c.closing_since = pair.clock
    before = len(pair.b.sent)
    pair.b.receive(ask(pair, 1, pair.time + 60))
    assert [type(m) for m in pair.b.sent[before:]] == [peer.WithdrawNo]


def test_an_ask_signed_by_somebody_else() -> None:
    pair = Pair().open()
    pair.b.receive(replace(ask(pair, 1, pair.time + 60), signature=bytes(64)))
    assert pair.b.errors[0].code is ErrorCode.BAD_SIGNATURE


def test_a_refusal_ends_the_hold() -> None:
    pair = Pair().open()
    pair.b.stale = True
    pair.a.withdraw(300)
    pair.run()
    assert not pair.a.c.withdrawals
    assert any("refused the withdrawal" in n.text for n in pair.a.notes if isinstance(n, OperatorNote))
    assert pair.a.c.own_balance() == 1000


@pytest.mark.parametrize("kind", ["ok", "no"])
def test_answers_to_what_is_not_open_are_ignored(kind: str) -> None:
    pair = consented()
    before = pair.a.bytes()
    channel_id, w = pair.a.c.channel_id, pair.a.c.withdrawals[0]
    for total, expiry in ((w.total, w.expiry), (w.total + 1, w.expiry), (w.total, w.expiry + 1)):
        if kind == "ok":
            pair.a.receive(peer.WithdrawOk(channel_id, total, expiry, bytes(64)))
        else:
            pair.a.receive(peer.WithdrawNo(channel_id, total, expiry, 1))
    assert pair.a.bytes() == before
    assert not pair.faults()


def test_a_consent_signed_by_somebody_else() -> None:
    pair = Pair().open()
    pair.a.withdraw(1)
    w = pair.a.c.withdrawals[0]
    pair.a.receive(peer.WithdrawOk(pair.a.c.channel_id, w.total, w.expiry, bytes(64)))
    assert pair.a.errors[0].code is ErrorCode.BAD_SIGNATURE
    assert not pair.a.c.withdrawals[0].agreed


def test_one_of_each_party_at_a_time() -> None:
    pair = Pair().open()
    pair.a.withdraw(300)
    pair.b.withdraw(200)
    pair.run()
    row = pair.row()
    assert (row.withdrawn0, row.withdrawn1) == (300, 200)
    pair.a.read()
    pair.b.read()
    pair.check_agree()


def test_payments_go_on_around_a_withdrawal() -> None:
    pair = Pair().open()
    pair.a.pay(100)
    pair.a.withdraw(300)
    pair.a.pay(100)
    pair.b.pay(50)
    pair.run()
    pair.b.read()
    pair.check_agree()
    assert pair.a.c.own_balance() == 1000 - 300 - 200 + 50


def test_an_agreement_forgotten_by_a_rolled_back_disk_is_held_again() -> None:
    for party in (0, 1):
        pair = Pair().open()
        side = pair.sides[party]
        old = side.disk.copy()
        pair.a.withdraw(300)
        pair.b.deliver()
        pair.a.deliver()
        side.crash(old)
        assert not side.c.withdrawals
        pair.connect()
        side.deliver(1)
        assert side.c.withdrawals[0].agreed
        assert side.c.balance(0, *side.c.in_order(side.c.own, side.c.peer)) == 700
        pair.run()
        assert pair.row().withdrawn0 == 300
        for each in pair.sides:
            each.read()
        pair.check_agree()


def test_old_agreements_that_are_shown_hold_nothing() -> None:
    pair = consented()
    shown = pair.b.c.withdrawals[0]
    pair.a.submit()
    pair.connect()
    message = pair.a.inbox.popleft()
    assert isinstance(message, peer.Reestablish)
    assert [w.total for w in message.withdrawals] == [300]
    pair.a.receive(message)
    assert not pair.a.c.withdrawals  # executed
    assert shown.agreed
    other = Pair().open()
    other.time += 10
    text = withdraw_bytes(other.a.c.channel_id, 0, 5, other.time - 1)
    expired = peer.OpenWithdrawal(0, 5, other.time - 1, SigningKey.sign(other.a.key, text), None)
    other.connect()
    message = other.a.inbox.popleft()
    assert isinstance(message, peer.Reestablish)
    other.a.receive(replace(message, withdrawals=(expired,)))
    assert not other.a.c.withdrawals


def test_a_forged_agreement_in_reestablish() -> None:
    pair = Pair().open()
    pair.connect()
    message = pair.a.inbox.popleft()
    assert isinstance(message, peer.Reestablish)
    forged = peer.OpenWithdrawal(0, 5, pair.time + 5, bytes(64), None)
    pair.a.receive(replace(message, withdrawals=(forged,)))
    assert pair.a.errors[0].code is ErrorCode.BAD_SIGNATURE
    assert not pair.a.c.withdrawals


def test_a_withdrawal_executes_during_a_dispute() -> None:
    pair = consented()
    pair.execute(pair.b.key.public, ops.Close(pair.b.c.channel_id, ()))
    pair.a.submit()
    pair.pass_time(pair.terms.window_s + 1)
    row = pair.row()
    assert (row.withdrawn0, row.out0, row.out1) == (300, 700, 500)


# --- Claims ----------------------------------------------------------------------------------------


def one_way() -> Pair:
    pair = Pair(FLAG_ONE_WAY, deposits=(1000, 0)).open()
    pair.a.pay(100)
    pair.run()
    return pair


def test_a_claim_pays_and_the_channel_goes_on() -> None:
    pair = one_way()
    pair.b.claim()
    pair.run()
    assert pair.row().withdrawn1 == 100
    pair.a.read()
    pair.a.pay(50)
    pair.run()
    pair.b.claim()
    pair.run()
    assert pair.row().withdrawn1 == 150
    pair.a.read()
    pair.check_agree()


def test_a_payee_that_claimed_and_went_back_takes_the_resend() -> None:
    """Its own balance is below zero on the pair as signed; only the payer's is judged."""
    pair = one_way()
    old = pair.b.disk.copy()
    pair.a.pay(50)
    pair.run()
    pair.b.claim()
    pair.run()
    pair.b.crash(old)
    pair.b.read()
    pair.reconnect()
    assert pair.b.disk.payments(0) == [(1, 100), (2, 50)]


@pytest.mark.parametrize("who", [0, 1])
def test_only_the_payee_of_a_one_way_channel_claims(who: int) -> None:
    pair = Pair().open() if who else one_way()
    with pytest.raises(LocalError) as refusal:
        pair.sides[who].claim()
    assert refusal.value.reason is Reason.ONE_WAY


def test_there_must_be_something_to_claim_and_one_claim_at_a_time() -> None:
    pair = Pair(FLAG_ONE_WAY, deposits=(1000, 0)).open()
    with pytest.raises(LocalError):
        pair.b.claim()
    pair.a.pay(1)
    pair.run()
    pair.b.claim()
    with pytest.raises(LocalError, match="under way"):
        pair.b.claim()


def test_after_a_start_nothing_is_claimed_before_the_peer_was_heard() -> None:
    pair = one_way()
    pair.b.crash()
    with pytest.raises(LocalError) as refusal:
        pair.b.claim()
    assert refusal.value.reason is Reason.UNRESOLVED
    pair.clock += CLAIM_WAIT_S
    pair.b.claim()
    pair.b.crash()
    pair.reconnect()
    pair.b.claim()
