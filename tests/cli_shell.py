"""What the tests of the command line share: keys, a channel, and a way to run commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from click.testing import CliRunner, Result

from channelpay.cli.root import cli
from channelpay.home import Home
from channelpay.keys import Keyring, words_from_entropy
from channelpay.messages import control as wire
from channelpay.messages.ledger import AssetView
from fakedaemon import Answer

WORDS = words_from_entropy(bytes(range(32)))
KEYS = Keyring(WORDS)
OTHER = Keyring(words_from_entropy(bytes(32)))
USD = AssetView(b"u" * 16, "USD", 6, KEYS.account.public)
EUR = AssetView(b"e" * 16, "EUR", 2, KEYS.account.public)
CHANNEL = wire.ChannelInfo(
    channel_id=bytes.fromhex("3f2a" + "11" * 30),
    peer_id=OTHER.identity.public,
    asset_id=USD.asset_id,
    side=1,
    phase="open",
    flags=0,
    window_s=3600,
    max_batch=64,
    deposit0=10_000_000,
    deposit1=2_000_000,
    withdrawn0=0,
    withdrawn1=1_000_000,
    own_n=3,
    own_total=300,
    own_acked_n=2,
    peer_n=5,
    peer_total=500,
    balance=1_000_200,
    peer_balance=9_999_800,
    queued=1,
    connected=1,
    stalled="",
    deadline=0,
    out0=0,
    out1=0,
    state=wire.CoSignedState(bytes(88), b"\1" * 88, None, b"s" * 64),
)


def one(**changes: Any) -> wire.ChannelOne:
    """CHANNEL with some fields changed, as the daemon shows it."""
    return wire.ChannelOne(replace(CHANNEL, **changes), (USD, EUR))


@dataclass
class Shell:
    """Runs commands on one home, beside a daemon that answers from `answers`."""

    home: Home
    answers: dict[str, Callable[[Any], Answer]]
    calls: list[Any]

    def run(self, *args: str, stdin: str | None = None) -> Result:
        """The result of `channelpay --home ... args`."""
        result = CliRunner().invoke(cli, ["--home", str(self.home.path), *args], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def json(self, *args: str, code: int = 0, stdin: str | None = None) -> Any:
        """The one JSON document that `args --json` prints, with this exit code and nothing on stderr."""
        result = self.run(*args, "--json", stdin=stdin)
        assert (result.exit_code, result.stderr) == (code, "")
        return json.loads(result.stdout)

    def fails(self, *args: str, stdin: str | None = None) -> tuple[int, str]:
        """(exit code, the one line on stderr) of a command that fails and prints nothing else."""
        result = self.run(*args, stdin=stdin)
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        return result.exit_code, result.stderr.removeprefix("error: ").rstrip("\n")
