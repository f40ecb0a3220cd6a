"""The configured policy in units, once the ledger has told its assets. Spec N-6."""

from __future__ import annotations

from collections.abc import Iterable

from channelpay.amounts import Asset
from channelpay.home.config import NodeConfig
from channelpay.limits import MAX_UNITS
from channelpay.messages.ledger import AssetView
from channelpay.node.policy import AssetPolicy, Policy


def policy_of(config: NodeConfig, assets: Iterable[AssetView]) -> Policy:
    """The policy for these assets. Raises AmountError for a bound with more decimals than its asset has."""
    views = list(assets)
    p, limits = config.policy, config.limits
    bounds = {}
    for view in views:
        asset = Asset(view.asset_id, view.code, view.scale, view.issuer)
        bounds[view.asset_id] = AssetPolicy(
            p.min_deposit.units(asset, 1),
            p.max_deposit.units(asset, MAX_UNITS),
            limits.max_unacked_value.units(asset, MAX_UNITS),
            limits.min_payment.units(asset, 1),
        )
    accepted = frozenset(view.asset_id for view in views if view.code in p.assets) if p.assets else None
    return Policy(
        p.auto_accept,
        accepted,
        bounds,
        p.min_window_s,
        p.max_window_s,
        p.max_channels_per_peer,
        p.max_channels,
        limits.max_unacked,
    )
