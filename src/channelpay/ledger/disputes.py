"""The arithmetic of closing a channel: joins of halves, payouts, deadlines. Spec L-16, L-38 to L-40.

Pure functions of numbers and rows; who may ask, and the money itself, is the business of `book`.
"""

from __future__ import annotations

from typing import NamedTuple

from channelpay.ledger.books import ChannelRow
from channelpay.limits import RESTART_GRACE_S
from channelpay.statements import Half


class Joined(NamedTuple):
    """A joined half, and whether the two contradict each other."""

    half: Half
    equivocation: bool


def join(old: Half, new: Half) -> Joined:
    """The newest of two halves of one party (spec L-39).

    n, h, L and R come from the half with the higher n (equal n: the higher h, so that the order of
    arrival decides nothing); T is the maximum seen. A party whose halves are not ordered has signed
    two histories: that is reported once, when it changes what the ledger holds, and refuses nothing.
    """
    newest = max(old, new, key=lambda half: (half.n, half.h))
    half = newest._replace(total=max(old.total, new.total))
    return Joined(half, half != old and (half != new or old.n == new.n))


def clamp(value: int, low: int, high: int) -> int:
    """`value`, or the end of low .. high that it is beyond."""
    return max(low, min(value, high))


def share_of_party1(row: ChannelRow) -> int:
    """clamp(D1 - W1 - T1 + T0, 0, pot): what party 1 gets of what the channel holds (spec L-40)."""
    return clamp(row.deposit1 - row.withdrawn1 - row.half1.total + row.half0.total, 0, row.pot)


def extended_deadline(row: ChannelRow, now: int) -> int:
    """The deadline after an outage that ended at `now` (spec L-16): there is time left to answer."""
    return max(row.deadline, now + min(row.window_s, RESTART_GRACE_S))
