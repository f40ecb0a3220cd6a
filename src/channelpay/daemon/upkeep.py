"""What a node does with its store beside payments: take old records away, look whether it is sound. Spec N-32, N-33."""

from __future__ import annotations

from typing import Final

import trio

from channelpay.daemon.outside import wall_time
from channelpay.limits import CHECK_EVERY_S, CHECK_SHARE, PRUNE_LOOK_S
from channelpay.store.node import NodeStore

_LEAST_REST_S: Final = 0.005
"""Between two steps of a look through the store: on a fast machine others come first too."""


async def prune(store: NodeStore, keep_s: int) -> None:
    """Take old records away, step by step, in a fifth of the time at most: payments go on in between (spec N-32).

    How old they are is told by the time for which this node ran, never by the wall alone, which may leap.
    """
    age_s, began = store.pruning_clock(int(wall_time())), trio.current_time()
    while True:
        now = trio.current_time()
        more = store.prune(age_s + int(now - began), keep_s)
        await trio.sleep(4 * (trio.current_time() - now) if more else PRUNE_LOOK_S)


async def check(store: NodeStore) -> None:
    """Look through the store once a day, in small steps. Raises StoreFailed when something is damaged (spec N-33)."""
    while True:
        steps = store.check()
        began = trio.current_time()
        for _ in steps:
            await trio.sleep(max(_LEAST_REST_S, (CHECK_SHARE - 1) * (trio.current_time() - began)))
            began = trio.current_time()
        await trio.sleep(CHECK_EVERY_S)
