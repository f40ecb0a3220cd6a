"""Links over memory streams, and over TLS on loopback where the network itself is the point."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from socket import SO_LINGER, SOL_SOCKET

import pytest
import trio
import trio.testing

from channelpay import limits
from channelpay.crypto import SigningKey
from channelpay.daemon import tls
from channelpay.daemon.accepting import Handler, _address, serve
from channelpay.daemon.dialling import dial
from channelpay.daemon.link import Link, open_link
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import ErrorCode, RemoteError
from channelpay.home.config import Admission
from channelpay.messages.peer import Error, Funded, Hello, Message, Pay, Ping, Role, Shutdown
from channelpay.session import Session, Side

ALICE = SigningKey(b"a" * 32)
BOB = SigningKey(b"b" * 32)
MALLORY = SigningKey(b"m" * 32)
CAROL = SigningKey(b"c" * 32)
ID = b"\x07" * 32
CERTIFICATE = b"the channel binding of a memory stream"
HOST = "127.0.0.1"


def session(side: Side) -> Session:
    identity = ALICE if side is Side.CONNECTED else BOB
    return Session(side, Role.NODE, identity, nonce=bytes([side]) * 32, certificate=CERTIFICATE)


@asynccontextmanager
async def two_links() -> AsyncIterator[tuple[Link, Link]]:
    """Alice's link to Bob and Bob's to Alice over memory; both closed at the end."""
    one, other = trio.testing.memory_stream_pair()
    async with linked(one) as raw, open_link(other, session(Side.LISTENED)) as second:
        yield await raw(), second


@asynccontextmanager
async def linked(stream: trio.abc.Stream) -> AsyncIterator[Callable[[], Awaitable[Link]]]:
    """A link of Alice's that runs in a task of its own, since both sides must shake hands at once."""
    ready, done = trio.Event(), trio.Event()
    links: list[Link] = []

    async def run() -> None:
        async with open_link(stream, session(Side.CONNECTED)) as link:
            links.append(link)
            ready.set()
            await done.wait()

    async def wait() -> Link:
        await ready.wait()
        return links[0]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        try:
            yield wait
        finally:
            done.set()


class RawPeer:
    """Alice without a link: a session that says and reads only what the test lets it."""

    def __init__(self, stream: trio.abc.Stream, certificate: bytes = CERTIFICATE) -> None:
        self.stream = stream
        self.session = Session(Side.CONNECTED, Role.NODE, ALICE, nonce=ID, certificate=certificate)

    async def authenticate(self) -> None:
        self.session.start(trio.current_time())
        while True:
            await self.stream.send_all(self.session.outgoing())
            if self.session.established:
                return
            self.session.receive(await self.stream.receive_some(4096), trio.current_time())

    async def read_to_end(self) -> None:
        """Read until the other side ends the stream; `session.farewell` then holds its ERROR."""
        while data := await self.stream.receive_some(4096):
            self.session.receive(data, trio.current_time())


async def take(link: Link) -> None:
    """Be there for the link, as a node is, until it is over."""
    while link.ended is None:
        with suppress(RemoteError, LinkClosed):
            await link.receive()


async def received(link: Link, count: int) -> list[Message]:
    messages: list[Message] = []
    while len(messages) < count:
        messages += await link.receive()
    return messages


# --- Two links -------------------------------------------------------------------------------


async def test_messages_cross_and_bytes_are_counted() -> None:
    async with two_links() as (one, other):
        assert (one.peer_id, other.peer_id) == (BOB.public, ALICE.public)
        assert (one.initiated, other.initiated) == (True, False)
        assert (one.peer_role, one.peer_ledger_ids, one.peer_agent) == (Role.NODE, (), "")
        before = one.sent_bytes
        sent: list[Message] = [Shutdown(ID, n) for n in range(100)]
        for message in sent:
            one.send(message.to_frame())
        other.send(Funded(ID).to_frame())
        assert await received(other, 100) == sent
        assert await received(one, 1) == [Funded(ID)]
        assert one.sent_bytes - before == sum(len(m.to_frame()) for m in sent)
        assert one.sent_bytes == other.received_bytes
        assert other.sent_bytes == one.received_bytes
        assert one.queued_bytes == 0


