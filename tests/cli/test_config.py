"""config show, check, path. Spec N-4."""

from __future__ import annotations

import pytest

from channelpay.home import NodeConfig
from channelpay.home.config import keys_of
from cli_shell import Shell


def test_show_tells_each_value_and_its_origin(offline: Shell) -> None:
    offline.home.config_file.write_text('kind = "node"\n[policy]\nauto_accept = true\nassets = ["USD", "EUR"]\n')
    shown = offline.json("config", "show", "--set", "log.level=debug")
    file = str(offline.home.config_file)
    assert (shown["kind"], shown["file"]) == ("node", file)
    assert set(shown["values"]) == {key for key, _ in keys_of(NodeConfig)}
    assert shown["values"]["policy.auto_accept"] == {"value": True, "from": file}
    assert shown["values"]["policy.assets"] == {"value": ["USD", "EUR"], "from": file}
    assert shown["values"]["log.level"] == {"value": "debug", "from": "command line"}
    assert shown["values"]["node.advertise"] == {"value": "", "from": "default"}
    lines = [line.split() for line in offline.run("config", "show").stdout.splitlines()]
    assert lines[0] == ["KEY", "VALUE", "FROM"]
    assert ["policy.auto_accept", "true", file] in lines
    assert ["policy.assets", "USD,", "EUR", file] in lines
    assert ["node.advertise", "-", "default"] in lines


def test_show_of_a_ledger(offline: Shell) -> None:
    offline.home.config_file.write_text('kind = "ledger"\n[ledger]\nmin_deposit = 5\n')
    shown = offline.json("config", "show")
    assert shown["kind"] == "ledger"
    assert shown["values"]["ledger.min_deposit"]["value"] == 5


def test_check_of_a_sound_home(offline: Shell) -> None:
    assert offline.run("config", "check").stdout == f"{offline.home.config_file}: ok\n"
    assert offline.json("config", "check") == {"ok": True, "file": str(offline.home.config_file)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "node"\n[policy]\nauto_acept = true\n', "unknown key 'policy.auto_acept'; did you mean"),
        ('kind = "node"\n[channel]\nmax_batch = 5000\n', "5000 is outside; expected an integer 1 .. 4096"),
        ("kind = node\n", "no valid TOML"),
    ],
)
def test_check_says_what_is_wrong(offline: Shell, text: str, message: str) -> None:
    offline.home.config_file.write_text(text)
    code, told = offline.fails("config", "check")
    assert code == 2
    assert told.startswith(f"{offline.home.config_file}: ")
    assert message in told


def test_check_looks_at_the_seed_too(offline: Shell) -> None:
    offline.home.seed_file.chmod(0o640)
    code, told = offline.fails("config", "check")
    assert code == 2
    assert "seed has mode 0640" in told


def test_check_judges_flags(offline: Shell) -> None:
    assert offline.fails("config", "check", "--set", "log.level=loud")[1].startswith("command line: log.level: 'loud'")


def test_path(offline: Shell) -> None:
    assert offline.run("config", "path").stdout == f"{offline.home.config_file}\n"
    assert offline.json("config", "path") == {"file": str(offline.home.config_file)}
