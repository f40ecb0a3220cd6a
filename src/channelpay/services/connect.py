"""The two ways to a node: the daemon of this machine, or a node inside this process."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from channelpay.home import Home
from channelpay.messages.control import Method
from channelpay.messages.schema import Record
from channelpay.services.backend import Chunk, ChunkAnswer, InProcess
from channelpay.services.client import Client
from channelpay.services.connection import Connection
from channelpay.services.exceptions import NotReachable
from channelpay.services.gathering import MAX_IN_FLIGHT

_RETRY_S: Final = 0.05


@asynccontextmanager
async def connect(
    home: str | os.PathLike[str] | None = None, *, wait_s: float = 0.0, max_in_flight: int = MAX_IN_FLIGHT
) -> AsyncIterator[Client]:
    """The node whose daemon runs on this machine: `async with connect() as node:`.

    `home` is the daemon's home directory, or its socket; without it the home is the one that the
    command line uses. `wait_s` is how long to wait for a daemon that is not there (yet). When the
    connection is lost, calls in flight fail (NotReachable, PaymentUnknown) and the next call
    connects again, waiting `wait_s` at most. With `max_in_flight` calls unanswered, the next waits.

    Raises NotReachable.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        daemon = _Daemon(_socket_path(home), nursery, wait_s, max_in_flight)
        try:
            await daemon.connection()
            yield Client(daemon)
        except BaseException as error:
            failure = error  # raised outside the nursery, which would wrap it in a group
        daemon.closed = True
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Node(Client):
    """A node that runs inside this process: `async with Node(home) as node:`.

    The home is one made by `channelpay init`; no daemon may run on it meanwhile. The node listens,
    keeps its channels and answers disputes for as long as the block lasts. `passphrase` is needed if
    its seed is encrypted.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None, *, passphrase: str | None = None) -> None:
        self._home = _home(home)
        if passphrase is not None:
            self._home.passphrase = lambda: passphrase
        self._running: Any = None

    async def __aenter__(self) -> Node:
        from channelpay.daemon import embedded  # the whole daemon: only who embeds it pays for its import

        self._running = embedded.run(self._home)
        super().__init__(InProcess(await self._running.__aenter__()))
        return self

    async def __aexit__(self, *failure: Any) -> bool | None:
        left: bool | None = await self._running.__aexit__(*failure)
        return left


def _home(home: str | os.PathLike[str] | None) -> Home:
    return Home.locate(None if home is None else os.fspath(home))


def _socket_path(home: str | os.PathLike[str] | None) -> Path:
    """The control socket of a home, or what is one already (or will be, with a socket's usual name)."""
    place = _home(home)
    return place.path if place.path.is_socket() or place.path.suffix == ".sock" else place.control_socket


class _Daemon:
    """The daemon behind a socket, connected again by the next call after the connection was lost."""

    def __init__(self, path: Path, nursery: trio.Nursery, wait_s: float, max_in_flight: int) -> None:
        self.closed = False
        self._path = path
        self._nursery = nursery
        self._wait_s = wait_s
        self._max_in_flight = max_in_flight
        self._dialling = trio.Lock()
        self._current: Connection | None = None

    async def call(self, method: Method) -> Record:
        return await (await self.connection()).call(method)

    async def pay(self, channel_id: bytes, amount: int, payment_id: bytes, memo: bytes) -> tuple[int, int]:
        current = self._current
        if current is None or current.lost is not None:
            current = await self.connection()
        return await current.pay(channel_id, amount, payment_id, memo)

    async def pay_chunks(self, channel_id: bytes, chunks: Sequence[Chunk]) -> list[ChunkAnswer]:
        return await (await self.connection()).pay_chunks(channel_id, chunks)

    async def connection(self) -> Connection:
        """The connection; a new one if there is none or it was lost. Raises NotReachable."""
        if self.closed:
            raise NotReachable(f"the client of {self._path} was used after its block ended")
        if self._current is None or self._current.lost is not None:
            async with self._dialling:
                if self._current is None or self._current.lost is not None:  # another task may have dialled
                    self._current = Connection(await self._dial(), str(self._path), self._max_in_flight)
                    self._nursery.start_soon(self._current.run)
        return self._current

    async def _dial(self) -> trio.SocketStream:
        give_up = trio.current_time() + self._wait_s
        while True:
            try:
                return await trio.open_unix_socket(os.fspath(self._path))
            except (OSError, ValueError) as error:
                if trio.current_time() >= give_up:
                    raise NotReachable(_why(self._path, error)) from None
            await trio.sleep(_RETRY_S)


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return f"no node answers at {path}: start it with 'channelpay run', or name its home"
    if isinstance(error, PermissionError):
        return f"the socket {path} belongs to another user: run as the user who runs the node"
    return f"the socket {path} cannot be used: {error}"
