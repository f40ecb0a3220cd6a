"""backup create, verify, restore. Spec N-25."""

from __future__ import annotations

from pathlib import Path

import pytest

from channelpay.cli import passphrase
from channelpay.home import Home, NodeConfig
from channelpay.home.load import template
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, encode_id
from channelpay.node.ledger_link import RESTORED
from channelpay.store.node import NodeStore, create_node_store
from cli_shell import KEYS, OTHER, WORDS, Shell

LEDGER_ID = OTHER.identity.public
ADDRESS = encode_id(LEDGER_PREFIX, LEDGER_ID) + "@127.0.0.1:1"


@pytest.fixture
def node(short_path: Path) -> Shell:
    """A home with a store."""
    home = Home(short_path / "n")
    home.create(WORDS, template(NodeConfig, {"ledger.address": ADDRESS}))
    create_node_store(home.node_db, KEYS.identity.public, LEDGER_ID)
    return Shell(home, {}, [])


@pytest.fixture
def made(node: Shell, short_path: Path) -> Path:
    """A backup of it."""
    directory = short_path / "backup"
    assert node.run("backup", "create", str(directory)).exit_code == 0
    return directory


def test_create_says_whose_it_is_and_what_is_not_in_it(node: Shell, short_path: Path) -> None:
    directory = short_path / "b"
    result = node.run("backup", "create", str(directory))
    assert result.exit_code == 0
    assert f"node    {encode_id(NODE_PREFIX, KEYS.identity.public)}" in result.stdout
    assert "The 24 words and config.toml are not in it." in result.stdout
    shown = node.json("backup", "verify", str(directory))
    assert shown["kind"] == "node"
    assert shown["ledger"] == encode_id(LEDGER_PREFIX, LEDGER_ID)
    assert "whole" in node.run("backup", "verify", str(directory)).stdout


def test_create_needs_no_passphrase(node: Shell, short_path: Path) -> None:
    node.home.replace_seed(WORDS, "secret")
    assert node.run("backup", "create", str(short_path / "b")).exit_code == 0


def test_create_never_overwrites(node: Shell, made: Path) -> None:
    assert node.fails("backup", "create", str(made)) == (
        2, f"{made} exists already; a backup is made in a new directory",
    )  # fmt: skip


def test_without_a_store_there_is_nothing_to_copy(node: Shell, short_path: Path) -> None:
    node.home.node_db.unlink()
    code, text = node.fails("backup", "create", str(short_path / "b"))
    assert (code, text) == (1, f"{node.home.node_db} does not exist")
    assert not (short_path / "b").exists()


def test_verify_needs_no_home(made: Path, short_path: Path) -> None:
    assert Shell(Home(short_path / "nowhere"), {}, []).json("backup", "verify", str(made))["kind"] == "node"
    (made / "node.db").write_bytes(b"x")
    code, text = Shell(Home(short_path / "nowhere"), {}, []).fails("backup", "verify", str(made))
    assert (code, "is damaged" in text) == (1, True)


def test_restore_on_a_new_machine(made: Path, short_path: Path) -> None:
    shell = Shell(Home(short_path / "new"), {}, [])
    assert shell.run("init", "--words-from", "-", "--ledger", ADDRESS, stdin=WORDS).exit_code == 0
    result = shell.run("backup", "restore", str(made))
    assert result.exit_code == 0
    assert "it pays and is paid again two hours after" in result.stdout.replace("\n", " ")
    store = NodeStore(shell.home.node_db, KEYS.identity.public, LEDGER_ID)
    assert store.restored_until() == RESTORED
    store.close()


def test_restore_keeps_what_was_there(node: Shell, made: Path) -> None:
    code, text = node.fails("backup", "restore", str(made))
    assert (code, text) == (
        2,
        f"{node.home.node_db} exists; --replace puts the backup in its place and keeps it beside",
    )
    kept = Path(node.json("backup", "restore", str(made), "--replace")["kept"])
    assert kept.exists()
    assert kept.name.startswith("node.db.replaced-")
    assert Home(node.home.path).keyring()  # every mode is as it must be


def test_restore_beside_a_running_daemon_is_refused(node: Shell, made: Path) -> None:
    store = NodeStore(node.home.node_db, KEYS.identity.public, LEDGER_ID)
    code, text = node.fails("backup", "restore", str(made), "--replace")
    store.close()
    assert code == 1
    assert "is used by process" in text


def test_restore_needs_the_same_seed_and_ledger(made: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "someone_is_there", lambda: False)
    other = Shell(Home(short_path / "o"), {}, [])
    assert other.run("init", "--ledger", ADDRESS).exit_code == 0
    code, text = other.fails("backup", "restore", str(made))
    assert (code, "not of this home" in text) == (2, True)
    none = Shell(Home(short_path / "p"), {}, [])
    assert none.run("init", "--words-from", "-", stdin=WORDS).exit_code == 0
    code, text = none.fails("backup", "restore", str(made))
    assert (code, "ledger.address is empty" in text) == (2, True)


def test_a_ledgers_books(short_path: Path) -> None:
    shell = Shell(Home(short_path / "l"), {}, [])
    assert shell.run("ledger", "init").exit_code == 0
    assert shell.json("backup", "create", str(short_path / "b"))["kind"] == "ledger"
    shell.home.ledger_db.unlink()
    result = shell.run("backup", "restore", str(short_path / "b"))
    assert result.exit_code == 0
    assert "is gone: whoever got an answer since then has to be told" in result.stdout
    assert shell.json("ledger", "audit")["balanced"]
