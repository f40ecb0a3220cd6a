"""The local socket between a daemon and its clients: same frames, same codec. Spec chapter 12.

A client numbers its calls; answers come in any order. Payments have frames of their own, because
they are what the socket is fast at.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

from channelpay.codec import unpack
from channelpay.errors import ErrorCode, LocalError, RemoteError
from channelpay.limits import MAX_BATCH, MAX_CONTROL_FRAME, MAX_MEMOS_BYTES, MAX_PAGE, RECORD_BYTES
from channelpay.messages.ledger import AssetView
from channelpay.messages.peer import Message
from channelpay.messages.schema import (
    U8,
    U16,
    U32,
    U64,
    AssetId,
    Count,
    Flag,
    HalfBytes,
    Id,
    Key,
    MaybeSignature,
    Party,
    PaymentId,
    Record,
    Text,
    Time,
    Units,
    array,
    blob,
    blob_upto,
    nested,
    optional,
    record,
    text,
    uint,
)

Records = Annotated[bytes, blob_upto(MAX_BATCH * RECORD_BYTES, least=RECORD_BYTES)]
Memos = Annotated[bytes, blob_upto(MAX_MEMOS_BYTES)]
Address = Annotated[str, text(400)]
Assets = Annotated[tuple[AssetView, ...], array(nested(AssetView), MAX_PAGE)]
MAX_ROWS = 4096
"""Rows in one answer on the local socket."""


@record
class Call(Message):
    """A request: `body` is the method's parameter record."""

    TYPE: ClassVar[int] = 0xA0
    call_id: U64
    method: Text
    body: Annotated[bytes, blob_upto(MAX_CONTROL_FRAME)]


@record
class Result(Message):
    """The answer: `body` is the method's result record."""

    TYPE: ClassVar[int] = 0xA1
    call_id: U64
    body: Annotated[bytes, blob_upto(MAX_CONTROL_FRAME)]


@record
class Failed(Message):
    """The call was refused. `reason` is an errors.Reason value."""

    TYPE: ClassVar[int] = 0xA2
    call_id: U64
    reason: Text
    text: Annotated[str, text(1024)]


@record
class PayEach(Message):
    """Up to 4,096 payments, each a call of its own: `call_id` numbers the first, the others follow it.

    Each is queued or refused by itself, in order. A Paid answers for `count` of them that follow one another,
    from `call_id` on; a Failed for one.
    """

    TYPE: ClassVar[int] = 0xA3
    call_id: U64
    channel_id: Id
    records: Records
    memos: Memos


@record
class PayMany(Message):
    """Up to 4,096 payments in a row: all are queued or none; answered by one Paid."""

    TYPE: ClassVar[int] = 0xA4
    call_id: U64
    channel_id: Id
    records: Records
    memos: Memos


@record
class Paid(Message):
    """Payments first_n .. first_n + count - 1 are held by the payee, co-signed.

    `repeated` is 1 when the payment id had been paid before: this call paid nothing.
    """

    TYPE: ClassVar[int] = 0xA5
    call_id: U64
    first_n: Count
    count: Count
    repeated: Flag


class Refusal(NamedTuple):
    """Inside a daemon: why one payment of a PayEach was not made; on the socket it is a Failed."""

    call_id: int
    error: LocalError


@record
class Cancel(Message):
    """The caller no longer waits for this call: a wait (Payments, CloseChannel) ends, nothing is undone.

    The daemon need not answer the call any more; an answer under way does no harm. Payments are
    not cancelled: what was queued is paid.
    """

    TYPE: ClassVar[int] = 0xA6
    call_id: U64


CONTROL_MESSAGES: dict[int, type[Message]] = {
    kind.TYPE: kind for kind in (Call, Result, Failed, PayEach, PayMany, Paid, Cancel)
}


def decode(kind: int, payload: bytes) -> Message:
    """The control message in a frame; raises RemoteError(MALFORMED)."""
    message = CONTROL_MESSAGES.get(kind)
    if message is None:
        raise RemoteError(ErrorCode.MALFORMED, f"unknown control message type 0x{kind:02x}")
    return message.from_wire(unpack(payload))


# --- Results ---------------------------------------------------------------------------------


@record
class Empty(Record):
    """Done; nothing to tell."""


@record
class StatusView(Record):
    """The daemon in one look."""

    node_id: Key
    version: Text
    home: Annotated[str, text(4096)]
    listen: Annotated[tuple[str, ...], array(text(400), 16)]
    ledger_id: Key
    ledger_address: Address
    ledger_connected: Flag
    ledger_time: Time
    ledger_number: Count
    account: Key
    channels_open: U32
    channels_closing: U32
    channels_settled: U32
    peers_connected: U32
    received: Count
    memory: Count
    files: U32
    tasks: U32
    warnings: Annotated[tuple[str, ...], array(text(1024), 64)]


