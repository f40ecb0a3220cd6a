"""The specification, the vectors and the code say the same."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from channelpay import limits, statements
from channelpay.errors import ErrorCode
from channelpay.messages import peer

ROOT = Path(__file__).resolve().parent.parent
SPEC = ROOT / "spec"
SCRIPTS = ROOT / "scripts"
CHAPTERS = {
    "M": "02-money.md", "S": "03-signed-bytes.md", "T": "04-transport.md", "W": "05-messages.md", "C": "06-channel.md",
    "X": "07-closing.md", "L": "08-ledger.md", "E": "09-errors.md", "N": "12-node.md",
}  # fmt: skip
NUMBER = re.compile(r"(?<![\w-])([MSTWCXLEN])-(\d+)(?![\w-])")
DEFINITION = re.compile(r"^\*\*([A-Z])-(\d+)\*\*", re.MULTILINE)
VECTORS = sorted((SPEC / "vectors").glob("*.json"))


def definitions(text: str) -> list[tuple[str, str]]:
    return DEFINITION.findall(text)


DEFINED = {key for path in SPEC.glob("*.md") for key in definitions(path.read_text())}


def tables(text: str) -> list[list[list[str]]]:
    """Every table of a chapter as rows of cells, its header first and its rule left out."""
    found: list[list[list[str]]] = []
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


def table(chapter: str, *header: str) -> list[list[str]]:
    """The rows of the one table with this header."""
    found = [rows for rows in tables((SPEC / chapter).read_text()) if rows[0] == list(header)]
    assert len(found) == 1
    return found[0][1:]


# --- Requirements ------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", CHAPTERS)
def test_every_requirement_is_defined_once_and_in_its_chapter(prefix: str) -> None:
    chapter = SPEC / CHAPTERS[prefix]
    if chapter.exists():
        found = definitions(chapter.read_text())
        assert found
        assert len(set(found)) == len(found)
    elsewhere = [p.name for p in SPEC.glob("*.md") if p != chapter and prefix in dict(definitions(p.read_text()))]
    assert elsewhere == []


def missing(path: Path) -> list[str]:
    """Requirements named in a file that its chapter, if it is written, does not define."""
    named = {(p, n) for p, n in NUMBER.findall(path.read_text()) if (SPEC / CHAPTERS[p]).exists()}
    return sorted(f"{path.name}: {p}-{n}" for p, n in named - DEFINED)


def test_every_requirement_named_in_the_code_exists() -> None:
    files = sorted((ROOT / "src").rglob("*.py"))
    assert [found for path in files for found in missing(path)] == []


def test_every_requirement_named_in_the_specification_and_its_scripts_exists() -> None:
    files = [
        *sorted(SPEC.glob("*.md")),
        *sorted(SCRIPTS.glob("*_vectors")),
        *sorted(SCRIPTS.glob("ver*/*.py")),
        *sorted(SCRIPTS.glob("vec*/*.py")),
    ]
    assert [found for path in files for found in missing(path)] == []


def test_a_number_that_does_not_exist_is_found(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("# spec M-1, spec M-999; UTF-8, SHA-256, X-ray\n")
    assert missing(file) == ["code.py: M-999"]


def test_every_link_of_the_specification_leads_somewhere_or_to_a_chapter() -> None:
    planned = {*CHAPTERS.values()}
    for path in SPEC.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            assert target in planned or (SPEC / target).exists(), f"{path.name}: {target}"


# --- Tables ------------------------------------------------------------------------------------


def spec_name(kind: type[peer.Message]) -> str:
    """WithdrawAsk is WITHDRAW-ASK; RECORDS is PastRecords in the code, where Records is a field's type."""
    name = "Records" if kind is peer.PastRecords else kind.__name__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).upper()


def test_error_codes() -> None:
    written = [row[:3] for row in table("09-errors.md", "code", "name", "effect", "meaning")]
    assert written == [[str(int(code)), code.name.lower(), code.effect.value] for code in ErrorCode]


def test_message_types() -> None:
    written = [row[:2] for row in table("05-messages.md", "type", "message", "between")]
    assert written == [[f"{number:02x}", spec_name(kind)] for number, kind in peer.MESSAGES.items()]


def test_fields_of_every_message() -> None:
    sections = re.split(r"^### ", (SPEC / "05-messages.md").read_text(), flags=re.MULTILINE)[1:]
    written = {s.partition("\n")[0]: [row[:2] for row in tables(s)[0][1:]] for s in sections}
    inside = (peer.SignedState, peer.OpenWithdrawal, peer.OpenFinal, peer.PastBatch)
    kinds = {f"{number:02x} {spec_name(kind)}": kind for number, kind in peer.MESSAGES.items()}
    kinds |= {kind.__name__: kind for kind in inside}
    assert written == {name: [[n, f.expected] for n, f in kind._fields] for name, kind in kinds.items()}


