"""A dishonest party on the wire: what its node sends is changed, and signed anew with its own key."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Callable
from typing import Any, Final

import msgpack

from channelpay.crypto import SigningKey
from simulation.tap import Channel

WITHHELD: Final = "withheld acknowledgement"
"""Payments are taken, and what is sent does not show it: states then cross, and none of them is newest in all."""

BAD_SIGNATURE: Final = "bad signature"
"""Of all payments but the first perhaps, so that a sound one may come together with them."""

REPEATED_ID: Final = "repeated id"
"""An id is paid again under the next number, perhaps with another amount or memo: the money counts, and the payee must
not take it for another payment."""

OTHER_BYTES: Final = "other bytes"
"""A payment comes as it is, and again under its number and id, at once or later, with another amount or memo."""

KINDS: Final = (
    "overdraft", BAD_SIGNATURE, "other amount", "payment twice", "payment after the last", "greedy withdrawal",
    WITHHELD, REPEATED_ID, OTHER_BYTES,
)  # fmt: skip
"""Each must be refused or borne, and leave the honest party with all that it is entitled to."""

_RECORD: Final = struct.Struct(">Q16s")
_REESTABLISH: Final = 0x22
_PAY, _ACK, _SHUTDOWN, _FINAL, _WITHDRAW_ASK = 0x20, 0x21, 0x30, 0x31, 0x40


class Tamper:
    """Changes the frames of party `side` of a channel."""

    def __init__(self, kind: str, channel: Channel, side: int, key: SigningKey, rng: random.Random) -> None:
        self.kind = kind
        self.done = False
        self._channel = channel
        self._side = side
        self._key = key
        self._rng = rng
        self._made: dict[int, bytes] = {}  # halves signed here, by number
        self.old = b""  # the record of a payment made long ago, if one is to be repeated
        self._later = b""  # what is sent behind the next payment
        self._spared = rng.randrange(2) if kind == BAD_SIGNATURE else 0  # payments that are sent as they are

    def __call__(self, data: bytes) -> tuple[bytes, bytes]:
        """(what is sent in place of whole frames, those that may count)."""
        sent, sound, at = b"", b"", 0
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            frame, at = data[at:end], end
            fields = msgpack.unpackb(frame[5:], use_list=True)
            ours = frame[4] >= _PAY and fields and fields[0] == self._channel.channel_id
            changes = ours and (not self.done or self.kind in (BAD_SIGNATURE, WITHHELD, REPEATED_ID))
            changed = self._frame(frame, frame[4], fields) if changes else frame
            sent += changed
            # A PAY that is not signed is proved by the next one that is, so it is shown as it was sent.
            counts = self.kind in (BAD_SIGNATURE, WITHHELD, REPEATED_ID)
            sound += changed if counts else frame if changed.startswith(frame) else b""
        return sent, sound

    def _frame(self, frame: bytes, kind: int, fields: list[Any]) -> bytes:
        if kind == _ACK and self.kind == WITHHELD:
            self.done = True
            return b""
        if kind == _PAY and self.kind == WITHHELD:
            _, first_n, records, memos, _, _ = fields
            return self._signed_pay(first_n, records, memos, self._channel.claimed[self._side])
        if self.kind == REPEATED_ID:
            return self._repeat_id(frame, kind, fields)
        if kind == _PAY and self.kind == OTHER_BYTES:
            return frame + self._other_bytes(fields)
        if kind == _PAY and self._spared:
            self._spared -= 1
            return frame
        if kind == _PAY and self.kind in ("overdraft", BAD_SIGNATURE, "other amount", "payment twice"):
            self.done = True
            return frame + frame if self.kind == "payment twice" else self._pay(fields)
        if kind in (_SHUTDOWN, _FINAL) and self._rng.random() < 0.5 and self.kind == "payment after the last":
            self.done = True
            newest = self._channel.newest
            return frame + self._signed_pay(
                newest[self._side] + 1, _RECORD.pack(1, bytes(16)), b"", newest[1 - self._side]
            )
        if kind == _WITHDRAW_ASK and self.kind == "greedy withdrawal":
            self.done = True
            _, total, expiry, _ = fields
            total += 10**9
            party = bytes([self._side])
            statement = b"channelpay.wd.v1" + fields[0] + party + total.to_bytes(8, "big") + expiry.to_bytes(8, "big")
            return _packed(kind, [fields[0], total, expiry, self._key.sign(statement)])
        return frame

    def _repeat_id(self, frame: bytes, kind: int, fields: list[Any]) -> bytes:
        """A PAY, and an old payment or its own once more; of its node, which does not know of it, no more is sent."""
        if self.done or kind != _PAY:
            return b"" if self.done else frame
        _, first_n, records, memos, ack_n, _ = fields
        again = self.old or records[:24]
        if again[8:] == bytes(16):
            return frame
        self.done = True
        pay = self._signed_pay(first_n, records, memos, ack_n)
        again, memo = self._changed(again, b"") if self._rng.random() < 0.5 else (again, b"")
        return pay + self._signed_pay(first_n + len(records) // 24, again, memo, ack_n)

    def _other_bytes(self, fields: list[Any]) -> bytes:
        """The same numbers and ids once more; half of the time behind the next payment, when these are on disk."""
        self.done = True
        if self._later:
            return self._later
        _, first_n, records, memos, ack_n, _ = fields
        again = self._signed_pay(first_n, *self._changed(records, memos), ack_n)
        if self._rng.random() < 0.5:
            return again
        self._later, self.done = again, False
        return b""

    def _changed(self, records: bytes, memos: bytes) -> tuple[bytes, bytes]:
        """Another amount or another memo of the first payment."""
        if self._rng.random() < 0.5:
            return records, msgpack.packb([[0, self._rng.randbytes(8)]])
        units, payment_id = _RECORD.unpack(records[:24])
        return _RECORD.pack(units + 1, payment_id) + records[24:], memos

    def _pay(self, fields: list[Any]) -> bytes:
        _, first_n, records, _, ack_n, signature = fields
        if self.kind == BAD_SIGNATURE:
            return _packed(_PAY, [*fields[:5], bytes([signature[0] ^ 1]) + signature[1:]])
        if self.kind == "other amount":
            boundaries = sorted(n for n in self._channel.halves[self._side] if n < first_n)
            if len(boundaries) > 1:
                first_n = boundaries[-2] + 1
                records = _RECORD.pack(self._rng.randint(1, 5), bytes(16)) * (boundaries[-1] - boundaries[-2])
            return self._signed_pay(first_n, records, b"", ack_n)
        return self._signed_pay(first_n, _RECORD.pack(10**9, bytes(16)), b"", ack_n)

    def _signed_pay(self, first_n: int, records: bytes, memos: bytes, ack_n: int) -> bytes:
        """A PAY that is sound but for what it pays."""
        c = self._channel
        # The tap has not heard yet what leaves together with this.
        before = self._made.get(first_n - 1) or c.halves[self._side][first_n - 1]
        n0, total0, h = struct.unpack(">QQ32s", before[:48])
        amounts = [units for units, _ in _RECORD.iter_unpack(records)]
        parts = (
            b"channelpay.pm.v1", c.channel_id, bytes([self._side]), h if n0 else c.genesis, first_n.to_bytes(8, "big"),
            len(amounts).to_bytes(2, "big"), hashlib.sha256(records).digest(), hashlib.sha256(memos).digest(),
        )  # fmt: skip
        link = hashlib.sha256(b"".join(parts)).digest()
        own = struct.pack(">QQ32sQ32s", n0 + len(amounts), total0 + sum(amounts), link, 0, bytes(32))
        self._made[first_n + len(amounts) - 1] = own
        peer = c.halves[1 - self._side][ack_n]
        halves = own + peer if self._side == 0 else peer + own
        seq = (n0 + len(amounts) + ack_n).to_bytes(8, "big")
        signature = self._key.sign(b"channelpay.st.v1" + c.channel_id + seq + halves)
        return _packed(_PAY, [c.channel_id, first_n, records, memos, ack_n, signature])


def without_agreements(channel_id: bytes) -> Callable[[object, bytes], bytes]:
    """Leaves withdrawals and FINAL out of whatever REESTABLISH shows of a channel."""

    def replace(_: object, data: bytes) -> bytes:
        sent, at = b"", 0
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            frame, at = data[at:end], end
            if frame[4] == _REESTABLISH:
                fields = msgpack.unpackb(frame[5:], use_list=True)
                if fields[0] == channel_id:
                    frame = _packed(_REESTABLISH, [*fields[:3], [], None])
            sent += frame
        return sent

    return replace


def _packed(kind: int, fields: list[Any]) -> bytes:
    payload = msgpack.packb(fields)
    return struct.pack(">IB", len(payload) + 1, kind) + payload
