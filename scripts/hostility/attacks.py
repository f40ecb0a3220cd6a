"""What a stranger does to a listener. Every attack goes on until it is cancelled, paced, and counts what became of it.

An attack takes the listener's address, the addresses that it comes from, and a rate: new connections a second, or what
its docstring says.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import trio

from channelpay.crypto import SigningKey
from channelpay.daemon.tls import client_context
from channelpay.framing import frame
from channelpay.keys import Address
from channelpay.messages.ledger import Info, LedgerRequest
from channelpay.messages.peer import Auth, Hello, Ping, Request, Role
from channelpay.session import Session, Side

_PATIENCE_S: Final = 2.0
"""How long an attacker waits for an answer before it goes away."""


@dataclass
class Attack:
    """One attack: where to, where from, how fast, and what became of it."""

    target: Address
    sources: list[str]
    rate: float
    counts: Counter[str] = field(default_factory=Counter)
    identity: SigningKey = field(default_factory=lambda: SigningKey(os.urandom(32)))

    async def connect(self, source: str) -> trio.SocketStream | None:
        """A TCP connection from `source`, or None."""
        self.counts["attempts"] += 1
        try:
            return await trio.open_tcp_stream(self.target.host, self.target.port, local_address=source)
        except OSError:
            self.counts["not connected"] += 1
            return None

    async def secure(self, source: str) -> trio.SSLStream[trio.SocketStream] | None:
        """A TLS connection, or None if it was refused."""
        stream = await self.connect(source)
        if stream is None:
            return None
        tls = trio.SSLStream(stream, client_context(), https_compatible=True)
        try:
            with trio.fail_after(_PATIENCE_S):
                await tls.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError):
            self.counts["refused"] += 1
            await trio.aclose_forcefully(stream)
            return None
        return tls

    async def authenticated(self, source: str, key: SigningKey, role: Role) -> trio.SSLStream[Any] | None:
        """A TLS connection after AUTH, or None if it did not come to that."""
        tls = await self.secure(source)
        if tls is None:
            return None
        session = Session(
            Side.CONNECTED, role, key, nonce=os.urandom(32), certificate=tls.getpeercert(binary_form=True) or b"",
            expected=self.target.key,
        )  # fmt: skip
        session.start(trio.current_time())
        try:
            with trio.fail_after(_PATIENCE_S):
                while not session.established:
                    if out := session.outgoing():
                        await tls.send_all(out)
                    session.receive(await tls.receive_some(16384), trio.current_time())
                    if session.error is not None or session.farewell is not None:
                        raise trio.BrokenResourceError
                await tls.send_all(session.outgoing())
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            self.counts["refused"] += 1
            await trio.aclose_forcefully(tls)
            return None
        self.counts["let in"] += 1
        return tls

    async def paced(self, once: Callable[[str], Awaitable[None]]) -> None:
        """Begin `once(source)` `rate` times a second, from each address in turn, without waiting for it."""
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number, source in enumerate(itertools.cycle(self.sources)):
                await trio.sleep_until(began + number / self.rate)
                nursery.start_soon(once, source)


async def _hang_up(stream: trio.abc.AsyncResource) -> None:
    await trio.aclose_forcefully(stream)


async def _until_closed(stream: trio.abc.ReceiveStream) -> bool:
    """Whether the other side closes in time; what it says is not looked at."""
    with trio.move_on_after(_PATIENCE_S):
        try:
            while await stream.receive_some(16384):
                pass
        except trio.BrokenResourceError:
            pass
        return True
    return False


def client_hello() -> bytes:
    """The first bytes of a TLS connection: they cost whoever repeats them nothing, and whoever answers a signature."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


async def flood(attack: Attack) -> None:
    """The same ClientHello again and again: for each the listener makes a key exchange and a signature."""
    hello = client_hello()

    async def once(source: str) -> None:
        stream = await attack.connect(source)
        if stream is None:
            return
        try:
            await stream.send_all(hello)
            with trio.move_on_after(_PATIENCE_S):
                attack.counts["answered" if await stream.receive_some(64) else "refused"] += 1
        except trio.BrokenResourceError:
            attack.counts["refused"] += 1
        finally:
            await _hang_up(stream)

    await attack.paced(once)


async def slowloris(attack: Attack) -> None:
    """Connections that send a byte a second and never finish; `rate` new ones a second."""
    hello = client_hello()

    async def once(source: str) -> None:
        stream = await attack.connect(source)
        if stream is None:
            return
        began = trio.current_time()
        try:
            for byte in hello:
                await stream.send_all(bytes([byte]))
                await trio.sleep(1.0)
        except trio.BrokenResourceError:
            held = trio.current_time() - began
            attack.counts["refused" if held < _PATIENCE_S else "shown out"] += 1
        finally:
            await _hang_up(stream)

    await attack.paced(once)


