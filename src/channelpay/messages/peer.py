"""The messages between two nodes, and the type table. Spec chapter 5."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, ClassVar

from channelpay.codec import unpack
from channelpay.errors import ErrorCode, RemoteError
from channelpay.framing import frame
from channelpay.limits import (
    MAX_AGENT_BYTES,
    MAX_BATCH,
    MAX_BLOB_BYTES,
    MAX_BODY_BYTES,
    MAX_FEATURES,
    MAX_LEDGERS,
    MAX_MEMOS_BYTES,
    MAX_RECORDS_BATCHES,
    MAX_VERSIONS,
    RECORD_BYTES,
)
from channelpay.messages.schema import (
    U8,
    U16,
    U32,
    U64,
    AssetId,
    Count,
    HalfBytes,
    Hash,
    Id,
    Key,
    MaybeSignature,
    Nonce,
    Party,
    Record,
    RequestId,
    Signature,
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


class Role(IntEnum):
    """What a connector wants and what a listener is (HELLO.role)."""

    NODE = 0
    LEDGER = 1
    LEDGER_CLIENT = 2


class Message(Record):
    """A record that is a frame of its own."""

    __slots__ = ()
    TYPE: ClassVar[int]

    def to_frame(self) -> bytes:
        """The whole frame, header included."""
        return frame(self.TYPE, self.encode())


@record
class Hello(Message):
    """The first message of both sides (spec T-9)."""

    TYPE: ClassVar[int] = 0x01
    versions: Annotated[tuple[int, ...], array(uint(2**16 - 1), MAX_VERSIONS, least=1)]
    features: Annotated[tuple[int, ...], array(uint(2**16 - 1), MAX_FEATURES)]
    role: U8
    nonce: Nonce
    ledger_ids: Annotated[tuple[bytes, ...], array(blob(32), MAX_LEDGERS)]
    agent: Annotated[str, text(MAX_AGENT_BYTES)]


@record
class Auth(Message):
    """Who I am, tied to this TLS connection (spec T-16)."""

    TYPE: ClassVar[int] = 0x02
    node_id: Key
    signature: Signature


@record
class Error(Message):
    """A refusal: of the connection (channel nil), of a channel, or of an OPEN (its nonce)."""

    TYPE: ClassVar[int] = 0x03
    code: U16
    channel: Annotated[bytes | None, optional(blob(32))]
    text: Text


@record
class Ping(Message):
    TYPE: ClassVar[int] = 0x04
    token: U64


@record
class Pong(Message):
    TYPE: ClassVar[int] = 0x05
    token: U64


@record
class Open(Message):
    """Party 0's offer of a channel (spec C-4)."""

    TYPE: ClassVar[int] = 0x10
    open_nonce: Nonce
    asset_id: AssetId
    channel_key: Key
    account: Key
    deposit: Units
    flags: U8
    window_s: U32
    max_batch: U16
    salt: Nonce
    max_unacked: U32
    max_unacked_value: Units
    min_payment: Units


@record
class Accept(Message):
    """Party 1's answer, with its consent to open (spec C-5)."""

    TYPE: ClassVar[int] = 0x11
    open_nonce: Nonce
    asset_id: AssetId
    channel_key: Key
    account: Key
    deposit: Units
    flags: U8
    window_s: U32
    max_batch: U16
    salt: Nonce
    max_unacked: U32
    max_unacked_value: Units
    min_payment: Units
    signature: Signature


@record
class Funded(Message):
    """Party 0 says that the ledger has opened the channel; party 1 looks for itself (spec C-7)."""

    TYPE: ClassVar[int] = 0x12
    channel_id: Id


@record
class Ready(Message):
    """The signature over STATE(0, 0) (spec C-7)."""

    TYPE: ClassVar[int] = 0x13
    channel_id: Id
    signature: Signature


@record
class Pay(Message):
    """One batch of payments and one signed state (spec C-10)."""

    TYPE: ClassVar[int] = 0x20
    channel_id: Id
    first_n: Count
    records: Records
    memos: Memos
    ack_n: Count
    signature: Signature


@record
class Ack(Message):
    """All payments up to n are durable here (spec C-16)."""

    TYPE: ClassVar[int] = 0x21
    channel_id: Id
    n: Count
    own_n: Count
    signature: Signature


@record
class SignedState(Record):
    """Both halves and one party's signature over STATE of them."""

    half0: HalfBytes
    half1: HalfBytes
    signature: Signature


