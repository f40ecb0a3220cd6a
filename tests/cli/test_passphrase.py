"""Where a passphrase comes from, and what is refused. Spec N-24."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import click
import pytest

from channelpay.cli import passphrase as source
from channelpay.cli.passphrase import current_passphrase, new_passphrase, read_passphrase
from channelpay.home import HomeError
from channelpay.limits import MAX_PASSPHRASE_BYTES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "passphrase"
    made.write_text("secret\n")
    made.chmod(0o600)
    return made


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Somebody sits at a terminal and types "typed"; how they were asked."""
    asked: list[dict[str, object]] = []

    def prompt(text: str, **options: object) -> str:
        asked.append({"text": text, **options})
        return "typed"

    monkeypatch.setattr(source, "someone_is_there", lambda: True)
    monkeypatch.setattr(click, "prompt", prompt)
    return asked


def written(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("data", "passphrase"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b" two words \n", " two words "),
        (b"line\n\n", "line\n"),
        ("\N{SNOWMAN}\n".encode(), "\N{SNOWMAN}"),
        (b"\xff\n", "\udcff"),
    ],
)
def test_one_line_feed_at_the_end_is_not_part_of_it(tmp_path: Path, data: bytes, passphrase: str) -> None:
    assert read_passphrase(written(tmp_path / "f", data)) == passphrase


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_read_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(HomeError, match=f"has mode {mode:04o}: others may read the passphrase. Run: chmod 600"):
        read_passphrase(file)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o644)  # modes of a pipe tell nothing about who reads it first
    writer = threading.Thread(target=pipe.write_bytes, args=(b"secret\n",))
    writer.start()  # each end waits for the other to open
    assert read_passphrase(pipe) == "secret"
    writer.join()


def test_what_is_no_passphrase_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="nowhere cannot be read for the passphrase: No such file"):
        read_passphrase(tmp_path / "nowhere")
    with pytest.raises(HomeError, match="cannot be read for the passphrase: Is a directory"):
        read_passphrase(tmp_path)
    with pytest.raises(HomeError, match="/empty: the passphrase is empty"):
        read_passphrase(written(tmp_path / "empty", b"\n"))
    assert len(read_passphrase(written(tmp_path / "long", b"x" * MAX_PASSPHRASE_BYTES + b"\r\n"))) == 1024
    with pytest.raises(HomeError, match="/longer: a passphrase of 1025 bytes"):
        read_passphrase(written(tmp_path / "longer", b"x" * (MAX_PASSPHRASE_BYTES + 1)))


def test_the_option_comes_first_then_the_environment_then_systemd_then_the_person(
    file: Path, tmp_path: Path, somebody: list[dict[str, object]]
) -> None:
    named = written(tmp_path / "named", b"of the environment")
    written(tmp_path / source.CREDENTIAL, b"of systemd", 0o440)
    environ = {source.FILE_VARIABLE: str(named), source.CREDENTIALS_VARIABLE: str(tmp_path)}
    assert current_passphrase(file, environ) == "secret"
    assert current_passphrase(None, environ) == "of the environment"
    del environ[source.FILE_VARIABLE]
    assert current_passphrase(None, environ) == "of systemd"
    (tmp_path / source.CREDENTIAL).unlink()
    assert not somebody
    assert current_passphrase(None, environ) == "typed"
    assert somebody == [{"text": "Passphrase of the seed", "hide_input": True, "err": True}]


def test_a_new_one_is_asked_for_twice(file: Path, somebody: list[dict[str, object]]) -> None:
    assert new_passphrase(file) == "secret"
    assert new_passphrase(None) == "typed"
    assert [(row["confirmation_prompt"], row["hide_input"]) for row in somebody] == [(True, True)]


def test_when_nobody_can_be_asked_the_other_ways_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "someone_is_there", lambda: False)
    with pytest.raises(HomeError, match=r"give --passphrase-file, \$CHANNELPAY_PASSPHRASE_FILE, or systemd's"):
        current_passphrase(None, {})
    with pytest.raises(HomeError, match="nobody can be asked for a new passphrase: give it in a file"):
        new_passphrase(None)
