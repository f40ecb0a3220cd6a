"""A home, with or without a daemon that answers from a table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from channelpay.home import Home, NodeConfig
from channelpay.home.load import template
from cli_shell import WORDS, Shell
from fakedaemon import FakeDaemon


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="cp") as name:
        yield Path(name)


@pytest.fixture
def offline(short_path: Path) -> Shell:
    """A node's home without a daemon."""
    home = Home(short_path / "n")
    home.create(WORDS, template(NodeConfig, {}))
    return Shell(home, {}, [])


@pytest.fixture
def shell(offline: Shell) -> Iterator[Shell]:
    """A node's home with a daemon; tests put its answers into `answers`."""
    with FakeDaemon(offline.home.control_socket, offline.answers) as daemon:
        offline.calls = daemon.calls
        yield offline
