"""Records of the local socket as JSON, in the shapes of the specification's table. Spec N-22."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from channelpay.amounts import Asset, format_units
from channelpay.batches import NO_ID, Payment
from channelpay.cli.inputs import assets_of
from channelpay.cli.show import memo_text
from channelpay.keys import ACCOUNT_PREFIX, LEDGER_PREFIX, NODE_PREFIX, encode_id
from channelpay.messages.control import (
    BalanceView,
    ChannelInfo,
    ChannelOne,
    PeerInfo,
    StatusView,
)
from channelpay.messages.ledger import AssetView
from channelpay.services.values import ReceivedPayment
from channelpay.statements import FLAG_ONE_WAY

SHORT_ID: Final = 12
"""Hexadecimal digits of a channel id in tables; any unique prefix names the channel."""


class Assets:
    """Assets by their id, to write amounts with."""

    def __init__(self, views: Sequence[AssetView]) -> None:
        self.all = assets_of(views)
        self._by_id = {asset.asset_id: asset for asset in self.all}

    def get(self, asset_id: bytes) -> Asset | None:
        """The asset with this id, or None."""
        return self._by_id.get(asset_id)

    def code(self, asset_id: bytes) -> str:
        """The asset's code, or its id in hexadecimal if it is unknown."""
        asset = self.get(asset_id)
        return asset.code if asset else asset_id.hex()

    def text(self, units: int, asset_id: bytes) -> str:
        """An amount for people."""
        asset = self.get(asset_id)
        return format_units(units, asset) if asset else f"{units} units of {asset_id.hex()}"

    def amount(self, units: int, asset_id: bytes) -> dict[str, str]:
        """An amount for programs: `{"units": "100", "text": "0.000100 USD"}` (spec M-8)."""
        return {"units": str(units), "text": self.text(units, asset_id)}


def status_json(status: StatusView) -> dict[str, Any]:
    """What `status --json` prints."""
    return {
        "node": encode_id(NODE_PREFIX, status.node_id),
        "version": status.version,
        "home": status.home,
        "listen": list(status.listen),
        "account": encode_id(ACCOUNT_PREFIX, status.account),
        "ledger": {
            "id": encode_id(LEDGER_PREFIX, status.ledger_id),
            "address": status.ledger_address,
            "connected": bool(status.ledger_connected),
            "time": status.ledger_time,
            "number": status.ledger_number,
        },
        "channels": {
            "open": status.channels_open,
            "closing": status.channels_closing,
            "settled": status.channels_settled,
        },
        "peers_connected": status.peers_connected,
        "received": status.received,
        "usage": {"memory": status.memory, "files": status.files, "tasks": status.tasks},
        "warnings": list(status.warnings),
    }


def channel_json(info: ChannelInfo, assets: Assets) -> dict[str, Any]:
    """A channel, as this node sees it: `own` and `peer` in place of the parties 0 and 1."""

    def amount(units: int) -> dict[str, str]:
        return assets.amount(units, info.asset_id)

    def sides(party0: int, party1: int) -> dict[str, Any]:
        own, peer = (party0, party1) if info.side == 0 else (party1, party0)
        return {"own": amount(own), "peer": amount(peer)}

    return {
        "channel": info.channel_id.hex(),
        "peer": encode_id(NODE_PREFIX, info.peer_id) if any(info.peer_id) else None,
        "asset": assets.code(info.asset_id),
        "phase": info.phase,
        "party": info.side,
        "one_way": info.flags == FLAG_ONE_WAY,
        "window_s": info.window_s,
        "max_batch": info.max_batch,
        "connected": bool(info.connected),
        "stalled": info.stalled or None,
        "deposit": sides(info.deposit0, info.deposit1),
        "withdrawn": sides(info.withdrawn0, info.withdrawn1),
        "paid": {"payments": info.own_n, "acknowledged": info.own_acked_n, "total": amount(info.own_total)},
        "received": {"payments": info.peer_n, "total": amount(info.peer_total)},
        "balance": {"own": amount(info.balance), "peer": amount(info.peer_balance)},
        "queued": info.queued,
        "deadline": info.deadline or None,
        "payout": sides(info.out0, info.out1) if info.phase == "settled" else None,
        "state": _state_json(info),
    }


