"""What this node knows of its ledger: the time there, how new its readings are, what it has asked. Spec N-3, C-18.

The ledger sends every EVENT of a subscription before any answer with a higher journal number, so an
answer to `info` proves that all channels have been read up to that number.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from channelpay.channel.effects import Submission
from channelpay.channel.state import Reading
from channelpay.crypto import SigningKey
from channelpay.limits import FINAL_EXPIRY_S, LEDGER_REQUEST_TIMEOUT_S, MAX_REQUEST_LIFE_S
from channelpay.messages.ledger import AssetView, ChannelView, LedgerInfo, LedgerRequest, Operation
from channelpay.messages.peer import Request
from channelpay.statements import Half, request_bytes

_NEVER = float("-inf")
RESTORED = -1
"""`restored_until` of a store that was restored and has not read the ledger since."""

_POLL_MOST_S = 15.0
_POLL_LEAST_S = 0.5
_POLLS_IN_WINDOW = 16
"""Four within the quarter of the window after which a channel stalls."""


@dataclass(slots=True)
class Asked:
    """A request that has not been answered."""

    request: Request
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
    restored_until: int = 0  # a restored store pays and is paid from this ledger time on; RESTORED: not yet known
    unsent: list[Submission] = field(default_factory=list)  # wait for the ledger's time
    _reading: dict[bytes, bool] = field(default_factory=dict)  # channels being read; whether once more after that

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

    @property
    def was_read(self) -> bool:
        """Whether there has been a reading of all channels since the start."""
        return self.fresh_at != _NEVER

    def is_stale(self, window_s: int, clock: float) -> bool:
        """Whether the newest reading is older than a quarter of a window, or the store too old to be believed."""
        return clock - self.fresh_at > window_s / 4 or self.restored_until != 0

    def outlive_forgotten(self) -> bool:
        """A restored store waits until no agreement that it may have forgotten is of use (spec C-28, X-6).

        Call with every reading; whether `restored_until` changed.
        """
        if self.restored_until == RESTORED:
            self.restored_until = self.time + 2 * FINAL_EXPIRY_S
            return True
        if self.restored_until and self.time > self.restored_until:
            self.restored_until = 0
            return True
        return False

    def poll_interval(self, least_window_s: int) -> float:
        """How often `info` is asked, so that the channel with the least window never stalls by itself."""
        return min(_POLL_MOST_S, max(_POLL_LEAST_S, least_window_s / _POLLS_IN_WINDOW))

    def overdue(self, clock: float) -> bool:
        """Whether the ledger has let a request wait too long: the connection is no good."""
        return any(clock - asked.at > LEDGER_REQUEST_TIMEOUT_S for asked in self.asked.values())

    def ask(
        self,
        request_id: bytes,
        key: SigningKey,
        operation: Operation,
        channel_id: bytes | None,
        clock: float,
        kept: bool = False,
    ) -> Request:
        """A signed request, from now on awaiting its answer."""
        # Before the first answer the ledger's time is unknown; only reads are sent then, and they have no life (L-7).
        valid_until = self.time_now(clock) + MAX_REQUEST_LIFE_S // 2
        blob = LedgerRequest(key.public, valid_until, operation).encode()
        request = Request(request_id, blob, key.sign(request_bytes(self.ledger_id, request_id, blob)))
        self.asked[request_id] = Asked(request, operation, channel_id, clock, kept)
        return request

    def ask_again(self, clock: float) -> list[Request]:
        """The requests that outlive a connection, to be submitted on a new one."""
        for asked in self.asked.values():
            asked.at = clock
        return [asked.request for asked in self.asked.values()]

    def awaits_opening(self, channel_id: bytes) -> bool:
        """Whether a request of this node that may still open the channel has not been answered."""
        return any(asked.channel_id == channel_id and asked.kept for asked in self.asked.values())

    def wants_reading(self, channel_id: bytes) -> bool:
        """Whether to ask for a reading now; if one is under way, another follows when it has come."""
        under_way = channel_id in self._reading
        self._reading[channel_id] = under_way
        return not under_way

    def reading_came(self, channel_id: bytes) -> bool:
        """Whether the reading that was answered is the newest asked for; if not, ask again."""
        return not self._reading.pop(channel_id, False)

    def lost(self) -> list[bytes]:
        """The connection is gone: forget what is asked again anyway. Channels whose operations were cut off."""
        self.connected = self.subscribed = False
        self._reading.clear()
        cut = [asked.channel_id for asked in self.asked.values() if asked.channel_id is not None and not asked.kept]
        self.asked = {request_id: asked for request_id, asked in self.asked.items() if asked.kept}
        return cut


def reading_of(view: ChannelView) -> Reading:
    """What a view of a channel tells; raises RemoteError for halves that cannot be."""
    return Reading(
        view.status,
        (view.deposit0, view.deposit1),
        (view.withdrawn0, view.withdrawn1),
        (Half.unpack(view.half0), Half.unpack(view.half1)),
        view.deadline,
        (view.out0, view.out1),
        view.number,
    )
