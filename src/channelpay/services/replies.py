"""Where the answer to a call is put, and calls that follow one another with several under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

import trio

A = TypeVar("A")
C = TypeVar("C")


class Reply(Generic[A]):
    """The answer to one call, the task that waits for it, if one does, and the place in `room` that it keeps."""

    __slots__ = ("answer", "room", "task")

    def __init__(self, room: trio.Semaphore) -> None:
        self.answer: A | None = None
        self.task: trio.lowlevel.Task | None = None
        self.room = room

    def put(self, answer: A) -> None:
        """The answer came."""
        self.answer = answer
        self.room.release()
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None

    async def wait(self, abandon: Callable[[], None] | None = None) -> A:
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


async def in_order(
    calls: Iterable[C],
    room: trio.Semaphore,
    start: Callable[[C], Awaitable[Reply[A] | None]],
    succeeded: Callable[[A], bool],
) -> list[A]:
    """Start `calls` one after the other, as many at once as `room` has places; the answers of those started.

    None is started after one that did not succeed, or once `start` gives None.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    answers: list[A] = []
    waiting: deque[Reply[A]] = deque()
    for call in calls:
        await room.acquire()
        while waiting and waiting[0].answer is not None:
            answers.append(await waiting.popleft().wait())
        reply = await start(call) if not answers or succeeded(answers[-1]) else None
        if reply is None:
            room.release()
            break
        waiting.append(reply)
    while waiting:
        answers.append(await waiting[0].wait())
        waiting.popleft()
    return answers
