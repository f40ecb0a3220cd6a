"""Connections: a session on a stream, dialled or accepted. Spec chapter 4.

`dial` and `serve` make TLS connections; `open_link` runs a session on any trio stream, which is what tests use.

A `Link` has a reader and a writer task of its own, so reading never waits for writing (spec T-26): the reader
collects messages until they are taken, answers pings and sees time-outs; the writer joins all that is queued into
one send for each wake-up.
"""

from __future__ import annotations

import ipaddress
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog
import trio

from channelpay import __version__
from channelpay.crypto import SigningKey
from channelpay.daemon.admission import Doorstep, Guests, Refusal, Visitor
from channelpay.daemon.outside import random_bytes
from channelpay.daemon.quiet_log import QuietLog
from channelpay.daemon.tls import Certificate, client_context, fresh_certificate
from channelpay.errors import ChannelpayError, ErrorCode, RemoteError
from channelpay.home.config import Admission
from channelpay.limits import (
    HANDSHAKE_TIMEOUT_S,
    LINGER_TIMEOUT_S,
    MAX_CONNECTIONS,
    MAX_GUESTS,
    MAX_INCOMING_BYTES,
    MAX_OUTGOING_BYTES,
)
from channelpay.messages.peer import Error, Message, Role
from channelpay.session import Session, Side

AGENT: Final = f"channelpay/{__version__}"

_READ_BYTES: Final = 16 * 1024
"""The most that one read of a TLS record gives; the stream below reads 64 KiB at a time."""

_log = structlog.get_logger("channelpay.link")


class LinkClosed(ChannelpayError):
    """The connection is over and the peer broke no rule that we saw: it went away, or this side ended it.

    `farewell` is the ERROR with which the peer ended it, or None.
    """

    def __init__(self, text: str, farewell: Error | None = None) -> None:
        super().__init__(text)
        self.farewell = farewell


