"""What stood in the nodes' stores, also after it was pruned: the auditor's memory of rows that may go by age."""

from __future__ import annotations

from typing import Final

import apsw
import trio

from simulation import books
from simulation.books import Batch
from simulation.world import World

_EVERY_S: Final = 30.0
"""A fraction of the time for which records are kept, so that no row is pruned in time that was not seen here."""


class Archive:
    """`rows` gives a store's batches as if nothing had been pruned: what is gone must have stood there before."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._rows: dict[str, list[Batch]] = {}

    async def keep(self) -> None:
        """Look into every store now and then, in a world in which records grow old."""
        while self.world.limits.forgets and not self.world.over:
            self.look()
            await trio.sleep(_EVERY_S)

    def look(self) -> None:
        """Into every store that can be read."""
        for process in self.world.nodes:
            try:
                self.rows(process.name)
            except apsw.Error:
                continue  # damaged, or not there yet; the next look will tell

    def rows(self, name: str) -> list[Batch]:
        """Every batch that a store holds, or held until it was pruned; raises apsw.Error."""
        path = next(p.disk.directory for p in self.world.nodes if p.name == name) / "node.db"
        present, pruned = books.batches(path), books.pruned(path)
        for (channel_id, payer), n in pruned.items():
            self._check_pruned(name, channel_id, payer, n)
        gone = [b for b in self._rows.get(name, []) if b.last_n <= pruned.get((b.channel_id, b.payer), 0)]
        self._rows[name] = gone + present
        return self._rows[name]

    def _check_pruned(self, name: str, channel_id: bytes, payer: int, n: int) -> None:
        """What the peer has not shown to hold is kept, however old (spec N-32)."""
        channel = self.world.tap.channels.get(channel_id)
        if channel is None or channel.names[payer] != name or self.world.is_settled(channel_id):
            return
        if n > (shown := self.world.tap.acknowledged(channel_id, name)):
            self.world.account.find("lost", f"payments up to {n} were pruned, and the peer has shown {shown}", name)
