"""Commands that are daemons: run, ledger serve."""

from __future__ import annotations

import click

from channelpay.cli.app import local, shared
from channelpay.cli.inputs import AddressText
from channelpay.cli.node import flags_from, set_option
from channelpay.home import LedgerConfig, NodeConfig, load_config
from channelpay.keys import LEDGER_PREFIX, Address


@click.command()
@click.option("--ledger", type=AddressText(LEDGER_PREFIX), metavar="cpl1...@HOST:PORT", help="The ledger to settle on.")
@click.option("--listen", multiple=True, metavar="HOST:PORT", help="Where to listen for peers; may be repeated.")
@click.option("--auto-accept/--no-auto-accept", default=None, help="Accept channels that others open.")
@click.option(
    "--restored", is_flag=True, help="The store came from a backup: no payments for two hours, once is enough."
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="auto, text or json.")
@set_option
@local
def run(
    ledger: Address | None,
    listen: tuple[str, ...],
    auto_accept: bool | None,
    restored: bool,
    log_level: str | None,
    log_format: str | None,
    sets: tuple[str, ...],
) -> int:
    """Run the node's daemon in the foreground; its log goes to stderr. SIGTERM stops it."""
    flags = flags_from(
        sets,
        ledger__address=str(ledger) if ledger else None,
        node__listen=listen,
        policy__auto_accept=auto_accept,
        log__level=log_level,
        log__format=log_format,
    )
    home = shared().home
    config = load_config(home, NodeConfig, flags).config
    if config.ledger.address is None:
        raise click.UsageError(f"no ledger: set ledger.address in {home.config_file}, or give --ledger")
    home.keyring()
    from channelpay.daemon.main import run_node  # the daemon alone needs trio

    return run_node(home, config, restored)


@click.command()
@click.option("--listen", multiple=True, metavar="HOST:PORT", help="Where to listen; may be repeated.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--log-format", metavar="FORMAT", help="auto, text or json.")
@set_option
@local
def serve(listen: tuple[str, ...], log_level: str | None, log_format: str | None, sets: tuple[str, ...]) -> int:
    """Run the ledger in the foreground; its log goes to stderr. SIGTERM stops it."""
    flags = flags_from(sets, ledger__listen=listen, log__level=log_level, log__format=log_format)
    home = shared().home
    config = load_config(home, LedgerConfig, flags).config
    home.keyring()
    from channelpay.daemon.ledger_main import run_ledger

    return run_ledger(home, config)
