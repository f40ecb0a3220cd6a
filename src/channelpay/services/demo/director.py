"""Plays the demo: a ledger, two nodes and two services as processes, and what they must have reached at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

import channelpay
from channelpay.amounts import format_units
from channelpay.messages.control import ChannelInfo
from channelpay.services.demo.buyer import RESERVE_UNITS
from channelpay.services.demo.checks import Facts, checks
from channelpay.services.demo.goods import ASSET_CODE, ASSET_SCALE, PRICE_UNITS, piece_count
from channelpay.services.demo.progress import Progress
from channelpay.services.demo.stage import Child, DemoFailed, Stage, free_ports
from channelpay.services.demo.summary import USD, Summary

START_LIMIT_S: Final = 60.0
STALL_LIMIT_S: Final = 120.0
"""Without a new piece for so long, the demo gives up."""

_CLI: Final = "channelpay"
_SELLER: Final = "channelpay.services.demo.seller"
_BUYER: Final = "channelpay.services.demo.buyer"
_LOOK_EVERY_S: Final = 0.25
_POCKET_UNITS: Final = 1_000_000
"""What the buyer owns beyond what it needs: 1 USD."""


@dataclass
class Player:
    """A node: its home, where it listens, its account, its daemon."""

    name: str
    home: Path
    port: int
    account: str = ""
    daemon: Child | None = None
    units_before: int = 0


class Traffic:
    """Bytes between the two nodes, counted by a daemon that may be restarted: its counters begin at 0 then."""

    def __init__(self) -> None:
        self._before = 0
        self._now = 0

    def saw(self, count: int) -> None:
        """The counter stands at `count`."""
        if count < self._now:
            self._before += self._now
        self._now = count

    @property
    def total(self) -> int:
        """Over all restarts."""
        return self._before + self._now


async def _all(*tasks: Callable[[], Awaitable[Any]]) -> list[Any]:
    """What all tasks return, run at the same time."""
    results: list[Any] = [None] * len(tasks)

    async def run(index: int, task: Callable[[], Awaitable[Any]]) -> None:
        results[index] = await task()

    async with trio.open_nursery() as nursery:
        for index, task in enumerate(tasks):
            nursery.start_soon(run, index, task)
    return results


class Director:
    """One run of the demo in the stage's directory."""

    def __init__(self, stage: Stage, progress: Progress, goods: Path, in_flight: int, kill: bool) -> None:
        self.stage = stage
        self.progress = progress
        self.goods = goods
        self.copy = stage.directory / "copy"
        self.pieces = piece_count(goods.stat().st_size)
        self.in_flight = in_flight
        self.kill = kill
        self.kills = 0
        self.ledger_home = stage.directory / "ledger"
        ports = free_ports(3)
        self.ledger_port = ports[0]
        self.buyer = Player("buyer", stage.directory / "buyer", ports[1])
        self.seller = Player("seller", stage.directory / "seller", ports[2])
        self.traffic = Traffic()
        self.channel_id = ""
        self.result: dict[str, Any] = {}
        self._moved = trio.lowlevel.ParkingLot()

    async def play(self) -> Summary:
        """The whole story; raises DemoFailed."""
        await self._start_ledger()
        await _all(partial(self._start_node, self.buyer), partial(self._start_node, self.seller))
        entries_before = await self._fund()
        self.progress.state.of = self.pieces
        await self._trade()
        return await self._judge(entries_before)

    # --- Setting the stage -----------------------------------------------------------------

    async def _start_ledger(self) -> None:
        self.progress.note("starting a ledger and two nodes")
        place = f"127.0.0.1:{self.ledger_port}"
        made = await self._ledger("init", "--listen", place)
        self.ledger_address = made["address"]
        await self.stage.start("ledger", _CLI, "ledger", "serve", "--home", str(self.ledger_home))
        await self._ledger("asset", "create", ASSET_CODE, "--scale", str(ASSET_SCALE), "--wait", f"{START_LIMIT_S:.0f}")

    async def _ledger(self, *arguments: str) -> dict[str, Any]:
        return await self.stage.command("ledger", *arguments, "--home", str(self.ledger_home))

    async def _start_node(self, player: Player) -> None:
        accept = ["--auto-accept"] if player is self.seller else []
        place = f"127.0.0.1:{player.port}"
        made = await self.stage.command(
            "init", "--home", str(player.home), "--ledger", self.ledger_address, "--listen", place, *accept
        )
        player.account = made["account"]
        await self._run_daemon(player)

    async def _run_daemon(self, player: Player) -> None:
        """Start the node's daemon and wait until it answers."""
        player.daemon = await self.stage.start(f"{player.name}-node", _CLI, "run", "--home", str(player.home))
        async with channelpay.connect(player.home, wait_s=START_LIMIT_S) as node:
            await node.status()

    async def _fund(self) -> int:
        """Give the buyer its money; the number of the ledger's last journal line."""
        issued = await self._ledger(
            "issue", self.buyer.account, format_units(self.pieces * PRICE_UNITS + RESERVE_UNITS + _POCKET_UNITS, USD)
        )
        for player in (self.buyer, self.seller):
            player.units_before = await self._units(player)
        return int(issued["number"])

    async def _units(self, player: Player) -> int:
        """What the node reads on its account."""
        async with channelpay.connect(player.home, wait_s=START_LIMIT_S) as node:
            return sum(balance.account for balance in await node.balance() if balance.asset.code == ASSET_CODE)

    # --- The trade -------------------------------------------------------------------------

    async def _trade(self) -> None:
        seller = await self.stage.start(
            "seller", _SELLER, "--home", str(self.seller.home), "--file", str(self.goods), pipes=True
        )
        port = (await seller.first_line(START_LIMIT_S))["port"]
        holds = [self.pieces // 2, self.pieces * 7 // 8] if self.kill else []
        buyer = await self.stage.start(
            "buyer", _BUYER, "--home", str(self.buyer.home), "--port", str(port), "--out", str(self.copy),
            "--in-flight", str(self.in_flight), *(f"--hold-at={piece}" for piece in holds), stays=False, pipes=True,
        )  # fmt: skip
        self.progress.note(f"selling {self.goods.name}: {self.pieces:,} pieces, {self.in_flight} requests in flight")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_again_and_again)
            await self._listen(buyer, nursery)
            nursery.cancel_scope.cancel()
        if (code := await buyer.process.wait()) or self.result.get("closed") != "settled":
            raise buyer.ended_early(code)
        await self._look()

    async def _listen(self, buyer: Child, nursery: trio.Nursery) -> None:
        """Follow what the buyer tells, until it ends."""
        with trio.move_on_after(STALL_LIMIT_S) as patience:
            async for facts in buyer.lines:
                bought = self._bought
                self.result.update(facts)
                if "channel" in facts:
                    self.channel_id = facts["channel"]
                    if self.kill:
                        nursery.start_soon(self._kill_both, buyer)
                if self._bought > bought:
                    patience.deadline = trio.current_time() + STALL_LIMIT_S
                    self.progress.state.advance(self._bought, trio.current_time())
                    self._moved.unpark_all()
                    self.progress.show()
        if patience.cancelled_caught:
            raise DemoFailed(f"no piece came for {STALL_LIMIT_S:.0f} s; {self._bought} of {self.pieces} are there")

    @property
    def _bought(self) -> int:
        count: int = self.result.get("pieces", 0)
        return count

    async def _kill_both(self, buyer: Child) -> None:
        """SIGKILL the buyer's daemon after a quarter of the pieces, later the seller's; start each again."""
        for player, piece in ((self.buyer, self.pieces // 4), (self.seller, self.pieces * 5 // 8)):
            while self._bought < piece:
                await self._moved.park()
            await self._look()
            assert player.daemon is not None
            await self.stage.kill(player.daemon)
            self.kills += 1
            self.progress.note(f"killed the {player.name}'s daemon after {self._bought:,} pieces")
            await self._run_daemon(player)
            self.progress.note(f"the {player.name}'s daemon is back")
            await buyer.go_on()

    async def _look_again_and_again(self) -> None:
        while True:
            await self._look()
            await trio.sleep(_LOOK_EVERY_S)

    async def _look(self) -> None:
        """Ask the buyer's daemon for both balances and the traffic."""
        if not self.channel_id:
            return
        try:
            async with channelpay.connect(self.buyer.home) as node:
                channel = await node.channel(self.channel_id)
                self.traffic.saw(sum(peer.sent_bytes + peer.received_bytes for peer in await node.peers()))
        except (channelpay.NotReachable, channelpay.Refused):
            return  # it was killed a moment ago, or is just starting
        self.progress.state.buyer_units = channel.balance
        self.progress.state.seller_units = channel.peer_balance
        self.progress.show()

    # --- The end ---------------------------------------------------------------------------

    async def _judge(self, entries_before: int) -> Summary:
        buyer_channel, _ = await self._channel(self.buyer)
        seller_channel, seller_received = await self._channel(self.seller)
        accounts, on_ledger, journal, audit = await _all(
            partial(self._ledger, "accounts"),
            partial(self._ledger, "show", self.channel_id),
            partial(self._ledger, "journal", "--after", str(entries_before), "--limit", "1000000"),
            partial(self._ledger, "audit"),
        )
        entries = list({line["entry"]: line["kind"] for line in journal["lines"]}.values())
        original, copy = self.goods.read_bytes(), self.copy.read_bytes()
        facts = Facts(
            pieces=self.pieces,
            sha256_original=hashlib.sha256(original).hexdigest(),
            sha256_copy=hashlib.sha256(copy).hexdigest(),
            buyer_channel=buyer_channel,
            seller_channel=seller_channel,
            seller_received=seller_received,
            buyer_before=self.buyer.units_before,
            buyer_after=await self._units(self.buyer),
            seller_before=self.seller.units_before,
            seller_after=await self._units(self.seller),
            buyer_account=self.buyer.account,
            seller_account=self.seller.account,
            accounts=accounts,
            on_ledger=on_ledger,
            entries=entries,
            audit=audit,
            kills_wanted=2 if self.kill else 0,
            kills=self.kills,
        )
        return Summary(
            file=self.goods.name,
            file_bytes=len(original),
            sha256=facts.sha256_original,
            pieces=self.pieces,
            payments=buyer_channel.own_n,
            seconds=self.result["seconds"],
            median_ms=self.result["median_ms"],
            p99_ms=self.result["p99_ms"],
            wire_bytes=self.traffic.total,
            ledger_transactions=len(entries),
            kills=self.kills,
            unknown=self.result["unknown"],
            found_paid=self.result["found_paid"],
            checks=checks(facts),
        )

    async def _channel(self, player: Player) -> tuple[ChannelInfo, int]:
        """The channel as a node sees it, settled; and how many payments it has received in all."""
        async with channelpay.connect(player.home, wait_s=START_LIMIT_S) as node:
            with trio.move_on_after(START_LIMIT_S):
                while (channel := await node.channel(self.channel_id)).phase != "settled":
                    await trio.sleep(0.05)  # the other node learns of the settlement from the ledger
            return channel.info, (await node.status()).received
