"""The node daemon in one process, without TLS and TCP: real engine, peers, ledger stream, api; links in memory.

The clock is trio's own (use `autojump_clock`), the ledger is the core on books in memory.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import trio

from channelpay.batches import NO_ID, RECORD_BYTES, pack_memos, pack_record
from channelpay.channel.state import Channel, Phase
from channelpay.daemon.api import Api
from channelpay.daemon.engine import Engine
from channelpay.daemon.ledger_stream import LedgerStream
from channelpay.daemon.peers import Peers
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import LocalError, RemoteError
from channelpay.framing import FrameBuffer
from channelpay.home import Home, NodeConfig
from channelpay.home.config import LedgerLink as LedgerSection
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, encode_id, parse_address
from channelpay.ledger.views import events
from channelpay.limits import MAX_FRAME
from channelpay.messages import control
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import LedgerRequest
from channelpay.messages.peer import Error, Message, Request, decode
from channelpay.node.node import Node
from channelpay.node.policy import Policy
from channelpay.store.node import NodeStore, create_node_store
from node_world import START, LedgerWorld, keyring

FUNDS = 10_000_000


class FakeLink:
    """Half of a connection: what one end sends the other receives, decoded."""

    def __init__(self, peer_id: bytes, initiated: bool) -> None:
        self.peer_id = peer_id
        self.initiated = initiated
        self.sent_bytes = self.received_bytes = 0
        self.inbox: list[Message] = []
        self.sent: list[Message] = []
        self.ended: Exception | None = None
        self.held = False  # keeps what comes from being received
        self._news = trio.lowlevel.ParkingLot()

    def send(self, frames: bytes) -> None:
        if self.ended is None:
            self.sent_bytes += len(frames)
            for message in _messages(frames):
                self.sent.append(message)
                self.passes(message)

    def passes(self, message: Message) -> None:
        """What happens to a message that was sent."""
        raise NotImplementedError

    def take(self, *messages: Message) -> None:
        self.received_bytes += sum(len(message.to_frame()) for message in messages)
        self.inbox += messages
        self._news.unpark_all()

    def hold(self, held: bool) -> None:
        self.held = held
        self._news.unpark_all()

    def end(self, error: RemoteError | None = None) -> None:
        self.break_off(LinkClosed("ended here"))

    def break_off(self, why: Exception) -> None:
        if self.ended is None:
            self.ended = why
        self._news.unpark_all()

    async def receive(self) -> list[Message]:
        await trio.lowlevel.checkpoint()
        while not self.inbox or self.held:
            if self.ended is not None:
                raise self.ended
            await self._news.park()
        messages, self.inbox = self.inbox, []
        return messages

    async def hand_on(self, take: Callable[[list[Message]], None]) -> NoReturn:
        while True:
            take(await self.receive())


def _messages(frames: bytes) -> list[Message]:
    buffer = FrameBuffer(MAX_FRAME)
    buffer.feed(frames)
    found = []
    while (frame := buffer.next_frame()) is not None:
        found.append(decode(*frame))
    return found


class PeerLink(FakeLink):
    other: PeerLink

    def passes(self, message: Message) -> None:
        if self.other.ended is None:
            self.other.take(message)

    def end(self, error: RemoteError | None = None) -> None:
        farewell = None if error is None else Error(int(error.code), None, error.text[:200])
        super().end(error)
        self.other.break_off(LinkClosed("ended by the peer", farewell))


class LedgerLink(FakeLink):
    """The ledger at the other end of a connection."""

    def __init__(self, world: LedgerWorld, account: bytes) -> None:
        super().__init__(world.ledger.ledger_id, True)
        self.world = world
        self.account = account
        self.watching = False
        self.seen = 0
        self.silent = False

    def passes(self, message: Message) -> None:
        assert isinstance(message, Request)
        self.world.time = START + int(trio.current_time())
        response = self.world.execute(message)
        operation = LedgerRequest.decode(message.blob).operation
        if isinstance(operation, ops.Subscribe) and not response.outcome:
            self.watching, self.seen = True, operation.after
        for other in self.world.links:
            other.events()
        if not self.silent:
            self.take(response)

    def events(self) -> None:
        while self.watching and self.ended is None:
            found = events(self.world.books, self.account, self.seen)
            if not found:
                return
            self.take(*found)
            self.seen = found[-1].number


class RigLedger(LedgerWorld):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[LedgerLink] = []

    async def run(self) -> None:
        """The ledger's own timer."""
        while True:
            await trio.sleep(1)
            self.time = START + int(trio.current_time())
            self.settle_due()
            for link in self.links:
                link.events()


