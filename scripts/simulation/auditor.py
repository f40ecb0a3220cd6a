"""The auditor: what owners asked for and were told, against stores, books and settlement. It imports no channel/.

Its model is small: a payment moved once, from payer to payee, or not at all; money on the ledger is where it was put.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

import apsw
from endurance.counters import Counters

from simulation import books
from simulation.archive import Archive
from simulation.books import Batch, Books, Row
from simulation.guarantees import LATENT_DAMAGE, Excuse, excuse_for
from simulation.model import NO_ID, ChannelAccount, Payment, Seen, State
from simulation.world import FUNDS, World

_LATE_S: Final = 40
"""A ledger that is down at a deadline pays out when it is up again."""


@dataclass(slots=True)
class Verdict:
    """`counters` must be clean; `excused` counts what the table of guarantees lets pass, by kind of finding."""

    counters: Counters
    excused: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        """Whether nothing was found that the table does not excuse."""
        return self.counters.clean


@dataclass(slots=True)
class Delivery:
    """What one direction of a channel brought, in the payee's store."""

    units: dict[int, int] = field(default_factory=dict)  # by payment number
    ids: dict[int, bytes] = field(default_factory=dict)
    memos: dict[int, bytes] = field(default_factory=dict)
    marked: set[int] = field(default_factory=set)  # numbers delivered as repetitions
    unknown: int = 0  # payments of which only the money is known
    total: int = 0
    newest: int = 0


def audit(world: World, archive: Archive) -> Verdict:
    """Judge a world in which every process has stopped; `archive` knows what was pruned."""
    return _Audit(world, archive).run()


