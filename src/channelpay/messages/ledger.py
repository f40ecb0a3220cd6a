"""What is asked of a ledger and what it answers: the blobs inside REQUEST, RESPONSE and EVENT. Spec chapter 8.

A request blob is the msgpack array [op, key, valid_until, [arguments]].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from channelpay.amounts import is_code
from channelpay.codec import pack, unpack
from channelpay.errors import ErrorCode, RemoteError
from channelpay.limits import MAX_ASSET_CODE, MAX_ASSET_SCALE, MAX_PAGE, MAX_UNITS, RESPOND_STATES
from channelpay.messages.schema import (
    U8,
    U16,
    U32,
    AssetId,
    Count,
    Field,
    HalfBytes,
    Hash,
    Id,
    Key,
    Nonce,
    Party,
    Record,
    Signature,
    Text,
    Time,
    Units,
    array,
    blob,
    nested,
    optional,
    record,
    text,
    uint,
)

Code = Annotated[str, text(MAX_ASSET_CODE)]
"""An asset's code as somebody asks for it: whether it is one (spec M-3) is for the ledger to answer by name."""
AssetCode = Annotated[str, Field(lambda value: type(value) is str and is_code(value), "an asset code")]
AssetScale = Annotated[int, uint(MAX_ASSET_SCALE)]


class Operation(Record):
    """The arguments of one request; `OP` names it."""

    __slots__ = ()
    OP: ClassVar[str]


@record
class CoSigned(Record):
    """A STATE with both signatures."""

    half0: HalfBytes
    half1: HalfBytes
    signature0: Signature
    signature1: Signature


CoSignedStates = Annotated[tuple[CoSigned, ...], array(nested(CoSigned), RESPOND_STATES)]


@record
class Info(Operation):
    """-> LedgerInfo. Anyone."""

    OP: ClassVar[str] = "info"


@record
class Account(Operation):
    """-> AccountView. Anyone."""

    OP: ClassVar[str] = "account"
    account: Key


@record
class Channel(Operation):
    """-> ChannelView. Anyone."""

    OP: ClassVar[str] = "channel"
    channel_id: Id


@record
class Channels(Operation):
    """-> ChannelPage: the channels of the requesting account, those opened after number `after`."""

    OP: ClassVar[str] = "channels"
    after: Count


@record
class Journal(Operation):
    """-> JournalPage: the requesting account's entries after number `after`."""

    OP: ClassVar[str] = "journal"
    after: Count


@record
class Subscribe(Operation):
    """-> LedgerInfo, then EVENT for every entry after number `after` that concerns the requesting account."""

    OP: ClassVar[str] = "subscribe"
    after: Count


@record
class CreateAsset(Operation):
    """-> AssetView. The ledger's operator only."""

    OP: ClassVar[str] = "asset"
    code: Code
    scale: U8
    issuer: Key


@record
class Issue(Operation):
    """New money into `account`. The asset's issuer only. -> AccountView of `account`."""

    OP: ClassVar[str] = "issue"
    asset_id: AssetId
    account: Key
    units: Units


@record
class Redeem(Operation):
    """Money of the requesting account goes out of the ledger. -> AccountView."""

    OP: ClassVar[str] = "redeem"
    asset_id: AssetId
    units: Units


@record
class Transfer(Operation):
    """From the requesting account. -> AccountView of the requesting account."""

    OP: ClassVar[str] = "transfer"
    asset_id: AssetId
    account: Key
    units: Units


@record
class OpenChannel(Operation):
    """Debits the requesting account, which must be account0. -> ChannelView."""

    OP: ClassVar[str] = "open"
    asset_id: AssetId
    key0: Key
    key1: Key
    account0: Key
    account1: Key
    open_nonce: Nonce
    flags: U8
    window_s: U32
    max_batch: U16
    deposit: Units
    accepted0: Signature
    accepted1: Signature


@record
class Topup(Operation):
    """Adds to the deposit of `party` from the requesting account. -> ChannelView."""

    OP: ClassVar[str] = "topup"
    channel_id: Id
    party: Party
    units: Units


@record
class Withdraw(Operation):
    """Pays out to `party`'s account until W = total. Anyone who holds both signatures. -> ChannelView."""

    OP: ClassVar[str] = "withdraw"
    channel_id: Id
    party: Party
    total: Units
    expiry: Time
    signature0: Signature
    signature1: Signature


@record
class Claim(Operation):
    """one_way: pays party 1 what the state shows and keeps the channel open. Party 1's keys. -> ChannelView."""

    OP: ClassVar[str] = "claim"
    channel_id: Id
    state: Annotated[CoSigned, nested(CoSigned)]


@record
class CloseFinal(Operation):
    """FINAL with both signatures settles at once. Anyone who holds it. -> ChannelView."""

    OP: ClassVar[str] = "close_final"
    channel_id: Id
    half0: HalfBytes
    half1: HalfBytes
    expiry: Time
    signature0: Signature
    signature1: Signature


@record
class Close(Operation):
    """Starts (or answers) a dispute; the requesting key is a channel key. -> ChannelView.

    No state at all closes on the zero state, so that a vanished peer holds no hostage.
    """

    OP: ClassVar[str] = "close"
    channel_id: Id
    states: CoSignedStates