class Rig:
    """One node daemon."""

    def __init__(self, ledger: RigLedger, n: int, path: Path, nursery: trio.Nursery, **policy: Any) -> None:
        self.ledger = ledger
        self.n = n
        self.keys = keyring(n)
        self.path = path
        self.nursery = nursery
        self.policy = Policy(auto_accept=True, min_window_s=10, **policy)
        self.home = Home(path)
        self.entropy = random.Random(n)
        self.stops = 0
        self.ledger_link: LedgerLink | None = None
        path.mkdir(exist_ok=True)
        if not self.home.node_db.exists():
            create_node_store(self.home.node_db, self.keys.identity.public, ledger.ledger.ledger_id)
        self.start()

    @property
    def id(self) -> bytes:
        return self.keys.identity.public

    @property
    def address(self) -> str:
        return f"{encode_id(NODE_PREFIX, self.id)}@127.0.0.1:{7000 + self.n}"

    def start(self) -> None:
        ledger_id = self.ledger.ledger.ledger_id
        self.store = NodeStore(self.home.node_db, self.id, ledger_id)
        self.node = Node(self.keys, ledger_id, self.policy, self.entropy.randbytes, trio.current_time())
        self.node.load(self.store)
        self.engine = Engine(self.node, self.store)
        self.peers = Peers(self.engine, self.keys.identity, ledger_id)
        address = parse_address(LEDGER_PREFIX, f"{encode_id(LEDGER_PREFIX, ledger_id)}@127.0.0.1:7669")
        self.stream = LedgerStream(self.engine, self.keys.identity, address)
        config = NodeConfig(ledger=LedgerSection(address))
        self.api = Api(self.engine, self.peers, self.stream, self.home, config, self._stop)
        self.scopes: list[trio.CancelScope] = []
        self.links: list[PeerLink] = []
        self.alive = True
        self.spawn(self.engine.run)

    def _stop(self) -> None:
        self.stops += 1

    def spawn(self, task: Any, *arguments: Any) -> None:
        """A task that dies with the daemon."""

        scope = trio.CancelScope()
        self.scopes.append(scope)

        async def run() -> None:
            with scope:
                await task(*arguments)

        self.nursery.start_soon(run)

    def kill(self) -> None:
        """The process is gone; its file is closed and its connections break."""
        self.alive = False
        self.engine.turn = lambda: None  # type: ignore[method-assign]
        for link in [*self.links, *([self.ledger_link] if self.ledger_link else [])]:
            link.break_off(LinkClosed("gone"))
            if isinstance(link, PeerLink):
                link.other.break_off(LinkClosed("the peer closed the connection"))
        for scope in self.scopes:
            scope.cancel()
        self.engine.submit = None
        self.store.close()

    # --- Connections -------------------------------------------------------------------------

    async def join_ledger(self) -> None:
        """Connect to the ledger and wait until it has been read."""
        link = self.ledger_link = LedgerLink(self.ledger, self.keys.account.public)
        self.ledger.links.append(link)
        self.spawn(self._converse_with_ledger, link)
        await self.until(lambda: self.node.ledger.fresh_at >= 0 and self.node.ledger.subscribed)

    async def _converse_with_ledger(self, link: LedgerLink) -> None:
        try:
            await self.stream._converse(link)  # type: ignore[arg-type]
        except (LinkClosed, RemoteError) as error:
            self.ledger_end = error
        finally:
            link.break_off(LinkClosed("closed"))
            self.ledger.links.remove(link)

    def lose_ledger(self) -> None:
        assert self.ledger_link is not None
        self.ledger_link.break_off(LinkClosed("the ledger went away"))

    async def _converse(self, link: PeerLink) -> None:
        try:
            await self.peers.converse(link)  # type: ignore[arg-type]
        except (LinkClosed, RemoteError) as error:
            self.peer_end = error
        finally:
            link.break_off(LinkClosed("closed"))
            link.other.break_off(LinkClosed("the peer closed the connection"))

    async def until(self, true: Any) -> None:
        """Wait for something: whatever can happen happens before the clock moves."""
        with trio.fail_after(100):
            while not true():
                await trio.sleep(0.01)

    # --- Looking -----------------------------------------------------------------------------

    def channel(self) -> Channel:
        (channel,) = self.node.channels.values()
        return channel

    async def pay(self, amount: int, payment_id: bytes = NO_ID, memo: bytes = b"") -> control.Paid:
        memos = pack_memos([(0, memo)] if memo else [])
        message = control.PayEach(7, self.channel().channel_id, pack_record(amount, payment_id), memos)
        return (await self.pay_each(message))[0]

    async def pay_each(self, message: control.PayEach) -> list[control.Paid]:
        """The answers; raises the first refusal when all are in."""
        answers: list[control.Paid | control.Refusal] = []
        count = len(message.records) // RECORD_BYTES
        heard = trio.Event()

        def done(answer: control.Paid | control.Refusal) -> None:
            answers.append(answer)
            if sum(a.count if isinstance(a, control.Paid) else 1 for a in answers) == count:
                heard.set()

        await self.api.wait_room(message.channel_id)
        self.api.pay_each(message, done)
        await heard.wait()
        for answer in answers:
            if isinstance(answer, control.Refusal):
                raise answer.error
        return [answer for answer in answers if isinstance(answer, control.Paid)]

    async def pay_many(self, message: control.PayMany) -> control.Paid:
        """All or none."""
        answers: list[control.Paid | LocalError] = []
        heard = trio.Event()

        def done(answer: control.Paid | LocalError) -> None:
            answers.append(answer)
            heard.set()

        await self.api.wait_room(message.channel_id)
        self.api.pay_many(message, done)
        await heard.wait()
        (answer,) = answers
        if isinstance(answer, LocalError):
            raise answer
        return answer

    def received(self) -> list[int]:
        """Units of everything received."""
        found: list[int] = []
        while page := self.store.journal(len(found), 10_000, 10_000_000):
            for row in page:
                found += [int.from_bytes(row.records[i : i + 8], "big") for i in range(0, len(row.records), 24)]
        return found


