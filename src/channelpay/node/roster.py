"""Which channels there are, which of them live, and which are in memory. Spec N-31.

Of most channels a node knows a summary only. One is loaded when its peer connects, when the ledger
speaks of it, when somebody asks, or from the start if something can fall due in it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeVar
from weakref import WeakValueDictionary

from channelpay.channel.saved import Summary
from channelpay.channel.state import Channel, Phase
from channelpay.limits import MAX_WINDOW_S

_K = TypeVar("_K")

DEAD = (Phase.SETTLED, Phase.ABANDONED)
"""Phases in which nothing happens any more."""

Load = Callable[[bytes], Channel]
"""Reads a channel of the store by its id."""


class _Loading(Mapping[bytes, Channel]):
    """Channels by id, each loaded when it is looked at."""

    def __init__(self, roster: Roster, ids: Collection[bytes]) -> None:
        self._roster = roster
        self._ids = ids

    def __getitem__(self, channel_id: bytes) -> Channel:
        channel = self._roster.loaded.get(channel_id)
        if channel is not None:
            return channel
        if channel_id not in self._ids:
            raise KeyError(channel_id)
        return self._roster.load(channel_id)

    def __contains__(self, channel_id: object) -> bool:
        return channel_id in self._ids

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._ids))

    def __len__(self) -> int:
        return len(self._ids)


class Roster:
    """All channels of a node. What is asked with every payment or every second does not go through all of them."""

    def __init__(self) -> None:
        self._known: dict[bytes, Summary] = {}
        self._living: dict[bytes, None] = {}
        self.loaded: dict[bytes, Channel] = {}
        self.channels: Mapping[bytes, Channel] = _Loading(self, self._known)
        """All channels; those of which more than the id is looked at are loaded."""
        self.live: Mapping[bytes, Channel] = _Loading(self, self._living)
        """The same for those that are not dead."""
        self.by_peer: dict[bytes, list[bytes]] = {}
        self.phases: Counter[Phase] = Counter()
        self._dropped: WeakValueDictionary[bytes, Channel] = WeakValueDictionary()
        self.on_load: Callable[[Channel], None] = lambda _: None
        self._load: Load | None = None
        self._sorted: list[bytes] | None = None  # all ids, once somebody has asked for them in order
        self._live_with: Counter[bytes] = Counter()
        self._windows: Counter[int] = Counter()

    # --- Growing ---------------------------------------------------------------------------

    def learn(self, summaries: Iterable[Summary], load: Load) -> list[bytes]:
        """The channels of a store, which `load` loads; the ids of those that do not rest."""
        self._load = load
        restless = []
        for summary in summaries:
            self._enter(summary)
            if not summary.rests:
                restless.append(summary.channel_id)
        return restless

    def add(self, channel: Channel) -> None:
        """A channel that is new, or that was loaded without a store."""
        setup = channel.setup
        self._enter(
            Summary(channel.channel_id, setup.peer_id, setup.side, setup.terms.window_s, channel.phase, rests=False)
        )
        self.loaded[channel.channel_id] = channel

    def _enter(self, summary: Summary) -> None:
        channel_id, peer_id = summary.channel_id, summary.peer_id
        self._known[channel_id] = summary
        self.by_peer.setdefault(peer_id, []).append(channel_id)
        self.phases[summary.phase] += 1
        if self._sorted is not None:
            insort(self._sorted, channel_id)
        if summary.phase not in DEAD:
            self._living[channel_id] = None
            self._live_with[peer_id] += 1
            self._windows[summary.window_s] += 1

    def load(self, channel_id: bytes) -> Channel:
        """Bring a known channel into memory. As long as anybody holds one that was dropped, it is that one."""
        channel = self._dropped.pop(channel_id, None)
        if channel is None:
            assert self._load is not None, "channels without a store are not dropped"
            channel = self._load(channel_id)
            self.on_load(channel)
        self.loaded[channel_id] = channel
        return channel

    def peek(self, channel_id: bytes) -> Channel:
        """A known channel to look at and not to change; one that is not in memory does not stay there."""
        channel = self.loaded.get(channel_id) or self._dropped.get(channel_id)
        if channel is not None:
            return channel
        assert self._load is not None, "channels without a store are not dropped"
        return self._load(channel_id)

    def drop(self, channel: Channel) -> None:
        """Forget all but the summary of a channel whose state the store has, or will have from whoever holds it."""
        if self._load is not None and self.loaded.pop(channel.channel_id, None) is not None:
            self._dropped[channel.channel_id] = channel

    def moved(self, channel: Channel) -> None:
        """The phase of a channel may have changed."""
        known = self._known[channel.channel_id]
        if known.phase is channel.phase:
            return
        _take_off(self.phases, known.phase)
        self.phases[channel.phase] += 1
        self._known[channel.channel_id] = known._replace(phase=channel.phase)
        if channel.phase in DEAD:
            del self._living[channel.channel_id]
            _take_off(self._live_with, known.peer_id)
            _take_off(self._windows, known.window_s)

    def named_peer(self, channel: Channel) -> None:
        """The peer of a channel, which was not known, is known now."""
        channel_id, peer_id = channel.channel_id, channel.setup.peer_id
        known = self._known[channel_id]
        self._known[channel_id] = known._replace(peer_id=peer_id)
        self.by_peer[known.peer_id].remove(channel_id)
        self.by_peer.setdefault(peer_id, []).append(channel_id)
        if channel_id in self._living:
            _take_off(self._live_with, known.peer_id)
            self._live_with[peer_id] += 1

    # --- Asking ----------------------------------------------------------------------------

    def phase(self, channel_id: bytes) -> Phase | None:
        """Where a channel stands; None if it is unknown."""
        known = self._known.get(channel_id)
        return None if known is None else known.phase

    def is_dead(self, channel_id: bytes) -> bool:
        """Whether a channel is known and nothing happens in it any more."""
        return channel_id in self._known and channel_id not in self._living

    def find(self, peer_id: bytes, channel_id: bytes) -> Channel | None:
        """A channel with this peer, dead or alive."""
        known = self._known.get(channel_id)
        return self.channels[channel_id] if known is not None and known.peer_id == peer_id else None

    def with_peer(self, peer_id: bytes) -> list[Channel]:
        """The living channels with a peer."""
        return [self.live[key] for key in self.by_peer.get(peer_id, ()) if key in self._living]

    def loaded_with(self, peer_id: bytes) -> list[Channel]:
        """The channels with a peer that are in memory."""
        return [self.loaded[key] for key in self.by_peer.get(peer_id, ()) if key in self.loaded]

    def loaded_or_held(self) -> list[Channel]:
        """The channels that are in memory, and those that were dropped and that somebody still holds."""
        return [*self.loaded.values(), *self._dropped.values()]

    def loaded_live(self) -> list[Channel]:
        """The living channels that are in memory."""
        return [channel for key, channel in self.loaded.items() if key in self._living]

    def count_with(self, peer_id: bytes) -> int:
        """How many living channels there are with a peer."""
        return self._live_with[peer_id]

    @property
    def least_window_s(self) -> int:
        """The shortest dispute window of all living channels."""
        return min(self._windows, default=MAX_WINDOW_S)

    # --- In the order of ids ---------------------------------------------------------------

    def _in_order(self) -> list[bytes]:
        if self._sorted is None:
            self._sorted = sorted(self._known)
        return self._sorted

    def page(self, after: bytes, count: int, *, dead: bool) -> list[bytes]:
        """The first `count` ids above `after`, those of dead channels among them only with `dead`."""
        ids, found = self._in_order(), list[bytes]()
        for index in range(bisect_right(ids, after), len(ids)):
            if dead or ids[index] in self._living:
                found.append(ids[index])
                if len(found) == count:
                    break
        return found

    def named(self, prefix: str) -> list[bytes]:
        """The ids that begin with some hexadecimal digits."""
        ids = self._in_order()
        found = []
        for index in range(bisect_left(ids, prefix, key=bytes.hex), len(ids)):
            if not ids[index].hex().startswith(prefix):
                break
            found.append(ids[index])
        return found


def _take_off(counter: Counter[_K], key: _K) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
