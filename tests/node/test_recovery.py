"""A node that has its words and nothing else: its channels come from the ledger, what was paid from the peers. N-26."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from channelpay.errors import ErrorCode, LocalError, Reason
from channelpay.ledger.views import view_of
from channelpay.limits import CLAIM_WAIT_S, RECOVERY_KEY_GAP, RECOVERY_STEP_KEYS
from channelpay.messages.control import ENTRY_UNAVAILABLE
from channelpay.messages.peer import Ack, Error, Pay, Reestablish, SignedState
from channelpay.node import recovery
from channelpay.node.recovery import UNKNOWN_PEER
from channelpay.statements import Half
from channelpay.store.node import create_node_store
from node_world import NodeWorld, Phase, World, keyring, open_pair

FUNDS = 10_000_000


def destroy(node: NodeWorld, *, start: bool = True) -> None:
    """The home is gone; a new one is made from the words."""
    node.crash()
    for path in node.path.parent.glob(f"{node.path.name}*"):
        path.unlink()
    create_node_store(node.path, node.id, node.world.ledger.ledger.ledger_id)
    node.notes.clear()
    if start:
        node.restart()


def balances(world: World) -> tuple[int, int]:
    """What a and b own on the ledger."""
    a, b = world.nodes[:2]
    return world.ledger.balance(a.keys.account.public), world.ledger.balance(b.keys.account.public)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[World, NodeWorld, NodeWorld]:
    """A channel on which a has paid 120 to b and b has paid 7 to a."""
    world, a, b = open_pair(tmp_path)
    a.pay(100)
    world.settle()
    b.pay(7)
    a.pay(20)
    world.settle()
    return world, a, b


PAID = (FUNDS - 113, 113)


# --- The peer is there -------------------------------------------------------------------------


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("ledger_first", [True, False])
def test_a_channel_is_found_heard_of_and_closed_to_the_unit(pair, who, ledger_first):
    world, *nodes = pair
    lost, other = nodes[who], nodes[1 - who]
    destroy(lost, start=ledger_first)
    if ledger_first:
        world.settle()
        assert (lost.channel().phase, lost.channel().setup.peer_id) == (Phase.FUNDED, UNKNOWN_PEER)
        assert any("found on the ledger" in text for text in lost.warnings())
        with pytest.raises(LocalError) as refusal:  # it may be an id that was paid before
            lost.pay(1)
        assert refusal.value.reason is Reason.UNRESOLVED
        world.connect(other, lost)
    else:
        lost.start()
        world.connect(other, lost)
        for _ in range(3):
            other.turn()
            world.deliver(lost)
            lost.turn()
        assert not lost.node.channels
        lost.connect_ledger()
    world.settle()
    assert (lost.channel().phase, other.channel().phase) == (Phase.SETTLED, Phase.SETTLED)
    assert lost.channel().setup.peer_id == other.id
    assert balances(world) == PAID


def test_what_was_received_stands_in_the_journal_as_one_entry(pair):
    world, a, b = pair
    destroy(b)
    world.connect(a, b)
    world.settle()
    (row,) = b.store.journal(0, 100, 100_000)
    assert (row.kind, row.first_n, row.size, row.total) == (ENTRY_UNAVAILABLE, 1, 2, 120)


def test_the_lost_node_dials_every_address_that_it_is_told(pair):
    world, a, b = pair
    destroy(a)
    a.node.know_address(b.id, "cp1b@host:1")
    a.node.know_address(keyring(99).identity.public, "cp1c@host:1")
    world.settle()
    assert set(a.node.wanted_peers()) == {b.id, keyring(99).identity.public}
    world.connect(a, b)
    world.settle()
    assert a.node.wanted_peers() == []


def test_a_node_that_lost_its_store_waits_like_a_restored_one(pair):
    world, a, b = pair
    destroy(a)
    world.settle()
    assert a.node.ledger.restored_until > 0
    a.crash()
    a.restart()
    assert a.node.ledger.restored_until > 0
    world.connect(a, b)
    world.settle()
    a.node.open_channel(b.id, world.ledger.asset_id, 1000, 0, 60, 64, world.clock)
    world.settle()
    new = next(channel for channel in a.node.channels.values() if channel.phase is Phase.OPEN)
    assert new.setup.key_index == 1  # that of the channel before was not used again
    with pytest.raises(LocalError) as refused:
        a.pay(1, channel=new)
    assert refused.value.reason is Reason.STALLED


def test_a_channel_that_waits_outlives_a_restart(pair):
    world, a, b = pair
    destroy(b)
    world.settle()
    b.crash()
    b.restart()
    world.settle()
    assert b.channel().setup.peer_id == UNKNOWN_PEER
    world.connect(a, b)
    world.settle()
    b.crash()
    b.restart()
    assert b.channel().setup.peer_id == a.id
    assert balances(world) == PAID


def test_a_connection_that_breaks_in_between_is_made_up_for(pair):
    world, a, b = pair
    destroy(b)
    world.settle()
    world.connect(a, b)
    a.turn()
    world.deliver(b)
    b.turn(send=False)
    b.crash()
    b.restart()
    world.connect(b, a)
    world.settle()
    assert balances(world) == PAID


@pytest.mark.parametrize("flags", [0, 1])
def test_nothing_was_paid_yet(tmp_path, flags):
    world, a, b = open_pair(tmp_path, flags=flags)
    destroy(b)
    world.connect(a, b)
    world.settle()
    assert (a.channel().phase, b.channel().phase) == (Phase.SETTLED, Phase.SETTLED)
    assert balances(world) == (FUNDS, 0)


def test_payments_that_were_never_acknowledged_count_all_the_same(tmp_path):
    """Without salts they cannot be linked; what the payer signed for them settles on the ledger."""
    world, a, b = open_pair(tmp_path)
    a.pay(500)
    a.turn()  # on the wire when b's home burns
    destroy(b)
    world.connect(a, b)
    world.pass_time(300, step=5)
    assert b.channel().phase is Phase.SETTLED
    assert balances(world) == (FUNDS - 500, 500)


def test_a_store_that_is_old_finds_the_channel_that_came_later(pair, tmp_path):
    world, a, b = pair
    shutil.copy(a.path, tmp_path / "old.db")
    shutil.copy(a.path.with_name(a.path.name + "-wal"), tmp_path / "old.db-wal")
    a.node.open_channel(b.id, world.ledger.asset_id, 5000, 0, 60, 64, world.clock)
    world.settle()
    first, second = sorted(a.node.channels.values(), key=lambda channel: channel.setup.key_index)
    a.pay(33, channel=second)
    a.pay(4, channel=first)
    world.settle()
    a.crash()
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"old.db{end}", a.path.with_name(a.path.name + end))
    a.path.with_name(a.path.name + "-shm").unlink(missing_ok=True)
    a.restart()
    world.connect(b, a)
    world.settle()
    assert a.node.channels[first.channel_id].own.total == 124
    assert a.node.channels[first.channel_id].phase is Phase.OPEN
    assert a.node.channels[second.channel_id].phase is Phase.SETTLED
    a.node.close(first.channel_id, False, world.clock)
    world.settle()
    assert balances(world) == (PAID[0] - 37, PAID[1] + 37)


# --- The peer is away, lies, or is somebody else -------------------------------------------------


def test_without_its_peer_it_is_closed_by_force_and_the_peer_corrects_it(pair):
    world, _a, b = pair
    destroy(b)
    world.settle()
    with pytest.raises(LocalError, match="or is new, closes without the peer only once it has heard the peer"):
        b.node.close(b.channel().channel_id, True, world.clock)
    world.pass_time(CLAIM_WAIT_S, step=10)
    b.node.close(b.channel().channel_id, True, world.clock)
    world.pass_time(70)
    assert b.channel().phase is Phase.SETTLED
    assert balances(world) == PAID


def test_a_peer_that_is_gone_for_good_holds_no_deposit(pair):
    world, a, b = pair
    b.crash()
    destroy(a)
    world.settle()
    world.pass_time(CLAIM_WAIT_S, step=10)
    a.node.close(a.channel().channel_id, True, world.clock)
    world.pass_time(70)
    assert a.channel().phase is Phase.SETTLED
    assert balances(world) == (FUNDS, 0)  # nobody showed what a had paid: the window is for that


def test_a_dispute_that_runs_is_answered_by_what_the_peer_shows(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.pay(100)
    world.settle()
    shutil.copy(a.path, tmp_path / "old.db")
    shutil.copy(a.path.with_name(a.path.name + "-wal"), tmp_path / "old.db-wal")
    a.pay(1000)
    world.settle()
    a.node.close(a.channel().channel_id, True, world.clock)
    world.nodes.remove(b)
    world.settle()
    destroy(b)
    world.nodes.append(b)
    world.settle()
    assert b.channel().phase is Phase.CLOSING
    world.connect(a, b)
    world.pass_time(70)
    assert b.channel().phase is Phase.SETTLED
    assert balances(world) == (FUNDS - 1100, 1100)


def test_a_peer_that_shows_an_old_state_keeps_back_only_what_it_paid_since(pair, tmp_path):
    """The residual risk of section 10.4: nobody else has its newer signature. What this node paid is never more."""
    world, a, b = pair
    shutil.copy(a.path, tmp_path / "old.db")
    shutil.copy(a.path.with_name(a.path.name + "-wal"), tmp_path / "old.db-wal")
    a.pay(1000)
    world.settle()
    destroy(b)
    a.crash()
    for end in ("", "-wal"):
        shutil.copy(tmp_path / f"old.db{end}", a.path.with_name(a.path.name + end))
    a.path.with_name(a.path.name + "-shm").unlink(missing_ok=True)
    a.restart()
    world.connect(a, b)
    world.pass_time(200, step=5)
    assert b.channel().phase is Phase.SETTLED
    assert balances(world) == PAID


def test_a_stranger_cannot_name_itself_the_peer(pair):
    world, a, b = pair
    channel_id = a.channel().channel_id
    destroy(b)
    c = world.add()
    world.settle()
    (c_end,) = [number for owner, number in _connected(world, c, b) if owner is c]
    shown = a.channel().own.pack(), a.channel().peer.pack(), bytes(64)
    world.send(c, c_end, Reestablish(channel_id, SignedState(*shown), None, (), None))
    world.deliver(b)
    b.turn()
    (answer,) = [m for m in world.inboxes[id(c), c_end] if isinstance(m, Error)]
    assert (answer.code, answer.channel) == (ErrorCode.UNKNOWN_CHANNEL, channel_id)
    assert b.channel().setup.peer_id == UNKNOWN_PEER
    world.connect(a, b)
    world.settle()
    assert balances(world) == PAID


def _connected(world: World, a: NodeWorld, b: NodeWorld) -> list[tuple[NodeWorld, int]]:
    """The two ends of a new connection."""
    before = set(world.wires)
    world.connect(a, b)
    world.settle()
    nodes = {id(node): node for node in (a, b)}
    return [(nodes[owner], number) for owner, number in set(world.wires) - before]


def test_what_comes_too_early_is_bounded_and_answered_when_nothing_is_found(pair, monkeypatch):
    world, a, b = pair
    channel_id = a.channel().channel_id
    monkeypatch.setattr(recovery, "MAX_EARLY_REESTABLISH", 2)
    destroy(b, start=False)
    b.start()
    c = world.add()
    ends = _connected(world, c, b)
    (c_end,) = [number for owner, number in ends if owner is c]
    zero = Half(0, 0, bytes(32)).pack()
    ids = [bytes([n]) * 32 for n in range(3)]
    for unknown in ids:
        world.send(c, c_end, Reestablish(unknown, SignedState(zero, zero, bytes(64)), None, (), None))
    world.deliver(b)
    b.turn()

    def refused() -> list[bytes]:
        return [m.channel for m in world.inboxes[id(c), c_end] if isinstance(m, Error)]

    assert refused() == ids[2:]
    b.connect_ledger()
    b.use_ledger()
    b.turn()
    b.use_ledger()
    b.turn()
    b.use_ledger()
    b.turn()
    assert sorted(refused()) == ids
    assert channel_id in b.node.channels


def test_keys_are_looked_for_as_far_as_the_gap(tmp_path, monkeypatch):
    monkeypatch.setattr(recovery, "RECOVERY_KEY_GAP", 3)
    world = World(tmp_path)
    a, b = world.add(funds=FUNDS), world.add()
    world.settle()
    world.connect(a, b)
    for _ in range(2):
        a.node._take_key_index()  # of openings that came to nothing
    a.node.open_channel(b.id, world.ledger.asset_id, 5000, 0, 60, 64, world.clock)
    world.settle()
    for _ in range(3):
        a.node._take_key_index()
    a.node.open_channel(b.id, world.ledger.asset_id, 7000, 0, 60, 64, world.clock)
    world.settle()
    destroy(a)
    world.settle()
    (found,) = a.node.channels.values()
    assert (found.setup.key_index, a.node.next_key_index) == (2, 3)
    assert any("none of this node's next keys is in it" in text for text in a.warnings())
    assert not any(isinstance(message, Pay | Ack) for inbox in world.inboxes.values() for message in inbox)


def test_keys_are_derived_in_small_steps(tmp_path):
    world = World(tmp_path)
    a, b = world.add(funds=FUNDS), world.add()
    world.settle()
    world.connect(a, b)
    for _ in range(2 * RECOVERY_STEP_KEYS):
        a.node._take_key_index()
    a.node.open_channel(b.id, world.ledger.asset_id, 5000, 0, 60, 64, world.clock)
    world.settle()
    (row,) = world.ledger.books.all_channels()
    view = view_of(row, row.number, world.ledger.time)
    assert not a.node.prepare(view), "it knows this channel"
    destroy(a, start=False)
    a.start()
    derived = []
    a.node._finder._keyring = SimpleNamespace(
        account=a.keys.account, channel=lambda index: derived.append(index) or a.keys.channel(index)
    )
    steps = [(a.node.prepare(view), len(derived)) for _ in range(4)]
    s = RECOVERY_STEP_KEYS
    assert steps == [(True, s), (True, 2 * s), (False, 2 * s + 1), (False, 2 * s + 1)]
    foreign = replace(view, key0=bytes(32), account0=a.keys.account.public)
    while a.node.prepare(foreign):
        pass
    assert derived == list(range(RECOVERY_KEY_GAP)), "each once, and no further"
