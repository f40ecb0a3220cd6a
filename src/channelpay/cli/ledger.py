"""Commands about a ledger: for its operator on its own home, for account holders on a node's home."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

import click

from channelpay.amounts import check_code
from channelpay.cli.app import AmountCommand, connected, local, shared
from channelpay.cli.books import accounts, audit, journal
from channelpay.cli.inputs import AccountText, ChannelPrefix, Duration, amount_text, assets_of, typed_amount
from channelpay.cli.ledger_link import Ask, access, converse, ledger_option
from channelpay.cli.ledger_views import (
    account_json,
    account_pairs,
    asset_json,
    channel_json,
    channel_pairs,
    info_json,
    info_pairs,
)
from channelpay.cli.node import (
    encrypt_option,
    flags_from,
    make_home,
    set_option,
    show_words_option,
    tell_new_home,
    words_option,
)
from channelpay.cli.run import serve
from channelpay.cli.show import print_json, print_pairs, print_table
from channelpay.cli.views import Assets
from channelpay.errors import AmountError, LocalError, Reason
from channelpay.home import LedgerConfig
from channelpay.keys import Address
from channelpay.limits import MAX_ASSET_SCALE
from channelpay.messages import ledger as wire

_LOOK = "'channelpay ledger journal' tells whether it was done"


@click.group()
def ledger() -> None:
    """The settlement ledger: run one, hold assets on it, look into it.

    On the ledger's own home the operator's account signs, on a node's home the node's account.
    """


@ledger.command()
@click.option("--listen", multiple=True, metavar="HOST:PORT", help="Where to listen; may be repeated.")
@click.option("--min-window", type=Duration(), metavar="TIME", help="Shortest dispute window of a channel.")
@click.option("--max-window", type=Duration(), metavar="TIME", help="Longest dispute window of a channel.")
@click.option("--min-deposit", type=int, metavar="UNITS", help="Least first deposit of a channel.")
@set_option
@words_option
@encrypt_option
@show_words_option
@local
def init(
    listen: tuple[str, ...],
    min_window: int | None,
    max_window: int | None,
    min_deposit: int | None,
    sets: tuple[str, ...],
    words_from: TextIO | None,
    encrypt: bool,
    show_words: bool,
) -> None:
    """Make the home of a new ledger: its keys and its configuration."""
    flags = flags_from(
        sets,
        ledger__listen=listen,
        ledger__min_window_s=min_window,
        ledger__max_window_s=max_window,
        ledger__min_deposit=min_deposit,
    )
    words, new = make_home(LedgerConfig, flags, words_from, encrypt)
    from channelpay.daemon.ledger_main import create_books

    create_books(shared().home)
    tell_new_home(words, new, show_words)


@ledger.group()
def asset() -> None:
    """Assets registered at the ledger."""


@asset.command("create")
@click.argument("code")
@click.option(
    "--scale",
    type=click.IntRange(0, MAX_ASSET_SCALE),
    default=6,
    show_default=True,
    help="Decimal places of the asset.",
)
@click.option("--issuer", type=AccountText(), metavar="cpa1...", help="Who may issue it. Default: the operator.")
@ledger_option
@connected
def create_asset(code: str, scale: int, issuer: bytes | None, ledger: Address | None) -> None:
    """Register an asset such as USD. Only the ledger's operator may."""
    check_code(code)
    who = access(shared(), ledger)

    async def conversation(ask: Ask) -> wire.AssetView:
        return await ask(wire.CreateAsset(code, scale, issuer or who.account.public), wire.AssetView)

    shown = asset_json(converse(shared(), who, conversation, _LOOK))
    if shared().json:
        print_json(shown)
    else:
        print_pairs((name, str(value)) for name, value in shown.items())


@asset.command("list")
@ledger_option
@connected
def list_assets(ledger: Address | None) -> None:
    """Every asset of the ledger."""

    async def conversation(ask: Ask) -> wire.LedgerInfo:
        return await ask(wire.Info(), wire.LedgerInfo)

    shown = [asset_json(view) for view in converse(shared(), access(shared(), ledger), conversation).assets]
    if shared().json:
        print_json({"assets": shown})
        return
    rows = [(row["asset"], str(row["scale"]), row["issuer"], row["asset_id"]) for row in shown]
    print_table(["ASSET", "SCALE", "ISSUER", "ID"], rows, right=["SCALE"])


