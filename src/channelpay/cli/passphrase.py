"""Where the passphrase of an encrypted seed comes from: a file, the service manager, or whoever sits there. Spec N-24.

A passphrase is never taken from the command line or from an environment variable itself: other programs of
this machine can read the one, and every child process inherits the other.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from channelpay.home import HomeError
from channelpay.home.seed import SeedRefused, check_passphrase
from channelpay.limits import MAX_PASSPHRASE_BYTES

FILE_VARIABLE: Final = "CHANNELPAY_PASSPHRASE_FILE"
CREDENTIALS_VARIABLE: Final = "CREDENTIALS_DIRECTORY"
CREDENTIAL: Final = "channelpay.passphrase"
"""Name of the credential that systemd's LoadCredential= gives to a unit."""


def current_passphrase(file: Path | None, environ: Mapping[str, str] = os.environ) -> str:
    """The passphrase of the home's seed: from `file`, the environment's file, systemd, or asked for.

    Raises HomeError when there is none of these.
    """
    found = _from_files(file, environ)
    if found is not None:
        return found
    if not someone_is_there():
        raise HomeError(
            f"the seed is encrypted and nobody can be asked for its passphrase: give --passphrase-file, "
            f"${FILE_VARIABLE}, or systemd's credential {CREDENTIAL}"
        )
    return str(click.prompt("Passphrase of the seed", hide_input=True, err=True))


def new_passphrase(file: Path | None, environ: Mapping[str, str] | None = None) -> str:
    """A passphrase to encrypt a seed with: from `file`, else from the places in `environ`, else asked for twice.

    Raises HomeError.
    """
    found = _from_files(file, environ or {})
    if found is not None:
        return found
    if not someone_is_there():
        raise HomeError("nobody can be asked for a new passphrase: give it in a file")
    chosen = str(click.prompt("New passphrase for the seed", hide_input=True, confirmation_prompt=True, err=True))
    return _checked(chosen, "the new passphrase")


def someone_is_there() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() or sys.stderr.isatty()


def _from_files(file: Path | None, environ: Mapping[str, str]) -> str | None:
    if file is not None:
        return read_passphrase(file)
    if named := environ.get(FILE_VARIABLE):
        return read_passphrase(Path(named))
    if directory := environ.get(CREDENTIALS_VARIABLE):
        credential = Path(directory) / CREDENTIAL
        if credential.exists():
            return read_passphrase(credential, private=False)  # in a directory of the service's own; modes tell nothing
    return None


def read_passphrase(path: Path, *, private: bool = True) -> str:
    """The passphrase in a file (or pipe), without the line feed at its end; raises HomeError.

    With `private` a plain file must be closed to other users.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            if private and stat.S_ISREG(status.st_mode) and mode & 0o077:
                raise HomeError(f"{path} has mode {mode:04o}: others may read the passphrase. Run: chmod 600 {path}")
            data = file.read(MAX_PASSPHRASE_BYTES + 3)
    except OSError as error:
        raise HomeError(f"{path} cannot be read for the passphrase: {error.strerror}") from None
    return _checked(data.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r"), str(path))


def _checked(passphrase: str, where: str) -> str:
    try:
        check_passphrase(passphrase)
    except SeedRefused as error:
        raise HomeError(f"{where}: {error}") from None
    return passphrase
