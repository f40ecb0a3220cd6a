"""How a command reaches a ledger: where it listens, whose key signs, one connection for one command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import click

from channelpay.cli.app import Shared
from channelpay.cli.exits import CommandError, Exit
from channelpay.cli.inputs import AddressText
from channelpay.crypto import SigningKey
from channelpay.errors import RemoteError
from channelpay.home import LedgerConfig
from channelpay.home.load import load_any
from channelpay.keys import LEDGER_PREFIX, Address
from channelpay.messages import ledger as wire
from channelpay.messages.ledger import Operation
from channelpay.messages.schema import Record

T = TypeVar("T")
R = TypeVar("R", bound=Record)

_RETRY_S: Final = 0.1

ledger_option = click.option(
    "--ledger",
    type=AddressText(LEDGER_PREFIX),
    metavar="cpl1...@HOST:PORT",
    help="Another ledger, or another place, than this home's.",
)


@dataclass(frozen=True, slots=True)
class Access:
    """The ledger of a home, and the account key that signs; `operator`: this is the ledger's own home."""

    address: Address | None
    account: SigningKey
    operator: bool

    def must_be_operator(self, what: str) -> None:
        """Return on the ledger's home; raises click.UsageError elsewhere."""
        if not self.operator:
            raise click.UsageError(f"{what} works on the home of the ledger itself (--home)")


def access(options: Shared, ledger: Address | None = None) -> Access:
    """Which ledger to ask, and as whom; `ledger` stands above the configuration."""
    config = load_any(options.home).config
    keys = options.home.keyring()
    if isinstance(config, LedgerConfig):
        place = config.reachable_at
        own = Address(LEDGER_PREFIX, keys.identity.public, place.host, place.port) if place else None
        return Access(ledger or own, keys.account, True)
    return Access(ledger or config.ledger.address, keys.account, False)


class Ask(Protocol):
    """What a conversation asks with: an operation, and the kind of record that answers it."""

    async def __call__(self, operation: Operation, view: type[R]) -> R: ...


_READS: Final = (wire.Info, wire.Account, wire.Channel, wire.Channels, wire.Journal)


def converse(options: Shared, who: Access, conversation: Callable[[Ask], Awaitable[T]], changes: str = "") -> T:
    """What `conversation` gives, on one connection to the ledger of `who`; its requests are signed by the account.

    `changes` tells how to find out when the answer to a change is lost. Raises LedgerRefused, and
    CommandError: NOT_REACHABLE, UNKNOWN, or PEER when it breaks the protocol or is another one.
    """
    if who.address is None:
        raise click.UsageError(f"{options.home.config_file} names no ledger to connect to: give --ledger")
    talk = _Talk(who.address, who.account, options, changes)
    import trio  # an event loop only for those commands that need one

    try:
        with _warnings_to_stderr():
            return trio.run(talk.run, conversation)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _warnings_to_stderr() -> Iterator[None]:
    """Connections write a log; stdout belongs to the command's result."""
    import structlog

    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


class _Talk:
    """One command's connection: tries to connect for a while, asks, and knows whether a change is under way."""

    def __init__(self, address: Address, key: SigningKey, options: Shared, changes: str) -> None:
        self._address = address
        self._key = key
        self._options = options
        self._changes = changes
        self._connected = False
        self._changing = False

    async def run(self, conversation: Callable[[Ask], Awaitable[T]]) -> T:
        import trio

        from channelpay.daemon.secure import LinkClosed

        give_up = trio.current_time() + self._options.wait_s
        timeout_s = self._options.timeout_s
        try:
            with trio.fail_after(float("inf") if timeout_s is None else self._options.wait_s + timeout_s):
                while True:
                    try:
                        return await self._once(conversation)
                    except LinkClosed as error:
                        if self._connected or trio.current_time() >= give_up:
                            raise self._lost(error) from error
                    await trio.sleep(_RETRY_S)
        except RemoteError as error:
            reason = error.code.name.lower().replace("_", "-")
            raise CommandError(Exit.PEER, reason, f"{self._address} does not behave as this ledger: {error}") from None
        except trio.TooSlowError:
            raise self._late("the ledger did not answer in time") from None

    async def _once(self, conversation: Callable[[Ask], Awaitable[T]]) -> T:
        from channelpay.daemon.ledger_client import connect_ledger

        async with connect_ledger(self._address, self._key) as client:
            self._connected = True

            async def ask(operation: Operation, view: type[R]) -> R:
                self._changing = self._changing or not isinstance(operation, _READS)
                answer = await client.request(self._key, operation)
                assert isinstance(answer, view)  # messages.ledger.VIEWS says so
                return answer

            return await conversation(ask)

    def _lost(self, error: Exception) -> CommandError:
        from channelpay.daemon.ledger_client import LedgerTimeout

        if isinstance(error, LedgerTimeout):
            return self._late(str(error))
        if self._changing:
            return self._late(f"the connection to the ledger broke before it answered ({error})")
        if self._connected:
            return CommandError(Exit.NOT_REACHABLE, "not-reachable", f"the ledger ended the connection: {error}")
        text = f"the ledger {self._address} is not reachable ({error}): is it running there? --wait gives it time"
        return CommandError(Exit.NOT_REACHABLE, "not-reachable", text)

    def _late(self, text: str) -> CommandError:
        if self._changing:
            return CommandError(Exit.UNKNOWN, "unknown-outcome", f"{text}: {self._changes}")
        return CommandError(Exit.UNKNOWN, "timed-out", text)
