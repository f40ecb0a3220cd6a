"""Which message may come in which phase: data first, glue last. Spec C-6.

A cell says what the receiver does with a legal-looking message:

* TAKE: the rules of the message decide;
* IGNORE: it is late or repeated and harmless; nothing changes;
* anything else is not in the table: ERROR(ILLEGAL_NOW), and nothing changes.

REESTABLISH is taken in every phase from FUNDED on until SETTLED, because a state that the peer
shows may be needed on the ledger (spec C-20).
"""

from __future__ import annotations

from enum import Enum

from channelpay.channel.state import Phase
from channelpay.messages import peer
from channelpay.messages.peer import Message


class Move(Enum):
    """What to do with a message; see the module."""

    TAKE = "take"
    IGNORE = "ignore"


_TAKE = "T"
_IGNORE = "i"
_PHASES = tuple(Phase)

# One row for each message, one column for each phase:
#     ACCEPTED  FUNDED  OPEN  SHUTDOWN  FINAL  CLOSING  SETTLED  ABANDONED
_BOTH_SIDES: dict[type[Message], str] = {
    peer.Ready:       "T T i i i i i -",
    peer.Pay:         "- - T T - i i -",
    peer.Ack:         "- - T T - i i -",
    peer.Reestablish: "T T T T T T i i",
    peer.Recall:      "- - T T T T i -",
    peer.PastRecords: "- - T T T T i -",
    peer.Shutdown:    "- - T T T i i -",
    peer.WithdrawAsk: "- - T T T T i -",
    peer.WithdrawOk:  "- - T T T T i -",
    peer.WithdrawNo:  "- - T T T T i -",
    peer.TopupHint:   "T T T T T i i i",
}  # fmt: skip
_TO_PARTY_0: dict[type[Message], str] = {
    peer.Funded:      "- - - - - - - -",
    peer.Final:       "- - - - T T i -",
}  # fmt: skip
_TO_PARTY_1: dict[type[Message], str] = {
    peer.Funded:      "T i i i i i i i",
    peer.Final:       "- - - T T i i -",
}  # fmt: skip


def _table() -> dict[tuple[Phase, int, type[Message]], Move]:
    table = {}
    for side, rows in ((0, _TO_PARTY_0), (1, _TO_PARTY_1)):
        for message, row in (_BOTH_SIDES | rows).items():
            for phase, cell in zip(_PHASES, row.split(), strict=True):
                if cell == _TAKE:
                    table[phase, side, message] = Move.TAKE
                elif cell == _IGNORE:
                    table[phase, side, message] = Move.IGNORE
    return table


LEGAL = _table()
"""(phase, receiving party, message type) -> Move; a key that is missing is illegal."""

CHANNEL_MESSAGES: frozenset[type[Message]] = frozenset(_BOTH_SIDES) | frozenset(_TO_PARTY_0)
"""The messages that name a channel and are judged by this table."""
