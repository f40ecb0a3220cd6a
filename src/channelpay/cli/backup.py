"""Commands about copies of this home's store: backup create, verify, restore. Spec N-25."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from channelpay.cli.app import local, shared
from channelpay.cli.exits import CommandError, Exit
from channelpay.cli.show import moment, print_json, print_pairs
from channelpay.home import HomeError, LedgerConfig, NodeConfig, load_config
from channelpay.home.load import kind_of
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, encode_id

if TYPE_CHECKING:
    from channelpay.store.backup import Manifest

_NOT_IN_IT: Final = "The 24 words and config.toml are not in it."
_NODE_RESTORED: Final = (
    "Start the node as usual. It hears its peers first and gets back from them what this backup lacks; it pays and "
    "is paid again two hours after it has read the ledger."
)
_LEDGER_RESTORED: Final = (
    "What this ledger did after that moment is gone: whoever got an answer since then has to be told."
)

directory_argument = click.argument("directory", type=click.Path(path_type=Path), metavar="DIRECTORY")


@click.group()
def backup() -> None:
    """Copies of the store of this home (a node's or a ledger's), made while its daemon runs."""


@backup.command()
@directory_argument
@local
def create(directory: Path) -> None:
    """Make a backup in a new DIRECTORY, and check it."""
    from channelpay.store import backup as copies  # only these commands and the daemons need SQLite

    kind, store = _kind_and_store()
    with _usage_errors():
        manifest = copies.create(kind, store, directory, int(time.time()))
    _tell(directory, manifest, f"backed up\n{_NOT_IN_IT}")


@backup.command()
@directory_argument
@local
def verify(directory: Path) -> None:
    """Check a backup to the bit, row by row; needs no home."""
    from channelpay.store import backup as copies

    _tell(directory, copies.verify(directory), "whole")


@backup.command()
@directory_argument
@click.option("--replace", is_flag=True, help="Even if there is a store; it is kept beside, under another name.")
@local
def restore(directory: Path, replace: bool) -> None:
    """Put the backup in DIRECTORY in the place of this home's store. The daemon must be stopped.

    The home's seed and configuration must be those of the backup: on a new machine make it first, by
    'channelpay init --words-from'.
    """
    from channelpay.store import backup as copies

    kind, store = _kind_and_store()
    owner, ledger = _whose(kind)
    with _usage_errors():
        kept = copies.restore(directory, kind, store, owner, ledger, int(time.time()), replace=replace)
    text = "restored" if kept is None else f"restored; the store that was there is now {kept}"
    more = {"kept": None if kept is None else str(kept)}
    _tell(directory, copies.read_manifest(directory), f"{text}\n{_hint(kind)}", more)


def _hint(kind: str) -> str:
    return _NODE_RESTORED if kind == "node" else _LEDGER_RESTORED


def _kind_and_store() -> tuple[str, Path]:
    home = shared().home
    return ("ledger", home.ledger_db) if kind_of(home) is LedgerConfig else ("node", home.node_db)


def _whose(kind: str) -> tuple[bytes, bytes]:
    """Ids of this home's owner and of its ledger."""
    home = shared().home
    own = home.keyring().identity.public
    if kind == "ledger":
        return own, own
    address = load_config(home, NodeConfig).config.ledger.address
    if address is None:
        raise HomeError(f"{home.config_file}: ledger.address is empty; set it to the ledger of the backup")
    return own, address.key


@contextmanager
def _usage_errors() -> Iterator[None]:
    """A refusal before anything was done is an error of usage."""
    from channelpay.store.backup import BackupRefused

    try:
        yield
    except BackupRefused as error:
        raise CommandError(Exit.USAGE, "usage", str(error)) from None


def _tell(directory: Path, manifest: Manifest, text: str, more: dict[str, Any] | None = None) -> None:
    prefix = LEDGER_PREFIX if manifest.kind == "ledger" else NODE_PREFIX
    owner = encode_id(prefix, bytes.fromhex(manifest.owner))
    ledger = encode_id(LEDGER_PREFIX, bytes.fromhex(manifest.ledger))
    if shared().json:
        print_json({"directory": str(directory), **asdict(manifest), "owner": owner, "ledger": ledger, **(more or {})})
        return
    print_pairs(
        [
            ("backup", str(directory)),
            (manifest.kind, owner),
            *([("ledger", ledger)] if manifest.kind == "node" else []),
            ("made", moment(manifest.created)),
            ("size", f"{manifest.size:,} bytes"),
        ]
    )
    click.echo(text)
