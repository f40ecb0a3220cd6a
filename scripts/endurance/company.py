"""The services of a run: one process for each node, told what to do and listened to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from channelpay.services.demo.stage import Child
from endurance.daemons import Daemon, EnduranceFailed, World

STOP_LIMIT_S: Final = 120.0
CLOSE_LIMIT_S: Final = 400.0


@dataclass
class Load:
    """How much a service does: see the options of `endurance.service`."""

    tasks: int = 4
    pause_s: float = 0.0
    action_every_s: float = 1.0
    quiet: bool = False


@dataclass(eq=False)
class Employed:
    """A service and its process; `before` counts what its earlier lives told."""

    node: Daemon
    journal: Path
    seed: int
    peers: list[str]
    child: Child | None = None
    acknowledged: int = 0
    before: int = 0
    done: set[str] = field(default_factory=set)
    actions: dict[str, int] = field(default_factory=dict)


class Company:
    """All services of a world; each keeps channels to the node after its own."""

    def __init__(self, world: World, nursery: trio.Nursery, seed: int, load: Load) -> None:
        self.world = world
        self.load = load
        self._nursery = nursery
        self._news = trio.lowlevel.ParkingLot()
        nodes = world.nodes
        self.services = [
            Employed(
                node,
                world.journal_of(node),
                seed * 100 + index,
                [str(world.address_of(nodes[(index + 1) % len(nodes)]))],
            )
            for index, node in enumerate(nodes)
        ]

    async def start(self, service: Employed) -> None:
        """Start its process; a later life goes on with the journals of the earlier one, on other choices."""
        load = self.load
        options = [
            "--home",
            str(service.node.home.path),
            "--journal",
            str(service.journal),
            "--seed",
            str(service.seed),
        ]
        options += [part for peer in service.peers for part in ("--peer", peer)]
        options += ["--tasks", str(load.tasks), "--pause", str(load.pause_s), "--actions", str(load.action_every_s)]
        service.seed += 1_000_000
        options += ["--quiet"] if load.quiet else []
        name = f"service-{service.node.name}"
        service.child = await self.world.processes.start(name, "endurance.service", *options, pipes=True)
        self._nursery.start_soon(self._listen, service, service.child)

    async def kill(self, service: Employed) -> None:
        """SIGKILL."""
        assert service.child is not None
        await self.world.processes.kill(service.child)

    async def _listen(self, service: Employed, child: Child) -> None:
        service.before += service.acknowledged
        service.acknowledged = 0
        async for told in child.lines:
            self._take(service, told)
            self._news.unpark_all()

    @staticmethod
    def _take(service: Employed, told: dict[str, Any]) -> None:
        if "acknowledged" in told:
            service.acknowledged = told["acknowledged"]
        else:
            service.done.add(told["done"])
            service.actions = told["actions"]

    @property
    def acknowledged(self) -> int:
        """Payments that were acknowledged so far, as far as the services have told."""
        return sum(service.before + service.acknowledged for service in self.services)

    async def wait_for(self, more: int, limit_s: float) -> None:
        """Wait until so many more payments are acknowledged; raises EnduranceFailed."""
        target = self.acknowledged + more
        await self.wait_until(lambda: self.acknowledged >= target, limit_s)

    async def wait_until(self, reached: Callable[[], bool], limit_s: float) -> None:
        """Wait until so many payments are acknowledged that `reached`; raises EnduranceFailed."""
        with trio.move_on_after(limit_s):
            while not reached():
                await self._news.park()
        if not reached():
            raise EnduranceFailed(f"payments that were waited for were not made within {limit_s:.0f} s")

    async def tell_all(self, order: str, limit_s: float) -> bool:
        """Tell every service and wait until all have done it; False: it took too long."""
        for service in self.services:
            assert service.child is not None
            assert service.child.process.stdin is not None
            await service.child.process.stdin.send_all(order.encode() + b"\n")
        with trio.move_on_after(limit_s):
            while not all(order in service.done for service in self.services):
                await self._news.park()
        return all(order in service.done for service in self.services)
