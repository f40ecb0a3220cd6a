"""What a command's exit code says, and which failure gives which. Spec N-20."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import click

from channelpay.errors import (
    AddressError,
    AmountError,
    ChannelpayError,
    KeyRefused,
    LocalError,
    Reason,
    RemoteError,
    StoreFailed,
)
from channelpay.home import HomeError
from channelpay.ledger.outcomes import LedgerRefused


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    NOT_REACHABLE = 3
    REFUSED = 4
    PEER = 5
    UNKNOWN = 6
    INTERRUPTED = 130
    PIPE_CLOSED = 141


EXIT_CODES_HELP: Final = """\b
Exit codes:
  0  done
  1  an error inside channelpay
  2  wrong usage: a command line, amount, address, home or configuration
  3  the daemon or the ledger is not reachable
  4  refused by the daemon or by the ledger; nothing was changed
  5  the peer refused, could not be reached or broke the protocol
  6  timed out or cut off: the outcome is unknown
"""


class CommandError(ChannelpayError):
    """A command ends here: its exit code, a reason for programs, a text for people."""

    def __init__(self, code: Exit, reason: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.reason = reason


class Failure(NamedTuple):
    """What is told of an error: by exit code, to programs and to people."""

    code: Exit
    reason: str
    text: str


_OF_REASON: Final = {
    Reason.USAGE: Exit.USAGE,
    Reason.PEER_REFUSED: Exit.PEER,
    Reason.PEER_UNREACHABLE: Exit.PEER,
    Reason.LEDGER_UNREACHABLE: Exit.NOT_REACHABLE,
    Reason.STOPPING: Exit.NOT_REACHABLE,
    Reason.TIMED_OUT: Exit.UNKNOWN,
    Reason.UNKNOWN_OUTCOME: Exit.UNKNOWN,
}
"""All other reasons are refusals (4)."""


def exit_of_reason(reason: str) -> Exit:
    """The exit code for an errors.Reason value, also one that a newer daemon knows and we do not."""
    return _OF_REASON.get(reason, Exit.REFUSED)  # type: ignore[call-overload, no-any-return]


def describe(error: BaseException) -> Failure | None:
    """What to tell of an error that a command ended with; None if it is nobody's but ours."""
    match error:
        case CommandError():
            return Failure(error.code, error.reason, str(error))
        case click.ClickException():
            return Failure(Exit.USAGE, "usage", error.format_message())
        case LocalError():
            return Failure(exit_of_reason(error.reason), str(error.reason), str(error))
        case HomeError() | AmountError() | AddressError() | KeyRefused():
            return Failure(Exit.USAGE, "usage", str(error))
        case RemoteError():
            return Failure(Exit.PEER, error.code.name.lower().replace("_", "-"), str(error))
        case LedgerRefused():
            return Failure(Exit.REFUSED, error.outcome.label, str(error))
        case StoreFailed():
            return Failure(Exit.INTERNAL, "store-failed", str(error))
    return None
