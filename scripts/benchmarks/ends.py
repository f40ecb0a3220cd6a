"""A process with the other ends of many channels of one node: `python -m benchmarks.ends`, an order-taker.

Each end is party 0 of a channel with a key and a connection of its own. It speaks the protocol as any node does, but
keeps nothing on disk and signs its payments before a round begins, so that the node at the other side is what is
measured and not the machine that pays. Of the acknowledgements it verifies the newest at the end of each round: that
one signs for all before it.
"""

from __future__ import annotations

import os
import time
from array import array
from collections import deque
from functools import partial
from typing import Any, TypeVar
from typing import Final as Constant

import trio

from benchmarks.result import BenchFailed
from benchmarks.work import percentile
from benchmarks.worker import serve
from channelpay.conformance.kit import open_request, terms_of
from channelpay.conformance.party import Party, Signed
from channelpay.crypto import SigningKey
from channelpay.daemon.descriptors import connections_possible
from channelpay.daemon.dialling import dial
from channelpay.daemon.ledger_client import LedgerClient, connect_ledger
from channelpay.daemon.link import Link
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, Address, parse_address
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Accept, Ack, Error, Final, Funded, Message, Open, Ready, Role, Shutdown
from channelpay.statements import FLAG_TWO_WAY, ZERO_HALF, Half, accepted_bytes

_DEPOSIT: Constant = 1_000_000
_WINDOW_S: Constant = 10
_MAX_UNACKED: Constant = 65_536
_AT_ONCE: Constant = 64
"""Channels that a process opens at the same time."""

_EXPIRY_S: Constant = 600

_M = TypeVar("_M", bound=Message)


class End:
    """Party 0 of one channel. It has at most one payment under way."""

    def __init__(self, link: Link, party: Party) -> None:
        self.party = party
        self.acked = 0
        self.newest: Ack | None = None
        self.heard: dict[type[Message], Message] = {}  # the newest of every other kind
        self._link = link
        self._signed: deque[bytes] = deque()
        self._due: deque[float] = deque()  # when payments were to be made that are not acknowledged, the oldest first

    def prepare(self, payments: int) -> None:
        """Sign so many payments of one unit, to be sent later."""
        while len(self._signed) < payments:
            self._signed.append(self.party.next_pay(1).to_frame())

    def pay(self, due: float) -> None:
        """Make one payment, or one more when the one that is under way is acknowledged."""
        self._due.append(due)
        if len(self._due) == 1:
            self._send()

    def send(self, message: Message) -> None:
        """Say something else."""
        self._link.send(message.to_frame())

    def _send(self) -> None:
        self.prepare(1)
        self._link.send(self._signed.popleft())

    def take(self, message: Message, now: float) -> float | None:
        """How long a payment took that is acknowledged now."""
        if isinstance(message, Error):
            raise BenchFailed(f"the payee reports: {message.text}")
        if not isinstance(message, Ack):
            self.heard[type(message)] = message
            return None
        if message.n != self.acked + 1 or not self._due:
            raise BenchFailed(f"ACK of payment {message.n}; {self.acked} were acknowledged, {len(self._due)} are due")
        self.newest, self.acked = message, message.n
        took = now - self._due.popleft()
        if self._due:
            self._send()
        return took

    @property
    def under_way(self) -> bool:
        return bool(self._due)

    @property
    def signed(self) -> int:
        """Payments that are signed and were not sent."""
        return len(self._signed)

    def check(self) -> None:
        """Verify the newest acknowledgement; raises Violation."""
        if self.newest is not None:
            self.party.take_ack(self.newest)


