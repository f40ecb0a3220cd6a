"""The pump: inputs into the node, then persist, then send. Spec N-8, and the duties in `node.ready`.

Inputs call the node at once and wake the pump; whatever has come in by the time the pump runs is one
commit, one flush for each channel, one write for each connection. There is no timer in this: a lone
payment goes at once, a loaded channel batches by itself.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final, Protocol

import structlog
import trio

from channelpay.channel.effects import ChangedNote, FailedNote, OperatorNote, PaidNote, Queued
from channelpay.errors import LocalError, RemoteError
from channelpay.messages.peer import PastBatch, PastRecords, Request
from channelpay.node.node import Node
from channelpay.node.ready import Connection, NodeNote, OpenAccepted, OpenFailed, Ready, RequestAnswered
from channelpay.store.node import NodeStore

_log = structlog.get_logger("channelpay.node")

MAX_WARNINGS: Final = 64
"""Newest operator notes that `status` shows."""

Waiter = Callable[[Queued, "LocalError | None"], None]
"""Called once when a queued payment is paid (None) or has failed."""


class Wire(Protocol):
    """What the engine needs of a connection."""

    sent_bytes: int
    received_bytes: int

    def send(self, frames: bytes) -> None: ...

    def end(self, error: RemoteError | None = None) -> None: ...


class Engine:
    """A node, its store and its connections, driven by `run`.

    `submit` hands a ledger request to whoever holds the ledger's connection.
    """

    def __init__(self, node: Node, store: NodeStore) -> None:
        self.node = node
        self.store = store
        self.submit: Callable[[Request], None] | None = None
        self.links: dict[Connection, Wire] = {}
        self.warnings: deque[str] = deque(maxlen=MAX_WARNINGS)
        self.opened: dict[bytes, bytes | LocalError] = {}  # by open_nonce: channel id, or why not
        self.answered: dict[bytes, tuple[int, str]] = {}  # by request_id of operators' requests
        self.changed = trio.lowlevel.ParkingLot()  # wakes whoever waits for a channel, an answer, the ledger
        self.arrived = trio.lowlevel.ParkingLot()  # wakes whoever waits for received payments
        self.room = trio.lowlevel.ParkingLot()  # wakes whoever waits for a queue to have room
        self._awake = trio.Event()
        self._numbers = 0
        self._traffic: dict[bytes, tuple[int, int]] = {}

    # --- Connections -----------------------------------------------------------------------

    def add_link(self, link: Wire) -> Connection:
        """A number for a new connection."""
        self._numbers += 1
        self.links[self._numbers] = link
        return self._numbers

    def drop_link(self, number: Connection, peer_id: bytes) -> None:
        """The connection is over; its bytes stay counted."""
        link = self.links.pop(number)
        sent, received = self._traffic.get(peer_id, (0, 0))
        self._traffic[peer_id] = sent + link.sent_bytes, received + link.received_bytes
        self.node.disconnected(number, trio.current_time())
        self.wake()

    def traffic(self, peer_id: bytes) -> tuple[int, int]:
        """Bytes (sent, received) on all connections with a peer since the start."""
        sent, received = self._traffic.get(peer_id, (0, 0))
        entry = self.node.connections.get(peer_id)
        link = self.links.get(entry[0]) if entry else None
        return (sent + link.sent_bytes, received + link.received_bytes) if link else (sent, received)

    # --- The pump --------------------------------------------------------------------------

    def wake(self) -> None:
        """An input was given to the node."""
        self._awake.set()

    async def run(self) -> None:
        """Pump until cancelled. Raises StoreFailed when a commit fails: nothing after it was sent."""
        while True:
            deadline = self.node.next_deadline()
            with trio.move_on_at(math.inf if deadline is None else deadline):
                await self._awake.wait()
            self._awake = trio.Event()
            self.turn()

    def turn(self) -> None:
        """One round: take what the node wants done, make it durable, then do it."""
        self.node.tick(trio.current_time())
        ready = self.node.ready()
        received = self.store.received
        if ready.persist:
            self.store.commit(ready.persist)
        self._send(ready)
        for note in ready.notes:
            self._tell(note)
        if self.store.received != received:
            self.arrived.unpark_all()

    def _send(self, ready: Ready) -> None:
        frames: dict[Connection, list[bytes]] = defaultdict(list)
        for number, message in ready.send:
            frames[number].append(message.to_frame())
        for number, recall in ready.recalls:
            batches = self.store.batches(recall.channel_id, recall.payer, recall.from_n)
            if batches and batches[0].first_n != recall.from_n:
                batches = []  # the peer asks from within a batch: none of that shape was ever signed
            past = tuple(PastBatch(*batch) for batch in batches)
            frames[number].append(PastRecords(recall.channel_id, recall.payer, past).to_frame())
        for number, parts in frames.items():
            if number in self.links:
                self.links[number].send(b"".join(parts))
        if self.submit is not None:
            for request in ready.submit:
                self.submit(request)
        for number, error in ready.close:
            if number in self.links:
                self.links[number].end(error)

    def _tell(self, note: NodeNote) -> None:
        match note:
            case PaidNote(items):
                for item in items:
                    for waiter in item.waiters:
                        waiter(item, None)
                self.room.unpark_all()
            case FailedNote(items, error):
                for item in items:
                    for waiter in item.waiters:
                        waiter(item, error)
                self.room.unpark_all()
            case OperatorNote(channel_id, text):
                where = channel_id.hex()[:16]
                self.warnings.append(f"{where}: {text}" if where else text)
                _log.warning(text, channel=where)
            case OpenAccepted(nonce, channel_id):
                self.opened[nonce] = channel_id
                self.changed.unpark_all()
            case OpenFailed(nonce, error):
                self.opened[nonce] = error
                self.changed.unpark_all()
            case RequestAnswered(request_id, outcome, text):
                self.answered[request_id] = outcome, text
                self.changed.unpark_all()
            case ChangedNote(channel_id):
                channel = self.node.channels.get(channel_id)
                if channel is not None:
                    _log.info("channel changed", channel=channel_id.hex()[:16], phase=channel.phase.name.lower())
                self.changed.unpark_all()
