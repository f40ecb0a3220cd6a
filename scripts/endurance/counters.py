"""The seven counters: what may not happen, whatever was killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Final

MOST_FINDINGS: Final = 20


@dataclass(slots=True)
class Counters:
    """How often something was found that must not be. `findings` says where, for the first few."""

    lost: int = 0
    """Payments acknowledged to a service that the payee's store, its service or the settlement does not have."""

    duplicated: int = 0
    """Payment ids that a store or a service has more than once; top-ups and withdrawals done more often than asked."""

    phantom: int = 0
    """Payments at the payee that no service asked for, or that a service was told were refused."""

    drift: int = 0
    """Histories that differ: the payee's or the settlement's from the payer's, a store's counters from its records."""

    conservation: int = 0
    """Discrepancies in the ledger's books, and units that are not where they belong after all is settled."""

    unresolved: int = 0
    """Channels that did not settle, payments without an answer, requests to the ledger that were left behind."""

    below_entitlement: int = 0
    """Parties that the settlement gave less than deposit - withdrawn - paid + received by their own store."""

    findings: list[str] = field(default_factory=list)

    def count(self, name: str, what: str, times: int = 1) -> None:
        """Add a finding to the counter called `name`."""
        setattr(self, name, getattr(self, name) + times)
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(f"{name}: {what}")

    def numbers(self) -> Iterator[tuple[str, int]]:
        """(name, count) of the seven."""
        for counter in fields(self):
            if counter.name != "findings":
                yield counter.name, getattr(self, counter.name)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(count for _, count in self.numbers())
