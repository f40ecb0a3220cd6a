"""What goes to disk comes back the same."""

import pytest

from channel_pair import SALTS, Pair
from channelpay.channel import saved
from channelpay.channel.saved import Saved
from channelpay.channel.state import Phase
from channelpay.errors import RemoteError


def full() -> Pair:
    """A channel with everything in it: evidence, recalled records, agreements, a reading."""
    pair = Pair().open()
    pair.a.pay(1, 2)
    pair.b.pay(10)
    pair.run()
    old = pair.b.disk.copy()
    pair.a.pay(3)
    pair.b.pay(4)
    pair.run()
    pair.a.withdraw(5)
    pair.b.withdraw(6)
    pair.b.deliver()
    pair.a.deliver()
    pair.b.crash(old)
    pair.connect()
    pair.b.deliver(1)
    assert pair.b.c.evidence is not None
    assert pair.b.c.peer_known is not None
    assert pair.b.c.own_known is not None
    assert len(pair.b.c.withdrawals) == 2
    return pair


def test_everything_durable_comes_back() -> None:
    pair = full()
    c, loaded = pair.b.c, pair.b.disk.load(pair.b.c.channel_id, pair.b.key)
    names = [
        "channel_id", "setup", "phase", "own", "peer", "held", "evidence", "own_known", "peer_known", "withdrawals",
        "final", "close_asked", "force_asked", "reading", "boundaries",
    ]  # fmt: skip
    for name in names:
        assert getattr(loaded, name) == getattr(c, name), name
    assert [(s.batch, s.half) for s in loaded.unacked] == [(s.batch, s.half) for s in c.unacked]
    assert list(loaded.recent) == list(c.recent)


def test_a_final_comes_back() -> None:
    pair = Pair().open()
    pair.a.close()
    pair.run(ledger=False)
    for side in pair.sides:
        loaded = side.disk.load(side.c.channel_id, side.key)
        assert loaded.phase is Phase.FINAL
        assert loaded.final == side.c.final
        assert loaded.final is not None
        assert loaded.final.agreed


def test_what_lives_with_the_connection_does_not() -> None:
    loaded = full().b
    c = loaded.disk.load(loaded.c.channel_id, loaded.key)
    gone = "connected heard live ack_due shutdown_sent final_sent suspended held_back queue in_flight recalled"
    assert [name for name in [*gone.split(), "reestablished"] if getattr(c, name)] == []


def test_the_hot_part_has_a_fixed_size_and_tells_what_was_acknowledged() -> None:
    pair = Pair().open()
    assert len(pair.a.disk.hot) == 257
    pair.a.pay(1, 1, 1)
    assert saved.unpack_hot_held(pair.a.disk.hot) == 0
    pair.run()
    assert saved.unpack_hot_held(pair.a.disk.hot) == 3
    assert len(pair.a.disk.hot) == 257
    assert saved.unpack_hot_held(Pair().a.disk.hot) == 0


def test_setup_comes_back() -> None:
    setup = Pair().b.c.setup
    assert saved.unpack_setup(saved.pack_setup(setup)) == setup
    assert (setup.salt0, setup.salt1) == SALTS


@pytest.mark.parametrize("part", ["setup", "cold"])
def test_damaged_bytes_are_named(part: str) -> None:
    side = Pair().open().a
    whole = Saved(side.disk.setup, side.disk.cold, side.disk.hot)
    damaged = whole._replace(**{part: getattr(whole, part)[:-1]})
    with pytest.raises(RemoteError):
        saved.load(side.c.channel_id, damaged, side.key, [], [])
