"""Nodes that break a rule of closing, disputes or withdrawals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from channelpay.channel import channel as step
from channelpay.channel import closing, payments, reestablish, withdrawals
from channelpay.channel.effects import Effects
from channelpay.channel.state import Channel
from channelpay.errors import ErrorCode, RemoteError
from channelpay.messages import peer
from channelpay.statements import Half
from conformance.mutants import mutant

# --- Closing -----------------------------------------------------------------------------------


@mutant("shutdown-with-a-wrong-count", "gap-before-shutdown")
def shutdown_count_not_judged(patch: pytest.MonkeyPatch) -> None:
    original = closing.receive_shutdown
    patch.setattr(closing, "receive_shutdown", lambda c, m, *args: original(c, replace(m, last_n=c.peer.n), *args))
    patch.setattr(payments._Run, "_boundary", lambda self, n: self.shown)
    judged = payments._Run.pay

    def pay(self: Any, message: peer.Pay) -> Any:
        if message.first_n > self.peer.n + 1:
            return None
        return judged(self, message)

    patch.setattr(payments._Run, "pay", pay)


@mutant("final-over-other-halves", "final-signed-as-state", "close-refuses-a-bad-countersignature")
def final_not_verified(patch: pytest.MonkeyPatch) -> None:
    """FINAL with one good signature only."""
    patch.setattr(closing, "verify", lambda *args: None)


@mutant("final-before-drained")
def final_before_it_is_drained(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(closing, "drained", lambda c: True)


@mutant("final-expired", "final-too-far-ahead")
def final_of_any_expiry(patch: pytest.MonkeyPatch) -> None:
    original = closing.receive_final

    def receive(c: Channel, message: Any, now: Any, fx: Effects) -> None:
        original(c, message, now._replace(ledger=message.expiry - 1), fx)

    patch.setattr(closing, "receive_final", receive)


@mutant(
    "close-together",
    "close-asked-by-the-node",
    "final-again-is-signed-again",
    "pay-after-final",
    "node-pays-nothing-after-final",
    "shutdown-again-after-a-reconnection",
    "pays-that-cross-shutdown-count",
)
def countersigns_another_state(patch: pytest.MonkeyPatch) -> None:
    from channelpay.statements import final_bytes

    def stale(channel_id: bytes, half0: Half, half1: Half, expiry: int) -> bytes:
        return final_bytes(channel_id, half0, half1, expiry)

    original = closing.receive_final

    def receive(c: Channel, message: Any, now: Any, fx: Effects) -> None:
        original(c, message, now, fx)
        last = fx.messages.pop()
        assert isinstance(last, peer.Final)
        fx.messages.append(replace(last, signature=c.key.sign(stale(c.channel_id, Half(), Half(), last.expiry))))

    patch.setattr(closing, "receive_final", receive)


@mutant(
    "final-submitted-by-party-1",
    "close-proposed-by-the-node",
)
def leaves_final_to_the_other(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(closing, "_submit_final", lambda *args: None)


@mutant("final-shown-after-a-reconnection")
def forgets_final(patch: pytest.MonkeyPatch) -> None:
    original = reestablish.build
    patch.setattr(reestablish, "build", lambda c: replace(original(c), final=None))


@mutant("close-time-out-ends-alone")
def waits_for_final_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(closing, "close_deadline", lambda c: None)


@mutant(
    "node-answers-a-stale-close",
    "dispute-pays-the-newest",
    "node-answers-after-a-crash",
    "node-closes-before-ready",
)
def does_not_answer_disputes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(closing, "_answer", lambda *args: None)


@mutant(
    "node-closes-alone",
    "node-answers-a-stale-close",
    "node-closes-alone-with-what-the-kit-signed",
    "node-closes-alone-through-a-crash",
)
def settles_at_a_stale_state(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(closing, "newest_states", lambda c: [])


@mutant("node-rolled-back-closes-with-evidence", "node-answers-with-evidence")
def evidence_kept_from_the_ledger(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(closing, "newest_states", lambda c: [c.held] if c.held else [])


@mutant(
    "node-stops-when-the-ledger-closes",
    "settled-channel-is-silent",
    "open-pay-while-accepted",
    "open-ack-and-shutdown-while-accepted",
)
def pays_on_in_a_dispute(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "_judge", lambda c, message: step.Move.TAKE)


# --- Withdrawals -------------------------------------------------------------------------------


@mutant("withdraw-is-held", "withdraw-shown-after-a-reconnection")
def consent_without_a_hold(patch: pytest.MonkeyPatch) -> None:
    original = withdrawals.receive_ask

    def receive(c: Channel, *args: Any) -> None:
        original(c, *args)
        c.withdrawals.clear()

    patch.setattr(withdrawals, "receive_ask", receive)


@mutant(
    "withdraw-all-there-is",
    "withdraw-expired",
    "withdraw-one-at-a-time",
    "withdraw-nothing-new",
    "withdrawal-while-closing",
)
def every_withdrawal_consented(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(withdrawals, "_refusal", lambda *args: None)


@mutant("withdraw-bad-signature", "node-refuses-a-bad-consent")
def withdrawals_not_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(withdrawals, "verify", lambda *args: None)


@mutant("node-asks-again")
def asks_only_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(withdrawals, "ask_again", lambda *args: None)


@mutant("withdraw-comes-back-after-a-rollback")
def forgotten_consents_stay_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(withdrawals, "remember", lambda *args: None)


@mutant("pay-after-shutdown")
def payments_after_shutdown_taken(patch: pytest.MonkeyPatch) -> None:
    original = closing.receive_shutdown

    def receive(c: Channel, *args: Any) -> None:
        original(c, *args)
        c.peer_last_n = None

    patch.setattr(closing, "receive_shutdown", receive)


@mutant("close-unused-channel", "close-together")
def never_says_shutdown(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(closing, "_stop_paying", lambda *args: None)


@mutant("withdraw-asked-again")
def each_consent_is_another(patch: pytest.MonkeyPatch) -> None:
    original = withdrawals.receive_ask

    def receive(c: Channel, message: peer.WithdrawAsk, *args: Any) -> None:
        if c.withdrawals.pop(1 - c.side, None) is not None:
            raise RemoteError(ErrorCode.WITHDRAW_REFUSED, "asked before")
        original(c, message, *args)

    patch.setattr(withdrawals, "receive_ask", receive)


@mutant("withdraw-consented", "withdraw-all-there-is")
def consent_over_another_total(patch: pytest.MonkeyPatch) -> None:
    original = withdrawals.receive_ask

    def receive(c: Channel, message: peer.WithdrawAsk, now: Any, fx: Effects) -> None:
        original(c, message, now, fx)
        for index, sent in enumerate(fx.messages):
            if isinstance(sent, peer.WithdrawOk):
                fx.messages[index] = replace(sent, signature=c.key.sign(b"as you like"))

    patch.setattr(withdrawals, "receive_ask", receive)


@mutant("withdraw-hold-ends")
def holds_never_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(withdrawals, "follow_ledger", lambda *args: None)


@mutant("answers-unasked-are-ignored")
def answers_unasked_are_refused(patch: pytest.MonkeyPatch) -> None:
    def receive(c: Channel, *args: Any) -> None:
        raise RemoteError(ErrorCode.UNEXPECTED, "nobody asked")

    patch.setattr(withdrawals, "receive_ok", receive)
