"""Commands about the node itself: init, run, status, id, balance, peer, stop."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from channelpay.cli.app import Shared, connected, local, shared
from channelpay.cli.daemon import connect
from channelpay.cli.inputs import AddressText
from channelpay.cli.passphrase import new_passphrase
from channelpay.cli.show import moment, print_json, print_pairs, print_table
from channelpay.cli.views import balance_json, peer_json, status_json
from channelpay.home import LedgerConfig, NodeConfig
from channelpay.home.load import load_any, parse_flag, template
from channelpay.keys import (
    ACCOUNT_PREFIX,
    LEDGER_PREFIX,
    NODE_PREFIX,
    Address,
    Keyring,
    check_words,
    encode_id,
    words_from_entropy,
)
from channelpay.limits import MAX_SEED_FILE_BYTES
from channelpay.messages import control as wire

set_option = click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any configuration key.")


def flags_from(sets: Sequence[str], **named: Any) -> dict[str, Any]:
    """Configuration flags, key to TOML value: --set, and options that were given under `table__key`."""
    flags = dict(parse_flag(text) for text in sets)
    for name, value in named.items():
        if value is not None and value != ():
            flags[name.replace("__", ".")] = list(value) if isinstance(value, tuple) else value
    return flags


def make_home(
    kind: type[NodeConfig] | type[LedgerConfig], flags: dict[str, Any], words_from: TextIO | None, encrypt: bool
) -> tuple[str, bool]:
    """(words, whether they are new) of a home that was made."""
    options = shared()
    options.home.check_vacant()
    text = template(kind, flags)
    words = check_words(words_from.read(MAX_SEED_FILE_BYTES)) if words_from else words_from_entropy(os.urandom(32))
    passphrase = None
    if encrypt or options.passphrase_file:
        passphrase = new_passphrase(options.passphrase_file, os.environ)
    options.home.create(words, text, passphrase)
    return words, words_from is None


def fact_pairs(facts: dict[str, str | None]) -> list[tuple[str, str]]:
    """Facts for people."""
    return [(name, "known to the running daemon alone" if fact is None else fact) for name, fact in facts.items()]


def tell_new_home(words: str, new: bool, show_words: bool) -> None:
    """Print what was made; new words are shown once to a terminal, elsewhere only when asked for."""
    options = shared()
    facts = identity_facts(options, Keyring(words))
    show = show_words or (new and sys.stdout.isatty() and not options.json)
    if options.json:
        print_json({**facts, **({"words": words} if show else {})})
        return
    print_pairs(fact_pairs(facts))
    if show:
        print_words(words)
    elif new and options.home.seed_is_encrypted():
        click.echo(f"\nThe 24 words in {options.home.seed_file}, encrypted, are all your keys: keep a copy on paper")
        click.echo("('channelpay seed show' tells them), for nobody can help when the passphrase is forgotten.")
    elif new:
        click.echo(f"\nThe 24 words in {options.home.seed_file} are all your keys: keep a copy of them on paper.")


def print_words(words: str) -> None:
    """The 24 words for people, numbered."""
    click.echo("\nThe 24 words below are all your keys. Write them down and show them to nobody:\n")
    listed = words.split()
    for row in range(0, 24, 6):
        click.echo("  " + " ".join(f"{row + i + 1:2}. {listed[row + i]:<9}" for i in range(6)).rstrip())


words_option = click.option(
    "--words-from", metavar="FILE", type=click.File("r"), help="Restore from 24 words in a file; - reads stdin."
)
encrypt_option = click.option(
    "--passphrase", "encrypt", is_flag=True, help="Encrypt the seed by a passphrase; you are asked for it twice."
)
show_words_option = click.option("--show-words", is_flag=True, help="Show the words even if stdout is no terminal.")


@click.command()
@click.option("--ledger", type=AddressText(LEDGER_PREFIX), metavar="cpl1...@HOST:PORT", help="The ledger to settle on.")
@click.option("--listen", multiple=True, metavar="HOST:PORT", help="Where to listen for peers; may be repeated.")
@click.option("--advertise", metavar="HOST:PORT", help="The place that others are told to connect to.")
@click.option("--auto-accept/--no-auto-accept", default=None, help="Accept channels that others open.")
@set_option
@words_option
@encrypt_option
@show_words_option
@local
def init(
    ledger: Address | None,
    listen: tuple[str, ...],
    advertise: str | None,
    auto_accept: bool | None,
    sets: tuple[str, ...],
    words_from: TextIO | None,
    encrypt: bool,
    show_words: bool,
) -> None:
    """Make the home of a new node: its keys and its configuration."""
    flags = flags_from(
        sets,
        ledger__address=str(ledger) if ledger else None,
        node__listen=listen,
        node__advertise=advertise,
        policy__auto_accept=auto_accept,
    )
    words, new = make_home(NodeConfig, flags, words_from, encrypt)
    tell_new_home(words, new, show_words)
    if not new and not shared().json:
        click.echo("\n'channelpay backup restore' puts a backup back. Without one, the node finds the channels of")
        click.echo(
            "these words on the ledger when it runs; 'channelpay channel list' shows those that wait for their peer."
        )


def identity_facts(options: Shared, keys: Keyring) -> dict[str, str | None]:
    """Who the node or ledger of this home is; `address` is None where only its daemon knows the port."""
    config = load_any(options.home).config
    name, prefix = ("ledger", LEDGER_PREFIX) if isinstance(config, LedgerConfig) else ("node", NODE_PREFIX)
    place = config.reachable_at
    key = keys.identity.public
    return {
        "home": str(options.home.path),
        name: encode_id(prefix, key),
        "address": str(Address(prefix, key, place.host, place.port)) if place else None,
        "account": encode_id(ACCOUNT_PREFIX, keys.account.public),
    }


@click.command("id")
@click.option("--account", "only", flag_value="account", help="Print the account alone.")
@click.option("--address", "only", flag_value="address", help="Print the address alone.")
@local
def show_id(only: str | None) -> None:
    """Who this node (or ledger) is: its id, address and account. Needs no daemon."""
    options = shared()
    facts = identity_facts(options, options.home.keyring())
    if options.json:
        print_json(facts)
    elif only is None:
        print_pairs(fact_pairs(facts))
    elif facts[only] is None:
        raise click.UsageError("the configuration names no one place: set node.advertise, or ask the daemon: 'status'")
    else:
        click.echo(facts[only])


@click.command()
@connected
def status() -> None:
    """The daemon in one look."""
    options = shared()
    with connect(options) as control:
        shown = status_json(control.call(wire.Status(), wire.StatusView))
    if options.json:
        print_json(shown)
        return
    ledger, channels, usage = shown["ledger"], shown["channels"], shown["usage"]
    link = "connected" if ledger["connected"] else "not connected"
    heard = f"{moment(ledger['time'])}, journal {ledger['number']}" if ledger["time"] else "not heard of yet"
    print_pairs(
        [
            ("node", f"{shown['node']} (version {shown['version']})"),
            ("home", shown["home"]),
            ("listening", ", ".join(shown["listen"])),
            ("account", shown["account"]),
            ("ledger", f"{ledger['address']}, {link}, {heard}"),
            ("channels", f"{channels['open']} open, {channels['closing']} closing, {channels['settled']} settled"),
            ("peers", f"{shown['peers_connected']} connected"),
            ("received", f"{shown['received']} payments"),
            ("uses", f"{usage['memory'] / 2**20:.1f} MiB, {usage['files']} open files, {usage['tasks']} tasks"),
            *(("warning", warning) for warning in shown["warnings"]),
        ]
    )


@click.command()
@connected
def balance() -> None:
    """Money on the ledger account and in open channels."""
    options = shared()
    with connect(options) as control:
        shown = balance_json(control.call(wire.Balance(), wire.BalanceView))
    if options.json:
        print_json(shown)
    elif not shown["balances"]:
        click.echo("no money yet: the account is empty and no channel is open")
    else:
        rows = [(row["account"]["text"], row["channels"]["text"]) for row in shown["balances"]]
        print_table(["ACCOUNT", "CHANNELS"], rows, right=["ACCOUNT", "CHANNELS"])


@click.group()
def peer() -> None:
    """Nodes that this node knows."""


@peer.command("list")
@connected
def peer_list() -> None:
    """Peers with a connection or a channel."""
    options = shared()
    with connect(options) as control:
        shown = [peer_json(row) for row in control.call(wire.ListPeers(), wire.PeerList).peers]
    if options.json:
        print_json({"peers": shown})
        return
    print_table(
        ["PEER", "ADDRESS", "CONNECTED", "CHANNELS", "SENT", "RECEIVED"],
        [
            (
                row["node"],
                row["address"] or "-",
                _since(row),
                str(row["channels"]),
                f"{row['sent_bytes']} B",
                f"{row['received_bytes']} B",
            )
            for row in shown
        ],
        right=["CHANNELS", "SENT", "RECEIVED"],
    )


@peer.command("connect")
@click.argument("address", type=AddressText(NODE_PREFIX), metavar="cp1...@HOST:PORT")
@connected
def peer_connect(address: Address) -> None:
    """Connect to a node that a channel found on the ledger may be with.

    For a node that was made anew from its words: 'channel list' shows the channels that wait for their peers.
    """
    options = shared()
    with connect(options) as control:
        control.call(wire.ConnectPeer(str(address)), wire.Empty)
    if options.json:
        print_json({"peer": str(address)})
    else:
        click.echo(f"connected to {address}")


def _since(row: dict[str, Any]) -> str:
    if not row["connected"]:
        return "no"
    return moment(row["connected_since"]) if row["connected_since"] else "yes"


@click.command()
@connected
def stop() -> None:
    """Drain and stop the daemon. Returns once it has gone away."""
    options = shared()
    with connect(options) as control:
        control.stop()
    if options.json:
        print_json({"stopped": True})
    else:
        click.echo("stopped")
