"""run, demo: the flags that reach the daemon, and what is refused before it starts. Spec N-3, N-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from channelpay.cli.root import cli
from channelpay.home import Home, NodeConfig
from channelpay.keys import LEDGER_PREFIX, encode_id
from channelpay.services.demo.main import Options
from cli_shell import OTHER, Shell

LEDGER = encode_id(LEDGER_PREFIX, OTHER.identity.public) + "@127.0.0.1:7669"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Home, NodeConfig, bool]]:
    """What the daemon was started with; it ends at once."""
    calls: list[tuple[Home, NodeConfig, bool]] = []

    def run_node(home: Home, config: NodeConfig, restored: bool) -> int:
        calls.append((home, config, restored))
        return 0

    monkeypatch.setattr("channelpay.daemon.main.run_node", run_node)
    return calls


def test_flags_lie_over_the_configuration(offline: Shell, started: list[Any]) -> None:
    result = offline.run(
        "run", "--ledger", LEDGER, "--listen", "127.0.0.1:0", "--auto-accept", "--log-level", "debug",
        "--log-format", "json", "--set", "policy.max_channels=3",
    )  # fmt: skip
    assert (result.exit_code, result.output) == (0, "")
    [(home, config, restored)] = started
    assert restored is False
    assert home.path == offline.home.path
    assert str(config.ledger.address) == LEDGER
    assert [str(place) for place in config.node.listen] == ["127.0.0.1:0"]
    assert (config.policy.auto_accept, config.policy.max_channels) == (True, 3)
    assert (config.log.level, config.log.format) == ("debug", "json")


def test_a_restored_store_is_named_as_such(offline: Shell, started: list[Any]) -> None:
    assert offline.run("run", "--ledger", LEDGER, "--restored").exit_code == 0
    assert started[0][2] is True


def test_the_daemons_exit_code_is_the_commands(offline: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channelpay.daemon.main.run_node", lambda home, config, restored: 1)
    assert offline.run("run", "--ledger", LEDGER).exit_code == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no ledger: set ledger.address in"),
        (["--ledger", "cpl1"], "lacks '@host:port'"),
        (["--ledger", LEDGER, "--listen", "nowhere"], "node.listen: 'nowhere' is no host:port"),
        (["--ledger", LEDGER, "--log-level", "loud"], "log.level: 'loud' is none of them"),
        (["--ledger", LEDGER, "--set", "a.b=1"], "unknown key 'a.b'"),
    ],
)
def test_wrong_flags_start_nothing(offline: Shell, started: list[Any], args: list[str], message: str) -> None:
    code, text = offline.fails("run", *args)
    assert code == 2
    assert message in text
    assert started == []


def test_a_seed_that_others_may_read_starts_nothing(offline: Shell, started: list[Any]) -> None:
    offline.home.seed_file.chmod(0o640)
    assert "has mode 0640" in offline.fails("run", "--ledger", LEDGER)[1]
    assert started == []


def test_a_ledgers_home_is_not_a_nodes(offline: Shell, started: list[Any]) -> None:
    offline.home.config_file.write_text('kind = "ledger"\n')
    assert "is the home of a ledger; this command needs the home of a node" in offline.fails("run")[1]
    assert started == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], Options()),
        (
            ["--kill", "--pieces", "9", "--in-flight", "3", "--no-progress"],
            Options(None, 9, 3, True, False, None, False),
        ),
        (["--json", "--keep", "there", "--progress"], Options(json=True, keep=Path("there"), live=True)),
        ([__file__], Options(Path(__file__))),
    ],
)
def test_demo_hands_its_options_on(monkeypatch: pytest.MonkeyPatch, args: list[str], expected: Options) -> None:
    played: list[Options] = []

    def run_demo(options: Options) -> int:
        played.append(options)
        return 1

    monkeypatch.setattr("channelpay.services.demo.main.run_demo", run_demo)
    result = CliRunner().invoke(cli, ["demo", *args])
    assert (result.exit_code, played) == (1, [expected])


@pytest.mark.parametrize("args", [["/nowhere"], ["--pieces", "0"], ["--in-flight", "x"], ["--bogus"]])
def test_demo_with_wrong_options_plays_nothing(offline: Shell, args: list[str]) -> None:
    assert offline.fails("demo", *args)[0] == 2
