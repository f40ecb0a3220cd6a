"""Who is let in: rates, places, and ten thousand peers that all come back at once. Spec T-28 to T-30."""

from __future__ import annotations

import heapq
import random
from typing import Any

import pytest

from channelpay import limits
from channelpay.daemon.admission import Bucket, Doorstep, Guests, Refusal, Visitor
from channelpay.daemon.peers import Backoff
from channelpay.daemon.quiet_log import QuietLog
from channelpay.home.config import Admission

HANDSHAKE_S = 0.5
"""From accept to AUTH of an honest peer with a slow line."""


def visitor(address: str = "192.0.2.1", left: list[str] | None = None, peer_id: bytes = b"") -> Visitor:
    return Visitor(address, lambda: left.append(address) if left is not None else None, peer_id=peer_id)


def come(door: Doorstep, address: str, now: float) -> Refusal | None:
    """One handshake that is over at once."""
    guest = visitor(address)
    refusal = door.enter(guest, now)
    door.leave(guest)
    return refusal


def test_a_bucket_is_full_at_first_and_never_more_than_full() -> None:
    bucket = Bucket(2, 3, now=0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.4)
    assert bucket.take(0.5)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_an_address_has_its_burst_and_then_its_rate() -> None:
    door = Doorstep(Admission(), 0.0)
    found = [come(door, "192.0.2.1", 0.0) for _ in range(limits.ADDRESS_HANDSHAKE_BURST + 1)]
    assert found == [None] * limits.ADDRESS_HANDSHAKE_BURST + [Refusal.ADDRESS_RATE]
    assert come(door, "192.0.2.2", 0.0) is None
    later = [come(door, "192.0.2.1", 1.0) for _ in range(limits.ADDRESS_HANDSHAKES_PER_S + 1)]
    assert later == [None] * limits.ADDRESS_HANDSHAKES_PER_S + [Refusal.ADDRESS_RATE]


def tire(door: Doorstep, addresses: list[str], now: float) -> None:
    """Each has begun a handshake now, at no cost to the others later."""
    for address in addresses:
        assert come(door, address, now) is None


def test_all_addresses_together_have_a_burst_and_leave_a_reserve() -> None:
    door = Doorstep(Admission(per_s=1), 0.0)
    reserve = int((limits.HANDSHAKE_BURST - 1) * limits.HANDSHAKE_RESERVE)
    strangers = [f"198.51.100.{number}" for number in range(10)]
    tire(door, strangers, 0.0)
    open_to_them = limits.HANDSHAKE_BURST - len(strangers) - reserve - 1
    found = [come(door, strangers[number % 10], 1.0) for number in range(open_to_them + 2)]
    assert found == [None] * (open_to_them + 1) + [Refusal.RATE]  # one came back in the second
    door.remember(strangers[0])
    familiar = [come(door, strangers[0], 1.0) for _ in range(reserve + 2)]
    assert familiar.count(None) >= limits.ADDRESS_HANDSHAKE_BURST - 30
    while come(door, f"203.0.113.{len(familiar)}", 1.0) is None:  # rested addresses have the rest of it
        familiar.append(None)
    assert familiar.count(None) == reserve + 1


def test_an_address_that_has_rested_gets_in_while_others_flood() -> None:
    door = Doorstep(Admission(), 0.0)
    tire(door, ["192.0.2.1"], 0.0)
    flood = [f"198.51.100.{number % 32}" for number in range(300)]
    rest = limits.HANDSHAKE_REST_S
    for moment in range(int(100 * rest)):  # three at a time, a hundred times a second
        now = moment / 100
        for number in range(3):
            door.enter(visitor(flood[(3 * moment + number) % 300]), now)
    assert come(door, "192.0.2.1", rest - 0.01) is Refusal.RATE
    assert come(door, "192.0.2.1", rest) is None
    assert come(door, "192.0.2.1", rest) is Refusal.RATE


