"""A node reached over its Unix socket. Spec N-9 to N-14.

Many calls are in flight at once. One task writes everything that was queued meanwhile, one task
reads and wakes whoever waits for what it read. Payments leave in runs (`gathering`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from channelpay.daemon.outbox import Outbox
from channelpay.errors import ErrorCode, LocalError, Reason, RemoteError
from channelpay.framing import FrameBuffer
from channelpay.limits import MAX_CONTROL_FRAME
from channelpay.messages.control import Call, Cancel, Failed, Method, Paid, PayMany, Result, decode
from channelpay.messages.schema import Record
from channelpay.services.backend import MAX_CHUNKS_IN_FLIGHT, Chunk, ChunkAnswer, failed_payment
from channelpay.services.exceptions import NotReachable, PaymentUnknown
from channelpay.services.gathering import MAX_IN_FLIGHT, Gathering, Waiting
from channelpay.services.replies import Reply, in_order
from channelpay.services.values import id_or_none

MAX_CALLS_IN_FLIGHT: Final = 192
"""Other calls without an answer; a daemon refuses more than 256 (spec N-11)."""

_READ_BYTES: Final = 64 * 1024
_ANSWERS: Final = (Paid, Result, Failed)

Answer = Paid | Result | LocalError | NotReachable


class Connection:
    """One connection to a node. When it is lost, every call in flight fails, and `lost` says why.

    The caller looks at `lost` before each call: a call on a lost connection would wait for ever.
    """

    def __init__(self, stream: trio.abc.Stream, name: str, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self.lost: str | None = None
        self._stream = stream
        self._name = name
        self._outbox = Outbox(stream, self._take_payments)
        self._payments = Gathering(self._outbox.wake, max_in_flight)
        self._paying: dict[int, Waiting] = {}  # payments that have left, by call id
        self._replies: dict[int, Reply[Answer]] = {}  # all other calls
        self._next_call = 1
        self._chunk_room = trio.Semaphore(MAX_CHUNKS_IN_FLIGHT)
        self._call_room = trio.Semaphore(MAX_CALLS_IN_FLIGHT)

    async def run(self) -> None:
        """Read and write until the connection ends."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._outbox.run)
                self._lose(await self._read())
                nursery.cancel_scope.cancel()
        finally:
            self._lose("this client was closed")
            await trio.aclose_forcefully(self._stream)

    # --- Calls -----------------------------------------------------------------------------

    async def pay(self, channel_id: bytes, amount: int, payment_id: bytes, memo: bytes) -> tuple[int, int]:
        """See Backend.pay. A cancelled payment keeps its place in flight until the node answers."""
        answer = await self._payments.pay(channel_id, amount, payment_id, memo)
        if type(answer) is tuple:
            return answer
        if isinstance(answer, str):
            raise _unknown(answer, channel_id, id_or_none(payment_id))
        if isinstance(answer, LocalError):
            raise failed_payment(answer, channel_id, id_or_none(payment_id))
        assert isinstance(answer, NotReachable)
        raise answer

    def _take_payments(self) -> bytes:
        """The payments that were asked for since the last write."""
        frames = []
        for run in self._payments.take():
            first, self._next_call = self._next_call, self._next_call + len(run.waiting)
            self._paying.update(zip(range(first, self._next_call), run.waiting, strict=True))
            frames.append(run.message(first).to_frame())
        return b"".join(frames)

    async def pay_chunks(self, channel_id: bytes, chunks: Sequence[Chunk]) -> list[ChunkAnswer]:
        """See Backend.pay_chunks. Several chunks are in flight, sent in order."""

        async def start(chunk: Chunk) -> Reply[Answer] | None:
            if self.lost is not None:
                return None
            call_id, reply = self._new_reply(self._chunk_room)
            self._outbox.put(PayMany(call_id, channel_id, chunk.records, chunk.memos).to_frame())
            return reply

        found = await in_order(chunks, self._chunk_room, start, lambda answer: type(answer) is Paid)
        answers: list[ChunkAnswer] = [_of_chunk(answer, channel_id) for answer in found]
        if self.lost is not None and len(answers) < len(chunks) and not any(isinstance(a, LocalError) for a in answers):
            answers.append(NotReachable(self.lost))
        return answers

    async def call(self, method: Method) -> Record:
        """See Backend.call. A cancelled call is called off at the node."""
        await self._call_room.acquire()
        if self.lost is not None:
            self._call_room.release()
            raise NotReachable(self.lost)
        call_id, reply = self._new_reply(self._call_room)
        self._outbox.put(Call(call_id, method.NAME, method.encode()).to_frame())
        answer = await reply.wait(lambda: self._call_off(call_id))
        if type(answer) is not Result:
            raise answer if isinstance(answer, LocalError) else NotReachable(str(answer))
        try:
            return method.RESULT.decode(answer.body)
        except RemoteError as error:
            raise NotReachable(f"the node at {self._name} speaks another version: {error}") from None

    def _new_reply(self, room: trio.Semaphore) -> tuple[int, Reply[Answer]]:
        call_id = self._next_call
        self._next_call = call_id + 1
        reply = self._replies[call_id] = Reply(room)
        return call_id, reply

    def _call_off(self, call_id: int) -> None:
        self._replies.pop(call_id).room.release()
        self._outbox.put(Cancel(call_id).to_frame())

    # --- Answers ---------------------------------------------------------------------------

    async def _read(self) -> str:
        """Read until the connection ends; why it did."""
        buffer = FrameBuffer(MAX_CONTROL_FRAME)
        try:
            while data := await self._stream.receive_some(_READ_BYTES):
                buffer.feed(data)
                while (item := buffer.next_frame()) is not None:
                    self._answered(*item)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return "it broke off"
        except RemoteError as error:
            return f"it speaks another version: {error}"
        return "it went away"

    def _answered(self, kind: int, payload: bytes) -> None:
        message = decode(kind, payload)
        if not isinstance(message, _ANSWERS):
            raise RemoteError(ErrorCode.MALFORMED, f"a node does not send {type(message).__name__}")
        call_id = message.call_id
        if call_id in self._paying:
            self._payment_answered(call_id, message)
        elif (reply := self._replies.pop(call_id, None)) is not None:  # else of a call that was called off
            reply.put(_refusal(message) if isinstance(message, Failed) else message)

    def _payment_answered(self, call_id: int, message: Paid | Result | Failed) -> None:
        if isinstance(message, Failed):
            refusal = _refusal(message)
            self._payments.put(self._paying.pop(call_id), refusal)
        elif isinstance(message, Paid) and 1 <= message.count <= len(self._paying):
            pop, calls = self._paying.pop, range(call_id, call_id + message.count)
            waiting = [one for number in calls if (one := pop(number, None)) is not None]
            if len(waiting) != message.count:
                self._paying.update(zip(calls, waiting, strict=False))
                raise RemoteError(ErrorCode.MALFORMED, f"Paid for {calls}, of which some wait for no answer")
            self._payments.paid(waiting, message.first_n, message.repeated)
        else:
            raise RemoteError(ErrorCode.MALFORMED, f"{type(message).__name__} is no answer to a payment")

    def _lose(self, why: str) -> None:
        if self.lost is not None:
            return
        self.lost = f"no connection to the node at {self._name}: {why}"
        paying, self._paying = self._paying, {}
        for waiting in paying.values():
            self._payments.put(waiting, self.lost)
        self._payments.close(self.lost)
        replies, self._replies = self._replies, {}
        for reply in replies.values():
            reply.put(NotReachable(self.lost))


def _of_chunk(answer: Answer, channel_id: bytes) -> ChunkAnswer:
    if isinstance(answer, Paid):
        return answer
    if isinstance(answer, LocalError):
        return failed_payment(answer, channel_id, None)
    return _unknown(str(answer), channel_id, None)


def _unknown(why: str, channel_id: bytes, payment_id: bytes | None) -> PaymentUnknown:
    return PaymentUnknown(f"{why}; the payment may have been made or not", channel_id, payment_id)


def _refusal(message: Failed) -> LocalError:
    try:
        return LocalError(Reason(message.reason), message.text)
    except ValueError:
        raise RemoteError(ErrorCode.MALFORMED, f"unknown reason {message.reason!r}: {message.text}") from None
