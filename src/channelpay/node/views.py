"""A channel as its owner sees it. Spec N-10."""

from __future__ import annotations

from channelpay.amounts import Asset, format_units
from channelpay.channel.closing import co_sign
from channelpay.channel.state import Channel, Phase
from channelpay.messages.control import ChannelInfo, CoSignedState
from channelpay.node.node import Node
from channelpay.node.recovery import UNKNOWN_PEER


def channel_info(node: Node, c: Channel, clock: float) -> ChannelInfo:
    """Everything that `channel show` tells."""
    terms, reading = c.setup.terms, c.reading
    deposits = reading.deposits if reading else (0, 0)
    withdrawn = reading.withdrawn if reading else (0, 0)
    outs = reading.outs if reading else (0, 0)
    state = None
    if c.held is not None:
        both = co_sign(c, c.held)
        state = CoSignedState(both.half0, both.half1, both.signature0, both.signature1)
    return ChannelInfo(
        c.channel_id,
        c.setup.peer_id,
        terms.asset_id,
        c.side,
        c.phase.name.lower(),
        terms.flags,
        terms.window_s,
        terms.max_batch,
        *deposits,
        *withdrawn,
        c.own.n,
        c.own.total,
        c.acked.n,
        c.peer.n,
        c.peer.total,
        c.spendable(),
        max(0, c.peer_balance()),
        c.queued_count,
        int(c.connected),
        stalled(node, c, clock),
        reading.deadline if reading else 0,
        *outs,
        state,
    )


def stalled(node: Node, c: Channel, clock: float) -> str:
    """Why no payment can move on this channel now, or an empty text."""
    if c.setup.peer_id == UNKNOWN_PEER:
        return "found on the ledger; waits for its peer, to be closed"
    if c.phase not in (Phase.OPEN, Phase.SHUTDOWN):
        return ""
    if c.suspended:
        return c.suspended[:1000]
    if not c.resolved:
        return "this node's store was rolled back; the records are being recalled from the peer"
    if node.ledger.restored_until:
        return f"the store was restored or is new: payments wait {_wait(node, clock)}(agreements may be forgotten)"
    if node.ledger.is_stale(c.setup.terms.window_s, clock):
        return "the ledger has not been heard of for a quarter of the dispute window"
    return "" if c.connected else "the peer is not connected"


def _wait(node: Node, clock: float) -> str:
    """How long a restored store still waits, in words that a blank follows; nothing before the ledger was read."""
    left_s = node.ledger.restored_until - node.ledger.time_now(clock)
    return f"{left_s // 60 + 1} minutes more " if 0 < left_s < node.ledger.restored_until else ""


def money(node: Node, c: Channel, units: int) -> str:
    """`units` of the channel's asset for people: `1.500000 USD`, or units as long as the asset is not known."""
    view = node.ledger.assets.get(c.setup.terms.asset_id)
    if view is None:
        return f"{units} units"
    return format_units(units, Asset(view.asset_id, view.code, view.scale, view.issuer))
