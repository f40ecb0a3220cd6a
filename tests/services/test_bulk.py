"""Orders become chunks, and what came of the chunks becomes one outcome."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay.batches import NO_ID, Batch, parse_memos
from channelpay.errors import AmountError, LocalError, Reason
from channelpay.limits import MAX_MEMOS_BYTES, MAX_UNITS
from channelpay.messages.control import Paid
from channelpay.services.bulk import chunked, outcome
from channelpay.services.exceptions import NotReachable, PartlyPaid, PaymentUnknown
from channelpay.services.ids import new_payment_id
from channelpay.services.values import PaidMany

CHANNEL = b"C" * 32
ID = new_payment_id()
REFUSED = LocalError(Reason.INSUFFICIENT_BALANCE, "too little")
UNKNOWN = PaymentUnknown("went away", CHANNEL, None)

orders = st.one_of(
    st.integers(1, MAX_UNITS),
    st.tuples(
        st.integers(1, MAX_UNITS),
        st.one_of(st.none(), st.binary(min_size=16, max_size=16).filter(lambda value: value != NO_ID)),
        st.binary(max_size=256),
    ),
)


def unfold(parts):
    return [
        (payment.amount, payment.payment_id, payment.memo)
        for part in parts
        for payment in Batch(1, part.chunk.records, part.chunk.memos).payments()
    ]


def folded(order):
    amount, payment_id, memo = order if isinstance(order, tuple) else (order, None, b"")
    return amount, payment_id or NO_ID, memo


@given(st.lists(orders, max_size=200))
def test_chunks_hold_every_order_in_its_place(given_orders):
    parts = chunked(given_orders)
    assert unfold(parts) == [folded(order) for order in given_orders]
    assert [index for part in parts for index in part.indexes] == list(range(len(given_orders)))
    assert sum(part.total for part in parts) == sum(folded(order)[0] for order in given_orders)


def test_a_chunk_has_at_most_4096_payments():
    sizes = [len(part.indexes) for part in chunked([1] * 10_000)]
    assert sizes == [4096, 4096, 1808]
    with_ids = [(1, ID, b"")] * 4097
    assert [len(part.indexes) for part in chunked(with_ids)] == [4096, 1]


def test_memos_that_do_not_fit_one_chunk_begin_the_next():
    parts = chunked([(1, None, bytes([1]) * 256)] * 200)
    assert [len(part.indexes) for part in parts] == [62, 62, 62, 14]
    for part in parts:
        assert len(part.chunk.memos) <= MAX_MEMOS_BYTES
        assert len(parse_memos(part.chunk.memos, len(part.indexes))) == len(part.indexes)


def test_memos_at_the_largest_indexes_stay_within_their_bound():
    few = [1] * 4000 + [(1, None, bytes(256))] * 62
    (part,) = chunked(few)
    assert len(part.chunk.memos) <= MAX_MEMOS_BYTES


@pytest.mark.parametrize("bad", [0, -1, MAX_UNITS + 1, True, 1.5])
def test_a_bad_amount_anywhere_stops_all_of_it(bad):
    with pytest.raises(AmountError):
        chunked([1] * 5000 + [bad])
    with pytest.raises(AmountError):
        chunked([(bad, None, b"")])


@pytest.mark.parametrize("order", [(1, b"short", b""), (1, NO_ID, b""), (1, None, bytes(257)), (1, None, "text")])
def test_a_bad_id_or_memo_is_a_usage_error(order):
    with pytest.raises(LocalError) as caught:
        chunked([order])
    assert caught.value.reason is Reason.USAGE


PARTS = chunked([2] * 10_000)


def test_all_paid():
    answers = [Paid(1, 7, 4096, 0), Paid(2, 4103, 4096, 0), Paid(3, 8199, 1808, 0)]
    assert outcome(CHANNEL, PARTS, answers) == PaidMany(CHANNEL, 7, 10_000, 20_000, False)
    answers[1] = Paid(2, 4103, 4096, 1)
    assert outcome(CHANNEL, PARTS, answers).repeated


def test_no_orders_at_all():
    assert outcome(CHANNEL, [], []) == PaidMany(CHANNEL, 0, 0, 0, False)


def test_nothing_paid_raises_the_first_cause_itself():
    with pytest.raises(LocalError) as caught:
        outcome(CHANNEL, PARTS, [REFUSED, LocalError(Reason.QUEUE_FULL, "full")])
    assert caught.value is REFUSED
    with pytest.raises(NotReachable):
        outcome(CHANNEL, PARTS, [NotReachable("gone")])


def test_partly_paid_names_what_was_paid():
    with pytest.raises(PartlyPaid) as caught:
        outcome(CHANNEL, PARTS, [Paid(1, 1, 4096, 0), REFUSED, Paid(3, 4097, 1808, 0)])
    assert caught.value.paid == (range(0, 4096), range(8192, 10_000))
    assert (caught.value.total, caught.value.cause) == ((4096 + 1808) * 2, REFUSED)
    assert str(caught.value).startswith("5904 payments (11808 units) were made")


def test_one_unknown_chunk_makes_it_unknown():
    with pytest.raises(PaymentUnknown):
        outcome(CHANNEL, PARTS, [Paid(1, 1, 4096, 0), REFUSED, UNKNOWN])
