"""A process of a benchmark: a node embedded in it, or a client of a daemon, and functions that it is told to run.

It reads `{"id", "call": "module:function", "arguments": {...}}`, one a line, and runs each in a task of its own:
`await function(worker, **arguments)`. What that returns goes back as `{"id", "result"}`, an exception as
`{"id", "error"}`. It ends when its stdin does. `stage.Worker` is the other side.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import traceback
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import trio

import channelpay
from benchmarks.used import used
from channelpay.daemon.main import set_up_logs
from channelpay.daemon.memory import collect_rarely
from channelpay.home.config import Log
from channelpay.services.demo.stage import JsonLines

_DAEMON_WAIT_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.01


class Worker:
    """What a function may use: the client of the node, a nursery for tasks that stay, and a place to keep things."""

    def __init__(self, node: channelpay.Client, embedded: bool, nursery: trio.Nursery) -> None:
        self.node = node
        self.embedded = embedded
        self.nursery = nursery
        self.kept: dict[str, Any] = {}

    @property
    def engine(self) -> Any:
        """The engine of the embedded node, for counts that no client can ask for."""
        if not self.embedded:
            raise TypeError("the engine is in the daemon's process")
        return self.node._backend._api.engine  # type: ignore[attr-defined]

    @property
    def commits(self) -> int:
        """Commits of the node's store since it started; 0 where the node is another process."""
        commits: int = self.engine.store.commits if self.embedded else 0
        return commits


async def usage(worker: Worker) -> dict[str, Any]:
    """What this process has used since it started: see `stage.Usage`."""
    return used(worker.commits)


async def _listening(node: channelpay.Client) -> list[str]:
    """Where the node listens, once it has reached its ledger: before that it would refuse a channel."""
    while not (status := await node.status()).ledger_connected:
        await trio.sleep(_LOOK_AGAIN_S)
    return list(status.listen)


async def serve(worker: Any, listen: list[str]) -> None:
    """Say that this process is ready and obey orders until stdin ends. `worker` is what functions are given first.

    `listen`: the addresses of its nodes, if any; `stage.Worker.address` is the first of them.
    """
    _tell({"listen": listen})
    async with trio.open_nursery() as nursery:
        async for order in JsonLines(trio.lowlevel.FdStream(os.dup(0))):
            nursery.start_soon(_obey, worker, order)


async def _obey(worker: Any, order: dict[str, Any]) -> None:
    module, _, name = order["call"].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        answer = {"result": await function(worker, **order["arguments"])}
    except Exception as error:
        traceback.print_exc()
        answer = {"error": f"{type(error).__name__}: {error}"}
    _tell({"id": order["id"], **answer})


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main(home: str, connect: bool) -> None:
    """Run until stdin ends."""
    node: AbstractAsyncContextManager[channelpay.Client]
    node = channelpay.connect(home, wait_s=_DAEMON_WAIT_S) if connect else channelpay.Node(home)
    async with node as client, trio.open_nursery() as nursery:
        if not connect:
            collect_rarely()  # as README.md advises programs that embed a node
        await serve(Worker(client, not connect, nursery), await _listening(client))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="home of the node")
    parser.add_argument("--connect", action="store_true", help="be a client of the daemon that runs on that home")
    options = parser.parse_args()
    set_up_logs(Log(level="warning"))
    trio.run(main, options.home, options.connect)
