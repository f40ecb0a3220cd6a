"""`channelpay` itself, arguments and all, which on SIGUSR1 tells on stdout what it has used.

Commits cannot be seen from outside a process; nothing else is different from `python -m channelpay`.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any, Final

from benchmarks.used import used
from channelpay import cli
from channelpay.daemon import embedded, ledger_main
from channelpay.store.ledger import LedgerStore
from channelpay.store.node import NodeStore

_OPENED: Final[list[NodeStore | LedgerStore]] = []


class _SeenStore(NodeStore):
    """A store that we can ask."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        _OPENED.append(self)


class _SeenLedgerStore(LedgerStore):
    """The books of a ledger that we can ask."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        _OPENED.append(self)


def _tell(*_: object) -> None:
    facts = used(sum(store.commits for store in _OPENED))
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    embedded.NodeStore = _SeenStore  # type: ignore[attr-defined]
    ledger_main.LedgerStore = _SeenLedgerStore  # type: ignore[misc]
    signal.signal(signal.SIGUSR1, _tell)
    cli.main()
