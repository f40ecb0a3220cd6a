"""seed show, encrypt, decrypt, change-passphrase, and every command that needs the keys. Spec N-24."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from channelpay.cli import passphrase
from channelpay.home import Home
from channelpay.keys import ACCOUNT_PREFIX, LEDGER_PREFIX, NODE_PREFIX, encode_id
from cli_shell import KEYS, OTHER, WORDS, Shell

LEDGER = encode_id(LEDGER_PREFIX, OTHER.identity.public) + "@127.0.0.1:1"


def file_with(place: Path, text: str) -> str:
    place.write_text(text)
    place.chmod(0o600)
    return str(place)


@pytest.fixture
def secret(short_path: Path) -> str:
    """A file with the passphrase "secret"."""
    return file_with(short_path / "secret", "secret\n")


@pytest.fixture
def locked(offline: Shell, secret: str) -> Shell:
    """A home whose seed is encrypted by "secret"."""
    assert offline.run("seed", "encrypt", "--passphrase-file", secret).exit_code == 0
    return Shell(Home(offline.home.path), {}, [])


@pytest.fixture
def at_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody can be asked; the answers come from stdin."""
    monkeypatch.setattr(passphrase, "someone_is_there", lambda: True)


def test_show_tells_the_words(offline: Shell) -> None:
    assert offline.json("seed", "show") == {"words": WORDS}
    shown = offline.run("seed", "show").stdout
    assert "show them to nobody" in shown
    assert [word for word in shown.split("\n\n")[1].split() if not word.endswith(".")] == WORDS.split()


def test_encrypt_then_decrypt_gives_the_same_words(offline: Shell, secret: str) -> None:
    result = offline.run("seed", "encrypt", "--passphrase-file", secret)
    assert result.exit_code == 0
    assert f"{offline.home.seed_file}: encrypted" in result.stdout
    assert "copies of them may remain" in result.stdout
    assert WORDS.split()[0] not in offline.home.read_seed()
    assert offline.json("seed", "decrypt", "--passphrase-file", secret) == {
        "file": str(offline.home.seed_file),
        "encrypted": False,
    }
    assert offline.home.read_seed() == WORDS + "\n"


def test_a_person_is_asked_twice_for_a_new_one_and_once_for_an_old_one(offline: Shell, at_terminal: None) -> None:
    result = offline.run("seed", "encrypt", stdin="typed\nmistyped\ntyped\ntyped\n")
    assert result.exit_code == 0
    assert "typed" not in result.output  # what is typed is not shown
    assert result.stderr.count("New passphrase for the seed") == 2
    again = Shell(Home(offline.home.path), {}, [])
    shown = again.run("seed", "show", "--json", stdin="typed\n")
    assert WORDS in shown.stdout
    assert "Passphrase of the seed" in shown.stderr
    assert "the passphrase is wrong" in again.run("seed", "show", stdin="other\n").stderr


def test_the_passphrase_is_changed(locked: Shell, secret: str, short_path: Path) -> None:
    new = file_with(short_path / "new", "new")
    shown = locked.json("seed", "change-passphrase", "--passphrase-file", secret, "--new-passphrase-file", new)
    assert shown == {"file": str(locked.home.seed_file), "encrypted": True}
    assert locked.json("seed", "show", "--passphrase-file", new) == {"words": WORDS}
    code, text = locked.fails("seed", "show", "--passphrase-file", secret)
    assert (code, text) == (2, f"{locked.home.seed_file}: the passphrase is wrong")


def test_what_makes_no_sense_is_refused_and_changes_nothing(offline: Shell, secret: str) -> None:
    for command in "decrypt", "change-passphrase":
        code, text = offline.fails("seed", command)
        assert (code, text.partition(" (")[0].partition(";")[0]) == (2, "the seed is not encrypted")
    assert offline.home.read_seed() == WORDS + "\n"
    offline.run("seed", "encrypt", "--passphrase-file", secret)
    before = offline.home.read_seed()
    assert "encrypted already" in offline.fails("seed", "encrypt", "--passphrase-file", secret)[1]
    assert offline.home.read_seed() == before


