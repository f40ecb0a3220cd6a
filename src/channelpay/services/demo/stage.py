"""The processes of the demo: each with its log, all ended when the stage is left, whatever happened."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import trio

from channelpay.errors import ChannelpayError

COMMAND_LIMIT_S: Final = 60.0
_END_LIMIT_S: Final = 5.0
_TAIL_LINES: Final = 15
_TAIL_WIDTH: Final = 500
_PORTS: Final = range(20_000, 32_000)
"""Below those that a system gives to outgoing connections: who is restarted finds its port free."""


class DemoFailed(ChannelpayError):
    """The demo could not be played to its end; the message says where it stopped."""


class JsonLines(AsyncIterator[dict[str, Any]]):
    """The JSON objects on a stream, one a line, until it ends."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._rest = b""

    async def __anext__(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            data = await self._stream.receive_some()
            if not data:
                raise StopAsyncIteration
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(eq=False)
class Child:
    """A process that the demo started. `stays`: it must not end before it is told to."""

    name: str
    log: Path
    process: trio.Process
    stays: bool
    told_to_end: bool = False

    @cached_property
    def lines(self) -> JsonLines:
        """What it tells on its stdout."""
        assert self.process.stdout is not None
        return JsonLines(self.process.stdout)

    async def first_line(self, limit_s: float) -> dict[str, Any]:
        """What it tells first; raises DemoFailed if it ends or `limit_s` passes before."""
        with trio.move_on_after(limit_s):
            async for told in self.lines:
                return told
            raise self.ended_early(await self.process.wait())
        raise DemoFailed(f"{self.name} told nothing within {limit_s:.0f} s")

    def ended_early(self, code: int) -> DemoFailed:
        """The failure that it is for this process to end now."""
        return DemoFailed(f"{self.name} ended by itself with exit code {code}")

    async def go_on(self) -> None:
        """Send a line to its stdin."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(b"\n")


class Stage:
    """Starts `python -m ...` processes of this installation and keeps their logs in `directory`."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self.directory = directory
        self._nursery = nursery
        self._children: list[Child] = []

    async def command(self, *arguments: str) -> dict[str, Any]:
        """The answer of one `channelpay ... --json`; raises DemoFailed."""
        with trio.move_on_after(COMMAND_LIMIT_S):
            done = await trio.run_process(
                [sys.executable, "-m", "channelpay", *arguments, "--json"],
                capture_stdout=True, capture_stderr=True, check=False, start_new_session=True,
            )  # fmt: skip
            return self._answer(arguments, done)
        raise DemoFailed(f"'channelpay {' '.join(arguments)}' did not end within {COMMAND_LIMIT_S:.0f} s")

    def _answer(self, arguments: tuple[str, ...], done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            answer = {}
        if done.returncode == 0 and "error" not in answer:
            return answer
        said = answer.get("error", {}).get("message") or (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise DemoFailed(f"'channelpay {' '.join(arguments)}' ended with {done.returncode}: {said[-2000:]}")

    async def start(self, name: str, module: str, *arguments: str, stays: bool = True, pipes: bool = False) -> Child:
        """Start a process; its stderr goes to its log, with `pipes` stdin and stdout are ours."""
        log = self.directory / f"{name}.log"
        with log.open("ab") as output:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal is for us: we end the others in order
            )
        child = Child(name, log, process, stays)
        self._children.append(child)
        self._nursery.start_soon(self._watch, child)
        return child

    async def _watch(self, child: Child) -> None:
        code = await child.process.wait()
        if not child.told_to_end and (child.stays or code != 0):
            raise child.ended_early(code)

    async def kill(self, child: Child) -> None:
        """SIGKILL: the process gets no chance to tidy up."""
        child.told_to_end = True
        child.process.kill()
        await child.process.wait()
        self._children.remove(child)

    async def end_all(self) -> None:
        """SIGTERM to the youngest first; SIGKILL to those that do not end in time."""
        with trio.CancelScope(shield=True):
            for child in reversed(self._children):
                await _end(child)
            self._children.clear()


async def _end(child: Child) -> None:
    child.told_to_end = True
    if child.process.returncode is None:
        child.process.send_signal(signal.SIGTERM)
        with trio.move_on_after(_END_LIMIT_S):
            await child.process.wait()
    if child.process.returncode is None:
        child.process.kill()
        await child.process.wait()
    for pipe in (child.process.stdin, child.process.stdout):
        if pipe is not None:
            await pipe.aclose()


@asynccontextmanager
async def open_stage(directory: Path) -> AsyncIterator[Stage]:
    """A stage in `directory`; at the end of the block every process on it has ended."""
    async with trio.open_nursery() as nursery:
        stage = Stage(directory, nursery)
        try:
            yield stage
        finally:
            await stage.end_all()
        nursery.cancel_scope.cancel()


def tails(directory: Path) -> str:
    """The last lines of every log in a stage's directory."""
    parts = []
    for log in sorted(directory.glob("*.log")):
        lines = log.read_text("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        parts.append("\n".join([f"--- {log}", *(line[:_TAIL_WIDTH] for line in lines)]))
    return "\n".join(parts)


def free_ports(count: int) -> list[int]:
    """TCP ports on the loopback interface that nobody listens on now; raises DemoFailed if there are too few."""
    sockets: list[socket.socket] = []
    try:
        for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
            if len(sockets) < count:
                with suppress(OSError):
                    sockets.append(socket.create_server(("127.0.0.1", port)))
    finally:
        ports = [sock.getsockname()[1] for sock in sockets]
        for sock in sockets:
            sock.close()
    if len(ports) < count:
        raise DemoFailed(f"{count} free TCP ports are needed on 127.0.0.1 in {_PORTS.start} .. {_PORTS.stop - 1}")
    return ports