@ledger.command(cls=AmountCommand)
@click.argument("account", type=AccountText(), metavar="ACCOUNT")
@click.argument("amount", nargs=-1, required=True, metavar="AMOUNT ASSET")
@ledger_option
@connected
def issue(account: bytes, amount: tuple[str, ...], ledger: Address | None) -> None:
    """Create money on an account. Only the asset's issuer may."""
    _move(amount, ledger, lambda asset_id, units: wire.Issue(asset_id, account, units), "issued")


@ledger.command(cls=AmountCommand)
@click.argument("amount", nargs=-1, required=True, metavar="AMOUNT ASSET")
@ledger_option
@connected
def redeem(amount: tuple[str, ...], ledger: Address | None) -> None:
    """Take money of this home's account out of the ledger."""
    _move(amount, ledger, lambda asset_id, units: wire.Redeem(asset_id, units), "redeemed")


@ledger.command(cls=AmountCommand)
@click.argument("account", type=AccountText(), metavar="ACCOUNT")
@click.argument("amount", nargs=-1, required=True, metavar="AMOUNT ASSET")
@ledger_option
@connected
def transfer(account: bytes, amount: tuple[str, ...], ledger: Address | None) -> None:
    """Give money of this home's account to another account."""
    _move(amount, ledger, lambda asset_id, units: wire.Transfer(asset_id, account, units), "transferred")


def _move(
    amount: tuple[str, ...], ledger: Address | None, operation: Callable[[bytes, int], wire.Operation], done: str
) -> None:
    """Find the asset, ask for the movement, show the account that the ledger answers with."""
    text = amount_text(amount)

    async def conversation(ask: Ask) -> tuple[wire.AccountView, Assets]:
        known = (await ask(wire.Info(), wire.LedgerInfo)).assets
        units, found = typed_amount(text, assets_of(known))
        if units == 0:
            raise AmountError(f"{text!r}: at least one unit can be moved")
        return await ask(operation(found.asset_id, units), wire.AccountView), Assets(known)

    view, assets = converse(shared(), access(shared(), ledger), conversation, _LOOK)
    if shared().json:
        print_json(account_json(view, assets))
        return
    click.echo(f"{done} {text}")
    print_pairs(account_pairs(view, assets))


@ledger.command()
@click.argument("prefix", type=ChannelPrefix(), metavar="CHANNEL", required=False)
@ledger_option
@connected
def show(prefix: str | None, ledger: Address | None) -> None:
    """The ledger itself, or a channel as the ledger sees it (by its whole id; an own one by the first digits)."""
    who = access(shared(), ledger)
    if prefix is None:
        info = converse(shared(), who, _info)
        if shared().json:
            print_json(info_json(info) | {"address": str(who.address)})
        else:
            print_pairs([*info_pairs(info), ("address", str(who.address))])
        return
    wanted = prefix

    async def conversation(ask: Ask) -> tuple[wire.ChannelView, Assets]:
        assets = Assets((await _info(ask)).assets)
        if len(wanted) == 64:
            return await ask(wire.Channel(bytes.fromhex(wanted)), wire.ChannelView), assets
        return await _own_channel(ask, wanted), assets

    view, assets = converse(shared(), who, conversation)
    if shared().json:
        print_json(channel_json(view, assets))
    else:
        print_pairs(channel_pairs(view, assets))


async def _info(ask: Ask) -> wire.LedgerInfo:
    return await ask(wire.Info(), wire.LedgerInfo)


async def _own_channel(ask: Ask, prefix: str) -> wire.ChannelView:
    """The one channel of the requesting account whose id begins so; raises LocalError."""
    found: list[wire.ChannelView] = []
    after: int | None = 0
    while after is not None:
        page = await ask(wire.Channels(after), wire.ChannelPage)
        found += [view for view in page.channels if view.channel_id.hex().startswith(prefix)]
        after = page.more
    if not found:
        raise LocalError(Reason.UNKNOWN_CHANNEL, f"no channel of this account begins with {prefix}: type its whole id")
    if len(found) > 1:
        raise LocalError(Reason.AMBIGUOUS_CHANNEL, f"{len(found)} channels begin with {prefix}: type more of it")
    return found[0]


for command in (serve, accounts, journal, audit):
    ledger.add_command(command)
