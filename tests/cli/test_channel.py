"""channel open, list, show, topup, withdraw, claim, close. Spec N-20 to N-22."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from channelpay.errors import Reason
from channelpay.keys import NODE_PREFIX, encode_id
from channelpay.messages import control as wire
from cli_shell import CHANNEL, EUR, OTHER, USD, Shell, one
from fakedaemon import HANG_UP, Answer, Refusal

ID = CHANNEL.channel_id.hex()
PEER = encode_id(NODE_PREFIX, OTHER.identity.public)
ADDRESS = f"{PEER}@seller.example:7668"


@pytest.fixture
def node(shell: Shell) -> Shell:
    """A daemon that knows two assets and one channel, and does all that it is asked."""
    shell.answers |= {
        "assets": lambda _: wire.AssetList((USD, EUR)),
        "channel": lambda _: one(),
        "channels": lambda _: wire.ChannelList((CHANNEL,), 0, (USD, EUR)),
        **dict.fromkeys(["open", "topup", "withdraw", "claim", "close"], lambda _: one()),
    }
    return shell


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["10 USD"], wire.OpenChannel(ADDRESS, USD.asset_id, 10_000_000, 0, 0, 0)),
        (["10", "USD"], wire.OpenChannel(ADDRESS, USD.asset_id, 10_000_000, 0, 0, 0)),
        (["0.01 EUR", "--one-way"], wire.OpenChannel(ADDRESS, EUR.asset_id, 1, 1, 0, 0)),
        (["1 USD", "--window", "24h"], wire.OpenChannel(ADDRESS, USD.asset_id, 1_000_000, 0, 86_400, 0)),
        (["1 USD", "--window", "90"], wire.OpenChannel(ADDRESS, USD.asset_id, 1_000_000, 0, 90, 0)),
        (
            ["1 USD", "--window", "2m", "--max-batch", "1"],
            wire.OpenChannel(ADDRESS, USD.asset_id, 1_000_000, 0, 120, 1),
        ),
    ],
)
def test_open_asks_for_what_was_typed(node: Shell, args: list[str], expected: wire.OpenChannel) -> None:
    result = node.run("channel", "open", ADDRESS, *args)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"opened {ID}\n")
    assert node.calls == [wire.ListAssets(), expected]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([ADDRESS, "10"], "'10' is no amount: write a number, one space and an asset"),
        ([ADDRESS, "10USD"], "is no amount"),
        ([ADDRESS, "10", "usd"], "'usd' is no asset code"),
        ([ADDRESS, "10 GBP"], "'10 GBP': the ledger has no asset GBP; it has: EUR, USD"),
        ([ADDRESS, "0.001 EUR"], "'0.001' has 3 decimals; EUR has 2: its smallest unit is 0.01 EUR"),
        ([ADDRESS, "1e3 USD"], "'1e3' is no plain decimal number"),
        ([ADDRESS, "1,5 USD"], "'1,5' is no plain decimal number"),
        ([ADDRESS, "\u0661 USD"], "is no plain decimal number"),
        ([ADDRESS, "-10 USD"], "'-10 USD' has a sign; amounts are written without one"),
        ([ADDRESS, "-10", "USD"], "'-10' has a sign; amounts are written without one"),
        ([ADDRESS, "+10", "USD"], "'+10' has a sign; amounts are written without one"),
        ([ADDRESS, "9223372036854.775808 USD"], "is more than 2^63-1 units"),
        ([ADDRESS], "Missing argument 'AMOUNT ASSET'"),
        ([PEER, "1 USD"], "lacks '@host:port' after the id"),
        ([ADDRESS.replace("seller", "sel ler"), "1 USD"], "host:port"),
        ([ADDRESS.replace("cp1", "cp1q"), "1 USD"], "is no node id"),
        ([ADDRESS, "1 USD", "--window", "5s"], "'5s' is 5 s; a window has 10 .. 2592000 s"),
        ([ADDRESS, "1 USD", "--window", "1w"], "'1w' is no duration: write seconds, or a number with s, m, h or d"),
        ([ADDRESS, "1 USD", "--window", "-9"], "is no duration"),
        ([ADDRESS, "1 USD", "--max-batch", "0"], "0 is not in the range 1<=x<=4096"),
        ([ADDRESS, "1 USD", "--max-batch", "4097"], "4097 is not in the range 1<=x<=4096"),
    ],
)
def test_open_with_wrong_input_opens_nothing(node: Shell, args: list[str], message: str) -> None:
    code, text = node.fails("channel", "open", *args)
    assert code == 2
    assert message in text
    assert [call for call in node.calls if not isinstance(call, wire.ListAssets)] == []


def test_an_unknown_asset_on_a_ledger_without_assets(node: Shell) -> None:
    node.answers["assets"] = lambda _: wire.AssetList(())
    assert "it has: none yet" in node.fails("channel", "open", ADDRESS, "1 USD")[1]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["topup", "3F2A", "2", "USD"], wire.TopupChannel(CHANNEL.channel_id, 2_000_000)),
        (["withdraw", ID, "0.5 USD"], wire.WithdrawChannel(CHANNEL.channel_id, 500_000)),
        (["claim", "3f2a"], wire.ClaimChannel(CHANNEL.channel_id)),
        (["close", "3f2a"], wire.CloseChannel(CHANNEL.channel_id, 0, 1)),
        (["close", "3f2a", "--force"], wire.CloseChannel(CHANNEL.channel_id, 1, 1)),
        (["close", "3f2a", "--no-wait"], wire.CloseChannel(CHANNEL.channel_id, 0, 0)),
    ],
)
def test_a_channel_is_found_by_its_prefix_and_then_asked_for(node: Shell, args: list[str], expected: Any) -> None:
    assert node.run("channel", *args).exit_code == 0
    assert node.calls == [wire.ShowChannel(args[1].lower()), expected]


@pytest.mark.parametrize("command", ["topup", "withdraw"])
@pytest.mark.parametrize(
    ("amount", "message"),
    [("1 EUR", "needs USD"), ("0.0000001 USD", "has 7 decimals; USD has 6"), ("-1 USD", "has a sign")],
)
def test_amounts_of_another_asset_or_shape_move_nothing(node: Shell, command: str, amount: str, message: str) -> None:
    code, text = node.fails("channel", command, "3f2a", amount)
    assert code == 2
    assert message in text
    assert not [call for call in node.calls if not isinstance(call, wire.ShowChannel)]


@pytest.mark.parametrize("prefix", ["xyz", "3f 2a", "3" * 65, "", "0x3f"])
def test_what_cannot_begin_a_channel_id_is_refused(node: Shell, prefix: str) -> None:
    code, text = node.fails("channel", "show", prefix)
    assert code == 2
    assert "is no channel: write the first hexadecimal digits" in text
    assert node.calls == []


@pytest.mark.parametrize("reason", [Reason.UNKNOWN_CHANNEL, Reason.AMBIGUOUS_CHANNEL])
def test_a_prefix_of_no_or_of_two_channels_is_refused_by_the_daemon(node: Shell, reason: Reason) -> None:
    def refuse(_: Any) -> Answer:
        raise Refusal(reason, "no such thing")

    node.answers["channel"] = refuse
    assert node.fails("channel", "close", "3f") == (4, "no such thing")


@pytest.mark.parametrize(
    "args",
    [
        ["open", ADDRESS, "1 USD"],
        ["topup", "3f", "1 USD"],
        ["withdraw", "3f", "1 USD"],
        ["claim", "3f"],
        ["close", "3f"],
    ],
)
def test_a_daemon_that_dies_leaves_the_outcome_unknown(node: Shell, args: list[str]) -> None:
    node.answers[args[0]] = lambda _: HANG_UP
    code, text = node.fails("channel", *args)
    assert code == 6
    assert "'channelpay channel list' tells what happened" in text
    assert node.json("channel", *args, code=6)["error"]["reason"] == "unknown-outcome"


def test_show_for_people(node: Shell) -> None:
    assert node.run("channel", "show", "3f").stdout.splitlines() == [
        f"channel    {ID}",
        f"peer       {PEER} (connected)",
        "phase      open",
        "terms      two way, window 3600 s, 64 payments under one signature",
        "balance    1.000200 USD own, 9.999800 USD peer",
        "deposit    2.000000 USD own, 10.000000 USD peer",
        "withdrawn  1.000000 USD own, 0.000000 USD peer",
        "paid       0.000300 USD in 3 payments, 2 acknowledged, 1 queued",
        "received   0.000500 USD in 5 payments",
    ]


def test_show_for_programs(node: Shell) -> None:
    def usd(units: int, text: str) -> dict[str, str]:
        return {"units": str(units), "text": f"{text} USD"}

    assert node.json("channel", "show", "3f") == {
        "channel": ID,
        "peer": PEER,
        "asset": "USD",
        "phase": "open",
        "party": 1,
        "one_way": False,
        "window_s": 3600,
        "max_batch": 64,
        "connected": True,
        "stalled": None,
        "deposit": {"own": usd(2_000_000, "2.000000"), "peer": usd(10_000_000, "10.000000")},
        "withdrawn": {"own": usd(1_000_000, "1.000000"), "peer": usd(0, "0.000000")},
        "paid": {"payments": 3, "acknowledged": 2, "total": usd(300, "0.000300")},
        "received": {"payments": 5, "total": usd(500, "0.000500")},
        "balance": {"own": usd(1_000_200, "1.000200"), "peer": usd(9_999_800, "9.999800")},
        "queued": 1,
        "deadline": None,
        "payout": None,
        "state": {"half0": "00" * 88, "half1": "01" * 88, "signature0": None, "signature1": "73" * 64},
    }


def test_own_and_peer_follow_the_party(node: Shell) -> None:
    node.answers["channel"] = lambda _: one(side=0, phase="settled", out0=7, out1=9, deadline=12, flags=1, state=None)
    shown = node.json("channel", "show", "3f")
    assert (shown["deposit"]["own"]["units"], shown["deposit"]["peer"]["units"]) == ("10000000", "2000000")
    assert (shown["payout"]["own"]["units"], shown["payout"]["peer"]["units"]) == ("7", "9")
    assert (shown["one_way"], shown["deadline"], shown["state"]) == (True, 12, None)
    lines = node.run("channel", "show", "3f").stdout.splitlines()
    assert lines[-2:] == ["deadline   12", "payout     0.000007 USD own, 0.000009 USD peer"]


def test_list_asks_page_after_page(node: Shell) -> None:
    second = replace(CHANNEL, channel_id=b"\xff" * 32, phase="closing", connected=0, stalled="waiting")
    pages = {
        None: wire.ChannelList((CHANNEL,), 1, (USD, EUR)),
        CHANNEL.channel_id: wire.ChannelList((second,), 0, (USD, EUR)),
    }
    node.answers["channels"] = lambda method: pages[method.after]
    lines = node.run("channel", "list", "--all").stdout.splitlines()
    assert lines[0].split() == ["CHANNEL", "PEER", "PHASE", "BALANCE", "PEER", "BALANCE", "PAID", "RECEIVED", "NOTE"]
    assert lines[1].split() == [
        ID[:12], PEER[:12] + "…", "open", "1.000200", "USD", "9.999800", "USD", "3", "5"
    ]  # fmt: skip
    assert lines[2].split()[-1] == "waiting"
    assert node.calls == [wire.ListChannels(None, 1), wire.ListChannels(CHANNEL.channel_id, 1)]
    assert [row["channel"] for row in node.json("channel", "list")["channels"]] == [ID, "ff" * 32]
    assert node.calls[-1].settled == 0


def test_list_of_nothing_and_of_a_lost_peer(node: Shell) -> None:
    node.answers["channels"] = lambda _: wire.ChannelList((), 0, ())
    assert node.json("channel", "list") == {"channels": []}
    assert node.run("channel", "list").stdout.startswith("CHANNEL")
    node.answers["channels"] = lambda _: wire.ChannelList((replace(CHANNEL, connected=0),), 0, (USD,))
    assert node.run("channel", "list").stdout.splitlines()[1].endswith("not connected")
