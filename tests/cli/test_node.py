"""init, id, status, balance, peer list, stop: what people and programs see. Spec N-20 to N-22."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from channelpay.cli.root import cli
from channelpay.errors import Reason
from channelpay.home import Home, NodeConfig, load_config
from channelpay.keys import ACCOUNT_PREFIX, LEDGER_PREFIX, NODE_PREFIX, encode_id
from channelpay.messages import control as wire
from cli_shell import CHANNEL, EUR, KEYS, OTHER, USD, WORDS, Shell
from fakedaemon import HANG_UP, Answer, Refusal

NODE = encode_id(NODE_PREFIX, KEYS.identity.public)
ACCOUNT = encode_id(ACCOUNT_PREFIX, KEYS.account.public)
LEDGER = encode_id(LEDGER_PREFIX, OTHER.identity.public)
STATUS = wire.StatusView(
    node_id=KEYS.identity.public,
    version="0.1.0",
    home="/h",
    listen=("127.0.0.1:7668",),
    ledger_id=OTHER.identity.public,
    ledger_address=f"{LEDGER}@127.0.0.1:7669",
    ledger_connected=1,
    ledger_time=1_800_000_000,
    ledger_number=17,
    account=KEYS.account.public,
    channels_open=2,
    channels_closing=0,
    channels_settled=5,
    peers_connected=1,
    received=1234,
    memory=96 * 2**20,
    files=17,
    tasks=21,
    warnings=("the disk is nearly full",),
)


@pytest.fixture
def nowhere(short_path: Path) -> Shell:
    """A home that does not exist yet."""
    return Shell(Home(short_path / "n"), {}, [])


def test_init_makes_a_home_and_says_who_it_is(nowhere: Shell) -> None:
    result = nowhere.run("init", "--words-from", "-", stdin=WORDS)
    assert result.exit_code == 0
    assert "'channelpay backup restore' puts a backup back" in result.stdout
    assert result.stdout.splitlines()[:4] == [
        f"home     {nowhere.home.path}",
        f"node     {NODE}",
        f"address  {NODE}@127.0.0.1:7668",
        f"account  {ACCOUNT}",
    ]
    assert nowhere.home.read_words() == WORDS
    assert stat.S_IMODE(nowhere.home.seed_file.stat().st_mode) == 0o600


def test_init_writes_what_the_options_say(nowhere: Shell) -> None:
    ledger = f"{LEDGER}@ledger.example:7669"
    shown = nowhere.json(
        "init", "--ledger", ledger, "--listen", "0.0.0.0:5", "--listen", "[::]:5", "--advertise", "a.example:5",
        "--auto-accept", "--set", "policy.max_channels=3", "--words-from", "-", "--show-words", stdin=WORDS,
    )  # fmt: skip
    assert shown == {
        "home": str(nowhere.home.path),
        "node": NODE,
        "address": f"{NODE}@a.example:5",
        "account": ACCOUNT,
        "words": WORDS,
    }
    config = load_config(nowhere.home, NodeConfig).config
    assert str(config.ledger.address) == ledger
    assert [str(place) for place in config.node.listen] == ["0.0.0.0:5", "[::]:5"]
    assert (config.policy.auto_accept, config.policy.max_channels) == (True, 3)


def test_new_words_are_not_written_into_a_pipe_unless_asked_for(nowhere: Shell) -> None:
    result = nowhere.run("init")
    assert result.exit_code == 0
    words = nowhere.home.read_words().split()
    assert len(words) == 24
    assert not any(f" {word}\n" in result.stdout for word in words)
    assert f"The 24 words in {nowhere.home.seed_file} are all your keys" in result.stdout


def test_show_words_shows_them_numbered(nowhere: Shell) -> None:
    result = nowhere.run("init", "--show-words")
    words = nowhere.home.read_words().split()
    assert [part for line in result.stdout.splitlines()[-4:] for part in line.split()] == [
        part for number, word in enumerate(words, 1) for part in (f"{number}.", word)
    ]


def test_two_homes_have_different_words(short_path: Path) -> None:
    homes = [Home(short_path / name) for name in "ab"]
    for home in homes:
        assert CliRunner().invoke(cli, ["init", "--home", str(home.path)]).exit_code == 0
    assert homes[0].read_words() != homes[1].read_words()


@pytest.mark.parametrize(
    ("args", "stdin", "message"),
    [
        (["--words-from", "-"], WORDS.replace("liar", "zoo"), "these are not 24 valid BIP-39 seed words"),
        (["--words-from", "-"], "", "these are not 24 valid BIP-39 seed words"),
        (["--words-from", "/nowhere"], None, "No such file"),
        (["--ledger", "cpl1xyz@a:1"], None, "is no ledger id"),
        (["--ledger", NODE + "@a:1"], None, "is no ledger id: it must begin with cpl1"),
        (["--ledger", LEDGER], None, "lacks '@host:port'"),
        (["--listen", "a"], None, "node.listen: 'a' is no host:port"),
        (["--advertise", "a:0"], None, "node.advertise: 'a:0': nobody can connect to port 0"),
        (["--set", "policy.auto_accept"], None, "write KEY=VALUE"),
        (["--set", "policy.x=1"], None, "unknown key 'policy.x'"),
        (["surplus"], None, "unexpected extra argument"),
    ],
)
def test_init_with_wrong_input_makes_nothing(nowhere: Shell, args: list[str], stdin: str | None, message: str) -> None:
    code, text = nowhere.fails("init", *args, stdin=stdin)
    assert code == 2
    assert message in text
    assert not nowhere.home.path.exists()


def test_init_overwrites_nothing(offline: Shell) -> None:
    code, text = offline.fails("init")
    assert code == 2
    assert "seed exists already and is never overwritten" in text


def test_id_needs_no_daemon(offline: Shell) -> None:
    assert offline.run("id", "--account").stdout == ACCOUNT + "\n"
    assert offline.run("id", "--address").stdout == f"{NODE}@127.0.0.1:7668\n"
    assert offline.json("id")["node"] == NODE


def test_id_with_a_port_that_only_the_daemon_knows(nowhere: Shell) -> None:
    nowhere.run("init", "--listen", "127.0.0.1:0")
    assert nowhere.json("id")["address"] is None
    assert "known to the running daemon alone" in nowhere.run("id").stdout
    code, text = nowhere.fails("id", "--address")
    assert code == 2
    assert "set node.advertise" in text


def test_id_refuses_a_seed_that_others_may_read(offline: Shell) -> None:
    offline.home.seed_file.chmod(0o644)
    code, text = offline.fails("id")
    assert code == 2
    assert "has mode 0644" in text


def test_status_for_people(shell: Shell) -> None:
    shell.answers["status"] = lambda _: STATUS
    assert shell.run("status").stdout.splitlines() == [
        f"node       {NODE} (version 0.1.0)",
        "home       /h",
        "listening  127.0.0.1:7668",
        f"account    {ACCOUNT}",
        f"ledger     {LEDGER}@127.0.0.1:7669, connected, 2027-01-15 08:00:00 UTC, journal 17",
        "channels   2 open, 0 closing, 5 settled",
        "peers      1 connected",
        "received   1234 payments",
        "uses       96.0 MiB, 17 open files, 21 tasks",
        "warning    the disk is nearly full",
    ]


def test_status_for_programs(shell: Shell) -> None:
    shell.answers["status"] = lambda _: STATUS
    assert shell.json("status") == {
        "node": NODE,
        "version": "0.1.0",
        "home": "/h",
        "listen": ["127.0.0.1:7668"],
        "account": ACCOUNT,
        "ledger": {
            "id": LEDGER,
            "address": f"{LEDGER}@127.0.0.1:7669",
            "connected": True,
            "time": 1_800_000_000,
            "number": 17,
        },
        "channels": {"open": 2, "closing": 0, "settled": 5},
        "peers_connected": 1,
        "received": 1234,
        "usage": {"memory": 96 * 2**20, "files": 17, "tasks": 21},
        "warnings": ["the disk is nearly full"],
    }


def test_what_a_daemon_says_cannot_steer_the_terminal(shell: Shell) -> None:
    shell.answers["status"] = lambda _: replace(STATUS, warnings=("\x1b[2J[red]\u202e",))
    assert "warning    \\x1b[2J[red]\\u202e\n" in shell.run("status").stdout


def test_balance(shell: Shell) -> None:
    shell.answers["balance"] = lambda _: wire.BalanceView(
        (wire.AssetBalance(USD.asset_id, 5_000_000, 1), wire.AssetBalance(EUR.asset_id, 0, 250)), (USD, EUR)
    )
    assert shell.run("balance").stdout.splitlines() == [
        "     ACCOUNT      CHANNELS",
        "5.000000 USD  0.000001 USD",
        "    0.00 EUR      2.50 EUR",
    ]
    assert shell.json("balance") == {
        "balances": [
            {
                "asset": "USD",
                "account": {"units": "5000000", "text": "5.000000 USD"},
                "channels": {"units": "1", "text": "0.000001 USD"},
            },
            {
                "asset": "EUR",
                "account": {"units": "0", "text": "0.00 EUR"},
                "channels": {"units": "250", "text": "2.50 EUR"},
            },
        ]
    }


def test_balance_of_an_empty_account_and_of_an_unknown_asset(shell: Shell) -> None:
    shell.answers["balance"] = lambda _: wire.BalanceView((), ())
    assert shell.run("balance").stdout.startswith("no money yet")
    shell.answers["balance"] = lambda _: wire.BalanceView((wire.AssetBalance(USD.asset_id, 7, 0),), ())
    assert shell.json("balance")["balances"][0]["account"] == {
        "units": "7",
        "text": f"7 units of {USD.asset_id.hex()}",
    }


def test_status_before_the_ledger_was_heard_of(shell: Shell) -> None:
    shell.answers["status"] = lambda _: replace(STATUS, ledger_connected=0, ledger_time=0)
    assert ", not connected, not heard of yet\n" in shell.run("status").stdout


def test_peer_list(shell: Shell) -> None:
    other = encode_id(NODE_PREFIX, OTHER.identity.public)
    shell.answers["peers"] = lambda _: wire.PeerList(
        (
            wire.PeerInfo(OTHER.identity.public, "a.example:7668", 1, 1_800_000_000, 2, 3000, 4000),
            wire.PeerInfo(OTHER.identity.public, "", 0, 0, 1, 0, 0),
            wire.PeerInfo(OTHER.identity.public, "", 1, 0, 1, 0, 0),
        )
    )
    lines = shell.run("peer", "list").stdout.splitlines()
    assert lines[1].split() == [
        other, "a.example:7668", "2027-01-15", "08:00:00", "UTC", "2", "3000", "B", "4000", "B"
    ]  # fmt: skip
    assert lines[2].split() == [other, "-", "no", "1", "0", "B", "0", "B"]
    assert lines[3].split() == [other, "-", "yes", "1", "0", "B", "0", "B"]
    assert shell.json("peer", "list")["peers"][1] == {
        "node": other,
        "address": None,
        "connected": False,
        "connected_since": None,
        "channels": 1,
        "sent_bytes": 0,
        "received_bytes": 0,
    }


def test_peer_connect(shell: Shell) -> None:
    shell.answers["connect"] = lambda _: wire.Empty()
    address = f"{encode_id(NODE_PREFIX, OTHER.identity.public)}@a.example:7668"
    assert shell.run("peer", "connect", address).stdout == f"connected to {address}\n"
    assert shell.json("peer", "connect", address) == {"peer": address}
    assert shell.calls[-1] == wire.ConnectPeer(address)
    assert shell.fails("peer", "connect", "somewhere")[0] == 2


def test_stop(shell: Shell) -> None:
    shell.answers["stop"] = lambda _: HANG_UP
    assert shell.run("stop").stdout == "stopped\n"
    assert shell.json("stop") == {"stopped": True}


ONLINE = [
    ["status"], ["balance"], ["peer", "list"], ["peer", "connect", f"{NODE}@a:1"], ["stop"],
    ["channel", "list"], ["channel", "show", "3f"],
    ["channel", "claim", "3f"], ["channel", "close", "3f"], ["channel", "topup", "3f", "1 USD"],
    ["channel", "withdraw", "3f", "1 USD"], ["channel", "open", f"{NODE}@a:1", "1 USD"],
    ["pay", "3f", "1 USD"], ["payments"], ["payment", "11" * 16],
]  # fmt: skip


@pytest.mark.parametrize("args", ONLINE, ids=" ".join)
def test_without_a_daemon_every_command_says_so(offline: Shell, args: list[str]) -> None:
    code, text = offline.fails(*args)
    assert code == 3
    assert "start it with 'channelpay run'" in text
    assert offline.json(*args, code=3)["error"]["reason"] == "not-reachable"


@pytest.mark.parametrize("args", ONLINE, ids=" ".join)
def test_without_a_home_every_command_says_so(nowhere: Shell, args: list[str]) -> None:
    code, text = nowhere.fails(*args)
    assert code == 2
    assert "is no channelpay home" in text


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.STALLED, 4),
        (Reason.LEDGER_UNREACHABLE, 3),
        (Reason.PEER_REFUSED, 5),
        (Reason.TIMED_OUT, 6),
        (Reason.USAGE, 2),
    ],
)
def test_refusals_are_one_line_or_one_object(shell: Shell, reason: Reason, code: int) -> None:
    def refuse(_: Any) -> Answer:
        raise Refusal(reason, "because\nof \x1b[31mthis")

    shell.answers["status"] = refuse
    assert shell.fails("status") == (code, "because\\nof \\x1b[31mthis")
    assert shell.json("status", code=code) == {
        "error": {"code": code, "reason": str(reason), "message": "because\nof \x1b[31mthis"}
    }


def test_a_timeout_is_unknown(shell: Shell) -> None:
    shell.answers["status"] = lambda _: "silence"
    assert shell.fails("status", "--timeout", "0.05") == (6, "the daemon did not answer in time")


def test_common_options_stand_before_or_after_the_command(offline: Shell, short_path: Path) -> None:
    before = CliRunner().invoke(cli, ["--json", "--home", str(offline.home.path), "id"])
    after = CliRunner().invoke(cli, ["id", "--home", str(offline.home.path), "--json"])
    environment = CliRunner(env={"CHANNELPAY_HOME": str(offline.home.path)}).invoke(cli, ["id", "--json"])
    assert before.stdout == after.stdout == environment.stdout != ""


def test_the_channel_of_the_tests_is_sound() -> None:
    # what all these tests build on must itself pass the checks of the wire
    assert wire.ChannelInfo.decode(CHANNEL.encode()) == CHANNEL
