"""The wire from the ledger, read by the auditor: an honest node shows the ledger nothing that is falsely signed.

It holds what others have signed only after it has verified it, so none of its requests may be refused for a signature.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final

from simulation.model import UNEXCUSED
from simulation.wire import RESPONSE, fields_of, frames

FALSELY_SIGNED: Final = frozenset({2, 27, 51, 52, 53})
"""Outcomes: of a request, a consent, a STATE, a FINAL, a withdrawal (spec chapter 8)."""


class Refusals:
    """A tap. `liars` are names of parties that may show what they like."""

    def __init__(self, find: Callable[..., None], liars: Container[str]) -> None:
        self._find = find
        self._liars = liars

    def heard(self, _: int, sender: str, receiver: str, data: bytes) -> None:
        """Whole frames have left a process."""
        if sender != "ledger" or not receiver.startswith("node") or receiver in self._liars:
            return
        for kind, frame in frames(data):
            if kind == RESPONSE and (outcome := fields_of(frame)[2]) in FALSELY_SIGNED:
                what = f"{receiver} has shown the ledger a false signature: outcome {outcome}"
                self._find("phantom", what, UNEXCUSED)
