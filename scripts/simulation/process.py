"""A daemon as a process that lives, is killed at any moment, and lives again on what its disk has kept."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from channelpay.daemon import accepting, embedded
from channelpay.daemon.api import Api
from channelpay.daemon.ledger_server import serve_ledger
from channelpay.daemon.link import leaves
from channelpay.daemon.outside import OUTSIDE, Outside
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import StoreFailed
from channelpay.home import Home
from channelpay.home.config import NodeConfig
from channelpay.keys import Keyring
from channelpay.ledger.books import Rules
from channelpay.store.ledger import LedgerStore
from channelpay.store.node import NodeStore
from simulation.crashes import Armed
from simulation.disk import VFS_NAME, Disk, Loss, mount, unmount, watch_renames
from simulation.network import BINDING, Network

if TYPE_CHECKING:
    from simulation.world import World

COMES_UP_S: Final = 30.0
"""Longer than anything that keeps a process from starting again, but for an outage in a dispute."""

_LOOK_S: Final = 0.1

START: Final = 1_800_000_000
"""The time of day at which every world begins."""


class Life:
    """One run of a process, from its start to its end."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.name = process.name
        self.dead = False
        self.crashed = False  # at a crash point
        self.armed: Armed | None = None
        self.in_payments: Armed | None = None  # waits for the next commit that carries payments, and counts in it alone
        self.api: Api | None = None
        self.ready = trio.Event()
        self.exited = trio.Event()
        self.stop = trio.Event()
        self.failure: StoreFailed | None = None  # met by a call of its owner's
        self.why = ""  # what it ended with, if it ended by itself
        self.scope = trio.CancelScope()

    def fail(self, failure: StoreFailed) -> None:
        """A call of its owner's has met a store that failed: it ends the node, as the owner's socket would."""
        self.failure = failure
        self.stop.set()

    def enter(self) -> None:
        """The present task acts for this life from now on: it has its entropy and its clock, and may crash with it."""
        OUTSIDE.set(self.process.outside(self))
        LIFE.set(self)

    def passed(self, event: str) -> None:
        """A commit, a write, a sync, a send: perhaps the last thing that it does."""
        world = self.process.world
        if not self.dead:
            if self.armed is not None:
                self._maybe([f"{self.process.kind} {event}"])
            if event.startswith("commit"):
                world.log(event, self.name)

    def waits_at(self, points: list[str]) -> None:
        """A task of it is suspended at these awaits."""
        self._maybe(points)

    def _maybe(self, points: list[str]) -> None:
        if self.armed is not None and self.armed.passed(points):
            self.crashed = True
            self.process.world.hit(points)
            self.kill(Loss.POWER if self.armed.power else Loss.KILLED)

    def kill(self, loss: Loss) -> None:
        """From this moment nothing that it does has an effect."""
        if self.dead:
            return
        self.dead = True
        world = self.process.world
        world.log("killed", self.name, loss.value)
        self.process.disk.freeze(loss)
        world.network.died(self, quietly=loss is Loss.POWER)
        self.scope.cancel()


LIFE: Final[ContextVar[Life | None]] = ContextVar("LIFE", default=None)
"""Whose task this is."""


class Process:
    """A node or the ledger: its disk, its address, and the life it has at present."""

    kind = "node"

    def __init__(self, world: World, name: str, keys: Keyring, place: tuple[str, int], directory: Path) -> None:
        self.world = world
        self.name = name
        self.keys = keys
        self.place = place
        self.rng = random.Random(world.rng.random())
        self.disk = Disk(directory, self.rng, self._disk_event)
        self.life: Life | None = None
        self.lived: list[Life] = []
        self.restored = False
        self.rest_s = 0.0  # how much longer than usual it is down the next time
        self.ahead_s = 0.0  # how far its clock has leapt
        mount(self.disk)

    def _disk_event(self, event: str) -> None:
        if self.life is not None:
            self.life.passed(event)

    @property
    def alive(self) -> bool:
        """Whether it runs and answers its owner."""
        return self.life is not None and not self.life.dead and self.life.ready.is_set()

    async def come_up(self) -> None:
        """Wait for its next life, which may have come when it began to wait, but not for ever."""
        with trio.move_on_after(COMES_UP_S):
            await trio.sleep(_LOOK_S)
            while not self.alive:
                await trio.sleep(_LOOK_S)

    def time(self) -> float:
        """The time of day by its clock."""
        return START + trio.current_time() + self.ahead_s

    def outside(self, life: Life) -> Outside:
        """The world as this life sees it."""

        async def listen(port: int, host: str) -> list[Any]:
            await trio.lowlevel.checkpoint()
            return [self.world.network.listen(life, host, port)]

        async def in_thread(work: Callable[[], Any]) -> Any:
            await trio.lowlevel.checkpoint()
            return work()

        return Outside(
            entropy=self.rng.randbytes,
            time=self.time,
            listen=listen,
            connect=self._connect,
            accept=_accept,
            in_thread=in_thread,
            vfs=VFS_NAME,
            control=_no_control,
        )

    async def _connect(self, host: str, port: int, deadline: float) -> tuple[Any, bytes]:
        return await connect(self.world.network, host, port, deadline)

    async def live(self, armed: Armed | None = None) -> Life:
        """Run until killed, failed or stopped; what this life came to."""
        life = self.life = Life(self)
        life.armed = armed
        self.lived.append(life)
        life.enter()
        self.world.log("started", self.name)
        self.world.network.back(self.name)
        try:
            with life.scope:
                await self.serve(life)
        except (Exception, BaseExceptionGroup) as error:
            if not life.dead:
                life.why = cause_of(error).replace(str(self.world.directory), "")
                self.world.ended(self, error)
        finally:
            if not life.dead:
                life.dead = True
                self.disk.freeze(Loss.POWER if life.why and self._machine_ends() else Loss.KILLED)
                self.world.network.died(life, quietly=False)
            self.disk.thaw()
            life.exited.set()
            self.world.log("exited", self.name, life.why)
        return life

    def _machine_ends(self) -> bool:
        """Whether the operator starts the machine anew after a failure, or the process alone on its page cache."""
        chance = random.Random(f"machine {self.world.seed} {self.name} {len(self.lived)}").random()
        return chance < 0.5

    async def serve(self, life: Life) -> None:
        """The daemon itself."""
        raise NotImplementedError

    def remove(self) -> None:
        """Leave nothing behind."""
        unmount(self.disk)
        self.disk.remove()


