"""Commands about channels: open, list, show, topup, withdraw, claim, close."""

from __future__ import annotations

from collections.abc import Iterator

import click

from channelpay.amounts import parse_amount
from channelpay.cli.app import AmountCommand, connected, shared
from channelpay.cli.control import Control
from channelpay.cli.daemon import connect, find_channel
from channelpay.cli.exits import CommandError, Exit
from channelpay.cli.inputs import AddressText, ChannelPrefix, Duration, amount_text, assets_of, typed_amount
from channelpay.cli.show import print_json, print_pairs, print_table
from channelpay.cli.views import SHORT_ID, Assets, channel_json, channel_pairs
from channelpay.keys import NODE_PREFIX, Address
from channelpay.limits import MAX_BATCH
from channelpay.messages import control as wire
from channelpay.statements import FLAG_ONE_WAY, FLAG_TWO_WAY

_LOOK: str = "'channelpay channel list' tells what happened"


@click.group()
def channel() -> None:
    """Open, look at and close channels. A channel is named by the first digits of its id."""


@channel.command("open", cls=AmountCommand)
@click.argument("peer", type=AddressText(NODE_PREFIX), metavar="cp1...@HOST:PORT")
@click.argument("amount", nargs=-1, required=True, metavar="AMOUNT ASSET")
@click.option("--one-way", is_flag=True, help="Only this node pays; the peer may close and claim without a window.")
@click.option("--window", type=Duration(), default=None, metavar="TIME", help="Dispute window: 24h, 90m or seconds.")
@click.option("--max-batch", type=click.IntRange(1, MAX_BATCH), metavar="N", help="Payments under one signature.")
@connected
def open_channel(
    peer: Address, amount: tuple[str, ...], one_way: bool, window: int | None, max_batch: int | None
) -> None:
    """Open a channel to a node with a deposit such as "10 USD", and wait until both may pay."""
    text = amount_text(amount)
    with connect(shared()) as control:
        assets = assets_of(control.call(wire.ListAssets(), wire.AssetList).assets)
        units, asset = typed_amount(text, assets)
        method = wire.OpenChannel(
            str(peer),
            asset.asset_id,
            units,
            FLAG_ONE_WAY if one_way else FLAG_TWO_WAY,
            window or 0,  # 0: the daemon's own configuration
            max_batch or 0,
        )
        _tell("opened", control.call(method, wire.ChannelOne, changes=_LOOK))


@channel.command("list")
@click.option("--all", "settled", is_flag=True, help="Settled channels too.")
@connected
def list_channels(settled: bool) -> None:
    """Channels of this node."""
    with connect(shared()) as control:
        listed = list(all_channels(control, settled))
    shown = [channel_json(info, assets) for info, assets in listed]
    if shared().json:
        print_json({"channels": shown})
        return
    print_table(
        ["CHANNEL", "PEER", "PHASE", "BALANCE", "PEER BALANCE", "PAID", "RECEIVED", "NOTE"],
        [
            (
                row["channel"][:SHORT_ID],
                row["peer"][:SHORT_ID] + "…" if row["peer"] else "unknown",
                row["phase"],
                row["balance"]["own"]["text"],
                row["balance"]["peer"]["text"],
                str(row["paid"]["payments"]),
                str(row["received"]["payments"]),
                row["stalled"] or ("" if row["connected"] or row["phase"] != "open" else "not connected"),
            )
            for row in shown
        ],
        right=["BALANCE", "PEER BALANCE", "PAID", "RECEIVED"],
    )


def all_channels(control: Control, settled: bool) -> Iterator[tuple[wire.ChannelInfo, Assets]]:
    """Every channel with the assets to write its amounts, page after page."""
    after: bytes | None = None
    while True:
        page = control.call(wire.ListChannels(after, int(settled)), wire.ChannelList)
        assets = Assets(page.assets)
        for info in page.channels:
            yield info, assets
        if not page.more or not page.channels:
            return
        after = page.channels[-1].channel_id


@channel.command("show")
@click.argument("prefix", type=ChannelPrefix(), metavar="CHANNEL")
@connected
def show_channel(prefix: str) -> None:
    """Everything about one channel; --json has the newest state with its signatures."""
    with connect(shared()) as control:
        _tell("", find_channel(control, prefix))


@channel.command(cls=AmountCommand)
@click.argument("prefix", type=ChannelPrefix(), metavar="CHANNEL")
@click.argument("amount", nargs=-1, required=True, metavar="AMOUNT ASSET")
@connected
def topup(prefix: str, amount: tuple[str, ...]) -> None:
    """Add to this node's deposit from its account on the ledger."""
    _move(prefix, amount, wire.TopupChannel, "topped up")


@channel.command(cls=AmountCommand)
@click.argument("prefix", type=ChannelPrefix(), metavar="CHANNEL")
@click.argument("amount", nargs=-1, required=True, metavar="AMOUNT ASSET")
@connected
def withdraw(prefix: str, amount: tuple[str, ...]) -> None:
    """Take money out of a channel into this node's account, with the peer's consent."""
    _move(prefix, amount, wire.WithdrawChannel, "withdrawn")


def _move(
    prefix: str, amount: tuple[str, ...], method: type[wire.TopupChannel] | type[wire.WithdrawChannel], done: str
) -> None:
    text = amount_text(amount)
    with connect(shared()) as control:
        found = find_channel(control, prefix)
        units = channel_amount(text, found)
        _tell(done, control.call(method(found.channel.channel_id, units), wire.ChannelOne, changes=_LOOK))


def channel_amount(text: str, found: wire.ChannelOne) -> int:
    """Units of an amount in the asset of a channel; raises AmountError."""
    asset = Assets(found.assets).get(found.channel.asset_id)
    if asset is None:
        raise CommandError(Exit.INTERNAL, "internal", "the daemon did not tell the asset of this channel")
    return parse_amount(text, asset)


@channel.command()
@click.argument("prefix", type=ChannelPrefix(), metavar="CHANNEL")
@connected
def claim(prefix: str) -> None:
    """Take what was received on a one-way channel so far, without the peer; it stays open."""
    with connect(shared()) as control:
        found = find_channel(control, prefix)
        _tell("claimed", control.call(wire.ClaimChannel(found.channel.channel_id), wire.ChannelOne, changes=_LOOK))


@channel.command()
@click.argument("prefix", type=ChannelPrefix(), metavar="CHANNEL")
@click.option("--force", is_flag=True, help="Without the peer: the money is free after the dispute window.")
@click.option("--no-wait", is_flag=True, help="Return once closing has begun, not when it is settled.")
@connected
def close(prefix: str, force: bool, no_wait: bool) -> None:
    """Close a channel and settle it on the ledger."""
    with connect(shared()) as control:
        found = find_channel(control, prefix)
        method = wire.CloseChannel(found.channel.channel_id, int(force), int(not no_wait))
        _tell("", control.call(method, wire.ChannelOne, changes=_LOOK))


def _tell(done: str, answer: wire.ChannelOne) -> None:
    if shared().json:
        print_json(channel_json(answer.channel, Assets(answer.assets)))
        return
    if done:
        click.echo(f"{done} {answer.channel.channel_id.hex()}")
    print_pairs(channel_pairs(answer))
