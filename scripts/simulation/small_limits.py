"""Long pasts in small: some worlds have limits that a hundred payments reach, where real nodes need thousands or days.

Each limit is changed where the code that obeys it looks it up, and set back when the world is over.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from channelpay.daemon import payments, upkeep
from channelpay.limits import DEFAULT_KEEP_S, PAYMENT_ID_HORIZON_S
from channelpay.node import recovery
from channelpay.store import node, payment_ids, pruning

_REMEMBERED: Final = (4, 8, 20)
_HORIZON_S: Final = 100
_LEEWAY_S: Final = 5
_MARK_S: Final = 4
_LOOK_S: Final = 3.0


class SmallLimits:
    """What one world's limits are: `keep_s` and `horizon_s` as they are for real unless `forgets`."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"limits {seed}")
        # Else sixteen keys at once: more than a node here has channels, and there were no second step.
        self._changed: list[tuple[Any, str, Any]] = [(recovery, "RECOVERY_STEP_KEYS", 1)]
        if rng.random() < 0.4:
            remembered = rng.choice(_REMEMBERED)
            self._changed.append((payment_ids, "REMEMBERED_IDS", remembered))
            self._changed.append((payment_ids, "_MAX_REMEMBERED", 2 * remembered))
        if rng.random() < 0.6:
            self._changed.append((node, "MAX_ARRAY_ITEMS", rng.choice((1, 2, 5))))  # batches in one RECORDS
        self.forgets = rng.random() < 0.12
        self.keep_s, self.horizon_s = DEFAULT_KEEP_S, PAYMENT_ID_HORIZON_S
        if self.forgets:
            self.keep_s, self.horizon_s = _HORIZON_S + _LEEWAY_S, _HORIZON_S
            self._changed += [
                (payments, "PAYMENT_ID_HORIZON_S", _HORIZON_S),
                (pruning, "PRUNE_MARK_S", _MARK_S),
                (upkeep, "PRUNE_LOOK_S", _LOOK_S),
                (pruning, "PRUNE_STEP_BATCHES", rng.choice((1, 3, 256))),
            ]

    @property
    def until_pruned_s(self) -> float:
        """After so long of a node's life whatever was acknowledged before is gone, in a world that forgets."""
        return self.keep_s + _MARK_S + 4 * _LOOK_S

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """While the world lasts."""
        before = [(module, name, getattr(module, name)) for module, name, _ in self._changed]
        try:
            for module, name, value in self._changed:
                setattr(module, name, value)
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)
