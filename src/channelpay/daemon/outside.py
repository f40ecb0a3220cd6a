"""What a daemon takes from outside its program: entropy, time of day, threads, connections, files. One door for all.

A daemon runs in a context (PEP 567), and all of its tasks inherit it. A simulation sets `OUTSIDE` there, so that
several daemons in one thread have a world of their own each, and a seed decides everything that happens to them.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

_T = TypeVar("_T")

Listen = Callable[[int, str], Awaitable[list[Any]]]
"""(port, host) to listeners there; raises OSError."""

Connect = Callable[[str, int, float], Awaitable[tuple[Any, bytes]]]
"""(host, port, deadline) to (stream, channel binding)."""

Accept = Callable[[Any, float], Awaitable[tuple[Any, bytes]]]
"""(transport, deadline) to (stream, channel binding)."""


async def _listen(port: int, host: str) -> list[Any]:
    return list(await trio.open_tcp_listeners(port, host=host))


async def _in_thread(work: Callable[[], Any]) -> Any:
    return await trio.to_thread.run_sync(work)


@dataclass(frozen=True, slots=True)
class Outside:
    """The world of one daemon; the defaults are the real one."""

    entropy: Callable[[int], bytes] = os.urandom
    time: Callable[[], float] = time.time
    """Seconds since 1970 by the wall."""
    listen: Listen = _listen
    connect: Connect | None = None
    """Makes secure streams to others; None: TLS over TCP. See `secure.connect`."""
    accept: Accept | None = None
    """Makes secure streams of accepted transports; None: TLS. See `secure.accept`."""
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]] = _in_thread
    """Do what blocks while the other tasks go on."""
    vfs: str | None = None
    """The SQLite VFS of stores; None: the system's files."""
    control: Callable[[Path], AbstractAsyncContextManager[Any]] | None = None
    """Binds the owner's socket; None: a Unix socket."""


OUTSIDE: Final = ContextVar("OUTSIDE", default=Outside())  # noqa: B039  it is frozen


def random_bytes(count: int) -> bytes:
    """Bytes that nobody can guess: nonces, request ids, salts."""
    return OUTSIDE.get().entropy(count)


def jitter() -> random.Random:
    """Randomness that keeps peers from doing things at the same moment; nothing is secret about it."""
    return random.Random(random_bytes(16))


def wall_time() -> float:
    """Seconds since 1970 by the wall; may leap."""
    return OUTSIDE.get().time()


async def listen(port: int, host: str) -> list[Any]:
    """Listeners at a place; raises OSError."""
    return await OUTSIDE.get().listen(port, host)


async def in_thread(work: Callable[[], _T]) -> _T:
    """What `work` returns, done while the other tasks go on."""
    result: _T = await OUTSIDE.get().in_thread(work)
    return result