@record
class CoSignedState(Record):
    """The newest state that the peer signed, with both halves: the payer's receipt."""

    half0: HalfBytes
    half1: HalfBytes
    signature0: MaybeSignature
    signature1: MaybeSignature


@record
class ChannelInfo(Record):
    """A channel as this node sees it. `own_*` is what this node paid, `peer_*` what it received.

    `balance` is what could be paid now; `stalled` is empty or says why the channel stands still.
    """

    channel_id: Id
    peer_id: Key
    asset_id: AssetId
    side: Party
    phase: Text
    flags: U8
    window_s: U32
    max_batch: U16
    deposit0: Units
    deposit1: Units
    withdrawn0: Units
    withdrawn1: Units
    own_n: Count
    own_total: Units
    own_acked_n: Count
    peer_n: Count
    peer_total: Units
    balance: Units
    peer_balance: Units
    queued: U32
    connected: Flag
    stalled: Annotated[str, text(1024)]
    deadline: Time
    out0: Units
    out1: Units
    state: Annotated[CoSignedState | None, optional(nested(CoSignedState))]


@record
class ChannelList(Record):
    channels: Annotated[tuple[ChannelInfo, ...], array(nested(ChannelInfo), MAX_PAGE)]
    more: Flag
    assets: Assets


@record
class ChannelOne(Record):
    channel: Annotated[ChannelInfo, nested(ChannelInfo)]
    assets: Assets


@record
class PeerInfo(Record):
    """A peer with whom this node has a connection, or has or had a channel.

    `sent_bytes` and `received_bytes` count the frames of all its connections since the daemon started.
    """

    node_id: Key
    address: Annotated[str, text(400)]
    connected: Flag
    connected_since: Time
    channels: U32
    sent_bytes: Count
    received_bytes: Count


@record
class PeerList(Record):
    peers: Annotated[tuple[PeerInfo, ...], array(nested(PeerInfo), MAX_ROWS)]


@record
class AssetBalance(Record):
    """Units of one asset: on the ledger account, and in this node's open channels."""

    asset_id: AssetId
    account: Units
    channels: Units


@record
class BalanceView(Record):
    balances: Annotated[tuple[AssetBalance, ...], array(nested(AssetBalance), MAX_PAGE)]
    assets: Assets


@record
class AssetList(Record):
    assets: Assets


PAYMENT_UNKNOWN, PAYMENT_QUEUED, PAYMENT_SENT, PAYMENT_PAID = range(4)
"""PaymentView.status: never seen; waits for a flush; durable here, not acknowledged; held by the payee."""


@record
class PaymentView(Record):
    """One payment this node made, found by its id."""

    status: U8
    channel_id: Annotated[bytes | None, optional(blob(32))]
    n: Count
    amount: Units
    payment_id: PaymentId


ENTRY_PAYMENTS, ENTRY_UNAVAILABLE = range(2)
"""ReceivedBatch.kind: payments; or payments whose records the peer no longer has (one position)."""


@record
class ReceivedBatch(Record):
    """Consecutive received payments as they stand in this node's journal.

    The payment at index i of `records` has position `position + i`; `repeated` lists the indexes
    whose payment id had come before. An ENTRY_UNAVAILABLE has no records: `count` payments from
    first_n on, `total` units together, take one position.
    """

    position: Count
    channel_id: Id
    kind: U8
    first_n: Count
    count: Count
    total: Units
    records: Annotated[bytes, blob_upto(MAX_BATCH * RECORD_BYTES)]
    memos: Annotated[bytes, blob_upto(MAX_MEMOS_BYTES)]
    repeated: Annotated[tuple[int, ...], array(uint(MAX_BATCH), MAX_BATCH)]


@record
class ReceivedPage(Record):
    """Batches in order; `cursor` is the `after` of the next call."""

    batches: Annotated[tuple[ReceivedBatch, ...], array(nested(ReceivedBatch), MAX_ROWS)]
    cursor: Count


@record
class HistoryBatch(Record):
    """Consecutive payments of one channel and payer."""

    first_n: Count
    records: Annotated[bytes, blob_upto(MAX_BATCH * RECORD_BYTES)]
    memos: Annotated[bytes, blob_upto(MAX_MEMOS_BYTES)]


@record
class HistoryPage(Record):
    batches: Annotated[tuple[HistoryBatch, ...], array(nested(HistoryBatch), MAX_ROWS)]
    next_n: Count


