"""Connections that others make to us: who is let in, and the life of one. Spec chapter 4, sections 4.3 and 4.9."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import structlog
import trio

from channelpay.crypto import SigningKey
from channelpay.daemon.admission import Doorstep, Guests, Refusal, Visitor
from channelpay.daemon.link import AGENT, Link, leaves, open_link
from channelpay.daemon.outside import random_bytes
from channelpay.daemon.quiet_log import QuietLog
from channelpay.daemon.secure import LinkClosed, accept
from channelpay.daemon.tls import Certificate, fresh_certificate
from channelpay.errors import ErrorCode, RemoteError
from channelpay.home.config import Admission
from channelpay.limits import HANDSHAKE_TIMEOUT_S, MAX_CONNECTIONS, MAX_GUESTS, MAX_OUTGOING_BYTES
from channelpay.messages.peer import Role
from channelpay.session import Session, Side

_log = structlog.get_logger("channelpay.link")

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
    max_guest_outgoing: int = MAX_OUTGOING_BYTES,
    task_status: trio.TaskStatus[list[trio.abc.Listener[Any]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections on TCP `listeners` until cancelled; `handler(link)` runs in a task for each peer.

    `admission` says how many are let in; peers whose id is not `known` are guests, of whom there are at most
    `max_guests`, and for each of whom no more than `max_guest_outgoing` bytes wait. Whatever a peer does (bytes that
    are no TLS, a reset, a broken rule: RemoteError, LinkClosed) ends its own connection only. Any other exception of
    the handler is ours, and leaves `serve`.
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
        max_guest_outgoing=max_guest_outgoing,
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
    max_guest_outgoing: int
    doorstep: Doorstep
    guests: Guests
    quiet: QuietLog
    connections: int = 0

    async def accepted(self, stream: trio.abc.HalfCloseableStream) -> None:
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
            self._note("connection ended", visitor, why=[str(error) for error in leaves(group)])
        finally:
            self.doorstep.leave(visitor)

    def _note(self, event: str, visitor: Visitor, **about: Any) -> None:
        """Log what became of a connection: all of a peer that is known, some of strangers (spec T-29)."""
        if visitor.peer_id and self.known(visitor.peer_id):
            _log.info(event, address=visitor.address, **about)
        else:
            self.quiet.info(trio.current_time(), event, address=visitor.address, **about)

    async def _converse(self, stream: trio.abc.HalfCloseableStream, visitor: Visitor) -> None:
        began = trio.current_time()
        secure = await accept(stream, self.certificate, began + HANDSHAKE_TIMEOUT_S)
        session = Session(
            Side.LISTENED,
            self.role,
            self.identity,
            nonce=random_bytes(32),  # spec T-10
            certificate=secure.binding,
            ledger_ids=self.ledger_ids,
            agent=self.agent,
            takes=self.takes,
        )
        async with open_link(secure.stream, session, began) as link:
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
        link.most_queued = lambda: MAX_OUTGOING_BYTES if self.known(link.peer_id) else self.max_guest_outgoing
        if self.known(link.peer_id):
            self.doorstep.remember(visitor.address)
        self._note("connection accepted", visitor, peer=link.peer_id.hex(), role=link.peer_role.name)

    def _goodbye(self, visitor: Visitor) -> None:
        self.connections -= 1
        self.guests.leave(visitor)


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