def _bad_frames() -> list[bytes]:
    """Before AUTH: too long, too deep, too many, or none."""
    hello = Hello((1,), (), int(Role.NODE), bytes(32), (), "hostile").to_frame()
    return [
        b"\xff\xff\xff\xff\x01",
        b"\x00\x00\x00\x00",
        os.urandom(4000),
        frame(0x01, b"\x91" * 4000),
        frame(0x01, b"\xdd\xff\xff\xff\xff"),
        frame(0x01, b"\xc6\xff\xff\xff\xff"),
        hello + hello,
        hello + frame(0x02, b"\x92" + b"\xc4\xff" * 100),
    ]


def _bad_messages() -> list[bytes]:
    """After AUTH: the largest that may come and one more, nested, and wrong in their types."""
    return [
        (128 * 1024 + 1).to_bytes(4, "big") + b"\x20" + bytes(1000),
        frame(0x20, b"\x91" * (128 * 1024 - 1)),
        frame(0x20, b"\x96" + b"\xdc\xff\xff" + b"\x91" * 120_000),
        frame(0x23, b"\xdd\xff\xff\xff\xff"),
        frame(0x42, b"\x94\xcb" + bytes(8)),
        frame(0xEE, b"\x90"),
        os.urandom(2000),
    ]


async def oversized(attack: Attack) -> None:
    """Frames that are too long, nested or broken, before AUTH and after it, by turns."""
    early, late = itertools.cycle(_bad_frames()), itertools.cycle(_bad_messages())
    turns = itertools.count()

    async def once(source: str) -> None:
        after_auth = next(turns) % 2
        key = SigningKey(os.urandom(32))
        tls = await (attack.authenticated(source, key, Role.NODE) if after_auth else attack.secure(source))
        if tls is None:
            return
        try:
            await tls.send_all(next(late if after_auth else early))
            attack.counts["ended" if await _until_closed(tls) else "STILL OPEN"] += 1
        except trio.BrokenResourceError:
            attack.counts["ended"] += 1
        finally:
            await _hang_up(tls)

    await attack.paced(once)


async def bad_auth(attack: Attack) -> None:
    """Whole handshakes whose last signature is wrong: the listener has signed and verified for nothing."""
    hello = Hello((1,), (), int(Role.NODE), os.urandom(32), (), "hostile").to_frame()

    async def once(source: str) -> None:
        tls = await attack.secure(source)
        if tls is None:
            return
        try:
            await tls.send_all(hello + Auth(attack.identity.public, os.urandom(63) + b"\x00").to_frame())
            attack.counts["ended" if await _until_closed(tls) else "STILL OPEN"] += 1
        except trio.BrokenResourceError:
            attack.counts["ended"] += 1
        finally:
            await _hang_up(tls)

    await attack.paced(once)


async def bad_requests(attack: Attack) -> None:
    """Requests with wrong signatures on one connection to a ledger: `rate` of them a second, each refused."""
    tls = await attack.authenticated(attack.sources[0], attack.identity, Role.LEDGER_CLIENT)
    assert tls is not None, "the ledger lets nobody in"
    blob = LedgerRequest(attack.identity.public, 0, Info()).encode()

    async def read() -> None:
        while data := await tls.receive_some(65536):
            attack.counts["answer bytes"] += len(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        began = trio.current_time()
        for number in itertools.count():
            await trio.sleep_until(began + number / attack.rate)
            attack.counts["requests"] += 1
            await tls.send_all(Request(os.urandom(16), blob, os.urandom(63) + b"\x00").to_frame())


async def reconnecting(attack: Attack) -> None:
    """One peer, one key, one address, that connects again and again."""

    async def once(source: str) -> None:
        tls = await attack.authenticated(source, attack.identity, Role.NODE)
        if tls is not None:
            await _until_closed(tls)
            await _hang_up(tls)

    await attack.paced(once)


async def never_reading(attack: Attack) -> None:
    """Eight connections that ask and never read what is answered: `rate` pings a second together."""
    pings = b"".join(Ping(number).to_frame() for number in range(100))

    async def one(source: str) -> None:
        while True:
            tls = await attack.authenticated(source, SigningKey(os.urandom(32)), Role.NODE)
            if tls is not None:
                began = trio.current_time()
                try:
                    for number in itertools.count():
                        await trio.sleep_until(began + number * 800 / attack.rate)
                        await tls.send_all(pings)
                        attack.counts["pings"] += 100
                except trio.BrokenResourceError:
                    attack.counts["cut off"] += 1
                await _hang_up(tls)
            await trio.sleep(1.0)

    async with trio.open_nursery() as nursery:
        for source in (attack.sources * 8)[:8]:
            nursery.start_soon(one, source)


KINDS: Final[dict[str, Callable[[Attack], Awaitable[None]]]] = {
    "flood": flood,
    "slowloris": slowloris,
    "oversized": oversized,
    "bad-auth": bad_auth,
    "bad-requests": bad_requests,
    "reconnecting": reconnecting,
    "never-reading": never_reading,
}


async def run(kind: str, attack: Attack, seconds: float) -> None:
    """Attack for so long."""
    with trio.move_on_after(seconds):
        await partial(KINDS[kind], attack)()
