"""The stage of a scenario: a ledger, nodes and clients as processes, and what they use. Everything ends with it.

Processes are started by `channelpay.services.demo.stage`: each has a log, is watched, and is ended by its id.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.result import BenchFailed, Size
from channelpay.daemon.ledger_client import LedgerClient, connect_ledger
from channelpay.daemon.ledger_main import create_books
from channelpay.errors import ChannelpayError
from channelpay.home import Home, LedgerConfig, NodeConfig
from channelpay.home.load import template
from channelpay.keys import LEDGER_PREFIX, Address, Keyring, words_from_entropy
from channelpay.ledger.audit import audit
from channelpay.messages.ledger import SETTLED, CreateAsset, Issue
from channelpay.messages.ledger import Channel as ReadChannel
from channelpay.services.demo import stage as demo
from channelpay.statements import Half
from channelpay.store.ledger import open_books

START_LIMIT_S: Final = 60.0
MONEY: Final = 10**15
"""Units on the account of a node that pays: more than any run can spend."""

WINDOW_S: Final = 10
_ONE_ADDRESS: Final = {
    f"admission.{name}": 10_000 for name in ("per_s", "burst", "address_per_s", "address_burst", "address_guests")
}
"""Of the ledger: all who connect come from one address, and at once."""

_RETRY_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: CPU seconds (user and system), resident peak in KiB, commits, bytes sent by TCP."""

    cpu_s: float
    peak_kib: int
    commits: int
    wire_bytes: int

    def since(self, before: Usage) -> Usage:
        """What was used after `before`; the peak is that of the whole life."""
        return Usage(
            self.cpu_s - before.cpu_s,
            self.peak_kib,
            self.commits - before.commits,
            self.wire_bytes - before.wire_bytes,
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """A channel as the ledger has settled it: payments and units that each party has paid."""

    payments: tuple[int, int]
    units: tuple[int, int]


class Worker:
    """A process that obeys orders by `benchmarks.worker.serve`: `call` runs a function in it."""

    def __init__(self, child: demo.Child, address: str) -> None:
        self.child = child
        self.address = address
        """Where its node listens: cp1...@host:port; empty where it has none."""
        self._numbers = itertools.count(1)
        self._sending = trio.Lock()
        self._waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}

    @property
    def pid(self) -> int:
        return self.child.process.pid

    async def call(self, function: str, **arguments: Any) -> Any:
        """What `await module:function(worker, **arguments)` returns there; several may run. Raises BenchFailed."""
        number = next(self._numbers)
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._waiting[number] = send
        assert self.child.process.stdin is not None
        line = json.dumps({"id": number, "call": function, "arguments": arguments})
        async with self._sending:
            await self.child.process.stdin.send_all(line.encode() + b"\n")
        answer = await receive.receive()
        if "error" in answer:
            raise BenchFailed(f"{function} in {self.child.name}: {answer['error']}")
        return answer["result"]

    async def usage(self) -> Usage:
        """What the process has used since it started."""
        return Usage(**await self.call("benchmarks.worker:usage"))

    async def listen(self) -> None:
        """Hand out answers until the process ends; the stage runs this."""
        async for answer in self.child.lines:
            self._waiting.pop(answer["id"]).send_nowait(answer)


@dataclass(frozen=True)
class Daemon:
    """A `channelpay run` process on a home (see benchmarks.daemon)."""

    child: demo.Child
    home: Home

    async def usage(self) -> Usage:
        """What the daemon has used since it started; a client must have reached it."""
        self.child.process.send_signal(signal.SIGUSR1)
        return Usage(**await anext(self.child.lines))


