"""One peer shows the ledger an old state of each of its channels at once; the other's daemon must answer them all."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio
from endurance.daemons import START_LIMIT_S, World, open_world

import channelpay
from channelpay.daemon.ledger_client import LedgerClient, LedgerTimeout, connect_ledger
from channelpay.keys import Keyring
from channelpay.ledger.audit import audit
from channelpay.messages.ledger import SETTLED, Channels, ChannelView, Close, CoSigned
from channelpay.store.ledger import open_books
from hostility.arena import MONEY, HostileFailed, configure
from hostility.honest import Paid, percentile, work_steadily
from hostility.watch import Held, watched

_OPENING: Final = 64
"""Channels that are opened at one time."""

_CONNECTIONS: Final = 4
_SPARE_KEYS: Final = 8
_HONEST_PER_S: Final = 20
_LATE_S: Final = 30.0
"""How long after the end of the window the last channel may be settled."""


@dataclass(frozen=True)
class Plan:
    """How many channels, and their dispute window in seconds."""

    channels: int
    window_s: int


FULL: Final = Plan(2000, 60)
SMALL: Final = Plan(60, 10)


@dataclass
class Closed:
    """When each stale close was sent and answered, on trio's clock; the channels as they were settled."""

    plan: Plan
    sent: dict[bytes, float] = field(default_factory=dict)
    answered: dict[bytes, float] = field(default_factory=dict)
    settled: dict[bytes, ChannelView] = field(default_factory=dict)
    calm: Paid = field(default_factory=Paid)
    attacked: Paid = field(default_factory=Paid)
    held: Held | None = None

    @property
    def waits_s(self) -> list[float]:
        """From the close to the answer, channel by channel."""
        return [self.answered[each] - sent for each, sent in self.sent.items() if each in self.answered]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        assert self.held is not None
        return {
            "channels": self.plan.channels,
            "window_s": self.plan.window_s,
            "closes_sent_s": round(max(self.sent.values()) - min(self.sent.values()), 2),
            "answered": len(self.answered),
            "first_s": round(min(self.waits_s, default=-1.0), 2),
            "median_s": round(percentile(self.waits_s, 0.5), 2),
            "last_s": round(max(self.waits_s, default=-1.0), 2),
            "settled_at_newest": sum(1 for view in self.settled.values() if view.out1 == 2),
            "p99_ms": [round(paid.percentile(0.99), 2) for paid in (self.calm, self.attacked)],
            "failed": [*self.calm.failed, *self.attacked.failed],
            "grown_mib": round(self.held.grown_mib, 1),
        }


@dataclass
class Stale:
    """A channel of the cheat: its old state, co-signed, and the half that is the newest."""

    old: CoSigned
    newest: bytes


async def close_all_at_once(directory: Path, plan: Plan) -> Closed:
    """Open, pay, close with the old states, and wait until all is settled. Raises HostileFailed."""
    async with open_world(directory, ("cheat", "honest", "payer"), plan.window_s) as world:
        for node in world.nodes:
            configure(
                node, world, policy__min_window_s=plan.window_s, policy__max_channels=plan.channels + 1,
                policy__max_channels_per_peer=plan.channels, log__level="warning",
            )  # fmt: skip
        await world.begin(MONEY)
        stale = await _prepare(world, plan)
        await world.kill(world.nodes[0])
        closed = Closed(plan)
        await _cheat(world, stale, closed)
        await world.kill(world.nodes[1])
        await world.kill(world.ledger)
        _check_books(world)
        return closed


