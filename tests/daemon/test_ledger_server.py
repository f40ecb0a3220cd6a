"""A ledger over TLS on loopback: clients, group commit, subscriptions, the timer, and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from channelpay.crypto import SigningKey
from channelpay.daemon import ledger_server
from channelpay.daemon.accepting import serve
from channelpay.daemon.dialling import dial
from channelpay.daemon.ledger_client import LedgerClient, connect_ledger
from channelpay.daemon.ledger_server import LedgerServer, serve_ledger
from channelpay.daemon.link import Link, open_link
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import ErrorCode, RemoteError, StoreFailed
from channelpay.keys import Address
from channelpay.ledger.audit import audit
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.requests import Ledger
from channelpay.limits import OUTAGE_S
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import CLOSING, SETTLED
from channelpay.messages.peer import Error, Event, Response, Role
from channelpay.session import Session, Side
from channelpay.statements import ZERO_HALF, response_bytes
from channelpay.store.ledger import LedgerStore
from ledger_world import (
    ALICE,
    BOB,
    CAROL,
    ISSUER,
    KEY0,
    KEY1,
    LEDGER,
    OPERATOR,
    RULES,
    START,
    USD,
    WINDOW_S,
    World,
    final,
    half,
    key,
    opening,
    state,
    terms,
)

HOST = "127.0.0.1"


@dataclass
class Running:
    """A ledger that runs, its clock in the test's hand."""

    store: LedgerStore
    address: Address
    now: int = START

    def connect(self, who: SigningKey):
        return connect_ledger(self.address, who)

    async def pass_time(self, client: LedgerClient, seconds: int) -> None:
        """Let time pass as it does for a ledger that runs: in ticks, none of them an outage."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + OUTAGE_S)
            while (await client.info(CAROL)).time < self.now:
                pass  # each asking waits for the ledger; its next tick brings the time


@asynccontextmanager
async def running(store: LedgerStore, now: int = START) -> AsyncIterator[Running]:
    """The ledger on these books, stopped in good order at the end."""
    world = Running(store, Address("cpl", LEDGER.public, HOST, 0), now)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        serve = partial(serve_ledger, store, LEDGER, RULES, [(HOST, 0)], tick_s=0.01, stop=stop)
        ((_, port),) = await nursery.start(partial(serve, clock=lambda: world.now))
        world.address = replace(world.address, port=port)
        with trio.fail_after(30):
            yield world
        stop.set()


@pytest.fixture
def store(tmp_path):
    store = LedgerStore.create(tmp_path / "ledger.db", LEDGER.public, START)
    yield store
    assert audit(store.books).discrepancies == ()
    store.close()


async def _money(client: LedgerClient) -> None:
    await client.request(OPERATOR, ops.CreateAsset("USD", 6, ISSUER.public))
    for who in (ALICE, BOB):
        await client.request(ISSUER, ops.Issue(USD, who.public, 10_000))


async def _take(events: AsyncIterator[Event], count: int) -> list[Event]:
    return [await anext(events) for _ in range(count)]


# --- Requests ------------------------------------------------------------------------------


async def test_a_channel_from_opening_to_settlement(store):
    async with running(store) as ledger, ledger.connect(ALICE) as client:
        await _money(client)
        channel = (await client.request(ALICE, opening(terms()))).channel_id
        await client.request(BOB, ops.Topup(channel, 1, 500))
        view = await client.request(CAROL, final(channel, half(3, 300), half(1, 20), ledger.now + 60))
        assert (view.status, view.out0, view.out1) == (SETTLED, 720, 780)
        account = await client.request(BOB, ops.Account(BOB.public))
        assert account.holdings == (ops.Holding(USD, 10_280),)
        page = await client.request(ALICE, ops.Channels(0))
        assert [shown.channel_id for shown in page.channels] == [channel]
        journal = await client.request(ALICE, ops.Journal(0))
        assert [entry.kind for entry in journal.entries] == ["issue", "open", "close_final"]


async def test_refusals_reach_the_client_by_name(store):
    async with running(store) as ledger, ledger.connect(ALICE) as client:
        await _money(client)
        with pytest.raises(LedgerRefused, match="holds 10000 units, not 10001") as refused:
            await client.request(ALICE, ops.Redeem(USD, 10_001))
        assert refused.value.outcome is Outcome.INSUFFICIENT_FUNDS
        with pytest.raises(LedgerRefused) as refused:
            await client.request(ALICE, ops.Channel(bytes(32)))
        assert refused.value.outcome is Outcome.UNKNOWN_CHANNEL


async def test_a_request_sent_again_on_another_connection_is_executed_once(store):
    async with running(store) as ledger:
        async with ledger.connect(ALICE) as client:
            await _money(client)
            transfer = ops.Transfer(USD, BOB.public, 100)
            request = await client.prepare(ALICE, transfer)
            first = await client.request(ALICE, transfer, request)
        async with ledger.connect(ALICE) as client:
            assert await client.request(ALICE, transfer, request) == first
            forged = replace(request, signature=bytes(64))
            with pytest.raises(LedgerRefused) as refused:
                await client.request(ALICE, transfer, forged)
            assert refused.value.outcome is Outcome.BAD_SIGNATURE
            assert (await client.request(ALICE, ops.Account(ALICE.public))).holdings[0].units == 9_900


async def test_many_requests_at_once_share_commits(store):
    commits: list[Any] = []
    commit = store.commit

    def counted(work):
        commits.append(work)
        return commit(work)

    store.commit = counted
    count = 200
    async with running(store) as ledger, ledger.connect(ALICE) as client:
        await _money(client)
        commits.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(client.request, ALICE, ops.Transfer(USD, BOB.public, 1))
        assert len(commits) < count / 2
        assert (await client.request(BOB, ops.Account(BOB.public))).holdings[0].units == 10_000 + count


async def test_more_requests_than_may_be_under_way_wait_and_are_all_answered(store, monkeypatch):
    monkeypatch.setattr(ledger_server, "MAX_REQUESTS_IN_FLIGHT", 4)
    count = 100
    async with running(store) as ledger, ledger.connect(ALICE) as client:
        await _money(client)
        requests = [await client.prepare(ALICE, ops.Transfer(USD, BOB.public, 1)) for _ in range(count)]
        async with dial(HOST, ledger.address.port, ALICE, LEDGER.public, Role.LEDGER_CLIENT) as link:
            link.send(b"".join(request.to_frame() for request in requests))
            answers = []
            while len(answers) < count:
                answers += await link.receive()
        assert [answer.request_id for answer in answers] == [request.request_id for request in requests]
        assert {answer.outcome for answer in answers if isinstance(answer, Response)} == {0}


async def test_a_subscriber_has_no_more_questions_waiting_than_requests_may_be_under_way(store, monkeypatch):
    """They wait for the events before them, of which there may be many."""
    monkeypatch.setattr(ledger_server, "MAX_REQUESTS_IN_FLIGHT", 4)
    waiting: list[int] = []
    next_page = LedgerServer._next

    def watched(self, client, account, after):
        waiting.append(len(client.infos))
        return next_page(self, client, account, after)

    monkeypatch.setattr(LedgerServer, "_next", watched)
    count = 50
    world = World()
    async with running(store) as ledger, ledger.connect(ALICE) as client:
        await _money(client)
        async with dial(HOST, ledger.address.port, ALICE, LEDGER.public, Role.LEDGER_CLIENT) as link:
            link.send(world.request(ALICE, ops.Subscribe(0)).to_frame())
            link.send(b"".join(world.request(ALICE, ops.Info()).to_frame() for _ in range(count)))
            answers: list[Any] = []
            while len(answers) < 1 + count:
                answers += [message for message in await link.receive() if isinstance(message, Response)]
    assert 1 < max(waiting) <= 4


async def test_a_reading_does_not_wait_for_a_commit(store):
    """The commit is held by the test until the reading has been answered."""
    reached, release = trio.Event(), trio.Event()
    commit = store.commit
    async with running(store) as ledger, ledger.connect(ALICE) as client:
        await _money(client)
        await client.info(ALICE)

        def held(work):
            trio.from_thread.run_sync(reached.set)
            trio.from_thread.run(release.wait)
            return commit(work)

        store.commit = held
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.request, ALICE, ops.Transfer(USD, BOB.public, 1))
            await reached.wait()
            assert (await client.request(BOB, ops.Account(BOB.public))).holdings[0].units == 10_000
            store.commit = commit
            release.set()
        assert (await client.request(BOB, ops.Account(BOB.public))).holdings[0].units == 10_001


# --- Strangers and rule breakers ---------------------------------------------------------------


async def test_an_impostor_is_not_taken_for_the_ledger(store):
    async with running(store) as ledger:
        wrong = replace(ledger.address, key=key("another ledger").public)
        with pytest.raises(RemoteError) as failure:
            async with connect_ledger(wrong, ALICE):
                pass
        assert failure.value.code is ErrorCode.WRONG_IDENTITY


async def test_what_is_no_request_ends_that_connection_only(store):
    async with running(store) as ledger, ledger.connect(ALICE) as client:
        async with dial(HOST, ledger.address.port, BOB, LEDGER.public, Role.LEDGER_CLIENT) as link:
            link.send(Error(ErrorCode.BALANCE, bytes(32), "to whom").to_frame())
            with pytest.raises(LinkClosed) as closed:
                await link.receive()
            assert closed.value.farewell is not None
            assert closed.value.farewell.code == ErrorCode.UNEXPECTED
        assert (await client.info(ALICE)).ledger_id == LEDGER.public


async def test_a_blob_that_is_no_request_is_refused_by_name(store):
    async with running(store) as ledger, ledger.connect(ALICE) as client:
        request = replace(await client.prepare(ALICE, ops.Redeem(USD, 1)), blob=b"\x90")
        with pytest.raises(LedgerRefused) as refused:
            await client.request(ALICE, ops.Redeem(USD, 1), request)
        assert refused.value.outcome is Outcome.BAD_REQUEST


# --- Subscriptions -------------------------------------------------------------------------


async def test_a_subscription_tells_the_past_and_then_the_present(store):
    async with running(store) as ledger, ledger.connect(BOB) as client, ledger.connect(ALICE) as other:
        await _money(other)
        first = (await other.request(ALICE, opening(terms(1)))).channel_id
        events = client.subscribe(BOB)
        assert [event.kind for event in await _take(events, 2)] == ["issue", "open"]
        await other.request(CAROL, final(first, half(1, 100), ZERO_HALF, ledger.now))
        balance, channel = await _take(events, 2)
        assert (balance.subject, channel.subject) == (BOB.public, first)
        assert ops.AccountView.decode(balance.body).holdings == (ops.Holding(USD, 10_100),)
        assert ops.ChannelView.decode(channel.body).status == SETTLED
        await events.aclose()


async def test_a_subscription_resumes_after_any_number(store):
    async with running(store) as ledger, ledger.connect(ALICE) as other:
        await _money(other)
        for _ in range(300):  # more than one page
            await other.request(ALICE, ops.Transfer(USD, BOB.public, 1))
        numbers: list[int] = []
        while len(numbers) < 301:
            async with ledger.connect(BOB) as client:
                events = client.subscribe(BOB, numbers[-1] if numbers else 0)
                numbers += [event.number for event in await _take(events, min(100, 301 - len(numbers)))]
                await events.aclose()
        journal = [line.number for line in store.books.lines(BOB.public, 0, 1000, own=False)]
        assert numbers == journal


async def test_live_events_under_load_have_no_gap_and_no_repetition(store):
    count = 500
    async with running(store) as ledger, ledger.connect(ALICE) as other, ledger.connect(BOB) as client:
        await _money(other)
        seen: list[Event] = []

        async def watch() -> None:
            events = client.subscribe(BOB)
            seen.extend(await _take(events, count + 1))
            await events.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            for _ in range(count):
                nursery.start_soon(other.request, ALICE, ops.Transfer(USD, BOB.public, 1))
        units = [ops.AccountView.decode(event.body).holdings[0].units for event in seen]
        assert units == list(range(10_000, 10_000 + count + 1))
        assert [event.number for event in seen] == sorted({event.number for event in seen})


async def test_one_subscription_for_each_connection(store):
    async with running(store) as ledger, ledger.connect(BOB) as client:
        await client.request(BOB, ops.Subscribe(0))
        with pytest.raises(LedgerRefused) as refused:
            await client.request(BOB, ops.Subscribe(0))
        assert refused.value.outcome is Outcome.ALREADY_SUBSCRIBED


async def test_a_subscription_from_the_future_is_refused_and_does_not_count(store):
    async with running(store) as ledger, ledger.connect(BOB) as client:
        with pytest.raises(LedgerRefused) as refused:
            await client.request(BOB, ops.Subscribe(1))
        assert refused.value.outcome is Outcome.UNKNOWN_NUMBER
        await client.request(BOB, ops.Subscribe(0))


class _DeafPeer:
    """A client that speaks and stops reading when it likes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.session = Session(Side.CONNECTED, Role.LEDGER_CLIENT, BOB, nonce=bytes(32), certificate=b"memory")

    async def authenticate(self) -> None:
        self.session.start(trio.current_time())
        while not self.session.established:
            await self.stream.send_all(self.session.outgoing())
            self.session.receive(await self.stream.receive_some(4096), trio.current_time())
        await self.stream.send_all(self.session.outgoing())


