"""Whoever is too slow makes the others wait: memory stays bounded, `pay` blocks, and afterwards nothing is lost."""

from __future__ import annotations

import gc
import os
import signal
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing

import channelpay
from channelpay.batches import NO_ID, pack_record
from channelpay.limits import MAX_BATCH, MAX_QUEUED_ITEMS, MAX_QUEUED_PAYMENTS, MAX_UNACKED_BATCHES
from channelpay.messages.control import Paid, PayEach, PayMany
from channelpay.services.backend import InProcess
from channelpay.services.client import Client
from cluster import cluster
from daemon_rig import Rig, connect, open_channel, rigs

MOST_BYTES = 5 * 1024 * 1024


class Callers:
    """Callers of a payer's API that never stop asking, as many as are let in."""

    def __init__(self, payer: Rig, payments: int) -> None:
        self.asked = 0
        self.paid = 0
        self._payer = payer
        self._channel = payer.channel().channel_id
        self._records = pack_record(1, NO_ID) * payments
        self._payments = payments
        self._stopped = False

    async def run(self) -> None:
        for call_id in count(1):
            await self._payer.api.wait_room(self._channel)
            if self._stopped:
                return
            self._ask(call_id)
            self.asked += self._payments

    def _ask(self, call_id: int) -> None:
        if self._payments == 1:
            self._payer.api.pay_each(PayEach(call_id, self._channel, self._records, b""), self._done)
        else:
            self._payer.api.pay_many(PayMany(call_id, self._channel, self._records, b""), self._done)

    def _done(self, answer: object) -> None:
        assert isinstance(answer, Paid)
        self.paid += answer.count

    def stop(self) -> None:
        self._stopped = True


async def _busily(true: Callable[[], bool]) -> None:
    """Wait for something while the callers never rest: no clock jumps meanwhile."""
    while not true():
        await trio.lowlevel.checkpoint()


@contextmanager
def grows_little() -> Iterator[None]:
    """Checks how much more memory Python's objects hold at the end of the block."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        assert held < MOST_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("max_batch", "payments"), [(MAX_BATCH, MAX_BATCH), (1, 256), (1, 1), (MAX_BATCH, 1)],
    ids=["many at once", "many at once, a signature each", "one by one, a signature each", "one by one"],
)  # fmt: skip
async def test_a_payee_that_stands_still_makes_pay_wait(tmp_path, autojump_clock, max_batch, payments):
    async with rigs(tmp_path, 2) as (a, b), trio.open_nursery() as nursery:
        channel = await open_channel(a, b, max_batch=max_batch)
        callers = Callers(a, payments)
        b.links[0].hold(True)
        with grows_little():
            nursery.start_soon(callers.run)
            await trio.testing.wait_all_tasks_blocked(0.01)
            asked = callers.asked
            await trio.sleep(30)
            assert (callers.asked, callers.paid) == (asked, 0), "pay did not wait"
            assert len(channel.unacked) <= MAX_UNACKED_BATCHES
            assert len(channel.queue) < MAX_QUEUED_ITEMS + payments
            assert channel.queued_count <= MAX_QUEUED_PAYMENTS
        b.links[0].hold(False)
        await a.until(lambda: not channel.connected)  # without an ACK in 30 s the connection is given up
        connect(a, b)
        callers.stop()
        await a.until(lambda: callers.paid == callers.asked)
        assert b.received() == [1] * callers.asked


async def test_a_slow_disk_slows_the_callers_down(tmp_path, autojump_clock, monkeypatch):
    async with rigs(tmp_path, 2) as (a, b), trio.open_nursery() as nursery:
        await open_channel(a, b, deposit=5_000_000)
        commit, commits = a.store.commit, 0

        def slow(changes):
            nonlocal commits
            commits += 1
            time.sleep(0.005)
            commit(changes)

        monkeypatch.setattr(a.store, "commit", slow)
        callers = Callers(a, MAX_BATCH)
        with grows_little():
            nursery.start_soon(callers.run)
            await _busily(lambda: commits > 30)
            assert callers.asked - callers.paid <= 2 * MAX_QUEUED_PAYMENTS
        callers.stop()
        await a.until(lambda: callers.paid == callers.asked)
        assert len(b.received()) == callers.asked


async def test_payments_that_nobody_reads_wait_on_the_payees_disk(tmp_path, autojump_clock):
    """A service asked for the first payment, and has not come back for the next since."""
    async with rigs(tmp_path, 2) as (a, b), trio.open_nursery() as nursery:
        await open_channel(a, b, deposit=5_000_000)
        callers = Callers(a, MAX_BATCH)
        payments = Client(InProcess(b.api)).payments()
        nursery.start_soon(callers.run)
        await _busily(lambda: callers.paid > 100_000)
        assert (await anext(payments)).cursor == 1
        with grows_little():
            await _busily(lambda: callers.paid > 600_000)
            for link in a.links + b.links:
                link.sent.clear()  # the rig's own memory of all that travelled
        callers.stop()
        await a.until(lambda: callers.paid == callers.asked)
        assert len(b.received()) == callers.asked
        for cursor in range(2, 10_000):
            assert (await anext(payments)).cursor == cursor


def resident_bytes(pid: int) -> int:
    """What a process holds in memory now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
async def test_a_payees_process_that_is_stopped(tmp_path: Path) -> None:
    """Real daemons: the payer's does not grow, its client waits, and all goes on when the payee does."""
    async with cluster(tmp_path) as here:
        channel = await here.open()
        async with here.connect(here.a) as a, here.connect(here.b) as b, trio.open_nursery() as nursery:
            payer, payee = (node.process.process.pid for node in (here.a, here.b) if node.process)
            paid, going = 0, True

            async def pay() -> None:
                nonlocal paid
                while going:
                    paid += (await a.pay_many(channel, [1] * MAX_BATCH)).count

            for _ in range(16):
                nursery.start_soon(pay)
            await _until(lambda: paid > 200_000)
            before = resident_bytes(payer)
            os.kill(payee, signal.SIGSTOP)
            try:
                stuck = -1
                while stuck != paid:  # what was on its way has come
                    stuck = paid
                    await trio.sleep(1)
                await trio.sleep(2)
                assert paid == stuck
                assert resident_bytes(payer) - before < MOST_BYTES
            finally:
                os.kill(payee, signal.SIGCONT)
            await _until(lambda: paid > stuck)
            going = False
        received = 0
        async with here.connect(here.b) as b:
            async for batch in b.payment_batches():
                received += batch.record.count
                if received >= paid:
                    break
        assert received == paid
        view = await _closed(here, channel)
        assert view == "settled"


async def _until(true) -> None:
    with trio.fail_after(60):
        while not true():
            await trio.sleep(0.05)


async def _closed(here, channel: channelpay.Channel) -> str:
    async with here.connect(here.a) as a:
        return str((await a.close_channel(channel)).phase)