class _Audit:
    def __init__(self, world: World, archive: Archive) -> None:
        self.world = world
        self.archive = archive
        self.account = world.account
        self.verdict = Verdict(Counters())
        self.names = {process.keys.account.public: process.name for process in world.nodes}

    def find(self, counter: str, what: str, excuse: Excuse | None = None) -> None:
        """Count a finding, or set it aside if the table says so."""
        if excuse is not None and counter in excuse.counters:
            self.verdict.excused[f"{excuse.name}: {counter}"] += 1
        else:
            self.verdict.counters.count(counter, what)

    def run(self) -> Verdict:
        """All counters."""
        try:
            on_ledger = books.books(self.world.ledger.disk.directory / "ledger.db")
            stores = {p.name: self._store(p.name) for p in self.world.nodes}
        except apsw.Error as error:
            damaged = any(p.disk.damaged for p in self.world.processes)
            self.find("unresolved", f"a file cannot be read: {error}", LATENT_DAMAGE if damaged else None)
            return self.verdict
        if self._is_damaged():
            return self.verdict
        self._conservation(on_ledger)
        for channel in self.account.channels.values():
            self._channel(channel, on_ledger.channels.get(channel.channel_id), stores)
        self._openings(on_ledger)
        self._disputes(books.disputes(self.world.ledger.disk.directory / "ledger.db"))
        self._queues(on_ledger)
        self._balances(on_ledger)
        self._as_seen(stores)
        for counter, what, names in self.account.findings:
            self.find(counter, what, excuse_for(self.world, *names))
        return self.verdict

    # --- Stores --------------------------------------------------------------------------------

    def _store(self, name: str) -> list[Batch]:
        directory = next(p.disk.directory for p in self.world.nodes if p.name == name)
        rows = self.archive.rows(name)
        if (left := books.requests(directory / "node.db")) and name not in self.world.cheaters:
            self.find(
                "unresolved", f"{name}: {left} requests to the ledger were left behind", excuse_for(self.world, name)
            )
        positions = sorted(
            (b.position, b.last_n - b.first_n + 1 if b.records is not None else 1)
            for b in rows
            if b.position is not None
        )
        expected = 0
        for position, size in positions:
            if position != expected:
                self.find("drift", f"{name}: journal position {position} follows {expected}")
            expected = position + size
        return rows

    def _delivery(self, name: str, rows: list[Batch], channel_id: bytes, payer: int, received: bool) -> Delivery:
        found = Delivery()
        for row in rows:
            if row.channel_id != channel_id or row.payer != payer:
                continue
            if row.first_n != found.newest + 1:
                self.find("drift", f"{name}: payment {row.first_n} follows {found.newest}")
            own = row.total - found.total
            if row.records is None:
                found.unknown += row.last_n - row.first_n + 1
            else:
                amounts = list(books.records(row.records))
                if len(amounts) != row.last_n - row.first_n + 1 or sum(units for units, _ in amounts) != own:
                    self.find("drift", f"{name}: the batch of payment {row.first_n} is not what its row says")
                for n, (units, payment_id) in enumerate(amounts, row.first_n):
                    found.units[n], found.ids[n] = units, payment_id
                found.memos |= {row.first_n + index: memo for index, memo in books.memos(row.memos)}
                found.marked |= {row.first_n + index for index in row.repeated}
            if received and row.position is None:
                self.find("drift", f"{name}: received payments that are not in the journal")
            found.total, found.newest = row.total, row.last_n
        return found

    def _as_seen(self, stores: dict[str, list[Batch]]) -> None:
        """What an application has read stays as it was."""
        for name, seen in self.account.seen.items():
            now = {
                b.position: Seen(b.channel_id, b.records or b"", b.memos, b.repeated)
                for b in stores[name]
                if b.position is not None
            }
            for position, row in seen.items():
                if now.get(position) != row:
                    self.find(
                        "drift", f"{name}: journal position {position} was read otherwise", excuse_for(self.world, name)
                    )

    # --- Channels ------------------------------------------------------------------------------

    def _channel(self, channel: ChannelAccount, row: Row | None, stores: dict[str, list[Batch]]) -> None:
        name = channel.channel_id.hex()[:8]
        if row is None:
            for payment in channel.payments:
                if payment.state is State.PAID:
                    self.find("lost", f"{name}: a payment was made on a channel that the ledger does not know")
            return
        if row.status != books.SETTLED:
            honest = [side for side in channel.sides if side not in self.world.cheaters]
            self.find("unresolved", f"{name}: not settled", excuse_for(self.world, *(honest or channel.sides)))
        totals = []
        for side, payer in enumerate(channel.sides):
            payee = channel.sides[1 - side]
            delivery = self._delivery(payee, stores[payee], channel.channel_id, side, received=True)
            sent = self._delivery(payer, stores[payer], channel.channel_id, side, received=False)
            self._payments(name, channel, payer, delivery)
            self._same_history(name, channel, delivery, sent, payer)
            totals.append((delivery, sent))
        if row.status == books.SETTLED:
            self._settlement(name, channel, row, totals)

    def _payments(self, name: str, channel: ChannelAccount, payer: str, delivery: Delivery) -> None:
        """Every payment against what was delivered."""
        excuse = excuse_for(self.world, payer, *(side for side in channel.sides if side != payer))
        mine = [p for p in channel.payments if p.payer == payer]
        by_id: defaultdict[bytes, list[int]] = defaultdict(list)
        for n, payment_id in delivery.ids.items():
            by_id[payment_id].append(n)
        known = {p.payment_id: p for p in mine if p.payment_id != NO_ID}
        anonymous = Counter((delivery.units[n], delivery.memos.get(n, b"")) for n in by_id.pop(NO_ID, []))
        for payment_id, numbers in by_id.items():
            payment = known.get(payment_id)
            if payment is None:
                self.find("phantom", f"{name}: {payer} never asked for payment {numbers[0]}", excuse)
                continue
            fresh = [n for n in numbers if n not in delivery.marked]
            if len(fresh) != 1 or min(numbers) not in fresh:
                what = f"{name}: of payments {numbers} of {payer} under one id {fresh} count as paid"
                self.find("duplicated", what, excuse)
            elif len(numbers) > 1 and payer not in self.world.cheaters:
                self.find("duplicated", f"{name}: one payment of {payer} was delivered as {numbers}", excuse)
            if any(delivery.memos.get(n, b"") != payment.memo for n in fresh):
                self.find("drift", f"{name}: payment {numbers[0]} has another memo than was given", excuse)
            if any(delivery.units[n] != payment.amount for n in numbers):
                self.find("drift", f"{name}: payment {numbers[0]} has another amount than was asked", excuse)
            if payment.state is State.REFUSED and not payment.may_be_paid:
                self.find(
                    "phantom",
                    f"{name}: payment {numbers[0]} was delivered, and its payer told that it is not paid",
                    excuse,
                )
            if payment.state is State.PAID and payment.n and payment.n not in numbers:
                self.find("drift", f"{name}: acknowledged as {payment.n}, delivered as {numbers}", excuse)
        room = delivery.unknown - self._anonymous(name, mine, anonymous, delivery.unknown, excuse)
        for payment in mine:
            if payment.payment_id == NO_ID:
                continue
            if payment.state is State.PAID and payment.payment_id not in by_id:
                if room:
                    room -= 1  # in the journal as money without records
                else:
                    self.find("lost", f"{name}: a payment of {payer} was acknowledged and is not delivered", excuse)
            if payment.open and payment.asked:
                self.find("unresolved", f"{name}: {payer} does not know what became of a payment", excuse)

    def _anonymous(
        self, name: str, mine: list[Payment], delivered: Counter[tuple[int, bytes]], room: int, excuse: Excuse | None
    ) -> int:
        """Payments without an id are known by amount and memo only; how many of `room` have no records."""
        surely = Counter((p.amount, p.memo) for p in mine if p.payment_id == NO_ID and p.state is State.PAID)
        perhaps = Counter(
            (p.amount, p.memo)
            for p in mine
            if p.payment_id == NO_ID and p.asked and (p.state is State.PAID or p.may_be_paid)
        )
        missing = surely - delivered
        if missing.total() > room:
            self.find("lost", f"{name}: acknowledged payments without id are not delivered: {dict(missing)}", excuse)
        if more := delivered - perhaps:
            self.find("phantom", f"{name}: payments without id that nobody made: {dict(more)}", excuse)
        return min(room, missing.total())

    def _same_history(self, name: str, channel: ChannelAccount, delivery: Delivery, sent: Delivery, payer: str) -> None:
        """Both stores tell the same of what both hold."""
        excuse = excuse_for(self.world, *channel.sides)
        for n in delivery.units.keys() & sent.units.keys():
            if (delivery.units[n], delivery.ids[n]) != (sent.units[n], sent.ids[n]) or delivery.memos.get(
                n
            ) != sent.memos.get(n):
                self.find("drift", f"{name}: payer and payee do not have the same payment {n}", excuse)
        if delivery.newest > sent.newest:
            self.find("drift", f"{name}: {payer} has forgotten payments after {sent.newest}", excuse)

    # --- The settlement ------------------------------------------------------------------------

    def _forgotten(self, channel: ChannelAccount, side: int) -> int:
        """Units that a party has signed away in all, where its store is an old copy and may not know."""
        heard = self.world.tap.channels.get(channel.channel_id)
        if heard is None or channel.sides[side] not in self.world.rolled_back:
            return 0
        return heard.total(side, heard.newest[side])

    def _settlement(
        self, name: str, channel: ChannelAccount, row: Row, totals: list[tuple[Delivery, Delivery]]
    ) -> None:
        if sum(row.outs) != sum(row.deposits) - sum(row.withdrawn):
            self.find("conservation", f"{name}: pays out {sum(row.outs)}")
        for side, owner in enumerate(channel.sides):
            delivered, signed = totals[side]
            received = totals[1 - side][0].total
            got = row.outs[side] + row.withdrawn[side]
            excuse = excuse_for(self.world, *channel.sides)
            paid = max(signed.total, delivered.total, self._forgotten(channel, side))
            # What is held signed counts, also where only a signature came and the payments did not (spec C-22).
            if got < row.deposits[side] - paid + max(received, channel.proved[side]):
                self.find(
                    "below_entitlement",
                    f"{name}: {owner} gets {got}, less than its entitlement",
                    excuse_for(self.world, owner),
                )
            if got != row.deposits[side] - delivered.total + received and owner not in self.world.cheaters:
                self.find("drift", f"{name}: the settlement is not what was paid: {owner} gets {got}", excuse)
            topups, withdrawals = channel.topups[side], channel.withdrawals[side]
            first = channel.opened[1] if side == 0 else 0
            extra = row.deposits[side] - (first if channel.opened[1] < 10**9 else row.deposits[side])
            if channel.opened[1] < 10**9 and not topups.surely <= extra <= topups.perhaps:
                self.find(
                    "duplicated",
                    f"{name}: top-ups of {owner}: {extra}, asked {topups.surely} to {topups.perhaps}",
                    excuse,
                )
            if channel.flags == 0 and not withdrawals.surely <= row.withdrawn[side] <= withdrawals.perhaps:
                self.find(
                    "duplicated",
                    f"{name}: withdrawals of {owner}: {row.withdrawn[side]},"
                    f" asked {withdrawals.surely} to {withdrawals.perhaps}",
                    excuse,
                )

    def _openings(self, on_ledger: Books) -> None:
        for channel_id, row in on_ledger.channels.items():
            if row.status != books.SETTLED and channel_id not in self.account.channels:
                owners = [self.names.get(account, "") for account in row.accounts]
                self.find(
                    "unresolved",
                    f"{channel_id.hex()[:8]}: a channel that no owner knows",
                    excuse_for(self.world, *owners),
                )

    def _disputes(self, ended: list[books.Dispute]) -> None:
        """Nobody is paid before the window is over, and nobody makes it longer (but the ledger, that was away)."""
        for dispute in ended:
            name = dispute.channel_id.hex()[:8]
            late_s = dispute.settled - dispute.deadline
            if late_s < 0 and not dispute.at_once:
                self.find("below_entitlement", f"{name}: a dispute was paid out {-late_s} s before its deadline")
            if late_s > _LATE_S and not dispute.extended:
                self.find("unresolved", f"{name}: a dispute was paid out {late_s} s after its deadline")

    def _queues(self, on_ledger: Books) -> None:
        """Who closes together pays first what was taken before: the queue is refused by a dispute alone.

        Or by a close that an old copy has forgotten.
        """
        for channel_id, channel in self.account.channels.items():
            failed = sum(1 for p in channel.payments if p.failed_in_queue and p.payer not in self.world.rolled_back)
            if failed and channel_id not in on_ledger.disputed:
                what = f"{channel_id.hex()[:8]}: {failed} payments were taken and then refused, without a dispute"
                self.find("unresolved", what, excuse_for(self.world, *channel.sides))

    def _is_damaged(self) -> bool:
        """Whether the production code refuses a file when it reads it wholly: what is in it says nothing then."""
        for process in self.world.processes:
            path = process.disk.directory / ("ledger.db" if process is self.world.ledger else "node.db")
            if process.disk.damaged and (why := books.refused(path)):
                self.find("unresolved", f"{process.name}: {why}", LATENT_DAMAGE)
                return True
        return False

    def _conservation(self, on_ledger: Books) -> None:
        held = sum(on_ledger.balances.values()) + sum(row.pot for row in on_ledger.channels.values())
        if held != on_ledger.issued:
            self.find("conservation", f"accounts and channels hold {held}, issued are {on_ledger.issued}")
        if on_ledger.unbalanced:
            self.find("conservation", f"{on_ledger.unbalanced} entries of the journal do not sum to zero")
        if on_ledger.wrong_after:
            self.find("conservation", f"{on_ledger.wrong_after} accounts are not what their journal says")

    def _balances(self, on_ledger: Books) -> None:
        expected = {process.keys.account.public: FUNDS for process in self.world.nodes}
        for row in on_ledger.channels.values():
            for side, account in enumerate(row.accounts):
                moved = row.withdrawn[side] + row.outs[side] - row.deposits[side]
                expected[account] = expected.get(account, 0) + moved
        for account, units in expected.items():
            if on_ledger.balances.get(account, 0) != units:
                name = self.names.get(account, "a stranger")
                self.find("conservation", f"{name} has {on_ledger.balances.get(account, 0)}, not {units}")
