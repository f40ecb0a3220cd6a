"""A network of plaintext streams between processes: every byte comes late, or never, as the faults will have it.

TLS is left out: it takes no entropy from outside. The channel binding that AUTH signs is a constant, so everything
from HELLO on is the production code's.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from simulation.tamper import Tamper

BINDING: Final = b"the channel binding of every simulated connection"
CAPACITIES: Final = (300, 4 * 1024, 64 * 1024)
"""Bytes under way in one direction before a sender waits, as in a socket's buffers: one of them for each world."""

_LATENCY_S: Final = (0.0002, 0.004)


class Owner(Protocol):
    """A process, as the network sees it."""

    name: str
    dead: bool

    def passed(self, point: str) -> None:
        """Something happened at which it might crash."""


@dataclass(slots=True, eq=False)
class _Pipe:
    """One direction of a connection."""

    chunks: deque[tuple[float, bytes]] = field(default_factory=deque)  # (when it arrives, bytes)
    waiting: int = 0  # bytes in them
    ended: float | None = None  # when the end of the stream arrives
    broken: str = ""  # why the reader's end is no good
    silent: bool = False  # nothing arrives any more, and nobody is told
    late_s: float = 0.0  # on top of the latency
    cut_after: int | None = None  # bytes
    last_at: float = 0.0
    news: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    room: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def wake(self) -> None:
        self.news.unpark_all()
        self.room.unpark_all()


class Stream(trio.abc.HalfCloseableStream):
    """One end of a connection."""

    other: Stream

    def __init__(self, network: Network, owner: Owner, inward: _Pipe, outward: _Pipe) -> None:
        self.owner = owner
        self._network = network
        self._in = inward
        self._out = outward
        self._closed = False
        self._sent_end = False
        self._kept = b""
        self.number = network.next_number()

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self.owner.dead:
            raise trio.BrokenResourceError("this process has ended")

    def send_now(self, data: bytes) -> bool:
        """Send without waiting; False: the rest goes with the next send_all."""
        self._check()
        if self._out.broken:
            raise trio.BrokenResourceError(self._out.broken)
        if self._kept or self._network.is_full(self, self._out):
            self._kept += data
            return False
        self._network.carry(self, self._out, bytes(data))
        self.owner.passed("sent")
        return True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Waits while the other side does not read."""
        await trio.lowlevel.checkpoint()
        self._check()
        data, self._kept = self._kept + bytes(data), b""
        while self._network.is_full(self, self._out) and not self._out.broken:
            await self._out.room.park()
            self._check()
        if self._out.broken:
            raise trio.BrokenResourceError(self._out.broken)
        if data:
            self._network.carry(self, self._out, data)
            self.owner.passed("sent")

    async def wait_send_all_might_not_block(self) -> None:
        """As send_all waits."""
        await trio.lowlevel.checkpoint()
        while self._network.is_full(self, self._out) and not self._out.broken and not self._closed:
            await self._out.room.park()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, a piece of it at the seed's choice."""
        await trio.lowlevel.checkpoint()
        pipe = self._in
        while True:
            self._check()
            now = trio.current_time()
            due = self._network.readable_at(self.owner, pipe)
            if due <= now:
                if pipe.chunks:
                    return self._network.take(pipe, max_bytes or self._network.capacity)
                return b""
            if pipe.broken:
                raise trio.BrokenResourceError(pipe.broken)
            with trio.move_on_at(due):
                await pipe.news.park()

    async def send_eof(self) -> None:
        """Nothing follows."""
        await trio.lowlevel.checkpoint()
        self._check()
        self._end()

    def _end(self) -> None:
        if not self._sent_end:
            self._sent_end = True
            self._network.end(self._out)

    async def aclose(self) -> None:
        """Close this end; the other reads to the end and then finds it."""
        if not self._closed:
            self._closed = True
            if not self.owner.dead:
                self._end()
            self._in.wake()
            self._out.wake()
            self._network.forget(self)
        await trio.lowlevel.checkpoint()

    def lose(self, why: str) -> None:
        """This end finds the connection broken; what the other knows is another matter."""
        for pipe in (self._in, self._out):
            pipe.broken = pipe.broken or why
        self._in.wake()
        self._out.wake()


