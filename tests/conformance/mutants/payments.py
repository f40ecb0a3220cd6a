"""Nodes that break a rule of paying, being paid, or meeting again."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from typing import Any

import pytest

from channelpay import crypto, statements
from channelpay.batches import Batch
from channelpay.channel import channel as step
from channelpay.channel import payments, reestablish
from channelpay.channel.effects import Effects
from channelpay.channel.state import Channel
from channelpay.errors import BadSignature, ErrorCode, RemoteError
from channelpay.messages import peer
from channelpay.statements import Half
from channelpay.store import node as node_store
from conformance.mutants import mutant

# --- Being paid --------------------------------------------------------------------------------


@mutant(
    "kill-keeps-what-was-acknowledged",
    "reestablish-again-and-again",
    "kill-in-the-middle-counts-once",
    "pay-batch",
    "pay-with-ids",
)
def ack_before_commit(patch: pytest.MonkeyPatch) -> None:
    """The acknowledgement leaves, the payment never reaches the disk."""
    original = node_store.NodeStore.commit

    def commit(self: Any, persist: Any) -> None:
        if not persist.journal:
            original(self, persist)

    patch.setattr(node_store.NodeStore, "commit", commit)


@mutant(
    "pay-one",
    "pay-many-at-once",
    "open-funded-ready",
    "pay-and-ping-together",
)
def never_acknowledges(patch: pytest.MonkeyPatch) -> None:
    original = payments.flush

    def flush(c: Channel, fx: Effects, *args: Any) -> None:
        c.ack_due = False
        original(c, fx, *args)

    patch.setattr(payments, "flush", flush)


@mutant(
    "pay-gap",
    "pay-run-with-a-bad-batch-behind",
)
def gap_accepted(patch: pytest.MonkeyPatch) -> None:
    original = payments._Run.pay

    def pay(self: Any, message: peer.Pay) -> Any:
        if message.first_n > self.peer.n + 1:
            message = replace(message, first_n=self.peer.n + 1)
        return original(self, message)

    patch.setattr(payments._Run, "pay", pay)


@mutant(
    "pay-duplicate-other-amount",
    "pay-duplicate-other-memo",
    "pay-partly-held",
    "pay-part-of-a-held-batch",
)
def other_bytes_acknowledged(patch: pytest.MonkeyPatch) -> None:
    def check(self: Any, batch: Batch, *args: Any) -> None:
        self.repeated = True

    patch.setattr(payments._Run, "_check_repeated", check)


@mutant(
    "pay-duplicate-same-bytes",
    "pay-duplicate-in-one-read",
    "reestablish-lost-ack",
    "duplicate-after-shutdown",
)
def duplicates_refused(patch: pytest.MonkeyPatch) -> None:
    def check(self: Any, batch: Batch, *args: Any) -> None:
        raise RemoteError(ErrorCode.GAP, "held already")

    patch.setattr(payments._Run, "_check_repeated", check)


@mutant(
    "pay-signature-zero",
    "pay-run-with-bad-newest-signature",
    "ack-bad-signature",
    "reestablish-bad-signature",
    "pay-signature-by-the-identity",
    "pay-signature-by-the-account",
    "pay-signature-of-another-channel",
    "pay-signature-of-swapped-halves",
    "pay-signature-of-a-locked-half",
)
def states_not_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "verify_state", lambda *args: None)


@mutant("pay-signature-of-another-total", "pay-signature-of-another-history")
def only_counts_verified(patch: pytest.MonkeyPatch) -> None:
    """Any half with the right number of payments will do."""
    original = Channel.verify_state

    def verify_state(self: Channel, own: Half, other: Half, signature: bytes) -> None:
        shapes = (other, other._replace(total=other.total - 1), other._replace(h=bytes(32)))
        for shape in shapes:
            try:
                return original(self, own, shape, signature)
            except BadSignature:
                continue
        raise BadSignature("none of them")

    patch.setattr(Channel, "verify_state", verify_state)


@mutant("pay-signature-of-another-tag", "pay-signature-of-final")
def any_tag_accepted(patch: pytest.MonkeyPatch) -> None:
    original = crypto.verify

    def verify(key: bytes, signature: bytes, message: bytes) -> None:
        variants = (
            message,
            b"channelpay.st.v2" + message[16:],
            b"channelpay.fi.v1" + message[16:] + (2**40).to_bytes(8, "big"),
        )
        for variant in variants:
            try:
                return original(key, signature, variant)
            except BadSignature:
                continue
        raise BadSignature("none of them")

    patch.setattr("channelpay.channel.state.verify", verify)


@mutant("pay-signature-s-plus-l")
def malleable_signatures_accepted(patch: pytest.MonkeyPatch) -> None:
    original = crypto.verify
    order = 2**252 + 27742317777372353535851937790883648493

    def verify(key: bytes, signature: bytes, message: bytes) -> None:
        s = int.from_bytes(signature[32:], "little") % order
        original(key, signature[:32] + s.to_bytes(32, "little"), message)

    patch.setattr("channelpay.channel.state.verify", verify)


@mutant("pay-above-balance", "withdraw-is-held")
def balance_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "balance", lambda self, party, half0, half1: 10**9)


@mutant(
    "pay-after-topup-without-hint",
    "pay-after-topup-with-hint",
    "node-answers-a-close-on-zero",
    "reestablish-while-closing",
    "node-withdraws",
    "node-tops-up",
)
def reads_the_ledger_once(patch: pytest.MonkeyPatch) -> None:
    original = step._follow

    def follow(c: Channel, reading: Any, *args: Any) -> None:
        original(c, reading if c.reading is None else c.reading, *args)

    patch.setattr(step, "_follow", follow)


@mutant("pay-above-max-unacked", "pay-above-max-unacked-value", "pay-below-min-payment")
def own_limits_not_enforced(patch: pytest.MonkeyPatch) -> None:
    original = payments._Run.pay

    def pay(self: Any, message: peer.Pay) -> Any:
        limits = self.c.setup.my_limits
        object.__setattr__(
            self.c.setup, "my_limits", limits._replace(max_unacked=10**9, max_unacked_value=10**18, min_payment=1)
        )
        return original(self, message)

    patch.setattr(payments._Run, "pay", pay)


@mutant(
    "pay-amount-zero",
    "pay-sum-overflow",
    "pay-above-max-batch",
    "pay-amount-overflow",
)
def records_not_judged(patch: pytest.MonkeyPatch) -> None:
    def total(records: bytes, max_batch: int) -> int:
        return sum(int.from_bytes(records[i : i + 8], "big") for i in range(0, len(records), 24)) % 2**63

    patch.setattr(payments, "records_total", total)


@mutant(
    "pay-memo-too-long",
    "pay-memo-empty",
    "pay-memos-empty-array",
    "pay-memo-beyond-batch",
    "pay-memos-not-rising",
    "pay-memo-as-text",
)
def memos_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(payments, "parse_memos", lambda data, count: [])


@mutant(
    "pay-ack-n-unknown",
    "ack-of-what-was-never-paid",
    "ack-inside-a-batch",
    "node-opens-and-pays",
)
def boundaries_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(payments._Run, "_boundary", lambda self, n: self.shown)


@mutant("ack-goes-back", "pay-ack-n-goes-back")
def regression_accepted(patch: pytest.MonkeyPatch) -> None:
    original = payments._Run._boundary

    def boundary(self: Any, n: int) -> Half:
        return self.shown if n < self.shown.n else original(self, n)

    patch.setattr(payments._Run, "_boundary", boundary)


@mutant("ack-shows-less-than-was-paid", "ack-shows-more-than-was-sent")
def own_n_of_ack_ignored(patch: pytest.MonkeyPatch) -> None:
    original = payments._Run.ack
    patch.setattr(payments._Run, "ack", lambda self, message: original(self, replace(message, own_n=self.peer.n)))


@mutant(
    "one-way-payment-by-party-1",
    "node-never-pays-on-one-way",
    "node-claims",
)
def one_way_payments_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "one_way", property(lambda self: False))


# --- Paying ------------------------------------------------------------------------------------


@mutant(
    "node-pays-one",
    "ack-of-the-first-of-two",
    "pay-acknowledges",
    "node-pays-while-it-is-paid",
    "recall-of-the-nodes-payments",
)
def wrong_ack_n(patch: pytest.MonkeyPatch) -> None:
    original = payments._pay
    patch.setattr(payments, "_pay", lambda c, *args: replace(original(c, *args), ack_n=0))


@mutant("node-pays-one", "node-resends-what-was-lost")
def wrong_link(patch: pytest.MonkeyPatch) -> None:
    """The history leaves out the memos and the number: nobody else would compute it so."""
    patch.setattr(
        "channelpay.channel.state.link",
        lambda channel_id, payer, h, first_n, count, records, memos: hashlib.sha256(h + records).digest(),
    )


@mutant(
    "node-respects-max-unacked",
    "node-respects-max-unacked-value",
    "close-pays-what-was-promised",
)
def peer_limits_ignored_when_paying(patch: pytest.MonkeyPatch) -> None:
    original = payments._take_batch

    def take(c: Channel) -> Any:
        limits = c.setup.peer_limits
        object.__setattr__(c.setup, "peer_limits", limits._replace(max_unacked=10**6, max_unacked_value=10**9))
        try:
            return original(c)
        finally:
            object.__setattr__(c.setup, "peer_limits", limits)

    patch.setattr(payments, "_take_batch", take)


@mutant("node-respects-max-batch")
def max_batch_ignored_when_paying(patch: pytest.MonkeyPatch) -> None:
    original = payments._take_batch

    def take(c: Channel) -> Any:
        terms = c.setup.terms
        object.__setattr__(c.setup, "terms", terms._replace(max_batch=4096))
        try:
            return original(c)
        finally:
            object.__setattr__(c.setup, "terms", terms)

    patch.setattr(payments, "_take_batch", take)


@mutant(
    "node-refuses-more-than-it-has",
    "node-holds-what-it-asked-for",
)
def overspends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "own_balance", lambda self: 10**9)


@mutant("node-gives-up-waiting-for-an-ack")
def waits_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "_watch_answer", lambda *args: None)


@mutant("node-waits-for-the-ack")
def done_before_it_is_acknowledged(patch: pytest.MonkeyPatch) -> None:
    from channelpay.channel.effects import PaidNote

    original = payments._pay

    def pay(c: Channel, items: Any, fx: Effects) -> Any:
        fx.notes.append(PaidNote(items))
        return original(c, items, fx)

    patch.setattr(payments, "_pay", pay)


@mutant(
    "node-does-not-pay-before-reestablish",
    "node-does-not-pay-while-suspended",
)
def pays_before_reestablish(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(payments, "may_flush", lambda c, *args: c.connected)


# --- Reconnecting ------------------------------------------------------------------------------


@mutant("reestablish-shows-what-is-held", "kit-rolled-back-is-told")
def withholds_the_peers_signature(patch: pytest.MonkeyPatch) -> None:
    original = reestablish.build
    patch.setattr(reestablish, "build", lambda c: replace(original(c), yours=None))


@mutant("reestablish-comes-first")
def says_no_reestablish(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "_send_reestablish", lambda c, fx: None)


@mutant(
    "pay-before-reestablish",
    "shutdown-before-reestablish",
    "ack-before-reestablish",
)
def takes_messages_before_reestablish(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "_NEEDS_LIVE", ())


@mutant("reestablish-twice")
def reestablish_taken_again(patch: pytest.MonkeyPatch) -> None:
    original = step._receive_reestablish

    def receive(c: Channel, *args: Any) -> None:
        c.heard = False
        original(c, *args)

    patch.setattr(step, "_receive_reestablish", receive)


@mutant(
    "reestablish-evidence-is-not-held",
    "reestablish-lost-pay",
    "reestablish-several-lost",
    "node-rolled-back-and-not-told",
)
def evidence_stored_as_held(patch: pytest.MonkeyPatch) -> None:
    """The trace of C-22: the peer is told that its payment is held, and sends it no more."""
    original = reestablish._keep

    def keep(c: Channel, shown: Any, fx: Effects) -> None:
        if shown.peer.n > c.peer.n:
            c.peer = shown.peer
            payments.hold(c, shown, fx)
        else:
            original(c, shown, fx)

    patch.setattr(reestablish, "_keep", keep)


@mutant(
    "node-resends-what-was-lost",
    "both-directions-lost",
    "kill-keeps-what-was-paid",
    "node-computes-the-resend-anew",
)
def never_resends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reestablish, "_resend", lambda *args: None)


@mutant("node-resends-only-what-is-missing", "node-does-not-resend-what-is-held")
def resends_everything(patch: pytest.MonkeyPatch) -> None:
    original = reestablish._resend
    patch.setattr(reestablish, "_resend", lambda c, held_by_peer, *args: original(c, 0, *args))
    patch.setattr(reestablish, "_keep", lambda *args: None)


@mutant("reestablish-forged-yours")
def forged_rollback_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reestablish, "verify", lambda *args: None)


@mutant(
    "reestablish-other-history",
    "reestablish-other-total",
    "reestablish-inside-a-batch",
)
def other_histories_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reestablish, "_check_same", lambda *args: None)


@mutant(
    "node-rolled-back-recalls",
    "node-rolled-back-never-reuses-a-number",
    "node-rolled-back-is-bound-durably",
    "node-rolled-back-takes-pieces",
    "node-rolled-back-without-records",
)
def rollback_not_adopted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reestablish, "_adopt", lambda *args: None)


@mutant("node-rolled-back-holds-payments-back", "node-rolled-back-never-reuses-a-number")
def unresolved_channels_go_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Channel, "resolved", property(lambda self: True))


@mutant("node-rolled-back-refuses-other-records")
def records_not_proved(patch: pytest.MonkeyPatch) -> None:
    original = reestablish._link_piece

    def link(c: Channel, payer: int, before: Half, target: Half, past: Any, pieces: Any) -> Half:
        half = original(c, payer, before, target, past, pieces)
        return target if half.n == target.n else half

    patch.setattr(reestablish, "_link_piece", link)


@mutant("records-unasked-are-ignored")
def records_unasked_delivered(patch: pytest.MonkeyPatch) -> None:
    def receive(c: Channel, message: Any, *args: Any) -> None:
        raise RemoteError(ErrorCode.UNEXPECTED, "nobody asked")

    patch.setattr(reestablish, "receive_records", receive)


@mutant("recall-gives-the-batches", "recall-is-cut-to-frames")
def recall_answered_with_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_store.NodeStore, "batches", lambda *args, **kwargs: [])


@mutant("recall-from-zero")
def recall_from_zero_answered(patch: pytest.MonkeyPatch) -> None:
    original = reestablish.answer_recall
    patch.setattr(reestablish, "answer_recall", lambda c, m, fx: original(c, replace(m, from_n=max(1, m.from_n)), fx))


@mutant("pay-signature-of-another-genesis")
def history_begins_with_zero_bytes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("channelpay.channel.state.genesis", lambda *args: bytes(32))


@mutant("reestablish-claims-unpaid", "reestablish-goes-back-behind-itself")
def reestablish_believed(patch: pytest.MonkeyPatch) -> None:
    """Whatever the peer shows is taken for true, if only it is signed."""

    def receive(c: Channel, message: peer.Reestablish, fx: Effects) -> int:
        shown = reestablish._shown_by_peer(c, message.mine)
        reestablish._signed_by_me(c, message.yours)
        return shown.own.n

    patch.setattr(reestablish, "receive", receive)


@mutant("reestablish-reserved-field", "reestablish-impossible-half")
def halves_not_judged(patch: pytest.MonkeyPatch) -> None:
    def unpack(cls: type[Half], data: bytes) -> Half:
        return Half(*struct.unpack(">QQ32sQ32s", data))

    patch.setattr(reestablish.Half, "unpack", classmethod(unpack))


@mutant("hint-before-reestablish", "pay-after-topup-with-hint")
def hints_refused(patch: pytest.MonkeyPatch) -> None:
    original = step._judge

    def judge(c: Channel, message: Any) -> Any:
        if isinstance(message, peer.TopupHint):
            raise RemoteError(ErrorCode.UNEXPECTED, "before REESTABLISH, or after it")
        return original(c, message)

    patch.setattr(step, "_judge", judge)


@mutant("reestablish-each-channel")
def one_reestablish_for_all_channels(patch: pytest.MonkeyPatch) -> None:
    from channelpay.node.roster import Roster

    original = Roster.with_peer
    patch.setattr(Roster, "with_peer", lambda self, peer_id: original(self, peer_id)[:1])


@mutant("pay-with-memos")
def memos_left_out_of_the_link(patch: pytest.MonkeyPatch) -> None:
    original = statements.link
    patch.setattr("channelpay.channel.state.link", lambda *args: original(*args[:-1], b""))


@mutant("pay-all-there-is")
def last_unit_cannot_be_paid(patch: pytest.MonkeyPatch) -> None:
    original = Channel.balance
    patch.setattr(Channel, "balance", lambda self, *args: original(self, *args) - 1)


@mutant("pay-on-two-channels")
def one_channel_of_a_peer(patch: pytest.MonkeyPatch) -> None:
    from channelpay.node.roster import Roster

    patch.setattr(Roster, "find", lambda self, peer_id, _: next(iter(self.loaded_with(peer_id)), None))


@mutant("pay-newest-signature-covers", "pay-many-at-once")
def every_second_pay_dropped(patch: pytest.MonkeyPatch) -> None:
    original = payments.receive_run
    patch.setattr(payments, "receive_run", lambda c, run, fx: (original(c, run[:1], fx)[0] + len(run) - 1, None))


@mutant("node-refuses-above-max-unacked-value", "node-refuses-below-min-payment")
def takes_payments_that_can_never_leave(patch: pytest.MonkeyPatch) -> None:
    original = payments.enqueue

    def enqueue(c: Channel, *args: Any) -> None:
        limits = c.setup.peer_limits
        object.__setattr__(c.setup, "peer_limits", limits._replace(max_unacked_value=10**9, min_payment=1))
        original(c, *args)

    patch.setattr(payments, "enqueue", enqueue)


@mutant("recall-beyond-the-newest")
def recall_of_nothing_unanswered(patch: pytest.MonkeyPatch) -> None:
    original = reestablish.answer_recall

    def answer(c: Channel, message: peer.Recall, fx: Effects) -> None:
        newest = c.own if message.payer == c.side else c.peer
        if message.from_n <= newest.n:
            original(c, message, fx)

    patch.setattr(reestablish, "answer_recall", answer)


@mutant("pay-records-cut")
def ragged_records_cut_off(patch: pytest.MonkeyPatch) -> None:
    original = payments._Run.pay

    def pay(self: Any, message: peer.Pay) -> Any:
        return original(self, replace(message, records=message.records[: len(message.records) // 24 * 24]))

    patch.setattr(payments._Run, "pay", pay)


@mutant("pay-number-zero")
def payments_counted_from_zero(patch: pytest.MonkeyPatch) -> None:
    original = payments._Run.pay

    def pay(self: Any, message: peer.Pay) -> Any:
        return original(self, replace(message, first_n=1) if message.first_n == 0 else message)

    patch.setattr(payments._Run, "pay", pay)
