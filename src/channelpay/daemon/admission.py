"""Which connections are let in, and who is shown out when there are too many strangers. Spec T-28 to T-30.

`Doorstep` judges a connection before anything is read from it: by what its address and all addresses together have
begun lately (token buckets) and by how many handshakes are under way. `Guests` judges it again when its owner is
known. Nothing here waits or reads a clock: time comes in as seconds that never go back.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from channelpay.home.config import Admission
from channelpay.limits import HANDSHAKE_GRACE_S, HANDSHAKE_RESERVE, HANDSHAKE_REST_S, MAX_ADMISSION_ADDRESSES

T = TypeVar("T")


class Refusal(StrEnum):
    """Why a connection is closed before its handshake, or made to leave during it."""

    ADDRESS_PENDING = "too many handshakes of this address are under way"
    ADDRESS_RATE = "this address connects too often"
    RATE = "too many connections at once"
    PENDING = "too many handshakes are under way"
    SHOWN_OUT = "its handshake took long, and others waited for the place"


class Bucket:
    """Tokens that come back at `rate` a second, never more than `most`; it begins full."""

    __slots__ = ("_at", "_level", "_most", "_rate")

    def __init__(self, rate: float, most: float, now: float) -> None:
        self._rate = rate
        self._most = most
        self._level = most
        self._at = now

    def has_more_than(self, kept: float, now: float) -> bool:
        """Whether there is a token to take now, beyond `kept` that are to stay."""
        self._level = min(self._most, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level >= 1 + kept

    def take(self, now: float) -> bool:
        """Take one token, if there is one."""
        if not self.has_more_than(0, now):
            return False
        self._level -= 1
        return True


@dataclass(eq=False, slots=True)
class Visitor:
    """A connection that is let in: its address, how it is ended from here, and later whose it is."""

    address: str
    show_out: Callable[[], None]
    began: float = 0.0
    peer_id: bytes = b""


class Doorstep:
    """Connections before AUTH, by address and in all."""

    def __init__(self, terms: Admission, now: float) -> None:
        self._terms = terms
        self._common = Bucket(terms.per_s, terms.burst, now)
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()  # by address, the longest silent first
        self._came: OrderedDict[str, float] = OrderedDict()  # by address: when its newest handshake began
        self._familiar: OrderedDict[str, None] = OrderedDict()  # addresses of peers with a channel
        self._waiting: OrderedDict[Visitor, None] = OrderedDict()  # the oldest first
        self._of_address: Counter[str] = Counter()

    def enter(self, visitor: Visitor, now: float) -> Refusal | None:
        """Let `visitor` in and count it until it leaves, or say why not. May show an older one out."""
        refusal = self._judge(visitor.address, now)
        if refusal is None:
            visitor.began = now
            _renew(self._came, visitor.address, now)
            self._waiting[visitor] = None
            self._of_address[visitor.address] += 1
        return refusal

    def leave(self, visitor: Visitor) -> None:
        """Its handshake is over, well or not; again: nothing happens."""
        if visitor not in self._waiting:
            return
        del self._waiting[visitor]
        self._of_address[visitor.address] -= 1
        if not self._of_address[visitor.address]:
            del self._of_address[visitor.address]

    def remember(self, address: str) -> None:
        """A peer with a channel came from `address`: the reserve is open to it (spec T-29)."""
        _renew(self._familiar, address, None)

    def _judge(self, address: str, now: float) -> Refusal | None:
        """What costs the visitor a token comes last, so that one refusal does not lead to the next."""
        if self._of_address[address] >= self._terms.address_pending:
            return Refusal.ADDRESS_PENDING
        if not self._common.has_more_than(self._kept_from(address, now), now):
            return Refusal.RATE
        bucket = self._buckets.get(address) or Bucket(self._terms.address_per_s, self._terms.address_burst, now)
        _renew(self._buckets, address, bucket)
        if not bucket.take(now):
            return Refusal.ADDRESS_RATE
        if len(self._waiting) >= self._terms.pending and not self._make_room(now):
            return Refusal.PENDING
        self._common.take(now)
        return None

    def _kept_from(self, address: str, now: float) -> float:
        """How many tokens are not for this address (spec T-29)."""
        if address in self._familiar or now - self._came.get(address, -math.inf) >= HANDSHAKE_REST_S:
            return 0.0
        return (self._terms.burst - 1) * HANDSHAKE_RESERVE

    def _make_room(self, now: float) -> bool:
        oldest = next(iter(self._waiting))
        if now - oldest.began < HANDSHAKE_GRACE_S:
            return False
        self.leave(oldest)
        oldest.show_out()
        return True


def _renew(table: OrderedDict[str, T], address: str, value: T) -> None:
    """Set, as the newest; the oldest goes when the table is full."""
    table[address] = value
    table.move_to_end(address)
    if len(table) > MAX_ADMISSION_ADDRESSES:
        table.popitem(last=False)


class Guests:
    """Authenticated connections of keys that are not `known`: of peers that have no channel here."""

    def __init__(self, most: int, most_of_address: int, known: Callable[[bytes], bool]) -> None:
        self._most = most
        self._most_of_address = most_of_address
        self._known = known
        self._guests: OrderedDict[Visitor, None] = OrderedDict()  # the oldest first
        self._of_address: dict[str, set[Visitor]] = {}

    def enter(self, visitor: Visitor) -> bool:
        """Whether it may stay; counted until it leaves or is a guest no more. May show the oldest out."""
        if self._known(visitor.peer_id):
            return True
        if self._count(visitor.address) >= self._most_of_address:
            return False
        if len(self._guests) >= self._most:
            self._take_oldest_out()
        self._guests[visitor] = None
        self._of_address.setdefault(visitor.address, set()).add(visitor)
        return True

    def leave(self, visitor: Visitor) -> None:
        """The connection is over; again, or of one who is no guest: nothing happens."""
        if visitor not in self._guests:
            return
        del self._guests[visitor]
        others = self._of_address[visitor.address]
        others.discard(visitor)
        if not others:
            del self._of_address[visitor.address]

    def _count(self, address: str) -> int:
        """Guests of an address; when they are too many, those who have a channel by now are taken out first."""
        guests = self._of_address.get(address, set())
        if len(guests) >= self._most_of_address:
            for visitor in [each for each in guests if self._known(each.peer_id)]:
                self.leave(visitor)
        return len(self._of_address.get(address, ()))

    def _take_oldest_out(self) -> None:
        """Make room for one: the oldest leaves, or has a channel by now and is none of the guests any more."""
        oldest = next(iter(self._guests))
        self.leave(oldest)
        if not self._known(oldest.peer_id):
            oldest.show_out()
