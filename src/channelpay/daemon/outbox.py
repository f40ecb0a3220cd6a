"""Writing without waiting: what is queued while a send is under way leaves in the next one."""

from __future__ import annotations

from collections.abc import Callable

import trio


class Outbox:
    """Frames on their way to one stream.

    `put` never waits, so callers bound what they queue: by what is in flight, or by `wait_below`.
    `run` is the one task that writes; it returns when the stream breaks. `source`, if given, is asked for
    more frames before every write; `wake` says that it has some.
    """

    def __init__(self, stream: trio.abc.SendStream, source: Callable[[], bytes] | None = None) -> None:
        self._stream = stream
        self._source = source
        self._frames: list[bytes] = []
        self._waiting = 0
        self._broken = False
        self._wake = trio.Event()
        self._sent = trio.lowlevel.ParkingLot()

    def put(self, frame: bytes) -> None:
        """Queue one frame; dropped when the stream is broken."""
        if self._broken:
            return
        self._frames.append(frame)
        self._waiting += len(frame)
        self._wake.set()

    def wake(self) -> None:
        """Have `source` asked, and what it gives written."""
        self._wake.set()

    async def wait_below(self, size: int) -> None:
        """Wait until fewer than `size` bytes are queued: for whoever makes more of them."""
        while self._waiting >= size:
            await self._sent.park()

    async def run(self) -> None:
        """Write until the stream breaks; then close it, so that its reader notices too."""
        try:
            while True:
                await self._wake.wait()
                if self._source is not None:
                    self.put(self._source())
                frames, self._frames = self._frames, []
                data = b"".join(frames)
                self._wake = trio.Event()
                await self._stream.send_all(data)
                self._waiting -= len(data)
                self._sent.unpark_all()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._broken = True
            self._frames.clear()
            self._waiting = 0
            self._sent.unpark_all()
            await trio.aclose_forcefully(self._stream)
