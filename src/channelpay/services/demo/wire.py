"""What the two services say to each other: msgpack arrays with a length before them, over TCP.

| kind | from the buyer | from the seller |
|---|---|---|
| OFFER | nothing: what do you sell? | name, size in bytes, price in units, asset code, the seller's node address |
| PIECE | piece number, payment id: send it once this payment arrived | piece number, the bytes |
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

import trio

from channelpay.codec import pack, unpack
from channelpay.daemon.outbox import Outbox
from channelpay.framing import FrameBuffer, frame

OFFER: Final = 1
PIECE: Final = 2
_MAX_FRAME: Final = 4096


class Wire:
    """One connection between the services. `write` must run beside whoever uses it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._outbox = Outbox(stream)
        self.write = self._outbox.run

    def send(self, kind: int, *values: Any) -> None:
        """Queue one message."""
        self._outbox.put(frame(kind, pack(list(values))))

    async def messages(self) -> AsyncGenerator[tuple[int, list[Any]], None]:
        """(kind, values) of every message until the other service goes away."""
        buffer = FrameBuffer(_MAX_FRAME)
        while data := await self._receive():
            buffer.feed(data)
            while (item := buffer.next_frame()) is not None:
                yield item[0], unpack(item[1])

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(65536))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""
