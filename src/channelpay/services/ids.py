"""Payment ids: what makes a payment that is sent twice one payment. Spec N-13."""

from __future__ import annotations

import os
import time
from typing import Final

_RANDOM_BITS: Final = 80
_FIXED_MASK: Final = ~((0xF << 76) | (0x3 << 62))
_FIXED_BITS: Final = (0x7 << 76) | (0x2 << 62)  # version 7, variant 10


def new_payment_id() -> bytes:
    """A fresh UUIDv7 (RFC 9562), 16 bytes: 48 bits of Unix time in milliseconds, then randomness.

    The time lets a node forget old ids: an id older than a day is refused, never paid twice.
    """
    value = (time.time_ns() // 1_000_000 << _RANDOM_BITS) | int.from_bytes(os.urandom(10), "big")
    return (value & _FIXED_MASK | _FIXED_BITS).to_bytes(16, "big")
