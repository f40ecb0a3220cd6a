"""Every way in which channelpay says no.

Three families, kept apart because different people must act on them:

* `LocalError`: our own caller asked for something that cannot be done. Nothing was sent.
* `RemoteError`: the peer broke the protocol (or we did, in its eyes). Carries the wire code.
* `StoreFailed`: this machine could not keep its promise to write. The node stops.

Spec: chapter 9 (errors).
"""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum


class Effect(Enum):
    """What an ERROR does to what it names (spec E-2)."""

    RETRY = "retry"  # nothing is wrong with the channel; ask again later
    SUSPEND = "suspend"  # the channel stops on this connection until the next REESTABLISH
    CLOSE = "close"  # the connection ends


class ErrorCode(IntEnum):
    """Codes of the ERROR message (spec E-1). The number is what travels."""

    effect: Effect

    def __new__(cls, value: int, effect: Effect = Effect.CLOSE) -> ErrorCode:
        member = int.__new__(cls, value)
        member._value_ = value
        member.effect = effect
        return member

    # The connection.
    MALFORMED = 1, Effect.CLOSE  # bytes that are no legal frame or message
    UNEXPECTED = 2, Effect.CLOSE  # a legal message at an illegal time
    TOO_LARGE = 3, Effect.CLOSE  # a frame above its bound
    NO_COMMON_VERSION = 4, Effect.CLOSE
    UNKNOWN_FEATURE = 5, Effect.CLOSE  # an even feature number that we do not know
    BAD_AUTH = 6, Effect.CLOSE
    SELF_CONNECTION = 7, Effect.CLOSE
    WRONG_IDENTITY = 8, Effect.CLOSE  # AUTH proves another key than the one dialled
    REPLACED = 9, Effect.CLOSE  # a newer connection of the same pair took over
    TIMED_OUT = 10, Effect.CLOSE
    BUSY = 11, Effect.CLOSE
    STOPPING = 12, Effect.CLOSE  # the daemon is going down in good order
    WRONG_ROLE = 13, Effect.CLOSE  # these two roles do not speak to each other
    # Answers to OPEN; `channel` carries the open_nonce.
    NOT_ACCEPTING = 20, Effect.RETRY
    ASSET_REFUSED = 21, Effect.RETRY
    DEPOSIT_REFUSED = 22, Effect.RETRY
    WINDOW_REFUSED = 23, Effect.RETRY
    FLAGS_REFUSED = 24, Effect.RETRY
    BATCH_REFUSED = 25, Effect.RETRY
    TOO_MANY_CHANNELS = 26, Effect.RETRY
    KEY_REFUSED = 27, Effect.RETRY
    LIMITS_REFUSED = 28, Effect.RETRY
    LEDGER_REFUSED = 29, Effect.RETRY  # no common ledger, or it could not be reached
    # One channel.
    UNKNOWN_CHANNEL = 40, Effect.SUSPEND
    ILLEGAL_NOW = 41, Effect.SUSPEND  # the channel's phase does not allow this message
    BAD_SIGNATURE = 42, Effect.CLOSE
    GAP = 43, Effect.SUSPEND  # first_n is beyond what is held, or partly held
    OTHER_BYTES = 44, Effect.SUSPEND  # a payment number held already, with other bytes
    REGRESSION = 45, Effect.SUSPEND  # a state older than one shown before
    UNKNOWN_BOUNDARY = 46, Effect.SUSPEND  # a count that is not the end of a batch we sent
    BALANCE = 47, Effect.SUSPEND  # the payer's balance would be below zero
    LIMIT_EXCEEDED = 48, Effect.SUSPEND  # beyond the limits agreed at OPEN
    RESERVED_FIELD = 49, Effect.SUSPEND  # L or R is not zero
    OVERFLOW = 50, Effect.SUSPEND  # a sum or half that no payments give: above 2^63-1, total < n
    BAD_BATCH = 51, Effect.SUSPEND  # records or memos that break their shape
    ONE_WAY = 52, Effect.SUSPEND  # party 1 paid on a one_way channel
    FINAL_MISMATCH = 53, Effect.SUSPEND
    BAD_HISTORY = 54, Effect.SUSPEND  # RECORDS that do not link up to the signed hash
    EXPIRY_REFUSED = 55, Effect.RETRY
    WITHDRAW_REFUSED = 56, Effect.RETRY  # beyond the balance, or another one is open
    STALLED = 57, Effect.RETRY  # our reading of the ledger is too old to answer
    HISTORY_PRUNED = 58, Effect.RETRY  # reserved: RECORDS without a batch say the same