def test_the_common_rate() -> None:
    door = Doorstep(Admission(address_per_s=1000, address_burst=1000), 0.0)
    while come(door, "192.0.2.1", 0.0) is None:
        pass
    later = [come(door, "192.0.2.1", 1.0) for _ in range(limits.HANDSHAKES_PER_S + 1)]
    assert later == [None] * limits.HANDSHAKES_PER_S + [Refusal.RATE]


def test_a_burst_of_one_lets_a_stranger_in() -> None:
    door = Doorstep(Admission(burst=1, per_s=1), 0.0)
    assert come(door, "192.0.2.1", 0.0) is None
    assert come(door, "192.0.2.2", 0.5) is Refusal.RATE


def test_refusals_cost_an_address_and_the_others_nothing() -> None:
    door = Doorstep(Admission(address_burst=1, address_per_s=1, burst=100, per_s=1), 0.0)
    assert come(door, "192.0.2.1", 0.0) is None
    assert {come(door, "192.0.2.1", 0.0) for _ in range(1000)} == {Refusal.ADDRESS_RATE}
    assert come(door, "192.0.2.2", 0.0) is None
    assert come(door, "192.0.2.1", 1.0) is None


def test_places_of_an_address() -> None:
    door = Doorstep(Admission(), 0.0)
    waiting = [visitor() for _ in range(limits.MAX_PENDING_PER_ADDRESS)]
    assert {door.enter(each, 0.0) for each in waiting} == {None}
    assert door.enter(visitor(), 0.0) is Refusal.ADDRESS_PENDING
    assert come(door, "192.0.2.2", 0.0) is None
    door.leave(waiting[0])
    door.leave(waiting[0])
    assert door.enter(visitor(), 0.0) is None
    assert door.enter(visitor(), 0.0) is Refusal.ADDRESS_PENDING


def test_places_in_all_turn_over_after_a_time_of_grace() -> None:
    left: list[str] = []
    terms = Admission(per_s=10_000, burst=10_000)
    door = Doorstep(terms, 0.0)
    for number in range(limits.MAX_PENDING_HANDSHAKES):
        assert door.enter(visitor(f"stranger {number}", left), number * 1e-6) is None
    assert door.enter(visitor("one more", left), limits.HANDSHAKE_GRACE_S - 0.001) is Refusal.PENDING
    assert left == []
    assert door.enter(visitor("one more", left), limits.HANDSHAKE_GRACE_S) is None
    assert left == ["stranger 0"]


def test_addresses_that_are_remembered_are_bounded() -> None:
    door = Doorstep(Admission(per_s=10**6, burst=10**6, address_burst=1), 0.0)
    most = limits.MAX_ADMISSION_ADDRESSES
    for number in range(most):
        assert come(door, f"{number}", 0.0) is None
    assert come(door, "0", 0.0) is Refusal.ADDRESS_RATE  # n addresses: all known, "0" now the newest
    assert come(door, "one more", 0.0) is None  # n + 1: "1" is forgotten
    assert come(door, "0", 0.0) is Refusal.ADDRESS_RATE
    assert come(door, "1", 0.0) is None
    assert len(door._buckets) == most


def test_guests_of_an_address_and_in_all() -> None:
    left: list[str] = []
    guests = Guests(limits.MAX_GUESTS, limits.MAX_GUESTS_PER_ADDRESS, {b"peer"}.__contains__)
    here = [visitor("192.0.2.1", left) for _ in range(limits.MAX_GUESTS_PER_ADDRESS)]
    assert all(guests.enter(each) for each in here)
    assert not guests.enter(visitor("192.0.2.1", left))
    assert guests.enter(visitor("192.0.2.1", left, b"peer"))
    for number in range(limits.MAX_GUESTS - len(here)):
        assert guests.enter(visitor(f"{number}", left))
    assert left == []
    assert guests.enter(visitor("one more", left))
    assert left == ["192.0.2.1"]
    guests.leave(here[0])  # was shown out
    guests.leave(here[1])
    guests.leave(here[1])
    assert guests.enter(visitor("yet one", left))
    assert left == ["192.0.2.1"]