def connect(a: Rig, b: Rig) -> tuple[PeerLink, PeerLink]:
    """`a` dials `b`."""
    link_a, link_b = PeerLink(b.id, True), PeerLink(a.id, False)
    link_a.other, link_b.other = link_b, link_a
    a.links.append(link_a)
    b.links.append(link_b)
    a.spawn(a._converse, link_a)
    b.spawn(b._converse, link_b)
    return link_a, link_b


async def open_channel(a: Rig, b: Rig, deposit: int = 1_000_000, flags: int = 0, max_batch: int = 4096) -> Channel:
    """A channel that both sides may use."""
    method = control.OpenChannel(b.address, a.ledger.asset_id, deposit, flags, 60, max_batch)
    opened = await a.api.call(method)
    assert isinstance(opened, control.ChannelOne)
    channel = b.node.channels[opened.channel.channel_id]
    await b.until(lambda: channel.phase is Phase.OPEN and channel.live)
    return a.node.channels[channel.channel_id]


@asynccontextmanager
async def rigs(path: Path, count: int = 2) -> AsyncIterator[list[Rig]]:
    """Daemons that know the ledger; all are connected to the first."""
    ledger = RigLedger()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.run)
        found = []
        for n in range(1, count + 1):
            rig = Rig(ledger, n, path / f"node{n}", nursery)
            ledger.fund(rig.keys.account.public, FUNDS)
            await rig.join_ledger()
            found.append(rig)
        for rig in found[1:]:
            connect(found[0], rig)
            await rig.until(lambda r=rig: r.id in found[0].node.connections and found[0].id in r.node.connections)
        yield found
        for rig in found:
            if rig.alive:
                rig.kill()
        nursery.cancel_scope.cancel()


__all__ = ["FUNDS", "Rig", "connect", "open_channel", "rigs"]
