"""What all commands share. Spec N-21.

--home, --passphrase-file, --json, --wait, --timeout; one line per error; quiet interruption.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from channelpay.cli.exits import Exit, Failure, describe
from channelpay.cli.passphrase import current_passphrase
from channelpay.cli.show import printable
from channelpay.home import Home

TRACEBACK_VARIABLE: Final = "CHANNELPAY_TRACEBACK"
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass
class Shared:
    """The common options of one invocation."""

    home: Home = field(init=False)
    json: bool = False
    wait_s: float = 0.0
    timeout_s: float | None = None
    passphrase_file: Path | None = None

    def __post_init__(self) -> None:
        self.at(None)

    def at(self, place: str | None) -> None:
        """Work on the home at `place`, or on the usual one; the passphrase of its seed is asked for when needed."""
        self.home = Home.locate(place, passphrase=lambda: current_passphrase(self.passphrase_file))


def shared() -> Shared:
    """The common options of the running command."""
    return click.get_current_context().ensure_object(Shared)


def _keep_home(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Shared).at(value)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(context.ensure_object(Shared), name, value)

    return keep


_home_option = click.option(
    "--home",
    metavar="DIRECTORY",
    expose_value=False,
    callback=_keep_home,
    help="Files of this node or ledger. Default: $CHANNELPAY_HOME, else the user's data directory.",
)
_passphrase_option = click.option(
    "--passphrase-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    expose_value=False,
    callback=_keep("passphrase_file"),
    help="Holds the passphrase of an encrypted seed. Default: $CHANNELPAY_PASSPHRASE_FILE, else you are asked.",
)
_json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_keep("json"), help="Print JSON for programs."
)
_wait_option = click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    expose_value=False,
    callback=_keep("wait_s"),
    help="Wait so long for a daemon or ledger that is starting.",
)
_timeout_option = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    expose_value=False,
    callback=_keep("timeout_s"),
    help="Give up waiting for an answer (exit code 6). Default: wait for it.",
)


def local(command: _F) -> _F:
    """Options of a command that works on files alone."""
    return _home_option(_passphrase_option(_json_option(command)))


def connected(command: _F) -> _F:
    """Options of a command that asks a daemon or a ledger."""
    return local(_wait_option(_timeout_option(command)))


class AmountCommand(click.Command):
    """A command whose arguments hold an amount: `-5 USD` is an amount with a sign, not an option."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        for before, arg in zip(["", *args], args, strict=False):
            if arg[:1] in "-+" and arg[1:2].isdigit() and not before.startswith("--"):  # no option's value
                raise click.UsageError(f"{arg!r} has a sign; amounts are written without one", context)
        return super().parse_args(context, args)


class RootGroup(click.Group):
    """The outermost group: every error becomes one line and an exit code (spec N-20)."""

    def main(self, args: Sequence[str] | None = None, *positional: Any, **extra: Any) -> NoReturn:
        """Run the command in `args` and end the process; always in click's standalone mode seen from outside."""
        arguments = list(sys.argv[1:] if args is None else args)
        command = partial(super().main, arguments, *positional, **(extra | {"standalone_mode": False}))
        sys.exit(_run(command, arguments))

    def invoke(self, ctx: click.Context) -> Any:
        """What the command returns; click would end with 1 when whoever reads our output has gone."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _PipeClosed from error


class _PipeClosed(Exception):
    """Nobody reads stdout any more."""


def _run(command: Callable[[], Any], arguments: Sequence[str]) -> int:
    """The exit code of a command, after having told of its error."""
    try:
        code = command()
        sys.stdout.flush()
        return int(code) if isinstance(code, int) else Exit.OK
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except (BrokenPipeError, _PipeClosed):
        # keep the interpreter from flushing into the closed pipe again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return Exit.USAGE
    except Exception as error:
        failure = describe(error)
        if failure is None or os.environ.get(TRACEBACK_VARIABLE):
            traceback.print_exc()
        failure = failure or Failure(
            Exit.INTERNAL, "internal", f"{type(error).__name__}: {error} (a bug: please report)"
        )
        _tell(failure, error, as_json="--json" in arguments)
        return failure.code


def _tell(failure: Failure, error: Exception, as_json: bool) -> None:
    """With --json one object on stdout, else one line on stderr."""
    if as_json:
        told = {"code": int(failure.code), "reason": failure.reason, "message": failure.text}
        click.echo(json.dumps({"error": told}))
        return
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f" (see '{error.ctx.command_path} --help')"
    click.echo(f"error: {printable(failure.text)}{hint}", err=True)
