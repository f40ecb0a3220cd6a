"""The command tree. Spec chapter 12, section 12.4."""

from __future__ import annotations

import click

from channelpay import __version__
from channelpay.cli.app import RootGroup, connected
from channelpay.cli.backup import backup
from channelpay.cli.channel import channel
from channelpay.cli.config import config
from channelpay.cli.conformance import conformance
from channelpay.cli.demo import demo
from channelpay.cli.exits import EXIT_CODES_HELP
from channelpay.cli.ledger import ledger
from channelpay.cli.node import balance, init, peer, show_id, status, stop
from channelpay.cli.pay import pay, payment, payments
from channelpay.cli.run import run
from channelpay.cli.seed import seed


@click.group(
    cls=RootGroup,
    help=f"Micropayment channels: a node, its ledger, and payments.\n\n{EXIT_CODES_HELP}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="channelpay %(version)s")
@connected
def cli() -> None:
    """Common options of every command; they may also stand after the command."""


for command in (
    init, run, status, show_id, balance, peer, channel, pay, payments, payment, config, seed, backup, stop, ledger,
    demo, conformance,
):  # fmt: skip
    cli.add_command(command)