async def test_a_subscriber_that_does_not_read_is_disconnected(store, monkeypatch):
    monkeypatch.setattr(ledger_server, "PING_TIMEOUT_S", 0.05)
    monkeypatch.setattr(ledger_server, "_QUEUED_BYTES", 100)
    ledger = Ledger(LEDGER, RULES)
    world = World(ledger=ledger)

    def fill(books):
        world.books = books
        world.with_money()

    store.commit(fill)
    server = LedgerServer(store, ledger, lambda: START, tick_s=1.0)
    stream, other = trio.testing.lockstep_stream_pair()
    session = Session(Side.LISTENED, Role.LEDGER, LEDGER, nonce=bytes(32), certificate=b"memory")
    why: list[BaseException] = []

    async def serve_one() -> None:
        try:
            async with open_link(other, session) as link:
                await server.converse(link)
        except* RemoteError as group:
            why.extend(group.exceptions)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_one)
            peer = _DeafPeer(stream)
            await peer.authenticate()
            await stream.send_all(world.request(BOB, ops.Subscribe(0)).to_frame())
    (failure,) = why
    assert isinstance(failure, RemoteError)
    assert failure.code is ErrorCode.TIMED_OUT


# --- A ledger that lies --------------------------------------------------------------------


def _signed_by_another(request, response):
    signed = response_bytes(LEDGER.public, request.request_id, response.request_hash, 0, response.body)
    return replace(response, signature=key("another").sign(signed))


