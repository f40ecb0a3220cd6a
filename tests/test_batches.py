import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay.batches import (
    NO_ID,
    Batch,
    Payment,
    pack_memos,
    pack_record,
    parse_memos,
    records_total,
    smallest_amount,
)
from channelpay.codec import pack
from channelpay.errors import AmountError, ErrorCode, LocalError, Reason, RemoteError
from channelpay.limits import MAX_BATCH, MAX_MEMO_BYTES, MAX_MEMOS_BYTES, MAX_UNITS

ids = st.just(NO_ID) | st.binary(min_size=16, max_size=16)
payments = st.lists(st.tuples(st.integers(1, 10**12), ids), min_size=1, max_size=20)
memo_lists = st.dictionaries(st.integers(0, 19), st.binary(min_size=1, max_size=MAX_MEMO_BYTES), max_size=20).map(
    lambda found: sorted(found.items())
)


def refusal(code: ErrorCode, data: bytes, count: int = 4) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_memos(data, count)
    assert caught.value.code is code


def test_a_record_is_amount_and_id() -> None:
    assert pack_record(100, b"\x01" * 16) == bytes.fromhex("0000000000000064" + "01" * 16)
    assert pack_record(MAX_UNITS) == bytes.fromhex("7fffffffffffffff" + "00" * 16)


@pytest.mark.parametrize("amount", [0, -1, MAX_UNITS + 1, 2**64, 1.0, True, None])
def test_a_payment_is_1_to_2_63_units(amount: int) -> None:
    with pytest.raises(AmountError):
        pack_record(amount)


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_an_id_is_neither_cut_nor_filled(size: int) -> None:
    with pytest.raises(LocalError, match=f"16 bytes, not {size}") as caught:
        pack_record(1, bytes(size))
    assert caught.value.reason is Reason.USAGE


@given(payments, memo_lists, st.integers(1, MAX_UNITS - 20))
def test_a_batch_gives_back_its_payments(paid: list[tuple[int, bytes]], memos: list[tuple[int, bytes]], n: int) -> None:
    memos = [(index, memo) for index, memo in memos if index < len(paid)]
    batch = Batch(n, b"".join(pack_record(*payment) for payment in paid), pack_memos(memos))
    assert (batch.size, batch.last_n) == (len(paid), n + len(paid) - 1)
    found = list(batch.payments())
    assert found == [Payment(n + i, a, p, dict(memos).get(i, b"")) for i, (a, p) in enumerate(paid)]
    assert list(batch.ids()) == [(p.n, p.payment_id, p.amount) for p in found if p.payment_id != NO_ID]
    assert records_total(batch.records, MAX_BATCH) == sum(amount for amount, _ in paid)
    assert smallest_amount(batch.records) == min(amount for amount, _ in paid)


def test_an_id_that_ends_or_begins_with_zeros_is_an_id() -> None:
    nearly = [bytes(15) + b"\1", b"\1" + bytes(15)]
    batch = Batch(1, b"".join(pack_record(1, payment_id) for payment_id in nearly), b"")
    assert [payment_id for _, payment_id, _ in batch.ids()] == nearly


@pytest.mark.parametrize(
    ("records", "max_batch", "code"),
    [
        (b"", 4096, ErrorCode.BAD_BATCH),
        (bytes(23), 4096, ErrorCode.BAD_BATCH),
        (pack_record(1) + b"\0", 4096, ErrorCode.BAD_BATCH),
        (pack_record(1) * 4, 3, ErrorCode.BAD_BATCH),
        (bytes(24), 4096, ErrorCode.BAD_BATCH),
        (pack_record(1) + bytes(24), 4096, ErrorCode.BAD_BATCH),
        (b"\x80" + bytes(23), 4096, ErrorCode.OVERFLOW),
        (pack_record(MAX_UNITS) + pack_record(1), 4096, ErrorCode.OVERFLOW),
        (b"\xff" * 24 * 4096, 4096, ErrorCode.OVERFLOW),
    ],
)
def test_unsound_records_are_refused(records: bytes, max_batch: int, code: ErrorCode) -> None:
    with pytest.raises(RemoteError) as caught:
        records_total(records, max_batch)
    assert caught.value.code is code


@given(memo_lists)
def test_memos_read_back(memos: list[tuple[int, bytes]]) -> None:
    assert parse_memos(pack_memos(memos), 20) == memos


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"\x91\x92\x00\xc4" + tail))
def test_any_bytes_are_memos_or_a_bad_batch(data: bytes) -> None:
    try:
        found = parse_memos(data, 4)
    except RemoteError as error:
        assert error.code is ErrorCode.BAD_BATCH  # noqa: PT017
    else:
        assert pack_memos(found) == data


@pytest.mark.parametrize(
    "wire",
    [
        [],
        [0],
        [[0]],
        [[0, b"x", 0]],
        [[b"x", 0]],
        [[0, "x"]],
        [[True, b"x"]],
        [[-1, b"x"]],
        [[4, b"x"]],
        [[0, b""]],
        [[0, bytes(257)]],
        [[0, b"x"], [0, b"x"]],
        [[1, b"x"], [0, b"x"]],
        [[0, None]],
    ],
)
def test_memos_of_another_shape_are_a_bad_batch(wire: list[object]) -> None:
    refusal(ErrorCode.BAD_BATCH, pack(wire))


def test_memos_have_16_kib_in_all() -> None:
    most = pack_memos([(i, bytes(256)) for i in range(62)])
    assert len(most) <= MAX_MEMOS_BYTES
    assert len(parse_memos(most, 62)) == 62
    refusal(ErrorCode.BAD_BATCH, pack([[i, bytes(256)] for i in range(64)]), 64)


@pytest.mark.parametrize(
    ("memos", "said"),
    [
        ([(0, b"")], "1 .. 256 bytes, not 0"),
        ([(0, bytes(257))], "1 .. 256 bytes, not 257"),
        ([(0, b"x"), (0, b"x")], "0 after 0"),
        ([(-1, b"x")], "rise strictly"),
        ([(MAX_BATCH, b"x")], "rise strictly"),
        ([(i, bytes(256)) for i in range(64)], "at most 16384"),
    ],
)
def test_memos_that_the_peer_would_refuse_are_not_packed(memos: list[tuple[int, bytes]], said: str) -> None:
    with pytest.raises(LocalError, match=said) as caught:
        pack_memos(memos)
    assert caught.value.reason is Reason.USAGE


def test_a_full_batch_without_ids_has_none() -> None:
    batch = Batch(1, pack_record(1) * MAX_BATCH, b"")
    assert list(batch.ids()) == []
    assert records_total(batch.records, MAX_BATCH) == MAX_BATCH
    assert batch.last_n == MAX_BATCH