def test_a_guest_that_opened_a_channel_is_not_shown_out() -> None:
    left: list[str] = []
    known: set[bytes] = set()
    guests = Guests(2, 2, known.__contains__)
    for name in ("a", "b"):
        guests.enter(visitor(name, left, name.encode()))
    known.add(b"a")
    assert guests.enter(visitor("c", left, b"c"))
    assert left == [], "a is no guest any more: there was room"
    assert guests.enter(visitor("d", left, b"d"))
    assert left == ["b"]


def test_one_line_tells_how_many_were_left_out() -> None:
    class Log:
        lines: list[dict[str, Any]] = []  # noqa: RUF012  one test's own

        def info(self, event: str, **about: Any) -> None:
            self.lines.append(about)

    log = Log()
    quiet = QuietLog(log, 0.0)
    for _ in range(limits.LOG_BURST + 5):
        quiet.info(0.0, "refused")
    assert len(log.lines) == limits.LOG_BURST
    quiet.info(1.0 / limits.LOG_LINES_PER_S, "refused")
    assert log.lines[-1] == {"left_out": 5}
    quiet.info(100.0, "refused")
    assert log.lines[-1] == {}


def all_back(door: Doorstep, peers: int) -> float:
    """When the last of `peers`, each with an address of its own, is in; they try with the back-off of N-5."""
    chance = random.Random(5)
    backoffs = [Backoff(chance) for _ in range(peers)]
    events = [(chance.uniform(0.0, 1.0), number) for number in range(peers)]
    heapq.heapify(events)
    under_way: list[tuple[float, int, Visitor]] = []
    last, inside = 0.0, 0
    while inside < peers:
        now, number = heapq.heappop(events)
        while under_way and under_way[0][0] <= now:
            door.leave(heapq.heappop(under_way)[2])
        guest = visitor(f"{number}")
        if door.enter(guest, now) is None:
            heapq.heappush(under_way, (now + HANDSHAKE_S, number, guest))
            last, inside = now, inside + 1
        else:
            heapq.heappush(events, (now + backoffs[number].wait_s(0.0), number))
    return last


@pytest.mark.parametrize("peers", [1, 100, 10_000])
def test_peers_are_back_soon_after_a_restart(peers: int) -> None:
    """spec T-29: ten thousand within three minutes."""
    last = all_back(Doorstep(Admission(), 0.0), peers)
    assert last < (180 if peers > limits.HANDSHAKE_BURST else 2)


def test_a_familiar_address_gets_in_while_strangers_flood() -> None:
    door = Doorstep(Admission(), 0.0)
    door.remember("0")
    assert come(door, "0", 0.0) is None
    assert come(door, "1", 0.0) is None
    for moment in range(600):  # 400 a second, from sixty addresses, none of whom says a word
        door.enter(visitor(f"stranger {moment % 60}"), moment / 400)
    assert come(door, "1", 1.5) is Refusal.RATE
    assert come(door, "0", 1.5) is None


def test_strangers_that_flood_slow_the_others_down_and_do_not_stop_them() -> None:
    """400 a second from ever new addresses, four times the common rate, hold their places for as long as they may."""
    chance, door, admitted = random.Random(6), Doorstep(Admission(), 0.0), 0
    for second in range(100):
        tries = [(chance.uniform(second, second + 1), number) for number in range(4 * limits.HANDSHAKES_PER_S)]
        honest = chance.uniform(second, second + 1)
        for now, number in sorted([*tries, (honest, -1)]):
            if number >= 0:
                door.enter(visitor(f"stranger {second} {number}"), now)
            elif come(door, "192.0.2.1", now) is None:
                admitted += 1
    assert admitted >= 15
