"""A ledger and nodes in one thread: production code but for the wire, the clock and the entropy.

Everything is deterministic: time moves when a test says so, messages are delivered in order when `settle`
is called, a node's store is a real SQLite file.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

from channelpay.batches import NO_ID, Batch, pack_record
from channelpay.channel.effects import FailedNote, OperatorNote, PaidNote, Queued
from channelpay.channel.state import Channel, Phase
from channelpay.errors import RemoteError
from channelpay.keys import Keyring, words_from_entropy
from channelpay.ledger import book
from channelpay.ledger.books import Rules
from channelpay.ledger.memory import MemoryBooks
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.requests import Ledger
from channelpay.ledger.views import events
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import VIEWS, ChannelView, LedgerRequest
from channelpay.messages.peer import Error, Message, PastBatch, PastRecords, Request, Response
from channelpay.node.node import Node
from channelpay.node.policy import Policy
from channelpay.node.ready import OpenAccepted, OpenFailed, RequestAnswered
from channelpay.statements import request_bytes
from channelpay.store.node import NodeStore, create_node_store

START = 1_800_000_000


def keyring(n: int) -> Keyring:
    return Keyring(words_from_entropy(bytes([n]) * 32))


class LedgerWorld:
    """The ledger's core on books in memory; answers at once, sends events in order before later answers."""

    def __init__(self) -> None:
        self.keys = keyring(200)
        self.ledger = Ledger(self.keys.identity, Rules(self.keys.account.public))
        self.books = MemoryBooks(START)
        self.time = START
        self.reachable = True
        self._ids = random.Random(1)
        asset = self.request(self.keys.account, ops.CreateAsset("USD", 6, self.keys.account.public))
        self.asset_id: bytes = asset.asset_id

    def request(self, key, operation):
        blob = LedgerRequest(key.public, self.time + 600, operation).encode()
        request_id = self._ids.randbytes(16)
        signature = key.sign(request_bytes(self.ledger.ledger_id, request_id, blob))
        response = self.execute(Request(request_id, blob, signature))
        if response.outcome:
            raise LedgerRefused(Outcome(response.outcome), ops.Refusal.decode(response.body).text)
        return VIEWS[type(operation)].decode(response.body)

    def execute(self, request: Request):
        self.books.set_clock(self.time)
        try:
            admitted = self.ledger.admit(request)
        except LedgerRefused as refused:
            return self.ledger.refuse(request.request_id, bytes(32), refused)
        if admitted.is_read:
            return self.ledger.read(self.books, admitted, self.time)
        return self.ledger.write(self.books, admitted, self.time)

    def fund(self, account: bytes, units: int) -> None:
        self.request(self.keys.account, ops.Issue(self.asset_id, account, units))

    def balance(self, account: bytes) -> int:
        return self.books.balance(account, self.asset_id)

    def settle_due(self) -> None:
        for row in self.books.disputes(self.time, None):
            self.request(self.keys.account, ops.Settle(row.channel_id))


