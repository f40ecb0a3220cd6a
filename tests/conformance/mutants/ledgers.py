"""Ledgers that break a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from channelpay import crypto
from channelpay.errors import BadSignature, ErrorCode, RemoteError
from channelpay.ledger import book, checks, disputes, requests, views
from channelpay.ledger.memory import MemoryBooks
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.messages.peer import MESSAGES, Hello, Request, Role
from channelpay.session import Session
from channelpay.statements import Half
from conformance.memory import POCKET, LedgerLink
from conformance.mutants import mutant

# --- The ledger --------------------------------------------------------------------------------


@mutant(
    "request-bad-signature",
    "request-with-another-id",
    "request-for-another-ledger",
    "request-small-order-key",
)
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
    patch.setattr(MemoryBooks, "outcome", lambda self, key, request_id: None)


@mutant("request-expired", "request-too-far-ahead")
def any_validity_accepted(patch: pytest.MonkeyPatch) -> None:
    original = requests.Ledger._perform_once

    def perform(self: Any, books: Any, admitted: Any, now: int) -> bytes:
        return original(self, books, replace(admitted, valid_until=now), now)

    patch.setattr(requests.Ledger, "_perform_once", perform)


@mutant(
    "transfer-above-holding",
    "ledger-open-without-money",
    "redeem-takes-money-out",
    "refusals-are-not-stored",
)
def money_from_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book.Book, "_check_funds", lambda *args: None)


@mutant(
    "issue-by-others", "asset-by-others", "ledger-opens-for-the-payer-only", "close-by-others", "ledger-claim-refused"
)
def anybody_may_do_anything(patch: pytest.MonkeyPatch) -> None:
    original = book.refuse_unless
    rights = {Outcome.NOT_ISSUER, Outcome.NOT_OPERATOR, Outcome.NOT_PAYER, Outcome.NOT_A_PARTY, Outcome.NOT_ONE_WAY}

    def refuse_unless(condition: bool, outcome: Outcome, text: str = "") -> None:
        original(condition or outcome in rights, outcome, text)

    patch.setattr(book, "refuse_unless", refuse_unless)


@mutant(
    "ledger-open-unknown-flags",
    "ledger-open-window-too-short",
    "ledger-open-one-key-twice",
    "ledger-open-window-too-long",
    "ledger-open-batch-zero",
    "ledger-open-batch-above-4096",
    "ledger-open-deposit-too-small",
)
def terms_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book.Book, "_check_terms", lambda *args: None)


@mutant(
    "ledger-open-one-consent",
    "ledger-state-one-signature",
    "final-refused",
    "ledger-withdraw-refused",
    "close-with-two-states-one-bad",
    "ledger-state-other-signature",
)
def one_signature_is_enough(patch: pytest.MonkeyPatch) -> None:
    def verify_both(row: Any, signatures: tuple[bytes, bytes], message: bytes, bad: Outcome) -> None:
        for key, signature in zip((row.key0, row.key1), signatures, strict=True):
            try:
                return crypto.verify(key, signature, message)
            except BadSignature:
                continue
        raise LedgerRefused(bad)

    for module in (book, checks):
        patch.setattr(module, "verify_both", verify_both)


@mutant("payout-is-clamped-above", "payout-is-clamped-below", "ledger-claim-is-clamped")
def payout_without_clamp(patch: pytest.MonkeyPatch) -> None:
    def share(row: Any) -> int:
        share = int(row.deposit1 - row.withdrawn1 - row.half1.total + row.half0.total)
        return share if 0 <= share <= row.pot else row.pot // 2

    patch.setattr(book, "share_of_party1", share)


@mutant(
    "payout-counts-withdrawals",
    "ledger-claim",
)
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


@mutant(
    "ledger-state-locked",
    "ledger-state-total-below-n",
    "ledger-state-rooted",
    "ledger-state-without-payments",
    "ledger-state-counter-overflow",
)
def unsound_halves_accepted(patch: pytest.MonkeyPatch) -> None:
    import struct

    patch.setattr(book, "half_of", lambda data: Half(*struct.unpack(">QQ32sQ32s", data)))


@mutant("settle-before-the-deadline")
def settles_early(patch: pytest.MonkeyPatch) -> None:
    original = book.refuse_unless
    early = {Outcome.DEADLINE_NOT_REACHED}
    patch.setattr(book, "refuse_unless", lambda ok, outcome, text="": original(ok or outcome in early, outcome, text))


@mutant("respond-by-anyone", "close-again-acts-as-respond")
def respond_moves_the_deadline(patch: pytest.MonkeyPatch) -> None:
    original = book.Book._joined

    def joined(self: Any, row: Any, states: Any) -> Any:
        new, equivocation = original(self, row, states)
        return (new._replace(deadline=self._now + row.window_s) if new.deadline else new), equivocation

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
    original = book.refuse_unless
    late = {Outcome.EXPIRED_AGREEMENT}
    patch.setattr(book, "refuse_unless", lambda ok, outcome, text="": original(ok or outcome in late, outcome, text))


@mutant(
    "one-way-payee-settles-at-once",
    "one-way-payer-waits",
    "open-one-way-accepted",
)
def one_way_payee_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book, "FLAG_ONE_WAY", 5)


@mutant(
    "events-past-and-new",
    "events-resume",
    "events-of-a-channel",
    "info-follows-the-events",
)
def events_from_now_on_only(patch: pytest.MonkeyPatch) -> None:
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
        book.check_keys(op.account)
        original(self, key, op)

    patch.setattr(book.Book, "transfer", transfer)


@mutant("asset-ids-are-computed")
def assets_told_with_another_scale(patch: pytest.MonkeyPatch) -> None:
    original = views.asset_view
    patch.setattr(views, "asset_view", lambda row: replace(original(row), scale=row.scale + 1))


@mutant("ledger-opens-a-channel")
def deposit_not_taken(patch: pytest.MonkeyPatch) -> None:
    original = MemoryBooks.put_balance

    def put(self: Any, account: bytes, asset: bytes, units: int) -> None:
        if units > self.balance(account, asset) or units < 900:
            original(self, account, asset, units)

    patch.setattr(MemoryBooks, "put_balance", put)


@mutant("ledger-opens-once")
def channels_open_twice(patch: pytest.MonkeyPatch) -> None:
    original = book.refuse_unless
    again = {Outcome.ALREADY_OPEN}
    patch.setattr(MemoryBooks, "add_channel", lambda self, row: None)
    patch.setattr(book, "refuse_unless", lambda ok, outcome, text="": original(ok or outcome in again, outcome, text))


def renamed(patch: pytest.MonkeyPatch, *pairs: tuple[Outcome, Outcome]) -> None:
    """A ledger that gives some refusals another name."""
    names = dict(pairs)
    original = requests.Ledger.refuse

    def refuse(self: Any, request_id: bytes, request_hash: bytes, refusal: LedgerRefused) -> Any:
        told = LedgerRefused(names.get(refusal.outcome, refusal.outcome), refusal.text)
        return original(self, request_id, request_hash, told)

    patch.setattr(requests.Ledger, "refuse", refuse)


@mutant("ledger-open-unknown-asset", "transfer-of-unknown-asset", "transfer-of-nothing", "respond-refused")
def another_name_for_refusals_of_arguments(patch: pytest.MonkeyPatch) -> None:
    bad = Outcome.BAD_REQUEST
    renamed(patch, (Outcome.UNKNOWN_ASSET, bad), (Outcome.ZERO_AMOUNT, bad), (Outcome.NO_STATE, bad))


@mutant("ledger-unknown-channel", "subscription-once", "subscription-beyond-the-newest", "request-no-request")
def another_name_for_refusals_of_requests(patch: pytest.MonkeyPatch) -> None:
    renamed(
        patch, (Outcome.UNKNOWN_CHANNEL, Outcome.BAD_REQUEST), (Outcome.ALREADY_SUBSCRIBED, Outcome.EXPIRED),
        (Outcome.UNKNOWN_NUMBER, Outcome.EXPIRED), (Outcome.BAD_REQUEST, Outcome.BAD_SIGNATURE),
    )  # fmt: skip


@mutant(
    "ledger-open-consent-to-another",
    "ledger-state-of-another-channel",
    "ledger-state-changed",
    "final-of-a-state-refused",
)
def nothing_verified(patch: pytest.MonkeyPatch) -> None:
    for module in (book, checks):
        patch.setattr(module, "verify_both", lambda *args: None)


@mutant("ledger-topup", "transfer-moves-money", "ledger-withdraw")
def money_is_told_and_not_moved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryBooks, "put_balance", lambda *args: None)


@mutant("ledger-lists-channels")
def lists_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryBooks, "channels", lambda *args: [])


@mutant("final-settles-at-once", "final-settles-a-dispute")
def final_only_closes(patch: pytest.MonkeyPatch) -> None:
    def close_final(self: Any, op: Any) -> Any:
        return self._live(op.channel_id)

    patch.setattr(book.Book, "close_final", close_final)


@mutant("close-starts-the-window", "close-without-a-state")
def window_ends_at_once(patch: pytest.MonkeyPatch) -> None:
    original = book.Book.close

    def close(self: Any, key: bytes, op: Any) -> Any:
        row = original(self, key, op)
        return row._replace(deadline=self._now, status=2 if not op.states else row.status)

    patch.setattr(book.Book, "close", close)


@mutant("payout-counts-both-ways")
def only_party_0_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(book, "share_of_party1", lambda row: disputes.clamp(row.half0.total, 0, row.pot))


@mutant("settles-by-itself-at-the-deadline")
def waits_to_be_asked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("node_world.LedgerWorld.settle_due", lambda self: None)


@mutant("events-are-for-those-concerned")
def everybody_is_told(patch: pytest.MonkeyPatch) -> None:
    original = views.events
    patch.setattr("conformance.memory.events", lambda books, _, after: original(books, POCKET.public, after))


@mutant("journal-tells-every-movement", "account-unknown-holds-nothing")
def views_without_content(patch: pytest.MonkeyPatch) -> None:
    from channelpay.messages.ledger import AccountView, JournalPage

    patch.setattr(requests, "journal_page", lambda *args: JournalPage((), None))
    original = requests.account_view
    patch.setattr(
        requests, "account_view",
        lambda books, account, now: AccountView(bytes(32), 0, now, original(books, account, now).holdings),
    )  # fmt: skip


@mutant("readings-need-no-validity")
def readings_expire(patch: pytest.MonkeyPatch) -> None:
    original = requests.Ledger.read

    def read(self: Any, books: Any, admitted: Any, now: int) -> Any:
        if admitted.valid_until < now:
            refusal = LedgerRefused(Outcome.EXPIRED)
            return self.refuse(admitted.request_id, admitted.request_hash, refusal)
        return original(self, books, admitted, now)

    patch.setattr(requests.Ledger, "read", read)


@mutant("request-id-of-another-key", "requests-at-once-are-all-answered")
def one_request_id_for_all_keys(patch: pytest.MonkeyPatch) -> None:
    """Ids are compared without their key, and by their first byte only."""
    get, put = MemoryBooks.outcome, MemoryBooks.put_outcome
    patch.setattr(MemoryBooks, "outcome", lambda self, key, name: get(self, bytes(32), name[:1] * 16))
    patch.setattr(
        MemoryBooks, "put_outcome", lambda self, key, name, outcome: put(self, bytes(32), name[:1] * 16, outcome)
    )


@mutant("ledger-time-and-number-rise")
def clock_goes_back(patch: pytest.MonkeyPatch) -> None:
    original = requests.info_view

    def info(books: Any, *args: Any) -> Any:
        told = original(books, *args)
        return replace(told, time=told.time - told.number)

    patch.setattr(requests, "info_view", info)


@mutant("ledger-refuses-messages-of-nodes")
def messages_of_nodes_ignored(patch: pytest.MonkeyPatch) -> None:
    from channelpay.session import LEGAL

    legal = dict(LEGAL)
    legal[Role.LEDGER_CLIENT, Role.LEDGER] = frozenset(MESSAGES.values())
    patch.setattr("channelpay.session.LEGAL", legal)
    original = LedgerLink.received

    def received(self: Any, messages: list[Any]) -> None:
        original(self, [message for message in messages if isinstance(message, Request)])

    patch.setattr(LedgerLink, "received", received)


@mutant("ledger-takes-nodes-and-clients")
def ledger_takes_clients_only(patch: pytest.MonkeyPatch) -> None:
    original = Session._agree

    def agree(self: Session, hello: Hello) -> None:
        if self.role is Role.LEDGER and hello.role == Role.NODE:
            raise RemoteError(ErrorCode.WRONG_ROLE, "clients only")
        original(self, hello)

    patch.setattr(Session, "_agree", agree)
