"""The pump: when inputs have their turn, and what a store that fails does."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from channelpay.batches import NO_ID, pack_record
from channelpay.errors import StoreFailed
from channelpay.messages.control import PayEach
from channelpay.messages.peer import Ack, Pay
from daemon_rig import Rig, open_channel, rigs


async def _held_payments(payee: Rig, *payers: Rig) -> list[list[Pay]]:
    """One payment of each payer that has come to the payee and that nobody has taken yet."""
    for link in payee.links:
        link.hold(True)
    for payer in payers:
        payer.api.pay_each(PayEach(1, payer.channel().channel_id, pack_record(5, NO_ID), b""), lambda answer: None)
    await trio.testing.wait_all_tasks_blocked()
    found = []
    for link in payee.links:
        messages, link.inbox = link.inbox, []
        found.append([message for message in messages if isinstance(message, Pay)])
    return found


def _acks(rig: Rig) -> int:
    return sum(isinstance(message, Ack) for link in rig.links for message in link.sent)


async def test_a_lone_input_is_on_disk_and_answered_at_once(tmp_path, autojump_clock):
    async with rigs(tmp_path, 2) as (a, b):
        await open_channel(a, b)
        await trio.sleep(1)
        (messages,) = await _held_payments(b, a)
        before = b.store.commits, _acks(b)
        b.engine.received(b.node.connections[a.id][0], messages)
        assert (b.store.commits, _acks(b)) == (before[0] + 1, before[1] + 1)


async def test_inputs_that_come_together_share_a_commit(tmp_path, autojump_clock):
    async with rigs(tmp_path, 4) as (payee, a, b, c):
        payers = a, b, c
        for payer in payers:
            await open_channel(payer, payee)
        await trio.sleep(1)
        held = await _held_payments(payee, *payers)
        before = payee.store.commits, _acks(payee)
        for payer, messages in zip(payers, held, strict=True):
            payee.engine.received(payee.node.connections[payer.id][0], messages)
        assert payee.store.commits == before[0] + 1, "the first was alone so far"
        await trio.testing.wait_all_tasks_blocked()
        assert (payee.store.commits, _acks(payee)) == (before[0] + 2, before[1] + 3)
        # Now many are to be expected: not even the first goes alone.
        held = await _held_payments(payee, *payers)
        for payer, messages in zip(payers, held, strict=True):
            payee.engine.received(payee.node.connections[payer.id][0], messages)
        assert payee.store.commits == before[0] + 2
        await trio.testing.wait_all_tasks_blocked()
        assert (payee.store.commits, _acks(payee)) == (before[0] + 3, before[1] + 6)


async def test_a_store_that_fails_ends_the_node_and_nothing_is_sent_after_it(tmp_path, autojump_clock, monkeypatch):
    def fail(changes):
        raise StoreFailed("the disk is full")

    with pytest.RaisesGroup(StoreFailed, flatten_subgroups=True):
        async with rigs(tmp_path, 2) as (a, b):
            await open_channel(a, b)
            await trio.sleep(1)
            (messages,) = await _held_payments(b, a)
            monkeypatch.setattr(b.store, "commit", fail)
            acks = _acks(b)
            b.engine.received(b.node.connections[a.id][0], messages)
            assert _acks(b) == acks
            b.engine.turn = lambda: pytest.fail("a turn after a commit that failed")
            await trio.sleep(1)
            pytest.fail("the node goes on")