def code_name(value: int) -> str:
    """The name of a wire code for people; unknown ones by their number."""
    member = ErrorCode._value2member_map_.get(value)
    return member.name.lower() if isinstance(member, ErrorCode) else f"code {value}"


def effect_of(value: int) -> Effect:
    """What a wire code does; one that we do not know suspends what it names (spec E-4)."""
    member = ErrorCode._value2member_map_.get(value)
    return member.effect if isinstance(member, ErrorCode) else Effect.SUSPEND


class Reason(StrEnum):
    """Why a local request was refused (spec N-7). The value is what programs see."""

    USAGE = "usage"
    UNKNOWN_CHANNEL = "unknown-channel"
    AMBIGUOUS_CHANNEL = "ambiguous-channel"
    UNKNOWN_ASSET = "unknown-asset"
    UNKNOWN_PEER = "unknown-peer"
    NOT_OPEN = "channel-not-open"
    CLOSING = "channel-closing"
    ONE_WAY = "one-way-channel"
    INSUFFICIENT_BALANCE = "insufficient-balance"
    ABOVE_LIMIT = "above-peer-limit"
    BELOW_MINIMUM = "below-peer-minimum"
    ID_REUSED = "payment-id-reused"
    ID_EXPIRED = "payment-id-expired"
    ID_FROM_FUTURE = "payment-id-from-future"
    QUEUE_FULL = "queue-full"
    UNRESOLVED = "channel-unresolved"
    STALLED = "ledger-reading-too-old"
    SUSPENDED = "channel-suspended"
    PEER_REFUSED = "refused-by-peer"
    PEER_UNREACHABLE = "peer-unreachable"
    LEDGER_REFUSED = "refused-by-ledger"
    LEDGER_UNREACHABLE = "ledger-unreachable"
    WITHDRAWAL_OPEN = "withdrawal-open"
    TIMED_OUT = "timed-out"
    UNKNOWN_OUTCOME = "unknown-outcome"
    STOPPING = "node-stopping"
    UNKNOWN_PAYMENT = "unknown-payment"
    PRUNED = "records-pruned"


def shown(text: str, most: int = 80) -> str:
    """`text` quoted for a message: at most `most` characters of it, unprintable ones escaped."""
    return repr(text) if len(text) <= most else f"{text[:most]!r}..."


class ChannelpayError(Exception):
    """The root of everything that channelpay raises on purpose."""


class AmountError(ChannelpayError, ValueError):
    """A text or number that is no amount of the asset; the message says what is wrong."""


class AddressError(ChannelpayError, ValueError):
    """A text that is no `cp1...@host:port` or `cpl1...@host:port`."""


class KeyRefused(ChannelpayError, ValueError):
    """A public key that is small-order, not canonical, or no point at all; or bad seed words."""


class BadSignature(ChannelpayError):
    """A signature that does not verify."""


class SealRefused(ChannelpayError):
    """A sealed secret that does not open: another key, or other bytes."""


class LocalError(ChannelpayError):
    """Our caller's request was refused; nothing was sent, nothing was paid."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class RemoteError(ChannelpayError):
    """The peer broke the protocol. `channel` is None when the whole connection is meant."""

    def __init__(self, code: ErrorCode, text: str, channel: bytes | None = None) -> None:
        super().__init__(f"{code.name.lower()}: {text}")
        self.code = code
        self.text = text
        self.channel = channel


class StoreFailed(ChannelpayError):
    """The store could not write, read or be opened. A node that meets it stops."""
