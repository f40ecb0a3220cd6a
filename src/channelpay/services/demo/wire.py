"""What the two services say to each other: msgpack arrays with a length before them, over TCP.

| kind | from the buyer | from the seller |
|---|---|---|
| OFFER | nothing: what do you sell? | name, size in bytes, price in units, asset code, the seller's node address |
| PIECE | piece number, payment id: send it once this payment arrived | piece number, the bytes |
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import trio

from channelpay.codec import pack, unpack
from channelpay.daemon.outbox import Outbox
from channelpay.framing import FrameBuffer, frame

OFFER: Final = 1
PIECE: Final = 2
_MAX_FRAME: Final = 4096


class Wire(AsyncIterator[tuple[int, list[Any]]]):
    """One connection between the services: `async for kind, values in wire` until the other one goes away.

    `write` must run beside whoever uses it.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._outbox = Outbox(stream)
        self._buffer = FrameBuffer(_MAX_FRAME)
        self.write = self._outbox.run

    def send(self, kind: int, *values: Any) -> None:
        """Queue one message."""
        self._outbox.put(frame(kind, pack(list(values))))

    async def __anext__(self) -> tuple[int, list[Any]]:
        while (item := self._buffer.next_frame()) is None:
            try:
                data = await self._stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            if not data:
                raise StopAsyncIteration
            self._buffer.feed(data)
        return item[0], unpack(item[1])