def test_a_damaged_seed_is_named(locked: Shell, secret: str) -> None:
    locked.home.seed_file.write_text(locked.home.read_seed().replace("passes=3", "passes=2"))
    code, text = locked.fails("id", "--passphrase-file", secret)
    assert code == 2
    assert text == (
        f"{locked.home.seed_file}: damaged: its checksum does not fit. Restore it from a backup or from your 24 words"
    )


@pytest.mark.parametrize(
    "command",
    [
        ["id"],
        ["config", "check"],
        ["seed", "show"],
        ["run", "--ledger", LEDGER],
        ["ledger", "show", "--ledger", LEDGER],
    ],
)
def test_commands_that_need_the_keys_say_that_they_are_encrypted(locked: Shell, command: list[str]) -> None:
    code, text = locked.fails(*command)
    assert code == 2
    assert "the seed is encrypted and nobody can be asked for its passphrase: give --passphrase-file" in text


def test_commands_that_need_the_keys_take_them(locked: Shell, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Home] = []

    def run_node(home: Home, *_: Any) -> int:
        started.append(home)
        return 0

    monkeypatch.setattr("channelpay.daemon.main.run_node", run_node)
    assert locked.run("run", "--ledger", LEDGER, "--passphrase-file", secret).exit_code == 0
    assert started[0].keyring().identity.public == KEYS.identity.public
    assert locked.json("id", "--passphrase-file", secret)["node"] == encode_id(NODE_PREFIX, KEYS.identity.public)
    monkeypatch.setenv(passphrase.FILE_VARIABLE, secret)
    assert locked.json("config", "check")["ok"] is True
    code, text = locked.fails("ledger", "show", "--ledger", LEDGER)
    assert (code, "is not reachable" in text) == (3, True)


def test_commands_that_need_no_keys_ask_for_none(locked: Shell) -> None:
    assert locked.run("config", "show").exit_code == 0
    assert "no daemon answers" in locked.fails("status")[1]


# --- init --------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(short_path: Path) -> Shell:
    """A home that does not exist yet."""
    return Shell(Home(short_path / "new"), {}, [])


@pytest.mark.parametrize("ledger", [False, True])
def test_init_encrypts_from_a_file(nowhere: Shell, secret: str, ledger: bool) -> None:
    command = ["ledger", "init"] if ledger else ["init"]
    result = nowhere.run(*command, "--words-from", "-", "--passphrase-file", secret, stdin=WORDS)
    assert result.exit_code == 0, result.stderr
    assert nowhere.home.seed_is_encrypted()
    shown = nowhere.json("id", "--passphrase-file", secret)
    assert shown["account"] == encode_id(ACCOUNT_PREFIX, KEYS.account.public)


def test_init_asks_twice_and_says_that_the_words_matter_more(nowhere: Shell, at_terminal: None) -> None:
    result = nowhere.run("init", "--passphrase", stdin="typed\ntyped\n")
    assert result.exit_code == 0
    assert nowhere.home.seed_is_encrypted()
    assert "nobody can help when the passphrase is forgotten" in result.stdout
    assert Home(nowhere.home.path, lambda: "typed").read_words()


def test_init_without_being_told_does_not_encrypt(nowhere: Shell, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(passphrase.FILE_VARIABLE, secret)
    assert nowhere.run("init").exit_code == 0
    assert not nowhere.home.seed_is_encrypted()


def test_a_passphrase_that_is_none_makes_no_home(nowhere: Shell, short_path: Path) -> None:
    empty = file_with(short_path / "empty", "")
    assert "the passphrase is empty" in nowhere.fails("init", "--passphrase-file", empty)[1]
    assert not nowhere.home.path.exists()
    assert "nobody can be asked for a new passphrase" in nowhere.fails("init", "--passphrase")[1]
    assert not nowhere.home.path.exists()
