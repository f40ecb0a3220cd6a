"""A payer whose payments do not arrive, but its signature on them does: its peer holds it as evidence (spec C-22).

Then the payer goes away and shows the ledger less. "An honest party's payout is at least D - W - all it signed away +
all it holds signed" (protocol, section 6): what is held signed without its records counts too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import msgpack
import trio

from channelpay.messages import control
from simulation.model import ChannelAccount
from simulation.network import Stream
from simulation.workload import Owner
from simulation.world import World

_SHARE: Final = 0.5
"""Of the false closes."""

_PAY, _REESTABLISH = 0x20, 0x22
_SIGNED_S: Final = 0.5
_MEET_S: Final = 30.0


def chosen(world: World) -> bool:
    """Whether the false close of this world has evidence against it."""
    return random.Random(f"evidence {world.seed}").random() < _SHARE


async def leave(world: World, payer: Owner, channel: ChannelAccount, note: Callable[[str], None]) -> bool:
    """Have `payer` sign payments that do not arrive, and a REESTABLISH that shows them; whether it could be."""
    side = channel.sides.index(payer.name)
    peer = next(node for node in world.nodes if node.name == channel.sides[1 - side])
    heard, network = world.tap.channels.get(channel.channel_id), world.network
    shown = await payer.call(control.ShowChannel(channel.channel_id.hex()))
    is_open = isinstance(shown, control.ChannelOne) and shown.channel.phase == "open" and not shown.channel.stalled
    if heard is None or not is_open or set(channel.sides) & set(world.rolled_back):
        return False
    before = heard.newest[side]
    note("one-way silence")
    for stream in network.between(payer.name, peer.name):
        network.silence(stream)
    await payer.ask(channel, [payer.payment(channel, 5) for _ in range(3)])
    await trio.sleep(_SIGNED_S)
    life, shows = peer.life, trio.Event()
    network.replaced[payer.name, peer.name] = _without_payments(channel.channel_id, shows)
    for stream in network.between(payer.name, peer.name):
        network.cut(stream)
    with trio.move_on_after(_MEET_S):
        await shows.wait()
    await trio.sleep(_SIGNED_S)
    if shows.is_set() and peer.alive and peer.life is life and heard.newest[side] > before:
        channel.proved[1 - side] = heard.total(side, heard.newest[side])
    return True


def _without_payments(channel_id: bytes, shows: trio.Event) -> Callable[[Stream, bytes], bytes]:
    """Leaves PAY of a channel out; `shows` is set when its REESTABLISH is sent."""

    def replace(_: Stream, data: bytes) -> bytes:
        sent, at = b"", 0
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            frame, at = data[at:end], end
            kind = frame[4]
            ours = kind in (_PAY, _REESTABLISH) and msgpack.unpackb(frame[5:], use_list=True)[0] == channel_id
            if ours and kind == _REESTABLISH:
                shows.set()
            sent += b"" if ours and kind == _PAY else frame
        return sent

    return replace
