"""Memory of a process that runs for months: what nobody uses goes back to the system.

The C library keeps what was freed between blocks that still live, and takes more when a block of another size is
asked for: with payments in batches of every size it would grow for hours, although what is used stays the same. And
Python looks for garbage in cycles the more rarely, the more there is that lives for ever, such as its modules; among
the young objects it looks the more often, the more tasks wait for payments, which leave no such garbage.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Final

import trio

TIDY_S: Final = 60.0
"""Once a minute; it takes a few milliseconds."""

COLLECT_AFTER: Final = 10_000
"""Objects made before Python looks for cycles among them. At its own 700, it takes a tenth of a loaded payer's CPU."""

_trim: Final[Callable[[int], int] | None] = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc's malloc_trim(3); None where the C library has no such function."""


def tidy() -> None:
    """Collect garbage and give back what is free."""
    gc.collect()
    if _trim is not None:
        _trim(0)


def collect_rarely() -> None:
    """Let Python look for garbage as it suits a process that has loaded all it needs and makes payments now."""
    gc.collect()
    gc.freeze()  # what there is now lives for ever: from now on a collection takes a millisecond
    gc.set_threshold(COLLECT_AFTER)


async def keep_tidy() -> None:
    """Tidy again and again, until cancelled. Start it when everything is imported."""
    collect_rarely()
    while True:
        await trio.sleep(TIDY_S)
        tidy()
