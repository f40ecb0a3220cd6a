"""Everything that the client raises, in one place. Spec N-9 to N-14.

============================ ===========================================================
`Refused`                    The node said no; `.reason` (a `Reason`) says why. Nothing was paid: with
                             UNRESOLVED, ID_EXPIRED and ID_REUSED that is said of this call alone, and
                             an earlier one may have paid with the same id.
`NotReachable`               No node answers at this socket, or it went away during a call. A `pay`
                             that raises it was never sent: nothing was paid.
`PaymentUnknown`             The node went away after a payment was handed to it, or can only tell that
                             some payments of a `pay_many` were not made. Any may be paid or not: ask
                             `payment(id)`, or pay each again by itself with the same id.
`PartlyPaid`                 Of a long `pay_many` some payments were made, the others were not.
`AmountError`                A text or number that is no amount of the asset.
`AddressError`               A text that is no `cp1...@host:port`.
============================ ===========================================================

A refusal whose `.reason` is in `TRANSIENT` passes by itself: try again a little later.

All are `ChannelpayError`. A call that was cancelled raises `trio.Cancelled`, as everything in trio
does; a cancelled `pay` is as unknown as one that was cut off. A node embedded in the process
may fail to begin (`HomeError`, `ConfigError`, `StoreFailed`), and `StoreFailed` cancels its block
later if its disk cannot be written.
"""

from __future__ import annotations

from typing import Final

from channelpay.errors import AddressError, AmountError, ChannelpayError, LocalError, Reason, StoreFailed

Refused = LocalError
"""The node refused the call and did nothing; `.reason` is a `Reason`."""

TRANSIENT: Final = frozenset({Reason.STALLED, Reason.SUSPENDED, Reason.UNRESOLVED, Reason.QUEUE_FULL, Reason.STOPPING})
"""Reasons to try a payment again a little later, such as a node that has just started and waits for its ledger."""

__all__ = [
    "TRANSIENT",
    "AddressError",
    "AmountError",
    "ChannelpayError",
    "NotReachable",
    "PartlyPaid",
    "PaymentUnknown",
    "Reason",
    "Refused",
    "StoreFailed",
]


class NotReachable(ChannelpayError):
    """No node answers, or it went away before this call's answer came.

    A `pay` that raises it paid nothing. `open_channel`, `topup`, `withdraw`, `claim` and
    `close_channel` may have taken effect: `channels()` tells.
    """


class PaymentUnknown(ChannelpayError):
    """The node could not tell, or went away before it answered: the payment may have been made or not.

    `payment_id` is the id given to `pay`, or None. With an id, `payment(id)` tells, and paying again
    with the same id pays once at most. Without one, only the channel's counters can tell.
    """

    def __init__(self, text: str, channel_id: bytes, payment_id: bytes | None) -> None:
        super().__init__(text)
        self.channel_id = channel_id
        self.payment_id = payment_id


class PartlyPaid(ChannelpayError):
    """A part of a `pay_many` was paid, the rest was not.

    `paid` tells which payments were made, as ranges of indexes into what was given, `total` their
    units; `cause` is the first refusal, or NotReachable.
    """

    def __init__(self, paid: tuple[range, ...], total: int, cause: LocalError | NotReachable) -> None:
        count = sum(len(part) for part in paid)
        super().__init__(f"{count} payments ({total} units) were made, the others were not: {cause}")
        self.paid = paid
        self.total = total
        self.cause = cause