class NodeProcess(Process):
    """A node."""

    def __init__(self, *args: Any, config: NodeConfig) -> None:
        super().__init__(*args)
        self.config = config
        self.home = _Home(self.disk.directory, self.keys)

    @property
    def api(self) -> Api | None:
        """What the owner may ask, while it runs."""
        return self.life.api if self.alive and self.life is not None else None

    async def serve(self, life: Life) -> None:
        """As `channelpay run` and programs that embed a node do."""
        restored, self.restored = self.restored, False
        async with embedded.run(self.home, self.config, restored=restored) as api:
            life.api = api
            life.ready.set()
            if not life.dead:
                self.world.node_started(self, api)
            await life.stop.wait()
            if life.failure is not None:
                raise life.failure


class LedgerProcess(Process):
    """The ledger."""

    kind = "ledger"

    async def serve(self, life: Life) -> None:
        """As `channelpay ledger run` does."""
        store = LedgerStore.open(self.disk.directory / "ledger.db", self.keys.identity.public, vfs=VFS_NAME)
        rules = Rules(self.keys.account.public)
        try:
            async with trio.open_nursery() as nursery:
                serve = _serving(store, self.keys, rules, self.place, life.stop)
                await nursery.start(serve)
                life.ready.set()
        finally:
            store.close()


def _serving(store: LedgerStore, keys: Keyring, rules: Rules, place: tuple[str, int], stop: trio.Event) -> Any:
    async def serve(task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
        await serve_ledger(store, keys.identity, rules, [place], stop=stop, task_status=task_status)

    return serve


class _Home(Home):
    """A home whose keys are known; its store is on the simulated disk."""

    def __init__(self, path: Path, keys: Keyring) -> None:
        super().__init__(path)
        self._keyring = keys


async def connect(network: Network, host: str, port: int, deadline: float) -> tuple[Any, bytes]:
    """A stream of the present life's on the simulated network, which stands in the place of TCP and TLS."""
    life = LIFE.get()
    assert life is not None
    try:
        with trio.fail_at(deadline):
            return await network.connect(life, host, port), BINDING
    except OSError as error:
        raise LinkClosed(f"cannot connect to {host} port {port}: {error}") from error
    except trio.TooSlowError:
        raise LinkClosed(f"cannot connect to {host} port {port}: no answer in time") from None


def _no_certificate() -> Any:
    return None


async def _accept(transport: Any, deadline: float) -> tuple[Any, bytes]:
    await trio.lowlevel.checkpoint()
    return transport, BINDING


@asynccontextmanager
async def _no_control(path: Path) -> AsyncIterator[_Deaf]:
    """In place of the owner's socket: owners call the Api behind it."""
    await trio.lowlevel.checkpoint()
    yield _Deaf()


class _Deaf(trio.abc.Listener[Any]):
    async def accept(self) -> Any:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def cause_of(error: BaseException) -> str:
    """The first failure in a group, as text that is the same in every life."""
    failure = _failure(error)
    return type(failure).__name__ if isinstance(failure, trio.Cancelled) else f"{type(failure).__name__}: {failure}"


def _failure(error: BaseException) -> BaseException:
    """The first one in a group of groups; others were cancelled for it."""
    found = list(leaves(error))
    return next((leaf for leaf in found if not isinstance(leaf, trio.Cancelled)), found[0])


def is_excused(process: Process, error: BaseException) -> bool:
    """Whether a daemon ended as it must: its disk has failed."""
    return isinstance(_failure(error), StoreFailed) and process.disk.has_failed


def watch_commits() -> None:
    """Have every commit of a production store pass its life's crash points; nobody looks at certificates."""
    watch_renames()
    accepting.fresh_certificate = _no_certificate
    for store in (NodeStore, LedgerStore):
        original = store.commit
        if not hasattr(original, "watched"):
            store.commit = _watched(original)  # type: ignore[method-assign]


def _watched(original: Callable[..., Any]) -> Callable[..., Any]:
    def commit(self: Any, work: Any) -> Any:
        life = LIFE.get()
        if life is None:
            return original(self, work)
        life.passed("commit before")
        if life.in_payments is not None and getattr(work, "journal", ()):
            life.armed, life.in_payments = life.in_payments, None
        result = original(self, work)
        life.process.world.committed(life.process)
        life.passed("commit after")
        return result

    commit.watched = True  # type: ignore[attr-defined]
    return commit
