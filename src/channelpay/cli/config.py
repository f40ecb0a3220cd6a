"""Commands about the configuration: show, check, path."""

from __future__ import annotations

from typing import Any

import click

from channelpay.cli.app import local, shared
from channelpay.cli.node import flags_from, set_option
from channelpay.cli.show import print_json, print_table
from channelpay.home import LedgerConfig
from channelpay.home.load import load_any


@click.group()
def config() -> None:
    """The configuration in this home's config.toml (a node's or a ledger's)."""


@config.command()
@set_option
@local
def show(sets: tuple[str, ...]) -> None:
    """Every value in effect, and where it comes from."""
    options = shared()
    loaded = load_any(options.home, flags_from(sets))
    if options.json:
        values = {key: {"value": loaded.plain(key), "from": source} for key, source in loaded.sources.items()}
        kind = "ledger" if isinstance(loaded.config, LedgerConfig) else "node"
        print_json({"kind": kind, "file": str(options.home.config_file), "values": values})
        return
    rows = [(key, _text(loaded.plain(key)), source) for key, source in loaded.sources.items()]
    print_table(["KEY", "VALUE", "FROM"], rows)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) or "-" if isinstance(value, list) else str(value) or "-"


@config.command()
@set_option
@local
def check(sets: tuple[str, ...]) -> None:
    """Whether the configuration and the seed's files can be used; says what is wrong."""
    options = shared()
    load_any(options.home, flags_from(sets))
    options.home.keyring()
    if options.json:
        print_json({"ok": True, "file": str(options.home.config_file)})
    else:
        click.echo(f"{options.home.config_file}: ok")


@config.command()
@local
def path() -> None:
    """Where the configuration is."""
    options = shared()
    if options.json:
        print_json({"file": str(options.home.config_file)})
    else:
        click.echo(str(options.home.config_file))
