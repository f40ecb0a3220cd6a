"""Requests to the ledger that arrive again, or late: at another second, close to the end of their life, after it.

Whoever carries a request decides nothing, so an outsider hands over the very bytes that a node has sent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgpack
import trio

from channelpay.crypto import SigningKey
from channelpay.ledger.outcomes import LedgerRefused
from channelpay.messages.ledger import LedgerRequest
from channelpay.messages.peer import Request
from simulation.disk import Loss
from simulation.model import UNEXCUSED
from simulation.network import Stream
from simulation.outsider import submit
from simulation.partition import join, part
from simulation.process import COMES_UP_S, NodeProcess
from simulation.world import World

_REQUEST: Final = 0x80
_MOVES_MONEY: Final = ("topup", "open", "withdraw", "claim", "transfer")
_AGAIN_SHARE: Final = 0.5
_LATE_OPENING_SHARE: Final = 0.12
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as a node has sent it."""

    request: Request
    inner: LedgerRequest


def requests_in(data: bytes, kinds: tuple[str, ...] = _MOVES_MONEY) -> list[Sent]:
    """Those in whole frames that do something of these kinds: that move money, if none are named."""
    found, at = [], 0
    while at + 5 <= len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4] == _REQUEST and end <= len(data):
            request = Request(*msgpack.unpackb(data[at + 5 : end], use_list=True))
            inner = LedgerRequest.decode(request.blob)
            if inner.operation.OP in kinds:
                found.append(Sent(request, inner))
        at = end
    return found


class Requests:
    """Hears all requests of nodes. `note` is told of every fault."""

    def __init__(self, world: World, note: Callable[[str], None]) -> None:
        self.world = world
        self._note = note
        self._rng = random.Random(f"requests {world.seed}")
        self._key = SigningKey(self._rng.randbytes(32))
        self._sent: list[Sent] = []
        world.network.taps.append(self._heard)

    def _heard(self, _: int, sender: str, receiver: str, data: bytes) -> None:
        if receiver == "ledger" and sender.startswith("node"):
            self._sent += requests_in(data)

    async def _hand_over(self, sent: Sent) -> object:
        return await submit(self.world, self._rng, self._key, sent.inner.operation, sent.request, tries=_TRIES)

    # --- Again -------------------------------------------------------------------------------------

    async def again(self) -> None:
        """While owners act: what was asked is asked once more, at a later second."""
        if self._rng.random() >= _AGAIN_SHARE:
            return
        for _ in range(3):
            await trio.sleep(self._rng.uniform(1.0, 4.0))
            if self._sent:
                self._note("request repeated")
                await self._hand_over(self._rng.choice(self._sent))

    async def at_the_end_of_life(self) -> None:
        """The clock leaps to the last seconds in which a request is valid, and beyond: it moves nothing again."""
        valid = [sent for sent in self._sent if sent.inner.valid_until > self.world.ledger.time() + 60]
        if not valid or self._rng.random() >= _AGAIN_SHARE / 2:
            return
        sent = self._rng.choice(valid)
        for left_s in (self._rng.choice((1.0, 10.0, 50.0)), -2.0):
            self.world.ledger.ahead_s += sent.inner.valid_until - left_s - self.world.ledger.time()
            self._note("clock leapt")
            await trio.sleep(1.0)
            answer = await self._hand_over(sent)
            if left_s < 0 and answer is not None and not isinstance(answer, LedgerRefused):
                what = f"the ledger answers {sent.inner.operation.OP} after it has expired"
                self.world.account.find("phantom", what, UNEXCUSED)

    # --- Late --------------------------------------------------------------------------------------

    async def late_opening(self, opener: NodeProcess) -> None:
        """An opening's request is under way while its opener crashes, starts again and reads the ledger."""
        if self._rng.random() >= _LATE_OPENING_SHARE:
            return
        kept: list[Sent] = []
        came = trio.Event()

        def hold(stream: Stream, data: bytes) -> bytes:
            opens = [sent for sent in requests_in(data) if sent.inner.operation.OP == "open"]
            if opens:
                kept.extend(opens)
                self.world.network.silence(stream)
                came.set()
            return data

        network = self.world.network
        network.replaced[opener.name, "ledger"] = hold
        with trio.move_on_after(COMES_UP_S):
            await came.wait()
        network.replaced.pop((opener.name, "ledger"), None)
        if not kept:
            return
        self._note("opening under way")
        part(network, opener.name, "ledger")
        if opener.life is not None:
            opener.life.kill(Loss.KILLED)
        await opener.come_up()
        await trio.sleep(self._rng.uniform(1.0, 4.0))
        join(network, opener.name, "ledger")
        for stream in network.between(opener.name, "ledger"):
            network.cut(stream)
        await trio.sleep(self._rng.uniform(3.0, 6.0))
        await self._hand_over(kept[0])
