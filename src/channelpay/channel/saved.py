"""A channel as it stands on disk: `setup` written once, `cold` seldom, `hot` with every flush. Spec 12, store.

The hot part is fixed-width bytes, because a payment that goes alone pays for writing it.
"""

from __future__ import annotations

import struct
from typing import Annotated, NamedTuple

from channelpay.batches import Batch
from channelpay.channel.state import (
    Channel,
    FinalAgreement,
    Held,
    Phase,
    Reading,
    ReceiveLimits,
    SentBatch,
    Setup,
    Withdrawal,
)
from channelpay.crypto import SigningKey
from channelpay.messages.schema import (
    U8,
    U16,
    U32,
    AssetId,
    Count,
    Flag,
    Id,
    Key,
    Nonce,
    Party,
    Record,
    Signature,
    Time,
    Units,
    array,
    blob,
    blob_upto,
    nested,
    optional,
    record,
)
from channelpay.statements import ChannelTerms, Half

_HOT = struct.Struct(">QQ32sQQ32sBQQ32sQQ32s64s")
_NO_HELD = (0, 0, 0, bytes(32), 0, 0, bytes(32), bytes(64))

_HalfBytes = Annotated[bytes, blob(88)]
_Maybe = Annotated[bytes, blob_upto(64)]


class Saved(NamedTuple):
    """The three parts of a channel as bytes."""

    setup: bytes
    cold: bytes
    hot: bytes


def pack_hot(c: Channel) -> bytes:
    """Halves and the newest state held: 257 bytes."""
    held = (1, *c.held.own[:3], *c.held.peer[:3], c.held.signature) if c.held else _NO_HELD
    return _HOT.pack(*c.own[:3], *c.peer[:3], *held)


@record
class _Limits(Record):
    max_unacked: U32
    max_unacked_value: Units
    min_payment: Units


@record
class _Setup(Record):
    ledger_id: Key
    asset_id: AssetId
    key0: Key
    key1: Key
    account0: Key
    account1: Key
    open_nonce: Nonce
    flags: U8
    window_s: U32
    max_batch: U16
    side: Party
    peer_id: Id
    key_index: U32
    salt0: Nonce
    salt1: Nonce
    deposit: Units
    my_limits: Annotated[_Limits, nested(_Limits)]
    peer_limits: Annotated[_Limits, nested(_Limits)]


@record
class _Held(Record):
    own: _HalfBytes
    peer: _HalfBytes
    signature: Signature


@record
class _Withdrawal(Record):
    party: Party
    total: Units
    expiry: Time
    signature0: _Maybe
    signature1: _Maybe


@record
class _Final(Record):
    half0: _HalfBytes
    half1: _HalfBytes
    expiry: Time
    signature0: _Maybe
    signature1: _Maybe


@record
class _Reading(Record):
    status: U8
    deposit0: Units
    deposit1: Units
    withdrawn0: Units
    withdrawn1: Units
    half0: _HalfBytes
    half1: _HalfBytes
    deadline: Time
    out0: Units
    out1: Units
    number: Count


_MaybeHalf = Annotated[bytes | None, optional(blob(88))]


@record
class _Cold(Record):
    phase: U8
    evidence: Annotated[_Held | None, optional(nested(_Held))]
    own_known: _MaybeHalf
    peer_known: _MaybeHalf
    withdrawals: Annotated[tuple[_Withdrawal, ...], array(nested(_Withdrawal), 2)]
    final: Annotated[_Final | None, optional(nested(_Final))]
    close_asked: Flag
    force_asked: Flag
    reading: Annotated[_Reading | None, optional(nested(_Reading))]


def pack_setup(setup: Setup) -> bytes:
    """Terms, side, peer, salts and limits."""
    s = setup
    return _Setup(
        *s.terms,
        s.side,
        s.peer_id,
        s.key_index,
        s.salt0,
        s.salt1,
        s.deposit,
        _Limits(*s.my_limits),
        _Limits(*s.peer_limits),
    ).encode()


def unpack_setup(data: bytes) -> Setup:
    """What pack_setup packed."""
    s = _Setup.decode(data)
    terms = ChannelTerms(
        s.ledger_id, s.asset_id, s.key0, s.key1, s.account0, s.account1, s.open_nonce, s.flags, s.window_s, s.max_batch
    )
    limits = [ReceiveLimits(x.max_unacked, x.max_unacked_value, x.min_payment) for x in (s.my_limits, s.peer_limits)]
    return Setup(terms, s.side, s.peer_id, s.key_index, s.salt0, s.salt1, s.deposit, *limits)