class Link:
    """One authenticated connection; made by `dial`, `serve` or `open_link`.

    `initiated`: whether this side dialled. `sent_bytes`, `received_bytes`: bytes of whole frames and their
    headers, handshake and pings included, as they stand inside TLS (about 22 bytes more for each TLS record
    travel); sent ones are counted when the transport has taken them.
    """

    def __init__(self, stream: trio.abc.Stream, session: Session) -> None:
        self.initiated = session.side is Side.CONNECTED
        self.sent_bytes = 0
        self.received_bytes = 0
        self._stream = stream
        self._session = session
        self._inbox: list[Message] = []
        self._inbox_bytes = 0
        self._queue: list[bytes] = []
        self._queued_bytes = 0  # with those that the writer has taken and not yet sent
        self._ended: RemoteError | LinkClosed | None = None
        self._news = trio.lowlevel.ParkingLot()  # waits for messages, AUTH or the end
        self._room = trio.lowlevel.ParkingLot()  # the reader waits for the inbox to be taken
        self._work = trio.lowlevel.ParkingLot()  # the writer waits for bytes or the end
        self._sent = trio.lowlevel.ParkingLot()  # waits for queued bytes to leave
        # Cancelling the link's owner must not stop these two before what is queued has left.
        self._reader_scope = trio.CancelScope(shield=True)
        self._writer_scope = trio.CancelScope(shield=True)
        self._reader_done = trio.Event()
        self._writer_done = trio.Event()

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
        """Queue whole frames; never waits and never raises.

        What is given to a link that is over is dropped, as bytes in flight are when a connection breaks: the
        caller learns of the end from `receive`. With more than MAX_OUTGOING_BYTES waiting, the link ends.
        """
        if self._ended is None and frames:
            self._enqueue(frames)

    async def wait_queued_below(self, size: int) -> None:
        """Wait until fewer than `size` bytes are queued, or the link is over: for senders of long rows."""
        await trio.lowlevel.checkpoint()
        while self._ended is None and self._queued_bytes >= size:
            await self._sent.park()

    def _enqueue(self, frames: bytes) -> None:
        self._queue.append(frames)
        self._queued_bytes += len(frames)
        if self._queued_bytes > MAX_OUTGOING_BYTES:  # spec T-27
            self._queue.clear()
            self._finish(LinkClosed(f"the peer does not read: more than {MAX_OUTGOING_BYTES} bytes wait for it"))
        self._work.unpark_all()

    async def _write(self) -> None:
        try:
            with self._writer_scope:
                await self._write_all()
                await _send_eof(self._stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._finish(LinkClosed(f"connection lost while sending{_cause(error)}"))
        finally:
            self._writer_done.set()

    async def _write_all(self) -> None:
        """Send what is queued, until the link is over and the queue is empty."""
        while self._queue or self._ended is None:
            if not self._queue:
                await self._work.park()
                continue
            data = b"".join(self._queue)
            self._queue.clear()
            await self._stream.send_all(data)
            self.sent_bytes += len(data)
            self._queued_bytes -= len(data)
            self._sent.unpark_all()

    # --- Receiving ---------------------------------------------------------------------------

    async def receive(self) -> list[Message]:
        """All application messages that have been read, in order, at least one.

        One task at a time. When the link is over and all that came before has been taken, raises RemoteError
        for a fault of the peer's (which has been told), or LinkClosed for any other end.
        """
        await trio.lowlevel.checkpoint()
        while not self._inbox:
            if self._ended is not None:
                raise self._ended
            await self._news.park()
        messages, self._inbox, self._inbox_bytes = self._inbox, [], 0
        self._room.unpark_all()
        return messages

    async def _read(self) -> None:
        try:
            with self._reader_scope:
                await self._read_all()
                self._finish(LinkClosed(self._why_closed()))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._finish(LinkClosed(f"connection lost{_cause(error)}"))
        finally:
            self._reader_done.set()

    async def _read_all(self) -> None:
        """Read to the end of the stream, at the pace at which messages are taken."""
        while True:
            while self._ended is None and self._inbox_bytes >= MAX_INCOMING_BYTES:
                await self._room.park()
            deadline = self._session.next_deadline()
            data = None
            with trio.move_on_at(math.inf if deadline is None else deadline):
                data = await self._stream.receive_some(_READ_BYTES)
            if data == b"":
                return
            self._take(data)

    def _take(self, data: bytes | bytearray | None) -> None:
        """Give the session what came, or let it look at the clock; after the end, nothing but read on.

        Reading on matters: bytes left unread would make the system reset the connection, and the peer might
        lose the ERROR that is under way to it.
        """
        if self._ended is not None:
            return
        session, now = self._session, trio.current_time()
        if data is None:
            session.handle_timer(now)
        else:
            self.received_bytes += len(data)
            self._inbox += session.receive(data, now)
            # A large frame's bytes come before it is whole; pings, which nobody takes, must not fill the inbox.
            self._inbox_bytes = self._inbox_bytes + len(data) if self._inbox else 0
        self._after_session()
        self._news.unpark_all()

    def _after_session(self) -> None:
        """Queue what the session has to say, and end if it has ended."""
        if out := self._session.outgoing():
            self._enqueue(out)
        if self._session.error is not None:
            self._finish(self._session.error)
        elif self._session.farewell is not None:
            farewell = self._session.farewell
            self._finish(LinkClosed(f"ended by the peer: {_code_name(farewell.code)}: {farewell.text!r}", farewell))

    def _why_closed(self) -> str:
        if self._session.established:
            return "the peer closed the connection"
        return "the peer closed the connection before AUTH: it does not want us, or speaks another version"

    # --- Beginning and end -------------------------------------------------------------------

    def _start(self, began: float) -> None:
        self._session.start(began)
        self._enqueue(self._session.outgoing())

    async def _wait_established(self) -> None:
        while not self._session.established:
            if self._ended is not None:
                raise self._ended
            await self._news.park()

    def end(self, error: RemoteError | None = None) -> None:
        """Be over from now on: what was read and not yet taken is dropped, `receive` raises LinkClosed.

        `error`, if given, is the ERROR that tells the peer why (`REPLACED`, `STOPPING`, or its own fault). What is
        queued still goes out while the link is closed by the task that opened it. Does nothing the second time.
        """
        if self._ended is not None:
            return
        self._inbox.clear()
        if error is not None:
            self._session.refuse(error)
            if out := self._session.outgoing():
                self._enqueue(out)
        self._finish(LinkClosed("ended here" if error is None else f"ended here: {error}"))

    async def close(self, error: RemoteError | None = None) -> None:
        """`end`, then deliver what is queued and close; never takes longer than LINGER_TIMEOUT_S."""
        self.end(error)
        with trio.move_on_after(LINGER_TIMEOUT_S, shield=True):
            await self._writer_done.wait()
            await self._reader_done.wait()
        self._reader_scope.cancel()
        self._writer_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    def _finish(self, why: RemoteError | LinkClosed) -> None:
        """The first reason stays."""
        if self._ended is None:
            self._ended = why
        for lot in (self._news, self._room, self._work, self._sent):
            lot.unpark_all()


@asynccontextmanager
async def open_link(stream: trio.abc.Stream, session: Session, began: float | None = None) -> AsyncIterator[Link]:
    """Run `session` (not yet started) on `stream` and give the link once the peer is authenticated.

    `began` is when the connection was made, on trio's clock. Raises RemoteError or LinkClosed if AUTH does not
    come. A RemoteError that leaves the block is sent to the peer as an ERROR. On the way out the link is closed.
    """
    link = Link(stream, session)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        link._start(trio.current_time() if began is None else began)
        nursery.start_soon(link._read)
        nursery.start_soon(link._write)
        try:
            await link._wait_established()
            yield link
        # Raised again outside the nursery, which would wrap it into a group.
        except Exception as error:
            failure = error
            link.end(_peer_fault(error))
        finally:
            await link.close()
    if failure is not None:
        raise failure


# --- Connecting ------------------------------------------------------------------------------


@asynccontextmanager
async def dial(
    host: str,
    port: int,
    identity: SigningKey,
    expected: bytes | None,
    role: Role,
    ledger_ids: Iterable[bytes] = (),
    *,
    takes: Iterable[Role] | None = None,
    agent: str = AGENT,
    timeout_s: float = HANDSHAKE_TIMEOUT_S,
) -> AsyncIterator[Link]:
    """Connect, and give the link to the peer whose id is `expected` (None: whoever answers).

    `takes`: the roles the peer may have. One time-out covers TCP, TLS and AUTH. Raises LinkClosed when nobody can
    be reached or the peer goes away, RemoteError when it breaks a rule or is not the one expected.
    """
    began = trio.current_time()
    tls = await _connect(host, port, began + timeout_s)
    certificate = tls.getpeercert(binary_form=True)
    session = Session(
        Side.CONNECTED,
        role,
        identity,
        nonce=random_bytes(32),  # spec T-10
        certificate=certificate,
        expected=expected,
        ledger_ids=ledger_ids,
        agent=agent,
        takes=takes,
        handshake_timeout_s=timeout_s,
    )
    async with open_link(tls, session, began) as link:
        yield link


async def _connect(host: str, port: int, deadline: float) -> Any:
    """A TLS stream to host:port, handshake done; raises LinkClosed."""
    try:
        with trio.fail_at(deadline):
            # spec T-1: SocketStream sets TCP_NODELAY, so that a lone payment goes at once.
            stream = await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise LinkClosed(f"cannot connect to {host} port {port}: {error}") from error
    except trio.TooSlowError:
        raise LinkClosed(f"cannot connect to {host} port {port}: no answer in time") from None
    return await _secure(stream, client_context(), server_side=False, deadline=deadline)


async def _secure(stream: trio.abc.Stream, context: ssl.SSLContext, *, server_side: bool, deadline: float) -> Any:
    """TLS on `stream`, handshake done; raises LinkClosed and closes the stream if it fails.

    https_compatible: the end of the stream counts without a close_notify, which frames do not need (spec T-8).
    """
    tls = trio.SSLStream(stream, context, server_side=server_side, https_compatible=True)
    try:
        with trio.fail_at(deadline):
            await tls.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.TooSlowError):
            raise LinkClosed("TLS handshake not finished in time") from None
        if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError | ssl.SSLError):
            raise LinkClosed(f"TLS handshake failed{_cause(error)}") from error
        raise
    return tls