def _answer_to_another_request(request, response):
    digest = bytes(32)
    signed = response_bytes(LEDGER.public, request.request_id, digest, 0, response.body)
    return replace(response, request_hash=digest, signature=LEDGER.sign(signed))


def _other_body(request, response):
    return replace(response, body=response.body[:-1])


@pytest.mark.parametrize("lie", [_signed_by_another, _answer_to_another_request, _other_body])
async def test_an_answer_that_does_not_belong_to_the_request_is_not_believed(lie):
    world = World()

    async def liar(link: Link) -> None:
        while True:
            for request in await link.receive():
                link.send(lie(request, world.send(request)).to_frame())

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        await nursery.start(partial(serve, listeners, LEDGER, Role.LEDGER, [], liar))
        address = Address("cpl", LEDGER.public, HOST, listeners[0].socket.getsockname()[1])
        async with connect_ledger(address, ALICE) as client:
            with pytest.raises(RemoteError) as failure:
                await client.info(ALICE)
        assert failure.value.code is ErrorCode.BAD_SIGNATURE
        nursery.cancel_scope.cancel()


# --- Time ----------------------------------------------------------------------------------


async def test_the_timer_settles_and_tells_at_the_deadline(store):
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(running(store))
        client = await stack.enter_async_context(ledger.connect(BOB))
        await _money(client)
        channel = (await client.request(ALICE, opening(terms()))).channel_id
        await client.request(KEY0, ops.Close(channel, ()))
        await client.request(KEY1, ops.Respond(channel, (state(channel, half(2, 250)),)))
        number = (await client.info(BOB)).number
        await ledger.pass_time(client, WINDOW_S - 1)
        assert (await client.request(BOB, ops.Channel(channel))).status == CLOSING
        ledger.now += 1
        events = client.subscribe(BOB, number)
        balance, settled = await _take(events, 2)
        assert (balance.kind, settled.kind) == ("settle", "settle")
        assert ops.ChannelView.decode(settled.body).out1 == 250
        await events.aclose()


