"""The ledger's commands against a real ledger on loopback: operator, issuer, account holders. Spec N-20 to N-23."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from channelpay.daemon import ledger_client
from channelpay.daemon.ledger_server import serve_ledger
from channelpay.daemon.secure import LinkClosed
from channelpay.home import Home, LedgerConfig, load_config
from channelpay.keys import ACCOUNT_PREFIX, LEDGER_PREFIX, Keyring, encode_id, words_from_entropy
from channelpay.ledger.books import Rules
from channelpay.store.ledger import LedgerStore
from channelpay.store.rows import checksum
from cli_shell import KEYS, OTHER, Shell

NOW = 1_800_000_000
LEDGER_WORDS = words_from_entropy(b"\x07" * 32)
LEDGER_KEYS = Keyring(LEDGER_WORDS)
OPERATOR = encode_id(ACCOUNT_PREFIX, LEDGER_KEYS.account.public)
HOLDER = encode_id(ACCOUNT_PREFIX, KEYS.account.public)
STRANGER = encode_id(ACCOUNT_PREFIX, OTHER.account.public)
LEDGER = encode_id(LEDGER_PREFIX, LEDGER_KEYS.identity.public)


class RunningLedger:
    """A ledger in a thread of its own, on its own event loop and with a clock that stands still."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=[self._run])
        self.port = 0

    def __enter__(self) -> RunningLedger:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._token.run_sync_soon(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._token, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        store = LedgerStore.open(self._home.ledger_db, LEDGER_KEYS.identity.public)
        rules = Rules(LEDGER_KEYS.account.public, 10, 1000, 5)
        async with trio.open_nursery() as nursery:
            places = await nursery.start(self._serve, store, rules)
            self.port = places[0][1]
            self._ready.set()
        store.close()

    async def _serve(self, store: LedgerStore, rules: Rules, *, task_status: Any) -> None:
        listen = [("127.0.0.1", 0)]
        await serve_ledger(
            store, LEDGER_KEYS.identity, rules, listen, clock=lambda: NOW, stop=self._stop, task_status=task_status
        )


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The ledger runs in this process: its log must not get between a command and its output."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def template_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A new ledger's home, to copy."""
    shell = Shell(Home(tmp_path_factory.mktemp("l") / "L"), {}, [])
    result = shell.run("ledger", "init", "--words-from", "-", "--listen", "127.0.0.1:1", stdin=LEDGER_WORDS)
    assert result.exit_code == 0
    return shell.home


@pytest.fixture
def stopped(template_home: Home, short_path: Path) -> Shell:
    """A shell on the home of a ledger that does not run."""
    shutil.copytree(template_home.path, short_path / "L")
    return Shell(Home(short_path / "L"), {}, [])


@pytest.fixture
def operator(stopped: Shell) -> Iterator[Shell]:
    """A shell on the home of a ledger that runs."""
    with RunningLedger(stopped.home) as ledger:
        text = stopped.home.config_file.read_text().replace("127.0.0.1:1", f"127.0.0.1:{ledger.port}")
        stopped.home.config_file.write_text(text)
        yield stopped


@pytest.fixture
def holder(operator: Shell, offline: Shell) -> Shell:
    """A shell on the home of a node that uses the ledger; its account has 100 USD."""
    address = operator.run("id", "--address").stdout.strip()
    offline.home.config_file.write_text(f'kind = "node"\n[ledger]\naddress = "{address}"\n')
    assert operator.run("ledger", "asset", "create", "USD").exit_code == 0
    assert operator.run("ledger", "issue", HOLDER, "100 USD").exit_code == 0
    return offline


def usd(units: int, text: str) -> dict[str, str]:
    return {"units": str(units), "text": f"{text} USD"}


def test_init_makes_a_home_with_empty_books(short_path: Path) -> None:
    shell = Shell(Home(short_path / "L"), {}, [])
    shown = shell.json(
        "ledger", "init", "--listen", "127.0.0.1:4", "--min-window", "1m", "--max-window", "7d", "--min-deposit", "9",
        "--set", "log.level=debug", "--words-from", "-", stdin=LEDGER_WORDS,
    )  # fmt: skip
    assert shown == {
        "home": str(short_path / "L"),
        "ledger": LEDGER,
        "address": f"{LEDGER}@127.0.0.1:4",
        "account": OPERATOR,
    }
    config = load_config(shell.home, LedgerConfig).config
    assert (config.ledger.min_window_s, config.ledger.max_window_s, config.ledger.min_deposit) == (60, 604_800, 9)
    assert config.log.level == "debug"
    assert shell.json("ledger", "audit")["balanced"] is True
    assert shell.json("ledger", "accounts") == {"accounts": []}
    assert shell.json("id")["ledger"] == LEDGER


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--listen", "x"], "ledger.listen: 'x' is no host:port"),
        (["--min-deposit", "0"], "ledger.min_deposit: 0 is outside"),
        (["--min-window", "2h", "--max-window", "1h"], "ledger.min_window_s: 7200 is above max_window_s = 3600"),
        (["--min-window", "1s"], "a window has 10 .. 2592000 s"),
        (["--words-from", "/nowhere"], "No such file"),
    ],
)
def test_init_with_wrong_input_makes_nothing(short_path: Path, args: list[str], message: str) -> None:
    shell = Shell(Home(short_path / "L"), {}, [])
    code, text = shell.fails("ledger", "init", *args)
    assert code == 2
    assert message in text
    assert not shell.home.path.exists()


