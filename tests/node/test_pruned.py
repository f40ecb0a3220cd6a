"""A peer that lost its records asks for ones that were pruned: it is told so, and both go on. Spec N-32, C-26."""

from __future__ import annotations

import shutil

from channelpay.limits import MIN_KEEP_S, PRUNE_MARK_S
from channelpay.node.roster import DEAD
from node_world import NodeWorld, open_pair


def prune(node: NodeWorld, now_s: int) -> None:
    while node.store.prune(now_s, MIN_KEEP_S):
        pass


def test_records_that_were_pruned_are_recalled_in_vain_and_payments_go_on(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.pay(10, 20)
    world.settle()
    a.crash()
    shutil.copy(a.path, tmp_path / "old.db")
    a.restart()
    world.settle()
    world.connect(a, b)
    a.pay(30, 40, 50)
    world.settle()
    b.pay(5)
    world.pass_time(2)  # the receipts are on disk
    prune(b, PRUNE_MARK_S)
    prune(b, PRUNE_MARK_S + MIN_KEEP_S)
    assert b.store.kept_n(b.channel().channel_id, 0) == 6
    a.crash()
    shutil.copy(tmp_path / "old.db", a.path)
    a.restart()
    world.settle()
    world.connect(a, b)
    world.settle()
    assert a.channel().resolved
    assert (a.channel().own.total, a.channel().peer.total) == (150, 5)
    (row,) = a.store.journal(0, 100, 10_000)
    assert (row.size, row.total, row.records) == (1, 5, b""), "the money counts in full, the records are unavailable"
    a.pay(7)
    world.settle()
    assert a.channel().acked.total == 157
    a.node.close(a.channel().channel_id, False, world.clock)
    world.pass_time(30)
    assert a.channel().phase in DEAD
    assert world.ledger.balance(b.keys.account.public) == 152
