"""Writes spec/vectors/*.json and the worked example of spec/05-messages.md, the same bytes every time.

    scripts/make_vectors            write
    scripts/make_vectors --check    write nothing; exit 1 if something on disk differs

A vector file is {"about", "cases"}. A case has a name, a kind, the requirements that it shows, an input, and either
`expect` or `error`. Integers are decimal strings, bytes are hexadecimal as spec/README.md says, and a value inside a
message is {"uint": ...}, {"bytes": ...}, a string, null or an array. scripts/verify_vectors checks every file without
channelpay.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from vectors import requirements
from vectors.books import operation_cases
from vectors.common import Case
from vectors.example import example, example_text
from vectors.handshake import handshake_cases
from vectors.money import amount_cases, batch_cases
from vectors.requests import ledger_cases
from vectors.settlement import settlement_cases
from vectors.signing import id_cases, key_cases
from vectors.statements import statement_cases
from vectors.wire import codec_cases, message_cases

SPEC = Path(__file__).resolve().parents[2] / "spec"
EXAMPLE_BEGINS, EXAMPLE_ENDS = "<!-- example begins -->\n", "<!-- example ends -->\n"


FILES: dict[str, tuple[str, Callable[[], list[Case]]]] = {
    "keys": ("Seed words, key derivation, public keys and signatures: spec S-2 to S-6.", key_cases),
    "ids": ("Ids and addresses as text: spec S-7 and S-25.", id_cases),
    "statements": ("Every signed or hashed statement: spec S-8 to S-19.", statement_cases),
    "batches": ("Records, payment ids and memos: spec S-20 to S-22.", batch_cases),
    "amounts": ("Amounts as text: spec M-3 to M-5.", amount_cases),
    "codec": ("The strict encoding: spec W-2 to W-4.", codec_cases),
    "messages": ("Messages between peers as whole frames: spec W-1, W-5 and W-6.", message_cases),
    "handshake": ("HELLO and AUTH, byte by byte: spec S-17 and chapter 4.", handshake_cases),
    "ledger": ("Requests to a ledger, its answers and views: spec chapter 8.", ledger_cases),
    "operations": ("What one request does to a ledger's books: spec L-6 and L-17 to L-41.", operation_cases),
    "settlement": ("Joins, payouts, claims, deadlines, balances: spec L-16, L-38 to L-40, C-8.", settlement_cases),
    "example": ("One payment on the wire: spec chapter 5.", lambda: [example()]),
}


def documents() -> dict[Path, str]:
    """Every file that this script owns, and chapter 5 with its example."""
    made = {}
    for name, (about, cases) in FILES.items():
        document = {"about": about, "cases": [finished(case) for case in cases()]}
        made[SPEC / "vectors" / f"{name}.json"] = json.dumps(document, indent=1) + "\n"
    chapter = SPEC / "05-messages.md"
    before, _, rest = chapter.read_text().partition(EXAMPLE_BEGINS)
    _, _, after = rest.partition(EXAMPLE_ENDS)
    made[chapter] = before + EXAMPLE_BEGINS + example_text(example()) + EXAMPLE_ENDS + after
    return made


def finished(case: Case) -> Case:
    """The case with all the requirements that it shows."""
    return {**case, "requirements": requirements.of_case(case["kind"], case["name"], case["requirements"])}


def main(arguments: list[str]) -> int:
    stale = {path: text for path, text in documents().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(f"{path.relative_to(SPEC.parent)}: {'differs' if arguments else 'written'}")
        if not arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
