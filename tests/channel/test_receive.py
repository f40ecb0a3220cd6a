"""Being paid: every way in which a PAY or an ACK can be wrong, and what waits for a reading of the ledger."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channel_pair import LIMITS, Pair, Side, forge
from channelpay.batches import pack_memos, pack_record
from channelpay.channel import channel as step
from channelpay.channel import state
from channelpay.channel.state import Phase, ReceiveLimits
from channelpay.errors import ErrorCode
from channelpay.limits import ANSWER_TIMEOUT_S, MAX_UNITS
from channelpay.messages import peer
from channelpay.messages.peer import Ack, Pay
from channelpay.statements import FLAG_ONE_WAY, Half


def refused(side: Side, *messages: peer.Message) -> ErrorCode:
    """The code; nothing durable has changed and nothing was sent."""
    before, sent, journal = side.bytes(), len(side.sent), len(side.disk.journal)
    side.receive(*messages)
    (error,) = side.errors
    assert error.channel == side.c.channel_id
    assert side.bytes() == before
    assert (len(side.sent), len(side.disk.journal)) == (sent, journal)
    return error.code


def take(side: Side, count: int) -> list[peer.Message]:
    """Messages out of the wire."""
    return [side.inbox.popleft() for _ in range(count)]


# --- Numbers -------------------------------------------------------------------------------------


def test_a_gap() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2)
    (_, second) = take(pair.b, 2)
    assert refused(pair.b, second) is ErrorCode.GAP


def test_the_same_bytes_again_change_nothing_and_are_acknowledged_again() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2)
    first, second = take(pair.b, 2)
    pair.b.receive(first, second)
    before = pair.b.bytes()
    fx = pair.b.receive(first, second, first)
    assert pair.b.bytes() == before
    assert not fx.journal
    assert [type(m) for m in fx.messages] == [Ack]
    assert fx.messages[0].n == 2  # type: ignore[attr-defined]
    assert not pair.faults()


def test_a_repetition_in_one_reading_counts_once() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    (first,) = take(pair.b, 1)
    pair.b.receive(first, first)
    assert pair.b.disk.payments(0) == [(1, 1)]
    pair.run()
    pair.check_agree()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"records": pack_record(9)}, ErrorCode.OTHER_BYTES),
        ({"memos": pack_memos([(0, b"other")])}, ErrorCode.OTHER_BYTES),
        ({"records": pack_record(1) + pack_record(2)}, ErrorCode.GAP),  # partly held
    ],
)
def test_a_number_held_with_other_bytes(change: dict[str, bytes], code: ErrorCode) -> None:
    pair = Pair().open()
    pair.a.pay(1)
    (first,) = take(pair.b, 1)
    pair.b.receive(first)
    assert refused(pair.b, replace(first, **change)) is code


def test_a_repetition_is_recognised_after_a_restart() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2, 3)
    first, second = take(pair.b, 2)
    pair.b.receive(first, second)
    pair.b.crash()
    pair.reconnect()
    fx = pair.b.receive(second, first)
    assert [type(m) for m in fx.messages] == [Ack]
    assert refused(pair.b, replace(second, records=pack_record(2) + pack_record(4))) is ErrorCode.OTHER_BYTES


def test_payment_0_does_not_exist() -> None:
    pair = Pair().open()
    assert refused(pair.b, forge(pair.a, 1, first_n=0)) is ErrorCode.GAP


# --- Contents ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"records": b"x" * 25}, ErrorCode.BAD_BATCH),
        ({"records": bytes(24)}, ErrorCode.BAD_BATCH),
        ({"memos": b"\x91\x92\x01\xc4\x01m"}, ErrorCode.BAD_BATCH),  # index 1 of a batch of one
        ({"memos": b"\xc1"}, ErrorCode.BAD_BATCH),
        ({"signature": bytes(64)}, ErrorCode.BAD_SIGNATURE),
        ({"memos": pack_memos([(0, b"m")])}, ErrorCode.BAD_SIGNATURE),  # not what was signed
        ({"ack_n": 1}, ErrorCode.UNKNOWN_BOUNDARY),
    ],
)
def test_contents(change: dict[str, bytes], code: ErrorCode) -> None:
    pair = Pair().open()
    assert refused(pair.b, forge(pair.a, 1, **change)) is code


def test_more_than_max_batch() -> None:
    pair = Pair(max_batch=2).open()
    assert refused(pair.b, forge(pair.a, 1, 1, 1)) is ErrorCode.BAD_BATCH


@pytest.mark.parametrize("amounts", [(2**64 - 1,), (MAX_UNITS, MAX_UNITS)])
def test_overflow(amounts: tuple[int, ...]) -> None:
    pair = Pair().open()
    records = b"".join(amount.to_bytes(8, "big") + bytes(16) for amount in amounts)
    pay = forge(pair.a, 1, records=records)
    assert refused(pair.b, pay) in (ErrorCode.OVERFLOW, ErrorCode.BAD_BATCH)


def test_the_counter_overflows() -> None:
    limits = ReceiveLimits(1000, MAX_UNITS, 1)
    pair = Pair(limits=(limits, limits)).open()
    for c, name in ((pair.a.c, "own"), (pair.b.c, "peer")):
        setattr(c, name, Half(1, MAX_UNITS, bytes(32)))
    pair.b.disk.hot = pair.b.bytes()[1]
    assert refused(pair.b, forge(pair.a, 1)) is ErrorCode.OVERFLOW


def test_party_1_of_a_one_way_channel_pays() -> None:
    pair = Pair(FLAG_ONE_WAY).open()
    assert refused(pair.a, forge(pair.b, 1)) is ErrorCode.ONE_WAY


@pytest.mark.parametrize(
    ("limits", "amounts"),
    [(ReceiveLimits(2, 99, 1), (1, 1, 1)), (ReceiveLimits(9, 9, 1), (10,)), (ReceiveLimits(9, 9, 3), (2,))],
)
def test_beyond_the_limits_agreed(limits: ReceiveLimits, amounts: tuple[int, ...]) -> None:
    pair = Pair(limits=(LIMITS, limits)).open()
    assert refused(pair.b, forge(pair.a, *amounts)) is ErrorCode.LIMIT_EXCEEDED


def test_reserved_fields_of_a_half_are_refused_wherever_it_enters() -> None:
    pair = Pair().open()
    pair.cut()
    pair.connect()
    shown = pair.b.inbox.popleft()
    assert isinstance(shown, peer.Reestablish)
    half = bytearray(shown.mine.half0)
    half[55] = 1
    assert refused(pair.b, replace(shown, mine=replace(shown.mine, half0=bytes(half)))) is ErrorCode.RESERVED_FIELD


# --- Acknowledgements ------------------------------------------------------------------------------


def crossing() -> tuple[Pair, Ack, Ack]:
    """Two ACKs of b on their way to a."""
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2, 3)
    pair.b.deliver(1)
    pair.b.deliver(1)
    first, second = take(pair.a, 2)
    assert isinstance(first, Ack)
    assert isinstance(second, Ack)
    return pair, first, second


def test_an_older_ack_after_a_newer_one_is_a_regression() -> None:
    pair, first, second = crossing()
    pair.a.receive(second)
    assert refused(pair.a, first) is ErrorCode.REGRESSION


def test_a_regression_in_one_reading() -> None:
    pair, first, second = crossing()
    pair.a.receive(second, first)
    assert pair.a.errors[0].code is ErrorCode.REGRESSION
    assert pair.a.c.acked.n == 3  # what came before it counts
    assert len(pair.a.paid()) == 2


def test_an_ack_inside_a_batch() -> None:
    pair, _, second = crossing()
    assert refused(pair.a, replace(second, n=2)) is ErrorCode.UNKNOWN_BOUNDARY


def test_an_ack_beyond_what_was_sent() -> None:
    pair, _, second = crossing()
    assert refused(pair.a, replace(second, n=4)) is ErrorCode.UNKNOWN_BOUNDARY


@pytest.mark.parametrize(("own_n", "code"), [(0, ErrorCode.REGRESSION), (2, ErrorCode.GAP)])
def test_an_ack_that_shows_another_half_of_its_sender(own_n: int, code: ErrorCode) -> None:
    pair = Pair().open()
    pair.b.pay(1)
    pair.run()
    pair.a.pay(1)
    pair.b.deliver()
    (ack,) = take(pair.a, 1)
    assert refused(pair.a, replace(ack, own_n=own_n)) is code


def test_an_ack_signed_by_somebody_else() -> None:
    pair, first, _ = crossing()
    assert refused(pair.a, replace(first, signature=bytes(64))) is ErrorCode.BAD_SIGNATURE


# --- One signature for all --------------------------------------------------------------------------


def test_a_bad_newest_signature_makes_nothing_of_the_reading_count() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2)
    first, second = take(pair.b, 2)
    assert refused(pair.b, first, replace(second, signature=bytes(64))) is ErrorCode.BAD_SIGNATURE
    assert pair.b.errors[0].code.effect.value == "close"
    pair.reconnect()
    pair.b.errors.clear()
    pair.check_agree()
    assert pair.b.disk.payments(0) == [(1, 1), (2, 2)]


def test_a_bad_older_signature_is_covered_by_the_newest() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2)
    first, second = take(pair.b, 2)
    pair.b.receive(replace(first, signature=bytes(64)), second)
    pair.run()
    pair.check_agree()


def test_only_one_signature_of_a_reading_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(max_batch=1).open()
    pair.a.pay(*[1] * 50)
    verified: list[bytes] = []
    real = state.verify
    monkeypatch.setattr(state, "verify", lambda key, sig, text: (verified.append(sig), real(key, sig, text)))
    pair.b.deliver()
    assert len(verified) == 1
    assert pair.b.c.peer.n == 50


def test_what_came_before_a_fault_counts() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    (first,) = take(pair.b, 1)
    pair.b.receive(first, forge(pair.a, 1, first_n=9))
    assert pair.b.errors[0].code is ErrorCode.GAP
    assert pair.b.disk.payments(0) == [(1, 1)]
    assert pair.b.c.suspended
    assert not [m for m in pair.b.sent if isinstance(m, Ack)]  # a suspended channel is silent
    pair.b.errors.clear()
    pair.reconnect()
    pair.check_agree()


def test_a_suspended_channel_hears_nothing_until_the_next_connection() -> None:
    pair = Pair().open()
    pair.b.receive(forge(pair.a, 1, first_n=9))
    pair.b.errors.clear()
    pair.a.pay(1)
    pair.b.deliver()
    assert pair.b.c.peer.n == 0
    pair.reconnect()
    pair.check_agree()
    assert pair.b.c.peer.n == 1


# --- Balance and readings --------------------------------------------------------------------------


def overdrawn() -> tuple[Pair, Pay]:
    """a has topped up and paid on it; b does not know yet."""
    pair = Pair(deposits=(100, 0)).open()
    pair.topup(0, 50)
    pair.a.read()
    pair.a.pay(120)
    pay = pair.b.inbox.popleft()
    assert isinstance(pay, Pay)
    return pair, pay


def test_balance_is_refused_only_after_a_fresh_reading() -> None:
    pair = Pair(deposits=(100, 0)).open()
    pay = forge(pair.a, 101)
    fx = pair.b.receive(pay)
    assert fx.read_ledger
    assert not pair.b.errors
    assert pair.b.c.held_back == [pay]
    before = pair.b.bytes()
    pair.b.read()
    assert pair.b.errors[0].code is ErrorCode.BALANCE
    assert pair.b.bytes() == before
    assert not pair.b.c.held_back


def test_balance_is_judged_only_on_a_signature_that_verifies() -> None:
    """Nobody but the payer makes this node read the ledger, and both sides name the same fault."""
    pair = Pair(deposits=(100, 0)).open()
    assert refused(pair.b, forge(pair.a, 101, signature=bytes(64))) is ErrorCode.BAD_SIGNATURE
    assert not pair.b.wants_reading


def test_the_first_fault_in_the_order_of_checks_is_named() -> None:
    worst = {"first_n": 9, "records": bytes(24), "memos": b"\xc1", "ack_n": 7, "signature": bytes(64)}
    sound = {"first_n": 1, "records": pack_record(2000), "memos": b"", "ack_n": 0}
    expected = [ErrorCode.GAP, ErrorCode.BAD_BATCH, ErrorCode.BAD_BATCH, ErrorCode.UNKNOWN_BOUNDARY]
    for (name, value), code in zip(sound.items(), expected, strict=True):
        assert refused(Pair(limits=(LIMITS, ReceiveLimits(9, 1999, 1))).open().b, example(worst)) is code
        worst[name] = value
    assert (
        refused(Pair(limits=(LIMITS, ReceiveLimits(9, 1999, 1))).open().b, example(worst)) is ErrorCode.LIMIT_EXCEEDED
    )
    assert refused(Pair().open().b, example(worst)) is ErrorCode.BAD_SIGNATURE


def example(fields: dict[str, object]) -> Pay:
    return replace(forge(Pair().open().a, 1), **fields)  # type: ignore[arg-type]


def test_a_payment_on_a_topup_is_taken_after_the_reading() -> None:
    pair, pay = overdrawn()
    pair.b.receive(pay)
    pair.a.pay(10)
    pair.b.deliver()  # waits its turn behind the first
    assert pair.b.c.peer.n == 0
    pair.b.read()
    pair.run()
    pair.check_agree()
    assert pair.b.disk.payments(0) == [(1, 120), (2, 10)]


def test_a_reading_that_was_not_asked_for_does_not_refuse() -> None:
    pair, pay = overdrawn()
    pair.b.receive(pay)
    told_before = pair.b.c.reading
    assert told_before is not None
    pair.b.do(lambda c, fx: step.ledger_reading(c, told_before, pair.time, pair.b.now(), fx, asked=False))
    assert not pair.b.errors
    assert pair.b.c.held_back == [pay]
    pair.b.read()
    pair.run()
    pair.check_agree()


def test_a_topup_seen_between_two_payments_asks_again() -> None:
    """The reading asked for because of the first payment may be older than the second."""
    pair = Pair(deposits=(100, 0)).open()
    pair.topup(0, 20)
    pair.a.read()
    pair.a.pay(120)
    pair.b.deliver()
    old = pair.reading()
    assert old is not None
    pair.topup(0, 20)
    pair.a.read()
    pair.a.pay(20)
    pair.b.deliver()
    pair.b.do(lambda c, fx: step.ledger_reading(c, old, pair.time, pair.b.now(), fx))
    assert not pair.b.errors
    assert pair.b.c.peer.n == 1
    assert pair.b.wants_reading
    pair.run()
    pair.check_agree()


def test_an_overtaken_answer_still_ends_the_wait() -> None:
    pair = Pair(deposits=(100, 0)).open()
    old = pair.reading()
    assert old is not None
    pair.topup(1, 5)
    pair.b.receive(forge(pair.a, 101))
    pair.b.read(asked=False)
    pair.b.do(lambda c, fx: step.ledger_reading(c, old, pair.time, pair.b.now(), fx))
    assert pair.b.errors[0].code is ErrorCode.BALANCE
    assert pair.b.c.reading is not None
    assert pair.b.c.reading.deposits == (100, 5)


def test_the_payers_balance_is_judged_on_the_pair_as_signed() -> None:
    """Money that b paid counts for a only once a's signature shows that it holds it."""
    pair = Pair(deposits=(100, 100)).open()
    pair.b.pay(50)
    pair.b.receive(forge(pair.a, 150))  # a has not acknowledged the 50
    pair.b.read()
    assert pair.b.errors[0].code is ErrorCode.BALANCE


