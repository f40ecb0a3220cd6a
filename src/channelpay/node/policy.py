"""Which channels that others offer this node accepts, and why not. Spec N-6."""

from __future__ import annotations

from typing import NamedTuple

from channelpay.channel.state import ReceiveLimits
from channelpay.errors import ErrorCode
from channelpay.limits import (
    DEFAULT_MAX_UNACKED,
    MAX_BATCH,
    MAX_CHANNELS_PER_PEER,
    MAX_UNITS,
    MAX_WINDOW_S,
    MIN_WINDOW_S,
)
from channelpay.messages.peer import Open
from channelpay.statements import FLAG_ONE_WAY, FLAG_TWO_WAY


class AssetPolicy(NamedTuple):
    """Bounds for one asset, in its units."""

    min_deposit: int = 1
    max_deposit: int = MAX_UNITS
    max_unacked_value: int = MAX_UNITS
    min_payment: int = 1


class Policy(NamedTuple):
    """What is accepted; `assets` None takes every asset of the ledger with the default bounds."""

    auto_accept: bool = False
    assets: frozenset[bytes] | None = None
    bounds: dict[bytes, AssetPolicy] = {}  # noqa: RUF012  never changed
    min_window_s: int = MIN_WINDOW_S
    max_window_s: int = MAX_WINDOW_S
    max_channels_per_peer: int = MAX_CHANNELS_PER_PEER
    max_channels: int = 1024
    max_unacked: int = DEFAULT_MAX_UNACKED

    def of_asset(self, asset_id: bytes) -> AssetPolicy:
        """The bounds for an asset."""
        return self.bounds.get(asset_id, AssetPolicy())

    def receive_limits(self, asset_id: bytes) -> ReceiveLimits:
        """What this node announces for a channel in this asset."""
        bounds = self.of_asset(asset_id)
        return ReceiveLimits(self.max_unacked, bounds.max_unacked_value, bounds.min_payment)


REFUSALS = {
    ErrorCode.NOT_ACCEPTING: "it accepts no channels that others open (its policy.auto_accept)",
    ErrorCode.FLAGS_REFUSED: "flags are neither two_way nor one_way",
    ErrorCode.ASSET_REFUSED: "it does not take this asset",
    ErrorCode.DEPOSIT_REFUSED: "the deposit is outside what it takes",
    ErrorCode.WINDOW_REFUSED: "the dispute window is outside what it takes",
    ErrorCode.BATCH_REFUSED: f"max_batch is outside 1 .. {MAX_BATCH}",
    ErrorCode.LIMITS_REFUSED: "under the limits offered nothing could be paid",
    ErrorCode.TOO_MANY_CHANNELS: "it has as many channels as it wants, with this node or in all",
    ErrorCode.KEY_REFUSED: "a key is unsound",
    ErrorCode.LEDGER_REFUSED: "it cannot reach its ledger now, or uses another one",
}
"""What a refused opener is told: the text beside the code."""


def refusal(
    policy: Policy, offer: Open, known_assets: frozenset[bytes], with_peer: int, in_all: int
) -> ErrorCode | None:
    """The first reason to refuse an offer, in order of precedence, or None.

    `known_assets` are the ledger's; `with_peer` and `in_all` count channels that are not settled.
    """
    bounds = policy.of_asset(offer.asset_id)
    if not policy.auto_accept:
        return ErrorCode.NOT_ACCEPTING
    if offer.flags not in (FLAG_TWO_WAY, FLAG_ONE_WAY):
        return ErrorCode.FLAGS_REFUSED
    if offer.asset_id not in known_assets or (policy.assets is not None and offer.asset_id not in policy.assets):
        return ErrorCode.ASSET_REFUSED
    if not max(1, bounds.min_deposit) <= offer.deposit <= bounds.max_deposit:
        return ErrorCode.DEPOSIT_REFUSED
    if not policy.min_window_s <= offer.window_s <= policy.max_window_s:
        return ErrorCode.WINDOW_REFUSED
    if not 1 <= offer.max_batch <= MAX_BATCH:
        return ErrorCode.BATCH_REFUSED
    if not sound_limits(offer.max_unacked, offer.max_unacked_value, offer.min_payment):
        return ErrorCode.LIMITS_REFUSED
    if with_peer >= policy.max_channels_per_peer or in_all >= policy.max_channels:
        return ErrorCode.TOO_MANY_CHANNELS
    return None


def sound_limits(max_unacked: int, max_unacked_value: int, min_payment: int) -> bool:
    """Whether payments can flow at all under the limits that the other side announces."""
    return max_unacked >= 1 and max_unacked_value >= max(1, min_payment)
