"""The exact bytes that are signed and hashed. Spec chapter 3; channel and ledger meet only here.

Every statement is fixed-width under a 16-byte tag, or hashes bytes exactly as they travelled.
Nothing here parses what a peer sent, and nothing is encoded again (spec S-23).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from channelpay.crypto import sha256
from channelpay.errors import ErrorCode, RemoteError
from channelpay.limits import MAX_UNITS

TAG_ASSET: Final = b"channelpay.as.v1"
TAG_CHANNEL: Final = b"channelpay.id.v1"
TAG_STATE: Final = b"channelpay.st.v1"
TAG_FINAL: Final = b"channelpay.fi.v1"
TAG_WITHDRAW: Final = b"channelpay.wd.v1"
TAG_ACCEPTED: Final = b"channelpay.op.v1"
TAG_LINK: Final = b"channelpay.pm.v1"
TAG_GENESIS: Final = b"channelpay.h0.v1"
TAG_AUTH: Final = b"channelpay.au.v1"
TAG_REQUEST: Final = b"channelpay.lr.v1"
TAG_RESPONSE: Final = b"channelpay.la.v1"

FLAG_TWO_WAY: Final = 0
FLAG_ONE_WAY: Final = 1
"""The two values of `flags`; all others are refused (spec C-2)."""

_HALF: Final = struct.Struct(">QQ32sQ32s")
_STATE: Final = struct.Struct(">16s32sQ" + 2 * "QQ32sQ32s")
_CHANNEL: Final = struct.Struct(">BIH")
_LINK: Final = struct.Struct(">16s32sB32sQH32s32s")
_ZERO32: Final = bytes(32)
_HASH_OF_NOTHING: Final = sha256(b"")


class Half(NamedTuple):
    """What one party has paid: `n` payments, `total` units, history hash `h`; `locked`/`root` zero.

    Exists at batch boundaries only. The genesis half is all zero.
    """

    n: int = 0
    total: int = 0
    h: bytes = _ZERO32
    locked: int = 0
    root: bytes = _ZERO32

    def pack(self) -> bytes:
        """The 88 signed bytes."""
        return _HALF.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Half:
        """The half in 88 bytes; raises RemoteError, in the order of spec S-10, for what no payments give."""
        half = cls(*_HALF.unpack(data))
        if half.n > MAX_UNITS or half.total > MAX_UNITS:
            raise RemoteError(ErrorCode.OVERFLOW, "a counter above 2^63-1")
        if half.locked or half.root != _ZERO32:  # spec S-10: reserved for conditional payments
            raise RemoteError(ErrorCode.RESERVED_FIELD, "L and R must be zero in this version")
        if half.n == 0 and half != ZERO_HALF:
            raise RemoteError(ErrorCode.OVERFLOW, "a half without payments is all zero")
        if half.total < half.n:  # every payment is at least one unit
            raise RemoteError(ErrorCode.OVERFLOW, "a total below the number of payments")
        return half


ZERO_HALF: Final = Half()


def asset_id(ledger_id: bytes, issuer: bytes, scale: int, code: str) -> bytes:
    """16 bytes that name an asset of a ledger (spec S-8)."""
    return sha256(TAG_ASSET + ledger_id + issuer + bytes([scale]) + code.encode("ascii"))[:16]


class ChannelTerms(NamedTuple):
    """What makes a channel this one; party 0 offered it, party 1 accepted."""

    ledger_id: bytes
    asset_id: bytes
    key0: bytes
    key1: bytes
    account0: bytes
    account1: bytes
    open_nonce: bytes
    flags: int
    window_s: int
    max_batch: int

    def channel_id(self) -> bytes:
        """32 bytes, never reused (spec S-9)."""
        *parts, flags, window_s, max_batch = self
        return sha256(TAG_CHANNEL + b"".join(parts) + _CHANNEL.pack(flags, window_s, max_batch))


def state_bytes(channel_id: bytes, half0: Half, half1: Half) -> bytes:
    """STATE: tag, channel, seq = n0 + n1 and both halves, 232 bytes (spec S-11)."""
    return _STATE.pack(TAG_STATE, channel_id, half0.n + half1.n, *half0, *half1)


def final_bytes(channel_id: bytes, half0: Half, half1: Half, expiry: int) -> bytes:
    """FINAL: the fields of STATE and an expiry on the ledger's clock, 240 bytes (spec S-12)."""
    return TAG_FINAL + state_bytes(channel_id, half0, half1)[16:] + expiry.to_bytes(8, "big")


def withdraw_bytes(channel_id: bytes, party: int, total: int, expiry: int) -> bytes:
    """WITHDRAW: `party` may have taken out `total` units in all until `expiry` (spec S-13)."""
    return TAG_WITHDRAW + channel_id + bytes([party]) + total.to_bytes(8, "big") + expiry.to_bytes(8, "big")


def accepted_bytes(channel_id: bytes) -> bytes:
    """ACCEPTED: consent to open (spec S-14)."""
    return TAG_ACCEPTED + channel_id


def genesis(channel_id: bytes, salt0: bytes, salt1: bytes) -> bytes:
    """What the first link takes in place of h (spec S-15)."""
    return sha256(TAG_GENESIS + channel_id + salt0 + salt1)


def link(channel_id: bytes, payer: int, h: bytes, first_n: int, count: int, records: bytes, memos: bytes) -> bytes:
    """The history hash after one batch (spec S-16)."""
    memos_hash = sha256(memos) if memos else _HASH_OF_NOTHING  # most batches have none
    return sha256(_LINK.pack(TAG_LINK, channel_id, payer, h, first_n, count, sha256(records), memos_hash))


def auth_bytes(side: int, hellos: bytes, certificate: bytes, node_id: bytes, peer_id: bytes = b"") -> bytes:
    """AUTH: who signs, on which side (0 connected, 1 listened), on which TLS connection (spec S-17).

    `hellos` are both HELLO frames whole, the connector's first; `peer_id` is empty for the
    listener, which does not know it yet.
    """
    return b"".join((TAG_AUTH, bytes([side]), sha256(hellos), sha256(certificate), node_id, peer_id))


def request_bytes(ledger_id: bytes, request_id: bytes, blob: bytes) -> bytes:
    """A ledger request (spec S-18)."""
    return TAG_REQUEST + ledger_id + request_id + sha256(blob)


def response_bytes(ledger_id: bytes, request_id: bytes, request_hash: bytes, outcome: int, body: bytes) -> bytes:
    """A ledger's answer, tied to the request's bytes (spec S-19)."""
    return b"".join((TAG_RESPONSE, ledger_id, request_id, request_hash, outcome.to_bytes(2, "big"), sha256(body)))
