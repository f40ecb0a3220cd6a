"""What owners do with their nodes: open, pay in every way, retry, top up, withdraw, claim, look, close."""

from __future__ import annotations

from typing import Any, Final

import trio

from channelpay.errors import LocalError, Reason
from channelpay.messages import control
from simulation import inquiries, odd_asks
from simulation.model import ChannelAccount, Wish
from simulation.paying import Payer
from simulation.process import NodeProcess
from simulation.world import address_of, usd

_OPEN_TRIES: Final = 8
_ACTS: Final = (
    "topup", "topup", "withdraw", "withdraw", "claim", "claim", "look", "ask", "other amount", "history",
    "top-up too large",
)  # fmt: skip


class Owner(Payer):
    """Whoever owns a node: opens channels, moves money, and does what else owners do."""

    # --- Channels ------------------------------------------------------------------------------

    async def open(self, peer: NodeProcess, flags: int | None = None) -> ChannelAccount | None:
        """A channel with another node, one-way or not as `flags` say, or None if it could not be had."""
        known = set(self.world.account.channels)
        deposit = self.rng.choice((2_000, 20_000, 200_000))
        flags = self.rng.choice((0, 0, 0, 1)) if flags is None else flags
        window_s = self.rng.choice((10, 30, 120))
        method = control.OpenChannel(address_of(peer), usd(), deposit, flags, window_s, 0)
        for _ in range(_OPEN_TRIES):
            answer = await self.call(method)
            await self.adopt(peer, deposit, flags)
            fresh = [
                c for key, c in self.world.account.channels.items() if key not in known and c.sides[0] == self.name
            ]
            if fresh:
                return fresh[0]
            if isinstance(answer, LocalError) and answer.reason is Reason.USAGE:
                raise AssertionError(str(answer))
            await trio.sleep(0.5 + self.rng.random())
        return None

    async def adopt(self, peer: NodeProcess, deposit: int, flags: int) -> None:
        """Take into the account what the node shows: an opening may have gone on after its call was cut off."""
        shown = await self.call(control.ListChannels(None, 1))
        if isinstance(shown, control.ChannelList):
            for info in shown.channels:
                if info.channel_id not in self.world.account.channels and info.side == 0:
                    self.world.account.channels[info.channel_id] = ChannelAccount(
                        info.channel_id, (self.name, peer.name), flags, info.window_s, (0, deposit)
                    )

    async def endow(self, channel: ChannelAccount) -> None:
        """Party 1 puts money in, so that it can pay."""
        side = channel.sides.index(self.name)
        if side == 1 and channel.flags == 0 and self.rng.random() < 0.8:
            await self.move(channel, channel.topups[side], control.TopupChannel, self.rng.choice((500, 5_000, 50_000)))

    # --- Money ---------------------------------------------------------------------------------

    async def act(self, channel: ChannelAccount) -> None:
        """One of the things that owners do beside paying."""
        side = channel.sides.index(self.name)
        what = self.rng.choice(_ACTS)
        units = self.rng.choice((1, 50, 500))
        if what == "topup":
            await self.move(channel, channel.topups[side], control.TopupChannel, units)
        elif what == "withdraw":
            if self.rng.random() < 0.5:
                units = await self._nearly_all(channel, units)
            await self.move(channel, channel.withdrawals[side], control.WithdrawChannel, units)
        elif what == "claim" and channel.flags == 1 and side == 1:
            await self.call(control.ClaimChannel(channel.channel_id))
        elif what == "ask":
            await inquiries.inquire(self, self.rng.choice(inquiries.ANY_TIME), channel, patience_s=6.0)
        elif what == "other amount":
            await odd_asks.pay_other_amount(self, channel)
        elif what == "history":
            await self.reader.history(channel, self.rng.randrange(2))
        elif what == "top-up too large":
            await odd_asks.top_up_too_much(self, channel)
        else:
            await self.reader.go_on()

    async def provoke(self, what: str) -> None:
        """Have the node do one certain thing, on a channel where it makes sense."""
        mine = [c for c in self.world.account.channels.values() if self.name in c.sides]
        if what == "claim":
            mine = [c for c in mine if c.flags == 1 and c.sides[1] == self.name]
        if not mine:
            return
        channel = self.rng.choice(mine)
        side = channel.sides.index(self.name)
        if what == "pay":
            payments = [self.payment(channel, 3) for _ in range(3)]
            with trio.move_on_after(1.0):
                await self.ask(channel, payments)
        elif what in ("topup", "withdraw"):
            wishes, method = (
                (channel.topups, control.TopupChannel)
                if what == "topup"
                else (channel.withdrawals, control.WithdrawChannel)
            )
            units = await self._nearly_all(channel, 1) if what == "withdraw" and self.rng.random() < 0.5 else 1
            await self.move(channel, wishes[side], method, units)
        else:
            await inquiries.inquire(self, what, channel, patience_s=3.0)

    async def _nearly_all(self, channel: ChannelAccount, units: int) -> int:
        """What the channel shows as spendable, so that payments and the withdrawal want the same money."""
        return max(units, await self.spendable(channel) - units)

    async def spendable(self, channel: ChannelAccount) -> int:
        """What the node shows."""
        shown = await self.call(control.ShowChannel(channel.channel_id.hex()))
        return shown.channel.balance if isinstance(shown, control.ChannelOne) else 0

    async def move(self, channel: ChannelAccount, wish: Wish, method: Any, units: int) -> None:
        """A top-up or a withdrawal."""
        wish.perhaps += units
        answer = await self.call(method(channel.channel_id, units))
        if isinstance(answer, control.ChannelOne):
            wish.surely += units
        elif isinstance(answer, LocalError) and answer.reason not in (
            Reason.TIMED_OUT,
            Reason.STOPPING,
            Reason.PEER_REFUSED,
        ):
            wish.perhaps -= units
