"""Real processes for tests: one ledger and two node daemons on loopback, ended whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

import channelpay
from channelpay.services.demo.stage import Child, Stage, free_ports, open_stage, tails

WAIT_S = 60.0


@dataclass
class Daemon:
    """A node's home and its process."""

    name: str
    home: Path
    port: int
    process: Child | None = None


class Cluster:
    """A ledger with USD (scale 6), nodes `a` (owns 1,000 USD) and `b` (accepts channels)."""

    def __init__(self, stage: Stage, directory: Path) -> None:
        self.stage = stage
        self.directory = directory
        self.ledger_home = directory / "ledger"
        self.ledger_port, port_a, port_b = free_ports(3)
        self.a = Daemon("a", directory / "a", port_a)
        self.b = Daemon("b", directory / "b", port_b)
        self.ledger: Child | None = None
        self.ledger_address = ""

    async def cli(self, home: Path, *arguments: str) -> dict[str, object]:
        """The JSON answer of a command; raises DemoFailed if it fails."""
        return await self.stage.command("--home", str(home), *arguments)

    async def set_up(self) -> None:
        made = await self.cli(
            self.ledger_home, "ledger", "init", "--listen", f"127.0.0.1:{self.ledger_port}", "--min-window", "10"
        )
        self.ledger_address = str(made["address"])
        await self.start_ledger()
        await self.cli(self.ledger_home, "ledger", "asset", "create", "USD", "--scale", "6", "--wait", "60")
        for node in (self.a, self.b):
            await self.cli(
                node.home, "init", "--ledger", self.ledger_address, "--listen", f"127.0.0.1:{node.port}",
                "--auto-accept", "--set", "policy.min_window_s=10",
            )  # fmt: skip
        account = await self.cli(self.a.home, "id")
        await self.cli(self.ledger_home, "ledger", "issue", str(account["account"]), "1000 USD")
        for node in (self.a, self.b):
            await self.start(node)

    async def start_ledger(self) -> None:
        self.ledger = await self.stage.start("ledger", "channelpay", "--home", str(self.ledger_home), "ledger", "serve")

    async def kill_ledger(self) -> None:
        assert self.ledger is not None
        await self.stage.kill(self.ledger)

    async def start(self, node: Daemon) -> None:
        node.process = await self.stage.start(node.name, "channelpay", "--home", str(node.home), "run")

    async def kill(self, node: Daemon) -> None:
        """SIGKILL."""
        assert node.process is not None
        await self.stage.kill(node.process)

    def connect(self, node: Daemon):
        """A client of the node's daemon, which may still be starting."""
        return channelpay.connect(node.home, wait_s=WAIT_S)

    async def open(self, deposit: str = "100 USD", window_s: int = 10) -> channelpay.Channel:
        async with self.connect(self.b) as b:
            (address,) = (await b.status()).listen
        async with self.connect(self.a) as a:
            return await a.open_channel(address, deposit, window_s=window_s)

    async def audit(self) -> None:
        """The ledger's books balance; raises DemoFailed otherwise."""
        await self.cli(self.ledger_home, "ledger", "audit")

    async def account_units(self, node: Daemon) -> int:
        async with self.connect(node) as client:
            while True:
                try:
                    balances = await client.balance()
                except channelpay.Refused:  # the ledger is not connected yet
                    await trio.lowlevel.checkpoint()
                    continue
                return sum(balance.account for balance in balances)


@asynccontextmanager
async def cluster(directory: Path) -> AsyncIterator[Cluster]:
    """A running cluster; its logs' ends are printed when the block fails."""
    try:
        async with open_stage(directory) as stage:
            made = Cluster(stage, directory)
            await made.set_up()
            yield made
    except BaseException:
        print(tails(directory))
        raise