class CountingStream(trio.abc.Stream):
    """Counts what is handed to the transport at once."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.sends = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sends += 1
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_what_is_queued_together_leaves_together(autojump_clock: trio.testing.MockClock) -> None:
    one, other = trio.testing.memory_stream_pair()
    counting = CountingStream(other)
    async with linked(one) as wait, open_link(counting, session(Side.LISTENED)) as link:
        alice = await wait()
        before = counting.sends
        for n in range(1000):
            link.send(Shutdown(ID, n).to_frame())
        assert await received(alice, 1000) == [Shutdown(ID, n) for n in range(1000)]
        assert counting.sends == before + 1


async def test_all_that_was_read_comes_at_once() -> None:
    async with two_links() as (one, other):
        for n in range(1000):
            one.send(Shutdown(ID, n).to_frame())
        await trio.testing.wait_all_tasks_blocked()
        assert len(await other.receive()) == 1000


async def test_nothing_is_read_ahead_of_who_takes_it() -> None:
    batch = Pay(ID, 1, bytes(24) * limits.MAX_BATCH, b"", 0, bytes(64)).to_frame()
    async with two_links() as (one, other):
        before = other.received_bytes
        for _ in range(20):
            one.send(batch)
        await trio.testing.wait_all_tasks_blocked()
        assert other.received_bytes == before
        assert len(await received(other, 20)) == 20


async def test_what_came_before_the_end_is_delivered() -> None:
    one, other = trio.testing.memory_stream_pair()
    alice = RawPeer(one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.authenticate)
        async with open_link(other, session(Side.LISTENED)) as link:
            await one.send_all(Funded(ID).to_frame())
            await one.aclose()
            assert await link.receive() == [Funded(ID)]
            with pytest.raises(LinkClosed, match="the peer closed the connection"):
                await link.receive()
            link.send(Funded(ID).to_frame())  # into the void, as on a broken connection
            assert link.queued_bytes == 0


async def test_messages_are_handed_on_until_the_end() -> None:
    one, other = trio.testing.memory_stream_pair()
    alice = RawPeer(one)
    taken: list[Message] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.authenticate)
        async with open_link(other, session(Side.LISTENED)) as link:
            await one.send_all(Funded(ID).to_frame())
            nursery.start_soon(one.send_all, Funded(ID).to_frame() * 2 + bytes(4))  # a fault behind two of them
            with pytest.raises(RemoteError, match="a frame of length 0"):
                await link.hand_on(taken.extend)
    assert taken == [Funded(ID)] * 3


async def test_who_hands_on_may_end_the_link() -> None:
    async with two_links() as (one, other):
        one.send(Funded(ID).to_frame())
        with pytest.raises(LinkClosed, match="ended here"):
            await other.hand_on(lambda _: other.end())


async def test_a_link_that_hands_on_answers_and_sends_pings(autojump_clock: trio.testing.MockClock) -> None:
    taken: list[Message] = []
    async with two_links() as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(one.hand_on, taken.extend)
        nursery.start_soon(other.hand_on, taken.extend)
        for _ in range(5):
            await trio.sleep(limits.PING_INTERVAL_S / 2 + 1)
            one.send(Funded(ID).to_frame())
        quiet = one.received_bytes, other.received_bytes
        await trio.sleep(3 * limits.PING_TIMEOUT_S)
        assert one.ended is None
        assert other.ended is None
        assert quiet < (one.received_bytes, other.received_bytes)
        assert taken == [Funded(ID)] * 5
        nursery.cancel_scope.cancel()


async def test_who_waits_is_told_when_the_link_is_ended_here() -> None:
    async with two_links() as (one, _), trio.open_nursery() as nursery:
        nursery.start_soon(take, one)
        await trio.testing.wait_all_tasks_blocked()
        one.end()
        with pytest.raises(LinkClosed, match="ended here"):
            await one.receive()


async def test_a_fenced_links_input_is_dropped() -> None:
    async with two_links() as (one, other):
        one.send(Funded(ID).to_frame())
        await trio.testing.wait_all_tasks_blocked()
        other.end(RemoteError(ErrorCode.REPLACED, "a newer connection took over"))
        with pytest.raises(LinkClosed, match="replaced"):
            await other.receive()
        with pytest.raises(LinkClosed, match="a newer connection took over") as caught:
            await one.receive()
        assert caught.value.farewell == Error(ErrorCode.REPLACED, None, "a newer connection took over")


async def _raise(error: Exception) -> None:
    raise error


async def _raise_in_a_nursery(error: Exception) -> None:
    async with trio.open_nursery():
        raise error


@pytest.mark.parametrize("fail", [_raise, _raise_in_a_nursery])
async def test_a_fault_found_by_the_application_is_told(fail: Callable[[Exception], Awaitable[None]]) -> None:
    one, other = trio.testing.memory_stream_pair()
    async with linked(one) as wait:

        async def run() -> None:
            async with open_link(other, session(Side.LISTENED)):
                await wait()
                await fail(RemoteError(ErrorCode.BAD_SIGNATURE, "not his"))

        with pytest.raises((RemoteError, ExceptionGroup)) as raised:
            await run()
        assert isinstance(raised.value, ExceptionGroup) == (fail is _raise_in_a_nursery)
        alice = await wait()
        with pytest.raises(LinkClosed) as caught:
            await alice.receive()
        assert caught.value.farewell == Error(ErrorCode.BAD_SIGNATURE, None, "not his")


async def test_the_peers_fault_comes_after_its_good_messages_and_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one, other = trio.testing.memory_stream_pair()
    alice = RawPeer(one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.authenticate)
        async with open_link(other, session(Side.LISTENED)) as link:
            await one.send_all(Funded(ID).to_frame() + b"\x00\x00\x00\x01\x77" + Funded(ID).to_frame())
            assert await link.receive() == [Funded(ID)]
            with pytest.raises(RemoteError) as caught:
                await link.receive()
            nursery.start_soon(alice.read_to_end)
        assert caught.value.code is ErrorCode.MALFORMED
        await one.aclose()
    assert alice.session.farewell is not None
    assert alice.session.farewell.code == ErrorCode.MALFORMED


async def test_a_stranger_is_told_nothing(autojump_clock: trio.testing.MockClock) -> None:
    one, other = trio.testing.memory_stream_pair()
    await one.send_all(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(RemoteError) as caught:
        async with open_link(other, session(Side.LISTENED)):
            pytest.fail("a link without AUTH")
    assert caught.value.code is ErrorCode.TOO_LARGE
    sent = await one.receive_some(4096)
    assert sent[4] == Hello.TYPE
    assert len(sent) == 4 + int.from_bytes(sent[:4], "big")
    assert await one.receive_some(4096) == b""


# --- Time ------------------------------------------------------------------------------------


async def test_an_idle_link_lives_on(autojump_clock: trio.testing.MockClock) -> None:
    async with two_links() as (one, other), trio.open_nursery() as nursery:
        quiet = one.received_bytes
        nursery.start_soon(take, one)
        with trio.move_on_after(3600):
            await other.receive()
        assert one.ended is None
        assert other.ended is None
        assert one.received_bytes > quiet
        one.send(Funded(ID).to_frame())
        assert await other.receive() == [Funded(ID)]
        one.end()


async def test_a_silent_peer_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    one, other = trio.testing.memory_stream_pair()
    alice = RawPeer(one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.authenticate)
        with pytest.raises(RemoteError) as caught:
            async with open_link(other, session(Side.LISTENED)) as link:
                await link.receive()
        assert caught.value.code is ErrorCode.TIMED_OUT
        assert trio.current_time() == pytest.approx(limits.PING_TIMEOUT_S + limits.LINGER_TIMEOUT_S, abs=0.1)


async def test_a_handshake_has_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    _, other = trio.testing.memory_stream_pair()
    with pytest.raises(RemoteError) as caught:
        async with open_link(other, session(Side.LISTENED)):
            pytest.fail("a link without AUTH")
    assert caught.value.code is ErrorCode.TIMED_OUT
    waited = limits.HANDSHAKE_TIMEOUT_S + limits.LINGER_TIMEOUT_S
    assert trio.current_time() == pytest.approx(waited, abs=0.1)


@asynccontextmanager
async def deaf_peer() -> AsyncIterator[tuple[Link, RawPeer]]:
    """A link whose peer authenticated and reads nothing since: every send blocks for ever."""
    one, other = trio.testing.lockstep_stream_pair()
    alice = RawPeer(one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.authenticate)
        async with open_link(other, session(Side.LISTENED)) as link:
            await trio.testing.wait_all_tasks_blocked()
            yield link, alice


async def test_a_peer_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    chunk = Pay(ID, 1, bytes(24) * limits.MAX_BATCH, b"", 0, bytes(64)).to_frame()
    async with deaf_peer() as (link, _):
        sent = 0
        while link.ended is None:
            link.send(chunk)
            sent += len(chunk)
        assert limits.MAX_OUTGOING_BYTES < sent <= limits.MAX_OUTGOING_BYTES + len(chunk)
        with pytest.raises(LinkClosed, match="does not read"):
            await link.receive()
        began = trio.current_time()
    assert trio.current_time() - began <= limits.LINGER_TIMEOUT_S + 0.1


async def test_two_tasks_may_wait_for_a_peer_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    """A ledger's requests and its subscription do."""
    async with deaf_peer() as (link, _):
        link.send(Funded(ID).to_frame())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.wait_queued_below, 1)
            nursery.start_soon(link.wait_queued_below, 1)
            await trio.testing.wait_all_tasks_blocked()
            link.end()


