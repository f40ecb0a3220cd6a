"""A ledger as a process of its own, killed while it works: nothing answered is lost, nothing is done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from channelpay.daemon.ledger_client import LedgerClient, connect_ledger
from channelpay.daemon.secure import LinkClosed
from channelpay.keys import Address
from channelpay.ledger.audit import audit
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Request
from channelpay.store.ledger import LedgerStore
from ledger_world import ALICE, BOB, ISSUER, LEDGER, OPERATOR, START, USD

PROGRAM = """
import sys
from functools import partial
from pathlib import Path
import trio
from channelpay.daemon.ledger_server import serve_ledger
from ledger_world import LEDGER, RULES
from channelpay.store.ledger import LedgerStore

async def main():
    store = LedgerStore.open(Path(sys.argv[1]), LEDGER.public)
    async with trio.open_nursery() as nursery:
        places = await nursery.start(partial(serve_ledger, store, LEDGER, RULES, [("127.0.0.1", 0)]))
        print(places[0][1], file=sys.stderr, flush=True)

trio.run(main)
"""
TESTS = Path(__file__).parents[1]


@asynccontextmanager
async def process(path: Path) -> AsyncIterator[tuple[subprocess.Popen[str], Address]]:
    """A ledger process; it is dead at the end, killed by the test or here."""
    running = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{PROGRAM}", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    try:
        port = await trio.to_thread.run_sync(running.stderr.readline)
        yield running, Address("cpl", LEDGER.public, "127.0.0.1", int(port))
    finally:
        running.kill()
        running.wait()
        running.stderr.close()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.db"
    LedgerStore.create(path, LEDGER.public, START).close()
    return path


async def test_killed_again_and_again_it_pays_each_request_once(path):
    transfer = ops.Transfer(USD, BOB.public, 1)
    unanswered: list[Request] = []
    answered = 0
    left: list[int] = []
    few = trio.CapacityLimiter(5)  # so that 400 requests take many commits, and each kill meets some of them

    async def send(client: LedgerClient, request: Request) -> None:
        nonlocal answered
        try:
            async with few:
                await client.request(ALICE, transfer, request)
        except LinkClosed:
            return  # whether it was executed is not known
        unanswered.remove(request)
        answered += 1

    async def send_until_killed(client: LedgerClient, running: subprocess.Popen[str], enough: int) -> None:
        async with trio.open_nursery() as nursery:
            for request in list(unanswered):
                nursery.start_soon(send, client, request)
            while answered < enough:
                await trio.lowlevel.checkpoint()
            running.send_signal(signal.SIGKILL)

    async with process(path) as (_, address), connect_ledger(address, ALICE) as client:
        await client.request(OPERATOR, ops.CreateAsset("USD", 6, ISSUER.public))
        await client.request(ISSUER, ops.Issue(USD, ALICE.public, 10_000))
        unanswered += [await client.prepare(ALICE, transfer) for _ in range(400)]
    with trio.fail_after(60):
        for enough in (1, 60, 150):
            async with process(path) as (running, address), connect_ledger(address, ALICE) as client:
                await send_until_killed(client, running, enough)
            left.append(len(unanswered))
        async with process(path) as (_, address), connect_ledger(address, ALICE) as client:
            async with trio.open_nursery() as nursery:
                for request in list(unanswered):
                    nursery.start_soon(send, client, request)
            held = (await client.request(BOB, ops.Account(BOB.public))).holdings
    assert 400 > left[0] > left[1] > left[2] > 0  # the kills came in the middle
    assert (answered, unanswered) == (400, [])
    assert held == (ops.Holding(USD, 400),)
    store = LedgerStore.open(path, LEDGER.public)
    assert audit(store.books).balanced
    store.close()
