"""What a daemon frees goes back to the system, also what is freed between blocks that live on."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import trio

from channelpay.daemon import memory
from channelpay.daemon.usage import usage

PIECES = 200
PIECE_BYTES = 100_000  # below what the C library asks the system for piece by piece


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Other tests' garbage is looked for as ever."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


async def test_freed_memory_is_given_back(autojump_clock: trio.testing.MockClock) -> None:
    if memory._trim is None:
        pytest.fail("these tests are for glibc")
    pieces = [bytearray(b"x" * PIECE_BYTES) for _ in range(2 * PIECES)]
    full = usage().memory
    del pieces[::2]  # holes
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.keep_tidy)
        await trio.sleep(memory.TIDY_S + 1)
        nursery.cancel_scope.cancel()
    assert full - usage().memory > PIECES * PIECE_BYTES // 2
    assert len(pieces) == PIECES


async def test_what_lives_for_ever_is_not_looked_at_again(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(memory.keep_tidy)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert gc.get_freeze_count() > 1000
    assert gc.get_threshold()[0] == memory.COLLECT_AFTER