def test_bounds() -> None:
    chapters = set()
    for path in SPEC.glob("*.md"):
        for rows in tables(path.read_text()):
            if rows[0][:2] == ["bound", "value"]:
                chapters.add(path.name[:2])
                for name, value, *_ in rows[1:]:
                    assert (name, int(value)) == (name, getattr(limits, name)), path.name
    assert chapters == {"05", "06", "07", "08"}


def test_tags() -> None:
    written = [tag for tag, _ in table("03-signed-bytes.md", "tag", "statement")]
    assert sorted(written) == sorted(v.decode() for name, v in vars(statements).items() if name.startswith("TAG_"))


def test_offsets_of_statements_add_up() -> None:
    checked = 0
    for rows in tables((SPEC / "03-signed-bytes.md").read_text()):
        if rows[0] == ["offset", "width", "field"]:
            checked += 1
            for (offset, width, _), after in pairwise(rows[1:]):
                assert int(offset) + int(width) == int(after[0])
    assert checked == 13


# --- Vectors -----------------------------------------------------------------------------------


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_vectors_and_the_example_on_disk_are_what_the_code_makes() -> None:
    done = run("make_vectors", "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_vectors_hold_for_an_implementation_of_their_own() -> None:
    done = run("verify_vectors")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"(\d+) cases, 0 wrong\n", done.stdout)
    assert int(done.stdout.split()[0]) >= 400


def test_the_verifier_imports_nothing_of_ours() -> None:
    files = list((SCRIPTS / "verifier").glob("*.py"))
    assert len(files) > 5
    for file in files:
        assert not re.search(r"^\s*(from|import) (channelpay|vectors)", file.read_text(), re.MULTILINE), file.name


def cases_of(path: Path) -> list[Any]:
    found: list[Any] = json.loads(path.read_text())["cases"]
    return found


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_verifier_notices_every_case_that_is_wrong(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    judge = importlib.import_module("verifier.cases").judge
    for case in cases_of(path):
        assert judge(case) is None
        for changed in spoiled(case):
            assert judge(changed) is not None, changed["name"]


def spoiled(case: Any) -> list[Any]:
    """The case with another verdict: each text of what is expected changed in one character, or another error."""
    if "error" in case:
        return [{**case, "error": "another"}]
    return [{**case, "expect": expect} for expect in changes(case["expect"])]


def changes(value: Any) -> Iterator[Any]:
    if isinstance(value, str):
        yield value[:-1] + ("1" if value[-1:] == "0" else "0")
    elif isinstance(value, dict):
        yield from ({**value, key: changed} for key in value for changed in changes(value[key]))
    elif isinstance(value, list) and any(" " in item for item in value if isinstance(item, str)):
        yield from ([changed, *value[1:]] for changed in changes(value[0]))  # bytes, and what they mean to people
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from ([*value[:index], changed, *value[index + 1 :]] for changed in changes(item))


def test_cases_have_names_of_their_own_and_one_verdict() -> None:
    for path in VECTORS:
        cases = cases_of(path)
        names = [(case["kind"], case["name"]) for case in cases]
        assert len(set(names)) == len(names)
        assert all(("expect" in case) != ("error" in case) for case in cases)


def test_every_error_of_a_case_is_one_of_its_table() -> None:
    codes = {name for _, name, *_ in table("09-errors.md", "code", "name", "effect", "meaning")}
    refusals = {name for _, name, _ in table("08-ledger.md", "outcome", "name", "meaning")}
    without_code = {"key", "signature", "amount", "address"}
    for path in VECTORS:
        for case in cases_of(path):
            of_ledger = case["kind"] in ("ledger operation", "request frame", "join")
            known = refusals if of_ledger else codes | without_code
            assert case.get("error") in {None} | known, case["name"]


def test_there_are_as_many_invalid_cases_as_valid_ones() -> None:
    cases = [case for path in VECTORS for case in cases_of(path)]
    assert len(cases) >= 1000
    assert 2 * sum("error" in case for case in cases) >= len(cases)


def test_every_case_names_requirements_that_exist() -> None:
    defined = {f"{prefix}-{number}" for prefix, number in DEFINED}
    for path in VECTORS:
        for case in cases_of(path):
            assert case["requirements"], case["name"]
            assert set(case["requirements"]) <= defined, case["name"]


def test_every_vector_file_is_listed_with_its_kinds() -> None:
    files = {f"{path.name}": sorted({case["kind"] for case in cases_of(path)}) for path in VECTORS}
    listed = {name: sorted(kinds.split(", ")) for name, _, kinds in table("README.md", "file", "cases", "kinds")}
    assert listed == files