async def test_reading_goes_on_while_writing_is_stuck(autojump_clock: trio.testing.MockClock) -> None:
    async with deaf_peer() as (link, alice):
        link.send(Funded(ID).to_frame())
        await trio.testing.wait_all_tasks_blocked()
        for n in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alice.stream.send_all, Shutdown(ID, n).to_frame())
                assert await link.receive() == [Shutdown(ID, n)]
        assert link.queued_bytes == len(Funded(ID).to_frame())
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.wait_queued_below(1)
        assert scope.cancelled_caught
        await alice.stream.receive_some(4096)
        await link.wait_queued_below(1)
        assert link.queued_bytes == 0


async def test_a_flood_of_pings_from_a_peer_that_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    async with deaf_peer() as (link, alice):
        chunk = Pay(ID, 1, bytes(24) * limits.MAX_BATCH, b"", 0, bytes(64)).to_frame()
        while link.queued_bytes + len(chunk) <= limits.MAX_OUTGOING_BYTES:
            link.send(chunk)
        room = limits.MAX_OUTGOING_BYTES - link.queued_bytes
        ping = Ping(2**64 - 1).to_frame()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, link)
            await alice.stream.send_all(ping * (room // len(ping)))  # the answers still fit
            await trio.testing.wait_all_tasks_blocked()
            assert link.ended is None
            await alice.stream.send_all(ping)
        with pytest.raises(LinkClosed, match="does not read"):
            await link.receive()


async def test_close_never_hangs(autojump_clock: trio.testing.MockClock) -> None:
    async with deaf_peer() as (link, _):
        link.send(Funded(ID).to_frame())
        began = trio.current_time()
        link.end(RemoteError(ErrorCode.STOPPING, "going down"))
        link.end()
        with pytest.raises(LinkClosed, match="going down"):
            await link.receive()
    assert trio.current_time() - began == pytest.approx(limits.LINGER_TIMEOUT_S)


async def test_a_cancelled_link_says_what_was_queued_and_goes(autojump_clock: trio.testing.MockClock) -> None:
    one, other = trio.testing.memory_stream_pair()
    async with linked(one) as wait:
        with trio.CancelScope() as scope:
            async with open_link(other, session(Side.LISTENED)) as link:
                alice = await wait()
                link.send(Funded(ID).to_frame())
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() <= limits.LINGER_TIMEOUT_S + 0.1
        assert await alice.receive() == [Funded(ID)]
        with pytest.raises(LinkClosed, match="the peer closed the connection"):
            await alice.receive()


async def test_a_farewell_of_a_later_version_with_a_hostile_text() -> None:
    one, other = trio.testing.memory_stream_pair()
    alice = RawPeer(one)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.authenticate)
        async with open_link(other, session(Side.LISTENED)) as link:
            await one.send_all(Error(60000, None, "\x1b[2Jgone").to_frame())
            with pytest.raises(LinkClosed) as caught:
                await link.receive()
            await one.aclose()
    assert str(caught.value) == "ended by the peer: code 60000: '\\x1b[2Jgone'"


# --- TLS on loopback -------------------------------------------------------------------------


async def echo(link: Link) -> None:
    while True:
        for message in await link.receive():
            link.send(message.to_frame())


async def start(nursery: trio.Nursery, handler: Handler = echo, **options: object) -> int:
    """Bob listens on loopback; the port."""
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    port: int = listeners[0].socket.getsockname()[1]
    await nursery.start(partial(serve, listeners, BOB, Role.NODE, (), handler, **options))
    return port


async def assert_echoes(link: Link) -> None:
    link.send(Shutdown(ID, 5).to_frame())
    assert await link.receive() == [Shutdown(ID, 5)]


async def test_dial_and_serve(nursery: trio.Nursery) -> None:
    port = await start(nursery)
    async with dial(HOST, port, ALICE, BOB.public, Role.NODE, [ID]) as link:
        assert link.peer_id == BOB.public
        assert link.peer_agent.startswith("channelpay/")
        assert link.initiated
        await assert_echoes(link)
        large = Pay(ID, 1, bytes(24) * limits.MAX_BATCH, b"", 0, bytes(64))
        for _ in range(20):
            link.send(large.to_frame())
        assert await received(link, 20) == [large] * 20


async def test_a_ledger_and_its_client(nursery: trio.Nursery) -> None:
    roles: list[Role] = []

    async def note(link: Link) -> None:
        roles.append(link.peer_role)

    listeners = await trio.open_tcp_listeners(0, host=HOST)
    port = listeners[0].socket.getsockname()[1]
    await nursery.start(partial(serve, listeners, BOB, Role.LEDGER, [BOB.public], note))
    async with dial(HOST, port, ALICE, BOB.public, Role.LEDGER_CLIENT) as link:
        assert (link.peer_role, link.peer_ledger_ids) == (Role.LEDGER, (BOB.public,))
        with pytest.raises(LinkClosed):
            await link.receive()
    assert roles == [Role.LEDGER_CLIENT]
    with pytest.raises(RemoteError) as caught:
        async with dial(HOST, port, ALICE, BOB.public, Role.NODE, takes=[Role.NODE]):
            pytest.fail("a ledger is no node")
    assert caught.value.code is ErrorCode.WRONG_ROLE


async def test_dialling_somebody_else(nursery: trio.Nursery) -> None:
    port = await start(nursery)
    with pytest.raises(RemoteError) as caught:
        async with dial(HOST, port, ALICE, MALLORY.public, Role.NODE):
            pytest.fail("Bob is not Mallory")
    assert caught.value.code is ErrorCode.WRONG_IDENTITY


async def test_dialling_oneself(nursery: trio.Nursery) -> None:
    port = await start(nursery)
    with pytest.raises(RemoteError) as caught:
        async with dial(HOST, port, BOB, None, Role.NODE):
            pytest.fail("nobody is his own peer")
    assert caught.value.code is ErrorCode.SELF_CONNECTION


async def test_nobody_listens() -> None:
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    with pytest.raises(LinkClosed, match=f"cannot connect to {HOST} port {port}"):
        async with dial(HOST, port, ALICE, None, Role.NODE):
            pytest.fail("nobody listens")


async def test_a_listener_that_says_nothing() -> None:
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    port = listeners[0].socket.getsockname()[1]
    with pytest.raises(LinkClosed, match="not finished in time"):
        async with dial(HOST, port, ALICE, None, Role.NODE, timeout_s=0.05):
            pytest.fail("nobody answers")
    await listeners[0].aclose()


async def _carry(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
    try:
        while data := await source.receive_some(4096):
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass


async def test_somebody_in_between_is_noticed(nursery: trio.Nursery) -> None:
    """Mallory ends TLS with a certificate of her own and relays what is inside."""
    port = await start(nursery)
    mallorys = tls.fresh_certificate()

    async def relay(stream: trio.SocketStream) -> None:
        to_alice = trio.SSLStream(stream, mallorys.context, server_side=True, https_compatible=True)
        to_bob, _ = await _over_tls(port)
        async with trio.open_nursery() as both:
            both.start_soon(_carry, to_bob, to_alice)
            await _carry(to_alice, to_bob)
            both.cancel_scope.cancel()
        await to_alice.aclose()
        await to_bob.aclose()

    between = await trio.open_tcp_listeners(0, host=HOST)
    await nursery.start(trio.serve_listeners, relay, between)
    with pytest.raises(RemoteError) as caught:
        async with dial(HOST, between[0].socket.getsockname()[1], ALICE, BOB.public, Role.NODE):
            pytest.fail("Mallory is in between")
    assert caught.value.code is ErrorCode.BAD_AUTH


async def _over_tls(port: int) -> tuple[trio.SSLStream[trio.SocketStream], RawPeer]:
    stream = await trio.open_ssl_over_tcp_stream(HOST, port, ssl_context=tls.client_context(), https_compatible=True)
    await stream.do_handshake()
    return stream, RawPeer(stream, stream.getpeercert(binary_form=True))


async def _no_tls(port: int) -> None:
    stream = await trio.open_tcp_stream(HOST, port)
    await stream.send_all(b"\x00\xff" * 5000)
    await _until_closed(stream)


async def _half_a_client_hello(port: int) -> None:
    async with await trio.open_tcp_stream(HOST, port) as stream:
        await stream.send_all(bytes.fromhex("1603010200010001fc0303"))
        await stream.send_eof()
        await _until_closed(stream)


async def _nothing_at_all(port: int) -> None:
    await (await trio.open_tcp_stream(HOST, port)).aclose()


async def _reset(port: int) -> None:
    stream, _ = await _over_tls(port)
    stream.transport_stream.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def _garbage_before_auth(port: int) -> None:
    stream, _ = await _over_tls(port)
    await stream.send_all(b"\xff" * 10_000)
    await _until_closed(stream)


async def _huge_length_after_auth(port: int) -> None:
    stream, alice = await _over_tls(port)
    await alice.authenticate()
    await stream.send_all(b"\xff\xff\xff\xff" + b"\x20" * 100_000)
    await alice.read_to_end()
    assert alice.session.farewell is not None
    assert alice.session.farewell.code == ErrorCode.TOO_LARGE
    await stream.aclose()


async def _wrong_types_after_auth(port: int) -> None:
    stream, alice = await _over_tls(port)
    await alice.authenticate()
    await stream.send_all(b"\x00\x00\x00\x03\x12\x91\xc3")
    await alice.read_to_end()
    assert alice.session.farewell is not None
    assert alice.session.farewell.code == ErrorCode.MALFORMED
    await stream.aclose()


async def _cut_off_after_auth(port: int) -> None:
    stream, alice = await _over_tls(port)
    await alice.authenticate()
    await stream.send_all(Funded(ID).to_frame()[:-1])
    await stream.aclose()


async def _broken_record_after_auth(port: int) -> None:
    stream, alice = await _over_tls(port)
    await alice.authenticate()
    await stream.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    await _until_closed(stream.transport_stream)


async def _until_closed(stream: trio.abc.Stream) -> None:
    try:
        while await stream.receive_some(4096):
            pass
    except trio.BrokenResourceError:
        pass  # closed with a reset, as bytes were left unread
    await trio.aclose_forcefully(stream)


ATTACKS = [
    _no_tls,
    _half_a_client_hello,
    _nothing_at_all,
    _reset,
    _garbage_before_auth,
    _huge_length_after_auth,
    _wrong_types_after_auth,
    _cut_off_after_auth,
    _broken_record_after_auth,
]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_bad_bytes_end_their_own_connection_only(
    nursery: trio.Nursery, attack: Callable[[int], Awaitable[None]]
) -> None:
    port = await start(nursery)
    async with dial(HOST, port, MALLORY, BOB.public, Role.NODE) as link:
        await assert_echoes(link)
        with trio.fail_after(5):
            await attack(port)
        await assert_echoes(link)
        async with dial(HOST, port, ALICE, BOB.public, Role.NODE) as another:
            await assert_echoes(another)


async def test_an_exception_of_ours_is_not_swallowed() -> None:
    async def broken(link: Link) -> None:
        raise KeyError("a defect")

    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            port = await start(nursery, broken)
            async with dial(HOST, port, ALICE, BOB.public, Role.NODE) as link:
                with pytest.raises(LinkClosed):
                    await link.receive()
            await trio.sleep_forever()


# --- Limits of a listener --------------------------------------------------------------------


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Hands out memory streams as if somebody had connected."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](100)

    def connect(self) -> trio.abc.Stream:
        mine, theirs = trio.testing.memory_stream_pair()
        self._send.send_nowait(theirs)
        return mine

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        await self._receive.aclose()


@pytest.mark.parametrize("steps", ["nothing", "half of TLS", "TLS", "TLS and HELLO"])
async def test_strangers_have_one_deadline(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, steps: str
) -> None:
    door = MemoryListener()
    await nursery.start(partial(serve, [door], BOB, Role.NODE, (), echo))
    stream = door.connect()
    began = trio.current_time()
    await trio.sleep(limits.HANDSHAKE_TIMEOUT_S / 2)
    if steps == "half of TLS":
        await stream.send_all(bytes.fromhex("1603010200010001fc0303"))
    elif steps.startswith("TLS"):
        stream = trio.SSLStream(stream, tls.client_context(), https_compatible=True)
        await stream.do_handshake()
        if steps == "TLS and HELLO":
            alice = RawPeer(stream, stream.getpeercert(binary_form=True))
            alice.session.start(0.0)
            await stream.send_all(alice.session.outgoing())
    while await stream.receive_some(4096):
        pass
    assert trio.current_time() - began == pytest.approx(limits.HANDSHAKE_TIMEOUT_S, abs=0.1)


async def test_caps_on_strangers(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    door = MemoryListener()
    await nursery.start(partial(serve, [door], BOB, Role.NODE, (), echo, admission=Admission(pending=3)))
    waiting = [door.connect() for _ in range(3)]
    assert await door.connect().receive_some(10) == b""  # refused at once
    assert trio.current_time() == 0
    await waiting[0].aclose()
    await trio.testing.wait_all_tasks_blocked()
    waiting[0] = door.connect()
    await trio.testing.wait_all_tasks_blocked()
    assert await door.connect().receive_some(10) == b""
    assert trio.current_time() == 0
    for stream in waiting:
        assert await stream.receive_some(10) == b""
    assert trio.current_time() == pytest.approx(limits.HANDSHAKE_TIMEOUT_S)


async def test_one_address_does_not_take_all_places(nursery: trio.Nursery) -> None:
    port = await start(nursery, admission=Admission(address_pending=2))
    silent = [await trio.open_tcp_stream(HOST, port) for _ in range(2)]
    with trio.fail_after(5):
        await _until_closed(await trio.open_tcp_stream(HOST, port))
    stream = await trio.open_ssl_over_tcp_stream(HOST, port, ssl_context=tls.client_context())
    with pytest.raises(trio.BrokenResourceError):
        await stream.do_handshake()
    await trio.aclose_forcefully(stream)
    elsewhere = await trio.open_tcp_stream(HOST, port, local_address="127.0.0.2")
    secure = trio.SSLStream(elsewhere, tls.client_context(), https_compatible=True)
    await secure.do_handshake()
    await secure.aclose()
    for each in silent:
        await each.aclose()


async def test_a_peer_gives_its_place_back_once_authenticated(nursery: trio.Nursery) -> None:
    port = await start(nursery, admission=Admission(pending=1))
    async with dial(HOST, port, ALICE, BOB.public, Role.NODE) as first:
        await assert_echoes(first)
        async with dial(HOST, port, MALLORY, BOB.public, Role.NODE) as second:
            await assert_echoes(second)


async def test_a_full_listener_says_so(nursery: trio.Nursery) -> None:
    port = await start(nursery, max_connections=1)
    async with dial(HOST, port, ALICE, BOB.public, Role.NODE) as first:
        await assert_echoes(first)
        async with dial(HOST, port, MALLORY, BOB.public, Role.NODE) as second:
            with pytest.raises(LinkClosed) as caught:
                await second.receive()
        assert caught.value.farewell is not None
        assert caught.value.farewell.code == ErrorCode.BUSY
        await assert_echoes(first)


async def test_a_silent_stranger_makes_room_after_its_time_of_grace(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    door = MemoryListener()
    await nursery.start(partial(serve, [door], BOB, Role.NODE, (), echo, admission=Admission(pending=2)))
    oldest, younger = door.connect(), door.connect()
    await trio.sleep(limits.HANDSHAKE_GRACE_S)
    alice = trio.SSLStream(door.connect(), tls.client_context(), https_compatible=True)
    await alice.do_handshake()
    assert await oldest.receive_some(10) == b""
    assert trio.current_time() < limits.HANDSHAKE_GRACE_S + limits.LINGER_TIMEOUT_S
    assert await younger.receive_some(10) == b""
    assert trio.current_time() == pytest.approx(limits.HANDSHAKE_TIMEOUT_S)


async def test_who_connects_too_often_is_refused_before_tls(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    door = MemoryListener()
    admission = Admission(address_burst=3, address_per_s=1)
    await nursery.start(partial(serve, [door], BOB, Role.NODE, (), echo, admission=admission))
    for _ in range(3):
        await door.connect().aclose()
    await trio.testing.wait_all_tasks_blocked()
    refused = door.connect()
    assert await refused.receive_some(10) == b""
    assert trio.current_time() == 0
    await trio.sleep(1)
    alice = trio.SSLStream(door.connect(), tls.client_context(), https_compatible=True)
    await alice.do_handshake()


async def test_guests_of_one_address_are_few_and_those_who_are_known_are_none(nursery: trio.Nursery) -> None:
    known = {MALLORY.public}
    port = await start(nursery, admission=Admission(address_guests=1), known=known.__contains__)
    async with dial(HOST, port, ALICE, BOB.public, Role.NODE) as guest:
        await assert_echoes(guest)
        async with dial(HOST, port, CAROL, BOB.public, Role.NODE) as another:
            with pytest.raises(LinkClosed) as caught:
                await another.receive()
        assert caught.value.farewell is not None
        assert caught.value.farewell.code == ErrorCode.BUSY
        async with dial(HOST, port, MALLORY, BOB.public, Role.NODE) as peer:
            await assert_echoes(peer)
        known.add(ALICE.public)  # she opened a channel meanwhile
        async with dial(HOST, port, CAROL, BOB.public, Role.NODE) as another:
            await assert_echoes(another)
        await assert_echoes(guest)


async def test_little_waits_for_a_guest_that_does_not_read(nursery: trio.Nursery) -> None:
    known: set[bytes] = set()
    most, links = limits.MAX_GUEST_OUTGOING_BYTES, []

    async def listen(link: Link) -> None:
        links.append(link)
        await echo(link)

    port = await start(nursery, listen, known=known.__contains__, max_guest_outgoing=most)
    async with dial(HOST, port, ALICE, BOB.public, Role.NODE) as guest:
        await assert_echoes(guest)
        (link,) = links
        link.send(bytes(most))
        assert (link.ended, link.queued_bytes) == (None, most)
        known.add(ALICE.public)  # she has a channel now
        link.send(bytes(1))
        assert link.ended is None
        known.clear()
        link.send(bytes(1))
        assert isinstance(link.ended, LinkClosed)


async def test_the_oldest_guest_leaves_when_there_are_too_many(nursery: trio.Nursery) -> None:
    port = await start(nursery, max_guests=1)
    async with dial(HOST, port, ALICE, BOB.public, Role.NODE) as oldest:
        await assert_echoes(oldest)
        async with dial(HOST, port, CAROL, BOB.public, Role.NODE) as newest:
            await assert_echoes(newest)
            with pytest.raises(LinkClosed) as caught:
                await oldest.receive()
        assert caught.value.farewell is not None
        assert caught.value.farewell.code == ErrorCode.BUSY


@pytest.mark.parametrize(
    ("name", "counted_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_how_addresses_are_counted(name: str, counted_as: str) -> None:
    class Socket:
        def getpeername(self) -> tuple[str, int]:
            return name, 1

    class Stream:
        socket = Socket()

    assert _address(Stream()) == counted_as  # type: ignore[arg-type]


def test_a_peer_that_is_gone_has_no_address() -> None:
    class Socket:
        def getpeername(self) -> tuple[str, int]:
            raise OSError("not connected")

    class Stream:
        socket = Socket()

    assert _address(Stream()) == "unknown"  # type: ignore[arg-type]