class Listener(trio.abc.Listener[Stream]):
    """Takes connections at one place."""

    def __init__(self, network: Network, owner: Owner, place: tuple[str, int]) -> None:
        self.owner = owner
        self.place = place
        self.socket = self  # whoever asks a listener's socket for its name, or closes it, asks this
        self._network = network
        self._queue: deque[Stream] = deque()
        self._news = trio.lowlevel.ParkingLot()
        self._closed = False

    def getsockname(self) -> tuple[str, int]:
        """(host, port)."""
        return self.place

    def arrived(self, stream: Stream) -> None:
        """Somebody has connected."""
        self._queue.append(stream)
        self._news.unpark_all()

    async def accept(self) -> Stream:
        """The next connection."""
        await trio.lowlevel.checkpoint()
        while not self._queue:
            if self._closed:
                raise trio.ClosedResourceError
            await self._news.park()
        return self._queue.popleft()

    def close(self) -> None:
        """Take no more."""
        self._closed = True
        self._network.unlisten(self)
        self._news.unpark_all()

    async def aclose(self) -> None:
        """Take no more."""
        self.close()
        await trio.lowlevel.checkpoint()


class Network:
    """All connections of a world."""

    def __init__(self, rng: random.Random, log: Callable[..., None]) -> None:
        self.streams: dict[Stream, None] = {}
        self.unreachable: set[frozenset[str]] = set()  # pairs of names: connecting hangs
        self.asleep: dict[str, float] = {}  # by name: it does not read before then
        self.full: set[str] = set()  # names: one piece that they have not read is all that goes to them
        self.delay_s = 0.0  # most that is added to every latency
        self.taps: list[Callable[[int, str, str, bytes], None]] = []
        self.tampers: dict[str, Tamper] = {}  # by name: what it sends to nodes in place of its frames
        self.replaced: dict[tuple[str, str], Callable[[Stream, bytes], bytes]] = {}
        """By (sender, receiver): what is sent in place of its frames."""
        self.stand_ins: dict[str, Listener] = {}  # by name: who answers it in the place of its ledger
        self.capacity = rng.choice(CAPACITIES)
        self._ends = 0
        self._rng = rng
        self._log = log
        self._listeners: dict[tuple[str, int], Listener] = {}

    # --- Connecting ------------------------------------------------------------------------

    def listen(self, owner: Owner, host: str, port: int) -> Listener:
        """Take a place; raises OSError if it is taken."""
        if (host, port) in self._listeners:
            raise OSError(98, "address in use")
        listener = self._listeners[host, port] = Listener(self, owner, (host, port))
        return listener

    def unlisten(self, listener: Listener) -> None:
        """The place is free again."""
        if self._listeners.get(listener.place) is listener:
            del self._listeners[listener.place]

    async def connect(self, owner: Owner, host: str, port: int) -> Stream:
        """A stream to whoever listens there; raises OSError, or hangs."""
        await trio.sleep(self._latency())
        listener = self._listeners.get((host, port))
        stand_in = self.stand_ins.get(owner.name)
        if stand_in is not None and stand_in.place == (host, port):
            listener = stand_in
        if listener is None or listener.owner.dead:
            raise OSError(111, "connection refused")
        if frozenset((owner.name, listener.owner.name)) in self.unreachable:
            await trio.sleep_forever()
        there, back = _Pipe(), _Pipe()
        near, far = Stream(self, owner, back, there), Stream(self, listener.owner, there, back)
        near.other, far.other = far, near
        self.streams[near] = self.streams[far] = None
        listener.arrived(far)
        self._log("connected", owner.name, listener.owner.name)
        return near

    def next_number(self) -> int:
        """Numbers the ends of connections."""
        self._ends += 1
        return self._ends

    def forget(self, stream: Stream) -> None:
        """It is closed here."""
        self.streams.pop(stream, None)

    def between(self, a: str, b: str) -> list[Stream]:
        """Ends at `a` of connections with `b`."""
        return [s for s in self.streams if s.owner.name == a and s.other.owner.name == b and not s.owner.dead]

    # --- Carrying --------------------------------------------------------------------------

    def _latency(self) -> float:
        least, most = _LATENCY_S
        return self._rng.uniform(least, most) + (self._rng.random() * self.delay_s if self.delay_s else 0.0)

    def is_full(self, stream: Stream, pipe: _Pipe) -> bool:
        """Whether a sender must wait until the other side has read."""
        return pipe.waiting >= (1 if stream.other.owner.name in self.full else self.capacity)

    def carry(self, stream: Stream, pipe: _Pipe, data: bytes) -> None:
        """Bytes leave one process for another; they may be cut off anywhere."""
        shown = data
        if stream.owner.name in self.tampers and stream.other.owner.name.startswith("node"):
            data, shown = self.tampers[stream.owner.name](data)
        replace = self.replaced.get((stream.owner.name, stream.other.owner.name))
        if replace is not None:
            data, shown = (sent := replace(stream, data)), sent if shown is data else shown  # or what a tamper says
        for tap in self.taps:
            tap(stream.number, stream.owner.name, stream.other.owner.name, shown)
        self._log("sent", stream.owner.name, stream.other.owner.name, data)
        if pipe.silent:
            pipe.waiting += len(data)
            return
        whole = len(data)
        if pipe.cut_after is not None:
            data = data[: pipe.cut_after]
            pipe.cut_after -= len(data)
        pipe.last_at = max(pipe.last_at, trio.current_time() + self._latency() + pipe.late_s)
        if data:
            pipe.chunks.append((pipe.last_at, data))
            pipe.waiting += len(data)
        if len(data) < whole:
            stream.lose("cut")
            stream.other.lose("cut")
        pipe.news.unpark_all()

    def end(self, pipe: _Pipe) -> None:
        """The end of the stream is under way."""
        pipe.last_at = max(pipe.last_at, trio.current_time() + self._latency() + pipe.late_s)
        if pipe.ended is None and not pipe.silent:
            pipe.ended = pipe.last_at
        pipe.news.unpark_all()

    def readable_at(self, owner: Owner, pipe: _Pipe) -> float:
        """When there is something to read, as far as is known."""
        at = pipe.chunks[0][0] if pipe.chunks else (math.inf if pipe.ended is None else pipe.ended)
        if pipe.broken and at > trio.current_time():
            return math.inf
        return max(at, self.asleep.get(owner.name, 0.0))

    def take(self, pipe: _Pipe, most: int) -> bytes:
        """Bytes that have arrived: a stream does not know in which pieces they were sent."""
        now = trio.current_time()
        _, data = pipe.chunks.popleft()
        while pipe.chunks and pipe.chunks[0][0] <= now and len(data) < most and self._rng.random() < 0.7:
            data += pipe.chunks.popleft()[1]
        if len(data) > most or (len(data) > 1 and self._rng.random() < 0.02):
            most = min(most, self._rng.randint(1, len(data)))
            data, rest = data[:most], data[most:]
            if rest:
                pipe.chunks.appendleft((now, rest))
        pipe.waiting -= len(data)
        pipe.room.unpark_all()
        return data

    def has_unread(self, stream: Stream) -> bool:
        """Whether something that this end has sent is under way, and may still arrive."""
        return bool(stream._out.chunks) and self.is_sound(stream)

    def is_sound(self, stream: Stream) -> bool:
        """Whether what this end has sent arrives, or has arrived, and the other end has not closed."""
        pipe = stream._out
        faulty = pipe.broken or pipe.silent or pipe.late_s or pipe.cut_after is not None
        return not faulty and stream in self.streams and stream.other in self.streams

    # --- Faults ----------------------------------------------------------------------------

    def cut(self, stream: Stream, after: int = 0) -> None:
        """Break a connection after so many more bytes from this end."""
        if after:
            stream._out.cut_after = after
        else:
            stream.lose("cut")
            stream.other.lose("cut")

    def abandon(self, stream: Stream, late_s: float) -> None:
        """This end finds the connection broken; the other does not, and reads late what was under way."""
        stream._out.late_s = late_s
        stream._out.chunks = deque((at + late_s, data) for at, data in stream._out.chunks)
        stream._out.last_at += late_s
        stream._in.broken = stream._in.broken or "gone"
        stream._in.silent = True
        stream._in.wake()

    def silence(self, stream: Stream) -> None:
        """What this end sends from now on never arrives, and nobody is told."""
        stream._out.silent = True

    def died(self, owner: Owner, quietly: bool) -> None:
        """A process has ended; `quietly`: its machine too, so that nobody is told."""
        for stream in [s for s in self.streams if s.owner is owner]:
            stream._in.wake()
            stream._out.wake()
            del self.streams[stream]
            if quietly:
                stream._out.silent = True
            else:
                stream.other.lose("connection reset")
        for listener in [each for each in self._listeners.values() if each.owner is owner]:
            listener.close()

    def back(self, name: str) -> None:
        """A machine is up again: it resets the connections that it knows nothing of."""
        for stream in self.streams:
            if stream.other.owner.name == name and stream.other.owner.dead:
                stream.lose("connection reset")

    def wake_all(self) -> None:
        """Something changed for whoever waits."""
        for stream in list(self.streams):
            stream._in.wake()
            stream._out.wake()

    def heal(self) -> None:
        """New connections are sound; old ones with a fault in them break."""
        self.unreachable.clear()
        self.replaced.clear()
        self.stand_ins.clear()
        self.asleep.clear()
        self.full.clear()
        self.delay_s = 0.0
        for stream in list(self.streams):
            if stream._out.silent or stream._out.late_s or stream._in.silent or stream._out.cut_after is not None:
                self.cut(stream)
        self.wake_all()
