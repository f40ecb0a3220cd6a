"""What a service does with its channels besides paying: it opens, tops up, withdraws, claims and closes them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

import channelpay
from channelpay.keys import NODE_PREFIX, parse_address
from channelpay.services.exceptions import NotReachable, Refused
from channelpay.statements import FLAG_ONE_WAY
from endurance.journal import Journal
from endurance.paying import MOST_UNITS, RETRY_S

DEPOSIT: Final = "0.2 USD"
DEPOSIT_UNITS: Final = 200_000
MOST_TOPUP: Final = 100_000
MOST_WITHDRAWAL: Final = 20_000
CHANNELS_A_PEER: Final = 3
LOOK_S: Final = 0.2
"""How often the list of channels is renewed."""


@dataclass(frozen=True, slots=True)
class Habits:
    """`every_s`: one action in so many seconds, on average, 0: none. The others are weights of what is done then."""

    every_s: float = 1.0
    topup: int = 30
    withdraw: int = 30
    claim: int = 10
    open: int = 10
    close: int = 12
    force: int = 6


class Dealer:
    """Keeps a channel open to every one of `peers` (cp1...@host:port) and now and then does something with one.

    Entries of the journal: `ordered, what, channel, units` before money is moved in or out, `done, what` after all
    that succeeded.
    """

    def __init__(
        self, node: channelpay.Client, journal: Journal, chance: random.Random, peers: list[str], habits: Habits
    ) -> None:
        self.node = node
        self.journal = journal
        self.chance = chance
        self.peers = peers
        self.habits = habits
        self.done: Counter[str] = Counter()
        self.live: list[channelpay.Channel] = []
        self._opening: Counter[str] = Counter()

    async def run(self) -> None:
        """Look after the channels until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._act_now_and_then, nursery)
            while True:
                await self.look()
                for peer in self.peers:
                    if not any(c.phase == "open" and not c.info.flags for c in self._with(peer)):
                        self._open(nursery, peer, one_way=False)
                await trio.sleep(LOOK_S)

    async def look(self) -> None:
        """Renew the list of channels that are not settled."""
        with suppress(NotReachable, Refused):  # the daemon is down, or does not know its ledger's assets yet
            self.live = await self.node.channels()

    def payable(self) -> list[channelpay.Channel]:
        """Channels on which this node can pay something."""
        return [c for c in self.live if c.phase == "open" and c.balance > MOST_UNITS and not self._is_payee(c)]

    async def close_all(self) -> None:
        """Close every channel, and come back when all are settled."""
        while True:
            await self.look()
            left = [c for c in self.live if not (c.phase == "accepted" and c.info.side == 1)]
            if not left:
                return  # but for what others offered and perhaps forgot: it is not on the ledger
            async with trio.open_nursery() as nursery:
                for channel in left:
                    nursery.start_soon(self._attempt, "close", self.node.close_channel(channel.id))
            await trio.sleep(RETRY_S)

    # --- Inside ----------------------------------------------------------------------------

    def _with(self, peer: str) -> list[channelpay.Channel]:
        """Channels that this node opened to a peer."""
        key = parse_address(NODE_PREFIX, peer).key
        return [c for c in self.live if c.info.side == 0 and c.info.peer_id == key]

    async def _act_now_and_then(self, nursery: trio.Nursery) -> None:
        weights = {
            name: getattr(self.habits, name) for name in ("topup", "withdraw", "claim", "open", "close", "force")
        }
        while self.habits.every_s:
            await trio.sleep(self.chance.expovariate(1 / self.habits.every_s))
            (what,) = self.chance.choices(list(weights), list(weights.values()))
            if what == "open":
                peer = self.chance.choice(self.peers)
                self._open(nursery, peer, one_way=self.chance.random() < 0.6)
                continue
            able = [c for c in self.live if c.phase == "open" and (what != "claim" or self._is_payee(c))]
            if able:
                nursery.start_soon(self._do, what, self.chance.choice(able))

    @staticmethod
    def _is_payee(channel: channelpay.Channel) -> bool:
        """Whether this node never pays on the channel, and may claim."""
        return channel.info.flags == FLAG_ONE_WAY and channel.info.side == 1

    def _open(self, nursery: trio.Nursery, peer: str, one_way: bool) -> None:
        if not self._opening[peer] and len(self._with(peer)) < CHANNELS_A_PEER:
            self._opening[peer] += 1
            nursery.start_soon(self._open_one, peer, one_way)

    async def _open_one(self, peer: str, one_way: bool) -> None:
        try:
            await self._attempt("open", self.node.open_channel(peer, DEPOSIT, one_way=one_way))
        finally:
            self._opening[peer] -= 1

    async def _do(self, what: str, channel: channelpay.Channel) -> None:
        match what:
            case "topup":
                units = self.chance.randint(1, MOST_TOPUP)
                await self.journal.write("ordered", what, str(channel), units)
                await self._attempt(what, self.node.topup(channel.id, units))
            case "withdraw":
                units = self.chance.randint(1, MOST_WITHDRAWAL)
                await self.journal.write("ordered", what, str(channel), units)
                await self._attempt(what, self.node.withdraw(channel.id, units))
            case "claim":
                await self._attempt(what, self.node.claim(channel.id))
            case _:
                await self._attempt(what, self.node.close_channel(channel.id, force=what == "force", wait=False))

    async def _attempt(self, what: str, action: Awaitable[channelpay.Channel]) -> None:
        """It may be refused, or the daemon may die over it: the ledger knows what came of it."""
        try:
            await action
        except (NotReachable, Refused):
            self.done[f"{what} refused or unknown"] += 1
            return
        self.done[what] += 1
        await self.journal.write("done", what)
