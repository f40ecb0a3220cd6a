"""Every seed and every input of the corpus again: `python -m fuzz.replay TARGET...`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS

CORPUS: Final = Path(__file__).parent / "corpus"


def replay(name: str) -> None:
    """Raises what the target raises."""
    for data in inputs(name):
        TARGETS[name](data)


def inputs(name: str) -> Iterator[bytes]:
    """The seeds of a target, then its corpus."""
    yield from SEEDS[name]()
    for file in sorted((CORPUS / name).iterdir()):
        yield file.read_bytes()


if __name__ == "__main__":
    for target in sys.argv[1:]:
        replay(target)
