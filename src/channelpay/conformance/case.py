"""A case: its name, what it shows, the requirements it tests, and the script. The list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from channelpay.conformance.kit import Kit

Script = Callable[["Kit"], None]
_S = TypeVar("_S", bound=Script)


@dataclass(frozen=True, slots=True)
class Case:
    """One scripted conversation.

    `needs` are the commands of the driver without which it cannot be played; `alone` says that it stops the node, so
    that nothing else may run beside it; `takes_s` is how long it has to wait by the clock of the protocol; `real` says
    that it looks at TLS itself.
    """

    name: str
    about: str
    requirements: tuple[str, ...]
    script: Script
    must: bool = True
    needs: frozenset[str] = frozenset()
    alone: bool = False
    takes_s: int = 0
    real: bool = False


CASES: dict[str, Case] = {}
"""Every case by its name, in the order of the report."""


def add(
    name: str,
    about: str,
    requirements: str,
    script: Script,
    *,
    must: bool = True,
    needs: str = "",
    alone: bool = False,
    takes_s: int = 0,
    real: bool = False,
) -> None:
    """Add a case to the list; `requirements` and `needs` are words."""
    if name in CASES:
        raise ValueError(f"two cases are called {name}")
    words = tuple(requirements.split())
    CASES[name] = Case(name, about, words, script, must, frozenset(needs.split()), alone, takes_s, real)


def case(
    requirements: str,
    *,
    must: bool = True,
    needs: str = "",
    alone: bool = False,
    takes_s: int = 0,
    real: bool = False,
) -> Callable[[_S], _S]:
    """Makes a function a case: its name with hyphens, the first line of its docstring as what it shows."""

    def put(script: _S) -> _S:
        about = (script.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        name = script.__name__.replace("_", "-")
        add(name, about, requirements, script, must=must, needs=needs, alone=alone, takes_s=takes_s, real=real)
        return script

    return put
