"""The conformance kit's runner in one thread: production sessions, node core, store and ledger core; no socket.

Time moves when a case sleeps; everything that can happen happens before a case looks.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from channelpay.batches import NO_ID, Batch, pack_record
from channelpay.channel.effects import Queued
from channelpay.conformance.runner import ControlRefused
from channelpay.conformance.verdict import Violation
from channelpay.crypto import sha256
from channelpay.errors import ErrorCode, LocalError, RemoteError
from channelpay.keys import Keyring, words_from_entropy
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.views import events
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Message, Request, Role
from channelpay.node.node import Node
from channelpay.node.policy import AssetPolicy, Policy
from channelpay.node.ready import OpenAccepted, OpenFailed
from channelpay.session import Phase, Session, Side
from node_world import NodeWorld, World

CERTIFICATE = b"the listener's certificate"
MONEY = 10_000_000
POCKET = Keyring(words_from_entropy(bytes([99]) * 32)).account
MIN_WINDOW_S, TICK_S = 10, 1.0


class Link:
    """One connection to a listener: a session, and what both sides have said."""

    def __init__(self, runner: MemoryRunner, session: Session) -> None:
        self.runner = runner
        self.session = session
        self.certificate = CERTIFICATE
        self.inbox = bytearray()  # for the kit
        self.over = False
        session.start(runner.world.clock)
        self.flush()

    def flush(self) -> None:
        """What the session has to say goes out."""
        self.inbox += self.session.outgoing()

    # --- The kit's side ---------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if self.over:
            return
        was_open = self.session.established
        messages = self.session.receive(data, self.runner.world.clock)
        self.flush()
        if (self.session.established and not was_open) or (messages and not was_open):
            self.authenticated()
        if messages:
            self.received(messages)
        self.look()
        self.runner.settle()

    def receive(self, wait_s: float) -> bytes | None:
        self.runner.settle()
        if self.inbox:
            data = bytes(self.inbox)
            self.inbox.clear()
            return data
        return b"" if self.over else None

    def close(self) -> None:
        if not self.over:
            self.end()
            self.runner.settle()

    # --- The listener's side ----------------------------------------------------------------

    def look(self) -> None:
        """The session may have ended."""
        self.flush()
        if self.session.phase is Phase.ENDED and not self.over:
            self.end()

    def tell(self, message: Message) -> None:
        """The listener sends a message."""
        if not self.over and self.session.established:
            self.inbox += message.to_frame()

    def authenticated(self) -> None: ...

    def received(self, messages: list[Message]) -> None: ...

    def end(self) -> None:
        self.over = True


class NodeLink(Link):
    """A connection to the node."""

    def __init__(self, runner: MemoryRunner, number: int) -> None:
        self.number = number
        node = runner.node
        session = Session(
            Side.LISTENED, Role.NODE, node.keys.identity, nonce=runner.entropy(32), certificate=CERTIFICATE,
            ledger_ids=[runner.ledger_id], takes=[Role.NODE],
        )  # fmt: skip
        super().__init__(runner, session)

    def authenticated(self) -> None:
        self.runner.world.node.node.connected(self.number, self.session.peer_id, False, self.runner.world.clock)
        self.runner.settle()

    def received(self, messages: list[Message]) -> None:
        world = self.runner.world
        if self.number in world.node.node.peer_of:
            world.node.node.received(self.number, messages, world.clock)
            self.runner.settle()

    def end(self) -> None:
        super().end()
        node = self.runner.world.node
        if node.alive:
            node.node.disconnected(self.number, self.runner.world.clock)


class LedgerLink(Link):
    """A connection to the ledger: requests in the order they come, one subscription."""

    def __init__(self, runner: MemoryRunner) -> None:
        self.subscribed: tuple[bytes, int] | None = None
        keys = runner.world.ledger.keys
        session = Session(
            Side.LISTENED, Role.LEDGER, keys.identity, nonce=runner.entropy(32), certificate=CERTIFICATE,
            ledger_ids=[keys.identity.public],
        )  # fmt: skip
        super().__init__(runner, session)

    def received(self, messages: list[Message]) -> None:
        for message in messages:
            if not isinstance(message, Request):
                self.session.refuse(RemoteError(ErrorCode.UNEXPECTED, "a ledger is sent requests"))
                return
            self.tell(self._answer(message))

    def _answer(self, request: Request) -> Message:
        ledger = self.runner.world.ledger
        try:
            admitted = ledger.ledger.admit(request)
        except LedgerRefused as refusal:
            return ledger.ledger.refuse(request.request_id, sha256(request.blob), refusal)
        if isinstance(admitted.operation, ops.Subscribe):
            if self.subscribed is not None:
                refusal = LedgerRefused(Outcome.ALREADY_SUBSCRIBED)
                return ledger.ledger.refuse(admitted.request_id, admitted.request_hash, refusal)
            response = ledger.execute(request)
            if not response.outcome:
                self.subscribed = admitted.key, admitted.operation.after
            return response
        return ledger.execute(request)

    def events(self) -> bool:
        if self.subscribed is None or self.over:
            return False
        account, after = self.subscribed
        found = events(self.runner.world.ledger.books, account, after)
        for event in found:
            self.tell(event)
            self.subscribed = account, event.number
        return bool(found)


class KitWorld(World):
    """One node and a ledger; the node's peers are connections of the kit's."""

    def __init__(self, path: Path, policy: Policy) -> None:
        super().__init__(path)
        self.links: dict[int, NodeLink] = {}
        self.ledger_links: list[LedgerLink] = []
        self.node = self.add(policy)
        self.settle()

    def send(self, node: NodeWorld, number: int, message: Message) -> None:
        self.links[number].tell(message)

    def end(self, node: NodeWorld, number: int, error: RemoteError) -> None:
        link = self.links[number]
        link.session.refuse(error)
        link.look()

    def cut(self, node: NodeWorld) -> None:
        for link in self.links.values():
            link.over = True

    def deliver(self, node: NodeWorld, most: int = 0) -> bool:
        return any([link.events() for link in self.ledger_links])  # noqa: C419  every one of them

    def move(self, seconds: float) -> None:
        """Time passes, with every timer on its way."""
        end = self.clock + seconds
        while self.clock < end:
            step = min(end, self.clock + TICK_S)
            self.pass_time(step - self.clock)
            for link in [*self.links.values(), *self.ledger_links]:
                link.session.handle_timer(self.clock)
                link.look()
            self.settle()


class Done:
    """A command of the driver, already carried out or waiting for the node."""

    def __init__(self, runner: MemoryRunner, look: Any) -> None:
        self._runner = runner
        self._look = look

    def done(self) -> bool:
        self._runner.settle()
        try:
            return self._look() is not None
        except ControlRefused:
            return True

    def result(self, wait_s: float) -> Mapping[str, Any]:
        self._runner.settle()
        answer = self._look()
        if answer is None:
            raise Violation("the driver's command did not come to an end")
        return answer


class MemoryControl:
    """The driver: what the operator of the node in memory can do."""

    commands = frozenset(
        ["id", "pay", "open", "close", "withdraw", "topup", "claim", "payments", "kill", "start", "snapshot", "restore"]
    )

    def __init__(self, runner: MemoryRunner) -> None:
        self._runner = runner

    def start(self, command: str, **arguments: Any) -> Done:
        try:
            look = getattr(self, f"_{command}")(**arguments)
        except LocalError as error:
            raise ControlRefused(f"{error.reason}: {error}") from None
        self._runner.settle()
        return Done(self._runner, look)

    @property
    def _world(self) -> KitWorld:
        return self._runner.world

    @property
    def _node(self) -> Node:
        return self._runner.world.node.node

    def _id(self) -> Any:
        answer = {"account": self._world.node.keys.account.public.hex()}
        return lambda: answer

    def _pay(self, channel: str, amount: str, count: int, payment_id: str) -> Any:
        name = bytes.fromhex(payment_id) or NO_ID
        ids = (name,) if name != NO_ID else ()
        items = [Queued(pack_record(int(amount), name), 1, int(amount), [], ids) for _ in range(count)]
        self._node.pay(bytes.fromhex(channel), items, self._world.clock)

        def look() -> Any:
            node = self._world.node
            if any(item in node.failed for item in items):
                raise ControlRefused("not paid")
            return {"first_n": items[0].first_n} if all(item in node.paid for item in items) else None

        return look

    def _open(self, peer: str, asset: str, deposit: str, flags: int, window_s: int, max_batch: int) -> Any:
        node = self._world.node
        nonce = node.node.open_channel(
            bytes.fromhex(peer), bytes.fromhex(asset), int(deposit), flags, window_s, max_batch, self._world.clock
        )

        def look() -> Any:
            for note in node.notes:
                if isinstance(note, OpenFailed) and note.open_nonce == nonce:
                    raise ControlRefused(str(note.error))
                if isinstance(note, OpenAccepted) and note.open_nonce == nonce:
                    return {"channel": note.channel_id.hex()}
            return None

        return look

    def _close(self, channel: str, force: bool) -> Any:
        self._node.close(bytes.fromhex(channel), force, self._world.clock)
        return dict

    def _withdraw(self, channel: str, amount: str) -> Any:
        channel_id = bytes.fromhex(channel)
        before = self._withdrawn(channel_id)
        self._node.withdraw(channel_id, int(amount), self._world.clock)

        def look() -> Any:
            if self._withdrawn(channel_id) == before + int(amount):
                return {}
            if not self._node.channels[channel_id].withdrawals:
                raise ControlRefused("the withdrawal was refused")
            return None

        return look

    def _withdrawn(self, channel_id: bytes) -> int:
        c = self._node.channels[channel_id]
        return c.reading.withdrawn[c.side] if c.reading else 0

    def _topup(self, channel: str, amount: str) -> Any:
        self._node.topup(bytes.fromhex(channel), int(amount), self._world.clock)
        return dict

    def _claim(self, channel: str) -> Any:
        self._node.claim(bytes.fromhex(channel), self._world.clock)
        return dict

    def _payments(self, channel: str) -> Any:
        rows = self._world.node.store.journal(0, 10_000, 10_000_000)
        amounts = [
            str(payment.amount)
            for row in rows
            if row.channel_id.hex() == channel and row.records
            for payment in Batch(row.first_n, row.records, row.memos).payments()
        ]
        return lambda: {"amounts": amounts}

    def _kill(self) -> Any:
        self._world.node.crash()
        return dict

    def _start(self) -> Any:
        self._world.node.start()
        self._world.node.connect_ledger()
        return dict

    def _snapshot(self) -> Any:
        shutil.copy(self._world.node.path, self._runner.path / "snapshot.db")
        return dict

    def _restore(self) -> Any:
        for left in self._runner.path.glob(f"{self._world.node.path.name}-*"):
            left.unlink()
        shutil.copy(self._runner.path / "snapshot.db", self._world.node.path)
        return dict


class MemoryRunner:
    """A world of its own for every case."""

    patience_s = 30.0
    tls = None
    quiet_s = 0.0

    def __init__(self, path: Path, *, driver: bool = True) -> None:
        self.path = path
        self._random = random.Random(7)
        self._links = 0
        bounds = AssetPolicy(min_deposit=100, max_unacked_value=6_000, min_payment=2)
        assets: dict[bytes, AssetPolicy] = {}
        policy = Policy(auto_accept=True, bounds=assets, min_window_s=MIN_WINDOW_S, max_unacked=100)
        self.world = KitWorld(path, policy)
        assets[self.world.ledger.asset_id] = bounds
        self.world.ledger.fund(POCKET.public, MONEY)
        self.node_id = self.world.node.id
        self.ledger_id = self.world.ledger.keys.identity.public
        self.control = MemoryControl(self) if driver else None

    @property
    def node(self) -> NodeWorld:
        return self.world.node

    @property
    def asset_id(self) -> bytes:
        return self.world.ledger.asset_id

    def settle(self) -> None:
        self.world.settle()

    def dial_node(self) -> NodeLink:
        if not self.world.node.alive:
            raise Violation("the node is not running")
        self._links += 1
        link = self.world.links[self._links] = NodeLink(self, self._links)
        return link

    def dial_ledger(self) -> LedgerLink:
        link = LedgerLink(self)
        self.world.ledger_links.append(link)
        return link

    def clock(self) -> float:
        return self.world.clock

    def sleep(self, seconds: float) -> None:
        self.world.move(seconds)

    def entropy(self, size: int) -> bytes:
        return self._random.randbytes(size)
