"""Memory of a process that runs for months: what nobody uses goes back to the system.

The C library keeps what was freed between blocks that still live, and takes more when a block of another size is
asked for: with payments in batches of every size it would grow for hours, although what is used stays the same. And
Python looks for garbage in cycles the more rarely, the more there is that lives for ever, such as its modules.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Final

import trio

TIDY_S: Final = 60.0
"""Once a minute; it takes a few milliseconds."""

_trim: Final[Callable[[int], int] | None] = getattr(ctypes.CDLL(None), "malloc_trim", None)
"""glibc's malloc_trim(3); None where the C library has no such function."""


def tidy() -> None:
    """Collect garbage and give back what is free."""
    gc.collect()
    if _trim is not None:
        _trim(0)


async def keep_tidy() -> None:
    """Tidy again and again, until cancelled. Start it when everything is imported."""
    gc.collect()
    gc.freeze()  # what there is now lives for ever: from now on a collection takes a millisecond
    while True:
        await trio.sleep(TIDY_S)
        tidy()