@record
class Respond(Operation):
    """Newer states in a dispute. Anyone. -> ChannelView."""

    OP: ClassVar[str] = "respond"
    channel_id: Id
    states: CoSignedStates


@record
class Settle(Operation):
    """Pays out after the deadline. Anyone. -> ChannelView."""

    OP: ClassVar[str] = "settle"
    channel_id: Id


OPERATIONS: dict[str, type[Operation]] = {
    kind.OP: kind
    for kind in (
        Info, Account, Channel, Channels, Journal, Subscribe, CreateAsset, Issue, Redeem, Transfer, OpenChannel,
        Topup, Withdraw, Claim, CloseFinal, Close, Respond, Settle,
    )
}  # fmt: skip
"""Every operation by its name."""

_ENVELOPE = (text(16), blob(32), uint(MAX_UNITS))


@dataclass(frozen=True, slots=True)
class LedgerRequest:
    """A request: who asks (`key`), until when it may be executed, and what."""

    key: bytes
    valid_until: int
    operation: Operation

    def encode(self) -> bytes:
        """The blob that REQUEST carries and the key signs."""
        return pack([self.operation.OP, self.key, self.valid_until, self.operation.to_wire()])

    @classmethod
    def decode(cls, data: bytes) -> LedgerRequest:
        """The request in a blob; raises RemoteError(MALFORMED)."""
        values = unpack(data)
        if len(values) != 4 or type(values[3]) is not list:
            raise RemoteError(ErrorCode.MALFORMED, "a request is [op, key, valid_until, [arguments]]")
        op, key, valid_until = (
            field.load(value, f"request.{name}")
            for field, value, name in zip(_ENVELOPE, values, ("op", "key", "valid_until"), strict=False)
        )
        kind = OPERATIONS.get(op)
        if kind is None:
            raise RemoteError(ErrorCode.MALFORMED, f"unknown operation {op!r}")
        return cls(key, valid_until, kind.from_wire(values[3]))


@record
class AssetView(Record):
    """A registered asset."""

    asset_id: AssetId
    code: AssetCode
    scale: AssetScale
    issuer: Key


@record
class LedgerInfo(Record):
    """The ledger's identity, clock, newest journal number, rules and assets."""

    ledger_id: Key
    time: Time
    number: Count
    operator: Key
    min_window_s: U32
    max_window_s: U32
    min_deposit: Units
    assets: Annotated[tuple[AssetView, ...], array(nested(AssetView), MAX_PAGE)]


@record
class Holding(Record):
    """Units of one asset."""

    asset_id: AssetId
    units: Units


@record
class AccountView(Record):
    """What an account holds at journal number `number`."""

    account: Key
    number: Count
    time: Time
    holdings: Annotated[tuple[Holding, ...], array(nested(Holding), MAX_PAGE)]


OPEN, CLOSING, SETTLED = range(3)
"""ChannelView.status."""


@record
class ChannelView(Record):
    """A channel as the ledger sees it; halves are the join of all states it was shown."""

    channel_id: Id
    asset_id: AssetId
    key0: Key
    key1: Key
    account0: Key
    account1: Key
    open_nonce: Nonce
    flags: U8
    window_s: U32
    max_batch: U16
    status: U8
    deposit0: Units
    deposit1: Units
    withdrawn0: Units
    withdrawn1: Units
    half0: HalfBytes
    half1: HalfBytes
    deadline: Time
    out0: Units
    out1: Units
    opened: Count
    number: Count
    time: Time


@record
class ChannelPage(Record):
    """Channels in the order of their opening; `more` is the `after` of the next page, nil at the end."""

    channels: Annotated[tuple[ChannelView, ...], array(nested(ChannelView), MAX_PAGE)]
    more: Annotated[int | None, optional(uint(MAX_UNITS))]


@record
class JournalEntry(Record):
    """One movement that touched the account: who with (`subject`), how much in or out, and why.

    `subject` is the channel, the other account, or for issue and redeem the asset id and 16 zero bytes.
    """

    number: Count
    time: Time
    kind: Text
    asset_id: AssetId
    subject: Hash
    credit: Units
    debit: Units


@record
class JournalPage(Record):
    """Entries in order; `more` is the `after` of the next page, nil at the end."""

    entries: Annotated[tuple[JournalEntry, ...], array(nested(JournalEntry), MAX_PAGE)]
    more: Annotated[int | None, optional(uint(MAX_UNITS))]


@record
class Refusal(Record):
    """The body of a RESPONSE whose outcome is not 0: details for people."""

    text: Text


VIEWS: dict[type[Operation], type[Record]] = {
    Info: LedgerInfo,
    Account: AccountView,
    Channel: ChannelView,
    Channels: ChannelPage,
    Journal: JournalPage,
    Subscribe: LedgerInfo,
    CreateAsset: AssetView,
    Issue: AccountView,
    Redeem: AccountView,
    Transfer: AccountView,
    OpenChannel: ChannelView,
    Topup: ChannelView,
    Withdraw: ChannelView,
    Claim: ChannelView,
    CloseFinal: ChannelView,
    Close: ChannelView,
    Respond: ChannelView,
    Settle: ChannelView,
}
"""What each operation answers with when it is done."""
