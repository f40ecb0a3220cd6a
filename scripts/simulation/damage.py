"""Bits that change at rest, and their repair from a mirror's sound half."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import apsw

from simulation.process import NodeProcess, Process
from simulation.world import World

_AROUND: Final = 8
"""Bytes on both sides of a damaged one that tell where it is."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A bit that changed at rest: in a byte between others, which may have moved within the files since."""

    process: Process
    around: bytes  # with the damage
    place: int  # of the damaged byte in it
    bit: int

    def undo(self, content: dict[str, bytearray]) -> None:
        """Change it back, wherever its surroundings stand."""
        for data in content.values():
            at = data.find(self.around)
            while at >= 0:
                data[at + self.place] ^= self.bit
                at = data.find(self.around, at + 1)


def _places(data: bytearray, wanted: bytes) -> list[int]:
    """Wherever these bytes stand."""
    found, at = [], data.find(wanted)
    while at >= 0:
        found.append(at)
        at = data.find(wanted, at + 1)
    return found


class Damage:
    """All the damage in a world, done and repaired."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self._rng = rng
        self._flips: list[Flip] = []

    def flip(self, process: Process) -> bool:
        """One bit of the file changes while nobody uses it; whether there is such a file."""
        name = "node.db" if isinstance(process, NodeProcess) else "ledger.db"
        if not process.disk.content().get(name):
            return False
        with suppress(apsw.Error):  # damaged before
            process.disk.settle(name)
        content = process.disk.seen()
        damaged = bytearray(content[name])
        at = self._place(damaged)
        bit = 1 << self._rng.randrange(8)
        damaged[at] ^= bit
        process.disk.has_failed = process.disk.damaged = True
        begin = max(0, at - _AROUND)
        self._flips.append(Flip(process, bytes(damaged[begin : at + _AROUND]), at - begin, bit))
        process.disk.put({**content, name: bytes(damaged)})
        return True

    def _place(self, data: bytearray) -> int:
        """In a record that is known to stand in the file, or in any byte that is not empty."""
        channels = self.world.account.channels.values()
        known = [p.payment_id for c in channels for p in c.payments if any(p.payment_id)]
        hashes = [
            half[16:48] for c in self.world.tap.channels.values() for halves in c.halves for half in halves.values()
        ]
        for wanted in (hashes, known):
            if wanted and self._rng.random() < 0.5:
                found = _places(data, self._rng.choice(wanted))
                if found:
                    return max(0, self._rng.choice(found) - 8) + self._rng.randrange(24)
        places = [at for at in (self._rng.randrange(len(data)) for _ in range(20)) if data[at]]
        return places[0] if places else len(data) // 2

    def repair(self, process: Process) -> bool:
        """The operator copies the mirror's sound half back: what was written since stays."""
        mine = [flip for flip in self._flips if flip.process is process]
        content = {name: bytearray(data) for name, data in process.disk.seen().items()}
        for flip in mine:
            self._flips.remove(flip)
            flip.undo(content)
        if mine:
            process.disk.put({name: bytes(data) for name, data in content.items()})
        return bool(mine)
