"""The ledger as a server: group commit, readings beside it, subscriptions, its own timer. Spec L-9, L-15, L-20 to L-23.

Every request that has been read from any connection and not yet executed goes into the next
transaction. It is executed here, a few requests at a time; the commit waits for the disk in a thread,
while the signatures of the next requests are verified; then all of them are answered. Readings are
answered at once, from a second connection to the file, and never wait for a commit. A subscription
reads the journal itself, so that what it sends is in order and without gaps; a commit only tells it
to look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog
import trio

from channelpay.crypto import SigningKey, sha256
from channelpay.daemon.accepting import serve
from channelpay.daemon.descriptors import connections_possible
from channelpay.daemon.link import Link, leaves
from channelpay.daemon.outside import in_thread, wall_time
from channelpay.daemon.outside import listen as open_listeners
from channelpay.errors import ErrorCode, RemoteError, StoreFailed
from channelpay.home.config import Admission
from channelpay.ledger.books import Books, Rules
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.requests import Admitted, Ledger, advance, settle_due
from channelpay.ledger.views import events
from channelpay.limits import LEDGER_TICK_S, MAX_REQUESTS_IN_FLIGHT, PING_TIMEOUT_S
from channelpay.messages.ledger import Info, Subscribe
from channelpay.messages.peer import Event, Message, Request, Response, Role
from channelpay.store.ledger import LedgerStore

Clock = Callable[[], int]
"""Seconds since 1970 by the wall; the ledger sees to it that its own clock never goes back."""

Place = tuple[str, int]
"""Host and port."""

_REQUESTS_IN_ONE_COMMIT: Final = 1024
"""More would make those wait long that came first."""

_REQUESTS_AT_ONCE: Final = 8
"""Requests executed, or read from one connection, before others have a turn: a few milliseconds."""

_QUEUED_BYTES: Final = 1024 * 1024
"""Above this a client's answers and events wait until it has read; below what would end its link."""

_EVENTS_AT_ONCE: Final = 128
"""Events in one send: about 100 KiB."""

_log = structlog.get_logger("channelpay.ledger")


def wall_clock() -> int:
    """The system's time in whole seconds."""
    return int(wall_time())


