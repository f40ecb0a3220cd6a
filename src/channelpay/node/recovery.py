"""Channels that the ledger shows and the store does not know, found by this node's keys. Spec N-26.

What the ledger tells of a channel is all but its peer's name, the salts and what was paid: the peer names
itself by a state that the channel's other key has signed, and shows what was paid (spec C-23).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from channelpay.channel import reestablish
from channelpay.channel.state import UNKNOWN_SALT, Channel, Phase, ReceiveLimits, Setup
from channelpay.errors import RemoteError
from channelpay.keys import Keyring
from channelpay.limits import MAX_EARLY_REESTABLISH, RECOVERY_KEY_GAP, RECOVERY_STEP_KEYS
from channelpay.messages.ledger import ChannelView
from channelpay.messages.peer import Reestablish
from channelpay.node.ledger_link import reading_of
from channelpay.node.ready import Connection
from channelpay.statements import ChannelTerms

UNKNOWN_PEER: Final = bytes(32)
"""Peer of a channel that was found, until the peer has named itself; nobody's node id (spec S-3)."""


class Finder:
    """Knows which channel keys are this node's, and keeps what peers said of channels before they were found."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._indexes: dict[bytes, int] = {}
        self._early: dict[bytes, tuple[Connection, Reestablish]] = {}

    def channel(self, view: ChannelView, ledger_id: bytes, used: int, limits: ReceiveLimits) -> Channel | None:
        """The channel in a view, if one of its keys and its account are this node's; `used` keys are known to be so.

        Raises RemoteError for a view that cannot be.
        """
        terms = ChannelTerms(
            ledger_id,
            view.asset_id,
            view.key0,
            view.key1,
            view.account0,
            view.account1,
            view.open_nonce,
            view.flags,
            view.window_s,
            view.max_batch,
        )
        if terms.channel_id() != view.channel_id:
            return None
        account = self._keyring.account.public
        for side, (key, owner) in enumerate(((view.key0, view.account0), (view.key1, view.account1))):
            index = self._index_of(key, used) if owner == account else None
            if index is not None:
                salts = (UNKNOWN_SALT, UNKNOWN_SALT)
                setup = Setup(terms, side, UNKNOWN_PEER, index, *salts, view.deposit0, limits, limits)
                key_pair = self._keyring.channel(index)
                return Channel(view.channel_id, setup, key_pair, phase=Phase.FUNDED, reading=reading_of(view))
        return None

    def step(self, view: ChannelView, used: int) -> bool:
        """Derive some of the keys that `channel` needs for a view; whether there are more.

        All of them together may take seconds, if this node has opened many channels.
        """
        account = self._keyring.account.public
        parties = ((view.key0, view.account0), (view.key1, view.account1))
        wanted = {key for key, owner in parties if owner == account}
        for _ in range(RECOVERY_STEP_KEYS):
            if wanted <= self._indexes.keys() or not self._derive_next(used):
                return False
        return True

    def _index_of(self, public: bytes, used: int) -> int | None:
        """The index of a channel key, if it is below `used` or among the next ones; keys are derived once."""
        while public not in self._indexes and self._derive_next(used):
            pass
        return self._indexes.get(public)

    def _derive_next(self, used: int) -> bool:
        """Derive one key more, unless that is too far."""
        index = len(self._indexes)
        if index >= used + RECOVERY_KEY_GAP:
            return False
        self._indexes[self._keyring.channel(index).public] = index
        return True

    # --- What came too early ---------------------------------------------------------------

    def keep(self, connection: Connection, message: Reestablish) -> bool:
        """Keep what a peer shows of a channel that may yet be found; whether there was room."""
        if len(self._early) >= MAX_EARLY_REESTABLISH:
            return False
        self._early[message.channel_id] = connection, message
        return True

    def take_early(self, channel_id: bytes) -> tuple[Connection, Reestablish] | None:
        """What was kept of a channel, once."""
        return self._early.pop(channel_id, None)

    def take_all_early(self) -> list[tuple[Connection, Reestablish]]:
        """What was kept of all channels, once: they were not found."""
        kept, self._early = list(self._early.values()), {}
        return kept


def name_peer(channel: Channel, peer_id: bytes, message: Reestablish) -> bool:
    """Whether whoever shows this has the channel's other key; then the channel is with that node from now on."""
    try:
        reestablish.check_shown(channel, message)
    except RemoteError:
        return False
    channel.setup = replace(channel.setup, peer_id=peer_id)
    return True
