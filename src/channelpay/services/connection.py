"""A node reached over its Unix socket. Spec N-9 to N-14.

Many calls are in flight at once. One task writes everything that was queued meanwhile, one task
reads and wakes whoever waits for what it read; a payment costs no task of its own.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from channelpay.codec import pack, unpack
from channelpay.daemon.outbox import Outbox
from channelpay.errors import ErrorCode, LocalError, Reason, RemoteError
from channelpay.framing import FrameBuffer
from channelpay.limits import MAX_CONTROL_FRAME
from channelpay.messages.control import Call, Cancel, Failed, Method, Paid, PayMany, PayOne, Result, decode
from channelpay.messages.schema import Record
from channelpay.services.backend import Chunk, ChunkAnswer
from channelpay.services.exceptions import NotReachable, PaymentUnknown
from channelpay.services.values import id_or_none

MAX_IN_FLIGHT: Final = 4096
"""Payments without an answer on one connection; one more waits for room: the caller slows down."""

MAX_CHUNKS_IN_FLIGHT: Final = 8
"""PayMany without an answer: about a megabyte of records, enough to keep a node busy while it commits."""

MAX_CALLS_IN_FLIGHT: Final = 192
"""Other calls without an answer; a daemon refuses more than 256 (spec N-11)."""

_READ_BYTES: Final = 64 * 1024
_HEADER: Final = struct.Struct(">IB")
_PAID: Final = Paid.TYPE
_PAY_ONE: Final = PayOne.TYPE

_ANSWERS: Final = (Paid, Result, Failed)

Answer = Paid | Result | LocalError | NotReachable


class _Reply:
    """Where the answer to one call is put, the task that waits for it, if one does, and what it keeps taken."""

    __slots__ = ("answer", "room", "task")

    def __init__(self, room: trio.Semaphore | None) -> None:
        self.answer: Answer | None = None
        self.task: trio.lowlevel.Task | None = None
        self.room = room

    def put(self, answer: Answer) -> None:
        self.answer = answer
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None

    async def wait(self, abandon: Callable[[], None] | None = None) -> Answer:
        """The answer. If the waiting task is cancelled, `abandon` is called."""
        if self.answer is None:

            def aborted(_: object) -> trio.lowlevel.Abort:
                self.task = None
                if abandon is not None:
                    abandon()
                return trio.lowlevel.Abort.SUCCEEDED

            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(aborted)
        assert self.answer is not None
        return self.answer


class Connection:
    """One connection to a node. When it is lost, every call in flight fails, and `lost` says why.

    The caller looks at `lost` before each call: a call on a lost connection would wait for ever.
    """

    def __init__(self, stream: trio.abc.Stream, name: str, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self.lost: str | None = None
        self._stream = stream
        self._name = name
        self._outbox = Outbox(stream)
        self._replies: dict[int, _Reply] = {}
        self._next_call = 1
        self._free = max_in_flight
        self._without_room = trio.lowlevel.ParkingLot()
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
        await trio.lowlevel.checkpoint_if_cancelled()  # a call that never began must not pay
        if self._free:
            self._free -= 1
        else:
            await self._take_place()
        call_id, reply = self._new_reply()
        payload = pack([call_id, channel_id, amount, payment_id, memo])
        self._outbox.put(_HEADER.pack(len(payload) + 1, _PAY_ONE) + payload)
        answer = await reply.wait()
        if type(answer) is Paid:
            return answer.first_n, answer.repeated
        raise self._not_paid(answer, channel_id, id_or_none(payment_id))

    async def pay_chunks(self, channel_id: bytes, chunks: Sequence[Chunk]) -> list[ChunkAnswer]:
        """See Backend.pay_chunks. Several chunks are in flight, sent in order."""
        await trio.lowlevel.checkpoint_if_cancelled()
        answers: list[ChunkAnswer] = []
        waiting: deque[_Reply] = deque()

        async def settle_oldest() -> None:
            answer = await waiting[0].wait()
            waiting.popleft()
            answers.append(answer if type(answer) is Paid else self._not_paid(answer, channel_id, None))

        unsent: list[ChunkAnswer] = []
        for chunk in chunks:
            await self._chunk_room.acquire()
            while waiting and waiting[0].answer is not None:
                await settle_oldest()
            if self.lost is not None:
                unsent = [NotReachable(self.lost)]
            if unsent or (answers and type(answers[-1]) is not Paid):
                self._chunk_room.release()
                break
            call_id, reply = self._new_reply(self._chunk_room)
            self._outbox.put(PayMany(call_id, channel_id, chunk.records, chunk.memos).to_frame())
            waiting.append(reply)
        while waiting:
            await settle_oldest()
        return answers + unsent

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

    def _not_paid(self, answer: Answer, channel_id: bytes, payment_id: bytes | None) -> LocalError | PaymentUnknown:
        if isinstance(answer, LocalError):
            return answer
        return PaymentUnknown(f"{answer}; the payment may have been made or not", channel_id, payment_id)

    def _new_reply(self, room: trio.Semaphore | None = None) -> tuple[int, _Reply]:
        call_id = self._next_call
        self._next_call = call_id + 1
        reply = self._replies[call_id] = _Reply(room)
        return call_id, reply

    def _call_off(self, call_id: int) -> None:
        self._give_place(self._replies.pop(call_id))
        self._outbox.put(Cancel(call_id).to_frame())

    # --- Places in flight ------------------------------------------------------------------

    async def _take_place(self) -> None:
        if self._free:
            self._free -= 1
            return
        await self._without_room.park()  # whoever wakes us hands over a place
        if self.lost is not None:
            raise NotReachable(self.lost)

    def _give_place(self, reply: _Reply) -> None:
        if reply.room is not None:
            reply.room.release()
        elif self._without_room:
            self._without_room.unpark()
        else:
            self._free += 1

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
        message = _paid(payload) if kind == _PAID else decode(kind, payload)
        if not isinstance(message, _ANSWERS):
            raise RemoteError(ErrorCode.MALFORMED, f"a node does not send {type(message).__name__}")
        reply = self._replies.pop(message.call_id, None)
        if reply is None:
            return  # the answer to a call that was called off
        self._give_place(reply)
        reply.put(_refusal(message) if isinstance(message, Failed) else message)

    def _lose(self, why: str) -> None:
        if self.lost is not None:
            return
        self.lost = f"no connection to the node at {self._name}: {why}"
        replies, self._replies = self._replies, {}
        self._without_room.unpark_all()
        for reply in replies.values():
            self._give_place(reply)
            reply.put(NotReachable(self.lost))


def _paid(payload: bytes) -> Paid:
    """What Paid.from_wire gives, at a fraction of its cost: there is one for every payment."""
    values = unpack(payload)
    if len(values) != 4 or not all([type(value) is int for value in values]):  # noqa: C419  a list is faster
        raise RemoteError(ErrorCode.MALFORMED, "Paid has four integers")
    return Paid(*values)


def _refusal(message: Failed) -> LocalError:
    try:
        return LocalError(Reason(message.reason), message.text)
    except ValueError:
        raise RemoteError(ErrorCode.MALFORMED, f"unknown reason {message.reason!r}: {message.text}") from None
