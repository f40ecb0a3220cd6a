"""From ACCEPTED to OPEN, whatever comes first."""

from itertools import permutations

import pytest

from channel_pair import Pair
from channelpay.channel import channel as step
from channelpay.channel.state import Phase
from channelpay.errors import ErrorCode
from channelpay.messages import ledger as ops
from channelpay.messages import peer


def test_both_become_open_and_live() -> None:
    pair = Pair().open()
    pair.check_agree()


@pytest.mark.parametrize("order", list(permutations(["a reads", "b reads", "to a", "to b"] * 2, 8))[::499])
def test_any_order_of_readings_and_deliveries(order: tuple[str, ...]) -> None:
    pair = Pair()
    pair.fund()
    pair.connect()
    for what in order:
        match what:
            case "a reads":
                pair.a.read()
            case "b reads":
                pair.b.read()
            case "to a":
                pair.a.deliver(1)
            case "to b":
                pair.b.deliver(1)
    pair.run()
    pair.a.pay(5)
    pair.run()
    pair.check_agree()
    assert pair.b.disk.payments(0) == [(1, 5)]


@pytest.mark.parametrize("first", ["the ledger", "the peer"])
@pytest.mark.parametrize("heard_ready", [False, True])
def test_a_disk_that_went_back_to_the_opening(heard_ready: bool, first: str) -> None:
    """The peer is long past READY: only REESTABLISH tells it anything."""
    pair = Pair()
    pair.fund()
    pair.connect()
    if heard_ready:
        pair.a.read()
        pair.b.deliver()
    old = pair.b.disk.copy()
    pair.run()
    pair.a.pay(100)
    pair.b.pay(7)
    pair.run()
    pair.b.crash(old)
    assert pair.b.c.phase is Phase.ACCEPTED
    pair.connect()
    if first == "the ledger":
        pair.b.read()
    else:
        pair.b.deliver()
    pair.run()
    pair.check_agree()
    assert pair.b.disk.payments(0) == [(1, 100)]
    pair.b.pay(1)
    pair.run()
    pair.check_agree()


def test_a_ready_that_was_lost() -> None:
    pair = Pair()
    pair.fund()
    pair.connect()
    pair.a.read()
    pair.cut()
    pair.b.read()
    assert [side.c.phase for side in pair.sides] == [Phase.FUNDED, Phase.FUNDED]
    pair.reconnect()
    pair.check_agree()
    assert pair.a.c.live


def test_ready_on_disk_and_a_reading_before_the_peers_reestablish() -> None:
    pair = Pair()
    pair.fund()
    pair.connect()
    pair.a.read()
    pair.b.deliver()
    pair.connect()
    pair.b.read()
    assert pair.b.c.phase is Phase.OPEN
    assert not pair.b.c.live  # nothing was heard on this connection
    pair.run()
    pair.check_agree()
    assert pair.b.c.live


def test_a_ready_signed_by_somebody_else() -> None:
    pair = Pair()
    pair.b.receive(peer.Ready(pair.b.c.channel_id, bytes(64)))
    assert pair.b.errors[0].code is ErrorCode.BAD_SIGNATURE
    assert pair.b.c.held is None


def test_an_opening_that_never_comes() -> None:
    pair = Pair()
    pair.a.do(step.abandon)
    assert pair.a.c.phase is Phase.ABANDONED
    opened = Pair().open()
    opened.a.do(step.abandon)
    assert opened.a.c.phase is Phase.OPEN


def test_a_channel_that_settled_before_it_was_ever_read() -> None:
    pair = Pair()
    pair.fund()
    pair.execute(pair.a.key.public, ops.Close(pair.a.c.channel_id, ()))
    pair.b.read()
    assert pair.b.c.phase is Phase.CLOSING
    pair.pass_time(pair.terms.window_s + 1)
    assert [side.c.phase for side in pair.sides] == [Phase.SETTLED, Phase.SETTLED]