async def _prepare(world: World, plan: Plan) -> dict[bytes, Stale]:
    """Every channel has one payment in its old state and two in its newest."""
    cheat, honest, _ = world.nodes
    where = str(world.address_of(honest))
    found: dict[bytes, Stale] = {}
    limit = trio.CapacityLimiter(_OPENING)

    async def one(client: channelpay.Client) -> None:
        async with limit:
            channel = await client.open_channel(where, "0.000010 USD", window_s=plan.window_s)
            await client.pay(channel, 1)
            old = (await client.channel(channel)).info.state
            await client.pay(channel, 1)
            newest = (await client.channel(channel)).info.state
        if old is None or newest is None:
            raise HostileFailed(f"channel {channel} has no state that both signed")
        found[channel.id] = Stale(CoSigned(old.half0, old.half1, old.signature0, old.signature1), newest.half0)

    async with (
        channelpay.connect(honest.home.path, wait_s=START_LIMIT_S),
        channelpay.connect(cheat.home.path, wait_s=START_LIMIT_S) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(plan.channels):
            nursery.start_soon(one, client)
    return found


async def _cheat(world: World, stale: dict[bytes, Stale], closed: Closed) -> None:
    cheat, honest, payer = world.nodes
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connect_ledger(world.ledger_address, cheat.keys.account))
            for _ in range(_CONNECTIONS + 1)
        ]
        payments = await stack.enter_async_context(channelpay.connect(payer.home.path, wait_s=START_LIMIT_S))
        window_s = closed.plan.window_s
        channel = await payments.open_channel(str(world.address_of(honest)), "1 USD", window_s=window_s)

        async def pay() -> None:
            await payments.pay(channel, 1)

        closed.calm = await work_steadily(pay, _HONEST_PER_S, window_s / 4)
        closed.held = await stack.enter_async_context(watched(honest.pid))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, clients.pop(), cheat.keys, stale, closed, nursery.cancel_scope)
            end = trio.current_time() + window_s + _LATE_S
            nursery.start_soon(_send_closes, clients, cheat.keys, stale, closed)
            closed.attacked = await work_steadily(pay, _HONEST_PER_S, window_s / 4)
            await trio.sleep_until(end)
            raise HostileFailed(f"{len(closed.settled)} of {len(stale)} channels are settled: {closed.as_json()}")


async def _send_closes(clients: list[LedgerClient], keys: Keyring, stale: dict[bytes, Stale], closed: Closed) -> None:
    """All of them as fast as the ledger takes them, over a few connections."""
    channel_keys = {key.public: key for key in (keys.channel(index) for index in range(len(stale) + _SPARE_KEYS))}
    own_key = {view.channel_id: channel_keys[view.key0] for view in await _views(clients[0], keys)}
    for client in clients:
        await client.info(keys.account)  # what it asks from now on needs no reading of the clock

    async def close(client: LedgerClient, channel_id: bytes) -> None:
        closed.sent[channel_id] = trio.current_time()
        with suppress(LedgerTimeout):  # on a slow machine; its event tells what became of it
            await client.request(own_key[channel_id], Close(channel_id, (stale[channel_id].old,)))

    async with trio.open_nursery() as nursery:
        for number, channel_id in enumerate(stale):
            nursery.start_soon(close, clients[number % len(clients)], channel_id)


async def _views(client: LedgerClient, keys: Keyring) -> list[ChannelView]:
    """All channels of the account."""
    views: list[ChannelView] = []
    after: int | None = 0
    while after is not None:
        page = await client.request(keys.account, Channels(after))
        views += page.channels
        after = page.more
    return views


async def _listen(
    client: LedgerClient, keys: Keyring, stale: dict[bytes, Stale], closed: Closed, done: trio.CancelScope
) -> None:
    """Note when each channel shows its newest half, and what it paid out; cancel `done` when all are settled."""
    async with aclosing(client.subscribe(keys.account)) as news:
        async for event in news:
            if event.subject not in stale:
                continue
            view = ChannelView.decode(event.body)
            if view.half0 == stale[event.subject].newest:
                closed.answered.setdefault(event.subject, trio.current_time())
            if view.status == SETTLED:
                closed.settled[event.subject] = view
            if len(closed.settled) == len(stale):
                done.cancel()


def _check_books(world: World) -> None:
    books = open_books(world.ledger.home.ledger_db)
    try:
        with books.snapshot():
            found = audit(books)
    finally:
        books.close()
    if not found.balanced:
        raise HostileFailed(f"the ledger's books do not balance: {'; '.join(found.discrepancies)}")
