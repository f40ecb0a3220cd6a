"""Writes the list of cases into spec/14-conformance.md, from the conformance kit itself.

scripts/make_cases            write
scripts/make_cases --check    write nothing; exit 1 if the chapter says something else
"""

from __future__ import annotations

import sys
from pathlib import Path

from channelpay.conformance.cases import all_cases

CHAPTER = Path(__file__).resolve().parent.parent / "spec" / "14-conformance.md"
BEGINS, ENDS = "<!-- cases begin -->\n", "<!-- cases end -->\n"


def listed() -> str:
    """The table of all cases."""
    rows = ["| case | tests | needs | shows |", "|---|---|---|---|"]
    for case in all_cases().values():
        waits = [f"{case.takes_s} s"] if case.takes_s else []
        needs = ", ".join([*sorted(case.needs), *waits])
        tests = " ".join(case.requirements)
        rows.append(f"| {case.name} | {tests} | {needs} | {case.about} |")
    return "\n".join(rows) + "\n"


def main(arguments: list[str]) -> int:
    text = CHAPTER.read_text()
    before, _, rest = text.partition(BEGINS)
    _, _, after = rest.partition(ENDS)
    wanted = f"{before}{BEGINS}{listed()}{ENDS}{after}"
    if wanted == text:
        return 0
    if arguments:
        print(f"{CHAPTER.name}: its list of cases differs from the kit's")
        return 1
    CHAPTER.write_text(wanted)
    print(f"{CHAPTER.name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
