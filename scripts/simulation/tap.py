"""The wire between nodes, read by the auditor: every signature that leaves a process is judged at once.

With parsing, hashing and verifying of its own: what is signed must be a history that only grows, must be covered by
the payer's money on the ledger, and must be on the signer's disk when it starts again.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ZERO: Final = bytes(88)
_HALF: Final = struct.Struct(">QQ32sQ32s")
_RECORD: Final = struct.Struct(">Q16s")

Find = Callable[..., None]
"""(counter, what, names of the parties concerned)."""


@dataclass(frozen=True, slots=True)
class Money:
    """What the ledger shows of a channel."""

    deposits: tuple[int, int]
    withdrawn: tuple[int, int]
    settled: tuple[int, int] = (0, 0)  # payments of each party that it has paid out for good
    over: bool = False
    stale: bool = False  # the books are damaged: this is what they showed before


@dataclass(slots=True)
class Channel:
    """A channel as it shows on the wire."""

    channel_id: bytes
    names: tuple[str, str]
    keys: tuple[bytes, bytes]
    genesis: bytes
    halves: tuple[dict[int, bytes], dict[int, bytes]] = field(default_factory=lambda: ({0: _ZERO}, {0: _ZERO}))
    newest: list[int] = field(default_factory=lambda: [0, 0])  # payments that each party has signed as made
    claimed: list[int] = field(default_factory=lambda: [0, 0])  # payments of the other that each has signed as held
    shown: list[int] = field(default_factory=lambda: [0, 0])  # the same, at the beginning of a connection
    recalled: dict[tuple[int, int], int] = field(default_factory=dict)
    """(who asked, payer) to the newest payment of the last RECORDS."""
    finals: dict[int, tuple[int, int, int, bytes]] = field(default_factory=dict)
    """By party that signed FINAL: (n of party 0, n of party 1, expiry, signature) of its newest."""
    asked: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0), (0, 0)])
    """W_total that each party holds for a withdrawal, and when that expires."""
    consents: dict[tuple[int, int, int], dict[int, bytes]] = field(default_factory=dict)
    """(party, W_total, expiry) to the signatures on that withdrawal, by signer."""
    unproved: list[int] = field(default_factory=lambda: [0, 0])  # newest of each that was signed falsely
    states: tuple[list[tuple[int, int, bytes]], ...] = field(default_factory=lambda: ([], []))
    """By signer: (its own n, the other's n, signature) of every STATE, in order."""

    def state(self, n0: int, n1: int) -> bytes:
        """The signed bytes of a STATE."""
        seq = (n0 + n1).to_bytes(8, "big")
        return b"channelpay.st.v1" + self.channel_id + seq + self.halves[0][n0] + self.halves[1][n1]

    def agreed_final(self) -> tuple[Any, ...] | None:
        """(channel_id, half 0, half 1, expiry, signature 0, signature 1) of a FINAL that both have signed."""
        if len(self.finals) < 2 or self.finals[0][:3] != self.finals[1][:3]:
            return None
        n0, n1, expiry, signature0 = self.finals[0]
        return self.channel_id, self.halves[0][n0], self.halves[1][n1], expiry, signature0, self.finals[1][3]

    def agreed_withdrawal(self, party: int) -> tuple[Any, ...] | None:
        """(channel_id, party, W_total, expiry, signature 0, signature 1) of the newest that both have signed."""
        agreed = [key for key, signed in self.consents.items() if key[0] == party and len(signed) == 2]
        return (self.channel_id, *agreed[-1], *(self.consents[agreed[-1]][n] for n in (0, 1))) if agreed else None

    def total(self, payer: int, n: int) -> int:
        """Units of payments 1 .. n."""
        return int(_HALF.unpack(self.halves[payer][n])[1])


class Tap:
    """Listens to all connections between nodes. `money` reads the ledger, None for a channel that it does not know.

    `time` is the ledger's.
    """

    def __init__(
        self,
        ledger_id: bytes,
        find: Find,
        money: Callable[[bytes], Money | None],
        time: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.channels: dict[bytes, Channel] = {}
        self.forgetful: Container[str] = ()  # parties whose store was replaced by an older copy
        self._ledger_id = ledger_id
        self._find = find
        self._money = money
        self._time = time
        self._offers: dict[bytes, tuple[str, list[Any]]] = {}
        self._buffers: dict[int, bytearray] = {}
        self._keys: dict[bytes, Ed25519PublicKey] = {}

    def heard(self, stream: int, sender: str, receiver: str, data: bytes) -> None:
        """Bytes have left a process on a connection."""
        buffer = self._buffers.setdefault(stream, bytearray())
        buffer += data
        while len(buffer) >= 5:
            end = 4 + int.from_bytes(buffer[:4], "big")
            if len(buffer) < end:
                return
            kind, payload = buffer[4], bytes(buffer[5:end])
            del buffer[:end]
            if kind >= 0x10:
                self._message(kind, msgpack.unpackb(payload, use_list=True), sender, receiver)

    def _message(self, kind: int, fields: list[Any], sender: str, receiver: str) -> None:
        if kind == 0x10:
            self._offers[fields[0]] = sender, fields
        elif kind == 0x11:
            self._accepted(fields, sender)
        elif (channel := self.channels.get(fields[0])) is not None and sender in channel.names:
            side = channel.names.index(sender)
            if channel.names[0] == channel.names[1]:
                return
            rule = self._RULES.get(kind)
            if rule is not None:
                rule(self, channel, side, *fields[1:])

    def _accepted(self, fields: list[Any], sender: str) -> None:
        if fields[0] not in self._offers:
            return
        opener, offer = self._offers[fields[0]]
        nonce, asset, key0, account0, _, flags, window_s, max_batch, salt0 = offer[:9]
        key1, account1, salt1 = fields[2], fields[3], fields[8]
        terms = b"".join((self._ledger_id, asset, key0, key1, account0, account1, nonce))
        channel_id = _hash(b"channelpay.id.v1" + terms + struct.pack(">BIH", flags, window_s, max_batch))
        genesis = _hash(b"channelpay.h0.v1" + channel_id + salt0 + salt1)
        self.channels[channel_id] = Channel(channel_id, (opener, sender), (key0, key1), genesis)

    # --- Rules -----------------------------------------------------------------------------

    def _pay(
        self, c: Channel, side: int, first_n: int, records: bytes, memos: bytes, ack_n: int, signature: bytes
    ) -> None:
        before = c.halves[side].get(first_n - 1)
        if before is None:
            self._find("drift", f"payment {first_n} follows nothing", c.names[side])
            return
        n0, total0, h, _, _ = _HALF.unpack(before)
        amounts = [units for units, _ in _RECORD.iter_unpack(records)]
        n, total = n0 + len(amounts), total0 + sum(amounts)
        link = b"".join((
            b"channelpay.pm.v1", c.channel_id, bytes([side]), h if n0 else c.genesis, first_n.to_bytes(8, "big"),
            len(amounts).to_bytes(2, "big"), _hash(records), _hash(memos),
        ))  # fmt: skip
        half = _HALF.pack(n, total, _hash(link), 0, bytes(32))
        if c.halves[side].get(n, half) != half or (n <= c.newest[side] and n not in c.halves[side]):
            # What the peer holds it shows to whoever has forgotten it, so nothing excuses another in its place.
            held = first_n <= c.claimed[1 - side]
            what = f"payments up to {n} were signed with two histories" + (", and the peer holds one" if held else "")
            self._find("duplicated" if held else "drift", what, c.names[side])
        c.halves[side][n] = half
        if n > c.newest[side]:
            if side in c.finals:
                # Who has only proposed it may have forgotten it, and the other too; the second signer remembers.
                counter = "below_entitlement" if c.agreed_final() and self._time() <= c.finals[side][2] else "drift"
                self._find(counter, f"payment {n} was signed after FINAL", c.names[side])
            self._covered(c, side, total, ack_n)
            c.newest[side] = n
        self._state(c, side, n, ack_n, signature)

    def _covered(self, c: Channel, side: int, total: int, ack_n: int) -> None:
        money = self._money(c.channel_id)
        if money is None:
            self._find("phantom", "a payment on a channel that is not on the ledger", c.names[side])
            return
        if money.stale:
            return
        received = c.total(1 - side, ack_n) if ack_n in c.halves[1 - side] else 0
        asked, expiry = c.asked[side]
        held = asked if self._time() <= expiry else 0
        if money.deposits[side] - max(money.withdrawn[side], held) - total + received < 0:
            self._find("below_entitlement", "a payment was signed that its payer's money does not cover", c.names[side])

    def _ack(self, c: Channel, side: int, n: int, own_n: int, signature: bytes) -> None:
        self._state(c, side, own_n, n, signature)

    def _state(self, c: Channel, side: int, own_n: int, peer_n: int, signature: bytes) -> None:
        """A signature over STATE that says: I have paid `own_n`, I hold `peer_n`."""
        if own_n not in c.halves[side] or peer_n not in c.halves[1 - side]:
            self._find("drift", f"a state was signed over {own_n} and {peer_n}, which were never sent", c.names[side])
            return
        counts = (own_n, peer_n) if side == 0 else (peer_n, own_n)
        if peer_n and peer_n == c.unproved[1 - side]:
            self._find("drift", f"payment {peer_n} was acknowledged and its signature is false", c.names[side])
        if self._verify(c, side, c.state(*counts), signature):
            c.unproved[side] = 0 if own_n >= c.unproved[side] else c.unproved[side]
        else:
            c.unproved[side] = own_n
        c.claimed[side] = max(c.claimed[side], peer_n)
        c.states[side].append((own_n, peer_n, signature))

    def _reestablish(self, c: Channel, side: int, mine: list[Any], *_: Any) -> None:
        half0, half1, signature = mine
        seq = sum(int.from_bytes(half[:8], "big") for half in (half0, half1)).to_bytes(8, "big")
        if not self._verify(c, side, b"channelpay.st.v1" + c.channel_id + seq + half0 + half1, signature):
            return
        c.shown[side] = max(c.shown[side], int(_HALF.unpack(mine[1 - side])[0]))
        for payer in (0, 1):
            c.recalled.pop((side, payer), None)  # what it asks for now follows what it has, which may be an old copy

    def _records(self, c: Channel, side: int, payer: int, batches: list[list[Any]]) -> None:
        if batches:
            first_n, records, _ = batches[-1]
            c.recalled[1 - side, payer] = int(first_n) + len(records) // _RECORD.size - 1

    def _recall(self, c: Channel, side: int, payer: int, from_n: int) -> None:
        """Whoever asks for the rest asks for all of it."""
        came = c.recalled.get((side, payer))
        if came is not None and from_n > came + 1:
            self._find(
                "lost", f"payments from {from_n} on are recalled, and {came} was the last that came", c.names[side]
            )

    def acknowledged(self, channel_id: bytes, payer: str) -> int:
        """How many payments of `payer` are for good: its peer has signed them as held, or the ledger has paid them."""
        c = self.channels.get(channel_id)
        if c is None or payer not in c.names:
            return 0
        side = c.names.index(payer)
        money = self._money(channel_id)
        return max(c.claimed[1 - side], c.shown[1 - side], money.settled[side] if money else 0)

    def _final(self, c: Channel, side: int, expiry: int, signature: bytes) -> None:
        n0, n1 = self._drained(c, 0), self._drained(c, 1)
        body = c.channel_id + (n0 + n1).to_bytes(8, "big") + c.halves[0][n0] + c.halves[1][n1]
        self._verify(c, side, b"channelpay.fi.v1" + body + expiry.to_bytes(8, "big"), signature)
        c.finals[side] = n0, n1, expiry, signature

    def _drained(self, c: Channel, payer: int) -> int:
        """The last payment that FINAL settles: all that were signed, or all that came if their payer forgot more."""
        if c.names[payer] in self.forgetful:
            return max(c.claimed[1 - payer], c.shown[1 - payer])
        return c.newest[payer]

    def _withdraw_ask(self, c: Channel, side: int, total: int, expiry: int, signature: bytes) -> None:
        self._verify(c, side, _withdraw(c, side, total, expiry), signature)
        c.asked[side] = total, expiry
        c.consents.setdefault((side, total, expiry), {})[side] = signature

    def _withdraw_ok(self, c: Channel, side: int, total: int, expiry: int, signature: bytes) -> None:
        asker = 1 - side
        self._verify(c, side, _withdraw(c, asker, total, expiry), signature)
        c.consents.setdefault((asker, total, expiry), {})[side] = signature
        money = self._money(c.channel_id)
        paid, received = c.total(asker, c.claimed[side]), c.total(side, c.newest[side])
        if money is not None and not money.stale and money.deposits[asker] - total - paid + received < 0:
            self._find("below_entitlement", f"a withdrawal to {total} was granted that nothing covers", c.names[side])

    def _withdraw_no(self, c: Channel, side: int, total: int, *_: int) -> None:
        if c.asked[1 - side][0] == total:
            c.asked[1 - side] = 0, 0

    def _verify(self, c: Channel, side: int, statement: bytes, signature: bytes) -> bool:
        key = c.keys[side]
        try:
            self._keys.setdefault(key, Ed25519PublicKey.from_public_bytes(key)).verify(signature, statement)
        except InvalidSignature:
            self._find("drift", "a signature is not over what its message says", c.names[side])
            return False
        return True

    _RULES: Final = {
        0x20: _pay, 0x21: _ack, 0x22: _reestablish, 0x23: _recall, 0x24: _records, 0x31: _final,
        0x40: _withdraw_ask, 0x41: _withdraw_ok, 0x42: _withdraw_no,
    }  # fmt: skip

    # --- Restarts --------------------------------------------------------------------------

    def restarted(self, name: str, kept: dict[tuple[bytes, int], int]) -> None:
        """A node is up again with these payments on its disk: (channel, payer) to the number of the newest."""
        for c in self.channels.values():
            if name not in c.names:
                continue
            side = c.names.index(name)
            for payer, signed, what in ((side, c.newest[side], "made"), (1 - side, c.claimed[side], "received")):
                if kept.get((c.channel_id, payer), 0) < signed:
                    self._find(
                        "lost", f"signed {signed} payments as {what}, has {kept.get((c.channel_id, payer), 0)}", name
                    )


def _withdraw(c: Channel, party: int, total: int, expiry: int) -> bytes:
    return b"channelpay.wd.v1" + c.channel_id + bytes([party]) + total.to_bytes(8, "big") + expiry.to_bytes(8, "big")


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
