"""`channelpay demo`: the whole thing on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from channelpay.cli.app import shared


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--kill", is_flag=True, help="Kill both node daemons in the middle with SIGKILL, and start them again.")
@click.option("--pieces", type=click.IntRange(min=1), metavar="N", help="Sell at most N pieces of 256 bytes.")
@click.option(
    "--in-flight",
    type=click.IntRange(1, 4096),
    default=256,
    show_default=True,
    metavar="N",
    help="Pieces requested and paid for at once.",
)
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIRECTORY", help="Play in this directory and keep it."
)
@click.option("--progress/--no-progress", default=None, help="A moving line on stderr, or plain lines.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON for programs.")
def demo(
    file: Path | None,
    kill: bool,
    pieces: int | None,
    in_flight: int,
    keep: Path | None,
    progress: bool | None,
    as_json: bool,
) -> int:
    """Sell FILE (or the specification) piece by piece, one payment for each piece of 256 bytes at 0.0001 USD.

    Starts a ledger, two nodes and two services as processes on this machine, and ends them. Exit code 0
    says that the copy is identical, the channel closed cooperatively and every balance exact.
    """
    from channelpay.services.demo.main import Options, run_demo  # trio and the client: only the demo needs them

    return run_demo(Options(file, pieces, in_flight, kill, as_json or shared().json, keep, progress))
