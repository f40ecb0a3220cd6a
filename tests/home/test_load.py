"""Configuration files: strict, with flags on top, and every value knows where it comes from. Spec N-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from channelpay.home.config import KINDS, LedgerConfig, NodeConfig, keys_of, value_of
from channelpay.home.layout import Home, HomeError
from channelpay.home.load import ConfigError, build, kind_of, load_any, load_config, parse_flag, template
from channelpay.home.rules import HostPort


def home_with(path: Path, text: str) -> Home:
    (path / "config.toml").write_text(text, "utf-8")
    return Home(path)


@pytest.mark.parametrize("kind", list(KINDS.values()))
def test_a_new_file_shows_every_default_and_changes_none(tmp_path: Path, kind: type[Any]) -> None:
    text = template(kind, {})
    loaded = load_config(home_with(tmp_path, text), kind)
    assert loaded.config == kind()
    assert set(loaded.sources.values()) == {"default"}
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line and not line.endswith(")") else line for line in text.splitlines()
    )
    shown = load_config(home_with(tmp_path, uncommented), kind)
    assert shown.config == kind()
    assert {key for key, source in shown.sources.items() if source != "default"} == {key for key, _ in keys_of(kind)}


def test_given_values_are_set_in_the_new_file(tmp_path: Path) -> None:
    text = template(NodeConfig, {"node.listen": ["0.0.0.0:9735", "[::1]:0"], "policy.auto_accept": True})
    assert 'listen = ["0.0.0.0:9735", "[::1]:0"]\n' in text
    loaded = load_config(home_with(tmp_path, text), NodeConfig)
    assert loaded.config.node.listen == (HostPort("0.0.0.0", 9735), HostPort("::1", 0))
    assert loaded.config.policy.auto_accept is True
    assert loaded.plain("node.listen") == ["0.0.0.0:9735", "[::1]:0"]
    assert loaded.sources["policy.auto_accept"] == str(tmp_path / "config.toml")
    assert loaded.sources["policy.assets"] == "default"


def test_flags_lie_over_the_file(tmp_path: Path) -> None:
    home = home_with(tmp_path, 'kind = "node"\n[policy]\nmax_channels = 5\nmax_channels_per_peer = 2\n')
    loaded = load_config(home, NodeConfig, {"policy.max_channels": 7})
    assert loaded.config.policy.max_channels == 7
    assert loaded.config.policy.max_channels_per_peer == 2
    assert loaded.sources["policy.max_channels"] == "command line"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('kind = "node"\n[policy]\nauto_acept = true', "unknown key 'policy.auto_acept'; did you mean 'policy.auto"),
        ('kind = "node"\n[polcy]\nx = 1', "unknown key 'polcy'; did you mean 'policy'?"),
        ('kind = "node"\nzzz = 1', "unknown key 'zzz'; known are node, ledger"),
        ('kind = "node"\npolicy = 1', "policy: expected a table, [policy]"),
        ('kind = "node"\n[policy]\nauto_accept = "yes"', "policy.auto_accept: this is a text; expected true or false"),
        ('kind = "node"\n[channel]\nwindow_s = 9', "channel.window_s: 9 is outside; expected an integer 10 .. 2592000"),
        ('kind = "node"\n[limits]\nmax_unacked = 0', "limits.max_unacked: 0 is outside; expected an integer 1 .."),
        (
            'kind = "node"\n[policy]\nmin_window_s = 100\nmax_window_s = 50',
            "policy.min_window_s: 100 is above max_window_s = 50",
        ),
        (
            'kind = "node"\n[policy]\nmin_deposit = ["10 USD"]\nmax_deposit = ["9.99 USD"]',
            "policy.min_deposit: 10 USD is above max_deposit = 9.99 USD",
        ),
        ('kind = "node"\n[policy', "no valid TOML: "),
        ('kind = "node"\nkind = "node"', "no valid TOML: "),
        ('kind = "tower"', 'kind: expected "node" or "ledger"'),
        ("", 'kind: expected "node" or "ledger"'),
        ("kind = []", 'kind: expected "node" or "ledger"'),
    ],
)
def test_a_bad_file_is_refused_naming_file_key_and_what_is_expected(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(home_with(tmp_path, text), NodeConfig)
    assert str(caught.value).startswith(str(tmp_path / "config.toml") + ": " + problem)


def test_a_ledger_whose_windows_contradict_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"command line: ledger.min_window_s: 3000 is above max_window_s = 20"):
        build(LedgerConfig, {}, "file", {"ledger.min_window_s": 3000, "ledger.max_window_s": 20})


def test_a_bad_flag_is_told_apart_from_the_file() -> None:
    with pytest.raises(ConfigError, match=r"^command line: log.level: 'loud' is none of them"):
        build(NodeConfig, {}, "file", {"log.level": "loud"})
    with pytest.raises(ConfigError, match=r"^command line: unknown key 'log.levle'; did you mean 'log.level'"):
        build(NodeConfig, {}, "file", {"log.levle": "info"})


def test_the_home_of_another_kind_is_refused(tmp_path: Path) -> None:
    home = home_with(tmp_path, 'kind = "ledger"')
    assert kind_of(home) is LedgerConfig
    assert load_any(home).config == LedgerConfig()
    with pytest.raises(ConfigError, match="is the home of a ledger; this command needs the home of a node"):
        load_config(home, NodeConfig)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="Make one with 'channelpay init'"):
        load_config(Home(tmp_path), NodeConfig)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("policy.auto_accept=true", ("policy.auto_accept", True)),
        ("policy.max_channels = 3", ("policy.max_channels", 3)),
        ("log.level=debug", ("log.level", "debug")),
        ('node.listen=["a:1"]', ("node.listen", ["a:1"])),
        ("node.advertise=a.example:5", ("node.advertise", "a.example:5")),
        ("node.advertise=", ("node.advertise", "")),
    ],
)
def test_flags_are_toml_or_bare_text(text: str, expected: tuple[str, Any]) -> None:
    assert parse_flag(text) == expected


def test_a_flag_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="write KEY=VALUE"):
        parse_flag("policy.auto_accept")


def test_others_connect_to_the_advertised_place_or_the_first_listened_on() -> None:
    assert build(NodeConfig, {}, "file").config.reachable_at == HostPort("127.0.0.1", 7668)
    advertised = build(NodeConfig, {}, "file", {"node.advertise": "pay.example:9"}).config
    assert advertised.reachable_at == HostPort("pay.example", 9)
    assert build(NodeConfig, {}, "file", {"node.listen": ["0.0.0.0:9"]}).config.reachable_at is None
    assert build(NodeConfig, {}, "file", {"node.listen": ["a.example:0"]}).config.reachable_at is None
    assert build(LedgerConfig, {}, "file").config.reachable_at == HostPort("127.0.0.1", 7669)
    assert build(LedgerConfig, {}, "file", {"ledger.listen": ["[::]:9"]}).config.reachable_at is None
    assert value_of(advertised, "node.advertise") == HostPort("pay.example", 9)