# --- Listening -------------------------------------------------------------------------------

Handler: TypeAlias = Callable[[Link], Awaitable[None]]


async def serve(
    listeners: Sequence[trio.abc.Listener[Any]],
    identity: SigningKey,
    role: Role,
    ledger_ids: Iterable[bytes],
    handler: Handler,
    *,
    takes: Iterable[Role] | None = None,
    agent: str = AGENT,
    certificate: Certificate | None = None,
    admission: Admission | None = None,
    known: Callable[[bytes], bool] = lambda peer_id: False,
    max_connections: int = MAX_CONNECTIONS,
    max_guests: int = MAX_GUESTS,
    task_status: trio.TaskStatus[list[trio.abc.Listener[Any]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections on TCP `listeners` until cancelled; `handler(link)` runs in a task for each peer.

    `admission` says how many are let in; peers whose id is not `known` are guests, of whom there are at most
    `max_guests`. Whatever a peer does (bytes that are no TLS, a reset, a broken rule: RemoteError, LinkClosed) ends
    its own connection only. Any other exception of the handler is ours, and leaves `serve`.
    """
    terms, now = admission or Admission(), trio.current_time()
    server = _Server(
        identity=identity,
        role=role,
        ledger_ids=tuple(ledger_ids),
        handler=handler,
        takes=None if takes is None else tuple(takes),
        agent=agent,
        certificate=certificate or fresh_certificate(),
        known=known,
        max_connections=max_connections,
        doorstep=Doorstep(terms, now),
        guests=Guests(max_guests, terms.address_guests, known),
        quiet=QuietLog(_log, now),
    )
    await trio.serve_listeners(server.accepted, list(listeners), task_status=task_status)


@dataclass(kw_only=True)
class _Server:
    """What every accepted connection needs, and how many there are."""

    identity: SigningKey
    role: Role
    ledger_ids: tuple[bytes, ...]
    handler: Handler
    takes: tuple[Role, ...] | None
    agent: str
    certificate: Certificate
    known: Callable[[bytes], bool]
    max_connections: int
    doorstep: Doorstep
    guests: Guests
    quiet: QuietLog
    connections: int = 0

    async def accepted(self, stream: trio.abc.Stream) -> None:
        """The whole life of one connection. Raises only what is not the peer's making."""
        scope = trio.CancelScope()
        visitor = Visitor(_address(stream), scope.cancel)
        refusal = self.doorstep.enter(visitor, trio.current_time())
        if refusal is not None:  # spec T-28, T-29: before anything is read or computed
            self._note("connection refused", visitor, why=refusal)
            await trio.aclose_forcefully(stream)
            return
        try:
            with scope:
                await self._converse(stream, visitor)
            if scope.cancelled_caught:
                self._note("connection ended", visitor, why=Refusal.SHOWN_OUT)
        except* (RemoteError, LinkClosed) as group:
            self._note("connection ended", visitor, why=[str(error) for error in _leaves(group)])
        finally:
            self.doorstep.leave(visitor)

    def _note(self, event: str, visitor: Visitor, **about: Any) -> None:
        """Log what became of a connection: all of a peer that is known, some of strangers (spec T-29)."""
        if visitor.peer_id and self.known(visitor.peer_id):
            _log.info(event, address=visitor.address, **about)
        else:
            self.quiet.info(trio.current_time(), event, address=visitor.address, **about)

    async def _converse(self, stream: trio.abc.Stream, visitor: Visitor) -> None:
        began = trio.current_time()
        tls = await _secure(stream, self.certificate.context, server_side=True, deadline=began + HANDSHAKE_TIMEOUT_S)
        session = Session(
            Side.LISTENED,
            self.role,
            self.identity,
            nonce=random_bytes(32),  # spec T-10
            certificate=self.certificate.der,
            ledger_ids=self.ledger_ids,
            agent=self.agent,
            takes=self.takes,
        )
        async with open_link(tls, session, began) as link:
            self.doorstep.leave(visitor)
            try:
                self._welcome(link, visitor)
                await self.handler(link)
            finally:
                self._goodbye(visitor)

    def _welcome(self, link: Link, visitor: Visitor) -> None:
        """Count an authenticated connection; raises RemoteError if there are too many (spec T-28, T-30)."""
        visitor.peer_id = link.peer_id
        self.connections += 1
        if self.connections > self.max_connections:
            raise RemoteError(ErrorCode.BUSY, "no more connections are taken here; try again later")
        visitor.show_out = lambda: link.end(RemoteError(ErrorCode.BUSY, "others without a channel wait for the place"))
        if not self.guests.enter(visitor):
            raise RemoteError(ErrorCode.BUSY, "too many connections without a channel come from this address")
        if self.known(link.peer_id):
            self.doorstep.remember(visitor.address)
        self._note("connection accepted", visitor, peer=link.peer_id.hex(), role=link.peer_role.name)

    def _goodbye(self, visitor: Visitor) -> None:
        self.connections -= 1
        self.guests.leave(visitor)


# --- Small things ----------------------------------------------------------------------------


def _address(stream: trio.abc.Stream) -> str:
    """Whom to count a stranger with: its IPv4 address or its IPv6 /64, which one customer has."""
    socket = getattr(stream, "socket", None)
    if socket is None:
        return "unknown"
    try:
        ip = ipaddress.ip_address(socket.getpeername()[0])
    except (OSError, ValueError):  # gone again already
        return "unknown"
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((int(ip), 64), strict=False))


async def _send_eof(stream: trio.abc.Stream) -> None:
    """Say that nothing follows, below TLS, so that the peer reads to the end and then closes too."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if isinstance(transport, trio.abc.HalfCloseableStream):
        await transport.send_eof()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _peer_fault(error: Exception) -> RemoteError | None:
    """The first fault of the peer's in `error`, which may be a group."""
    return next((leaf for leaf in _leaves(error) if isinstance(leaf, RemoteError)), None)


def _code_name(code: int) -> str:
    try:
        return ErrorCode(code).name.lower()
    except ValueError:
        return f"code {code}"


def _cause(error: BaseException) -> str:
    """What lies behind an exception of trio's, as the end of a message."""
    cause = error.__cause__ or error
    return f": {cause}" if str(cause) else ""
