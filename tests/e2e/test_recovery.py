"""A node's home is lost; it comes back from its words alone, or from a backup. Real processes. Spec N-25, N-26."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import channelpay
from cluster import WAIT_S, Cluster, Daemon, cluster

OWNED = 1_000_000_000  # units of a before anything was paid
PAID_TO_B, PAID_TO_A = 3_000_000, 500_000


async def pay_both_ways(cluster: Cluster, channel: channelpay.Channel) -> None:
    async with cluster.connect(cluster.a) as a, cluster.connect(cluster.b) as b:
        for _ in range(3):
            await a.pay(channel, "1 USD")
        await b.pay(channel, "0.5 USD")


async def words_of(cluster: Cluster, node: Daemon) -> Path:
    """The words of a node, on paper as it were."""
    shown = await cluster.cli(node.home, "seed", "show")
    paper = cluster.directory / f"{node.name}.words"
    paper.write_text(str(shown["words"]))
    return paper


async def make_anew(cluster: Cluster, node: Daemon, paper: Path) -> None:
    """A new home from the words."""
    shutil.rmtree(node.home)
    await cluster.cli(
        node.home, "init", "--ledger", cluster.ledger_address, "--listen", f"127.0.0.1:{node.port}",
        "--words-from", str(paper), "--set", "policy.min_window_s=10",
    )  # fmt: skip


async def when(client: channelpay.Client, true: Callable[[channelpay.Channel], bool]) -> channelpay.Channel:
    """The node's only channel, once it is there and `true` of it."""
    while True:
        for channel in await client.channels(settled=True):
            if true(channel):
                return channel


async def check_money(cluster: Cluster, paid_to_b: int) -> None:
    assert await cluster.account_units(cluster.a) == OWNED - paid_to_b
    assert await cluster.account_units(cluster.b) == paid_to_b
    await cluster.audit()


@pytest.mark.parametrize("who", ["a", "b"])
async def test_a_node_comes_back_from_its_words_with_all_that_is_its_own(tmp_path: Path, who: str) -> None:
    with trio.fail_after(WAIT_S):
        async with cluster(tmp_path) as world:
            node, other = (world.a, world.b) if who == "a" else (world.b, world.a)
            await pay_both_ways(world, await world.open(window_s=3600))
            paper = await words_of(world, node)
            await world.kill(node)
            await make_anew(world, node, paper)
            await world.start(node)
            async with world.connect(node) as client, world.connect(other) as peer:
                await when(client, lambda channel: bool(channel.info.deposit0))
                if who == "a":  # a had dialled b, so b does not know where a is
                    (address,) = (await peer.status()).listen
                    await world.cli(node.home, "peer", "connect", address)
                await when(client, lambda channel: channel.phase == "settled")
            await check_money(world, PAID_TO_B - PAID_TO_A)


async def test_a_node_comes_back_from_an_old_backup(tmp_path: Path) -> None:
    with trio.fail_after(WAIT_S):
        async with cluster(tmp_path) as world:
            channel = await world.open(window_s=3600)
            await pay_both_ways(world, channel)
            backup = world.directory / "backup"
            made = await world.cli(world.b.home, "backup", "create", str(backup))  # while the daemon runs
            assert made["kind"] == "node"
            async with world.connect(world.a) as a:
                await a.pay(channel, "7 USD")
            paper = await words_of(world, world.b)
            await world.kill(world.b)
            await make_anew(world, world.b, paper)
            await world.cli(world.b.home, "backup", "restore", str(backup))
            await world.start(world.b)
            async with world.connect(world.b) as b:
                await when(b, lambda channel: channel.info.peer_n == 4 and channel.info.connected == 1)
                stream = b.payments(after=0)
                received = [(await anext(stream)).amount for _ in range(4)]
                assert received == [1_000_000, 1_000_000, 1_000_000, 7_000_000]
                with pytest.raises(channelpay.Refused, match="a restored store that must wait"):
                    await b.pay(channel, "1 USD")
            async with world.connect(world.a) as a:
                await a.close_channel(channel)
            await check_money(world, PAID_TO_B + 7_000_000 - PAID_TO_A)
