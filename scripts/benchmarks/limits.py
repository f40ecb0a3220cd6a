"""The limits of this machine, by the libraries that channelpay uses: what no payment can be cheaper than."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Final

import apsw
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.result import Size
from channelpay.daemon.tls import client_context, fresh_certificate
from channelpay.services.demo.stage import open_stage

_STATE_BYTES: Final = 232
"""A signed STATE; a signature's cost hardly depends on it."""

_PING_BYTES: Final = 256
"""About a payment that comes alone, and its ACK."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Medians. One core, one process, nothing else running; `tls_round_trip_us` between two processes."""

    sign_per_s: float
    verify_per_s: float
    sha256_mb_per_s: float
    fdatasync_us: float
    commit_us: float
    tls_round_trip_us: float

    @property
    def sign_us(self) -> float:
        return 1e6 / self.sign_per_s

    @property
    def verify_us(self) -> float:
        return 1e6 / self.verify_per_s

    @property
    def alone_us(self) -> float:
        """What one awaited payment cannot do without: two of each, and there and back."""
        return 2 * self.commit_us + 2 * self.sign_us + 2 * self.verify_us + self.tls_round_trip_us

    def as_json(self) -> dict[str, float]:
        return asdict(self)


async def measure(directory: Path, size: Size, rest_s: float = 0.0) -> Limits:
    """All limits, each the median of several short rounds; files are made in `directory`.

    `rest_s` is how long the process sleeps before every call, which is then not part of the time: caches and cores
    are cold after it, as they are for what comes alone.
    """
    rounds, seconds = size.of((9, 0.05), (3, 0.005))

    def each(make: Callable[[], Callable[[], object]]) -> float:
        """Microseconds for one call of what `make` makes."""
        return median(_us_per_call(call, seconds, rest_s) for call in [make()] for _ in range(rounds))

    key = Ed25519PrivateKey.generate()
    message, public = os.urandom(_STATE_BYTES), key.public_key()
    signature, megabyte = key.sign(message), os.urandom(1_000_000)
    with _Appender(directory / "append") as append, _Committer(directory / "commit.db") as commit:
        return Limits(
            sign_per_s=1e6 / each(lambda: lambda: key.sign(message)),
            verify_per_s=1e6 / each(lambda: lambda: public.verify(signature, message)),
            sha256_mb_per_s=1e6 / each(lambda: lambda: sha256(megabyte).digest()),
            fdatasync_us=each(lambda: append),
            commit_us=each(lambda: commit),
            tls_round_trip_us=await _tls_round_trip_us(directory, rounds, size.of(200, 20), rest_s),
        )


def merged(measured: list[Limits]) -> Limits:
    """The medians of several measurements."""
    rows = [one.as_json() for one in measured]
    return Limits(**{name: median([row[name] for row in rows]) for name in rows[0]})


def _us_per_call(call: Callable[[], object], seconds: float, rest_s: float) -> float:
    began = time.perf_counter()
    calls, rested = 0, 0.0
    while (now := time.perf_counter()) < began + seconds or not calls:
        if rest_s:
            time.sleep(rest_s)
            rested += time.perf_counter() - now
        call()
        calls += 1
    return (now - began - rested) * 1e6 / calls


class _Appender:
    """Appends what one payment could at least append, and waits until it is on disk."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._path = path

    def __enter__(self) -> _Appender:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        self._path.unlink()

    def __call__(self) -> None:
        os.write(self._file, bytes(_PING_BYTES))
        os.fdatasync(self._file)


class _Committer:
    """Commits one small row as a node's store does: WAL, synchronous FULL."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = apsw.Connection(str(path))
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "CREATE TABLE t (x BLOB)"):
            self._db.execute(statement).fetchall()

    def __enter__(self) -> _Committer:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._path.unlink()

    def __call__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("INSERT INTO t VALUES (?)", (bytes(_PING_BYTES),))
        self._db.execute("COMMIT")


# --- The round trip ----------------------------------------------------------------------------


async def _tls_round_trip_us(directory: Path, rounds: int, trips: int, rest_s: float) -> float:
    """There and back on one TLS 1.3 connection to a process that sends back what comes."""
    async with open_stage(directory) as stage:
        echo = await stage.start("echo", "benchmarks.limits", pipes=True)
        port = (await echo.first_line(10.0))["port"]
        stream = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", port), client_context(), https_compatible=True)
        await stream.do_handshake()
        await _trips(stream, trips, rest_s)  # warm
        found = median([await _trips(stream, trips, rest_s) for _ in range(rounds)])
        await trio.aclose_forcefully(stream)
        return found


async def _trips(stream: trio.SSLStream[trio.SocketStream], count: int, rest_s: float) -> float:
    data = bytes(_PING_BYTES)
    seconds = 0.0
    for _ in range(count):
        if rest_s:
            await trio.sleep(rest_s)
        began = time.perf_counter()
        await stream.send_all(data)
        await _receive(stream)
        seconds += time.perf_counter() - began
    return seconds * 1e6 / count


async def _receive(stream: trio.SSLStream[trio.SocketStream]) -> bool:
    """Take one ping; False at the end of the stream."""
    left = _PING_BYTES
    while left:
        data = await stream.receive_some(left)
        if not data:
            return False
        left -= len(data)
    return True


async def _echo() -> None:
    context = fresh_certificate().context
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(f'{{"port": {listener.socket.getsockname()[1]}}}', flush=True)
    stream = trio.SSLStream(await listener.accept(), context, server_side=True, https_compatible=True)
    try:
        while await _receive(stream):
            await stream.send_all(bytes(_PING_BYTES))
    except (trio.BrokenResourceError, ssl.SSLError):
        pass  # the other side has what it wanted


if __name__ == "__main__":
    trio.run(_echo)