def test_show_the_ledger(operator: Shell) -> None:
    operator.run("ledger", "asset", "create", "USD")
    shown = operator.json("ledger", "show")
    assert shown["address"] == operator.json("id")["address"]
    assert {name: shown[name] for name in shown if name not in ("address", "assets")} == {
        "ledger": LEDGER,
        "operator": OPERATOR,
        "time": NOW,
        "number": 1,
        "min_window_s": 10,
        "max_window_s": 1000,
        "min_deposit": "5",
    }
    assert operator.run("ledger", "show").stdout.splitlines()[:6] == [
        f"ledger    {LEDGER}",
        f"operator  {OPERATOR}",
        "time      2027-01-15 08:00:00 UTC, journal 1",
        "windows   10 .. 1000 s",
        "deposits  at least 5 units",
        "assets    USD",
    ]


def test_assets(operator: Shell) -> None:
    assert operator.json("ledger", "asset", "list") == {"assets": []}
    usd_asset = operator.json("ledger", "asset", "create", "USD")
    assert (usd_asset["asset"], usd_asset["scale"], usd_asset["issuer"]) == ("USD", 6, OPERATOR)
    eur_asset = operator.json("ledger", "asset", "create", "EUR", "--scale", "2", "--issuer", HOLDER)
    assert (eur_asset["scale"], eur_asset["issuer"]) == (2, HOLDER)
    assert operator.json("ledger", "asset", "list") == {"assets": [usd_asset, eur_asset]}
    lines = operator.run("ledger", "asset", "list").stdout.splitlines()
    assert lines[2].split() == ["EUR", "2", HOLDER, eur_asset["asset_id"]]
    assert operator.fails("ledger", "asset", "create", "USD") == (
        4,
        "asset-code-taken: the ledger has an asset with this code",
    )


def test_money_goes_in_around_and_out(operator: Shell, holder: Shell) -> None:
    assert operator.run("ledger", "issue", HOLDER, "0.5", "USD").stdout.splitlines() == [
        "issued 0.5 USD",
        f"account  {HOLDER}",
        "holds    100.500000 USD",
    ]
    moved = holder.json("ledger", "transfer", STRANGER, "0.5 USD")
    assert moved["holdings"] == [{"asset": "USD", "amount": usd(100_000_000, "100.000000")}]
    assert moved["account"] == HOLDER
    assert holder.json("ledger", "redeem", "40 USD")["holdings"] == [
        {"asset": "USD", "amount": usd(60_000_000, "60.000000")}
    ]
    assert holder.run("ledger", "accounts", STRANGER).stdout.splitlines() == [
        f"account  {STRANGER}",
        "holds    0.500000 USD",
    ]
    assert holder.json("ledger", "accounts", OTHER.account.public.hex())["accounts"][0]["account"] == STRANGER
    assert holder.json("ledger", "accounts")["accounts"][0]["holdings"][0]["amount"] == usd(60_000_000, "60.000000")


def test_the_operator_sees_all_accounts_and_every_line(operator: Shell, holder: Shell) -> None:
    holder.run("ledger", "transfer", STRANGER, "1 USD")
    shown = operator.json("ledger", "accounts")["accounts"]
    assert {row["account"]: row["holdings"][0]["amount"]["text"] for row in shown} == {
        HOLDER: "99.000000 USD",
        STRANGER: "1.000000 USD",
    }
    lines = operator.run("ledger", "accounts").stdout.splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == sorted([HOLDER, STRANGER])
    journal = operator.json("ledger", "journal")
    assert [line["kind"] for line in journal["lines"]] == ["asset", "issue", "issue", "transfer", "transfer"]
    assert journal["lines"][1] == {
        "number": 2,
        "entry": 2,
        "time": NOW,
        "kind": "issue",
        "holder": "account",
        "owner": HOLDER,
        "asset": "USD",
        "delta": usd(100_000_000, "100.000000"),
        "after": usd(100_000_000, "100.000000"),
        "subject": journal["lines"][1]["subject"],
    }
    assert journal["cursor"] == 5
    page = operator.json("ledger", "journal", "--after", "3", "--limit", "1")
    assert ([line["number"] for line in page["lines"]], page["cursor"]) == ([4], 4)
    assert operator.json("ledger", "journal", "--after", "5") == {"lines": [], "cursor": 5}
    people = operator.run("ledger", "journal").stdout.splitlines()
    assert people[3].split()[-4:] == ["-100.000000", "USD", "-100.000000", "USD"]