async def test_a_restart_after_an_outage_gives_disputes_their_time(store):
    async with running(store) as ledger, ledger.connect(BOB) as client:
        await _money(client)
        channel = (await client.request(ALICE, opening(terms()))).channel_id
        await client.request(KEY0, ops.Close(channel, ()))
    later = START + 50 * WINDOW_S
    async with running(store, later) as ledger, ledger.connect(BOB) as client:
        view = await client.request(BOB, ops.Channel(channel))
        assert (view.status, view.deadline, view.time) == (CLOSING, later + WINDOW_S, later)


async def test_a_wall_clock_that_goes_back_does_not_take_the_ledger_with_it(store):
    async with running(store) as ledger, ledger.connect(BOB) as client:
        ledger.now = START - 1000
        await _money(client)
        assert (await client.info(BOB)).time == START


# --- The end -------------------------------------------------------------------------------


async def test_stopping_tells_the_clients_and_leaves_the_store_sound(store):
    async with trio.open_nursery() as nursery:
        told: list[LinkClosed] = []

        async def watch(ledger: Running, up: Callable[[], None]) -> None:
            async with ledger.connect(BOB) as client:
                await client.request(BOB, ops.Info())
                up()
                with pytest.raises(LinkClosed) as closed:
                    await anext(client.subscribe(BOB))
                told.append(closed.value)

        async with running(store) as ledger:
            up = trio.Event()
            nursery.start_soon(watch, ledger, up.set)
            await up.wait()
    (closed,) = told
    assert closed.farewell is not None
    assert closed.farewell.code == ErrorCode.STOPPING


async def test_a_failed_commit_stops_the_ledger_unanswered(store):
    answers: list[Any] = []

    def full_disk(work):
        raise StoreFailed("ledger.db: the disk is full")

    async def ask(address: Address) -> None:
        async with connect_ledger(address, ALICE) as client:
            await _money(client)
            store.commit = full_disk
            with pytest.raises(LinkClosed):
                answers.append(await client.request(ALICE, ops.Transfer(USD, BOB.public, 1)))

    async def serve(*, task_status: Any) -> None:
        with pytest.raises(StoreFailed, match="the disk is full"):
            await serve_ledger(
                store, LEDGER, RULES, [(HOST, 0)], clock=lambda: START, tick_s=0.01, task_status=task_status
            )

    async with trio.open_nursery() as nursery:
        ((_, port),) = await nursery.start(serve)
        nursery.start_soon(ask, Address("cpl", LEDGER.public, HOST, port))
    assert answers == []
    assert store.books.balance(BOB.public, USD) == 10_000


async def test_a_place_that_is_taken_is_an_error(store):
    async with running(store) as ledger:
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            await serve_ledger(store, LEDGER, RULES, [(HOST, ledger.address.port)])
