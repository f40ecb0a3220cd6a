"""Configuration text to values: strict reading, flags on top, and where each value comes from. Spec N-4."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import tomli_w

from channelpay.home.config import (
    KINDS,
    LedgerConfig,
    NodeConfig,
    keys_of,
    meaning_of,
    rule_of,
    section_types,
    value_of,
)
from channelpay.home.layout import Home, HomeError

DEFAULT: Final = "default"
FLAG: Final = "command line"

C = TypeVar("C", NodeConfig, LedgerConfig)


class ConfigError(HomeError):
    """A configuration that cannot be used; the message names the file, the key and what is expected."""


@dataclass(frozen=True, slots=True)
class Loaded(Generic[C]):
    """A configuration in effect, and for every key where its value comes from: default, the file, or a flag."""

    config: C
    sources: dict[str, str]

    def plain(self, key: str) -> Any:
        """The value of a key as TOML and JSON write it."""
        rule = rule_of(dict(keys_of(type(self.config)))[key])
        return rule.dump(value_of(self.config, key))


def load_config(home: Home, kind: type[C], flags: Mapping[str, Any] | None = None) -> Loaded[C]:
    """The configuration of a home with `flags` (key to TOML value) over it; raises ConfigError or HomeError."""
    found = _parse(home.read_config(), str(home.config_file))
    wanted = _kind_name(kind)
    named = _kind_in(found, str(home.config_file))
    if named != wanted:
        raise ConfigError(f"{home.path} is the home of a {named}; this command needs the home of a {wanted} (--home)")
    return build(kind, found, str(home.config_file), flags)


def kind_of(home: Home) -> type[NodeConfig] | type[LedgerConfig]:
    """Whether this is the home of a node or of a ledger; raises ConfigError or HomeError."""
    return KINDS[_kind_in(_parse(home.read_config(), str(home.config_file)), str(home.config_file))]


def load_any(home: Home, flags: Mapping[str, Any] | None = None) -> Loaded[NodeConfig] | Loaded[LedgerConfig]:
    """The configuration of a home, whichever kind it is; raises ConfigError or HomeError."""
    if kind_of(home) is LedgerConfig:
        return load_config(home, LedgerConfig, flags)
    return load_config(home, NodeConfig, flags)


def build(kind: type[C], tables: Mapping[str, Any], where: str, flags: Mapping[str, Any] | None = None) -> Loaded[C]:
    """The configuration in parsed TOML tables; raises ConfigError (spec N-4)."""
    known = dict(keys_of(kind))
    given = {key: (value, where) for key, value in _flatten(kind, tables, where).items()}
    given |= {key: (value, FLAG) for key, value in (flags or {}).items()}
    values: dict[str, dict[str, Any]] = {section: {} for section in section_types(kind)}
    for key, (value, source) in given.items():
        if key not in known:
            raise ConfigError(f"{source}: unknown key {key!r}{_suggestion(key, known)}")
        section, _, name = key.partition(".")
        try:
            values[section][name] = rule_of(known[key]).load(value)
        except ValueError as error:
            raise ConfigError(f"{source}: {key}: {error}; expected {rule_of(known[key]).expected}") from None
    config = kind(**{section: table(**values[section]) for section, table in section_types(kind).items()})
    for key, problem in config.contradictions():
        raise ConfigError(f"{given[key][1] if key in given else where}: {key}: {problem}")
    return Loaded(config, {key: given[key][1] if key in given else DEFAULT for key in known})


def parse_flag(text: str) -> tuple[str, Any]:
    """(key, value) of a flag `--set policy.max_channels=10`; the value is TOML, or a bare text; raises ConfigError."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text!r}: write KEY=VALUE, such as policy.auto_accept=true")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def template(kind: type[NodeConfig] | type[LedgerConfig], given: Mapping[str, Any]) -> str:
    """The text of a new config.toml: `given` (key to TOML value) set, every other key as a comment."""
    known = dict(keys_of(kind))
    loaded: Loaded[Any] = build(kind, {}, "a new configuration", given)
    lines = [
        f"# Configuration of a channelpay {_kind_name(kind)}. A line that begins with # shows the default;",
        "# remove the # to change it. 'channelpay config check' tells whether the file is sound.",
        "",
        f'kind = "{_kind_name(kind)}"',
    ]
    section = ""
    for key, setting in known.items():
        table, _, name = key.partition(".")
        if table != section:
            section = table
            lines += ["", f"[{section}]"]
        line = f"{name} = {_toml(loaded.plain(key))}"
        lines += [f"# {meaning_of(setting)} ({rule_of(setting).expected})", line if key in given else f"# {line}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value on one line, as TOML writes it."""
    if type(value) is list:
        return f"[{', '.join(_toml(item) for item in value)}]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")


def _kind_name(kind: type[NodeConfig] | type[LedgerConfig]) -> str:
    return next(name for name, value in KINDS.items() if value is kind)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: no valid TOML: {error}") from None


def _kind_in(tables: Mapping[str, Any], where: str) -> str:
    kind = tables.get("kind")
    if type(kind) is not str or kind not in KINDS:
        raise ConfigError(f'{where}: kind: expected "node" or "ledger"')
    return kind


def _flatten(kind: type[NodeConfig] | type[LedgerConfig], tables: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Key to value, such as policy.auto_accept to True; raises ConfigError for what is no table or unknown."""
    sections = list(section_types(kind))
    found: dict[str, Any] = {}
    for section, table in tables.items():
        if section == "kind":
            continue
        if section not in sections:
            raise ConfigError(f"{where}: unknown key {section!r}{_suggestion(section, sections)}")
        if type(table) is not dict:
            raise ConfigError(f"{where}: {section}: expected a table, [{section}]")
        found |= {f"{section}.{name}": value for name, value in table.items()}
    return found


def _suggestion(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