def test_an_account_holder_sees_its_own_journal(operator: Shell, holder: Shell) -> None:
    holder.run("ledger", "transfer", STRANGER, "1 USD")
    shown = holder.json("ledger", "journal")
    assert [(entry["kind"], entry["credit"]["units"], entry["debit"]["units"]) for entry in shown["entries"]] == [
        ("issue", "100000000", "0"),
        ("transfer", "0", "1000000"),
    ]
    assert shown["entries"][1]["subject"] == OTHER.account.public.hex()
    assert shown["cursor"] == shown["entries"][1]["number"]
    assert holder.json("ledger", "journal", "--after", str(shown["cursor"])) == {
        "entries": [],
        "cursor": shown["cursor"],
    }
    assert len(holder.json("ledger", "journal", "--limit", "1")["entries"]) == 1
    lines = holder.run("ledger", "journal").stdout.splitlines()
    assert lines[1].split()[-4:] == ["issue", "100.000000", "USD", shown["entries"][0]["subject"][:12]]
    assert lines[2].split()[-3:] == ["1.000000", "USD", OTHER.account.public.hex()[:12]]


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        (["asset", "create", "EUR"], 4, "not-operator"),
        (["issue", HOLDER, "1 USD"], 4, "not-issuer"),
        (["transfer", STRANGER, "100.000001 USD"], 4, "insufficient-funds"),
        (["redeem", "101 USD"], 4, "insufficient-funds"),
        (["show", "ab" * 32], 4, "unknown-channel"),
        (["show", "ab"], 4, "unknown-channel"),
        (["redeem", "1 EUR"], 2, "usage"),
        (["redeem", "0 USD"], 2, "usage"),
        (["redeem", "-1", "USD"], 2, "usage"),
        (["redeem", "0.0000001 USD"], 2, "usage"),
        (["redeem", "1"], 2, "usage"),
        (["transfer", STRANGER[:-1] + "x", "1 USD"], 2, "usage"),
        (["transfer", "00" * 32, "1 USD"], 2, "usage"),
        (["issue", HOLDER.replace("cpa1", "cp1"), "1 USD"], 2, "usage"),
        (["asset", "create", "usd"], 2, "usage"),
        (["asset", "create", "EUR", "--scale", "19"], 2, "usage"),
        (["audit"], 2, "usage"),
        (["serve"], 2, "usage"),
    ],
)
def test_what_the_ledger_or_the_command_refuses(holder: Shell, args: list[str], code: int, reason: str) -> None:
    before = holder.json("ledger", "accounts")
    assert holder.json("ledger", *args, code=code)["error"]["reason"] == reason
    assert holder.json("ledger", "accounts") == before


def test_another_ledger_than_the_one_named_is_not_believed(holder: Shell) -> None:
    address = holder.json("ledger", "show")["address"]
    other = encode_id(LEDGER_PREFIX, OTHER.identity.public) + "@" + address.partition("@")[2]
    error = holder.json("ledger", "show", "--ledger", other, code=5)["error"]
    assert error["reason"] == "wrong-identity"


def test_a_ledger_that_does_not_run(stopped: Shell) -> None:
    code, text = stopped.fails("ledger", "show")
    assert code == 3
    assert "is not reachable" in text
    assert "--wait gives it time" in text
    assert stopped.json("ledger", "asset", "create", "USD", code=3)["error"]["reason"] == "not-reachable"


