"""After the faults, before anybody cheats: every channel whose parties are sound must come to rest and pay again."""

from __future__ import annotations

from typing import Final

import trio

from channelpay.messages import control
from simulation.model import UNEXCUSED, ChannelAccount
from simulation.workload import Owner
from simulation.world import World

RESTORED_WAIT_S: Final = 2 * 3_600 + 60
"""A restored store waits until every agreement that it may have forgotten has expired (spec C-28), and a bit."""

_PATIENCE_S: Final = 90.0
"""Longer than any time-out after which a node tries again, but for the wait of a restored store."""

_TRIES: Final = 3
_FOUND: Final = "found on the ledger"


class Rest:
    """Looks after every channel until it can pay, and says which cannot."""

    def __init__(self, world: World, owners: list[Owner]) -> None:
        self.world = world
        self._owners = owners

    async def run(self) -> None:
        """Wait for all channels at once, and make one more payment on each that is open."""
        async with trio.open_nursery() as nursery:
            for channel in self.world.account.channels.values():
                for owner in self._owners:
                    if owner.name in channel.sides:
                        nursery.start_soon(self._channel, owner, channel)

    def _waits(self, channel: ChannelAccount) -> bool:
        """Whether one of the parties takes no payments yet."""
        return bool(self.world.waiting & set(channel.sides))

    def _may_never(self, channel: ChannelAccount) -> bool:
        """Two stores that were rolled back may both lack what neither can show any more."""
        return set(channel.sides) <= set(self.world.rolled_back)

    async def _channel(self, owner: Owner, channel: ChannelAccount) -> None:
        why = await self._stalled(owner, channel)
        deadline = trio.current_time() + _PATIENCE_S
        while why and trio.current_time() < deadline:
            await trio.sleep(1.0)
            why = await self._stalled(owner, channel)
        if why is None or why.startswith(_FOUND) or self._waits(channel) or self._may_never(channel):
            return
        if why:
            self.world.account.find("unresolved", f"{owner.name}: a channel stands still: {why}", UNEXCUSED)
            return
        await self._pay(owner, channel)

    async def _stalled(self, owner: Owner, channel: ChannelAccount) -> str | None:
        """Why no payment can move, or nothing; None: the channel is not to be paid on any more."""
        shown = await owner.call(control.ShowChannel(channel.channel_id.hex()))
        if not isinstance(shown, control.ChannelOne):
            return "the node does not show it"
        info = shown.channel
        if info.phase in ("accepted", "funded"):
            return info.stalled or f"it is {info.phase}"
        return info.stalled if info.phase == "open" else None

    async def _pay(self, owner: Owner, channel: ChannelAccount) -> None:
        """One unit, or the answer that there is none."""
        if channel.flags == 1 and channel.sides[1] == owner.name:
            return
        payment = owner.payment(channel, 1, named=True)
        for _ in range(_TRIES):  # damage may be found meanwhile, and the node starts anew
            await owner.ask(channel, [payment])
            await owner.answered([payment], _PATIENCE_S)
            if not payment.open:
                return
            await trio.sleep(1.0)
        if not self._waits(channel) and await self._stalled(owner, channel) is not None:
            what = f"{owner.name}: a payment has no answer when nothing hinders it"
            self.world.account.find("unresolved", what, UNEXCUSED)