@record
class OpenWithdrawal(Record):
    """An agreement on a withdrawal that may still execute; signatures as far as given."""

    party: Party
    total: Units
    expiry: Time
    signature0: MaybeSignature
    signature1: MaybeSignature


@record
class OpenFinal(Record):
    """A FINAL that may still be used; signatures as far as given."""

    half0: HalfBytes
    half1: HalfBytes
    expiry: Time
    signature0: MaybeSignature
    signature1: MaybeSignature


@record
class Reestablish(Message):
    """What I know, first thing on a channel after every connection (spec C-20)."""

    TYPE: ClassVar[int] = 0x22
    channel_id: Id
    mine: Annotated[SignedState, nested(SignedState)]
    yours: Annotated[SignedState | None, optional(nested(SignedState))]
    withdrawals: Annotated[tuple[OpenWithdrawal, ...], array(nested(OpenWithdrawal), 2)]
    final: Annotated[OpenFinal | None, optional(nested(OpenFinal))]


@record
class Recall(Message):
    """Send me the batches of `payer` from payment from_n on (spec C-24)."""

    TYPE: ClassVar[int] = 0x23
    channel_id: Id
    payer: Party
    from_n: Count


@record
class PastBatch(Record):
    """One batch as it was first sent."""

    first_n: Count
    records: Records
    memos: Memos


@record
class PastRecords(Message):
    """RECORDS: batches in order from the from_n asked for; none at all when none are kept (spec C-25)."""

    TYPE: ClassVar[int] = 0x24
    channel_id: Id
    payer: Party
    batches: Annotated[tuple[PastBatch, ...], array(nested(PastBatch), MAX_RECORDS_BATCHES)]


@record
class Shutdown(Message):
    """I shall pay no more; my last payment is last_n (spec X-1)."""

    TYPE: ClassVar[int] = 0x30
    channel_id: Id
    last_n: Count


@record
class Final(Message):
    """The signature over FINAL of the drained halves (spec X-3)."""

    TYPE: ClassVar[int] = 0x31
    channel_id: Id
    expiry: Time
    signature: Signature


@record
class WithdrawAsk(Message):
    """Consent, please, to my withdrawing up to `total` in all (spec X-8)."""

    TYPE: ClassVar[int] = 0x40
    channel_id: Id
    total: Units
    expiry: Time
    signature: Signature


@record
class WithdrawOk(Message):
    TYPE: ClassVar[int] = 0x41
    channel_id: Id
    total: Units
    expiry: Time
    signature: Signature


@record
class WithdrawNo(Message):
    TYPE: ClassVar[int] = 0x42
    channel_id: Id
    total: Units
    expiry: Time
    code: U16


@record
class TopupHint(Message):
    """The ledger has news of this channel; look for yourself."""

    TYPE: ClassVar[int] = 0x50
    channel_id: Id


@record
class Request(Message):
    """A signed request to a ledger; `blob` is a messages.ledger request (spec L-3)."""

    TYPE: ClassVar[int] = 0x80
    request_id: RequestId
    blob: Annotated[bytes, blob_upto(MAX_BLOB_BYTES, least=1)]
    signature: Signature


@record
class Response(Message):
    """The ledger's signed answer (spec L-4). `outcome` 0 is done; others are refusals."""

    TYPE: ClassVar[int] = 0x81
    request_id: RequestId
    request_hash: Hash
    outcome: U16
    body: Annotated[bytes, blob_upto(MAX_BODY_BYTES)]
    signature: Signature


@record
class Event(Message):
    """One entry of the ledger's journal that concerns the subscriber (spec L-20)."""

    TYPE: ClassVar[int] = 0x82
    number: Count
    at: Time
    kind: Text
    subject: Id
    body: Annotated[bytes, blob_upto(MAX_BODY_BYTES)]


MESSAGES: dict[int, type[Message]] = {
    kind.TYPE: kind
    for kind in (
        Hello, Auth, Error, Ping, Pong, Open, Accept, Funded, Ready, Pay, Ack, Reestablish, Recall, PastRecords,
        Shutdown, Final, WithdrawAsk, WithdrawOk, WithdrawNo, TopupHint, Request, Response, Event,
    )
}  # fmt: skip
"""Every message by its type byte."""


def decode(kind: int, payload: bytes) -> Message:
    """The message in a frame; raises RemoteError(MALFORMED) for unknown types and bad fields."""
    message = MESSAGES.get(kind)
    if message is None:  # spec W-5
        raise RemoteError(ErrorCode.MALFORMED, f"unknown message type 0x{kind:02x}")
    values: list[Any] = unpack(payload)
    return message.from_wire(values)
