"""The tables of spec/12-node.md are the code's own: configuration, reasons, exit codes, frames, methods, results."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from channelpay.cli.exits import Exit, exit_of_reason
from channelpay.errors import Reason
from channelpay.home.config import KINDS, keys_of, meaning_of, rule_of, value_of
from channelpay.home.load import template
from channelpay.messages import control
from channelpay.messages.ledger import AssetView
from channelpay.messages.schema import Record

TEXT = (Path(__file__).parents[2] / "spec" / "12-node.md").read_text("utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of every table row in `text`, heads and rules left out."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    rules = {index for index, row in enumerate(cells) if set("".join(row)) == {"-"}}
    return [row for index, row in enumerate(cells) if index not in rules and index + 1 not in rules]


def part(begin: str, end: str) -> str:
    """What stands between two texts."""
    return TEXT.partition(begin)[2].partition(end)[0]


@pytest.mark.parametrize(("kind", "begin"), [("node", "Of a node:"), ("ledger", "Of a ledger:")])
def test_every_configuration_key_is_described_as_it_is(kind: str, begin: str) -> None:
    config = KINDS[kind]
    listed = {row[0].strip("`"): row[1:] for row in rows(part(begin, "\n`"))}
    assert list(listed) == [key for key, _ in keys_of(config)]
    written = template(config, {}).splitlines()
    for key, setting in keys_of(config):
        default, expected, meaning = listed[key]
        assert f"# {key.partition('.')[2]} = {default.strip('`')}" in written
        assert (expected, meaning) == (rule_of(setting).expected, meaning_of(setting))
        assert rule_of(setting).load(rule_of(setting).dump(value_of(config(), key))) == value_of(config(), key)


def test_every_reason_is_listed_with_its_exit_code() -> None:
    listed = rows(part("**N-7**", "**N-8**"))
    assert [(reason, int(code)) for reason, code, _ in listed] == [(str(r), exit_of_reason(r)) for r in Reason]
    assert all(meaning for _, _, meaning in listed)


def test_every_exit_code_is_listed() -> None:
    assert [int(code) for code, _ in rows(part("**N-20**", "**N-21**"))] == [int(code) for code in Exit]


def described(heading: str) -> list[tuple[str, str]]:
    """(field, type) of the record under a heading."""
    assert TEXT.count(f"\n### {heading}\n") == 1, heading
    return [(row[0], row[1]) for row in rows(re.split(r"\n##", part(f"\n### {heading}\n", "\x00"))[0])]


def fields(kind: type[Record]) -> list[tuple[str, str]]:
    return [(name, field.expected) for name, field in kind._fields]


@pytest.mark.parametrize("kind", list(control.CONTROL_MESSAGES.values()), ids=lambda kind: kind.__name__)
def test_every_frame_is_described_as_it_is(kind: type[control.Message]) -> None:
    assert described(f"{kind.TYPE:02x} {kind.__name__}") == fields(kind)


@pytest.mark.parametrize("kind", list(control.METHODS.values()), ids=lambda kind: kind.NAME)
def test_every_method_is_described_as_it_is(kind: type[control.Method]) -> None:
    assert described(f"{kind.NAME}: {kind.__name__} -> {kind.RESULT.__name__}") == fields(kind)


RESULTS = [
    kind
    for _, kind in inspect.getmembers(control, inspect.isclass)
    if issubclass(kind, Record)
    and not issubclass(kind, control.Method | control.Message)
    and kind.__module__ == control.__name__
]


@pytest.mark.parametrize("kind", [AssetView, *RESULTS], ids=lambda kind: kind.__name__)
def test_every_result_is_described_as_it_is(kind: type[Record]) -> None:
    assert described(kind.__name__) == fields(kind)


def test_nothing_is_described_that_does_not_exist() -> None:
    messages = [f"{kind.TYPE:02x} {kind.__name__}" for kind in control.CONTROL_MESSAGES.values()]
    methods = [f"{kind.NAME}: {kind.__name__} -> {kind.RESULT.__name__}" for kind in control.METHODS.values()]
    assert sorted(re.findall(r"^### (.*)$", TEXT, re.M)) == sorted(
        [*messages, *methods, *(kind.__name__ for kind in [AssetView, *RESULTS])]
    )