class Crowd:
    """All ends of this process; what its orders are given first."""

    commits = 0

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.ledger: Any = None
        self.ends: list[End] = []
        self.flat_out = False  # whoever is acknowledged pays again
        self.took = array("d")
        self.failure: Exception | None = None
        self._places = trio.Semaphore(_AT_ONCE)
        self._moved = trio.lowlevel.ParkingLot()

    async def wait(self, true: Any) -> None:
        """Until `true()`; raises what ended an end."""
        while not true():
            if self.failure is not None:
                raise self.failure
            await self._moved.park()

    def start(self, node: Address, ledger: LedgerClient, account: SigningKey, asset_id: bytes) -> None:
        """One end more, in a task of its own."""
        self.nursery.start_soon(self._run, node, ledger, account, asset_id)

    async def _run(self, node: Address, ledger: LedgerClient, account: SigningKey, asset_id: bytes) -> None:
        roles = Role.NODE, [ledger.ledger_id]
        try:
            await self._places.acquire()
            async with dial(node.host, node.port, SigningKey(os.urandom(32)), node.key, *roles) as link:
                end = End(link, await _open(link, ledger, account, asset_id))
                self._places.release()
                self.ends.append(end)
                self._moved.unpark_all()
                await link.hand_on(partial(self._take, end))
        except Exception as error:  # of any end: the run is spoiled, whoever waits says so
            self.failure = self.failure or error
            self._moved.unpark_all()

    def _take(self, end: End, messages: list[Message]) -> None:
        now = time.perf_counter()
        for message in messages:
            took = end.take(message, now)
            if took is not None:
                self.took.append(took)
            if took is not None and self.flat_out:
                end.pay(now)
            elif not end.under_way:
                self._moved.unpark_all()

    async def all_acknowledged(self) -> None:
        await self.wait(lambda: not any(end.under_way for end in self.ends))
        for end in self.ends:
            end.check()


async def _open(link: Link, ledger: LedgerClient, account: SigningKey, asset_id: bytes) -> Party:
    """A channel as party 0 (spec C-4 to C-7)."""
    key, salt = SigningKey(os.urandom(32)), os.urandom(32)
    offer = Open(
        os.urandom(32), asset_id, key.public, account.public, _DEPOSIT, FLAG_TWO_WAY, _WINDOW_S, 1, salt,
        _MAX_UNACKED, _DEPOSIT, 1,
    )  # fmt: skip
    link.send(offer.to_frame())
    answer = await _expect(link, Accept)
    party = Party(terms_of(ledger.ledger_id, offer, answer), 0, key, (salt, answer.salt), answer)
    consent = key.sign(accepted_bytes(party.channel_id))
    await ledger.request(account, open_request(party.terms, _DEPOSIT, consent, answer.signature))
    link.send(Funded(party.channel_id).to_frame())
    ready = await _expect(link, Ready)
    party.verify(ready.signature, party.state(ZERO_HALF, ZERO_HALF), "READY")
    party.held = Signed(ZERO_HALF, ZERO_HALF, ready.signature)
    link.send(Ready(party.channel_id, party.sign(ZERO_HALF, ZERO_HALF)).to_frame())
    return party


async def _expect(link: Link, kind: type[_M]) -> _M:
    for message in await link.receive():
        if isinstance(message, kind):
            return message
        raise BenchFailed(f"{kind.__name__} was due; {message!r} came")
    raise AssertionError("receive gives at least one message")


# --- Orders ------------------------------------------------------------------------------------


async def open_ends(crowd: Crowd, peer: str, ledger: str, seed: str, asset: str, count: int, limit_s: float) -> None:
    """Open so many channels with `peer`, paid for by the account of the key `seed` (hex)."""
    connections_possible()  # raises this process's own limit
    account = SigningKey(bytes.fromhex(seed))
    client = crowd.ledger = await crowd.nursery.start(_keep_ledger, parse_address(LEDGER_PREFIX, ledger), account)
    node, wanted = parse_address(NODE_PREFIX, peer), len(crowd.ends) + count
    for _ in range(count):
        crowd.start(node, client, account, bytes.fromhex(asset))
    with trio.fail_after(limit_s):
        await crowd.wait(lambda: len(crowd.ends) == wanted)


