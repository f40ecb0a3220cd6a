"""Crash points: every await of the daemon, and every moment before and after a commit, a write, a sync, a send.

The awaits are read from the source, so a new one is a new crash point by itself, and one that no run hits is missed.
"""

from __future__ import annotations

import ast
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Final

import trio

import channelpay.daemon

DAEMON: Final = Path(channelpay.daemon.__file__).parent

_KILLED_FOR_REAL: Final = "the process: signals, logs, exit code; scripts/torture kills real processes"
_ABOVE_TLS: Final = "TCP and TLS: TLS takes no entropy from outside, so the network is cut in above it"
NOT_SIMULATED: Final = {
    "main": _KILLED_FOR_REAL,
    "ledger_main": _KILLED_FOR_REAL,
    "usage": _KILLED_FOR_REAL,
    "control_server": "the owner's socket; owners call the Api behind it",
    "outbox": "the owner's socket; owners call the Api behind it",
    "memory": "an embedding process's housekeeping of the interpreter",
    "ledger_client": "a client's, not a daemon's",
    "outside": "the door that the simulation stands in",
    "secure": _ABOVE_TLS,
    "tls": _ABOVE_TLS,
    "tcp": _ABOVE_TLS,
}
"""Modules of the daemon whose awaits are no crash points here, and why."""

_FLOODS: Final = "a peer that asks or leaves unread more than anybody does here; scripts/hostile has one"
NOT_REACHED: Final = {
    "api.Api._balance/2": "an asset that was made since the ledger was last asked: there is one from the beginning",
    "accepting._Server.accepted/1": "a connection refused at the doorstep: nobody floods here; scripts/hostile does",
    "ledger_stream.LedgerStream._take/1": "an answer about a channel that the store does not know: a node asks about "
    "those that it knows, and the others come as events",
    "ledger_server._Client.wait_for_room/1": _FLOODS,
    "ledger_server._Client.wait_for_room/2": _FLOODS,
    "ledger_server.LedgerServer._take/1": _FLOODS,
    "ledger_server.LedgerServer.converse/3": _FLOODS,
    "ledger_server.LedgerServer.converse/4": _FLOODS,
    "ledger_server.LedgerServer._execute/1": _FLOODS,
    "ledger_server.LedgerServer._commit/1": _FLOODS,
    "link.Link.wait_queued_below/2": _FLOODS,
    "link.Link._say_end/3": "input after the end, which a stream in memory has read already",
    "peers.Peers.keep_up/1": "the end of a loop that has none",
}
"""Awaits that the simulated world does not suspend at, and why."""

AT_THE_START: Final = (
    "embedded.run/", "embedded._listening/", "embedded._start/", "embedded._prune/",
    "ledger_server.serve_ledger/",
)  # fmt: skip
"""Points that a process passes when it starts."""

AT_THE_END: Final = (
    "embedded.run/", "embedded._drain/", "ledger_server.LedgerServer.stop/", "ledger_server.serve_ledger/",
    "link.Link._close/", "link.Link._say_end/", "node db ", "ledger db ",
)  # fmt: skip
"""Points that it passes when it is stopped in order."""

_STEPS: Final = ("commit", "wal write", "wal sync", "db write", "db sync")
EVENTS: Final = (*(f"{step} {when}" for step in _STEPS for when in ("before", "after")), "sent")
"""What a process passes, beside its awaits."""


@dataclass(frozen=True, slots=True)
class Point:
    """One await: `name` is module.function/number of the await in it."""

    name: str
    file: str
    first_line: int
    last_line: int


@cache
def awaits() -> dict[str, Point]:
    """All crash points at awaits, by name."""
    found: dict[str, Point] = {}
    for path in sorted(DAEMON.glob("*.py")):
        if path.stem not in NOT_SIMULATED:
            for point in _of_module(path):
                if point.name not in NOT_REACHED:
                    found[point.name] = point
    return found


def _of_module(path: Path) -> Iterator[Point]:
    def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}.{child.name}"
                if isinstance(child, ast.AsyncFunctionDef):
                    yield name, child
                yield from functions(child, name)
            else:
                yield from functions(child, prefix)

    for name, function in functions(ast.parse(path.read_text()), path.stem):
        for number, (first, last) in enumerate(_lines(function), 1):
            yield Point(f"{name}/{number}", str(path), first, last)


