"""How a service of the demo talks with the demo that started it: lines on stdout, lines on stdin."""

from __future__ import annotations

import json
from collections.abc import Iterable

import trio


def tell(**facts: object) -> None:
    """One JSON object on stdout."""
    print(json.dumps(facts), flush=True)


class Holds:
    """Pieces before which a buyer waits until it is told to go on: so that a kill finds it in the middle.

    Each line that comes in lifts the next hold.
    """

    def __init__(self, pieces: Iterable[int]) -> None:
        self._holds = [(piece, trio.Event()) for piece in sorted(pieces)]

    async def pass_by(self, index: int) -> None:
        """Return when piece `index` may be bought."""
        for piece, lifted in self._holds:
            if index >= piece:
                await lifted.wait()

    async def release(self, lines: trio.abc.ReceiveStream) -> None:
        """Lift one hold for every line."""
        received = 0
        async for data in lines:
            received += data.count(b"\n")
            for _, lifted in self._holds[:received]:
                lifted.set()