def _state_json(info: ChannelInfo) -> dict[str, Any] | None:
    state = info.state
    if state is None:
        return None
    return {
        "half0": state.half0.hex(),
        "half1": state.half1.hex(),
        "signature0": state.signature0.hex() if state.signature0 else None,
        "signature1": state.signature1.hex() if state.signature1 else None,
    }


def channel_pairs(answer: ChannelOne) -> list[tuple[str, str]]:
    """A channel for people, one fact on a line."""
    shown = channel_json(answer.channel, Assets(answer.assets))
    stalled = f", stalled: {shown['stalled']}" if shown["stalled"] else ""
    pairs = [
        ("channel", shown["channel"]),
        ("peer", f"{shown['peer']} ({'connected' if shown['connected'] else 'not connected'})"),
        ("phase", shown["phase"] + stalled),
        ("terms", f"{'one way' if shown['one_way'] else 'two way'}, window {shown['window_s']} s, "
                  f"{shown['max_batch']} payments under one signature"),
        ("balance", _both(shown["balance"])),
        ("deposit", _both(shown["deposit"])),
        ("withdrawn", _both(shown["withdrawn"])),
        ("paid", f"{shown['paid']['total']['text']} in {shown['paid']['payments']} payments, "
                 f"{shown['paid']['acknowledged']} acknowledged, {shown['queued']} queued"),
        ("received", f"{shown['received']['total']['text']} in {shown['received']['payments']} payments"),
    ]  # fmt: skip
    if shown["deadline"]:
        pairs.append(("deadline", str(shown["deadline"])))
    if shown["payout"]:
        pairs.append(("payout", _both(shown["payout"])))
    return pairs


def _both(sides: dict[str, dict[str, str]]) -> str:
    return f"{sides['own']['text']} own, {sides['peer']['text']} peer"


def balance_json(view: BalanceView) -> dict[str, Any]:
    """What `balance --json` prints."""
    assets = Assets(view.assets)
    return {
        "balances": [
            {
                "asset": assets.code(row.asset_id),
                "account": assets.amount(row.account, row.asset_id),
                "channels": assets.amount(row.channels, row.asset_id),
            }
            for row in view.balances
        ]
    }


def peer_json(peer: PeerInfo) -> dict[str, Any]:
    """One peer of `peer list --json`."""
    return {
        "node": encode_id(NODE_PREFIX, peer.node_id),
        "address": peer.address or None,
        "connected": bool(peer.connected),
        "connected_since": peer.connected_since or None,
        "channels": peer.channels,
        "sent_bytes": peer.sent_bytes,
        "received_bytes": peer.received_bytes,
    }


def received_json(payment: ReceivedPayment, amount: dict[str, str]) -> dict[str, Any]:
    """One received payment; `covers` is above 1 where only the sum of several payments is known."""
    return {
        "position": payment.position,
        "cursor": payment.cursor,
        "channel": payment.channel_id.hex(),
        "n": payment.n,
        "covers": payment.covers,
        "amount": amount,
        "id": payment.payment_id.hex() if payment.payment_id else None,
        "memo": memo_text(payment.memo) if payment.memo else None,
        "memo_hex": payment.memo.hex() or None,
        "repeated": payment.repeated,
    }


def sent_json(payment: Payment, channel_id: bytes, amount: dict[str, str]) -> dict[str, Any]:
    """One payment that this node made."""
    return {
        "channel": channel_id.hex(),
        "n": payment.n,
        "amount": amount,
        "id": None if payment.payment_id == NO_ID else payment.payment_id.hex(),
        "memo": memo_text(payment.memo) if payment.memo else None,
        "memo_hex": payment.memo.hex() or None,
    }
