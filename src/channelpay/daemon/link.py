"""A connection: a session on a stream that nobody overhears. Spec chapter 4.

`dialling.dial` and `accepting.serve` make such streams; `open_link` runs a session on any, which is what tests use.

A `Link` has no task of its own while it is idle. Whoever waits in `receive` or `hand_on` reads, answers pings and sees
time-outs. `send` gives bytes to the transport at once; only what the transport does not take waits for a task, which
writes it and ends, so reading never waits for writing (spec T-26).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final, NoReturn

import trio

from channelpay import __version__
from channelpay.daemon.secure import LinkClosed, cause_of
from channelpay.errors import ErrorCode, RemoteError
from channelpay.limits import LINGER_TIMEOUT_S, MAX_OUTGOING_BYTES
from channelpay.messages.peer import Message, Role
from channelpay.session import Session, Side

AGENT: Final = f"channelpay/{__version__}"

_PIECE_BYTES: Final = 64 * 1024
"""Bytes sent at once: more would be encrypted, and kept, while the peer does not read."""


def _most_queued() -> int:
    return MAX_OUTGOING_BYTES


class Link:
    """One authenticated connection; made by `dial`, `serve` or `open_link`.

    `initiated`: whether this side dialled. `sent_bytes`, `received_bytes`: bytes of whole frames and their
    headers, handshake and pings included, as they stand inside TLS (about 22 bytes more for each TLS record
    travel); sent ones are counted when the transport has taken them.
    """

    __slots__ = (
        "_ended", "_held_bytes", "_inbox", "_queue", "_queued_bytes", "_reading", "_send_now", "_sent", "_session",
        "_stream", "_writer_scope", "_writers", "initiated", "most_queued", "received_bytes", "sent_bytes",
    )  # fmt: skip

    def __init__(self, stream: trio.abc.Stream, session: Session, writers: trio.Nursery) -> None:
        self.initiated = session.side is Side.CONNECTED
        self.sent_bytes = 0
        self.received_bytes = 0
        self._stream = stream
        self._send_now = getattr(stream, "send_now", None)  # see secure.Secure
        self._session = session
        self._ended: RemoteError | LinkClosed | None = None
        self._inbox: list[Message] = []  # what came right behind AUTH
        self._reading: trio.CancelScope | None = None  # of whoever reads, or has read
        self._queue: list[bytes] = []  # a deque would take more memory than all else here, and is empty nearly always
        self._held_bytes = 0  # given to `send_now`, kept by the stream until the next send_all
        self._queued_bytes = 0  # all that the transport has not taken
        self._writers = writers
        self._writer_scope: trio.CancelScope | None = None  # of the task that writes, while there is one
        self._sent: trio.Event | None = None  # set when the transport has taken more, if anybody waits for that
        self.most_queued: Callable[[], int] = _most_queued

    def __repr__(self) -> str:
        return f"<Link {'to' if self.initiated else 'from'} {self.peer_id.hex()[:16]} {self.peer_role.name}>"

    @property
    def peer_id(self) -> bytes:
        """The peer's identity key, 32 bytes, as proved by AUTH."""
        return self._session.peer_id

    @property
    def peer_role(self) -> Role:
        return self._session.peer_role

    @property
    def peer_ledger_ids(self) -> tuple[bytes, ...]:
        """The ledgers that the peer says it uses, 32 bytes each."""
        return self._session.peer_ledger_ids

    @property
    def peer_agent(self) -> str:
        """What software the peer says it is."""
        return self._session.peer_agent

    @property
    def ended(self) -> RemoteError | LinkClosed | None:
        """Why the link is over, or None while it lives."""
        return self._ended

    @property
    def queued_bytes(self) -> int:
        """Bytes given to `send` that the transport has not yet taken."""
        return self._queued_bytes

    # --- Sending -----------------------------------------------------------------------------

    def send(self, frames: bytes) -> None:
        """Send whole frames; never waits and never raises.

        What is given to a link that is over is dropped, as bytes in flight are when a connection breaks: the
        caller learns of the end from `receive`. With more than `most_queued()` bytes waiting, the link ends.
        """
        if self._ended is None and frames:
            self._send(frames)

    async def wait_queued_below(self, size: int) -> None:
        """Wait until fewer than `size` bytes are queued, or the link is over: for senders of long rows."""
        await trio.lowlevel.checkpoint()
        while self._ended is None and self._queued_bytes >= size:
            await self._wait_sent()

    async def _wait_sent(self) -> None:
        if self._sent is None:
            self._sent = trio.Event()
        await self._sent.wait()

    def _send(self, frames: bytes) -> None:
        if not self._queued_bytes and self._send_now is not None and len(frames) <= _PIECE_BYTES:
            self._send_at_once(frames)
        else:
            self._queue.append(frames)
            self._queued_bytes += len(frames)
        if self._queued_bytes and self._queued_bytes > (most := self.most_queued()):  # spec T-27
            self._queue.clear()
            self._finish(LinkClosed(f"the peer does not read: more than {most} bytes wait for it"))
        elif self._queued_bytes and self._writer_scope is None:
            self._writer_scope = trio.CancelScope(shield=True)
            self._writers.start_soon(self._write, self._writer_scope)

    def _send_at_once(self, frames: bytes) -> None:
        """Without a task, as nothing else waits."""
        assert self._send_now is not None
        try:
            if self._send_now(frames):
                self.sent_bytes += len(frames)
            else:
                self._held_bytes = self._queued_bytes = len(frames)
        except trio.BrokenResourceError as error:
            self._finish(LinkClosed(f"connection lost while sending{cause_of(error)}"))

    async def _write(self, scope: trio.CancelScope) -> None:
        """Send what is queued. Cancelling the link's owner must not stop this before it has left."""
        try:
            with scope:
                await self._write_all()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._queue.clear()
            self._finish(LinkClosed(f"connection lost while sending{cause_of(error)}"))
        finally:
            self._writer_scope = None
            self._tell_sent()

    async def _write_all(self) -> None:
        while self._queue or self._held_bytes:
            piece = self._next_piece()
            await self._stream.send_all(piece)
            size, self._held_bytes = len(piece) + self._held_bytes, 0
            self.sent_bytes += size
            self._queued_bytes -= size
            self._tell_sent()

    def _next_piece(self) -> bytes:
        size = count = 0
        while count < len(self._queue) and size < _PIECE_BYTES:
            size += len(self._queue[count])
            count += 1
        piece = b"".join(self._queue[:count])
        del self._queue[:count]
        return piece

    def _tell_sent(self) -> None:
        if self._sent is not None:
            self._sent.set()
            self._sent = None

    # --- Receiving ---------------------------------------------------------------------------

    async def receive(self) -> list[Message]:
        """The next application messages, in order, at least one: all that one reading of the stream brought.

        One task at a time, which should be here whenever it has nothing else to do: pings are answered here.
        When the link is over and what came before has been taken, raises RemoteError for a fault of the peer's
        (which has been told), or LinkClosed for any other end.
        """
        if self._inbox:
            await trio.lowlevel.checkpoint()
            messages, self._inbox = self._inbox, []
            return messages
        while self._ended is None:
            if messages := await self._read():
                return messages
        raise self._ended

    async def hand_on(self, take: Callable[[list[Message]], None]) -> NoReturn:
        """Give `take` what `receive` would, again and again, for less; raises what `receive` does."""
        if self._inbox:
            take(await self.receive())
        while self._ended is None:
            with self._until_due() as self._reading:  # for many readings: a time that moves away costs nothing
                while self._ended is None:
                    if messages := await self._read_once():
                        take(messages)
            self._look_at_clock()
        raise self._ended

    async def _read(self) -> list[Message]:
        """Read once, or until the session's time has come."""
        messages: list[Message] = []
        with self._until_due() as self._reading:
            messages = await self._read_once()
        self._look_at_clock()
        return messages

    def _until_due(self) -> trio.CancelScope:
        deadline = self._session.next_deadline()
        return trio.CancelScope(deadline=math.inf if deadline is None else deadline)

    def _look_at_clock(self) -> None:
        """Let the session do so, if it was the time that ended the reading."""
        if self._ended is None and self._reading is not None and self._reading.cancelled_caught:
            self._take(None)

    async def _read_once(self) -> list[Message]:
        try:
            data = await self._stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._finish(LinkClosed(f"connection lost{cause_of(error)}"))
            return []
        if self._ended is not None:  # meanwhile, by somebody else: what was read now is dropped
            return []
        if data:
            return self._take(data)
        self._finish(LinkClosed(self._why_closed()))
        return []

    def _take(self, data: bytes | bytearray | None) -> list[Message]:
        """Give the session what came, or the time; send what it has to say, and end if it has ended."""
        session, now = self._session, trio.current_time()
        messages: list[Message] = []
        if data is None:
            session.handle_timer(now)
        else:
            self.received_bytes += len(data)
            messages = session.receive(data, now)
        if out := session.outgoing():
            self._send(out)
        if session.error is not None:
            self._finish(session.error)
        elif session.farewell is not None:
            farewell = session.farewell
            self._finish(LinkClosed(f"ended by the peer: {_code_name(farewell.code)}: {farewell.text!r}", farewell))
        return messages

    def _why_closed(self) -> str:
        if self._session.established:
            return "the peer closed the connection"
        return "the peer closed the connection before AUTH: it does not want us, or speaks another version"

    # --- Beginning and end -------------------------------------------------------------------

    async def _establish(self, began: float) -> None:
        self._session.start(began)
        self._send(self._session.outgoing())
        while self._ended is None and not self._session.established:
            self._inbox = await self._read()
        if self._ended is not None and not self._inbox:
            raise self._ended

    def end(self, error: RemoteError | None = None) -> None:
        """Be over from now on: what was not yet taken is dropped, `receive` raises LinkClosed.

        `error`, if given, is the ERROR that tells the peer why (`REPLACED`, `STOPPING`, or its own fault). What is
        queued still goes out while the link is closed by the task that opened it. Does nothing the second time.
        """
        if self._ended is not None:
            return
        self._inbox.clear()
        if error is not None:
            self._session.refuse(error)
            if out := self._session.outgoing():
                self._send(out)
        self._finish(LinkClosed("ended here" if error is None else f"ended here: {error}"))

    def _finish(self, why: RemoteError | LinkClosed) -> None:
        """The first reason stays."""
        if self._ended is None:
            self._ended = why
        if self._reading is not None:
            self._reading.cancel()
        self._tell_sent()

    async def _close(self) -> None:
        """`end`, then deliver what is queued and close; never takes longer than LINGER_TIMEOUT_S."""
        self.end()
        with trio.move_on_after(LINGER_TIMEOUT_S, shield=True):
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read_on)
                    await self._say_end()
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # it is gone already
        if self._writer_scope is not None:
            self._writer_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    async def _say_end(self) -> None:
        """Let the queue leave, then tell the peer that nothing follows, so that it reads to the end and closes too."""
        while self._writer_scope is not None:
            await self._wait_sent()
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()

    async def _read_on(self) -> None:
        """Read to the end. Bytes left unread would make the system reset the connection, and the peer might lose
        the ERROR that is under way to it."""
        while await self._stream.receive_some():
            pass


@asynccontextmanager
async def open_link(stream: trio.abc.Stream, session: Session, began: float | None = None) -> AsyncIterator[Link]:
    """Run `session` (not yet started) on `stream` and give the link once the peer is authenticated.

    `began` is when the connection was made, on trio's clock. Raises RemoteError or LinkClosed if AUTH does not
    come. A RemoteError that leaves the block is sent to the peer as an ERROR. On the way out the link is closed.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as writers:
        link = Link(stream, session, writers)
        try:
            await link._establish(trio.current_time() if began is None else began)
            yield link
        # Raised again outside the nursery, which would wrap it into a group.
        except Exception as error:
            failure = error
            link.end(_peer_fault(error))
        finally:
            await link._close()
    if failure is not None:
        raise failure


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group of groups; a lone one is its own leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _peer_fault(error: Exception) -> RemoteError | None:
    """The first fault of the peer's in `error`, which may be a group."""
    return next((leaf for leaf in leaves(error) if isinstance(leaf, RemoteError)), None)


def _code_name(code: int) -> str:
    try:
        return ErrorCode(code).name.lower()
    except ValueError:
        return f"code {code}"
