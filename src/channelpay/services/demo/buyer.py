"""The buyer's service: buys a file piece by piece, each piece with a payment of its own.

Run by the demo as `python -m channelpay.services.demo.buyer`. It tells how far it is, one JSON object a line.
"""

from __future__ import annotations

import argparse
import os
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trio

import channelpay
from channelpay.services.demo.events import Holds, tell
from channelpay.services.demo.goods import PIECE_BYTES, piece_count
from channelpay.services.demo.summary import percentile
from channelpay.services.demo.wire import OFFER, PIECE, Wire

WAIT_S = 60.0  # for a daemon that is being restarted
RETRY_S = 0.05
RESERVE_UNITS = 10_000
"""What the deposit holds beyond the price of all pieces: it comes back at the end."""


class Offer(NamedTuple):
    """What the seller sells: `price` units of `asset` for each piece, paid to the node at `address`."""

    name: str
    size: int
    price: int
    asset: str
    address: str


class Buyer:
    """Buys the pieces of one offer over one channel."""

    def __init__(self, node: channelpay.Client, wire: Wire, offer: Offer, copy: bytearray) -> None:
        self.node = node
        self.wire = wire
        self.offer = offer
        self.copy = copy
        self.tell_every = max(1, min(1000, piece_count(offer.size) // 64))
        self.arrivals: dict[int, trio.Event] = {}
        self.pieces = 0
        self.latencies_ms = array("d")  # of each payment, from asking the node until the payee holds it
        self.unknown = 0  # payments whose outcome a lost connection left open,
        self.found_paid = 0  # of these: had been paid after all

    async def buy(self, channel: channelpay.Channel, in_flight: int, holds: Holds) -> None:
        """Buy every piece, `in_flight` of them at once."""
        indexes = iter(range(piece_count(self.offer.size)))
        async with trio.open_nursery() as nursery:
            for _ in range(in_flight):
                nursery.start_soon(self._buy_some, channel, indexes, holds)

    async def _buy_some(self, channel: channelpay.Channel, indexes: Iterator[int], holds: Holds) -> None:
        for index in indexes:
            await holds.pass_by(index)
            payment_id = channelpay.new_payment_id()
            arrived = self.arrivals[index] = trio.Event()
            self.wire.send(PIECE, index, payment_id)
            started = time.perf_counter()
            await self.pay(channel, payment_id)
            self.latencies_ms.append((time.perf_counter() - started) * 1000)
            await arrived.wait()

    async def pay(self, channel: channelpay.Channel, payment_id: bytes) -> None:
        """Pay once, whatever happens to the daemon meanwhile: the id makes sure of it."""
        cut_off = False
        while True:
            try:
                if cut_off and (await self.node.payment(payment_id)).state is channelpay.PaymentState.PAID:
                    self.found_paid += 1
                    return
                payment = await self.node.pay(channel, self.offer.price, payment_id=payment_id)
                self.found_paid += payment.repeated
                return
            except channelpay.PaymentUnknown:
                self.unknown += not cut_off
                cut_off = True
            except channelpay.NotReachable:
                pass  # nothing was sent, or nothing was answered: ask again
            except channelpay.Refused as refusal:
                if refusal.reason not in channelpay.TRANSIENT:
                    raise
                await trio.sleep(RETRY_S)  # such as a daemon that was restarted and waits for its ledger

    async def take_pieces(self) -> None:
        """Put every piece that arrives in its place."""
        async for _, (index, piece) in self.wire:
            self.copy[index * PIECE_BYTES : index * PIECE_BYTES + len(piece)] = piece
            self.pieces += 1
            if self.pieces % self.tell_every == 0:
                tell(pieces=self.pieces)
            self.arrivals.pop(index).set()  # a piece that nobody waits for, or a second one, ends us: KeyError


async def main(home: str, port: int, out: Path, in_flight: int, hold_at: list[int]) -> None:
    """Buy what the seller at `port` sells, write it to `out`, close the channel."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with channelpay.connect(home, wait_s=WAIT_S) as node, trio.open_nursery() as nursery:
        wire = Wire(stream)
        nursery.start_soon(wire.write)
        wire.send(OFFER)
        _, terms = await anext(wire)
        offer = Offer(*terms)
        channel = await open_channel(node, offer)
        tell(channel=str(channel))
        buyer = Buyer(node, wire, offer, bytearray(offer.size))
        holds = Holds(hold_at)
        if hold_at:
            nursery.start_soon(holds.release, trio.lowlevel.FdStream(os.dup(0)))
        nursery.start_soon(buyer.take_pieces)
        started = time.perf_counter()
        await buyer.buy(channel, in_flight, holds)
        seconds = time.perf_counter() - started
        out.write_bytes(buyer.copy)
        tell(
            pieces=buyer.pieces,
            seconds=seconds,
            median_ms=percentile(buyer.latencies_ms, 50),
            p99_ms=percentile(buyer.latencies_ms, 99),
            unknown=buyer.unknown,
            found_paid=buyer.found_paid,
        )
        closed = await node.close_channel(channel)
        tell(closed=closed.phase)
        nursery.cancel_scope.cancel()


async def open_channel(node: channelpay.Client, offer: Offer) -> channelpay.Channel:
    """A channel to the seller's node that can pay for everything."""
    assets = [balance.asset for balance in await node.balance() if balance.asset.code == offer.asset]
    deposit = piece_count(offer.size) * offer.price + RESERVE_UNITS
    return await node.open_channel(offer.address, deposit, asset=assets[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="home of the buyer's node")
    parser.add_argument("--port", required=True, type=int, help="where the seller's service listens")
    parser.add_argument("--out", required=True, type=Path, help="where the copy is written")
    parser.add_argument("--in-flight", type=int, default=256, help="pieces bought at once")
    parser.add_argument("--hold-at", type=int, action="append", default=[], help="wait for a line before this piece")
    options = parser.parse_args()
    trio.run(main, options.home, options.port, options.out, options.in_flight, options.hold_at)