async def _keep_ledger(address: Address, account: SigningKey, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    async with connect_ledger(address, account) as client:
        task_status.started(client)
        await trio.sleep_forever()


async def pay_at_rate(crowd: Crowd, per_s: float, seconds: float) -> dict[str, float]:
    """Every end makes `per_s` payments a second, not all at the same moment; latencies count from when each was due."""
    before, crowd.took = _acked(crowd), array("d")
    step, began = 1 / (per_s * len(crowd.ends)), trio.current_time()
    offset = time.perf_counter() - began
    for number in range(int(seconds / step)):
        due = began + number * step
        await trio.sleep_until(due)
        crowd.ends[number % len(crowd.ends)].pay(due + offset)
    await crowd.all_acknowledged()
    return _told(crowd, before, trio.current_time() - began)


async def prepare(crowd: Crowd, payments: int) -> None:
    """Sign so many payments of every end, which later rounds send."""
    for end in crowd.ends:
        end.prepare(payments)
        await trio.lowlevel.checkpoint()  # connections are to be answered meanwhile


async def pay_flat_out(crowd: Crowd, seconds: float) -> dict[str, float]:
    """Every end makes one payment after another."""
    before, crowd.took = _acked(crowd), array("d")
    began = time.perf_counter()
    crowd.flat_out = True
    for end in crowd.ends:
        end.pay(began)
    await trio.sleep(seconds)
    crowd.flat_out = False
    told = _told(crowd, before, time.perf_counter() - began)
    await crowd.all_acknowledged()
    return told


def _acked(crowd: Crowd) -> list[int]:
    return [end.acked for end in crowd.ends]


def _told(crowd: Crowd, before: list[int], seconds: float) -> dict[str, float]:
    served = [now - then for now, then in zip(_acked(crowd), before, strict=True)]
    took = sorted(crowd.took)
    return {
        "payments": sum(served), "seconds": seconds, "most": max(served), "least": min(served),
        "p50_ms": percentile(took, 50) * 1000, "p99_ms": percentile(took, 99) * 1000,
    }  # fmt: skip


async def check_all_here(crowd: Crowd) -> None:
    """Raises what has ended an end's connection, if anything has."""
    if crowd.failure is not None:
        raise crowd.failure


async def acknowledged(crowd: Crowd) -> int:
    """Payments that the node has signed for, of all ends."""
    return sum(_acked(crowd))


async def pay_signed(crowd: Crowd) -> None:
    """Make the payments that were signed for rounds which are over: a channel closes on all that was signed."""
    now = time.perf_counter()
    for end in crowd.ends:
        for _ in range(end.signed):
            end.pay(now)
    await crowd.all_acknowledged()


async def settle(crowd: Crowd) -> dict[str, list[int]]:
    """Close every channel together with the node; [payments, units] as the ledger settled them, by channel."""
    settled: dict[str, list[int]] = {}
    places = trio.CapacityLimiter(_AT_ONCE)

    async def close(end: End) -> None:
        async with places:
            view = await _close(crowd, end)
        half = Half.unpack(view.half0)
        settled[end.party.channel_id.hex()] = [half.n, half.total]

    async with trio.open_nursery() as nursery:
        for end in crowd.ends:
            nursery.start_soon(close, end)
    return settled


async def _close(crowd: Crowd, end: End) -> ops.ChannelView:
    """SHUTDOWN and FINAL both ways, and what the ledger makes of them (spec X-1 to X-3)."""
    party, expiry = end.party, int(time.time()) + _EXPIRY_S
    end.send(party.shutdown_message())
    await crowd.wait(lambda: Shutdown in end.heard)
    own = party.key.sign(party.final_statement(expiry))
    end.send(Final(party.channel_id, expiry, own))
    await crowd.wait(lambda: Final in end.heard)
    other = end.heard[Final].signature  # type: ignore[attr-defined]
    halves = party.own.pack(), party.peer.pack()
    view: ops.ChannelView = await crowd.ledger.request(
        party.key, ops.CloseFinal(party.channel_id, *halves, expiry, own, other)
    )
    return view


async def main() -> None:
    """Run until stdin ends."""
    async with trio.open_nursery() as nursery:
        await serve(Crowd(nursery), [])
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