class _Client:
    """One connection: how many of its requests are under way, and whether it is subscribed."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.subscribed = False
        self.looking = trio.Event()  # set: the journal or `infos` has something for the subscription
        self.infos: list[Admitted] = []
        self._under_way = 0
        self._room = trio.Event()

    def asked(self) -> None:
        self._under_way += 1

    def tell(self, messages: Sequence[Event | Response]) -> None:
        """Send events, and answers to requests that were `asked`."""
        self._under_way -= sum(isinstance(message, Response) for message in messages)
        self.link.send(b"".join(message.to_frame() for message in messages))
        self._room.set()

    async def wait_for_room(self) -> None:
        """Until the client has read its answers and may have another request under way (spec L-23)."""
        if self.link.queued_bytes >= _QUEUED_BYTES:
            await self.wait_read()
        while self._under_way >= MAX_REQUESTS_IN_FLIGHT:
            self._room = trio.Event()
            await self._room.wait()

    async def wait_read(self) -> None:
        """Until little waits to be read; raises RemoteError when the client does not read (spec L-22)."""
        try:
            with trio.fail_after(PING_TIMEOUT_S):
                await self.link.wait_queued_below(_QUEUED_BYTES)
        except trio.TooSlowError:
            raise RemoteError(ErrorCode.TIMED_OUT, "answers or events wait and are not read") from None


class LedgerServer:
    """The running ledger; made and run by `serve_ledger`."""

    def __init__(self, store: LedgerStore, ledger: Ledger, clock: Clock, tick_s: float) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._tick_s = tick_s
        self._waiting: list[tuple[_Client, Admitted]] = []
        self._work = trio.Event()
        self._committing = trio.Lock()
        self._clients: dict[_Client, None] = {}  # in the order in which they came
        self._news: defaultdict[bytes, set[_Client]] = defaultdict(set)

    # --- Connections -----------------------------------------------------------------------

    async def converse(self, link: Link) -> None:
        """Serve one client until its connection ends."""
        client = _Client(link)
        self._clients[client] = None
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    for count, message in enumerate(await link.receive(), 1):
                        await self._take(client, message, nursery)
                        if count % _REQUESTS_AT_ONCE == 0:
                            await trio.lowlevel.checkpoint()
        finally:
            self._clients.pop(client, None)

    async def _take(self, client: _Client, message: Message, nursery: trio.Nursery) -> None:
        if not isinstance(message, Request):
            raise RemoteError(ErrorCode.UNEXPECTED, f"a ledger is sent requests, not {type(message).__name__}")
        await client.wait_for_room()
        try:
            admitted = self._ledger.admit(message)
        except LedgerRefused as refusal:
            self._refuse(client, message.request_id, sha256(message.blob), refusal)
            return
        if not admitted.is_read:
            client.asked()
            self._waiting.append((client, admitted))
            self._work.set()
        elif isinstance(admitted.operation, Subscribe):
            self._subscribe(client, admitted, admitted.operation.after, nursery)
        elif isinstance(admitted.operation, Info) and client.subscribed:
            client.asked()
            client.infos.append(admitted)
            client.looking.set()
        else:
            client.link.send(self._read(admitted).to_frame())

    def _read(self, admitted: Admitted) -> Response:
        books = self._store.books
        with books.snapshot():
            return self._ledger.read(books, admitted, books.clock())

    def _refuse(self, client: _Client, request_id: bytes, request_hash: bytes, refusal: LedgerRefused) -> None:
        client.link.send(self._ledger.refuse(request_id, request_hash, refusal).to_frame())

    # --- Subscriptions ---------------------------------------------------------------------

    def _subscribe(self, client: _Client, admitted: Admitted, after: int, nursery: trio.Nursery) -> None:
        if client.subscribed:
            refusal = LedgerRefused(Outcome.ALREADY_SUBSCRIBED)
            self._refuse(client, admitted.request_id, admitted.request_hash, refusal)
            return
        response = self._read(admitted)
        client.link.send(response.to_frame())
        if response.outcome == Outcome.DONE:
            client.subscribed = True
            nursery.start_soon(self._stream, client, admitted.key, after)

    async def _stream(self, client: _Client, account: bytes, after: int) -> None:
        """Send the account's events from `after` on, for as long as the connection lives (spec L-21)."""
        news = self._news[account]
        news.add(client)
        try:
            while True:
                client.looking = trio.Event()  # in place before the journal is read: nothing committed since is missed
                while page := self._next(client, account, after):
                    client.tell(page)
                    after = max([after, *(message.number for message in page if isinstance(message, Event))])
                    await client.wait_read()
                await client.looking.wait()
        finally:
            news.discard(client)
            if not news and self._news.get(account) is news:
                del self._news[account]

    def _next(self, client: _Client, account: bytes, after: int) -> Sequence[Event | Response]:
        """The next events; when there are none, the answers to `info` that waited for them.

        Both come from one moment of the books, so an answer to `info` says that every event up to its
        number has been sent before it (spec L-22).
        """
        books = self._store.books
        with books.snapshot():
            page = events(books, account, after, _EVENTS_AT_ONCE)
            if page:
                return page
            infos, client.infos = client.infos, []
            return [self._ledger.read(books, admitted, books.clock()) for admitted in infos]

    # --- Commits ---------------------------------------------------------------------------

    async def keep_books(self) -> None:
        """Commit whatever waits, and at least once in a tick; until cancelled. Raises StoreFailed."""
        while True:
            with trio.move_on_after(self._tick_s):
                await self._work.wait()
            async with self._committing:
                await self._commit()

    async def _commit(self) -> None:
        batch, self._waiting = self._waiting[:_REQUESTS_IN_ONE_COMMIT], self._waiting[_REQUESTS_IN_ONE_COMMIT:]
        self._work = trio.Event()
        if self._waiting:
            self._work.set()
        answers = await self._execute(batch, self._clock())
        _, concerned = await in_thread(partial(self._store.commit, _as_gathered))
        for client, responses in answers.items():  # spec L-9: durable before answered
            client.tell(responses)
        for account in concerned & self._news.keys():
            for client in self._news[account]:
                client.looking.set()

    async def _execute(self, batch: Sequence[tuple[_Client, Admitted]], wall: int) -> dict[_Client, list[Response]]:
        """One transaction's work: the clock, the requests, then the timer (spec L-15, L-36).

        Not in a thread: it needs the interpreter all the time, which two threads would take from each other. All of
        it is written here too, so that nothing but the disk is left for the commit.
        """
        books = self._store.batch
        books.begin()
        now = advance(self._ledger, books, wall)
        answers: defaultdict[_Client, list[Response]] = defaultdict(list)
        for count, (client, admitted) in enumerate(batch, 1):
            answers[client].append(self._ledger.write(books, admitted, now))
            if count % _REQUESTS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        if settled := settle_due(self._ledger, books, now):
            _log.info("disputes settled at their deadline", count=settled)
            self._work.set()  # there may be more than one transaction settles
        books.flush()
        return answers

    # --- The end ---------------------------------------------------------------------------

    async def stop(self) -> None:
        """Let the commit under way finish and be answered, then end every connection.

        What was read and not begun is dropped: its sender asks again.
        """
        async with self._committing:
            self._waiting.clear()
            for client in self._clients:
                client.link.end(RemoteError(ErrorCode.STOPPING, "the ledger is going down"))


async def serve_ledger(
    store: LedgerStore,
    key: SigningKey,
    rules: Rules,
    listen: Sequence[Place],
    *,
    admission: Admission | None = None,
    clock: Clock = wall_clock,
    tick_s: float = LEDGER_TICK_S,
    stop: trio.Event | None = None,
    task_status: trio.TaskStatus[list[Place]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the ledger `key` on the books of `store` until `stop` is set, or until cancelled.

    `task_status` tells the (host, port) pairs listened on, once requests are answered there. Raises
    StoreFailed when a commit or a reading failed (nothing goes on after that), OSError when it cannot
    listen.
    """
    server = LedgerServer(store, Ledger(key, rules), clock, tick_s)
    listeners = [listener for host, port in listen for listener in await open_listeners(port, host)]
    places = [_place(listener) for listener in listeners]
    try:
        async with trio.open_nursery() as nursery:
            # The first commit before the first client: it moves the clock and sees to what an outage did.
            await server._commit()
            nursery.start_soon(server.keep_books)
            most = connections_possible()  # everybody is a guest here: an account has no connection of its own
            roles = (Role.NODE, Role.LEDGER_CLIENT)
            accept = partial(
                serve, listeners, key, Role.LEDGER, [key.public], server.converse, takes=roles,
                admission=admission, max_connections=most, max_guests=most,
            )  # fmt: skip
            await nursery.start(accept)
            task_status.started(places)
            _log.info("ledger is up", listening=[f"{host}:{port}" for host, port in places])
            await (trio.Event() if stop is None else stop).wait()
            await server.stop()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failure = next((leaf for leaf in leaves(group) if isinstance(leaf, StoreFailed)), None)
        if failure is None:
            raise
        raise failure from group


def _as_gathered(_: Books) -> None:
    """Nothing more to do in a transaction."""


def _place(listener: trio.SocketListener) -> Place:
    host, port = listener.socket.getsockname()[:2]
    return host, port
