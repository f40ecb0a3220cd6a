"""Ledgers that break a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from channelpay import crypto
from channelpay.errors import BadSignature
from channelpay.ledger import book, disputes, requests
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.statements import Half
from conformance.mutants import mutant

# --- The ledger --------------------------------------------------------------------------------


@mutant("request-bad-signature", "request-with-another-id", "request-for-another-ledger")
def requests_not_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(requests, "verify", lambda *args: None)


@mutant("ledger-answers-signed")
def answers_signed_for_another_hash(patch: pytest.MonkeyPatch) -> None:
    from channelpay.statements import response_bytes

    patch.setattr(
        requests, "response_bytes", lambda ledger, name, _, *rest: response_bytes(ledger, name, bytes(32), *rest)
    )


@mutant("request-repeated-executes-once", "request-id-reused")
def request_replay_executes_twice(patch: pytest.MonkeyPatch) -> None:
    from channelpay.ledger.memory import MemoryBooks

    patch.setattr(MemoryBooks, "outcome", lambda self, key, request_id: None)


@mutant("request-expired", "request-too-far-ahead")
def any_validity_accepted(patch: pytest.MonkeyPatch) -> None:
    original = requests.Ledger._perform_once

    def perform(self: Any, books: Any, admitted: Any, now: int) -> bytes:
        return original(self, books, replace(admitted, valid_until=now), now)

    patch.setattr(requests.Ledger, "_perform_once", perform)


@mutant("transfer-above-holding", "ledger-open-without-money")
def money_from_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book.Book, "_check_funds", lambda *args: None)


@mutant(
    "issue-by-others", "asset-by-others", "ledger-opens-for-the-payer-only", "close-by-others", "ledger-claim-refused"
)
def anybody_may_do_anything(patch: pytest.MonkeyPatch) -> None:
    original = book._refuse_unless
    rights = {Outcome.NOT_ISSUER, Outcome.NOT_OPERATOR, Outcome.NOT_PAYER, Outcome.NOT_A_PARTY, Outcome.NOT_ONE_WAY}

    def refuse_unless(condition: bool, outcome: Outcome, text: str = "") -> None:
        original(condition or outcome in rights, outcome, text)

    patch.setattr(book, "_refuse_unless", refuse_unless)


@mutant("ledger-open-unknown-flags", "ledger-open-window-too-short", "ledger-open-one-key-twice")
def terms_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book.Book, "_check_terms", lambda *args: None)


@mutant("ledger-open-one-consent", "ledger-state-one-signature", "final-refused", "ledger-withdraw-refused")
def one_signature_is_enough(patch: pytest.MonkeyPatch) -> None:
    def verify_both(row: Any, signatures: tuple[bytes, bytes], message: bytes, bad: Outcome) -> None:
        for key, signature in zip((row.key0, row.key1), signatures, strict=True):
            try:
                return crypto.verify(key, signature, message)
            except BadSignature:
                continue
        raise LedgerRefused(bad)

    patch.setattr(book, "_verify_both", verify_both)


@mutant("payout-is-clamped-above", "payout-is-clamped-below", "ledger-claim-is-clamped")
def payout_without_clamp(patch: pytest.MonkeyPatch) -> None:
    def share(row: Any) -> int:
        share = int(row.deposit1 - row.withdrawn1 - row.half1.total + row.half0.total)
        return share if 0 <= share <= row.pot else row.pot // 2

    patch.setattr(book, "share_of_party1", share)


@mutant("payout-counts-withdrawals")
def withdrawals_paid_twice(patch: pytest.MonkeyPatch) -> None:
    def share(row: Any) -> int:
        return disputes.clamp(row.deposit1 - row.half1.total + row.half0.total, 0, row.pot)

    patch.setattr(book, "share_of_party1", share)


@mutant("join-takes-the-newest-of-each-half")
def newest_by_seq(patch: pytest.MonkeyPatch) -> None:
    """The last state shown wins as a whole."""
    patch.setattr(book, "join", lambda old, new: disputes.Joined(new, False))


@mutant("join-takes-the-highest-total")
def total_of_the_newest(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book, "join", lambda old, new: disputes.Joined(max(old, new), False))


@mutant("join-keeps-the-newest")
def older_states_win(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book, "join", lambda old, new: disputes.Joined(new, False))


@mutant("ledger-state-locked", "ledger-state-total-below-n")
def unsound_halves_accepted(patch: pytest.MonkeyPatch) -> None:
    import struct

    patch.setattr(book, "_half", lambda data: Half(*struct.unpack(">QQ32sQ32s", data)))


@mutant("settle-before-the-deadline")
def settles_early(patch: pytest.MonkeyPatch) -> None:
    original = book._refuse_unless
    early = {Outcome.DEADLINE_NOT_REACHED}
    patch.setattr(book, "_refuse_unless", lambda ok, outcome, text="": original(ok or outcome in early, outcome, text))


@mutant("respond-by-anyone", "close-again-acts-as-respond")
def respond_moves_the_deadline(patch: pytest.MonkeyPatch) -> None:
    original = book.Book._joined

    def joined(self: Any, row: Any, states: Any) -> Any:
        new, equivocation = original(self, row, states)
        return (replace(new, deadline=self._now + row.window_s) if new.deadline else new), equivocation

    patch.setattr(book.Book, "_joined", joined)


@mutant("nothing-changes-a-settled-channel", "ledger-topup-refused")
def operations_on_settled_channels_done(patch: pytest.MonkeyPatch) -> None:
    def lax(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any) -> Any:
            try:
                return original(self, *args)
            except LedgerRefused as refusal:
                if refusal.outcome is not Outcome.ALREADY_SETTLED:
                    raise
                return self._channel(args[-1].channel_id)

        return call

    for name in ("topup", "withdraw", "close", "respond", "settle", "close_final"):
        patch.setattr(book.Book, name, lax(getattr(book.Book, name)))


@mutant("final-refused", "ledger-withdraw-refused")
def expired_agreements_execute(patch: pytest.MonkeyPatch) -> None:
    original = book._refuse_unless
    late = {Outcome.EXPIRED_AGREEMENT}
    patch.setattr(book, "_refuse_unless", lambda ok, outcome, text="": original(ok or outcome in late, outcome, text))


@mutant("one-way-payee-settles-at-once")
def one_way_payee_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book, "FLAG_ONE_WAY", 5)


@mutant("events-past-and-new", "events-resume")
def events_from_now_on_only(patch: pytest.MonkeyPatch) -> None:
    from conformance.memory import LedgerLink

    original = LedgerLink._answer

    def answer(self: Any, request: Any) -> Any:
        response = original(self, request)
        if self.subscribed is not None and self.subscribed[1] <= 10**6:
            self.subscribed = self.subscribed[0], max(self.subscribed[1], self.runner.world.ledger.books.number())
        return response

    patch.setattr(LedgerLink, "_answer", answer)


@mutant("refusal-of-lowest-number")
def another_order_of_checks(patch: pytest.MonkeyPatch) -> None:
    original = book.Book.transfer

    def transfer(self: Any, key: bytes, op: Any) -> None:
        book._check_keys(op.account)
        original(self, key, op)

    patch.setattr(book.Book, "transfer", transfer)
