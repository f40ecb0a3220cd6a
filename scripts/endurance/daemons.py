"""A ledger and nodes as real daemons, each in a home on disk, and the services that use them. All end with the block.

Processes are started by `channelpay.services.demo.stage`: each has a log, is watched, and is ended by its id.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from channelpay.daemon.ledger_client import LedgerClient, connect_ledger
from channelpay.daemon.ledger_main import create_books
from channelpay.errors import ChannelpayError
from channelpay.home import Home, LedgerConfig, NodeConfig
from channelpay.home.load import template
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, Address, Keyring, words_from_entropy
from channelpay.messages.ledger import CreateAsset, Issue
from channelpay.services.demo.stage import Child, Stage, free_ports, open_stage

T = TypeVar("T")
START_LIMIT_S: Final = 60.0
_RETRY_S: Final = 0.05


class EnduranceFailed(ChannelpayError):
    """A run could not be played to its end, or it found what must not be; the message says what."""


@dataclass(eq=False)
class Daemon:
    """A home and the process that runs on it; `starts` counts its lives."""

    name: str
    home: Home
    port: int
    child: Child | None = None
    starts: int = 0

    @property
    def keys(self) -> Keyring:
        """The keys in its home."""
        return self.home.keyring()

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self.child is not None
        return self.child.process.pid


class World:
    """One ledger with the asset USD (scale 6), and nodes with money on their accounts."""

    def __init__(self, directory: Path, processes: Stage, names: tuple[str, ...], window_s: int, program: str) -> None:
        self.directory = directory
        self.processes = processes
        self.program = program
        self.asset_id = b""
        ports = free_ports(len(names) + 1)
        listen = f"127.0.0.1:{ports[0]}"
        settings = {"ledger.listen": [listen], "ledger.min_window_s": window_s, "log.format": "json"}
        self.ledger = _make(directory, "ledger", ports[0], template(LedgerConfig, settings))
        create_books(self.ledger.home)
        self.nodes = tuple(self._node(name, port, window_s) for name, port in zip(names, ports[1:], strict=True))

    def _node(self, name: str, port: int, window_s: int) -> Daemon:
        settings: Mapping[str, Any] = {
            "ledger.address": str(self.ledger_address),
            "node.listen": [f"127.0.0.1:{port}"],
            "policy.auto_accept": True,
            "policy.min_window_s": window_s,
            "policy.max_channels_per_peer": 1000,
            "channel.window_s": window_s,
            "log.format": "json",
        }
        return _make(self.directory, name, port, template(NodeConfig, settings))

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        """The ledger and all nodes."""
        return (self.ledger, *self.nodes)

    @property
    def ledger_address(self) -> Address:
        """Where the ledger listens."""
        return Address(LEDGER_PREFIX, self.ledger.keys.identity.public, "127.0.0.1", self.ledger.port)

    def address_of(self, node: Daemon) -> Address:
        """Where a node listens."""
        return Address(NODE_PREFIX, node.keys.identity.public, "127.0.0.1", node.port)

    def journal_of(self, node: Daemon) -> Path:
        """Where the service of a node writes: this name with a suffix for each of its journals."""
        return self.directory / f"service-{node.name}"

    async def begin(self, money: int) -> None:
        """Start everything; every node owns `money` units."""
        await self.start(self.ledger)
        operator = self.ledger.keys.account
        async with self.ask_ledger() as ledger:
            self.asset_id = (await ledger.request(operator, CreateAsset("USD", 6, operator.public))).asset_id
            for node in self.nodes:
                await ledger.request(operator, Issue(self.asset_id, node.keys.account.public, money))
        for node in self.nodes:
            await self.start(node)

    async def start(self, daemon: Daemon) -> None:
        """Start the daemon's process; it is not up yet when this returns."""
        command = ("ledger", "serve") if daemon is self.ledger else ("run",)
        home = str(daemon.home.path)
        daemon.child = await self.processes.start(daemon.name, self.program, "--home", home, *command)
        daemon.starts += 1

    async def kill(self, daemon: Daemon) -> None:
        """SIGKILL."""
        assert daemon.child is not None
        await self.processes.kill(daemon.child)
        daemon.child = None

    @asynccontextmanager
    async def ask_ledger(self) -> AsyncIterator[LedgerClient]:
        """A client of the ledger, which may still be starting."""
        give_up = trio.current_time() + START_LIMIT_S
        while True:
            try:
                async with connect_ledger(self.ledger_address, self.ledger.keys.account) as client:
                    yield client
                    return
            except ChannelpayError as error:
                if trio.current_time() >= give_up or "cannot connect" not in str(error):
                    raise
            await trio.sleep(_RETRY_S)


def _make(directory: Path, name: str, port: int, config: str) -> Daemon:
    home = Home(directory / name)
    home.create(words_from_entropy(os.urandom(32)), config)
    return Daemon(name, home, port)


async def run_to_end(play: Callable[[], Awaitable[T]]) -> T | None:
    """What `play()` returns; None if a signal asked us to stop, and then every process has ended."""
    result: T | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_on_signal, nursery.cancel_scope)
        result = await play()
        nursery.cancel_scope.cancel()
    return result


async def _stop_on_signal(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


@asynccontextmanager
async def open_world(
    directory: Path, names: tuple[str, ...], window_s: int, program: str = "channelpay"
) -> AsyncIterator[World]:
    """Homes in `directory`, nothing started yet; at the end of the block every process has ended.

    `program` is the module that daemons run.
    """
    async with open_stage(directory) as processes:
        yield World(directory, processes, names, window_s, program)
