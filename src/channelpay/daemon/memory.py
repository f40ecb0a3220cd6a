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

TRIM_S: Final = 60.0
"""Once a minute; it takes a millisecond for each ten MiB."""


async def keep_tidy() -> None:
    """Give back what is free, again and again, until cancelled. Call it when everything is imported."""
    gc.collect()
    gc.freeze()
    trim = _trimmer()
    while trim is not None:
        await trio.sleep(TRIM_S)
        trim(0)


def _trimmer() -> Callable[[int], int] | None:
    """glibc's malloc_trim(3); None where the C library has no such function."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
