"""What a case can come to, and what the judged side did to deserve it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Violation(Exception):
    """The node or the ledger did not do what the requirement of the case says; the text tells what it did."""


class NotRun(Exception):
    """The case could not be played here; the text says what it needs. That is no pass."""


class Status(StrEnum):
    """What became of a case."""

    PASS = "pass"
    FAIL = "fail"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the report."""

    name: str
    requirements: tuple[str, ...]
    must: bool
    status: Status
    text: str
    seconds: float


def require(condition: object, text: str) -> None:
    """Raises Violation(text) unless the condition holds."""
    if not condition:
        raise Violation(text)


def same(found: object, wanted: object, what: str) -> None:
    """Raises Violation unless the two are equal."""
    if found != wanted:
        raise Violation(f"{what} is {shown(found)}, not {shown(wanted)}")


def shown(value: object) -> str:
    """A value for a report: bytes as hexadecimal, long ones cut."""
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
