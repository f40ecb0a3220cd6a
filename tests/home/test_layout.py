"""The files of a home: made once, for their owner alone. Spec N-1 to N-3."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import durable
from channelpay.errors import KeyRefused
from channelpay.home.layout import MAX_SOCKET_PATH, Home, HomeError
from channelpay.keys import Keyring, words_from_entropy

WORDS = words_from_entropy(bytes(range(32)))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "node")
    made.create(WORDS, 'kind = "node"\n')
    return Home(made.path)


def test_files_have_the_names_of_the_specification(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = [home.config_file, home.seed_file, home.node_db, home.ledger_db, home.control_socket]
    assert [path.relative_to(tmp_path).as_posix() for path in names] == [
        "config.toml",
        "seed",
        "node.db",
        "ledger.db",
        "control.sock",
    ]


def test_locate_prefers_the_option_then_the_environment_then_the_platform() -> None:
    assert Home.locate("/a/b", {"CHANNELPAY_HOME": "/c"}).path == Path("/a/b")
    assert Home.locate(None, {"CHANNELPAY_HOME": "/c"}).path == Path("/c")
    assert Home.locate(None, {"CHANNELPAY_HOME": ""}).path.name == "channelpay"
    assert Home.locate(None, {}).path.is_absolute()


def test_create_makes_private_files_and_the_seed_gives_the_keys(home: Home) -> None:
    assert (mode(home.path), mode(home.seed_file), mode(home.config_file)) == (0o700, 0o600, 0o600)
    assert home.read_words() == WORDS
    assert home.read_config() == 'kind = "node"\n'
    assert home.keyring().identity.public == Keyring(WORDS).identity.public


def test_all_that_create_makes_is_on_disk_before_the_next_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = durable.watch(monkeypatch, tmp_path)
    home = Home(tmp_path / "new" / "home")
    home.create(WORDS, "text")
    assert seen == [
        "mkdir new",
        "sync .: new",
        "mkdir new/home",
        "sync new: home",
        "sync new/home/config.toml",
        "sync new/home: config.toml",
        "sync new/home/seed",
        "sync new/home: config.toml seed",
    ]
    del seen[:]
    home.replace_seed(WORDS, None)
    assert seen == [
        "sync new/home/seed.new",
        "rename new/home/seed.new new/home/seed",
        "sync new/home: config.toml seed",
    ]


def test_create_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o277)
    try:
        home = Home(tmp_path / "odd")
        home.path.mkdir()
        home.path.chmod(0o700)
        home.create(WORDS, "")
    finally:
        os.umask(before)
    assert mode(home.seed_file) == 0o600


def test_a_seed_is_never_overwritten(home: Home) -> None:
    with pytest.raises(HomeError, match="seed exists already and is never overwritten"):
        home.create(words_from_entropy(bytes(32)), "")
    assert home.read_words() == WORDS


def test_a_configuration_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mine")
    tmp_path.chmod(0o700)
    with pytest.raises(HomeError, match=r"config\.toml exists already"):
        Home(tmp_path).create(WORDS, "")
    assert (tmp_path / "config.toml").read_text() == "mine"
    assert not (tmp_path / "seed").exists()


def test_bad_words_make_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyRefused):
        Home(tmp_path / "node").create("abandon " * 24, "")
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize("open_mode", [0o750, 0o705, 0o777, 0o710])
def test_a_directory_open_to_others_is_refused(tmp_path: Path, open_mode: int) -> None:
    tmp_path.chmod(open_mode)
    with pytest.raises(HomeError, match=f"has mode {open_mode:04o}.*chmod 700"):
        Home(tmp_path).create(WORDS, "")
    assert not (tmp_path / "seed").exists()


@pytest.mark.parametrize("open_mode", [0o640, 0o604, 0o620, 0o601])
@pytest.mark.parametrize("name", ["config.toml", "node.db", "node.db-wal", "node.db-shm", "node.db.lock", "ledger.db"])
def test_any_other_file_open_to_others_is_refused_by_name(home: Home, name: str, open_mode: int) -> None:
    file = home.path / name
    file.touch()
    file.chmod(open_mode)
    with pytest.raises(HomeError, match=rf"node/{name} has mode {open_mode:04o}: .*Run: chmod 600 .*{name}$"):
        Home(home.path).keyring()
    file.chmod(0o600)
    assert Home(home.path).keyring().identity.public == Keyring(WORDS).identity.public


@pytest.mark.parametrize("open_mode", [0o640, 0o604, 0o620, 0o644])
def test_a_seed_open_to_others_is_refused(home: Home, open_mode: int) -> None:
    home.seed_file.chmod(open_mode)
    with pytest.raises(HomeError, match=f"seed has mode {open_mode:04o}.*chmod 600"):
        home.keyring()


def test_a_directory_opened_later_is_refused(home: Home) -> None:
    home.path.chmod(0o755)
    with pytest.raises(HomeError, match="has mode 0755"):
        home.keyring()


def test_a_seed_must_be_a_plain_file(home: Home) -> None:
    elsewhere = home.path / "elsewhere"
    home.seed_file.rename(elsewhere)
    home.seed_file.symlink_to(elsewhere)
    with pytest.raises(HomeError, match="cannot be opened as a plain file"):
        home.keyring()
    home.seed_file.unlink()
    home.seed_file.mkdir(mode=0o700)
    with pytest.raises(HomeError, match="no plain file"):
        home.keyring()


def test_a_seed_of_another_user_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(HomeError, match="belongs to another user"):
        home.keyring()


def test_damaged_words_are_refused_with_the_file_named(home: Home) -> None:
    home.seed_file.write_text(WORDS.replace(WORDS.split()[0], "zoo", 1))
    with pytest.raises(HomeError, match=r"node/seed: these are not 24 valid"):
        home.keyring()


def test_a_missing_seed_and_a_missing_home_say_what_to_do(home: Home, tmp_path: Path) -> None:
    home.seed_file.unlink()
    with pytest.raises(HomeError, match="restore it from your 24 words"):
        home.keyring()
    with pytest.raises(HomeError, match="does not exist: make it with 'channelpay init'"):
        Home(tmp_path / "nowhere").keyring()
    with pytest.raises(HomeError, match="is no channelpay home"):
        Home(tmp_path / "nowhere").read_config()


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="is no directory"):
        Home(tmp_path / "file").create(WORDS, "")
    with pytest.raises(HomeError, match="cannot be made"):
        Home(tmp_path / "file" / "below").create(WORDS, "")


def test_a_path_too_long_for_the_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="too long a path for the control socket"):
        Home(tmp_path / ("x" * MAX_SOCKET_PATH)).create(WORDS, "")


def test_an_unreadable_configuration_is_named(home: Home) -> None:
    home.config_file.write_bytes(b"\xff\xfe")
    with pytest.raises(HomeError, match=r"config\.toml cannot be read"):
        home.read_config()


def test_a_write_that_fails_leaves_no_half_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "node")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    home.path.mkdir(mode=0o700)
    monkeypatch.setattr("channelpay.home.layout.sync_directory", lambda path: None)
    with pytest.raises(HomeError, match=r"config\.toml cannot be written: No space left"):
        home.create(WORDS, "text")
    assert list(home.path.iterdir()) == []


@pytest.mark.parametrize("replaced", [False, True])
def test_a_directory_that_cannot_be_synced_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    home = Home(tmp_path / "node")
    if replaced:
        home.create(WORDS, "text")
    work = (lambda: home.replace_seed(WORDS, None)) if replaced else lambda: home.create(WORDS, "text")
    sync = os.fsync

    def broken(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(HomeError, match=r"its files may not be on the disk: Input/output error"):
        work()
