"""Whole lives of several nodes and a ledger, drawn from a seed; and an auditor with books of its own.

The auditor sees only what owners see: what their nodes told them (paid, failed), what `payments` delivers, and the
ledger's public record. It shares no arithmetic with the nodes.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from channelpay.batches import Batch
from channelpay.channel import closing
from channelpay.channel.effects import Queued
from channelpay.channel.state import Channel, Phase
from channelpay.errors import LocalError
from channelpay.ledger.audit import audit
from channelpay.limits import CLAIM_WAIT_S, CLOSE_TIMEOUT_S
from channelpay.messages import ledger as ops
from channelpay.messages.control import ENTRY_PAYMENTS
from channelpay.messages.ledger import OPEN, SETTLED
from channelpay.node.policy import Policy
from node_world import NodeWorld, World

FUNDS = 1_000_000
LIVE = (Phase.OPEN, Phase.SHUTDOWN, Phase.FINAL, Phase.CLOSING)


@dataclass
class Received:
    """What one channel brought: units of each payment in order, None where a dispute gave the money alone."""

    units: list[int | None] = field(default_factory=list)
    total: int = 0


class Auditor:
    """What every owner was told, kept outside all nodes: it survives their crashes."""

    def __init__(self) -> None:
        self.paid: defaultdict[tuple[bytes, int], dict[int, int]] = defaultdict(dict)  # (channel, payer): n -> units
        self.refused: list[tuple[bytes, int, Queued]] = []
        self.answers: defaultdict[int, int] = defaultdict(int)

    def hear(self, node: NodeWorld) -> None:
        """Take what the node told its callers since the last time."""
        for item, ok in [*((i, True) for i in node.paid), *((i, False) for i in node.failed)]:
            channel_id, side = item.waiters
            self.answers[id(item)] += 1
            assert self.answers[id(item)] == 1, "a caller was answered twice"
            if ok:
                for n, payment in enumerate(Batch(item.first_n, item.records, b"").payments(), item.first_n):
                    known = self.paid[channel_id, side].setdefault(n, payment.amount)
                    assert known == payment.amount, f"payment {n} was acknowledged with two amounts"
            else:
                self.refused.append((channel_id, side, item))
        node.paid.clear()
        node.failed.clear()

    def hear_all(self, world: World) -> None:
        for node in world.nodes:
            self.hear(node)

    def check_peace(self, world: World) -> None:
        """Among honest nodes nobody breaks a rule, and no store is ever behind what its node has signed."""
        for node in world.nodes:
            for text in node.warnings():
                assert not any(phrase in text for phrase in ("broke a rule", "reports", "rolled back", "forgotten")), (
                    text
                )

    def journal(self, node: NodeWorld) -> dict[bytes, Received]:
        """By channel: everything received. Positions follow one another, no payment comes twice or is left out."""
        found: defaultdict[bytes, Received] = defaultdict(Received)
        after = 0
        while page := node.store.journal(after, 1000, 1_000_000):
            for row in page:
                assert row.position == after, "positions follow one another"
                received = found[row.channel_id]
                assert row.first_n == len(received.units) + 1, "a payment is left out or counted twice"
                if row.kind == ENTRY_PAYMENTS:
                    received.units += [p.amount for p in Batch(row.first_n, row.records, row.memos).payments()]
                else:
                    received.units += [None] * row.size
                received.total += row.total
                after = row.next_position
        assert after == node.store.received
        return found

    def check(self, world: World) -> None:
        """What must hold at every quiet moment."""
        self.hear_all(world)
        self.check_peace(world)
        journals = {node.id: self.journal(node) for node in world.nodes}
        for node in world.nodes:
            for channel in node.node.channels.values():
                received = journals[channel.setup.peer_id].get(channel.channel_id, Received())
                for n, units in self.paid[channel.channel_id, channel.side].items():
                    assert n <= len(received.units), f"acknowledged payment {n} is not in the payee's journal"
                    assert received.units[n - 1] in (units, None)
        for channel_id, side, item in self.refused:
            payee = next(
                node
                for node in world.nodes
                for channel in node.node.channels.values()
                if channel.channel_id == channel_id and channel.side != side
            )
            if item.first_n:  # sent, and told that it is not paid: so it must never be
                received = journals[payee.id].get(channel_id, Received())
                assert item.first_n > len(received.units), "called not paid, and delivered"
        result = audit(world.ledger.books)
        assert result.balanced, result.discrepancies

    def check_settled(self, world: World, funds: dict[bytes, int]) -> None:
        """At the end: everybody got what they were paid, less what they paid, to the unit; nothing was made or lost."""
        self.check(world)
        journals = {node.id: self.journal(node) for node in world.nodes}
        expected = dict(funds)
        for node in world.nodes:
            for channel in node.node.channels.values():
                if channel.phase is Phase.ABANDONED:
                    continue
                row = world.ledger.books.channel(channel.channel_id)
                assert row is not None
                assert row.status == SETTLED
                received = journals[node.id].get(channel.channel_id, Received()).total
                sent = journals[channel.setup.peer_id].get(channel.channel_id, Received()).total
                signed_away = channel.own.total
                assert sent <= signed_away
                # What a payer signed and the payee never had on disk may be lost with it, never more.
                out = (row.out0, row.out1)[channel.side] + (row.withdrawn0, row.withdrawn1)[channel.side]
                deposit = (row.deposit0, row.deposit1)[channel.side]
                assert out >= deposit - signed_away + received, "the payout is less than the entitlement"
                assert out == deposit - sent + received, "the settlement is not what was paid"
                expected[node.id] += out - deposit
        for node in world.nodes:
            assert world.ledger.balance(node.keys.account.public) == expected[node.id]
        assert sum(expected.values()) == sum(funds.values())


class Simulation:
    """One life. `run` raises AssertionError if anything is wrong."""

    def __init__(self, seed: int, path: Path) -> None:
        self.rng = random.Random(seed)
        self.world = World(path)
        self.auditor = Auditor()
        self.funds: dict[bytes, int] = {}
        self.old_states: list[tuple[Channel, ops.CoSigned]] = []
        policy = Policy(auto_accept=True, min_window_s=10, max_channels_per_peer=8)
        for _ in range(self.rng.choice((2, 2, 3))):
            node = self.world.add(policy, funds=FUNDS)
            self.funds[node.id] = FUNDS
        self.acts = [
            (self.pay, 40), (self.turn, 20), (self.deliver, 20), (self.ledger, 10), (self.connect, 14), (self.cut, 3),
            (self.crash, 3), (self.restart, 20), (self.lose_ledger, 1), (self.find_ledger, 8), (self.topup, 2),
            (self.withdraw, 3), (self.claim, 2), (self.close, 1), (self.open, 3), (self.wait, 6), (self.settle, 10),
        ]  # fmt: skip

    def run(self, steps: int) -> None:
        """Live for so many steps, then bring everything to an end and audit it."""
        self.open()
        self.settle()
        weights = [weight for _, weight in self.acts]
        for act, _ in self.rng.choices(self.acts, weights, k=steps):
            act()
        self.finish()

    # --- Choices -----------------------------------------------------------------------------

    def node(self, alive: bool = True) -> NodeWorld | None:
        found = [node for node in self.world.nodes if node.alive is alive]
        return self.rng.choice(found) if found else None

    def channel(self, phases: tuple[Phase, ...] = LIVE) -> tuple[NodeWorld, Channel] | None:
        found = [
            (node, channel)
            for node in self.world.nodes
            if node.alive
            for channel in node.node.channels.values()
            if channel.phase in phases
        ]
        return self.rng.choice(found) if found else None

    # --- Acts --------------------------------------------------------------------------------

    def pay(self) -> None:
        if (found := self.channel((Phase.OPEN,))) is None:
            return
        node, channel = found
        most = max(1, min(5000, channel.spendable()))
        try:
            amounts = [self.rng.randint(1, most) for _ in range(self.rng.choice((1, 1, 1, 2, 5)))]
            for item in node.pay(*amounts, channel=channel):
                item.waiters = [channel.channel_id, channel.side]
        except LocalError:
            pass

    def turn(self) -> None:
        if (node := self.node()) is not None:
            node.turn()
            self.auditor.hear(node)

    def deliver(self) -> None:
        if (node := self.node()) is not None:
            self.world.deliver(node, self.rng.choice((1, 2, 1000)))

    def ledger(self) -> None:
        if (node := self.node()) is not None:
            node.ledger_takes() if self.rng.random() < 0.5 else node.ledger_answers()

    def connect(self) -> None:
        alive = [node for node in self.world.nodes if node.alive]
        if len(alive) > 1:
            a, b = self.rng.sample(alive, 2)
            self.world.connect(a, b)
            if self.rng.random() < 0.2:
                self.world.connect(b, a)

    def cut(self) -> None:
        if (node := self.node()) is not None:
            self.world.cut(node)

    def crash(self) -> None:
        """Between two turns, before a commit, or between a commit and what should be sent after it."""
        if (node := self.node()) is None:
            return
        how = self.rng.choice(("now", "before", "after"))
        if how != "now":
            node.turn(send=False, commit=how == "after")
        if self.rng.random() < 0.5:  # what it had sent before is read all the same
            for other in self.world.nodes:
                if other.alive and other is not node:
                    self.world.deliver(other, self.rng.choice((1, 1000)))
        node.crash()

    def restart(self) -> None:
        if (node := self.node(alive=False)) is not None:
            node.restart()

    def lose_ledger(self) -> None:
        if (node := self.node()) is not None:
            node.ledger_up = False
            node.lose_ledger()

    def find_ledger(self) -> None:
        if (node := self.node()) is not None and not node.node.ledger.connected:
            node.ledger_up = True
            node.connect_ledger()

    def topup(self) -> None:
        if (found := self.channel()) is not None:
            node, channel = found
            self._try(lambda: node.node.topup(channel.channel_id, self.rng.randint(1, 5000), self.world.clock))

    def withdraw(self) -> None:
        if (found := self.channel((Phase.OPEN,))) is not None:
            node, channel = found
            units = self.rng.randint(1, max(1, channel.spendable()))
            self._try(lambda: node.node.withdraw(channel.channel_id, units, self.world.clock))

    def claim(self) -> None:
        found = self.channel((Phase.OPEN,))
        if found is not None:
            self._try(lambda: found[0].node.claim(found[1].channel_id, self.world.clock))

    def close(self) -> None:
        if (found := self.channel()) is not None:
            force = self.rng.random() < 0.4
            self._try(lambda: found[0].node.close(found[1].channel_id, force, self.world.clock))

    def open(self) -> None:
        alive = [node for node in self.world.nodes if node.alive]
        if len(alive) < 2:
            return
        a, b = self.rng.sample(alive, 2)
        self.world.settle()
        if b.id not in a.node.connections:
            self.world.connect(a, b)
        flags, window_s, max_batch = self.rng.choice((0, 0, 1)), self.rng.choice((20, 60)), self.rng.choice((1, 4096))
        deposit = self.rng.randint(1, 20_000)
        self._try(
            lambda: a.node.open_channel(
                b.id, self.world.ledger.asset_id, deposit, flags, window_s, max_batch, self.world.clock
            )
        )

    def wait(self) -> None:
        self.world.pass_time(self.rng.choice((0.1, 0.5, 1.0, 3.0)), step=0.5)

    def settle(self) -> None:
        self.world.settle()
        self.auditor.hear_all(self.world)
        for node in self.world.nodes:
            for channel in node.node.roster.live.values() if node.alive else ():
                if channel.held is not None and channel.phase is Phase.OPEN:
                    self.old_states.append((channel, closing.co_sign(channel, channel.held)))

    def cheat(self) -> None:
        """Somebody shows the ledger an old state, or none; everybody is there to answer."""
        found = [
            (channel, state)
            for channel, state in self.old_states
            if not (channel.one_way and channel.side == 1)  # its close settles at once, and robs itself alone
            and self.world.ledger.books.channel(channel.channel_id).status == OPEN
        ]
        if found:
            channel, state = self.rng.choice(found)
            states = (state,) if self.rng.random() < 0.7 else ()
            self.world.ledger.request(channel.key, ops.Close(channel.channel_id, states))

    @staticmethod
    def _try(what: Callable[[], object]) -> None:
        with suppress(LocalError):
            what()

    # --- The end -----------------------------------------------------------------------------

    def finish(self) -> None:
        """Everybody comes back; channels close in every way; the ledger pays out."""
        world = self.world
        for node in world.nodes:
            if not node.alive:
                node.restart()
            node.ledger_up = True
            if not node.node.ledger.connected:
                node.connect_ledger()
        self._reconnect()
        world.pass_time(2)
        self.auditor.check(world)
        if self.rng.random() < 0.5:
            self.cheat()
        for node in world.nodes:
            for channel in list(node.node.channels.values()):
                if channel.phase not in (Phase.SETTLED, Phase.ABANDONED) and self.rng.random() < 0.7:
                    force = self.rng.random() < 0.3
                    self._try(lambda n=node, c=channel, f=force: n.node.close(c.channel_id, f, world.clock))
        world.settle()
        for _ in range(40):
            left = [c for node in world.nodes for c in node.node.roster.live.values()]
            if not left:
                break
            self._reconnect()
            world.pass_time(CLOSE_TIMEOUT_S if self.rng.random() < 0.5 else CLAIM_WAIT_S / 4, step=5)
            for node in world.nodes:
                for channel in list(node.node.roster.live.values()):
                    self._try(lambda n=node, c=channel: n.node.close(c.channel_id, False, world.clock))
            world.settle()
        left = [c for node in world.nodes for c in node.node.roster.live.values()]
        assert all(c.phase is Phase.ACCEPTED and c.side == 1 for c in left), [c.phase for c in left]
        self.auditor.check_settled(world, self.funds)

    def _reconnect(self) -> None:
        nodes = self.world.nodes
        for index, a in enumerate(nodes):
            for b in nodes[index + 1 :]:
                if b.id not in a.node.connections or a.id not in b.node.connections:
                    self.world.connect(a, b)
        self.world.settle()
