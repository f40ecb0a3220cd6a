"""How a client reaches its node: over its socket (`connection`), or in this process (here)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from channelpay.errors import LocalError
from channelpay.messages.control import Method, Paid, PayMany, PayOne
from channelpay.messages.schema import Record
from channelpay.services.exceptions import NotReachable, PaymentUnknown


class Chunk(NamedTuple):
    """Payments that are queued all or none: packed records (24 bytes each) and packed memos."""

    records: bytes
    memos: bytes


ChunkAnswer = Paid | LocalError | NotReachable | PaymentUnknown
"""What came of one chunk; NotReachable: it was never sent."""


class Backend(Protocol):
    """A node, wherever it runs. All raise LocalError (refused), NotReachable or PaymentUnknown."""

    async def call(self, method: Method) -> Record:
        """The method's result record."""

    async def pay(self, channel_id: bytes, amount: int, payment_id: bytes, memo: bytes) -> tuple[int, int]:
        """(payment number, 1 if the id had been paid before) once the payee holds it."""

    async def pay_chunks(self, channel_id: bytes, chunks: Sequence[Chunk]) -> list[ChunkAnswer]:
        """Pay in order until a chunk fails; one answer a chunk, at most one NotReachable at the end for the rest.

        Chunks that were in flight when one failed may have been paid: their answers come after it.
        """


class Api(Protocol):
    """The local interface of a daemon in this process."""

    async def call(self, method: Method) -> Record: ...

    async def pay_one(self, message: PayOne) -> Paid: ...

    async def pay_many(self, message: PayMany) -> Paid: ...


class InProcess:
    """A node that runs in this process."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def call(self, method: Method) -> Record:
        return await self._api.call(method)

    async def pay(self, channel_id: bytes, amount: int, payment_id: bytes, memo: bytes) -> tuple[int, int]:
        paid = await self._api.pay_one(PayOne(0, channel_id, amount, payment_id, memo))
        return paid.first_n, paid.repeated

    async def pay_chunks(self, channel_id: bytes, chunks: Sequence[Chunk]) -> list[ChunkAnswer]:
        answers: list[ChunkAnswer] = []
        for records, memos in chunks:
            try:
                answers.append(await self._api.pay_many(PayMany(0, channel_id, records, memos)))
            except LocalError as refusal:
                answers.append(refusal)
                break
        return answers
