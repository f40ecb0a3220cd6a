"""A small synchronous client of the daemon's control socket: no event loop, quick to start. Spec N-9 to N-14."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from channelpay.batches import pack_memos, pack_record
from channelpay.cli.exits import CommandError, Exit, exit_of_reason
from channelpay.errors import RemoteError
from channelpay.framing import FrameBuffer
from channelpay.limits import MAX_CONTROL_FRAME
from channelpay.messages import control as wire
from channelpay.messages.peer import Message
from channelpay.messages.schema import Record

R = TypeVar("R", bound=Record)

_RETRY_S: Final = 0.05
_CHUNK: Final = 256 * 1024
_STOPPING: Final = "it may still be draining"
_BULKS_IN_FLIGHT: Final = 4
"""PayMany frames sent ahead of their answers: the daemon never waits for us."""


class _DaemonGone(CommandError):
    """The connection ended before the answer came."""


class Control:
    """One connection to the daemon at a Unix socket; calls are answered one after the other.

    Every method raises CommandError: NOT_REACHABLE when the daemon is not there, UNKNOWN when an
    answer did not come in time or the connection broke under a call that changes something, and
    the exit code of the daemon's reason when it refuses.
    """

    def __init__(self, connection: socket.socket, timeout_s: float | None, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._clock = clock
        self._buffer = FrameBuffer(MAX_CONTROL_FRAME)
        self._next_id = 1

    @classmethod
    def connect(
        cls,
        path: Path,
        *,
        wait_s: float = 0.0,
        timeout_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> Self:
        """Connect to the socket at `path`, trying again for `wait_s` seconds while nobody listens."""
        give_up = clock() + wait_s
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(path))
                return cls(connection, timeout_s, clock)
            except OSError as error:
                connection.close()
                waiting = isinstance(error, FileNotFoundError | ConnectionRefusedError | BlockingIOError)
                if not waiting or clock() >= give_up:
                    raise _not_reachable(path, error, waiting) from None
            pause(_RETRY_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def call(self, method: wire.Method, result: type[R], changes: str = "") -> R:
        """What the daemon answers to `method`.

        `changes` tells what may have happened when the answer is lost; empty for a call that only reads.
        """
        call_id = self._take_id()
        answer = self._exchange(wire.Call(call_id, method.NAME, method.encode()), call_id, changes)
        if not isinstance(answer, wire.Result):
            raise _unreadable(f"{type(answer).__name__} is no answer to {method.NAME}", changes)
        try:
            return result.decode(answer.body)
        except RemoteError as error:
            raise _unreadable(str(error), changes) from None

    def pay(self, channel_id: bytes, amount: int, payment_id: bytes, memo: bytes, changes: str) -> wire.Paid:
        """Pay once; returns when the payee holds the payment."""
        call_id = self._take_id()
        memos = pack_memos([(0, memo)] if memo else [])
        request = wire.PayEach(call_id, channel_id, pack_record(amount, payment_id), memos)
        return _paid(self._exchange(request, call_id, changes), changes)

    def pay_in_bulk(
        self, channel_id: bytes, bulks: Iterable[bytes], changes: str
    ) -> Iterator[wire.Paid | CommandError]:
        """Pay `bulks` of records, a few ahead of their answers; one outcome for each that was sent, in order.

        Nothing more is sent once one was refused.
        """
        waiting: list[int] = []
        outcomes: dict[int, wire.Paid | CommandError] = {}
        refused = False
        source = iter(bulks)
        while True:
            while len(waiting) < _BULKS_IN_FLIGHT and not refused and (records := next(source, None)) is not None:
                waiting.append(self._take_id())
                self._send(wire.PayMany(waiting[-1], channel_id, records, b""), changes)
            if not waiting:
                return
            while waiting[0] not in outcomes:
                answer = self._receive(changes)
                call_id = getattr(answer, "call_id", 0)
                try:
                    outcomes[call_id] = _paid(_accepted(answer), changes)
                except CommandError as error:
                    outcomes[call_id] = error
                    refused = True
            yield outcomes.pop(waiting.pop(0))

    def stop(self) -> None:
        """Ask the daemon to drain and stop; returns once it has closed this connection."""
        self._send(wire.Call(self._take_id(), wire.Stop.NAME, wire.Stop().encode()), _STOPPING)
        try:
            while True:
                _accepted(self._receive(_STOPPING))
        except _DaemonGone:
            return

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _exchange(self, request: Message, call_id: int, changes: str) -> Message:
        self._send(request, changes)
        while True:
            answer = self._receive(changes)
            if getattr(answer, "call_id", None) == call_id:
                return _accepted(answer)

    def _send(self, message: Message, changes: str) -> None:
        try:
            self._connection.settimeout(self._timeout_s)
            self._connection.sendall(message.to_frame())
        except OSError as error:
            raise _lost(error, changes) from None

    def _receive(self, changes: str) -> Message:
        """The next message; the time-out counts from here."""
        give_up = None if self._timeout_s is None else self._clock() + self._timeout_s
        try:
            while (found := self._buffer.next_frame()) is None:
                left = None if give_up is None else give_up - self._clock()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._connection.settimeout(left)
                data = self._connection.recv(_CHUNK)
                if not data:
                    raise ConnectionResetError("the daemon closed the connection")
                self._buffer.feed(data)
            return wire.decode(*found)
        except OSError as error:
            raise _lost(error, changes) from None
        except RemoteError as error:
            raise _unreadable(str(error), changes) from None


def _accepted(answer: Message) -> Message:
    """`answer` itself; raises CommandError if it is a refusal."""
    if isinstance(answer, wire.Failed):
        raise CommandError(exit_of_reason(answer.reason), answer.reason, answer.text)
    return answer


def _paid(answer: Message, changes: str) -> wire.Paid:
    if not isinstance(answer, wire.Paid):
        raise _unreadable(f"{type(answer).__name__} is no answer to a payment", changes)
    return answer


def _not_reachable(path: Path, error: OSError, absent: bool) -> CommandError:
    why = "" if absent else f" ({error.strerror or error})"
    return CommandError(
        Exit.NOT_REACHABLE,
        "not-reachable",
        f"no daemon answers at {path}{why}: start it with 'channelpay run', or give a starting one time with --wait",
    )


def _lost(error: OSError, changes: str) -> CommandError:
    if isinstance(error, TimeoutError):
        reason = "unknown-outcome" if changes else "timed-out"
        return CommandError(Exit.UNKNOWN, reason, "the daemon did not answer in time" + (changes and f": {changes}"))
    what = "the connection to the daemon broke before it answered"
    if changes:
        return _DaemonGone(Exit.UNKNOWN, "unknown-outcome", f"{what}: {changes}")
    return _DaemonGone(Exit.NOT_REACHABLE, "not-reachable", f"{what}: is it stopping?")


def _unreadable(detail: str, changes: str) -> CommandError:
    what = f"the daemon's answer cannot be read ({detail}): do the daemon and this command have the same version?"
    if changes:
        return CommandError(Exit.UNKNOWN, "unknown-outcome", f"{what} {changes}")
    return CommandError(Exit.INTERNAL, "internal", what)
