"""How a client reaches its node: over its socket (`connection`), or in this process (here)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

import trio

from channelpay.errors import LocalError, Reason
from channelpay.messages.control import Method, Paid, PayEach, PayMany, Refusal
from channelpay.messages.schema import Record
from channelpay.services.exceptions import NotReachable, PaymentUnknown
from channelpay.services.gathering import Gathering, Waiting
from channelpay.services.replies import Reply, in_order
from channelpay.services.values import id_or_none

MAX_CHUNKS_IN_FLIGHT: Final = 8
"""PayMany without an answer: about a megabyte of records, enough to keep a node busy while it commits."""


class Chunk(NamedTuple):
    """Payments that are queued all or none: packed records (24 bytes each) and packed memos."""

    records: bytes
    memos: bytes


ChunkAnswer = Paid | LocalError | NotReachable | PaymentUnknown
"""What came of one chunk; NotReachable: it was never sent."""


def failed_payment(error: LocalError, channel_id: bytes, payment_id: bytes | None) -> LocalError | PaymentUnknown:
    """What to raise for a payment that was answered by `error`, which may be that nobody knows (spec N-7)."""
    if error.reason in (Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME):
        return PaymentUnknown(str(error), channel_id, payment_id)
    return error


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

    async def wait_room(self, channel_id: bytes) -> None:
        """Until the channel takes payments and its queue has room for some."""

    def pay_each(self, message: PayEach, done: Callable[[Paid | Refusal], None]) -> None:
        """Queue payments; `done` is told of every one of them, now or later."""

    def pay_many(self, message: PayMany, done: Callable[[Paid | LocalError], None]) -> None:
        """Queue payments all or none, or raise LocalError; `done` is told once what came of them."""

    def before_turn(self, hand_over: Callable[[], None]) -> Callable[[], None]:
        """Have `hand_over` called at the beginning of every turn of the node; gives what asks for a turn."""


class InProcess:
    """A node that runs in this process: what its tasks ask for between two turns of it is handed over at once."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._payments = Gathering(api.before_turn(self._hand_over))
        self._started: set[bytes] = set()  # channels that were seen to take payments
        self._chunk_room = trio.Semaphore(MAX_CHUNKS_IN_FLIGHT)

    async def call(self, method: Method) -> Record:
        return await self._api.call(method)

    async def pay(self, channel_id: bytes, amount: int, payment_id: bytes, memo: bytes) -> tuple[int, int]:
        if channel_id not in self._started:
            await self._api.wait_room(channel_id)
            self._started.add(channel_id)
        answer = await self._payments.pay(channel_id, amount, payment_id, memo)
        if type(answer) is tuple:
            return answer
        assert isinstance(answer, LocalError)
        raise failed_payment(answer, channel_id, id_or_none(payment_id))

    def _hand_over(self) -> None:
        for run in self._payments.take():
            self._api.pay_each(run.message(0), partial(self._answered, run.waiting))

    def _answered(self, waiting: list[Waiting], answer: Paid | Refusal) -> None:
        first = answer.call_id
        if isinstance(answer, Refusal):
            self._payments.put(waiting[first], answer.error)
        else:
            self._payments.paid(waiting[first : first + answer.count], answer.first_n, answer.repeated)

    async def pay_chunks(self, channel_id: bytes, chunks: Sequence[Chunk]) -> list[ChunkAnswer]:
        """Several chunks are under way, queued in order."""

        async def start(chunk: Chunk) -> Reply[Paid | LocalError]:
            reply: Reply[Paid | LocalError] = Reply(self._chunk_room)
            try:
                await self._api.wait_room(channel_id)
                self._api.pay_many(PayMany(0, channel_id, chunk.records, chunk.memos), reply.put)
            except LocalError as refusal:
                reply.put(refusal)
            return reply

        answers: list[Paid | LocalError] = await in_order(
            chunks, self._chunk_room, start, lambda answer: type(answer) is Paid
        )
        return [a if isinstance(a, Paid) else failed_payment(a, channel_id, None) for a in answers]