class NodeWorld:
    """One node with its store."""

    def __init__(self, world: World, n: int, path: Path, policy: Policy) -> None:
        self.world = world
        self.keys = keyring(n)
        self.path = path
        self.policy = policy
        self.entropy = random.Random(n)
        self.notes: list[object] = []
        self.paid: list[Queued] = []
        self.failed: list[Queued] = []
        self.seen_number = 0
        self.watching = False
        self.ledger_up = True  # whether a connection to the ledger can be had
        self.requests: deque[Request] = deque()  # on their way to the ledger
        self.answers: deque[tuple[Request, Response]] = deque()  # on their way back
        if not path.exists():
            create_node_store(path, self.keys.identity.public, world.ledger.ledger.ledger_id)
        self.start()

    @property
    def id(self) -> bytes:
        return self.keys.identity.public

    def start(self) -> None:
        self.store = NodeStore(self.path, self.id, self.world.ledger.ledger.ledger_id)
        self.node = Node(
            self.keys, self.world.ledger.ledger.ledger_id, self.policy, self.entropy.randbytes, self.world.clock
        )
        self.node.load(self.store)
        self._forget_ledger()
        self.alive = True

    def crash(self) -> None:
        """Everything in memory is gone; the connections break."""
        self.alive = False
        self.store.close()
        self.world.cut(self)

    def restart(self) -> None:
        self.start()
        self.connect_ledger()

    def connect_ledger(self) -> None:
        if self.ledger_up:
            self.node.ledger_connected(self.world.clock)

    def lose_ledger(self) -> None:
        """The connection breaks; what was on its way is lost, executed or not."""
        self._forget_ledger()
        self.node.ledger_disconnected(self.world.clock)

    def _forget_ledger(self) -> None:
        self.watching = False
        self.requests.clear()
        self.answers.clear()

    # --- Doing -------------------------------------------------------------------------------

    def turn(self, send: bool = True, commit: bool = True) -> bool:
        """One round of the pump; whether anything was done."""
        ready = self.node.ready()
        if not commit:
            return False
        if ready.persist:
            self.store.commit(ready.persist)
        did = bool(ready.persist or ready.send or ready.submit or ready.close or ready.recalls)
        if not send:
            return did
        for number, message in ready.send:
            self.world.send(self, number, message)
        for number, recall in ready.recalls:
            batches = self.store.batches(recall.channel_id, recall.payer, recall.from_n)
            past = tuple(PastBatch(*batch) for batch in batches)
            self.world.send(self, number, PastRecords(recall.channel_id, recall.payer, past))
        if self.node.ledger.connected:
            self.requests += ready.submit
        for number, error in ready.close:
            self.world.end(self, number, error)
        for note in ready.notes:
            self._note(note)
        return did

    def _note(self, note: object) -> None:
        self.notes.append(note)
        if isinstance(note, PaidNote):
            self.paid += note.items
        elif isinstance(note, FailedNote):
            self.failed += note.items

    def ledger_takes(self) -> bool:
        """The ledger executes one request; whether there was one."""
        if not self.requests:
            return False
        request = self.requests.popleft()
        response = self.world.ledger.execute(request)
        operation = LedgerRequest.decode(request.blob).operation
        if isinstance(operation, ops.Subscribe) and not response.outcome:
            self.watching = True
            self.seen_number = operation.after
        self.answers.append((request, response))
        return True

    def ledger_answers(self) -> bool:
        """One answer arrives, after the events before it; whether there was one."""
        if not self.answers:
            return False
        self.events()
        request, response = self.answers.popleft()
        clock = self.world.clock
        if response.outcome:
            label = Outcome(response.outcome).label
            self.node.ledger_answer(request.request_id, response.outcome, label, None, clock)
        else:
            operation = LedgerRequest.decode(request.blob).operation
            body = VIEWS[type(operation)].decode(response.body)
            self.node.ledger_answer(request.request_id, 0, "", body, clock)
        return True

    def use_ledger(self) -> bool:
        """Everything that is on its way to the ledger and back arrives."""
        did = False
        while self.ledger_takes() or self.ledger_answers():
            did = True
        self.events()
        return did

    def events(self) -> None:
        if not self.watching:
            return
        while found := events(self.world.ledger.books, self.keys.account.public, self.seen_number):
            for event in found:
                body = ChannelView.decode(event.body) if event.subject != self.keys.account.public else None
                self.node.ledger_event(event.number, event.at, body, self.world.clock)
                self.seen_number = event.number

    # --- Looking -----------------------------------------------------------------------------

    def channel(self) -> Channel:
        (channel,) = self.node.channels.values()
        return channel

    def pay(self, *amounts: int, ids: list[bytes] | None = None, channel: Channel | None = None) -> list[Queued]:
        channel = channel or self.channel()
        items = []
        for index, amount in enumerate(amounts):
            payment_id = ids[index] if ids else NO_ID
            item = Queued(pack_record(amount, payment_id), 1, amount, [], (payment_id,) if ids else ())
            items.append(item)
        self.node.pay(channel.channel_id, items, self.world.clock)
        return items

    def journal(self) -> list[tuple[int, int]]:
        """(position, amount) of everything received."""
        rows, after = [], 0
        while page := self.store.journal(after, 10_000, 10_000_000):
            for row in page:
                batch = Batch(row.first_n, row.records, row.memos)
                rows += [(row.position + i, p.amount) for i, p in enumerate(batch.payments())]
            after = page[-1].next_position
        return rows

    def warnings(self) -> list[str]:
        return [note.text for note in self.notes if isinstance(note, OperatorNote)]

    def opened(self) -> list[object]:
        return [note for note in self.notes if isinstance(note, OpenAccepted | OpenFailed | RequestAnswered)]


