"""Connections to other nodes: accepted ones, and those that this node keeps up. Spec T-25, N-5."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import structlog
import trio

from channelpay.crypto import SigningKey
from channelpay.daemon.accepting import serve
from channelpay.daemon.descriptors import connections_possible
from channelpay.daemon.dialling import dial
from channelpay.daemon.engine import Engine
from channelpay.daemon.link import Link
from channelpay.daemon.outside import jitter, wall_time
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import AddressError, RemoteError
from channelpay.home.config import Admission
from channelpay.keys import NODE_PREFIX, parse_address
from channelpay.limits import MAX_GUEST_OUTGOING_BYTES, RECONNECT_MAX_S, RECONNECT_MIN_S, RECONNECT_RESET_S
from channelpay.messages.peer import Role

_log = structlog.get_logger("channelpay.peers")
_LOOK_AGAIN_S: Final = 1.0


class Backoff:
    """Waits between tries: doubles from 0.2 to 60 s with jitter, begins anew after 30 s connected."""

    def __init__(self, jitter: random.Random) -> None:
        self._jitter = jitter
        self._next_s = RECONNECT_MIN_S

    def wait_s(self, connected_s: float, most_s: float = RECONNECT_MAX_S) -> float:
        """How long to wait, `most_s` at most, after a connection that lasted `connected_s` (0: none was made)."""
        if connected_s >= RECONNECT_RESET_S:
            self._next_s = RECONNECT_MIN_S
        wait, self._next_s = self._next_s, min(RECONNECT_MAX_S, self._next_s * 2)
        return min(wait, most_s) * self._jitter.uniform(0.5, 1.0)


class Peers:
    """Listens, dials, and gives every message to the node."""

    def __init__(
        self, engine: Engine, identity: SigningKey, ledger_id: bytes, admission: Admission | None = None
    ) -> None:
        self._engine = engine
        self._admission = admission
        self._identity = identity
        self._ledger_id = ledger_id
        self._dialling: set[bytes] = set()
        self._waiting: dict[bytes, trio.Event] = {}  # peers in their back-off
        self._jitter = jitter()
        self._since: dict[bytes, tuple[int, int]] = {}  # by peer: the connection's number and when it was made

    async def listen(
        self,
        listeners: Sequence[trio.abc.Listener[Any]],
        *,
        task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept peers until cancelled."""
        await serve(
            listeners, self._identity, Role.NODE, [self._ledger_id], self.converse, takes=[Role.NODE],
            admission=self._admission, known=self._engine.node.knows_peer,
            max_connections=connections_possible(), max_guest_outgoing=MAX_GUEST_OUTGOING_BYTES,
            task_status=task_status,
        )  # fmt: skip

    def connected_since(self, peer_id: bytes) -> int:
        """Since when a peer has been connected, Unix time in seconds; 0 if it is not."""
        return self._since.get(peer_id, (0, 0))[1]

    async def converse(self, link: Link) -> None:
        """The whole life of one authenticated connection; raises RemoteError or LinkClosed at its end."""
        engine, node = self._engine, self._engine.node
        number = engine.add_link(link)
        try:
            if node.connected(number, link.peer_id, link.initiated, trio.current_time()):
                self._since[link.peer_id] = number, int(wall_time())
            engine.wake()
            if link.initiated:
                _log.info("connected to peer", peer=link.peer_id.hex()[:16])
            await link.hand_on(partial(engine.received, number))
        finally:
            if self._since.get(link.peer_id, (0, 0))[0] == number:
                del self._since[link.peer_id]
            engine.drop_link(number, link.peer_id)

    async def keep_up(self) -> None:
        """Dial the peers of open channels until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                for peer_id in self._engine.node.wanted_peers():
                    if peer_id not in self._dialling:
                        self._dialling.add(peer_id)
                        nursery.start_soon(self._keep_up_one, peer_id)
                with trio.move_on_after(_LOOK_AGAIN_S):
                    await self._engine.changed.park()

    async def _keep_up_one(self, peer_id: bytes) -> None:
        backoff = Backoff(self._jitter)
        try:
            while self._engine.node.wants_peer(peer_id):
                wait_s = backoff.wait_s(await self._dial_once(peer_id))
                self._waiting[peer_id] = trio.Event()
                with trio.move_on_after(wait_s):
                    await self._waiting[peer_id].wait()
                    backoff = Backoff(self._jitter)
        finally:
            self._dialling.discard(peer_id)
            self._waiting.pop(peer_id, None)

    def dial_now(self, peer_id: bytes) -> None:
        """Somebody asks for this peer: do not wait out the back-off, begin it anew."""
        if peer_id in self._waiting:
            self._waiting[peer_id].set()

    async def _dial_once(self, peer_id: bytes) -> float:
        """One connection and all that happens on it; how many seconds it lasted, 0 if none was made."""
        text = self._engine.node.addresses[peer_id]
        began = None
        try:
            address = parse_address(NODE_PREFIX, text)
            async with dial(
                address.host, address.port, self._identity, peer_id, Role.NODE, [self._ledger_id], takes=[Role.NODE]
            ) as link:
                began = trio.current_time()
                await self.converse(link)
        except (LinkClosed, RemoteError, AddressError) as error:
            _log.info("connection to peer ended", peer=peer_id.hex()[:16], address=text, why=str(error))
        return 0.0 if began is None else trio.current_time() - began
