"""A node's store for tests: channels whose batches are made by numbers."""

from __future__ import annotations

from pathlib import Path

from channelpay.batches import NO_ID, Batch, pack_record
from channelpay.channel.effects import JournalBatch, JournalGap
from channelpay.channel.saved import Saved, pack_cold, pack_hot, pack_setup
from channelpay.channel.state import Channel, Phase, ReceiveLimits, Setup
from channelpay.crypto import sha256
from channelpay.keys import Keyring
from channelpay.node.ready import Persist
from channelpay.statements import ZERO_HALF, ChannelTerms, Half
from channelpay.store.node import NodeStore, create_node_store
from node_world import keyring

NODE, LEDGER = bytes([1]) * 32, bytes([2]) * 32


def payment_id(n: int, time: int = 1000) -> bytes:
    return time.to_bytes(6, "big") + n.to_bytes(10, "big")


class Fixture:
    """A store, and channels whose batches are made by numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path / "node.db"
        self.keys: Keyring = keyring(1)
        self.halves: dict[tuple[bytes, int], Half] = {}
        create_node_store(self.path, NODE, LEDGER)
        self.store = NodeStore(self.path, NODE, LEDGER)
        self.count = 0
        self.channels: dict[bytes, Channel] = {}

    def reopen(self) -> NodeStore:
        self.store.close()
        self.store = NodeStore(self.path, NODE, LEDGER)
        return self.store

    def channel(self, side: int = 0, phase: Phase = Phase.OPEN) -> Channel:
        """A new channel, committed."""
        self.count += 1
        key = self.keys.channel(self.count)
        keys = [keyring(50 + self.count).account.public, keyring(80 + self.count).account.public]
        keys[side] = key.public
        terms = ChannelTerms(LEDGER, bytes(16), *keys, bytes([8]) * 32, bytes([9]) * 32, bytes(32), 0, 60, 4096)
        limits = ReceiveLimits(100, 1000, 1)
        setup = Setup(terms, side, bytes([3]) * 32, self.count, bytes([4]) * 32, bytes([5]) * 32, 99, limits, limits)
        c = Channel(terms.channel_id(), setup, key, phase=phase)
        self.store.commit(Persist(channels=[(c.channel_id, saved(c))]))
        self.channels[c.channel_id] = c
        return c

    def entry(self, c: Channel, payer: int, records: bytes, memos: bytes = b"") -> JournalBatch:
        """The payer's next batch."""
        before = self.halves.get((c.channel_id, payer), Half(0, 0, bytes(32)))
        batch = Batch(before.n + 1, records, memos)
        total = before.total + sum(p.amount for p in batch.payments())
        half = Half(batch.last_n, total, sha256(records))
        self.halves[c.channel_id, payer] = half
        return JournalBatch(c.channel_id, payer, payer != c.side, batch, half)

    def gap(self, c: Channel, payer: int, size: int, total: int) -> JournalGap:
        before = self.halves.get((c.channel_id, payer), Half(0, 0, bytes(32)))
        half = Half(before.n + size, before.total + total, sha256(b"gap"))
        self.halves[c.channel_id, payer] = half
        return JournalGap(c.channel_id, payer, payer != c.side, before.n + 1, size, total, half)

    def journal(self, *entries: JournalBatch | JournalGap) -> None:
        """Commit what channels have done, and how far they are now."""
        self.store.commit(Persist(journal=list(entries), hot=[self._hot(entry.channel_id) for entry in entries]))

    def _hot(self, channel_id: bytes) -> tuple[bytes, bytes]:
        c = self.channels[channel_id]
        c.own, c.peer = (self.halves.get((channel_id, payer), ZERO_HALF) for payer in (c.side, 1 - c.side))
        return channel_id, pack_hot(c)

    def all_rows(self, after: int = 0, limit: int = 10_000, max_bytes: int = 10_000_000):
        return self.store.journal(after, limit, max_bytes)


def saved(c: Channel) -> Saved:
    return Saved(pack_setup(c.setup), pack_cold(c), pack_hot(c))


def records(*amounts: int, first_id: int | None = None, time: int = 1000) -> bytes:
    ids = [NO_ID if first_id is None else payment_id(first_id + i, time) for i in range(len(amounts))]
    return b"".join(map(pack_record, amounts, ids))