def pack_cold(c: Channel) -> bytes:
    """Phase, agreements and the newest reading of the ledger."""
    evidence = c.evidence and _Held(c.evidence.own.pack(), c.evidence.peer.pack(), c.evidence.signature)
    f, r = c.final, c.reading
    return _Cold(
        int(c.phase),
        evidence,
        c.own_known and c.own_known.pack(),
        c.peer_known and c.peer_known.pack(),
        tuple(_Withdrawal(*w) for _, w in sorted(c.withdrawals.items())),
        f and _Final(f.half0.pack(), f.half1.pack(), f.expiry, f.signature0, f.signature1),
        int(c.close_asked),
        int(c.force_asked),
        r
        and _Reading(
            r.status, *r.deposits, *r.withdrawn, r.halves[0].pack(), r.halves[1].pack(), r.deadline, *r.outs, r.number
        ),
    ).encode()


def load(
    channel_id: bytes,
    saved: Saved,
    key: SigningKey,
    unacked: list[tuple[Batch, Half]],
    recent: list[tuple[int, Half, Half]],
) -> Channel:
    """The channel as it was at the last commit.

    `unacked` are my batches after the newest acknowledged one, `recent` the newest of the peer's:
    (first_n, half before, half after). Raises RemoteError(MALFORMED) for damaged bytes.
    """
    c = Channel(channel_id, unpack_setup(saved.setup), key)
    values = _HOT.unpack(saved.hot)
    c.own, c.peer = Half(*values[0:3]), Half(*values[3:6])
    if values[6]:
        c.held = Held(Half(*values[7:10]), Half(*values[10:13]), values[13])
    _load_cold(c, _Cold.decode(saved.cold))
    c.unacked.extend(SentBatch(batch, half, []) for batch, half in unacked)
    c.recent.extend(recent)
    c.rebuild_boundaries()
    return c


def _load_cold(c: Channel, cold: _Cold) -> None:
    unpack = Half.unpack
    c.phase = Phase(cold.phase)
    if cold.evidence is not None:
        e = cold.evidence
        c.evidence = Held(unpack(e.own), unpack(e.peer), e.signature)
    c.own_known = None if cold.own_known is None else unpack(cold.own_known)
    c.peer_known = None if cold.peer_known is None else unpack(cold.peer_known)
    c.withdrawals = {
        w.party: Withdrawal(w.party, w.total, w.expiry, w.signature0, w.signature1) for w in cold.withdrawals
    }
    if cold.final is not None:
        f = cold.final
        c.final = FinalAgreement(unpack(f.half0), unpack(f.half1), f.expiry, f.signature0, f.signature1)
    c.close_asked, c.force_asked = bool(cold.close_asked), bool(cold.force_asked)
    if cold.reading is not None:
        r = cold.reading
        c.reading = Reading(
            r.status,
            (r.deposit0, r.deposit1),
            (r.withdrawn0, r.withdrawn1),
            (unpack(r.half0), unpack(r.half1)),
            r.deadline,
            (r.out0, r.out1),
            r.number,
        )


class Summary(NamedTuple):
    """What a node must know of every channel at its start, before it loads any."""

    channel_id: bytes
    peer_id: bytes
    side: int
    window_s: int
    phase: Phase
    rests: bool  # nothing falls due before the peer or the ledger speaks


def summarise(channel_id: bytes, saved: Saved) -> Summary:
    """The summary of a saved channel; raises RemoteError(MALFORMED) for damaged bytes."""
    s = _Setup.decode(saved.setup)
    return Summary(channel_id, s.peer_id, s.side, s.window_s, *phase_and_rest(saved.cold))


def phase_and_rest(cold: bytes) -> tuple[Phase, bool]:
    """The phase, and whether the channel rests, from the cold part alone.

    One that is open rests as long as nothing has been agreed, asked or shown that wants an end.
    """
    c = _Cold.decode(cold)
    if c.phase != Phase.OPEN:
        return Phase(c.phase), c.phase in (Phase.SETTLED, Phase.ABANDONED)
    busy = c.withdrawals or c.final or c.close_asked or c.force_asked or c.evidence or c.own_known or c.peer_known
    return Phase.OPEN, not busy and c.reading is not None


def unpack_hot_held(hot: bytes) -> int:
    """How many of my payments the peer had acknowledged, from the hot part alone."""
    values = _HOT.unpack(hot)
    return int(values[7]) if values[6] else 0


def stored_n(saved: Saved) -> tuple[int, int]:
    """How many payments of mine and of the peer the journal has: all, but for those that are being recalled (C-23)."""
    values, cold = _HOT.unpack(saved.hot), _Cold.decode(saved.cold)
    own, peer = cold.own_known, cold.peer_known
    return values[0] if own is None else Half.unpack(own).n, values[3] if peer is None else Half.unpack(peer).n
