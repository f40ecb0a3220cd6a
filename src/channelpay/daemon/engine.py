"""The pump: inputs into the node, then persist, then send. Spec N-8, and the duties in `node.ready`.

Inputs call the node at once and wake the pump; whatever has come in by the time the pump runs is one
commit, one flush for each channel, one write for each connection. There is no timer in this: a lone
payment goes at once, a loaded channel batches by itself, and so do many channels together.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import structlog
import trio

from channelpay.channel.effects import ChangedNote, FailedNote, OperatorNote, PaidNote, Queued
from channelpay.channel.state import Channel
from channelpay.errors import LocalError, Reason, RemoteError, StoreFailed
from channelpay.messages.peer import Message, PastBatch, PastRecords, Request
from channelpay.node.node import Node
from channelpay.node.ready import (
    Connection,
    NodeNote,
    OpenAccepted,
    OpenFailed,
    OperationAnswered,
    Ready,
    RequestAnswered,
)
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
        self.sources: list[Callable[[], None]] = []  # hand over at the beginning of a turn what came since the last
        self.links: dict[Connection, Wire] = {}
        self.warnings: deque[str] = deque(maxlen=MAX_WARNINGS)
        self.changed = trio.lowlevel.ParkingLot()  # wakes whoever waits for a channel, an answer, the ledger
        self.arrived = trio.lowlevel.ParkingLot()  # wakes whoever waits for received payments
        self.room = trio.lowlevel.ParkingLot()  # wakes whoever waits for a queue to have room
        self._awake = trio.Event()
        self._waiting = False  # inputs since the last turn
        self._resting = False  # `run` sleeps, and little came when it was last awake
        self._taken = 0  # calls of `received` since `run` fell asleep
        self._failure: StoreFailed | None = None
        self._turned = trio.lowlevel.ParkingLot()
        self._stopped: LocalError | None = None
        self._watched: dict[Hashable, list[list[Any]]] = {}
        self._numbers = 0
        self._traffic: dict[bytes, tuple[int, int]] = {}  # of peers that the node knows

    # --- Connections -----------------------------------------------------------------------

    def add_link(self, link: Wire) -> Connection:
        """A number for a new connection."""
        self._numbers += 1
        self.links[self._numbers] = link
        return self._numbers

    def drop_link(self, number: Connection, peer_id: bytes) -> None:
        """The connection is over; a known peer's bytes stay counted."""
        link = self.links.pop(number)
        if self.node.knows_peer(peer_id):  # strangers come with a new id each time
            sent, received = self._traffic.get(peer_id, (0, 0))
            self._traffic[peer_id] = sent + link.sent_bytes, received + link.received_bytes
        self.node.disconnected(number, trio.current_time())
        self.wake()
        self.room.unpark_all()  # a stopping node does not wait for those who are gone

    def traffic(self, peer_id: bytes) -> tuple[int, int]:
        """Bytes (sent, received) on all connections with a peer since the start."""
        sent, received = self._traffic.get(peer_id, (0, 0))
        entry = self.node.connections.get(peer_id)
        link = self.links.get(entry[0]) if entry else None
        return (sent + link.sent_bytes, received + link.received_bytes) if link else (sent, received)

    # --- Those who wait --------------------------------------------------------------------

    @contextmanager
    def watch(self, key: Hashable) -> Iterator[list[Any]]:
        """Collects what is told about `key` while the block lasts: see `_tell`. `changed` wakes who waits for it."""
        heard: list[Any] = []
        self._watched.setdefault(key, []).append(heard)
        try:
            yield heard
        finally:
            watchers = self._watched[key]
            del watchers[next(i for i, other in enumerate(watchers) if other is heard)]
            if not watchers:
                del self._watched[key]

    def tell(self, key: Hashable, what: object) -> None:
        """Tell whoever watches `key`."""
        for heard in self._watched.get(key, ()):
            heard.append(what)

    def check_running(self) -> None:
        """Raises LocalError once the node has stopped."""
        if self._stopped is not None:
            raise self._stopped

    def stop(self) -> None:
        """Nothing is pumped any more: everybody who still waits is told."""
        self._stopped = LocalError(Reason.STOPPING, "the node has stopped")
        for channel in self.node.roster.loaded.values():
            self._give_up(channel)
        for lot in (self.changed, self.arrived, self.room, self._turned):
            lot.unpark_all()

    def _give_up(self, channel: Channel) -> None:
        never_sent = LocalError(Reason.STOPPING, "not paid: the node has stopped")
        for item in channel.queue:
            _answer(item, never_sent)
        unknown = LocalError(
            Reason.TIMED_OUT, "the node stopped before the peer acknowledged the payment: ask for it after the start"
        )
        for sent in channel.unacked:
            for item in sent.items:
                _answer(item, unknown)

    # --- The pump --------------------------------------------------------------------------

    def wake(self) -> None:
        """An input was given to the node: a turn follows."""
        self._waiting = True
        self._resting = False
        self._awake.set()

    def received(self, number: Connection, messages: list[Message]) -> None:
        """Give the node what came on a connection. A lone input has its turn at once, others have one together."""
        self.node.received(number, messages, trio.current_time())
        self._taken += 1
        if not self._resting:
            self.wake()
            return
        self._resting = False  # whatever else comes before `run` has seen to its deadline waits for it
        try:
            self.turn()
        except StoreFailed as failure:
            self._failure = failure  # which ends the node, not this connection
        self._awake.set()

    async def made_durable(self) -> None:
        """Wait until every input so far has been taken and what it changed is on disk."""
        self.wake()
        await self._turned.park()
        self.check_running()

    async def run(self) -> None:
        """Pump until cancelled. Raises StoreFailed when a commit fails: nothing after it was sent."""
        while True:
            deadline = self.node.next_deadline()
            self._resting, self._taken = self._taken <= 1 and not self._waiting, 0
            with trio.move_on_at(math.inf if deadline is None else deadline) as sleep:
                await self._awake.wait()
            self._resting = False
            self._awake = trio.Event()
            if self._failure is not None:
                raise self._failure
            if self._waiting or sleep.cancelled_caught:
                self.turn()

    def turn(self) -> None:
        """One round: take what the node wants done, make it durable, then do it."""
        for hand_over in self.sources:
            hand_over()
        self._waiting = False
        self.node.tick(trio.current_time())
        ready = self.node.ready()
        received = self.store.received
        if ready.persist:
            self.store.commit(ready.persist)
        self._send(ready)
        for note in ready.notes:
            self._tell(note)
        if ready.again:
            self.wake()
        if self.store.received != received:
            self.arrived.unpark_all()
        if ready.send:
            self.room.unpark_all()  # what has left the queue made room
        self._turned.unpark_all()

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
                    _answer(item, None)
                self.room.unpark_all()
            case FailedNote(items, error):
                for item in items:
                    _answer(item, error)
                self.room.unpark_all()
            case OperatorNote(channel_id, text):
                where = channel_id.hex()[:16]
                self.warnings.append(f"{where}: {text}" if where else text)
                self.tell(channel_id, text)
                _log.warning(text, channel=where)
                self.changed.unpark_all()
            case OpenAccepted(nonce, channel_id):
                self.tell(nonce, channel_id)
                self.changed.unpark_all()
            case OpenFailed(nonce, error):
                self.tell(nonce, error)
                self.changed.unpark_all()
            case RequestAnswered(request_id, outcome, text):
                self.tell(request_id, (outcome, text))
                self.changed.unpark_all()
            case OperationAnswered(channel_id, operation, outcome, text):
                self.tell((channel_id, operation), (outcome, text))
                self.changed.unpark_all()
            case ChangedNote(channel_id):
                phase = self.node.roster.phase(channel_id)
                if phase is not None:
                    _log.info("channel changed", channel=channel_id.hex()[:16], phase=phase.name.lower())
                self.changed.unpark_all()


def _answer(item: Queued, error: LocalError | None) -> None:
    """Tell the callers of a queued payment, once."""
    waiters, item.waiters = item.waiters, []
    for waiter in waiters:
        waiter(item, error)
