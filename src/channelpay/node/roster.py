"""Which channels there are, and which of them live."""

from __future__ import annotations

from collections import Counter
from typing import TypeVar

from channelpay.channel.state import Channel, Phase
from channelpay.limits import MAX_WINDOW_S

_K = TypeVar("_K")

DEAD = (Phase.SETTLED, Phase.ABANDONED)
"""Phases in which nothing happens any more."""


class Roster:
    """All channels of a node. What is asked with every payment or every second does not go through all of them."""

    def __init__(self) -> None:
        self.channels: dict[bytes, Channel] = {}
        self.by_peer: dict[bytes, dict[bytes, Channel]] = {}
        self.live: dict[bytes, Channel] = {}
        self._live_with: Counter[bytes] = Counter()
        self._windows: Counter[int] = Counter()

    def add(self, channel: Channel) -> None:
        """A channel that was loaded or is new."""
        self.channels[channel.channel_id] = channel
        self.by_peer.setdefault(channel.setup.peer_id, {})[channel.channel_id] = channel
        if channel.phase not in DEAD:
            self.live[channel.channel_id] = channel
            self._live_with[channel.setup.peer_id] += 1
            self._windows[channel.setup.terms.window_s] += 1

    def bury(self, channel: Channel) -> None:
        """The channel is settled or abandoned; harmless a second time."""
        if self.live.pop(channel.channel_id, None) is not None:
            _take_off(self._live_with, channel.setup.peer_id)
            _take_off(self._windows, channel.setup.terms.window_s)

    def find(self, peer_id: bytes, channel_id: bytes) -> Channel | None:
        """A channel with this peer, dead or alive."""
        return self.by_peer.get(peer_id, {}).get(channel_id)

    def with_peer(self, peer_id: bytes) -> list[Channel]:
        """The living channels with a peer."""
        return [c for c in self.by_peer.get(peer_id, {}).values() if c.phase not in DEAD]

    def count_with(self, peer_id: bytes) -> int:
        """How many living channels there are with a peer."""
        return self._live_with[peer_id]

    def live_peers(self) -> list[bytes]:
        """Peers with a living channel."""
        return list(self._live_with)

    @property
    def least_window_s(self) -> int:
        """The shortest dispute window of all living channels."""
        return min(self._windows, default=MAX_WINDOW_S)


def _take_off(counter: Counter[_K], key: _K) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
