"""One scripted life, and a crash at every commit of either node: before it, and between it and what is sent after."""

from __future__ import annotations

import pytest

from channelpay.ledger.audit import audit
from channelpay.messages.control import ENTRY_UNAVAILABLE
from channelpay.messages.ledger import SETTLED
from node_world import NodeWorld, Phase, World, open_pair

DEPOSIT = 1000


class Crash(Exception):
    """The process is gone."""


class Bomb:
    """Makes one node die at its n-th commit from now on."""

    def __init__(self, node: NodeWorld, at: int, before: bool) -> None:
        self.left = at
        self.node = node
        commit = node.store.commit

        def bombed(persist) -> None:
            self.left -= 1
            if self.left == 0 and before:
                raise Crash
            commit(persist)
            if self.left == 0:
                raise Crash

        node.store.commit = bombed


def script(world: World, a: NodeWorld, b: NodeWorld):
    """A life with all that is committed in it; each yield is a moment at which a node may be found dead."""
    c = a.channel().channel_id
    yield lambda: a.pay(100, 50)
    yield lambda: b.pay(30)
    yield lambda: (a.pay(7), b.pay(3))
    yield lambda: a.node.topup(c, 200, world.clock)
    yield lambda: b.node.withdraw(b.channel().channel_id, 40, world.clock)
    yield lambda: a.pay(900)
    yield lambda: (world.cut(a), world.connect(a, b))
    yield lambda: b.pay(1)
    yield lambda: a.node.close(c, False, world.clock)


def live(world: World, a: NodeWorld, b: NodeWorld) -> bool:
    """Whether the whole script went by without a crash; a dead node comes back, and the script goes on."""
    crashed = False
    for act in script(world, a, b):
        try:
            try:
                act()
            except Exception as error:  # after a crash some wishes come too early or are refused; others follow
                if isinstance(error, Crash) or not crashed:
                    raise
            world.settle()
        except Crash:
            crashed = True
            _come_back(world, a, b)
    return crashed


def _come_back(world: World, a: NodeWorld, b: NodeWorld) -> None:
    for node in (a, b):
        if "commit" in vars(node.store):  # the one with the bomb
            node.crash()
            node.restart()
    world.settle()
    world.connect(a, b)
    world.settle()


def check(world: World, a: NodeWorld, b: NodeWorld) -> None:
    world.settle()
    for node in (a, b):
        if node.channel().phase is Phase.OPEN:
            node.node.close(node.channel().channel_id, False, world.clock)
            world.settle()
    world.pass_time(1)
    row = world.ledger.books.channel(a.channel().channel_id)
    assert row.status == SETTLED
    assert (a.channel().phase, b.channel().phase) == (Phase.SETTLED, Phase.SETTLED)
    paid = {node: sum(amount for _, amount in other.journal()) for node, other in ((a, b), (b, a))}
    assert (row.half0.total, row.half1.total) == (paid[a], paid[b])
    for node in (a, b):
        acknowledged = sum(item.total for item in node.paid)
        assert acknowledged <= paid[node], "what was acknowledged is in the settlement"
        assert not any("rolled back" in text or "broke a rule" in text for text in node.warnings())
    assert row.out0 + row.withdrawn0 == row.deposit0 - paid[a] + paid[b]
    assert audit(world.ledger.books).balanced
    assert sum(world.ledger.balance(node.keys.account.public) for node in (a, b)) == 10 * DEPOSIT


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("who", ["payer", "payee"])
def test_a_crash_at_every_commit(tmp_path, who, before):
    at, crashed = 0, True
    while crashed:
        at += 1
        (tmp_path / f"{at}").mkdir()
        world, a, b = open_pair(tmp_path / f"{at}", deposit=DEPOSIT)
        Bomb(a if who == "payer" else b, at, before)
        crashed = live(world, a, b)
        check(world, a, b)
        for node in (a, b):
            node.crash()
    assert at > 8, "there was a commit to crash at in every part of the life"


# --- Rollback ----------------------------------------------------------------------------------


def rolled_back(world: World, node: NodeWorld, other: NodeWorld, between) -> None:
    """`node` dies, and comes back with the disk that it had before `between`."""
    node.crash()
    saved = node.path.read_bytes()
    node.restart()
    world.settle()
    world.connect(node, other)
    world.settle()
    between()
    world.settle()
    node.crash()
    for suffix in ("-wal", "-shm"):
        node.path.with_name(node.path.name + suffix).unlink(missing_ok=True)
    node.path.write_bytes(saved)
    node.restart()
    world.settle()
    world.connect(node, other)
    world.settle()


@pytest.mark.parametrize("who", ["payer", "payee"])
def test_a_rolled_back_node_gets_both_directions_back(tmp_path, who):
    world, a, b = open_pair(tmp_path, deposit=DEPOSIT)
    a.pay(100)
    world.settle()
    node, other = (a, b) if who == "payer" else (b, a)

    def between() -> None:
        a.pay(5)
        b.pay(2)
        world.settle()
        a.pay(6)
        b.pay(3)

    rolled_back(world, node, other, between)
    assert [amount for _, amount in b.journal()] == [100, 5, 6]
    assert [amount for _, amount in a.journal()] == [2, 3]
    assert any("rolled back" in text for text in node.warnings())
    assert node.channel().resolved
    a.pay(1)
    world.settle()
    a.node.close(a.channel().channel_id, False, world.clock)
    world.settle()
    assert world.ledger.balance(b.keys.account.public) == 112 - 5
    assert world.ledger.balance(a.keys.account.public) == 10 * DEPOSIT - 112 + 5


def test_records_that_nobody_kept_are_one_entry(tmp_path):
    world, a, b = open_pair(tmp_path, deposit=DEPOSIT)
    a.pay(100)
    world.settle()

    def between() -> None:
        a.pay(5, 6)
        world.settle()
        a.store.batches = lambda *_, **__: []  # the peer has thrown them away

    rolled_back(world, b, a, between)
    (first, gap) = b.store.journal(0, 100, 10_000)
    assert (first.total, gap.kind, gap.first_n, gap.size, gap.total) == (100, ENTRY_UNAVAILABLE, 2, 2, 11)
    assert b.store.received == 2
    a.pay(7)
    world.settle()
    assert b.store.journal(2, 100, 10_000)[0].total == 7
    b.node.close(b.channel().channel_id, False, world.clock)
    world.settle()
    assert world.ledger.balance(b.keys.account.public) == 118
