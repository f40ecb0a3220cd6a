"""Many payments at once: orders cut into chunks, and what came of the chunks put together again."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from channelpay.batches import NO_ID, pack_memos, pack_record
from channelpay.errors import AmountError, LocalError, Reason
from channelpay.limits import MAX_BATCH, MAX_MEMO_BYTES, MAX_MEMOS_BYTES, MAX_UNITS, RECORD_BYTES
from channelpay.messages.control import Paid
from channelpay.services.backend import Chunk, ChunkAnswer
from channelpay.services.exceptions import NotReachable, PartlyPaid, PaymentUnknown
from channelpay.services.values import PaidMany

Order = int | tuple[int, bytes | None, bytes]
"""A payment to make: its units, or (units, payment id or None, memo)."""

_MEMO_OVERHEAD: Final = 7  # around each memo: a pair, an index of up to 3 bytes, a length of up to 3 bytes
_MEMO_ROOM: Final = MAX_MEMOS_BYTES - 3  # around all memos: the array's length


class Part(NamedTuple):
    """A chunk, the indexes of its orders, and their total."""

    indexes: range
    total: int
    chunk: Chunk


def checked_amount(units: object) -> int:
    """`units` itself if it can be paid, 1 .. 2^63-1; raises AmountError."""
    if type(units) is not int or not 0 < units <= MAX_UNITS:
        raise AmountError(f"{units!r} is no payment: whole units 1 .. 2^63-1, or a text such as '0.0001 USD'")
    return units


def checked_id(payment_id: object) -> bytes:
    """`payment_id` itself if it is 16 bytes, not all zero; raises LocalError(USAGE)."""
    if type(payment_id) is not bytes or len(payment_id) != 16 or payment_id == NO_ID:
        raise LocalError(Reason.USAGE, f"{payment_id!r} is no payment id: take one from new_payment_id()")
    return payment_id


def checked_memo(memo: object) -> bytes:
    """`memo` itself if it may travel: at most 256 bytes; raises LocalError(USAGE)."""
    if type(memo) is not bytes or len(memo) > MAX_MEMO_BYTES:
        raise LocalError(Reason.USAGE, f"a memo is at most {MAX_MEMO_BYTES} bytes, not {_kind_and_size(memo)}")
    return memo


def _kind_and_size(value: object) -> str:
    return f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__


def chunked(orders: Sequence[Order]) -> list[Part]:
    """All orders as chunks of at most 4,096 payments; raises AmountError or LocalError before anything is sent."""
    return list(_parts(orders))


def _parts(orders: Sequence[Order]) -> Iterator[Part]:
    start = 0
    while start < len(orders):
        window = orders[start : start + MAX_BATCH]
        if all(type(order) is int for order in window):
            part = _plain_part(start, [checked_amount(order) for order in window])
        else:
            part = _full_part(start, window)
        yield part
        start = part.indexes.stop


def _plain_part(start: int, amounts: list[int]) -> Part:
    """Payments without ids and memos: one call packs them all."""
    records = struct.pack(">" + "Q16x" * len(amounts), *amounts)
    return Part(range(start, start + len(amounts)), sum(amounts), Chunk(records, b""))


def _full_part(start: int, window: Sequence[Order]) -> Part:
    """As many of the window's payments as their memos leave room for."""
    records, memos, room, total = bytearray(), [], _MEMO_ROOM, 0
    for index, order in enumerate(window):
        units, payment_id, memo = order if isinstance(order, tuple) else (order, None, b"")
        if checked_memo(memo):
            room -= len(memo) + _MEMO_OVERHEAD
            if room < 0:
                break
            memos.append((index, memo))
        records += pack_record(checked_amount(units), NO_ID if payment_id is None else checked_id(payment_id))
        total += units
    count = len(records) // RECORD_BYTES
    return Part(range(start, start + count), total, Chunk(bytes(records), pack_memos(memos)))


def outcome(channel_id: bytes, parts: Sequence[Part], answers: Sequence[ChunkAnswer]) -> PaidMany:
    """What came of all parts; raises PaymentUnknown, PartlyPaid, or why nothing at all was paid."""
    paid: list[Part] = []
    failures: list[LocalError | NotReachable] = []
    repeated, first_n = False, 0
    for part, answer in zip(parts, answers, strict=False):  # after a failure the last parts have no answer
        if isinstance(answer, PaymentUnknown):
            raise answer
        if isinstance(answer, Paid):
            paid.append(part)
            first_n = first_n or answer.first_n
            repeated |= answer.repeated == 1
        else:
            failures.append(answer)
    total = sum(part.total for part in paid)
    if failures and paid:
        raise PartlyPaid(tuple(part.indexes for part in paid), total, failures[0])
    if failures:
        raise failures[0]
    return PaidMany(channel_id, first_n, sum(len(part.indexes) for part in paid), total, repeated)
