"""What a case needs of the world outside: connections, time, entropy, and a hand on the node. Nothing else.

`tcp.TcpRunner` gives real ones. A test gives connections into a node and a ledger in the same thread, on a clock
that moves when the case says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Wire(Protocol):
    """The bytes inside one TLS connection that the kit made. `certificate`: DER, as the listener sent it."""

    certificate: bytes

    def send(self, data: bytes) -> None:
        """Send all of it in one piece; does nothing when the other side has closed."""

    def receive(self, wait_s: float) -> bytes | None:
        """The next bytes; b"" when the other side has closed; None when nothing came in `wait_s`."""

    def close(self) -> None:
        """End the connection without a word."""


class ControlRefused(Exception):
    """The node refused a command of its operator: no payment, no channel, nothing changed."""


class Call(Protocol):
    """A command under way."""

    def done(self) -> bool:
        """Whether it has come to an end, without waiting."""

    def result(self, wait_s: float) -> Mapping[str, Any]:
        """Its answer. Raises ControlRefused, and Violation when none came in `wait_s`."""


class Control(Protocol):
    """The driver of the node under test: what its operator can do. Spec 14.4 lists the commands."""

    commands: frozenset[str]

    def start(self, command: str, **arguments: Any) -> Call:
        """Give a command; it goes on while the case talks to the node."""


class Tls(Protocol):
    """A look at what lies below the bytes of a connection to the node."""

    def takes_old_versions(self) -> bool:
        """Whether a connection with TLS 1.2 or older comes about."""

    def gives_ticket(self) -> bool:
        """Whether the node has issued a session ticket by the time it has said HELLO."""

    def certificate(self) -> bytes:
        """The node's certificate, DER."""

    def strangers(self, count: int) -> int:
        """How many of so many silent connections, made at once, the node lets stand."""


class Runner(Protocol):
    """The world of one run of cases. `tls` and `control` are None where there is no such thing."""

    node_id: bytes
    ledger_id: bytes
    control: Control | None
    tls: Tls | None
    patience_s: float
    """How long an answer may take before it counts as none."""
    quiet_s: float
    """How long nothing must come before it counts as silence."""

    def dial_node(self) -> Wire:
        """A new connection to the node under test. Raises Violation when there is none to be had."""

    def dial_ledger(self) -> Wire:
        """A new connection to the ledger under test."""

    def clock(self) -> float:
        """Seconds on a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Let time pass for everybody."""

    def entropy(self, size: int) -> bytes:
        """Fresh random bytes."""