class World:
    """Nodes, one ledger, and the wires between them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = 1000.0
        self.ledger = LedgerWorld()
        self.nodes: list[NodeWorld] = []
        self.wires: dict[tuple[int, int], tuple[NodeWorld, int]] = {}
        self.inboxes: dict[tuple[int, int], deque[Message]] = {}
        self._numbers = 0

    def add(self, policy: Policy | None = None, funds: int = 0) -> NodeWorld:
        n = len(self.nodes) + 1
        node = NodeWorld(self, n, self.path / f"node{n}.db", policy or Policy(auto_accept=True))
        self.nodes.append(node)
        if funds:
            self.ledger.fund(node.keys.account.public, funds)
        node.connect_ledger()
        return node

    def connect(self, a: NodeWorld, b: NodeWorld) -> None:
        """`a` dials `b`."""
        self._numbers += 2
        number_a, number_b = self._numbers, self._numbers + 1
        self.wires[id(a), number_a] = b, number_b
        self.wires[id(b), number_b] = a, number_a
        self.inboxes[id(a), number_a] = deque()
        self.inboxes[id(b), number_b] = deque()
        a.node.connected(number_a, b.id, True, self.clock)
        b.node.connected(number_b, a.id, False, self.clock)

    def send(self, node: NodeWorld, number: int, message: Message) -> None:
        other = self.wires.get((id(node), number))
        if other is not None:
            self.inboxes[id(other[0]), other[1]].append(message)

    def end(self, node: NodeWorld, number: int, error: RemoteError) -> None:
        other = self.wires.get((id(node), number))
        if other is not None:
            self.inboxes[id(other[0]), other[1]].append(Error(int(error.code), None, error.text[:200]))
            self._drop(node, number)

    def _drop(self, node: NodeWorld, number: int) -> None:
        other = self.wires.pop((id(node), number), None)
        if other is None:
            return
        self.wires.pop((id(other[0]), other[1]), None)
        for end, end_number in ((node, number), other):
            self.inboxes.pop((id(end), end_number), None)
            if end.alive:
                end.node.disconnected(end_number, self.clock)

    def cut(self, node: NodeWorld) -> None:
        """All connections of a node break; what was on the wire is lost."""
        for owner, number in [key for key in self.wires if key[0] == id(node)]:
            if (owner, number) in self.wires:
                self._drop(node, number)

    def deliver(self, node: NodeWorld, most: int = 1_000_000) -> bool:
        """What waits for a node goes in at once, at most so many messages of each connection."""
        did = False
        for key in [key for key in self.inboxes if key[0] == id(node)]:
            inbox = self.inboxes.get(key)
            if inbox:
                messages = [inbox.popleft() for _ in range(min(most, len(inbox)))]
                did = True
                if isinstance(messages[-1], Error) and messages[-1].channel is None:
                    self._drop(node, key[1])
                else:
                    node.node.received(key[1], messages, self.clock)
        return did

    def settle(self) -> None:
        """Run until nothing moves."""
        for _ in range(10_000):
            did = False
            for node in self.nodes:
                if node.alive:
                    did |= node.use_ledger()
                    did |= self.deliver(node)
                    did |= node.turn()
            if not did:
                return
        raise AssertionError("the nodes never come to rest")

    def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass on every clock; the ledger settles what is due."""
        end = self.clock + seconds
        while self.clock < end:
            self.clock = min(end, self.clock + step)
            self.ledger.time = START + int(self.clock - 1000.0)
            self.ledger.settle_due()
            for node in self.nodes:
                if node.alive:
                    node.node.tick(self.clock)
            self.settle()


__all__ = ["START", "NodeWorld", "Phase", "World", "book", "keyring"]


def open_pair(path: Path, *, deposit: int = 1_000_000, flags: int = 0, window_s: int = 60, max_batch: int = 4096):
    """Two nodes with an open channel: (world, payer, payee)."""
    world = World(path)
    a, b = world.add(funds=10 * deposit), world.add()
    world.settle()
    world.connect(a, b)
    world.settle()
    a.node.open_channel(b.id, world.ledger.asset_id, deposit, flags, window_s, max_batch, world.clock)
    world.settle()
    assert a.channel().phase is Phase.OPEN, a.warnings()
    assert b.channel().phase is Phase.OPEN, b.warnings()
    return world, a, b
