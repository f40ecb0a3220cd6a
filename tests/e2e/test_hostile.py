"""Real daemons against a cheating peer and against bytes that are no protocol."""

from __future__ import annotations

import random
import ssl
from contextlib import aclosing

import pytest
import trio

from channelpay.crypto import SigningKey
from channelpay.daemon.dialling import dial
from channelpay.daemon.ledger_client import connect_ledger
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import RemoteError
from channelpay.framing import frame
from channelpay.home import Home
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, Address, parse_address
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Ack, Auth, Hello, Pay, Ready, Role
from cluster import Cluster, cluster


async def _ledger(c: Cluster, home: Home):
    return connect_ledger(parse_address(LEDGER_PREFIX, c.ledger_address), home.keyring().account)


async def test_a_cheating_close_settles_at_the_newest_state(tmp_path):
    """The payer shows the ledger an old state behind its daemon's back; the payee's daemon answers by itself."""
    with trio.fail_after(120):
        async with cluster(tmp_path) as c:
            channel = await c.open()
            async with c.connect(c.a) as a:
                await a.pay(channel, 1000)
                old = (await a.channel(str(channel))).info.state
                await a.pay(channel, 500_000)
                newest = (await a.channel(str(channel))).info.state
            await c.kill(c.a)
            home = Home(c.a.home)
            key = home.keyring().channel(0)
            stale = ops.CoSigned(old.half0, old.half1, old.signature0, old.signature1)
            async with await _ledger(c, home) as ledger:
                view = await ledger.request(key, ops.Close(channel.id, (stale,)))
                assert view.status == ops.CLOSING
                view = await _settled(ledger, home, channel.id)
                assert (view.half0, view.half1) == (newest.half0, newest.half1)
                assert view.out1 == 501_000
                await _refused_after_settlement(ledger, key, channel.id, stale)
            assert await c.account_units(c.b) == 501_000
            await c.audit()


async def _settled(ledger, home: Home, channel_id: bytes) -> ops.ChannelView:
    """The channel once it is settled, as the ledger's events tell."""
    async with aclosing(ledger.subscribe(home.keyring().account)) as news:
        async for event in news:
            if event.subject == channel_id:
                view = ops.ChannelView.decode(event.body)
                if view.status == ops.SETTLED:
                    return view
    raise AssertionError("the subscription ended")


async def _refused_after_settlement(ledger, key, channel_id, stale):
    with pytest.raises(LedgerRefused) as refused:
        await ledger.request(key, ops.Close(channel_id, (stale,)))
    assert refused.value.outcome is Outcome.ALREADY_SETTLED


async def test_half_signed_and_foreign_states_are_refused_by_name(tmp_path):
    with trio.fail_after(120):
        async with cluster(tmp_path) as c:
            first, second = await c.open(), await c.open()
            async with c.connect(c.a) as a:
                await a.pay(first, 1000)
                await a.pay(second, 2000)
                one = (await a.channel(str(first))).info.state
            home = Home(c.a.home)
            key = home.keyring().channel(0)
            co_signed = ops.CoSigned(one.half0, one.half1, one.signature0, one.signature1)
            half_signed = ops.CoSigned(one.half0, one.half1, one.signature0, bytes(64))
            async with await _ledger(c, home) as ledger:
                final = ops.CloseFinal(first.id, one.half0, one.half1, 2**40, one.signature0, one.signature1)
                for by, operation, expected in (
                    (key, ops.Close(first.id, (half_signed,)), Outcome.BAD_STATE_SIGNATURE),
                    (home.keyring().channel(1), ops.Close(second.id, (co_signed,)), Outcome.BAD_STATE_SIGNATURE),
                    (key, final, Outcome.BAD_FINAL_SIGNATURE),
                ):
                    before = await ledger.request(by, ops.Channel(operation.channel_id))
                    with pytest.raises(LedgerRefused) as refused:
                        await ledger.request(by, operation)
                    assert refused.value.outcome is expected
                    after = await ledger.request(by, ops.Channel(operation.channel_id))
                    assert (after.status, after.half0, after.half1) == (before.status, before.half0, before.half1)
            await c.audit()


def _bad_bytes() -> list[bytes]:
    chance = random.Random(1)
    return [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        chance.randbytes(64),
        chance.randbytes(100_000),
        b"\x16\x03\x01" + chance.randbytes(2000),
        bytes(5000),
    ]


def _bad_frames() -> list[bytes]:
    """Sent inside TLS, before AUTH."""
    chance = random.Random(2)
    hello = Hello((1,), (), int(Role.NODE), bytes(32), (), "hostile").to_frame()
    return [
        chance.randbytes(300),
        b"\xff\xff\xff\xff\x01",
        b"\x00\x00\x00\x00",
        hello[:20],
        hello + hello,
        hello + Auth(bytes(32), bytes(64)).to_frame(),
        hello + Pay(bytes(32), 1, bytes(24), b"", 0, bytes(64)).to_frame(),
        frame(0x01, b"\x91" * 1000),
        frame(0x01, b"\xdd\xff\xff\xff\xff"),
        frame(0x99, b"\x90"),
    ]


def _bad_messages(channel_id: bytes) -> list[bytes]:
    """Sent after AUTH by a stranger."""
    chance = random.Random(3)
    return [
        chance.randbytes(500),
        b"\x7f\xff\xff\xff\x20",
        frame(0x20, b"\x90"),
        frame(0x20, b"\xc0"),
        frame(0x42, b"\x94\xcb" + bytes(8)),
        frame(0x20, b"\x96" + b"\x91" * 60_000),
        frame(0xEE, b"\x90"),
        Ack(channel_id, 1, 1, bytes(64)).to_frame() + b"\x00\x00\x00\x00",
        Ready(channel_id, bytes(64)).to_frame() + chance.randbytes(64),
        Hello((1,), (), 0, bytes(32), (), "again").to_frame(),
    ]


async def test_bad_bytes_end_their_connection_only(tmp_path):
    with trio.fail_after(120):
        async with cluster(tmp_path) as c:
            channel = await c.open()
            async with c.connect(c.a) as a, c.connect(c.b) as b:
                (address,) = (await b.status()).listen
                place = parse_address(NODE_PREFIX, address)
                for data in _bad_bytes():
                    await _send_raw(place.port, data)
                await a.pay(channel, 1)
                for data in _bad_frames():
                    await _send_in_tls(place.port, data)
                await a.pay(channel, 2)
                stranger = Home(c.ledger_home).keyring().channel(5)
                for data in _bad_messages(channel.id):
                    with pytest.raises((RemoteError, LinkClosed)):
                        await _send_after_auth(place, stranger, data)
                payment = await a.pay(channel, 3)
                assert payment.n == 3
                closed = await a.close_channel(channel)
                assert closed.phase == "settled"
            assert await c.account_units(c.b) == 6


async def _send_raw(port: int, data: bytes) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
            while await stream.receive_some(4096):
                pass
        except trio.BrokenResourceError:
            pass  # it hung up on us: what it should do


async def _send_in_tls(port: int, data: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", port), context, https_compatible=True)
    try:
        await tls.send_all(data)
        await tls.transport_stream.send_eof()
        while await tls.receive_some(4096):
            pass
    except trio.BrokenResourceError:
        pass
    finally:
        await trio.aclose_forcefully(tls)


async def _send_after_auth(place: Address, stranger: SigningKey, data: bytes) -> None:
    """Raises LinkClosed or RemoteError when the node hangs up."""
    async with dial(place.host, place.port, stranger, place.key, Role.NODE) as link:
        link.send(data)
        while True:
            await link.receive()
