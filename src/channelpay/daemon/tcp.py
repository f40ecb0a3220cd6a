"""A TCP connection with less on the way than trio's stream has: a node reads and sends here for every payment.

Waiting is left to trio. What is saved are a system call that finds nothing to read, a lock that nobody contends for,
and four coroutines for each connection that is idle.
"""

from __future__ import annotations

import os
from typing import Final

import trio

_READ_BYTES: Final = 32 * 1024


class TcpStream(trio.abc.HalfCloseableStream):
    """What `stream` connects to. One task at a time may read and one may send. Errors are trio's."""

    __slots__ = ("_stream",)

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """At least one byte, at most `max_bytes` or 32 KiB; b"" at the end."""
        while True:
            if self._stream.socket.fileno() < 0:
                raise trio.ClosedResourceError("this connection has been closed here")
            await trio.lowlevel.wait_readable(self._stream.socket)
            try:
                return os.read(self._stream.socket.fileno(), max_bytes or _READ_BYTES)
            except BlockingIOError:
                pass  # it only seemed so
            except OSError as error:
                raise trio.BrokenResourceError from error

    def send_now(self, data: bytes) -> int:
        """Send without waiting, while no send_all is under way; how many bytes went."""
        try:
            return os.write(self._stream.socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
