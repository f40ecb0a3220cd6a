"""A process that uses one node as a business would: it pays, is paid, and looks after its channels.

It is told what to do by lines on stdin: `stop` (no new payments; every one asked for is answered first), `close` (all
channels, and write down all that was received). It answers each with `{"done": line, "actions": {...}}`, and tells
`{"acknowledged": count}` as payments are made. It ends when its stdin does, and may be killed at any moment and started
again on the same journals.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from pathlib import Path
from typing import Final

import trio

import channelpay
from endurance.dealing import LOOK_S, Dealer, Habits
from endurance.journal import Journal, read_journal
from endurance.paying import RETRY_S, Payer, unanswered

DAEMON_WAIT_S: Final = 120.0
_TELL_S: Final = 0.02
QUIET: Final = (30, 30, 0, 0, 0, 0)
"""Habits of a service that keeps its channels: it tops up and withdraws."""


class Receiver:
    """Reads what the node is paid, from a cursor that it keeps itself.

    Entries: `received, cursor after it, channel, first_n, count, records in hex, [index of a repeated one]`.
    """

    def __init__(self, node: channelpay.Client, journal: Journal, cursor: int) -> None:
        self.node = node
        self.journal = journal
        self.cursor = cursor

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                async for batch in self.node.payment_batches(after=self.cursor):
                    await self._take(batch)
            except (channelpay.NotReachable, channelpay.Refused):
                await trio.sleep(RETRY_S)  # the daemon is being started again

    async def _take(self, batch: channelpay.ReceivedBatch) -> None:
        record = batch.record
        if batch.cursor <= self.cursor:
            return
        entry = record.channel_id.hex(), record.first_n, record.count, record.records.hex(), record.repeated
        await self.journal.write("received", batch.cursor, *entry)
        self.cursor = batch.cursor

    async def catch_up(self) -> None:
        """Come back once everything that the node has received is written down."""
        while True:
            try:
                if (await self.node.status()).received == self.cursor:
                    return
            except channelpay.NotReachable:
                pass
            await trio.sleep(RETRY_S)


class Service:
    """All of it together, on one client."""

    def __init__(self, node: channelpay.Client, options: argparse.Namespace) -> None:
        chance = random.Random(options.seed)
        place = Path(options.journal)
        paid, received = place.with_suffix(".paid"), place.with_suffix(".received")
        cursor = max((entry[1] for entry in read_journal(received)), default=0)
        self.left = list(unanswered(paid))
        self.journals = Journal(paid), Journal(received)
        self.payer = Payer(node, self.journals[0], chance, options.pause)
        self.receiver = Receiver(node, self.journals[1], cursor)
        self.dealer = Dealer(
            node, self.journals[0], chance, options.peer, Habits(options.actions, *QUIET if options.quiet else ())
        )
        self.tasks = options.tasks
        self.answered = trio.Event()

    async def run(self) -> None:
        """Until told to end, or until whoever started it is gone."""
        working = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            for job in (*(journal.run for journal in self.journals), self.receiver.run, self._tell):
                nursery.start_soon(job)
            nursery.start_soon(self._work, working)
            stdin = trio.lowlevel.FdStream(os.dup(0))
            while order := (await stdin.receive_some(16)).decode().strip():
                await self._obey(order, working)
                tell({"done": order, "actions": dict(self.dealer.done)})
            nursery.cancel_scope.cancel()

    async def _work(self, working: trio.CancelScope) -> None:
        with working:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.dealer.run)
                nursery.start_soon(self._renew)
                await self._pay()
                self.answered.set()

    async def _pay(self) -> None:
        async with trio.open_nursery() as paying:
            for channel_id, orders in self.left:
                paying.start_soon(self.payer.settle, channel_id, orders)
            for number in range(self.tasks):
                paying.start_soon(self.payer.run, number % 4 == 3)

    async def _obey(self, order: str, working: trio.CancelScope) -> None:
        if order == "stop":
            self.payer.stopped = True
            await self.answered.wait()
            working.cancel()
        elif order == "close":
            await self.dealer.close_all()
            await self.receiver.catch_up()

    async def _renew(self) -> None:
        while True:
            self.payer.channels = self.dealer.payable()
            await trio.sleep(LOOK_S)

    async def _tell(self) -> None:
        told = -1
        while True:
            if self.payer.acknowledged != told:
                told = self.payer.acknowledged
                tell({"acknowledged": told})
            await trio.sleep(_TELL_S)


def tell(what: dict[str, object]) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(options: argparse.Namespace) -> None:
    """Run until told to end."""
    async with channelpay.connect(options.home, wait_s=DAEMON_WAIT_S) as node:
        await Service(node, options).run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True, help="home of the node whose daemon it uses")
    parser.add_argument("--journal", required=True, help="where it writes: this name with .paid and .received")
    parser.add_argument("--seed", type=int, required=True, help="of its choices")
    parser.add_argument("--peer", action="append", default=[], help="cp1...@host:port of a node to keep a channel to")
    parser.add_argument("--tasks", type=int, default=4, help="how many payments at a time; every fourth is a bulk")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two payments of a task, on average")
    parser.add_argument("--actions", type=float, default=1.0, help="seconds between two actions; 0: none")
    parser.add_argument("--quiet", action="store_true", help="open and close no more channels than needed")
    trio.run(main, parser.parse_args())
