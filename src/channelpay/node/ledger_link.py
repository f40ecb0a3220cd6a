"""What this node knows of its ledger: the time there, how new its readings are, what it has asked. Spec N-3, C-18.

The ledger sends every EVENT of a subscription before any answer with a higher journal number, so an
answer to `info` proves that all channels have been read up to that number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from channelpay.limits import LEDGER_REQUEST_TIMEOUT_S
from channelpay.messages.ledger import AssetView, LedgerInfo, Operation

_NEVER = float("-inf")
_POLL_MOST_S = 15.0
_POLL_LEAST_S = 0.5
_POLLS_IN_WINDOW = 16
"""Four within the quarter of the window after which a channel stalls."""


@dataclass(slots=True)
class Asked:
    """A request that has not been answered."""

    operation: Operation
    channel_id: bytes | None
    at: float
    kept: bool = False  # stored, and submitted again after a restart


@dataclass(slots=True)
class LedgerLink:
    """The ledger, seen from the node."""

    ledger_id: bytes
    connected: bool = False
    subscribed: bool = False
    number: int = 0  # newest journal number processed
    time: int = 0
    time_at: float = _NEVER
    fresh_at: float = _NEVER  # when the newest reading of all channels was asked for
    assets: dict[bytes, AssetView] = field(default_factory=dict)
    operator: bytes = b""
    min_window_s: int = 0
    max_window_s: int = 0
    min_deposit: int = 0
    asked: dict[bytes, Asked] = field(default_factory=dict)
    polled_at: float = _NEVER

    def time_now(self, clock: float) -> int:
        """The ledger's time, counted on from the newest answer; 0 before the first."""
        return self.time + int(clock - self.time_at) if self.time else 0

    def learn(self, info: LedgerInfo, asked_at: float) -> None:
        """An answer to info or subscribe."""
        if info.time >= self.time:
            self.time, self.time_at = info.time, asked_at
        self.assets = {asset.asset_id: asset for asset in info.assets}
        self.operator = info.operator
        self.min_window_s, self.max_window_s = info.min_window_s, info.max_window_s
        self.min_deposit = info.min_deposit

    def is_stale(self, window_s: int, clock: float) -> bool:
        """Whether the newest reading is older than a quarter of a window."""
        return clock - self.fresh_at > window_s / 4

    def poll_interval(self, least_window_s: int) -> float:
        """How often `info` is asked, so that the channel with the least window never stalls by itself."""
        return min(_POLL_MOST_S, max(_POLL_LEAST_S, least_window_s / _POLLS_IN_WINDOW))

    def overdue(self, clock: float) -> bool:
        """Whether the ledger has let a request wait too long: the connection is no good."""
        return any(clock - asked.at > LEDGER_REQUEST_TIMEOUT_S for asked in self.asked.values())

    def lost(self) -> list[bytes]:
        """The connection is gone: forget what is asked again anyway. Channels whose operations were cut off."""
        self.connected = self.subscribed = False
        cut = [asked.channel_id for asked in self.asked.values() if asked.channel_id is not None and not asked.kept]
        self.asked = {request_id: asked for request_id, asked in self.asked.items() if asked.kept}
        return cut
