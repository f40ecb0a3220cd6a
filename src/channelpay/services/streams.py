"""Payments one after the other, page by page from the node: iterators that may be left at any time.

They hold no task and need no closing, and a cancelled `anext` takes nothing away: the next one
goes on where it stood.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from channelpay.batches import Batch
from channelpay.messages.control import HistoryPage, ReceivedPage
from channelpay.services.values import Payment, ReceivedBatch, ReceivedPayment, id_or_none


class ReceivedBatches(AsyncIterator[ReceivedBatch]):
    """Batches after a cursor, for ever; `fetch(after)` waits for at least one more."""

    def __init__(self, fetch: Callable[[int], Awaitable[ReceivedPage]], after: int) -> None:
        self._fetch = fetch
        self._after = after
        self._fetched: deque[ReceivedBatch] = deque()

    async def __anext__(self) -> ReceivedBatch:
        while not self._fetched:
            page = await self._fetch(self._after)
            self._fetched.extend(map(ReceivedBatch, page.batches))
            self._after = page.cursor
        return self._fetched.popleft()


class ReceivedPayments(AsyncIterator[ReceivedPayment]):
    """The payments of batches, those after a cursor."""

    def __init__(self, batches: ReceivedBatches, after: int) -> None:
        self._batches = batches
        self._after = after
        self._unfolding: Iterator[ReceivedPayment] = iter(())

    async def __anext__(self) -> ReceivedPayment:
        while True:
            for payment in self._unfolding:
                if payment.cursor > self._after:  # the batch in which the cursor stands may come whole
                    return payment
            self._unfolding = (await anext(self._batches)).payments()


class History(AsyncIterator[Payment]):
    """Payments of one channel and payer from a number on; `fetch(from_n)` gives the next ones, none at the end."""

    def __init__(self, fetch: Callable[[int], Awaitable[tuple[bytes, HistoryPage]]], from_n: int) -> None:
        self._fetch = fetch
        self._from_n = from_n
        self._fetched: deque[Payment] = deque()

    async def __anext__(self) -> Payment:
        while not self._fetched:
            channel_id, page = await self._fetch(self._from_n)
            if not page.batches:
                raise StopAsyncIteration
            for item in page.batches:
                for n, amount, payment_id, memo in Batch(item.first_n, item.records, item.memos).payments():
                    if n >= self._from_n:
                        self._fetched.append(Payment(channel_id, n, amount, id_or_none(payment_id), memo))
            self._from_n = page.next_n
        return self._fetched.popleft()
