"""What every command does alike: exit codes, errors, pipes, interruption, quick starts. Spec N-20, N-21."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import channelpay
from channelpay.cli import app, exits
from channelpay.cli.exits import CommandError, Exit, Failure, describe, exit_of_reason
from channelpay.cli.root import cli
from channelpay.errors import (
    AddressError,
    AmountError,
    ErrorCode,
    KeyRefused,
    LocalError,
    Reason,
    RemoteError,
    StoreFailed,
)
from channelpay.home import ConfigError, HomeError
from cli_shell import Shell
from fakedaemon import SILENCE


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CommandError(Exit.PEER, "x", "text"), Failure(Exit.PEER, "x", "text")),
        (click.UsageError("text"), Failure(Exit.USAGE, "usage", "text")),
        (LocalError(Reason.STALLED, "text"), Failure(Exit.REFUSED, "ledger-reading-too-old", "text")),
        (LocalError(Reason.PEER_REFUSED, "text"), Failure(Exit.PEER, "refused-by-peer", "text")),
        (HomeError("text"), Failure(Exit.USAGE, "usage", "text")),
        (ConfigError("text"), Failure(Exit.USAGE, "usage", "text")),
        (AmountError("text"), Failure(Exit.USAGE, "usage", "text")),
        (AddressError("text"), Failure(Exit.USAGE, "usage", "text")),
        (KeyRefused("text"), Failure(Exit.USAGE, "usage", "text")),
        (RemoteError(ErrorCode.BAD_AUTH, "text"), Failure(Exit.PEER, "bad-auth", "bad_auth: text")),
        (StoreFailed("disk full"), Failure(Exit.INTERNAL, "store-failed", "disk full")),
        (ZeroDivisionError("text"), None),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: Exception, expected: Failure | None) -> None:
    assert describe(error) == expected


def test_reasons_that_are_no_plain_refusals() -> None:
    assert {reason: exit_of_reason(reason) for reason in Reason if exit_of_reason(reason) is not Exit.REFUSED} == {
        Reason.USAGE: Exit.USAGE,
        Reason.LEDGER_UNREACHABLE: Exit.NOT_REACHABLE,
        Reason.STOPPING: Exit.NOT_REACHABLE,
        Reason.PEER_REFUSED: Exit.PEER,
        Reason.PEER_UNREACHABLE: Exit.PEER,
        Reason.TIMED_OUT: Exit.UNKNOWN,
        Reason.UNKNOWN_OUTCOME: Exit.UNKNOWN,
    }


def test_help_and_version() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    for code in Exit:
        if code < 100:
            assert f"\n    {int(code)}  " in result.stdout
    version = CliRunner().invoke(cli, ["--version"])
    assert (version.exit_code, version.stdout) == (0, f"channelpay {channelpay.__version__}\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["pay", "--bogus"], "--bogus"),
        (["channel", "bogus"], "No such command 'bogus'"),
        (["status", "surplus"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_one_line_with_a_hint(offline: Shell, args: list[str], message: str) -> None:
    code, text = offline.fails(*args)
    assert code == 2
    assert message in text
    assert "--help')" in text
    assert offline.json(*args, code=2)["error"]["reason"] == "usage"


@pytest.mark.parametrize("args", [[], ["channel"], ["peer"]])
def test_a_group_alone_prints_its_help_and_fails(args: list[str]) -> None:
    result = CliRunner().invoke(cli, args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")


def test_a_bug_is_told_as_one(offline: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: app.Shared) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("channelpay.cli.node.connect", broken)
    result = offline.run("status")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: ZeroDivisionError: division by zero (a bug: please report)\n")


def test_a_traceback_can_be_asked_for(offline: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(app.TRACEBACK_VARIABLE, "1")
    result = offline.run("status")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr


def test_interruption_is_quiet(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("channelpay.cli.node.connect", interrupted)
    result = shell.run("status")
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (130, "", "")


def program(home: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "channelpay", "--home", str(home), *args]


def test_a_closed_pipe_is_quiet(offline: Shell) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(program(offline.home.path, "config", "show"), stdout=closed, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")


def test_sigint_while_waiting_is_quiet(shell: Shell) -> None:
    import signal

    asked: list[int] = []
    running: list[subprocess.Popen[bytes]] = []

    def interrupt(_: object) -> str:
        asked.append(1)
        running[0].send_signal(signal.SIGINT)
        return SILENCE

    shell.answers["status"] = interrupt
    with subprocess.Popen(
        program(shell.home.path, "status", "--wait", "60"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        running.append(child)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err.strip()) == (130, b"", b"")
    assert asked == [1]


CLIENTS = [["status"], ["balance"], ["pay", "3f", "1 USD"], ["payments"], ["channel", "list"], ["id"], ["stop"]]


@pytest.mark.parametrize("args", CLIENTS, ids=" ".join)
def test_client_commands_load_neither_the_event_loop_nor_the_daemon(offline: Shell, args: list[str]) -> None:
    script = (
        "import json, sys\n"
        "from channelpay.cli.root import cli\n"
        "try: cli(json.loads(sys.argv[1]))\n"
        "except SystemExit: pass\n"
        "names = ('trio', 'asyncio', 'ssl', 'apsw', 'structlog', 'channelpay.daemon', 'channelpay.store')\n"
        "print([name for name in names if name in sys.modules], file=sys.stderr)\n"
    )
    arguments = json.dumps(["--home", str(offline.home.path), *args])
    done = subprocess.run([sys.executable, "-c", script, arguments], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_output_to_a_pipe_has_no_colours_and_is_not_folded(offline: Shell) -> None:
    long = offline.home.path
    done = subprocess.run(
        program(long, "config", "show", "--set", "policy.assets=" + json.dumps([f"A{n}" for n in range(200)])),
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "20", "FORCE_COLOR": ""},
        check=True,
    )
    assert "\x1b" not in done.stdout
    assert "A0, A1, A2" in done.stdout
    assert len(done.stdout.splitlines()) == 1 + len(
        json.loads(offline.run("config", "show", "--json").stdout)["values"]
    )


def test_the_help_text_has_every_exit_code_of_the_specification() -> None:
    assert [line.split()[0] for line in exits.EXIT_CODES_HELP.splitlines() if line.startswith("  ")] == [
        str(int(code)) for code in Exit if code < 100
    ]
