"""Nodes and ledgers that break one requirement on purpose, each with the cases that must notice.

A mutant replaces one production function, through the fixture's patches, before a world is made.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

Mutate = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, tuple[Mutate, tuple[str, ...]]] = {}
"""Every mutant by its name, with the cases that must fail against it."""


def mutant(*cases: str) -> Callable[[Mutate], Mutate]:
    """A mutant, and the cases that must fail against it."""

    def put(mutate: Mutate) -> Mutate:
        if mutate.__name__ in MUTANTS:
            raise ValueError(f"two mutants are called {mutate.__name__}")
        MUTANTS[mutate.__name__] = mutate, cases
        return mutate

    return put
