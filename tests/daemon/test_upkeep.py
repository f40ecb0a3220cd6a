"""Old records are told by the time for which a node ran; a damaged store stops it. Spec N-32, N-33."""

from __future__ import annotations

from dataclasses import replace

import trio

from channelpay.daemon import upkeep
from channelpay.daemon.outside import OUTSIDE
from channelpay.limits import PRUNE_LOOK_S


class Store:
    """Remembers with which times it was asked to prune."""

    def __init__(self, newest_mark: int) -> None:
        self.newest_mark = newest_mark
        self.times: list[int] = []

    def pruning_clock(self, wall_s: int) -> int:
        assert wall_s == 1_000_000
        return self.newest_mark

    def prune(self, now_s: int, keep_s: int) -> bool:
        self.times.append(now_s)
        return False


async def test_the_wall_clock_leaps_and_records_do_not_grow_old(autojump_clock):
    wall = 1_000_000.0
    token = OUTSIDE.set(replace(OUTSIDE.get(), time=lambda: wall))
    store = Store(5_000)
    try:
        with trio.move_on_after(2.5 * PRUNE_LOOK_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(upkeep.prune, store, 90_000)
                await trio.sleep(PRUNE_LOOK_S / 2)
                wall += 365 * 86_400
    finally:
        OUTSIDE.reset(token)
    assert store.times == [5_000, 5_000 + PRUNE_LOOK_S, 5_000 + 2 * PRUNE_LOOK_S]