# --- Methods: parameters, and what they answer with -------------------------------------------


class Method(Record):
    """Parameters of a method; `NAME` names it and `RESULT` is what it answers with."""

    __slots__ = ()
    NAME: ClassVar[str]
    RESULT: ClassVar[type[Record]]


@record
class Status(Method):
    NAME: ClassVar[str] = "status"
    RESULT: ClassVar[type[Record]] = StatusView


@record
class ListAssets(Method):
    NAME: ClassVar[str] = "assets"
    RESULT: ClassVar[type[Record]] = AssetList


@record
class ListChannels(Method):
    """All channels, `after` (a channel id, or nil) for the next page; settled ones only if asked."""

    NAME: ClassVar[str] = "channels"
    RESULT: ClassVar[type[Record]] = ChannelList
    after: Annotated[bytes | None, optional(blob(32))]
    settled: Flag


@record
class ShowChannel(Method):
    """One channel, by the first bytes of its id."""

    NAME: ClassVar[str] = "channel"
    RESULT: ClassVar[type[Record]] = ChannelOne
    prefix: Annotated[str, text(64)]


@record
class OpenChannel(Method):
    """Open to the node at `peer` (cp1...@host:port) and wait until both may pay.

    `window_s` or `max_batch` 0 stands for this node's own default.
    """

    NAME: ClassVar[str] = "open"
    RESULT: ClassVar[type[Record]] = ChannelOne
    peer: Address
    asset_id: AssetId
    deposit: Units
    flags: U8
    window_s: U32
    max_batch: U16


@record
class TopupChannel(Method):
    """Add `units` of this node's account to its own deposit."""

    NAME: ClassVar[str] = "topup"
    RESULT: ClassVar[type[Record]] = ChannelOne
    channel_id: Id
    units: Units


@record
class WithdrawChannel(Method):
    """Take `units` out of the channel into this node's account, with the peer's consent."""

    NAME: ClassVar[str] = "withdraw"
    RESULT: ClassVar[type[Record]] = ChannelOne
    channel_id: Id
    units: Units


@record
class ClaimChannel(Method):
    """one_way, party 1: take what has been paid so far, without the peer."""

    NAME: ClassVar[str] = "claim"
    RESULT: ClassVar[type[Record]] = ChannelOne
    channel_id: Id


@record
class CloseChannel(Method):
    """Close; with `force` without the peer. With `wait` the answer comes when it is settled."""

    NAME: ClassVar[str] = "close"
    RESULT: ClassVar[type[Record]] = ChannelOne
    channel_id: Id
    force: Flag
    wait: Flag


@record
class Balance(Method):
    NAME: ClassVar[str] = "balance"
    RESULT: ClassVar[type[Record]] = BalanceView


@record
class ListPeers(Method):
    NAME: ClassVar[str] = "peers"
    RESULT: ClassVar[type[Record]] = PeerList


@record
class ConnectPeer(Method):
    """A node, at this address, that a channel found on the ledger may wait for (spec N-26)."""

    NAME: ClassVar[str] = "connect"
    RESULT: ClassVar[type[Record]] = Empty
    peer: Address


@record
class FindPayment(Method):
    """A payment that this node made, by its id; with a channel id only there."""

    NAME: ClassVar[str] = "payment"
    RESULT: ClassVar[type[Record]] = PaymentView
    payment_id: PaymentId
    channel_id: Annotated[bytes | None, optional(blob(32))]


@record
class Payments(Method):
    """Received payments after position `after`, at least one if `wait`, about `limit` at most."""

    NAME: ClassVar[str] = "payments"
    RESULT: ClassVar[type[Record]] = ReceivedPage
    after: Count
    limit: U32
    wait: Flag


@record
class History(Method):
    """Payments of one channel and payer from number from_n on."""

    NAME: ClassVar[str] = "history"
    RESULT: ClassVar[type[Record]] = HistoryPage
    channel_id: Id
    payer: Party
    from_n: Count
    limit: U32


@record
class Stop(Method):
    """Drain and stop the daemon."""

    NAME: ClassVar[str] = "stop"
    RESULT: ClassVar[type[Record]] = Empty


METHODS: dict[str, type[Method]] = {
    kind.NAME: kind
    for kind in (
        Status, ListAssets, ListChannels, ShowChannel, OpenChannel, TopupChannel, WithdrawChannel, ClaimChannel,
        CloseChannel, Balance, ListPeers, ConnectPeer, FindPayment, Payments, History, Stop,
    )
}  # fmt: skip
"""Every method by its name."""
