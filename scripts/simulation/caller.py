"""Somebody who calls a node's Api, life after life of it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from channelpay.daemon.api import Api
from channelpay.errors import LocalError, StoreFailed
from channelpay.messages import control
from simulation.process import Life, NodeProcess
from simulation.world import World


class Caller:
    """Asks the node of one process. It survives the node's crashes."""

    def __init__(self, world: World, process: NodeProcess) -> None:
        self.world = world
        self.process = process
        self.name = process.name
        self.rng = random.Random(world.rng.random())

    async def api(self) -> tuple[Life, Api]:
        """The running node, as soon as there is one."""
        while not self.process.alive:
            await trio.sleep(0.2)
        life = self.process.life
        assert life is not None
        assert life.api is not None
        return life, life.api

    async def call(self, method: control.Method, patience_s: float = 90.0) -> Any:
        """The answer, or the LocalError that refused it, or None when there was none."""
        life, api = await self.api()
        answer: Any = None

        async def ask(scope: trio.CancelScope) -> None:
            nonlocal answer
            life.enter()
            try:
                answer = await api.call(method)
            except LocalError as error:
                answer = error
            except StoreFailed as failure:
                life.fail(failure)
                await trio.sleep_forever()  # until it has ended
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, nursery.cancel_scope)
            nursery.start_soon(_until_exit, life, nursery.cancel_scope)
            nursery.cancel_scope.deadline = trio.current_time() + patience_s
        if life.dead:
            answer = None
        self.world.log("answer", self.name, method.NAME, "none" if answer is None else type(answer).__name__)
        return answer

    async def safely(self, what: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Do it; a store that fails meanwhile ends the node."""
        life, _ = await self.api()
        try:
            await what(life, *arguments)
        except StoreFailed as failure:
            life.fail(failure)


async def _until_exit(life: Life, scope: trio.CancelScope) -> None:
    await life.exited.wait()
    scope.cancel()
