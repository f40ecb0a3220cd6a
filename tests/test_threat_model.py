"""The threat model names what exists: every test, every requirement, every actor; and it shows the newest results."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SPEC = ROOT / "spec"
CHAPTER = (SPEC / "18-threat-model.md").read_text("utf-8")
HEAD = ["threat", "mechanism", "test", "what remains"]
NOTHING_STOPS_IT = "nothing"


def tables(text: str) -> list[list[list[str]]]:
    """Every table of a text as rows of cells, its head first and the rule below that left out."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.M)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()] for table in found]


def section(heading: str) -> str:
    """What stands below a heading, to the next one of any level."""
    assert CHAPTER.count(f"\n{heading}\n") == 1, heading
    return re.split(r"\n##", CHAPTER.partition(f"\n{heading}\n")[2])[0]


def threats() -> list[list[str]]:
    found = [table for table in tables(CHAPTER) if table[0] == HEAD]
    return [row for table in found for row in table[2:]]


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_actor_has_its_threats() -> None:
    (actors,) = tables(section("## 18.2 Who there is"))
    headings = " ".join(re.findall(r"^### (.*)$", CHAPTER, re.M)).lower()
    for actor, *_ in actors[2:]:
        assert actor in headings
    assert len(threats()) > 40


@pytest.mark.parametrize("row", threats(), ids=lambda row: row[0][:40])
def test_a_threat_has_a_mechanism_a_test_and_a_rest(row: list[str]) -> None:
    threat, mechanism, tests, remains = row
    assert all((threat, mechanism, tests, remains))
    assert re.search(r"[A-Z]-\d+", mechanism) or mechanism == NOTHING_STOPS_IT
    named = re.findall(r"`([^`]+)`", tests)
    assert tests == ", ".join(f"`{name}`" for name in named)
    for name in named:
        file, _, function = name.partition("::")
        assert function in functions(ROOT / "tests" / file), name


def test_every_requirement_named_exists() -> None:
    defined = set()
    for chapter in SPEC.glob("*.md"):
        defined |= set(re.findall(r"^\*\*([A-Z]-\d+)\*\*", chapter.read_text("utf-8"), re.M))
    assert set(re.findall(r"\b([A-Z]-\d+)\b", CHAPTER)) - defined == set()


def test_the_results_shown_are_those_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    report = importlib.import_module("hostility.report")
    found = json.loads((SPEC / "results" / "hostile.json").read_text("utf-8"))
    assert report.markdown(found) in CHAPTER
    assert set(found["attacks"]) == {row.name for row in importlib.import_module("hostility.arena").ROWS}
    assert found["kept"]
    assert found["closes"]["channels"] == 2000