class Stage:
    """One scenario's processes and homes, in `directory`."""

    def __init__(self, directory: Path, size: Size, processes: demo.Stage, nursery: trio.Nursery) -> None:
        self.directory = directory
        self.size = size
        self.asset_id = b""
        self._processes = processes
        self._nursery = nursery
        self._ledger: tuple[Home, Keyring, Address] | None = None
        self.ledger_daemon: Daemon
        """There once `ledger_address` was called."""
        self._names: set[str] = set()

    # --- The ledger ------------------------------------------------------------------------

    async def ledger_address(self) -> Address:
        """Where this stage's ledger listens; the first call starts its daemon and makes the asset USD, scale 6."""
        if self._ledger is None:
            home = Home(self.directory / "ledger")
            (port,) = demo.free_ports(1)
            flags = {"ledger.listen": [f"127.0.0.1:{port}"], "ledger.min_window_s": WINDOW_S, **_ONE_ADDRESS}
            keys = _make(home, template(LedgerConfig, flags))
            create_books(home)
            self._ledger = home, keys, Address(LEDGER_PREFIX, keys.identity.public, "127.0.0.1", port)
            child = await self._processes.start(
                "ledger", "benchmarks.daemon", "--home", str(home.path), "ledger", "serve", pipes=True
            )
            self.ledger_daemon = Daemon(child, home)
            async with self.ledger() as client:
                view = await client.request(keys.account, CreateAsset("USD", 6, keys.account.public))
            self.asset_id = view.asset_id
        return self._ledger[2]

    @asynccontextmanager
    async def ledger(self, keys: Keyring | None = None) -> AsyncIterator[LedgerClient]:
        """A client of the ledger, as its operator or as `keys`."""
        address = await self.ledger_address()
        assert self._ledger is not None
        give_up = trio.current_time() + START_LIMIT_S
        while True:
            try:
                async with connect_ledger(address, (keys or self._ledger[1]).account) as client:
                    yield client
                    return
            except ChannelpayError as error:
                if trio.current_time() >= give_up or "cannot connect" not in str(error):
                    raise
            await trio.sleep(_RETRY_S)  # it is just starting

    async def issue(self, account: bytes, units: int) -> None:
        """Give an account money."""
        await self.issue_to([account], units)

    async def issue_to(self, accounts: Iterable[bytes], units: int) -> None:
        """Give accounts money, each so many units."""
        async with self.ledger() as client:
            assert self._ledger is not None
            issuer = self._ledger[1].account
            async with trio.open_nursery() as nursery:
                for account in accounts:
                    nursery.start_soon(client.request, issuer, Issue(self.asset_id, account, units))

    async def settled(self, channel_id: str) -> Settled:
        """A channel as the ledger tells it, once it is settled there; raises BenchFailed if it is not."""
        async with self.ledger() as client:
            assert self._ledger is not None
            view = await client.request(self._ledger[1].account, ReadChannel(bytes.fromhex(channel_id)))
        if view.status != SETTLED:
            raise BenchFailed(f"channel {channel_id[:16]} is not settled on the ledger")
        halves = Half.unpack(view.half0), Half.unpack(view.half1)
        return Settled((halves[0].n, halves[1].n), (halves[0].total, halves[1].total))

    def journalled(self) -> Counter[str]:
        """Entries in the ledger's journal, by kind."""
        assert self._ledger is not None
        books = open_books(self._ledger[0].ledger_db)
        try:
            return Counter(str(line.kind) for line in books.whole_journal() if line.number == line.entry)
        finally:
            books.close()

    def check_books(self) -> None:
        """The ledger's books balance; raises BenchFailed. Nothing to check where no ledger was started."""
        if self._ledger is None:
            return
        books = open_books(self._ledger[0].ledger_db)
        try:
            with books.snapshot():
                found = audit(books)
        finally:
            books.close()
        if not found.balanced:
            raise BenchFailed(f"the ledger's books do not balance: {'; '.join(found.discrepancies)}")

    # --- Nodes and clients -----------------------------------------------------------------

    async def make_home(self, name: str, money: int = 0, **settings: Any) -> Home:
        """The home of a new node on this stage's ledger, with `money` units on its account.

        `settings` are keys of the configuration with `__` for the dot: `limits__max_unacked=1000`.
        """
        address = await self.ledger_address()
        home = Home(self.directory / name)
        flags = {
            "ledger.address": str(address),
            "node.listen": ["127.0.0.1:0"],
            "policy.auto_accept": True,
            "policy.min_window_s": WINDOW_S,
            **{key.replace("__", "."): value for key, value in settings.items()},
        }
        keys = _make(home, template(NodeConfig, flags))
        if money:
            await self.issue(keys.account.public, money)
        return home

    async def node(self, name: str, home: Home) -> Worker:
        """A process in which the node of `home` is embedded."""
        return await self.process(name, "benchmarks.worker", "--home", str(home.path))

    async def daemon(self, name: str, home: Home) -> Daemon:
        """A `channelpay run` on `home`; it may still be starting, clients wait for it."""
        child = await self._processes.start(name, "benchmarks.daemon", "--home", str(home.path), "run", pipes=True)
        return Daemon(child, home)

    async def client(self, name: str, home: Home) -> Worker:
        """A process with a client of the daemon that runs on `home`."""
        return await self.process(name, "benchmarks.worker", "--home", str(home.path), "--connect")

    async def process(self, name: str, module: str, *arguments: str, limit_s: float = START_LIMIT_S) -> Worker:
        """A process `python -m module` that ends in `benchmarks.worker.serve`; raises if it is not ready in time."""
        child = await self._processes.start(name, module, *arguments, pipes=True)
        told = await child.first_line(limit_s)
        worker = Worker(child, next(iter(told["listen"]), ""))
        self._nursery.start_soon(worker.listen)
        return worker

    async def end(self, process: Worker | Daemon) -> None:
        """End one process before the others, by SIGKILL."""
        await self._processes.kill(process.child)


def _make(home: Home, config: str) -> Keyring:
    words = words_from_entropy(os.urandom(32))
    home.create(words, config)
    return Keyring(words)


@asynccontextmanager
async def open_stage(directory: Path, size: Size) -> AsyncIterator[Stage]:
    """A stage in `directory`; at the end of the block every process on it has ended. Check the books before."""
    async with demo.open_stage(directory) as processes, trio.open_nursery() as nursery:
        yield Stage(directory, size, processes, nursery)
        nursery.cancel_scope.cancel()
