"""A forger before the ledger: states, agreements, consents and requests that somebody did not sign.

It has one party's own keys, sees all that travels between nodes, and lacks the other party's signature. Whatever it
asks for must be refused; the ledger's books show whether anything changed.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Final

import trio

from channelpay.crypto import SigningKey
from channelpay.ledger.outcomes import LedgerRefused
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import CoSigned
from channelpay.messages.peer import Request
from channelpay.statements import ChannelTerms, accepted_bytes
from simulation.model import UNEXCUSED
from simulation.outsider import key_of, signed, submit
from simulation.process import NodeProcess
from simulation.tap import Channel
from simulation.world import World, ledger_keys, usd

_TRIES: Final = 3
_LIFE_S: Final = 60
_MANY: Final = 10**9

Forgery = tuple[SigningKey, ops.Operation, Request | None]
"""Who asks, what, and the request if it is not signed by who asks."""


class Forger:
    """Tries what `KINDS` says on channels of a world."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.tried = 0
        self._rng = rng
        self._stranger = SigningKey(rng.randbytes(32))

    async def run(self, kinds: int) -> None:
        """So many forgeries, each on a channel of its own choice."""
        for _ in range(kinds):
            channels = list(self.world.tap.channels.values())
            if channels:
                await self.forge(self._rng.choice(channels), self._rng.choice(list(_KINDS)))
            await trio.sleep(self._rng.random())

    async def forge(self, channel: Channel, kind: str) -> None:
        """Ask the ledger for something that not both have signed; finding it done is a finding."""
        side = self._rng.randrange(2)
        process = next(node for node in self.world.nodes if node.name == channel.names[side])
        key = key_of(process, channel.keys[side])
        forgery = _KINDS[kind](self, channel, side, key, process) if key is not None else None
        if forgery is None:
            return
        answer = await submit(self.world, self._rng, *forgery, tries=_TRIES)
        self.world.log("forged", kind, type(answer).__name__)
        if answer is not None:
            self.tried += 1
        if answer is not None and not isinstance(answer, LedgerRefused):
            self.world.account.find("phantom", f"the ledger has executed a forgery: {kind}", UNEXCUSED)

    # --- States --------------------------------------------------------------------------------

    def _greedy_halves(self, channel: Channel, side: int) -> list[bytes]:
        """As if the other had paid the forger everything."""
        halves = [channel.halves[payer][channel.newest[payer]] for payer in (0, 1)]
        n, total = struct.unpack(">QQ", halves[1 - side][:16])
        halves[1 - side] = struct.pack(">QQ32sQ32s", n + 1, total + _MANY, self._rng.randbytes(32), 0, bytes(32))
        return halves

    def _state(self, channel: Channel, side: int, key: SigningKey) -> CoSigned:
        """A state that the forger signs and the other does not."""
        halves = self._greedy_halves(channel, side)
        return CoSigned(*halves, *self._signatures(_state_bytes(channel.channel_id, halves), side, key))

    def _signatures(self, statement: bytes, side: int, key: SigningKey) -> tuple[bytes, bytes]:
        """One's own, and one in place of the other's."""
        other = self._rng.choice((self._stranger, key)).sign(statement)
        return (key.sign(statement), other) if side == 0 else (other, key.sign(statement))

    def _true_state(self, channel: Channel, side: int, key: SigningKey) -> CoSigned | None:
        """The newest that the other has signed."""
        if not channel.states[1 - side]:
            return None
        peer_n, own_n, signature = channel.states[1 - side][-1]
        counts = (own_n, peer_n) if side == 0 else (peer_n, own_n)
        mine = key.sign(channel.state(*counts))
        signatures = (mine, signature) if side == 0 else (signature, mine)
        return CoSigned(channel.halves[0][counts[0]], channel.halves[1][counts[1]], *signatures)

    def _close(self, c: Channel, side: int, key: SigningKey, _: NodeProcess) -> Forgery:
        return key, ops.Close(c.channel_id, (self._state(c, side, key),)), None

    def _respond(self, c: Channel, side: int, key: SigningKey, _: NodeProcess) -> Forgery:
        return self._stranger, ops.Respond(c.channel_id, (self._state(c, side, key),)), None

    def _claim(self, c: Channel, side: int, key: SigningKey, _: NodeProcess) -> Forgery:
        return key, ops.Claim(c.channel_id, self._state(c, side, key)), None

    def _swapped(self, c: Channel, side: int, key: SigningKey, _: NodeProcess) -> Forgery | None:
        """Who has paid is shown as who was paid."""
        true = self._true_state(c, side, key)
        if true is None or true.half0 == true.half1:
            return None
        signatures = self._rng.choice(((true.signature0, true.signature1), (true.signature1, true.signature0)))
        return key, ops.Close(c.channel_id, (CoSigned(true.half1, true.half0, *signatures),)), None

    def _of_another(self, c: Channel, side: int, key: SigningKey, _: NodeProcess) -> Forgery | None:
        """The other's signature is on a state of another channel."""
        others = [o for o in self.world.tap.channels.values() if o is not c and o.states[1 - side]]
        if not others:
            return None
        other = self._rng.choice(others)
        peer_n, own_n, signature = other.states[1 - side][-1]
        counts = (own_n, peer_n) if side == 0 else (peer_n, own_n)
        halves = [other.halves[0][counts[0]], other.halves[1][counts[1]]]
        mine = key.sign(_state_bytes(c.channel_id, halves))
        signatures = (mine, signature) if side == 0 else (signature, mine)
        return key, ops.Close(c.channel_id, (CoSigned(*halves, *signatures),)), None

    def _not_a_party(self, c: Channel, side: int, key: SigningKey, _: NodeProcess) -> Forgery:
        """A stranger closes, or claims with a state that both signed."""
        true = self._true_state(c, side, key)
        if true is not None and self._rng.random() < 0.5:
            return self._stranger, ops.Claim(c.channel_id, true), None
        return self._stranger, ops.Close(c.channel_id, ()), None

    # --- Agreements and consent ------------------------------------------------------------------

    def _final(self, c: Channel, side: int, key: SigningKey, _: NodeProcess) -> Forgery:
        """Everything at once, with a countersignature of the forger's own."""
        halves, expiry = self._greedy_halves(c, side), self._now() + _LIFE_S
        seq = sum(int.from_bytes(half[:8], "big") for half in halves).to_bytes(8, "big")
        statement = b"channelpay.fi.v1" + c.channel_id + seq + b"".join(halves) + expiry.to_bytes(8, "big")
        return key, ops.CloseFinal(c.channel_id, *halves, expiry, *self._signatures(statement, side, key)), None

    def _withdraw(self, c: Channel, side: int, key: SigningKey, _: NodeProcess) -> Forgery | None:
        money = self.world.money(c.channel_id)
        if money is None:
            return None
        total, expiry = money.withdrawn[side] + self._rng.choice((1, 100)), self._now() + _LIFE_S
        numbers = total.to_bytes(8, "big") + expiry.to_bytes(8, "big")
        statement = b"channelpay.wd.v1" + c.channel_id + bytes([side]) + numbers
        return key, ops.Withdraw(c.channel_id, side, total, expiry, *self._signatures(statement, side, key)), None

    def _open(self, c: Channel, side: int, key: SigningKey, process: NodeProcess) -> Forgery:
        """A channel to which its payee, or the holder of its second key, has not consented."""
        account = process.keys.account
        terms = ChannelTerms(
            ledger_keys().identity.public, usd(), self._stranger.public, c.keys[1 - side], account.public,
            self._stranger.public, self._rng.randbytes(32), 0, 60, 1,
        )  # fmt: skip
        statement = accepted_bytes(terms.channel_id())
        consent = self._stranger.sign(statement)
        operation = ops.OpenChannel(
            usd(), terms.key0, terms.key1, terms.account0, terms.account1, terms.open_nonce, 0, 60, 1, 100,
            consent, self._rng.choice((consent, bytes(64), key.sign(statement))),
        )  # fmt: skip
        return account, operation, None

    # --- Requests in another's name ----------------------------------------------------------------

    def _now(self) -> int:
        return int(self.world.ledger.time())

    def _in_the_name_of(self, key: bytes, operation: ops.Operation) -> Forgery:
        signer = self._stranger
        return signer, operation, signed(self._rng, key, signer, operation, self._now() + _LIFE_S)

    def _transfer(self, _c: Channel, _side: int, _key: SigningKey, process: NodeProcess) -> Forgery:
        operation = ops.Transfer(usd(), self._stranger.public, self._rng.choice((1, 1000)))
        return self._in_the_name_of(process.keys.account.public, operation)

    def _topup(self, c: Channel, side: int, _: SigningKey, process: NodeProcess) -> Forgery:
        return self._in_the_name_of(process.keys.account.public, ops.Topup(c.channel_id, 1 - side, 10))

    def _close_of_another(self, c: Channel, side: int, _: SigningKey, __: NodeProcess) -> Forgery:
        return self._in_the_name_of(c.keys[1 - side], ops.Close(c.channel_id, ()))

    def _issue(self, _c: Channel, _side: int, key: SigningKey, process: NodeProcess) -> Forgery:
        """New money, in one's own name or in the issuer's."""
        operation = ops.Issue(usd(), process.keys.account.public, _MANY)
        if self._rng.random() < 0.5:
            return key, operation, None
        return self._in_the_name_of(ledger_keys().account.public, operation)


def _state_bytes(channel_id: bytes, halves: list[bytes]) -> bytes:
    seq = sum(int.from_bytes(half[:8], "big") for half in halves)
    return b"channelpay.st.v1" + channel_id + seq.to_bytes(8, "big") + b"".join(halves)


_KINDS: Final[dict[str, Callable[..., Forgery | None]]] = {
    "a state that one party signed, to close": Forger._close,
    "a state that one party signed, to answer": Forger._respond,
    "a state that one party signed, to claim": Forger._claim,
    "swapped halves": Forger._swapped,
    "another channel's signature": Forger._of_another,
    "a stranger's close or claim": Forger._not_a_party,
    "a countersignature under FINAL": Forger._final,
    "a withdrawal without consent": Forger._withdraw,
    "an opening without consent": Forger._open,
    "a transfer in another's name": Forger._transfer,
    "a top-up in another's name": Forger._topup,
    "a close in another's name": Forger._close_of_another,
    "money that its issuer did not issue": Forger._issue,
}
