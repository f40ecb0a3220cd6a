"""What the client gives: plain values, all amounts in units of the channel's asset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from channelpay.amounts import Asset, format_units
from channelpay.batches import NO_ID, Batch
from channelpay.messages.control import (
    ENTRY_UNAVAILABLE,
    PAYMENT_PAID,
    PAYMENT_QUEUED,
    PAYMENT_SENT,
    PAYMENT_UNKNOWN,
    ChannelInfo,
)
from channelpay.messages.control import ReceivedBatch as BatchRecord


def id_or_none(payment_id: bytes) -> bytes | None:
    """A payment id as people see it: None instead of 16 zero bytes."""
    return None if payment_id == NO_ID else payment_id


class Payment(NamedTuple):
    """A payment that was made: the payee holds it durably and signed for it.

    `n` is its number on the channel. `repeated` is True when this id had been paid before: then `n`
    is that payment, and this call paid nothing.
    """

    channel_id: bytes
    n: int
    amount: int
    payment_id: bytes | None
    memo: bytes
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class PaidMany:
    """Payments that were made together: `count` of them, `total` units, the first is number `first_n`.

    They are numbered in the order in which they were given; payments of others on the same channel
    may stand between them. `repeated` is True when some of the ids had been paid before.
    """

    channel_id: bytes
    first_n: int
    count: int
    total: int
    repeated: bool


class PaymentState(StrEnum):
    """How far a payment came. UNKNOWN: this node has never made a payment with this id."""

    UNKNOWN = "unknown"
    QUEUED = "queued"  # waits for its turn; lost if the node dies now
    SENT = "sent"  # on disk here, not acknowledged yet: it will be paid
    PAID = "paid"  # held by the payee, signed


PAYMENT_STATES = {
    PAYMENT_UNKNOWN: PaymentState.UNKNOWN,
    PAYMENT_QUEUED: PaymentState.QUEUED,
    PAYMENT_SENT: PaymentState.SENT,
    PAYMENT_PAID: PaymentState.PAID,
}


class PaymentStatus(NamedTuple):
    """What became of a payment id; `channel_id`, `n` and `amount` say nothing while it is unknown."""

    state: PaymentState
    payment_id: bytes
    channel_id: bytes | None
    n: int
    amount: int


class ReceivedPayment(NamedTuple):
    """A payment that this node received.

    `cursor` is what to hand to `payments(after=...)` once this payment has been dealt with.
    `repeated` is True when its payment id came before: the payer paid the same thing twice.
    `covers` is 1, except for one kind of entry: payments whose records nobody has any more are
    told as one, which covers several from number `n` on, `amount` units together, without ids.
    """

    position: int
    cursor: int
    channel_id: bytes
    n: int
    amount: int
    payment_id: bytes | None
    memo: bytes
    repeated: bool
    covers: int = 1


@dataclass(frozen=True, slots=True)
class ReceivedBatch:
    """Consecutive received payments as bytes: 24 a payment (amount u64 big-endian, payment id)."""

    record: BatchRecord

    @property
    def cursor(self) -> int:
        """What to hand to `payment_batches(after=...)` once all of this batch has been dealt with."""
        record = self.record
        return record.position + (1 if record.kind == ENTRY_UNAVAILABLE else record.count)

    def payments(self) -> Iterator[ReceivedPayment]:
        """Every payment in order."""
        record = self.record
        position, channel_id = record.position, record.channel_id
        if record.kind == ENTRY_UNAVAILABLE:
            yield ReceivedPayment(
                position, position + 1, channel_id, record.first_n, record.total, None, b"", False, record.count
            )
            return
        repeated = frozenset(record.repeated)
        batch = Batch(record.first_n, record.records, record.memos)
        for index, (n, amount, payment_id, memo) in enumerate(batch.payments()):
            place = position + index
            known = id_or_none(payment_id)
            yield ReceivedPayment(place, place + 1, channel_id, n, amount, known, memo, index in repeated)


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as the node saw it when it was asked; `info` holds every field."""

    info: ChannelInfo
    asset: Asset

    def __str__(self) -> str:
        return self.info.channel_id.hex()

    @property
    def id(self) -> bytes:
        """The channel id, 32 bytes."""
        return self.info.channel_id

    @property
    def phase(self) -> str:
        """Where the channel stands in its life, such as `open` or `settled`."""
        return self.info.phase

    @property
    def balance(self) -> int:
        """Units that this node could pay now."""
        return self.info.balance

    @property
    def peer_balance(self) -> int:
        """Units that the peer could pay now."""
        return self.info.peer_balance

    @property
    def paid(self) -> int:
        """Units that this node has paid so far."""
        return self.info.own_total

    @property
    def received(self) -> int:
        """Units that this node has received so far."""
        return self.info.peer_total

    def text(self, units: int) -> str:
        """`units` as an amount such as `0.000100 USD`."""
        return format_units(units, self.asset)


@dataclass(frozen=True, slots=True)
class Balance:
    """Units of one asset: on the node's account at the ledger, and payable in its open channels."""

    asset: Asset
    account: int
    channels: int

    def __str__(self) -> str:
        account, channels = format_units(self.account, self.asset), format_units(self.channels, self.asset)
        return f"{account} on the ledger, {channels} in channels"
