"""Whatever an owner may want to know of its node, or wait for, beside payments and money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from channelpay.messages import control
from simulation.model import ChannelAccount
from simulation.world import address_of

if TYPE_CHECKING:
    from simulation.workload import Owner

ANY_TIME: Final = ("balance", "assets", "peers", "status", "connect", "history", "payments")
"""What changes nothing."""


async def inquire(owner: Owner, what: str, channel: ChannelAccount, patience_s: float) -> None:
    """Ask one thing. To wait for payments, the owner must know how many there were, so it asks for that first."""
    status = await owner.call(control.Status())
    received = status.received if isinstance(status, control.StatusView) else 0
    await owner.call(_method(owner, what, channel, received), patience_s)


async def finds_itself_old(owner: Owner) -> bool:
    """Whether the node, a moment after its start, waits as a store does that was restored."""
    await trio.sleep(2.0)
    shown = await owner.call(control.ListChannels(None, 0))
    return isinstance(shown, control.ChannelList) and any("was restored" in c.stalled for c in shown.channels)


def _method(owner: Owner, what: str, channel: ChannelAccount, received: int) -> control.Method:
    side = channel.sides.index(owner.name)
    peer = next(node for node in owner.world.nodes if node.name == channel.sides[1 - side])
    methods: dict[str, control.Method] = {
        "balance": control.Balance(),
        "assets": control.ListAssets(),
        "peers": control.ListPeers(),
        "status": control.Status(),
        "connect": control.ConnectPeer(address_of(peer)),
        "history": control.History(channel.channel_id, side, 1, 100),
        "payments": control.Payments(received, 50, 1),
        "claim": control.ClaimChannel(channel.channel_id),
        "close": control.CloseChannel(channel.channel_id, 0, 1),
    }
    return methods[what]
