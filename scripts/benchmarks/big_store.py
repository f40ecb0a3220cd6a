"""Fills a node's store as years of work would: channels with payments behind them, through the store's own code.

`python -m benchmarks.big_store --home HOME --channels N --payments P` on the home of a node that is not running. The
channels are complete in every respect that a node looks at by itself: terms, halves, a reading of the ledger, batches.
Their peers do not exist, keys, hashes and signatures are random bytes, and the ledger does not know them.
"""

from __future__ import annotations

import argparse
import random
import struct
import time
from collections.abc import Iterator
from itertools import islice
from typing import Final

from channelpay.batches import Batch
from channelpay.channel.effects import JournalBatch
from channelpay.channel.saved import Saved, pack_cold, pack_hot, pack_setup
from channelpay.channel.state import Channel, Held, Phase, Reading, ReceiveLimits, Setup
from channelpay.home import Home
from channelpay.home.config import NodeConfig
from channelpay.home.load import load_config
from channelpay.keys import Keyring
from channelpay.limits import DEFAULT_MAX_UNACKED, MAX_BATCH, MAX_UNITS
from channelpay.node.ready import Persist
from channelpay.services.ids import new_payment_id
from channelpay.statements import ChannelTerms, Half
from channelpay.store.node import NodeStore

_CHANNELS_A_COMMIT: Final = 1000
_DEPOSIT: Final = 10**12
_WINDOW_S: Final = 86_400
_NO_ASSET: Final = bytes(16)
"""What channels made here are in, and no others."""

_PAYING: Final = 256
"""Channels that payments are spread over."""

_BATCHES_A_COMMIT: Final = 16


class Filler:
    """Adds to one open store. What is random in it comes from a seed, so that two runs make the same."""

    def __init__(self, store: NodeStore, keyring: Keyring, ledger_id: bytes) -> None:
        self.store = store
        self._keyring = keyring
        self._ledger_id = ledger_id
        self._bytes = random.Random(1).randbytes
        self._next_index = store.next_key_index()
        self.channels: list[Channel] = []

    def add_channels(self, count: int) -> None:
        """Open channels, each with a peer of its own and nothing paid yet; every other one was opened by its peer."""
        made = iter(range(count))
        while some := [self._channel(index % 2) for index in islice(made, _CHANNELS_A_COMMIT)]:
            rows = [(c.channel_id, Saved(pack_setup(c.setup), pack_cold(c), pack_hot(c))) for c in some]
            self.store.commit(Persist(channels=rows, next_key_index=self._next_index))
            self.channels += some

    def take_up(self, count: int) -> None:
        """Go on with so many of the channels that were added earlier."""
        for summary in self.store.roster():
            if len(self.channels) == count:
                return
            channel = self.store.channel(summary.channel_id, self._keyring)
            if channel.setup.terms.asset_id == _NO_ASSET:
                self.channels.append(channel)

    def _channel(self, side: int) -> Channel:
        index, self._next_index = self._next_index, self._next_index + 1
        keys_accounts_nonce = [self._bytes(32) for _ in range(5)]
        terms = ChannelTerms(self._ledger_id, _NO_ASSET, *keys_accounts_nonce, 0, _WINDOW_S, MAX_BATCH)
        limits = ReceiveLimits(DEFAULT_MAX_UNACKED, MAX_UNITS, 1)
        peer_id, salt0, salt1 = (self._bytes(32) for _ in range(3))
        setup = Setup(terms, side, peer_id, index, salt0, salt1, _DEPOSIT, limits, limits)
        reading = Reading(deposits=(_DEPOSIT, _DEPOSIT))
        return Channel(terms.channel_id(), setup, self._keyring.account, phase=Phase.OPEN, reading=reading)

    def add_payments(self, count: int, batch: int = MAX_BATCH, *, ids: bool = False) -> None:
        """Payments of one unit in batches of so many, on one channel after another, in both directions in turn."""
        entries = self._entries(count, batch, ids)
        while some := list(islice(entries, _BATCHES_A_COMMIT if batch > 1 else 256)):
            touched = {entry.channel_id: c for c, entry in some}
            hot = [(channel_id, pack_hot(c)) for channel_id, c in touched.items()]
            self.store.commit(Persist(journal=[entry for _, entry in some], hot=hot))

    def _entries(self, count: int, batch: int, ids: bool) -> Iterator[tuple[Channel, JournalBatch]]:
        turn = 0
        while count > 0:
            c = self.channels[turn // 2 % len(self.channels)]
            size = min(batch, count)
            count -= size
            yield c, self._pay(c, payer=turn % 2, size=size, ids=ids)
            turn += 1

    def _pay(self, c: Channel, payer: int, size: int, ids: bool) -> JournalBatch:
        before = c.own if payer == c.side else c.peer
        records = b"".join([struct.pack(">Q16s", 1, new_payment_id()) for _ in range(size)]) if ids else _PLAIN * size
        half = Half(before.n + size, before.total + size, self._bytes(32))
        if payer == c.side:
            c.own = half
        else:
            c.peer = half
        c.held = Held(c.own, c.peer, self._bytes(64))
        return JournalBatch(c.channel_id, payer, payer != c.side, Batch(before.n + 1, records, b""), half)


_PLAIN: Final = struct.pack(">Q16x", 1)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True)
    parser.add_argument("--channels", type=int, default=0)
    parser.add_argument("--payments", type=int, default=0, help="in batches of 4,096")
    options = parser.parse_args()
    home = Home(options.home)
    keyring, ledger = home.keyring(), load_config(home, NodeConfig).config.ledger.address
    assert ledger is not None
    began = time.monotonic()
    store = NodeStore(home.node_db, keyring.identity.public, ledger.key)
    try:
        filler = Filler(store, keyring, ledger.key)
        filler.add_channels(options.channels)
        if not options.channels:
            filler.take_up(_PAYING)
        del filler.channels[_PAYING:]
        filler.add_payments(options.payments)
    finally:
        store.close()
    print(f"{options.channels} channels, {options.payments} payments in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