def test_a_stale_reading_stalls_payments_without_an_error_but_not_acks() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.b.pay(2)
    pair.a.deliver()
    pair.b.stale = True
    pair.b.deliver()
    assert not pair.faults()
    assert [type(m) for m in pair.b.c.held_back] == [Pay, Ack]  # the ACK keeps its place behind the payment
    pair.b.stale = False
    pair.b.read()
    pair.run()
    pair.check_agree()
    pair.b.pay(1)
    pair.a.deliver()
    pair.b.stale = True
    pair.b.deliver()
    assert pair.b.c.acked == pair.b.c.own
    assert not pair.faults()


def test_waiting_messages_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(max_batch=1).open()
    pair.a.pay(*[1] * 300)
    pair.b.stale = True
    judged = 0
    real = step._judge

    def counting(*args: object) -> object:
        nonlocal judged
        judged += 1
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(step, "_judge", counting)
    while pair.b.deliver(1):
        pass
    assert judged == 300
    assert len(pair.b.c.held_back) == 300


def test_what_waits_is_bounded_by_what_an_honest_peer_has_under_way() -> None:
    limits = ReceiveLimits(10, 1000, 1)
    pair = Pair(limits=(limits, limits)).open()
    pair.b.stale = True
    pay = forge(pair.a, *[1] * 10)
    pair.b.receive(*[pay] * 200)
    assert pair.b.errors[0].code is ErrorCode.LIMIT_EXCEEDED
    assert not pair.b.c.held_back
    assert pair.b.c.held_back_bytes == 0


