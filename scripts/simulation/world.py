"""A world: a ledger, nodes and their owners, a network and disks, all decided by one seed."""

from __future__ import annotations

import hashlib
import random
import tempfile
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import apsw
import trio

from channelpay.daemon.api import Api
from channelpay.home.config import LedgerLink, Limits, Listening, NodeConfig, Opening, Policy, Records
from channelpay.home.rules import AmountBounds, HostPort
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, Address, Keyring, words_from_entropy
from channelpay.ledger.books import Rules
from channelpay.ledger.requests import Ledger
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import LedgerRequest
from channelpay.messages.peer import Request
from channelpay.statements import asset_id, request_bytes
from channelpay.store.ledger import LedgerStore
from simulation import books
from simulation.disk import Content
from simulation.model import Account
from simulation.network import Network
from simulation.process import START, LedgerProcess, NodeProcess, Process, cause_of, is_excused
from simulation.refusals import Refusals
from simulation.small_limits import SmallLimits
from simulation.tap import Money, Tap

FUNDS: Final = 10_000_000
LEDGER_PLACE: Final = ("10.0.0.1", 7669)
MOST_NODES: Final = 3
_FAST_DISK: Final = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Terms:
    """What one node's configuration says, drawn from the seed."""

    max_batch: int
    window_s: int
    max_unacked: int