def test_wait_tries_until_the_ledger_is_there(operator: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = ledger_client.connect_ledger, []

    def starting(*args: Any) -> Any:
        tries.append(args)
        if len(tries) < 3:
            raise LinkClosed("nobody listens")
        return real(*args)

    monkeypatch.setattr(ledger_client, "connect_ledger", starting)
    assert operator.fails("ledger", "show")[0] == 3
    assert operator.run("ledger", "show", "--wait", "60").exit_code == 0
    assert len(tries) == 3


def test_wait_ends(stopped: Shell) -> None:
    assert stopped.fails("ledger", "show", "--wait", "0.15")[0] == 3


@pytest.mark.parametrize("failure", [LinkClosed("it went away"), ledger_client.LedgerTimeout("no answer")])
def test_an_answer_lost_after_a_change_was_asked_for_is_unknown(
    operator: Shell, monkeypatch: pytest.MonkeyPatch, failure: LinkClosed
) -> None:
    async def lost(self: object, *_: object) -> None:
        raise failure

    monkeypatch.setattr(ledger_client.LedgerClient, "request", lost)
    code, text = operator.fails("ledger", "asset", "create", "USD")
    assert code == 6
    assert text.endswith("'channelpay ledger journal' tells whether it was done")
    assert operator.json("ledger", "asset", "create", "USD", code=6)["error"]["reason"] == "unknown-outcome"
    # a question changes nothing: it may simply be asked again
    expected = (6, "timed-out") if isinstance(failure, ledger_client.LedgerTimeout) else (3, "not-reachable")
    assert operator.json("ledger", "show", code=expected[0])["error"]["reason"] == expected[1]


def test_a_ledger_that_never_answers_is_timed_out(stopped: Shell) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"{LEDGER}@127.0.0.1:{listener.getsockname()[1]}"
        assert stopped.json("ledger", "show", "--ledger", address, "--timeout", "0.1", code=6)["error"]["reason"] == (
            "timed-out"
        )


def test_a_node_without_a_ledger_says_so(offline: Shell) -> None:
    code, text = offline.fails("ledger", "show")
    assert code == 2
    assert "names no ledger to connect to: give --ledger" in text


def test_audit_of_sound_books(operator: Shell, holder: Shell) -> None:
    assert operator.json("ledger", "audit") == {
        "balanced": True,
        "discrepancies": [],
        "assets": [
            {
                "asset": "USD",
                "issued": usd(100_000_000, "100.000000"),
                "accounts": usd(100_000_000, "100.000000"),
                "channels": usd(0, "0.000000"),
            }
        ],
        "lines": 3,
        "entries": 2,
        "channels": {"open": 0, "closing": 0, "settled": 0},
    }
    assert operator.run("ledger", "audit").stdout.splitlines()[-2:] == [
        "2 entries, 3 lines; channels: 0 open, 0 closing, 0 settled",
        "the books balance",
    ]


def test_audit_of_forged_books(operator: Shell, holder: Shell) -> None:
    forger = sqlite3.connect(operator.home.ledger_db)
    try:
        forger.create_function("checksum", 3, checksum)
        forger.execute("UPDATE balance SET units = units + 1, sum = checksum(account, asset_id, units + 1)")
        forger.commit()
    finally:
        forger.close()
    result = operator.run("ledger", "audit")
    assert result.exit_code == 1
    assert "wrong: balance" in result.stdout
    assert result.stderr == "error: the books do not balance: see the lines above\n"
    shown = operator.json("ledger", "audit", code=1)
    assert shown["balanced"] is False
    assert len(shown["discrepancies"]) == 1


def test_books_that_are_missing_are_told(stopped: Shell) -> None:
    stopped.home.ledger_db.unlink()
    code, text = stopped.fails("ledger", "audit")
    assert code == 1
    assert "does not exist" in text


def test_serve_hands_its_flags_to_the_daemon(stopped: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[LedgerConfig] = []

    def run_ledger(home: Home, config: LedgerConfig) -> int:
        calls.append(config)
        return 0

    monkeypatch.setattr("channelpay.daemon.ledger_main.run_ledger", run_ledger)
    args = ["--listen", "127.0.0.1:0", "--log-level", "error", "--log-format", "json", "--set", "ledger.min_deposit=3"]
    assert stopped.run("ledger", "serve", *args).exit_code == 0
    [config] = calls
    assert [str(place) for place in config.ledger.listen] == ["127.0.0.1:0"]
    assert (config.log.level, config.log.format, config.ledger.min_deposit) == ("error", "json", 3)


def test_serve_runs_until_sigterm_and_keeps_what_it_answered(stopped: Shell) -> None:
    command = [sys.executable, "-m", "channelpay", "--home", str(stopped.home.path), "ledger", "serve"]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", "--log-format", "json"], stderr=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stderr is not None
        up = json.loads(daemon.stderr.readline())
        address = f"{LEDGER}@{up['listening'][0]}"
        assert stopped.run("ledger", "asset", "create", "USD", "--ledger", address).exit_code == 0
        second = stopped.run("ledger", "serve", "--listen", "127.0.0.1:0")
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=60)
    assert daemon.returncode == 0
    assert second.exit_code == 1  # one process at a time
    assert [line["kind"] for line in stopped.json("ledger", "journal")["lines"]] == ["asset"]


def test_serve_without_books_fails(stopped: Shell) -> None:
    stopped.home.ledger_db.unlink()
    assert stopped.run("ledger", "serve", "--listen", "127.0.0.1:0").exit_code == 1