def test_messages_that_waited_while_the_channel_closed_are_nobodys_fault() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.b.stale = True
    pair.b.deliver()
    pair.b.close(force=True)
    pair.b.stale = False
    pair.b.submit()
    assert pair.b.c.phase is Phase.CLOSING
    assert not pair.b.errors
    assert not pair.b.c.held_back


def test_waiting_ends_with_the_connection() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.b.stale = True
    pair.b.deliver()
    pair.cut()
    assert (pair.b.c.held_back, pair.b.c.held_back_bytes) == ([], 0)
    pair.b.stale = False
    pair.reconnect()
    pair.check_agree()


# --- Time ------------------------------------------------------------------------------------------


def test_a_peer_that_owes_an_ack_for_too_long_loses_the_connection() -> None:
    pair = Pair().open()
    assert step.next_deadline(pair.a.c) is None
    pair.a.pay(1)
    due = step.next_deadline(pair.a.c)
    assert due == pair.clock + ANSWER_TIMEOUT_S
    pair.clock = due - 1
    pair.a.advance()
    assert not pair.a.dropped
    pair.clock = due
    pair.a.advance()
    assert "acknowledgement" in pair.a.dropped


def test_any_progress_starts_the_wait_anew() -> None:
    pair = Pair().open()
    pair.a.pay(1)
    pair.a.pay(2)
    pair.clock += 29
    pair.b.deliver(1)
    pair.a.deliver(1)
    pair.clock += 29
    pair.a.advance()
    assert not pair.a.dropped