class World:
    """Everything of one seed. Runs in one thread; `log` makes the trace that two runs must have in common."""

    def __init__(self, seed: int, directory: Path, *, survey: Counter[str] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.directory = directory
        self.account = Account()
        self.hits: Counter[str] = Counter()
        self.survey = survey
        self.over = False
        self.limits = SmallLimits(seed)
        self.scope = trio.CancelScope()  # all of it: a defect that ends a daemon ends the world
        self.rolled_back: dict[str, set[str]] = {}  # nodes that were given an old copy, told or not
        self.waiting: set[str] = set()  # nodes whose restored stores will not pay or be paid before the end
        self.cheaters: set[str] = set()
        self.detected = 0  # damaged stores that were found so
        self._trace = hashlib.sha256()
        self.tail: list[str] | None = None  # the trace as text, if wanted
        self.network = Network(random.Random(self.rng.random()), self.log)
        self.tap = Tap(ledger_keys().identity.public, self.account.find, self.money, lambda: self.ledger.time())
        self.tap.forgetful = self.rolled_back
        self.network.taps.append(self._between_nodes)
        self.network.taps.append(Refusals(self.account.find, self.cheaters).heard)
        self._money: dict[bytes, Money] | None = None  # None: there was a commit since
        self._known_money: dict[bytes, Money] = {}
        self.nodes: list[NodeProcess] = []
        count = 3 if self.rng.random() < 0.2 else 2
        self.ledger = LedgerProcess(self, "ledger", ledger_keys(), LEDGER_PLACE, directory / "ledger")
        self.ledger.disk.put(first_books())
        for number in range(count):
            self.nodes.append(self._node(number))

    def _node(self, number: int) -> NodeProcess:
        place = ("10.0.0.2", 7000 + number)
        bounds = AmountBounds()
        config = NodeConfig(
            node=Listening(listen=(HostPort(*place),)),
            ledger=LedgerLink(Address(LEDGER_PREFIX, ledger_keys().identity.public, *LEDGER_PLACE)),
            policy=Policy(auto_accept=True, min_window_s=10),
            limits=Limits(max_unacked=self.rng.choice((5, 64, 65_536)), max_unacked_value=bounds),
            channel=Opening(window_s=60, max_batch=self.rng.choice((1, 3, 16, 4096))),
            records=Records(keep_s=self.limits.keep_s),
        )
        name = f"node{number}"
        return NodeProcess(self, name, node_keys(number), place, self.directory / name, config=config)

    @property
    def processes(self) -> list[Process]:
        """The ledger and all nodes."""
        return [self.ledger, *self.nodes]

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return trio.current_time()

    # --- The trace ---------------------------------------------------------------------------

    def log(self, event: str, *details: object) -> None:
        """Something happened."""
        line = f"{trio.current_time():.6f} {event}"
        self._trace.update(line.encode())
        for detail in details:
            self._trace.update(detail if isinstance(detail, bytes) else str(detail).encode())
        if self.tail is not None:
            shown = (f"{len(d)} bytes" if isinstance(d, bytes) else str(d) for d in details)
            self.tail.append(" ".join((line, *shown)))

    @property
    def trace(self) -> str:
        """Hash of everything that happened."""
        return self._trace.hexdigest()

    def hit(self, points: list[str]) -> None:
        """A process crashed at these points."""
        self.hits.update(dict.fromkeys(points, 1))

    # --- What processes tell -----------------------------------------------------------------

    def node_started(self, process: NodeProcess, api: Api) -> None:
        """A node is up and has spoken to nobody yet: all that it ever signed must be on its disk."""
        path = process.disk.directory / "node.db"
        if process.name in self.rolled_back or (process.disk.damaged and books.refused(path)):
            return
        with suppress(apsw.Error):
            self.tap.restarted(process.name, books.newest(path))

    def committed(self, process: Process) -> None:
        """A commit is on disk."""
        if process is self.ledger:
            self._money = None

    def money(self, channel_id: bytes) -> Money | None:
        """What the ledger shows of a channel at this moment."""
        if self._money is None:
            try:
                rows = books.channels(self.ledger.disk.directory / "ledger.db")
            except apsw.Error:  # damaged, and the ledger has not found out yet
                self._money = {key: replace(money, stale=True) for key, money in self._known_money.items()}
            else:
                self._money = self._known_money = {
                    key: Money(row.deposits, row.withdrawn, row.settled, row.status == books.SETTLED)
                    for key, row in rows.items()
                }
        return self._money.get(channel_id)

    def is_settled(self, channel_id: bytes) -> bool:
        """Whether the ledger has paid a channel out."""
        money = self.money(channel_id)
        return money is not None and money.over

    def _between_nodes(self, stream: int, sender: str, receiver: str, data: bytes) -> None:
        if sender.startswith("node") and receiver.startswith("node"):
            self.tap.heard(stream, sender, receiver, data)

    def ended(self, process: Process, error: BaseException) -> None:
        """A process ended by itself."""
        if self.scope.cancel_called or is_excused(process, error):
            return
        self.account.find("unresolved", f"ended with {cause_of(error)}", process.name)
        if self.tail is not None:
            self.tail += traceback.format_exception(error)
        self.scope.cancel()


# --- Fixed things of all worlds ------------------------------------------------------------------


@cache
def ledger_keys() -> Keyring:
    """The ledger's own keys."""
    return Keyring(words_from_entropy(bytes([200]) * 32))


@cache
def node_keys(number: int) -> Keyring:
    """A node's keys."""
    return Keyring(words_from_entropy(bytes([number + 1]) * 32))


def address_of(process: NodeProcess) -> str:
    """cp1...@host:port."""
    return str(Address(NODE_PREFIX, process.keys.identity.public, *process.place))


@cache
def usd() -> bytes:
    """The id of the one asset."""
    keys = ledger_keys()
    return asset_id(keys.identity.public, keys.account.public, 6, "USD")


@cache
def first_books() -> Content:
    """A ledger's disk on which every node has its funds."""
    keys = ledger_keys()
    ledger = Ledger(keys.identity, Rules(keys.account.public))
    ids = random.Random(1)

    def request(operation: ops.Operation) -> Request:
        blob = LedgerRequest(keys.account.public, START + 60, operation).encode()
        request_id = ids.randbytes(16)
        return Request(request_id, blob, keys.account.sign(request_bytes(ledger.ledger_id, request_id, blob)))

    wanted = [request(ops.CreateAsset("USD", 6, keys.account.public))]
    wanted += [request(ops.Issue(usd(), node_keys(n).account.public, FUNDS)) for n in range(MOST_NODES)]
    with tempfile.TemporaryDirectory(dir=fast_disk()) as directory:
        path = Path(directory) / "ledger.db"
        store = LedgerStore.create(path, ledger.ledger_id, START)
        for each in wanted:
            response, _ = store.commit(lambda books, r=each: ledger.write(books, ledger.admit(r), START))
            assert response.outcome == 0
        store.close()
        return {"ledger.db": path.read_bytes()}


def fast_disk() -> Path | None:
    """Where files are in memory."""
    return _FAST_DISK if _FAST_DISK.is_dir() else None
