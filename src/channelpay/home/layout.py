"""Where a node or a ledger keeps its files, who may read them, and its seed. Spec chapter 12, section 1."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import platformdirs

from channelpay.errors import ChannelpayError, KeyRefused
from channelpay.home.seed import SeedRefused, is_sealed, seal_words, words_in
from channelpay.keys import Keyring, check_words
from channelpay.limits import MAX_SEED_FILE_BYTES

HOME_VARIABLE: Final = "CHANNELPAY_HOME"
MAX_SOCKET_PATH: Final = 100
"""Bytes of a Unix socket's path that every system takes (Linux has 107, macOS 103)."""

_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_OF_STORE: Final = ("", "-wal", "-shm", "-journal", ".lock")
"""What SQLite and the lock add to a store's name."""

Passphrase = Callable[[], str]
"""Gives the passphrase of an encrypted seed when it is needed, by asking for it or by reading it."""


class HomeError(ChannelpayError):
    """A home directory, or a file in it, that is missing, exists already or is open to others."""


class Home:
    """The directory of one node or one ledger, and the names of its files (spec N-1).

    Making the object touches nothing on disk; `create` and `read_*` do. `passphrase` is called once, and only
    for a seed that is encrypted.
    """

    def __init__(self, path: str | os.PathLike[str], passphrase: Passphrase | None = None) -> None:
        self.path = Path(path).expanduser().absolute()
        self.passphrase = passphrase
        self.config_file = self.path / "config.toml"
        self.seed_file = self.path / "seed"
        self.node_db = self.path / "node.db"
        self.ledger_db = self.path / "ledger.db"
        self.control_socket = self.path / "control.sock"
        self._keyring: Keyring | None = None

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"

    @classmethod
    def locate(
        cls,
        explicit: str | None = None,
        environ: Mapping[str, str] = os.environ,
        passphrase: Passphrase | None = None,
    ) -> Home:
        """The home to use: `explicit`, else $CHANNELPAY_HOME, else the platform's user data directory (spec N-1)."""
        place = explicit or environ.get(HOME_VARIABLE) or platformdirs.user_data_dir("channelpay", appauthor=False)
        return cls(place, passphrase)

    # --- Making one ------------------------------------------------------------------------

    def create(self, words: str, config_text: str, passphrase: str | None = None) -> None:
        """Make the home: the directory, `config.toml`, and `seed` last, so that a home with a seed is whole.

        With a `passphrase` the seed is encrypted (spec N-24). Raises HomeError if one of the files exists, the
        directory is open to others or the passphrase is none, KeyRefused for bad words. Nothing that exists is
        changed (spec N-2).
        """
        keyring = Keyring(words)
        self.check_vacant()
        seed = seed_text(words, passphrase)
        self.make_directory()
        for file, text in ((self.config_file, config_text), (self.seed_file, seed)):
            write_new(file, text)
            sync_directory(self.path)  # each name before the next file is made
        self._keyring = keyring

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

    # --- The seed --------------------------------------------------------------------------

    def read_seed(self) -> str:
        """The text of the seed file.

        Raises HomeError unless the seed is a plain file of this user, and it and the home's other files are
        closed to everybody else (spec N-3).
        """
        self._check_directory()
        for path in self._files():
            with suppress(FileNotFoundError):  # SQLite's own come and go with the daemon
                self._check_mode(path, path.stat(), "others may read or change it")
        try:
            # O_NONBLOCK: a pipe in the seed's place must not hang the program
            descriptor = os.open(self.seed_file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise HomeError(f"{self.seed_file} is missing: restore it from your 24 words, or run 'init'") from None
        except OSError as error:
            raise HomeError(f"{self.seed_file} cannot be opened as a plain file: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise HomeError(f"{self.seed_file} is no plain file")
            self._check_mode(self.seed_file, status, "others may read the keys to your money")
            return os.read(descriptor, MAX_SEED_FILE_BYTES + 1).decode("utf-8", "replace")
        finally:
            os.close(descriptor)

    def seed_is_encrypted(self) -> bool:
        """Whether the words stand in the seed file under a passphrase; raises HomeError."""
        return is_sealed(self.read_seed())

    def read_words(self) -> str:
        """The 24 seed words; raises HomeError, also for a wrong passphrase or when one is needed and there is none."""
        text = self.read_seed()
        try:
            return words_in(text, self._ask)
        except (SeedRefused, KeyRefused) as error:
            raise HomeError(f"{self.seed_file}: {error}") from None

    def _ask(self) -> str:
        if self.passphrase is None:
            raise HomeError(f"{self.seed_file} is encrypted: its passphrase is needed")
        return self.passphrase()

    def replace_seed(self, words: str, passphrase: str | None) -> None:
        """Write the seed anew, encrypted by `passphrase` or (None) plain; whole or not at all. Raises HomeError."""
        text = seed_text(words, passphrase)
        beside = self.seed_file.with_name("seed.new")
        beside.unlink(missing_ok=True)  # of a change that was cut off
        write_new(beside, text)
        try:
            beside.rename(self.seed_file)
        except OSError as error:
            raise HomeError(f"{self.seed_file} cannot be replaced: {error.strerror}") from None
        sync_directory(self.path)

    def keyring(self) -> Keyring:
        """The keys of this home, read once; raises HomeError."""
        if self._keyring is None:
            self._keyring = Keyring(self.read_words())
        return self._keyring

    # --- Who may read it -------------------------------------------------------------------

    def _files(self) -> Iterator[Path]:
        """The files that a home may have, but for the seed and the socket."""
        yield self.config_file
        for store in (self.node_db, self.ledger_db):
            yield from (store.with_name(store.name + end) for end in _OF_STORE)

    def _check_mode(self, path: Path, status: os.stat_result, danger: str) -> None:
        if status.st_uid != os.geteuid():
            raise HomeError(f"{path} belongs to another user (uid {status.st_uid})")
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            raise HomeError(f"{path} has mode {mode:04o}: {danger}. Run: chmod 600 {path}")

    def make_directory(self) -> None:
        """The home's directory, mode 0700, on disk with those above it that had to be made; raises HomeError."""
        try:
            for above in [directory for directory in self.path.parents if not directory.exists()][::-1]:
                above.mkdir(exist_ok=True)
                sync_directory(above.parent)
            self.path.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            sync_directory(self.path.parent)
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


def seed_text(words: str, passphrase: str | None) -> str:
    """The text of a seed file; raises KeyRefused for bad words, HomeError for a passphrase that is none."""
    if passphrase is None:
        return check_words(words) + "\n"
    try:
        return seal_words(words, passphrase, os.urandom)
    except SeedRefused as error:
        raise HomeError(str(error)) from None


def write_new(path: Path, text: str) -> None:
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


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; raises HomeError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HomeError(f"{path}: its files may not be on the disk: {error.strerror}") from None
