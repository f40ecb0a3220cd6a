"""The stream below TLS: what it reads, what goes without waiting, and how it ends."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import SO_LINGER, SOL_SOCKET

import pytest
import trio
import trio.testing

from channelpay.daemon.tcp import TcpStream

RESET = struct.pack("ii", 1, 0)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[TcpStream, trio.SocketStream]]:
    """Ours, and the other end."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        other = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        ours = TcpStream(await listener.accept())
        async with ours, other:
            yield ours, other


async def test_bytes_come_as_they_were_sent_and_then_the_end() -> None:
    async with connected() as (ours, other):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.send_all, bytes(100_000))
            received = 0
            while received < 100_000:
                data = await ours.receive_some()
                assert 0 < len(data) <= 32 * 1024
                received += len(data)
        await other.send_all(b"abc")
        assert await ours.receive_some(2) == b"ab"
        assert await ours.receive_some(2) == b"c"
        await other.send_eof()
        assert await ours.receive_some() == b""


async def test_what_does_not_go_at_once_is_told() -> None:
    async with connected() as (ours, other):
        sent, piece = 0, bytes(64 * 1024)
        while went := ours.send_now(piece):
            sent += went
        await ours.send_eof()
        received = 0
        while data := await other.receive_some():
            received += len(data)
        assert received == sent


async def test_a_reset_breaks_the_stream() -> None:
    async with connected() as (ours, other):
        other.socket.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        await other.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await ours.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            ours.send_now(b"into the void")


async def test_closing_wakes_the_reader_and_is_final() -> None:
    async with connected() as (ours, _), trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await ours.receive_some()

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await ours.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            ours.send_now(b"nobody else's socket gets this")
