"""One attack on real daemons: honest work without it and under it by turns, and what the daemon holds meanwhile."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import trio
from endurance.daemons import START_LIMIT_S, Daemon, World, open_world

import channelpay
from channelpay.crypto import SigningKey
from channelpay.daemon.ledger_client import LedgerClient
from channelpay.errors import ChannelpayError
from channelpay.home import NodeConfig
from channelpay.home.load import template
from channelpay.messages.ledger import Issue
from channelpay.messages.peer import Role
from hostility.attacks import Attack
from hostility.honest import Paid, Work, work_steadily
from hostility.watch import Held, watched

MONEY: Final = 10**12
_WINDOW_S: Final = 10
_NEWCOMER_EVERY_S: Final = 2.0
_SETTLE_S: Final = 1.5
"""Between a phase and the next: closing connections linger for a second."""


class HostileFailed(ChannelpayError):
    """A scenario could not be played; the message says why."""


@dataclass(frozen=True)
class Row:
    """An attack: its `kind`, on the node or the ledger, from how many addresses, at what rate."""

    name: str
    about: str
    kind: str
    sources: int
    rate: float
    on_ledger: bool = False


ROWS: Final = (
    Row("flood", "300 TLS ClientHellos a second from 32 addresses", "flood", 32, 300),
    Row("flood-ledger", "the same on the ledger", "flood", 32, 300, on_ledger=True),
    Row("slowloris", "50 connections a second from 60 addresses that send a byte a second", "slowloris", 60, 50),
    Row("oversized", "30 connections a second, frames too long, nested or broken, before and after AUTH", "oversized",
        32, 30),
    Row("bad-auth", "30 whole handshakes a second with a wrong signature", "bad-auth", 32, 30),
    Row("bad-requests", "300 requests a second with a wrong signature on the ledger", "bad-requests", 1, 300,
        on_ledger=True),
    Row("reconnecting", "one peer that connects 200 times a second", "reconnecting", 1, 200),
    Row("never-reading", "8 peers that send 20,000 pings a second and read no answer", "never-reading", 1, 20_000),
)  # fmt: skip


@dataclass(frozen=True)
class Pace:
    """How much honest work there is, and for how long: seconds of a phase, rounds of two phases."""

    per_s: float
    phase_s: float
    rounds: int


FULL: Final = Pace(per_s=50, phase_s=6, rounds=3)
SMALL: Final = Pace(per_s=20, phase_s=1, rounds=1)


@dataclass
class Outcome:
    """What one attack did: the honest work of each round without it and under it."""

    row: Row
    calm: list[Paid] = field(default_factory=list)
    attacked: list[Paid] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    newcomers: list[bool] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    attack_s: float = 0.0

    @property
    def ratio(self) -> float:
        """The 99th percentile under attack, in times of the one without: the median of the rounds."""
        pairs = zip(self.calm, self.attacked, strict=True)
        return median(attacked.percentile(0.99) / calm.percentile(0.99) for calm, attacked in pairs)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        phases = [self.calm, self.attacked]
        return {
            "attack": asdict(self.row),
            "p50_ms": [[round(paid.percentile(0.50), 2) for paid in phase] for phase in phases],
            "p99_ms": [[round(paid.percentile(0.99), 2) for paid in phase] for phase in phases],
            "ratio": round(self.ratio, 2),
            "done": [sum(len(paid.latencies_ms) for paid in phase) for phase in phases],
            "failed": [why for phase in phases for paid in phase for why in paid.failed],
            "grown_mib": round(max(held.grown_mib for held in self.held), 1),
            "descriptors": max(held.most_descriptors for held in self.held),
            "cpu": round(sum(held.cpu_s for held in self.held) / self.attack_s, 2),
            "newcomers": [sum(self.newcomers), len(self.newcomers)],
            "counts": self.counts,
        }


class Arena:
    """A ledger, a payer and a payee that run, with one channel between them."""

    def __init__(self, world: World, payer: channelpay.Client, channel: bytes, ledger: LedgerClient) -> None:
        self.world = world
        self.payee = world.nodes[1]
        self._payer = payer
        self._channel = channel
        self._ledger = ledger

    def _work(self, row: Row) -> Work:
        """Honest work for the daemon that is attacked: a payment, or a request that the ledger must commit."""
        keys = self.world.ledger.keys

        async def pay() -> None:
            await self._payer.pay(self._channel, 1)

        async def issue() -> None:
            await self._ledger.request(keys.account, Issue(self.world.asset_id, keys.account.public, 1))

        return issue if row.on_ledger else pay

    async def play(self, row: Row, pace: Pace) -> Outcome:
        """Calm and attack by turns, so that what else the machine does falls on both alike."""
        outcome, work = Outcome(row), self._work(row)
        for _ in range(pace.rounds):
            outcome.calm.append(await work_steadily(work, pace.per_s, pace.phase_s))
            await self._attack(outcome, work, pace)
            await trio.sleep(_SETTLE_S)
        return outcome

    async def _attack(self, outcome: Outcome, work: Work, pace: Pace) -> None:
        row = outcome.row
        victim = self.world.ledger if row.on_ledger else self.payee
        async with self._attacker(row, pace.phase_s + 1) as child, watched(victim.pid) as held:
            await trio.sleep(1.0)  # it starts
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._newcomers, row, outcome, pace.phase_s)
                outcome.attacked.append(await work_steadily(work, pace.per_s, pace.phase_s))
            told = await child.first_line(START_LIMIT_S)
        outcome.held.append(held)
        outcome.attack_s += told["seconds"]
        for what, count in told["counts"].items():
            outcome.counts[what] = outcome.counts.get(what, 0) + count

    @asynccontextmanager
    async def _attacker(self, row: Row, seconds: float) -> AsyncIterator[Any]:
        where = self.world.ledger_address if row.on_ledger else self.world.address_of(self.payee)
        options = ("--sources", str(row.sources), "--rate", str(row.rate), "--seconds", str(seconds))
        yield await self.world.processes.start(
            "attacker", "hostility.attacker", row.kind, str(where), *options, stays=False, pipes=True
        )

    async def _newcomers(self, row: Row, outcome: Outcome, seconds: float) -> None:
        """Somebody honest connects anew every two seconds, as a node that was started again does."""
        where = self.world.ledger_address if row.on_ledger else self.world.address_of(self.payee)
        attempt = Attack(where, ["127.0.0.1"], 1.0)
        role = Role.LEDGER_CLIENT if row.on_ledger else Role.NODE
        for _ in range(math.ceil(seconds / _NEWCOMER_EVERY_S)):
            with trio.move_on_after(5.0):
                stream = await attempt.authenticated("127.0.0.1", SigningKey(os.urandom(32)), role)
                outcome.newcomers.append(stream is not None)
                if stream is not None:
                    await trio.aclose_forcefully(stream)
            await trio.sleep(_NEWCOMER_EVERY_S)


def configure(node: Daemon, world: World, **settings: Any) -> None:
    """Other settings for a node that has not started: keys of the configuration, with `__` for the dot."""
    keys = {
        "ledger.address": str(world.ledger_address),
        "node.listen": [f"127.0.0.1:{node.port}"],
        "policy.auto_accept": True,
        "policy.min_window_s": _WINDOW_S,
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    node.home.config_file.write_text(template(NodeConfig, keys), "utf-8")


@asynccontextmanager
async def open_arena(directory: Path) -> AsyncIterator[Arena]:
    """An arena in `directory`; at the end of the block every process has ended."""
    async with open_world(directory, ("payer", "payee"), _WINDOW_S) as world:
        for node in world.nodes:
            configure(node, world)
        await world.begin(MONEY)
        payer, payee = world.nodes
        async with (
            channelpay.connect(payer.home.path, wait_s=START_LIMIT_S) as client,
            channelpay.connect(payee.home.path, wait_s=START_LIMIT_S),
            world.ask_ledger() as ledger,
        ):
            channel = await client.open_channel(str(world.address_of(payee)), "1000 USD", window_s=_WINDOW_S)
            yield Arena(world, client, channel.id, ledger)
