"""Two nodes and a ledger, in memory: everything a channel goes through."""

from __future__ import annotations

import pytest

from channelpay.errors import LocalError, Reason
from channelpay.limits import CLAIM_WAIT_S
from channelpay.messages import ledger as ops
from channelpay.messages.peer import TopupHint
from channelpay.node.views import stalled
from node_world import Phase, open_pair


def test_a_channel_opens_pays_and_closes_to_the_unit(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.pay(*range(1, 101))
    world.settle()
    assert [amount for _, amount in b.journal()] == list(range(1, 101))
    assert sum(item.count for item in a.paid) == 100
    a.node.close(a.channel().channel_id, False, world.clock)
    world.settle()
    assert a.channel().phase is Phase.SETTLED
    assert b.channel().phase is Phase.SETTLED
    assert world.ledger.balance(b.keys.account.public) == 5050
    assert world.ledger.balance(a.keys.account.public) == 10_000_000 - 5050


def test_both_pay_at_once(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.pay(1000)
    world.settle()
    for _ in range(20):
        a.pay(7)
        b.pay(3)
        a.turn()
        b.turn()
        world.settle()
    assert a.channel().own.total == 1000 + 140
    assert b.channel().own.total == 60
    b.node.close(b.channel().channel_id, False, world.clock)
    world.settle()
    assert world.ledger.balance(b.keys.account.public) == 1140 - 60


def test_a_lost_connection_loses_nothing(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.pay(5, 6)
    a.turn()  # on the wire
    world.cut(a)
    world.connect(a, b)
    world.settle()
    assert [amount for _, amount in b.journal()] == [5, 6]
    a.pay(7)
    a.turn()
    world.deliver(b)
    b.turn()  # the ACK is on the wire
    world.cut(b)
    world.connect(a, b)
    world.settle()
    assert [amount for _, amount in b.journal()] == [5, 6, 7]
    assert sum(item.count for item in a.paid) == 3
    assert a.channel().acked.n == 3


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_crash_after_the_commit_loses_nothing(tmp_path, who):
    world, a, b = open_pair(tmp_path)
    a.pay(5, 6)
    a.turn(send=False)
    node = a if who == "a" else b
    node.crash()
    node.restart()
    world.settle()
    world.connect(a, b)
    world.settle()
    assert [amount for _, amount in b.journal()] == [5, 6]
    a.pay(1)
    world.settle()
    a.node.close(a.channel().channel_id, False, world.clock)
    world.settle()
    assert world.ledger.balance(b.keys.account.public) == a.channel().own.total


def test_a_stale_close_is_answered(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.pay(100)
    world.settle()
    old = ops.Close(a.channel().channel_id, ())
    a.pay(200)
    world.settle()
    world.ledger.request(a.channel().key, old)
    world.settle()
    assert b.channel().phase is Phase.CLOSING
    world.pass_time(61)
    assert b.channel().phase is Phase.SETTLED
    assert world.ledger.balance(b.keys.account.public) == 300


def test_force_close_without_the_peer(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.pay(100)
    world.settle()
    b.crash()
    a.node.close(a.channel().channel_id, True, world.clock)
    world.settle()
    world.pass_time(61)
    assert a.channel().phase is Phase.SETTLED
    assert world.ledger.balance(b.keys.account.public) == 100


def test_topup_and_withdraw(tmp_path):
    world, a, b = open_pair(tmp_path, deposit=1000)
    a.pay(900)
    world.settle()
    with pytest.raises(LocalError) as refused:
        a.pay(101)
    assert refused.value.reason is Reason.INSUFFICIENT_BALANCE
    a.node.topup(a.channel().channel_id, 500, world.clock)
    world.settle()
    a.pay(101)
    world.settle()
    assert b.channel().peer.total == 1001
    b.node.withdraw(b.channel().channel_id, 1000, world.clock)
    world.settle()
    assert world.ledger.balance(b.keys.account.public) == 1000
    assert b.channel().withdrawals == {}
    assert a.channel().withdrawals == {}
    assert b.channel().spendable() == 1
    a.node.close(a.channel().channel_id, False, world.clock)
    world.settle()
    assert world.ledger.balance(b.keys.account.public) == 1001


def test_claims_on_a_one_way_channel(tmp_path):
    world, a, b = open_pair(tmp_path, flags=1)
    a.pay(250)
    world.settle()
    b.node.claim(b.channel().channel_id, world.clock)
    world.settle()
    assert world.ledger.balance(b.keys.account.public) == 250
    with pytest.raises(LocalError) as refused:
        b.pay(1)
    assert refused.value.reason is Reason.ONE_WAY
    a.pay(50)
    world.settle()
    b.node.close(b.channel().channel_id, True, world.clock)
    world.settle()
    assert world.ledger.balance(b.keys.account.public) == 300
    assert a.channel().phase is Phase.SETTLED


def test_payments_wait_while_the_ledger_is_silent(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.lose_ledger()
    world.clock += 16
    with pytest.raises(LocalError) as refused:
        a.pay(1)
    assert refused.value.reason is Reason.STALLED
    a.connect_ledger()
    world.settle()
    a.pay(1)
    world.settle()
    assert b.channel().peer.n == 0  # the payee's own reading is too old by now: it waits, nothing is refused
    world.pass_time(1)
    assert b.channel().peer.n == 1
    assert b.channel().suspended == ""


def test_a_rolled_back_store_recalls_what_it_forgot(tmp_path):
    world, a, b = open_pair(tmp_path)
    a.pay(5)
    world.settle()
    b.crash()
    saved = b.path.read_bytes()
    b.restart()
    world.settle()
    world.connect(a, b)
    world.settle()
    a.pay(6, 7)
    world.settle()
    a.pay(8)
    world.settle()
    assert b.channel().peer.n == 4
    b.crash()
    for suffix in ("-wal", "-shm"):
        b.path.with_name(b.path.name + suffix).unlink(missing_ok=True)
    b.path.write_bytes(saved)
    b.restart()
    world.settle()
    assert b.channel().peer.n == 1
    world.connect(a, b)
    world.settle()
    assert [amount for _, amount in b.journal()] == [5, 6, 7, 8]
    assert any("rolled back" in text for text in b.warnings())
    a.pay(9)
    world.settle()
    assert [amount for _, amount in b.journal()] == [5, 6, 7, 8, 9]


def test_a_store_known_to_be_restored_waits_before_it_pays(tmp_path):
    """What it may have signed and forgotten must have expired first (C-28); that outlives a restart."""
    world, a, b = open_pair(tmp_path)
    a.pay(1)
    world.settle()
    a.crash()
    a.start()
    a.node.mark_restored()
    a.connect_ledger()
    world.connect(a, b)
    world.pass_time(60, step=3)
    with pytest.raises(LocalError) as refused:
        a.pay(1)
    assert refused.value.reason is Reason.STALLED
    assert "payments wait 120 minutes more" in stalled(a.node, a.channel(), world.clock)
    a.crash()
    a.restart()
    assert "payments wait (agreements" in stalled(a.node, a.channel(), world.clock)  # the ledger's time is unknown
    world.connect(a, b)
    world.pass_time(2 * 3600 - 60, step=3)
    with pytest.raises(LocalError):
        a.pay(1)
    world.pass_time(10, step=3)
    a.pay(1)
    world.settle()
    assert b.channel().peer.n == 2


@pytest.mark.parametrize("heard", [True, False])
def test_a_store_known_to_be_restored_hears_the_peer_before_it_closes_alone(tmp_path, heard):
    world, a, b = open_pair(tmp_path)
    a.pay(1)
    world.settle()
    b.crash()
    b.start()
    b.node.mark_restored()
    b.connect_ledger()
    world.settle()
    with pytest.raises(LocalError, match="came from a backup, or is new, closes without the peer only once") as refused:
        b.node.close(b.channel().channel_id, True, world.clock)
    assert refused.value.reason is Reason.UNRESOLVED
    if heard:
        world.connect(a, b)
        world.settle()
    else:
        world.pass_time(CLAIM_WAIT_S, step=10)
    b.node.close(b.channel().channel_id, True, world.clock)
    world.pass_time(70)
    assert b.channel().phase is Phase.SETTLED


def test_a_restored_store_gives_up_a_close_together_no_sooner(tmp_path):
    world, _, b = open_pair(tmp_path)
    b.node.close(b.channel().channel_id, False, world.clock)
    b.turn()
    b.crash()
    b.start()
    b.node.mark_restored()
    b.connect_ledger()
    world.pass_time(CLAIM_WAIT_S - 1, step=10)
    assert b.channel().phase is Phase.SHUTDOWN
    world.pass_time(2)
    assert b.channel().phase is Phase.CLOSING


def test_a_topup_is_told_to_the_peer(tmp_path, monkeypatch):
    world, a, _ = open_pair(tmp_path)
    sent, send = [], world.send

    def record(node, number, message):
        sent.append((node, type(message)))
        send(node, number, message)

    monkeypatch.setattr(world, "send", record)
    a.node.topup(a.channel().channel_id, 5, world.clock)
    world.settle()
    assert sent == [(a, TopupHint)]
