"""Due times of many channels, of which the nearest is wanted."""

from __future__ import annotations

import heapq


class Timers:
    """One due time for each key, which may move as often as it likes.

    A time that moves away costs nothing: its old entry comes due early, and whoever is told so arms it anew.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, bytes]] = []
        self._armed: dict[bytes, float] = {}

    def arm(self, key: bytes, due: float | None) -> None:
        """`key` is due at `due` at the latest; None: nothing to wait for."""
        armed = self._armed.get(key)
        if due is not None and (armed is None or due < armed):
            self._armed[key] = due
            heapq.heappush(self._heap, (due, key))

    def next(self) -> float | None:
        """When the first is due."""
        return self._heap[0][0] if self._heap else None

    def due(self, clock: float) -> list[bytes]:
        """The keys that are due, which are armed no more."""
        keys = []
        while self._heap and self._heap[0][0] <= clock:
            at, key = heapq.heappop(self._heap)
            if self._armed.get(key) == at:
                del self._armed[key]
                keys.append(key)
        return keys
