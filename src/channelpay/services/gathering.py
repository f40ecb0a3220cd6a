"""Payments of many tasks that leave together: one PayEach for all that were asked for since the last one left.

A payment costs no frame and no task of its own, only its place in a run; nobody waits for a run to fill.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

import outcome
import trio

from channelpay.batches import pack_memos
from channelpay.errors import LocalError
from channelpay.limits import MAX_BATCH, MAX_MEMOS_BYTES
from channelpay.messages.control import PayEach
from channelpay.services.exceptions import NotReachable

MAX_IN_FLIGHT: Final = 4096
"""Payments without an answer that one client has under way; one more waits for room: the caller slows down."""

MEMO_OVERHEAD: Final = 7  # around each memo: a pair, an index of up to 3 bytes, a length of up to 3 bytes
MEMO_ROOM: Final = MAX_MEMOS_BYTES - 3  # around all memos: the array's length

Answer = tuple[int, int] | LocalError | NotReachable | str
"""What came of a payment: (its number, 1 if its id had been paid before), why it was not made, or (text) is unknown."""


class Waiting:
    """A task that waits for the answer to its payment. Cancelled, it waits no more; the payment goes on."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()

    def abort(self, _: object) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def put(self, answer: Answer) -> None:
        """Wake the task, if it still waits."""
        task, self.task = self.task, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Value(answer))


class Run:
    """Payments on one channel that leave as one PayEach, and who waits for each."""

    __slots__ = ("_fields", "_memo_room", "_memos", "channel_id", "waiting")

    def __init__(self, channel_id: bytes) -> None:
        self.channel_id = channel_id
        self.waiting: list[Waiting] = []
        self._fields: list[int | bytes] = []
        self._memos: list[tuple[int, bytes]] = []
        self._memo_room = MEMO_ROOM

    def has_room(self, memo: bytes) -> bool:
        return len(self.waiting) < MAX_BATCH and (not memo or len(memo) + MEMO_OVERHEAD <= self._memo_room)

    def add(self, amount: int, payment_id: bytes, memo: bytes) -> Waiting:
        """One payment more, of the current task."""
        self._fields += (amount, payment_id)
        if memo:
            self._memos.append((len(self.waiting), memo))
            self._memo_room -= len(memo) + MEMO_OVERHEAD
        waiting = Waiting()
        self.waiting.append(waiting)
        return waiting

    def message(self, call_id: int) -> PayEach:
        """The frame for all of them, numbered from `call_id` on."""
        records = struct.pack(">" + "Q16s" * len(self.waiting), *self._fields)
        return PayEach(call_id, self.channel_id, records, pack_memos(self._memos))


class Gathering:
    """Runs that have not left yet, and how many payments are under way.

    `wake` is called when there is something to take: whoever sends then calls `take`, and later `paid` or `put`
    for every payment, which gives its place back.
    """

    def __init__(self, wake: Callable[[], None], max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._wake = wake
        self._free = max_in_flight
        self._without_room = trio.lowlevel.ParkingLot()
        self._open: dict[bytes, Run] = {}
        self._full: list[Run] = []
        self._closed: str | None = None

    async def pay(self, channel_id: bytes, amount: int, payment_id: bytes, memo: bytes) -> Answer:
        """Have one payment made and wait for its answer; amount, id and memo are sound ones.

        A cancelled payment keeps its place in flight until it is answered. Raises NotReachable after `close`.
        """
        await trio.lowlevel.checkpoint_if_cancelled()  # a call that never began must not pay
        if self._free:
            self._free -= 1
        else:
            await self._take_place()
        run = self._open.get(channel_id)
        if run is None or not run.has_room(memo):
            run = self._next_run(channel_id, run)
        answer: Answer = await trio.lowlevel.wait_task_rescheduled(run.add(amount, payment_id, memo).abort)
        return answer

    def _next_run(self, channel_id: bytes, full: Run | None) -> Run:
        if full is not None:
            self._full.append(full)
        self._wake()
        run = self._open[channel_id] = Run(channel_id)
        return run

    def take(self) -> list[Run]:
        """Everything that may leave now, in the order in which it was asked for on each channel."""
        runs = self._full + list(self._open.values())
        self._full, self._open = [], {}
        return runs

    def paid(self, waiting: Sequence[Waiting], first_n: int, repeated: int) -> None:
        """These payments are numbers `first_n`, `first_n` + 1, ..."""
        for n, one in enumerate(waiting, first_n):
            one.put((n, repeated))
        self._give_places(len(waiting))

    def put(self, waiting: Waiting, answer: Answer) -> None:
        """One payment was refused, or is unknown."""
        waiting.put(answer)
        self._give_places(1)

    def close(self, why: str) -> None:
        """No more payments; those that have not left were never made."""
        self._closed = why
        for run in self.take():
            for one in run.waiting:
                self.put(one, NotReachable(why))
        self._without_room.unpark_all()

    async def _take_place(self) -> None:
        await self._without_room.park()  # whoever wakes us hands over a place
        if self._closed is not None:
            raise NotReachable(self._closed)

    def _give_places(self, count: int) -> None:
        handed_over = len(self._without_room.unpark(count=count)) if self._without_room else 0
        self._free += count - handed_over
