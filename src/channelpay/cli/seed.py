"""Commands about the 24 words in this home's seed file: show, encrypt, decrypt, change-passphrase. Spec N-24."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from channelpay.cli.app import local, shared
from channelpay.cli.node import print_words
from channelpay.cli.passphrase import new_passphrase
from channelpay.cli.show import print_json

_WAS_PLAIN: Final = (
    "Until now the words stood on this disk as they are: copies of them may remain there and in old backups."
)


@click.group()
def seed() -> None:
    """The seed of this home (a node's or a ledger's): 24 words, plain or encrypted by a passphrase."""


@seed.command()
@local
def show() -> None:
    """Print the 24 words."""
    words = shared().home.read_words()
    if shared().json:
        print_json({"words": words})
    else:
        print_words(words)


@seed.command()
@local
def encrypt() -> None:
    """Encrypt the seed by a passphrase: of --passphrase-file, or asked for twice."""
    options = shared()
    if options.home.seed_is_encrypted():
        raise click.UsageError("the seed is encrypted already; 'channelpay seed change-passphrase' changes it")
    words = options.home.read_words()
    options.home.replace_seed(words, new_passphrase(options.passphrase_file, os.environ))
    _tell(True, f"encrypted\n{_WAS_PLAIN}")


@seed.command()
@local
def decrypt() -> None:
    """Write the words plain into the seed file; whoever reads the file then has the keys."""
    options = shared()
    if not options.home.seed_is_encrypted():
        raise click.UsageError("the seed is not encrypted")
    options.home.replace_seed(options.home.read_words(), None)
    _tell(False, "decrypted")


@seed.command("change-passphrase")
@click.option(
    "--new-passphrase-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Holds the new passphrase. Default: you are asked twice.",
)
@local
def change_passphrase(new_passphrase_file: Path | None) -> None:
    """Encrypt the seed by another passphrase."""
    options = shared()
    if not options.home.seed_is_encrypted():
        raise click.UsageError("the seed is not encrypted; 'channelpay seed encrypt' encrypts it")
    words = options.home.read_words()
    options.home.replace_seed(words, new_passphrase(new_passphrase_file))
    _tell(True, "the passphrase is changed")


def _tell(encrypted: bool, text: str) -> None:
    file = shared().home.seed_file
    if shared().json:
        print_json({"file": str(file), "encrypted": encrypted})
    else:
        click.echo(f"{file}: {text}")
