"""Where a node or a ledger keeps its files, and who may read them. Spec chapter 12, section 1."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

from channelpay.errors import ChannelpayError, KeyRefused
from channelpay.keys import Keyring

HOME_VARIABLE: Final = "CHANNELPAY_HOME"
MAX_SOCKET_PATH: Final = 100
"""Bytes of a Unix socket's path that every system takes (Linux has 107, macOS 103)."""

_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_MAX_SEED_BYTES: Final = 4096


class HomeError(ChannelpayError):
    """A home directory, or a file in it, that is missing, exists already or is open to others."""


class Home:
    """The directory of one node or one ledger, and the names of its files (spec N-1).

    Making the object touches nothing on disk; `create` and `read_*` do.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self.config_file = self.path / "config.toml"
        self.seed_file = self.path / "seed"
        self.node_db = self.path / "node.db"
        self.ledger_db = self.path / "ledger.db"
        self.control_socket = self.path / "control.sock"

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"

    @classmethod
    def locate(cls, explicit: str | None = None, environ: Mapping[str, str] = os.environ) -> Home:
        """The home to use: `explicit`, else $CHANNELPAY_HOME, else the platform's user data directory (spec N-1)."""
        return cls(explicit or environ.get(HOME_VARIABLE) or platformdirs.user_data_dir("channelpay", appauthor=False))

    def create(self, words: str, config_text: str) -> None:
        """Make the home: the directory, `config.toml`, and `seed` last, so that a home with a seed is whole.

        Raises HomeError if one of the files exists or the directory is open to others, KeyRefused
        for bad words. Nothing that exists is changed (spec N-2).
        """
        words = " ".join(words.split())
        Keyring(words)
        self.check_vacant()
        self._make_directory()
        _write_new(self.config_file, config_text)
        _write_new(self.seed_file, words + "\n")
        _sync_directory(self.path)

    def check_vacant(self) -> None:
        """Return if a new home may be made here; raises HomeError."""
        if len(os.fsencode(self.control_socket)) > MAX_SOCKET_PATH:
            raise HomeError(
                f"{self.path}: too long a path for the control socket in it "
                f"(at most {MAX_SOCKET_PATH} bytes with /control.sock): choose a shorter one"
            )
        for file in (self.seed_file, self.config_file):
            if os.path.lexists(file):
                raise HomeError(f"{file} exists already and is never overwritten: choose another --home")
        if os.path.lexists(self.path):
            self._check_directory()

    def read_config(self) -> str:
        """The text of `config.toml`; raises HomeError."""
        try:
            return self.config_file.read_text("utf-8")
        except FileNotFoundError:
            raise HomeError(
                f"{self.path} is no channelpay home: it has no config.toml. Make one with "
                f"'channelpay init' (a ledger: 'channelpay ledger init'), or name another with --home"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise HomeError(f"{self.config_file} cannot be read: {error}") from None

    def read_words(self) -> str:
        """The 24 seed words.

        Raises HomeError unless the seed is a plain file of this user that nobody else may read (spec N-3).
        """
        self._check_directory()
        try:
            # O_NONBLOCK: a pipe in the seed's place must not hang the program
            descriptor = os.open(self.seed_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise HomeError(f"{self.seed_file} is missing: restore it from your 24 words, or run 'init'") from None
        except OSError as error:
            raise HomeError(f"{self.seed_file} cannot be opened as a plain file: {error.strerror}") from None
        try:
            self._check_seed(os.fstat(descriptor))
            return os.read(descriptor, _MAX_SEED_BYTES).decode("utf-8", "replace")
        finally:
            os.close(descriptor)

    def keyring(self) -> Keyring:
        """The keys of this home; raises HomeError."""
        words = self.read_words()
        try:
            return Keyring(words)
        except KeyRefused as error:
            raise HomeError(f"{self.seed_file}: {error}") from None

    def _check_seed(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise HomeError(f"{self.seed_file} is no plain file")
        if status.st_uid != os.geteuid():
            raise HomeError(f"{self.seed_file} belongs to another user (uid {status.st_uid})")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise HomeError(
                f"{self.seed_file} has mode {mode:04o}: others may read the keys to your money. "
                f"Run: chmod 600 {self.seed_file}"
            )

    def _make_directory(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise HomeError(f"{self.path} cannot be made: {error.strerror}") from None

    def _check_directory(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise HomeError(
                f"{self.path} does not exist: make it with 'channelpay init', or name another with --home"
            ) from None
        except OSError as error:
            raise HomeError(f"{self.path} cannot be used: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise HomeError(f"{self.path} is no directory")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise HomeError(
                f"{self.path} has mode {mode:04o}: others may look into it. "
                f"Run 'chmod 700 {self.path}' if nothing else lives there, or choose another --home"
            )


def _write_new(path: Path, text: str) -> None:
    """A new file with mode 0600, on disk when this returns; removed again if it cannot be written whole."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE_MODE)
    except FileExistsError:
        raise HomeError(f"{path} exists already and is never overwritten: choose another --home") from None
    except OSError as error:
        raise HomeError(f"{path} cannot be made: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, _FILE_MODE)  # whatever the umask took away
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise HomeError(f"{path} cannot be written: {error.strerror}") from None


def _sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