def _lines(function: ast.AST) -> Iterator[tuple[int, int]]:
    """(first, last line) of every await of a function, not of functions in it."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Await):
            yield node.lineno, node.end_lineno or node.lineno
        elif isinstance(node, ast.AsyncWith):
            yield node.lineno, node.items[-1].context_expr.end_lineno or node.lineno
        elif isinstance(node, ast.AsyncFor):
            yield node.lineno, node.iter.end_lineno or node.lineno
        yield from _lines(node)


@cache
def _by_line() -> dict[tuple[str, int], str]:
    """Which point a line of a file is; the shorter of two that overlap."""
    found: dict[tuple[str, int], str] = {}
    for point in sorted(awaits().values(), key=lambda p: p.first_line - p.last_line):
        for line in range(point.first_line, point.last_line + 1):
            found[point.file, line] = point.name
    return found


@cache
def _point_of(code: CodeType, line: int) -> str | None:
    return _by_line().get((code.co_filename, line))


def suspended_at(task: trio.lowlevel.Task) -> list[str]:
    """The crash points at which a task waits now, outermost first."""
    frames = (_point_of(frame.f_code, line) for frame, line in task.iter_await_frames())
    return [name for name in frames if name is not None]


@dataclass(slots=True)
class Armed:
    """A crash that waits for its moment: the `passes`-th time that a life is at `point`."""

    point: str
    passes: int
    power: bool

    def passed(self, points: list[str]) -> bool:
        """Whether it is now."""
        if self.point not in points:
            return False
        self.passes -= 1
        return self.passes <= 0


class Watch(trio.abc.Instrument):
    """Looks after every step of a task whose process has a crash waiting, or all of them in a survey."""

    def __init__(self, survey: Counter[str] | None = None) -> None:
        self._survey = survey

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """The task waits, or has ended."""
        from simulation.process import LIFE  # the process knows this module

        life = task.context.get(LIFE)
        if life is None or life.dead:
            return
        if self._survey is not None:
            self._survey.update(suspended_at(task))
        if life.armed is not None and "/" in life.armed.point:
            life.waits_at(suspended_at(task))


CALLED: Final = {
    "api.Api._assets/": "assets", "api.Api._read_assets/": "assets", "api.Api._balance/": "balance",
    "api.Api._in_channels/": "balance", "api.Api._connect/": "connect", "api.Api._claim/": "claim",
    "api.Api._close/": "close", "api.Api._payments/": "payments", "api.Api._topup/": "topup",
    "api.Api._withdraw/": "withdraw", "embedded._drain/": "pay", "embedded.run/4": "pay", "link.Link._say_end/": "pay",
    "node commit ": "pay", "node wal ": "pay", "node sent": "pay",
}  # fmt: skip
"""What an owner does so that a process comes by a point that is seldom passed."""

UNREAD: Final = ("link.Link._wait_sent/", "link.Link._say_end/1")
"""Points that a process passes when it is stopped while somebody does not read what it has sent."""

UPON_CONNECTING: Final = (
    "link.Link.receive/1", "link.Link.hand_on/1", "ledger_stream.LedgerStream._converse/",
    "ledger_stream.LedgerStream.run/3", "peers.Peers._keep_up_one/2",
)  # fmt: skip
"""Points that it passes when a connection has ended, or something follows right behind a handshake."""

WHILE_IT_STARTS: Final = ("payments.PaymentDesk.wait_room/",)
"""Points that it passes when it is asked to pay before it has read its ledger."""

WHILE_IT_SEARCHES: Final = (
    "ledger_stream.LedgerStream._prepare/", "ledger_stream.LedgerStream._take/", "ledger_stream.LedgerStream._listen/2",
)  # fmt: skip
"""Points that it passes when the ledger shows it a channel that its store does not know."""

FOCUS: list[str] = []
"""Crash points that all crashes of this run are at, if there are any: for those that others seldom reach."""

PROFILE: list[str] = []
"""The one profile of faults that all seeds of this run have, if it is named."""

LIES: list[str] = []
"""What a party lies about in every seed of this run, if it is named."""


def focus() -> str:
    """The options that a run with the same focus has."""
    chosen = (("points", FOCUS), ("profile", PROFILE), ("lie", LIES))
    return "".join(f" --{option} {' '.join(map(shlex.quote, names))}" for option, names in chosen if names)


def moments() -> list[str]:
    """Where it shows what comes first, the disk or the wire: these have more turns than others."""
    return [f"{kind} {event}" for kind in ("node", "ledger") for event in EVENTS if not event.startswith("db ")]


def plan_names() -> list[str]:
    """All crash points of nodes and of a ledger, in an order that never changes for one source."""
    return [*awaits(), *(f"{kind} {event}" for kind in ("node", "ledger") for event in EVENTS)]
