"""The seller's service: sells a file piece by piece; a piece leaves once its payment has arrived.

Run by the demo as `python -m channelpay.services.demo.seller`. It prints `{"port": ...}`, where buyers connect.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import trio

import channelpay
from channelpay.services.demo.events import tell
from channelpay.services.demo.goods import ASSET_CODE, PRICE_UNITS, load_goods, piece_of
from channelpay.services.demo.wire import OFFER, PIECE, Wire

WAIT_S = 60.0  # for a daemon that is being restarted


class Shop:
    """Pieces that were asked for, payments that arrived; where an id is in both, the piece is delivered."""

    def __init__(self, name: str, goods: bytes, node_address: str) -> None:
        self.offer = (name, len(goods), PRICE_UNITS, ASSET_CODE, node_address)
        self.goods = goods
        self.cursor = 0
        self.asked: dict[bytes, tuple[int, Wire]] = {}  # payment id -> the piece it is for, and for whom
        self.paid: set[bytes] = set()  # payments that arrived before their request

    async def serve_buyer(self, stream: trio.SocketStream) -> None:
        """Take the requests of one buyer."""
        wire = Wire(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.write)
            async for kind, values in wire:
                if kind == OFFER:
                    wire.send(OFFER, *self.offer)
                else:
                    index, payment_id = values
                    self.asked[payment_id] = (index, wire)
                    self.deliver(payment_id)
            nursery.cancel_scope.cancel()

    async def take_payments(self, node: channelpay.Client) -> None:
        """Deliver for each payment exactly once, also across restarts of the daemon.

        Cursor and effect change together: nothing is awaited between them. A shop that survives its
        own restart keeps both in its database and changes them in one transaction.
        """
        while True:
            try:
                async for payment in node.payments(after=self.cursor):
                    self.cursor = payment.cursor
                    if payment.payment_id and payment.amount == PRICE_UNITS and not payment.repeated:
                        self.paid.add(payment.payment_id)
                        self.deliver(payment.payment_id)
            except channelpay.NotReachable:
                pass  # the daemon went away: go on from the cursor when it is back

    def deliver(self, payment_id: bytes) -> None:
        """Send the piece if it is both asked for and paid."""
        if payment_id in self.paid and payment_id in self.asked:
            self.paid.remove(payment_id)
            index, wire = self.asked.pop(payment_id)
            wire.send(PIECE, index, piece_of(self.goods, index))


async def main(home: str, file: Path) -> None:
    """Sell the file until this process is ended."""
    async with channelpay.connect(home, wait_s=WAIT_S) as node, trio.open_nursery() as nursery:
        address = (await node.status()).listen[0]
        shop = Shop(file.name, load_goods(file, None), address)
        nursery.start_soon(shop.take_payments, node)
        listeners = await nursery.start(trio.serve_tcp, shop.serve_buyer, 0)
        tell(port=listeners[0].socket.getsockname()[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="home of the seller's node")
    parser.add_argument("--file", required=True, type=Path, help="what is sold")
    options = parser.parse_args()
    trio.run(main, options.home, options.file)
