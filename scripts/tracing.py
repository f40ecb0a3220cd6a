"""Which requirement of spec/ has code, conformance cases and vectors, and which may lack one of them.

A requirement is a number that a chapter defines ("**S-11** ..."). It has code if a file of src/ names it ("spec S-11");
a case if one of the conformance kit's cases names it; a vector if a case of spec/vectors names it. What can have none
of one kind stands in spec/traceability.toml with the reason.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("code", "conformance", "vector")

_DEFINITION = re.compile(r"^\*\*([A-Z]-\d+)\*\*", re.MULTILINE)
_NAMED = re.compile(r"[Ss]pec:?\s+((?:[A-Z]-\d+(?:,? and |, | to )?)+)")
_NUMBER = re.compile(r"[A-Z]-\d+")

Found = dict[str, set[str]]
"""Requirement -> where it was found."""


@dataclass(frozen=True, slots=True)
class Exempt:
    """Requirements that have nothing of one kind, and why; `pending`: only as long as it is being written."""

    kind: str
    requirements: tuple[str, ...]
    reason: str
    pending: bool = False


@dataclass(slots=True)
class Trace:
    """All requirements in order, what was found for each kind, and what stands in the list."""

    requirements: list[str]
    found: dict[str, Found]
    exempt: list[Exempt] = field(default_factory=list)

    def listed(self, kind: str, *, pending: bool | None = None) -> set[str]:
        rows = [row for row in self.exempt if row.kind == kind and pending in (None, row.pending)]
        return {number for row in rows for number in row.requirements}

    def missing(self, kind: str) -> list[str]:
        return [number for number in self.requirements if not self.found[kind].get(number)]

    def pending(self, kind: str) -> list[str]:
        """Listed as not yet written, and indeed not there."""
        return [number for number in self.missing(kind) if number in self.listed(kind, pending=True)]

    def problems(self) -> Iterator[str]:
        """What is wrong, each with what to do about it."""
        yield from self._wrong_rows()
        for kind in KINDS:
            listed = self.listed(kind)
            for number in self.missing(kind):
                if number not in listed:
                    yield f"{number} has no {kind}: write one, or list it in spec/traceability.toml with the reason"
            for number in sorted(self.listed(kind, pending=False)):
                if where := self.found[kind].get(number):
                    yield f"{number} is listed without {kind}, but {min(where)} has it: take it off the list"
            for number in sorted(self.found[kind].keys() - set(self.requirements)):
                yield f"{number} is named by {min(self.found[kind][number])}, but no chapter defines it"

    def _wrong_rows(self) -> Iterator[str]:
        seen: set[tuple[str, str]] = set()
        for row in self.exempt:
            if row.kind not in KINDS:
                yield f"the list names the kind {row.kind!r}; there are {', '.join(KINDS)}"
            if not row.reason.strip():
                yield f"the list gives no reason for {row.kind} of {', '.join(row.requirements)}"
            for number in row.requirements:
                if number not in self.requirements:
                    yield f"the list names {number}, which no chapter defines"
                if (row.kind, number) in seen:
                    yield f"the list names {number} twice for {row.kind}"
                seen.add((row.kind, number))


# --- Reading -----------------------------------------------------------------------------------


def read(root: Path = ROOT) -> Trace:
    """The trace of the project as it is."""
    found = {
        "code": code(root / "src"),
        "conformance": conformance(root / "src"),
        "vector": vectors(root / "spec" / "vectors"),
    }
    return Trace(defined(root / "spec"), found, exempt(root / "spec" / "traceability.toml"))


def defined(spec: Path) -> list[str]:
    """Every number that a chapter defines, by chapter and number."""
    numbers = [found for path in sorted(spec.glob("*.md")) for found in _DEFINITION.findall(path.read_text())]
    order = list(dict.fromkeys(number[0] for number in numbers))
    return sorted(numbers, key=lambda number: (order.index(number[0]), int(number[2:])))


def code(source: Path) -> Found:
    """Files of src/ that name a requirement as `spec X-n`; the conformance kit tests, and obeys nothing."""
    found: Found = defaultdict(set)
    for path in sorted(source.rglob("*.py")):
        where = path.relative_to(source)
        if "conformance" not in where.parts:
            for number in named(path.read_text()):
                found[number].add(str(where))
    return dict(found)


def named(text: str) -> Iterable[str]:
    """The numbers that a file names after the word `spec`; of a range its two ends."""
    unbroken = re.sub(r"\s*\n\s*(?:#\s*)?", " ", text)
    return (number for group in _NAMED.findall(unbroken) for number in _NUMBER.findall(group))


def conformance(source: Path) -> Found:
    """Names of the kit's cases by the requirements that they test."""
    if not (source / "channelpay" / "conformance" / "cases").is_dir():
        return {}
    importlib.import_module("channelpay.conformance.cases")
    cases: dict[str, Any] = importlib.import_module("channelpay.conformance.case").CASES
    found: Found = defaultdict(set)
    for name, case in cases.items():
        for number in case.requirements:
            found[number].add(name)
    return dict(found)


def vectors(folder: Path) -> Found:
    """Files of vectors, with the cases in them, by the requirements that they show."""
    found: Found = defaultdict(set)
    for path in sorted(folder.glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            for number in case["requirements"]:
                found[number].add(f"{path.name}: {case['kind']}: {case['name']}")
    return dict(found)


def exempt(path: Path) -> list[Exempt]:
    """The committed list."""
    rows = tomllib.loads(path.read_text())["exempt"]
    return [Exempt(r["kind"], tuple(r["requirements"]), r["reason"], r.get("pending", False)) for r in rows]


# --- Telling -----------------------------------------------------------------------------------


def table(trace: Trace) -> Iterator[str]:
    """One line for each requirement: how much there is of each kind, `-` for none, `pending` for not yet."""
    yield f"{'':8}" + "".join(f"{kind:>12}" for kind in KINDS)
    for number in trace.requirements:
        cells = []
        for kind in KINDS:
            count = len(trace.found[kind].get(number, ()))
            none = "pending" if number in trace.pending(kind) else "-"
            cells.append(f"{count or none:>12}")
        yield f"{number:8}" + "".join(cells)


def summary(trace: Trace) -> Iterator[str]:
    """One line for each kind."""
    total = len(trace.requirements)
    for kind in KINDS:
        missing, pending = len(trace.missing(kind)), len(trace.pending(kind))
        yield f"{kind}: {total - missing} of {total} requirements; {missing - pending} need none, {pending} pending"


def main(arguments: list[str]) -> int:
    """Print the table (not with --brief), the totals and what is wrong; 1 if something is."""
    trace = read()
    if "--brief" not in arguments:
        print("\n".join(table(trace)))
    print("\n".join(summary(trace)))
    problems = list(trace.problems())
    print("".join(f"{problem}\n" for problem in problems), end="")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
