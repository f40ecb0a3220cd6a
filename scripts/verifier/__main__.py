"""Checks spec/vectors/*.json from the specification alone: nothing of channelpay is imported.

    scripts/verify_vectors

What stands in scripts/verifier is written from spec/ a second time: the strict encoding, messages, ids, the curve and
its signatures, statements, amounts, the handshake, the ledger's judgement. Only signing is `cryptography`'s, and the
word list is `mnemonic`'s.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from verifier.cases import judge

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"


def main() -> int:
    checked = wrong = 0
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text())["cases"]:
            checked += 1
            if problem := judge(case):
                wrong += 1
                print(f"{path.name}: {case['kind']}: {case['name']}: {problem[:400]}")
    print(f"{checked} cases, {wrong} wrong")
    return 1 if wrong or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
