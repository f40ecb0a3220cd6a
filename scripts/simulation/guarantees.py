"""What may be expected after which faults: spec/17-simulation.md, derived from section 6 of the protocol's design."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from simulation.world import World

KINDS: Final = (
    "delay", "cut", "cut at a byte", "half-open", "one-way silence", "slow reader", "reconnect storm",
    "stale connection", "unreachable", "crash point", "killed", "power cut", "stopped in order", "stopped unread",
    "unsynced writes lost", "torn write", "disk full", "sync error", "bit flipped",
    "old copy, told", "old copy, not told", "store lost",
    "ledger killed", "ledger power cut", "ledger stopped in order", "ledger unreachable", "ledger answer lost",
    "ledger unsynced writes lost", "ledger torn write", "ledger disk full", "ledger sync error", "ledger bit flipped",
    "cheating close", "tampering", "forgery", "impersonation", "clock leapt", "own clock leapt", "agreement held back",
    "counterfeit", "request repeated", "opening under way", "outage in a dispute",
    "answer cut short",
)  # fmt: skip
"""Every kind of fault that a seed may meet; a run of many seeds that never meets one has failed."""


LOST: Final = "lost"
"""What was put in place of a store, beside an old copy, `told` or `not told`: nothing at all."""


@dataclass(frozen=True, slots=True)
class Excuse:
    """What a combination of faults lets happen to the parties that it concerns."""

    name: str
    counters: frozenset[str]


OLD_COPY: Final = Excuse("old copy, honest peer", frozenset({"drift"}))
"""What the copy lacked comes back from the peer: the order of the journal may change, no money does."""

OLD_COPY_CHEATED: Final = Excuse(
    "old copy, dishonest peer", frozenset({"lost", "drift", "below_entitlement", "phantom", "unresolved", "duplicated"})
)
"""What came after the copy is gone if the peer does not give it back: the one residual risk."""

OLD_COPY_TOLD_CHEATED: Final = Excuse(
    "old copy, told, dishonest peer", OLD_COPY_CHEATED.counters - {"below_entitlement"}
)
"""A store that waits takes no payment that an agreement which it has forgotten could take back."""

CHEATER: Final = Excuse("the cheater's own", frozenset({"lost", "drift", "below_entitlement", "phantom", "unresolved"}))
"""Whoever shows an old state and stays away has no claim to anything."""


LATENT_DAMAGE: Final = Excuse("damage that nobody has read", frozenset({"unresolved"}))
"""A bit that flipped in a page which nothing needed again, and which then moved: found by whoever reads it next."""


def excuse_for(world: World, *names: str) -> Excuse | None:
    """What the table excuses in findings that concern these parties; None: nothing."""
    parties = set(names) if names else set(world.rolled_back) | world.cheaters
    old, cheats = parties & set(world.rolled_back), parties & world.cheaters
    if old and world.cheaters - old:
        told = all(world.rolled_back[name] <= {"told", LOST} for name in old)  # an empty store hears it of its ledger
        return OLD_COPY_TOLD_CHEATED if told else OLD_COPY_CHEATED
    if cheats:
        return CHEATER
    return OLD_COPY if old else None
