"""A batch: 1 to 4,096 payments in a row, with what is attached to them. Spec S-20 to S-22.

Records stay the bytes they travelled as; a payment costs 24 bytes and no Python object until
somebody looks at it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from channelpay.amounts import checked
from channelpay.codec import pack, unpack
from channelpay.errors import AmountError, ErrorCode, LocalError, Reason, RemoteError
from channelpay.limits import MAX_BATCH, MAX_MEMO_BYTES, MAX_MEMOS_BYTES, MAX_UNITS, RECORD_BYTES

NO_ID: Final = bytes(16)
"""The payment id of a payment without one."""

_RECORD: Final = struct.Struct(">Q16s")


def pack_record(amount: int, payment_id: bytes = NO_ID) -> bytes:
    """24 bytes: amount u64, payment id (spec S-20).

    Raises AmountError unless the amount is 1 .. 2^63-1 units, LocalError unless the id has 16 bytes.
    """
    if checked(amount) == 0:  # spec M-6
        raise AmountError("a payment is at least one unit")
    if len(payment_id) != len(NO_ID):  # struct would cut or fill it
        raise LocalError(Reason.USAGE, f"a payment id has {len(NO_ID)} bytes, not {len(payment_id)}")
    return _RECORD.pack(amount, payment_id)


class Payment(NamedTuple):
    """One payment of a batch: its number in its direction, units, id (or NO_ID) and memo."""

    n: int
    amount: int
    payment_id: bytes
    memo: bytes


class Batch(NamedTuple):
    """Consecutive payments of one payer, exactly as signed."""

    first_n: int
    records: bytes
    memos: bytes

    @property
    def size(self) -> int:
        """Number of payments."""
        return len(self.records) // RECORD_BYTES

    @property
    def last_n(self) -> int:
        """Number of the last payment."""
        return self.first_n + self.size - 1

    def payments(self) -> Iterator[Payment]:
        """Every payment in order."""
        memos = dict(parse_memos(self.memos, self.size)) if self.memos else {}
        for index, (amount, payment_id) in enumerate(_RECORD.iter_unpack(self.records)):
            yield Payment(self.first_n + index, amount, payment_id, memos.get(index, b""))

    def ids(self) -> Iterator[tuple[int, bytes, int]]:
        """(n, payment id, amount) of the payments that have an id."""
        if not _all_without_ids(self.records):
            for n, (amount, payment_id) in enumerate(_RECORD.iter_unpack(self.records), self.first_n):
                if payment_id != NO_ID:
                    yield n, payment_id, amount


def _all_without_ids(records: bytes) -> bool:
    ids: tuple[bytes, ...] = struct.unpack("8x16s" * (len(records) // RECORD_BYTES), records)
    return ids.count(NO_ID) == len(ids)


def records_total(records: bytes, max_batch: int) -> int:
    """The sum of the amounts in `records`; raises RemoteError unless they are 1 .. max_batch sound ones."""
    count, rest = divmod(len(records), RECORD_BYTES)
    if rest or not 1 <= count <= max_batch:  # spec S-20
        raise RemoteError(ErrorCode.BAD_BATCH, f"{len(records)} bytes are no 1 .. {max_batch} records")
    amounts: tuple[int, ...] = struct.unpack(">" + "Q16x" * count, records)
    if min(amounts) < 1:
        raise RemoteError(ErrorCode.BAD_BATCH, "a payment of zero")
    total = sum(amounts)
    if total > MAX_UNITS:  # spec M-2
        raise RemoteError(ErrorCode.OVERFLOW, "the batch's total is above 2^63-1")
    return total


def smallest_amount(records: bytes) -> int:
    """The least amount in sound records."""
    amounts: tuple[int, ...] = struct.unpack(">" + "Q16x" * (len(records) // RECORD_BYTES), records)
    return min(amounts)


def pack_memos(memos: list[tuple[int, bytes]]) -> bytes:
    """Memos of a batch: empty, or one msgpack array of [index, bytes] (spec S-21).

    Raises LocalError unless indexes rise strictly, each memo has 1 .. 256 bytes and all fit 16 KiB.
    """
    last = -1
    for index, memo in memos:
        if not last < index < MAX_BATCH:
            raise LocalError(Reason.USAGE, f"memo indexes rise strictly within a batch; {index} after {last} does not")
        if not 1 <= len(memo) <= MAX_MEMO_BYTES:
            raise LocalError(Reason.USAGE, f"a memo has 1 .. {MAX_MEMO_BYTES} bytes, not {len(memo)}")
        last = index
    packed = pack([[index, memo] for index, memo in memos]) if memos else b""
    if len(packed) > MAX_MEMOS_BYTES:
        raise LocalError(Reason.USAGE, f"the memos of one batch have {len(packed)} bytes; at most {MAX_MEMOS_BYTES}")
    return packed


def parse_memos(data: bytes, count: int) -> list[tuple[int, bytes]]:
    """(index, memo) pairs; raises RemoteError(BAD_BATCH) for any other shape (spec S-21)."""
    if not data:
        return []
    if len(data) > MAX_MEMOS_BYTES:
        raise RemoteError(ErrorCode.BAD_BATCH, f"memos above {MAX_MEMOS_BYTES} bytes")
    pairs: list[tuple[int, bytes]] = []
    last = -1
    try:
        found = unpack(data)
    except RemoteError as error:  # the frame itself is sound: only this batch is not
        raise RemoteError(ErrorCode.BAD_BATCH, f"memos: {error.text}") from None
    for pair in found:
        if type(pair) is not list or len(pair) != 2 or type(pair[0]) is not int or type(pair[1]) is not bytes:
            raise RemoteError(ErrorCode.BAD_BATCH, "a memo is [index, bytes]")
        index, memo = pair
        if not last < index < count or not 1 <= len(memo) <= MAX_MEMO_BYTES:
            raise RemoteError(ErrorCode.BAD_BATCH, "memo indexes rise strictly within the batch; 1 .. 256 bytes each")
        pairs.append((index, memo))
        last = index
    if not pairs:
        raise RemoteError(ErrorCode.BAD_BATCH, "no memos at all are written as no bytes")
    return pairs
