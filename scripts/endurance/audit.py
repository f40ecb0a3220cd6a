"""The judge: reads the ledger's books, the nodes' stores and the services' journals, after all daemons have ended.

It believes nobody's counters: histories are hashed again from their records, entitlements are summed from them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from channelpay.batches import NO_ID, Batch
from channelpay.channel.state import Channel, Phase
from channelpay.errors import BadSignature
from channelpay.ledger.audit import audit
from channelpay.ledger.books import ChannelRow
from channelpay.limits import RECORD_BYTES
from channelpay.messages.control import ENTRY_UNAVAILABLE
from channelpay.messages.ledger import SETTLED
from channelpay.statements import ZERO_HALF, Half
from channelpay.store.batches import JournalRow
from channelpay.store.ledger import open_books
from channelpay.store.node import NodeStore
from endurance.counters import Counters
from endurance.daemons import Daemon, World
from endurance.dealing import DEPOSIT_UNITS
from endurance.journal import read_journal

_PAGE: Final = 65_536


@dataclass
class Said:
    """What a service wrote down: payments by id, money moved by what it asked for, payments received."""

    asked: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    paid: dict[bytes, int] = field(default_factory=dict)
    refused: set[bytes] = field(default_factory=set)
    ordered: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    received: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    """(channel id, first number, records) of every batch, in order."""

    repeated: int = 0
    cursor: int = 0

    @classmethod
    def read(cls, place: Path) -> Said:
        """What stands in the two journals at `place`."""
        said = cls()
        for what, *rest in read_journal(place.with_suffix(".paid")):
            said._take(what, rest)
        for _, cursor, channel, first_n, _count, records, repeated in read_journal(place.with_suffix(".received")):
            said.received.append((bytes.fromhex(channel), first_n, bytes.fromhex(records)))
            said.repeated += len(repeated)
            said.cursor = cursor
        return said

    def _take(self, what: str, rest: list[Any]) -> None:
        if what == "asked":
            channel = bytes.fromhex(rest[0])
            self.asked.update({bytes.fromhex(key): (channel, units) for key, units in rest[1]})
        elif what == "paid":
            self.paid.update({bytes.fromhex(key): rest[2] for key in rest[1]})
        elif what == "refused":
            self.refused.update(bytes.fromhex(key) for key in rest[1])
        elif what == "ordered":
            self.ordered[rest[0], bytes.fromhex(rest[1])] += rest[2]


class Gap(NamedTuple):
    """An entry `records unavailable`: the ledger paid out these payments, and they never arrived (spec X-7)."""

    first_n: int
    last_n: int
    units: int


@dataclass
class Party:
    """One node: its store, the channels in it, what its service wrote down, and gaps in what it received."""

    node: Daemon
    store: NodeStore
    channels: dict[bytes, Channel]
    said: Said
    gaps: dict[bytes, list[Gap]]


@dataclass
class Findings:
    """The counters, and how much there was to judge."""

    counters: Counters = field(default_factory=Counters)
    channels: int = 0
    acknowledged: int = 0
    refused: int = 0
    received: int = 0
    without_records: int = 0
    """Payments that a dispute paid out before they arrived: the payee has the money, and an entry that says so."""


def judge(world: World, money: int) -> Findings:
    """Everything after a run in which each node began with `money` units and every channel should be settled."""
    found = Findings()
    with ExitStack() as stack:
        parties = {node.keys.account.public: stack.enter_context(_open_party(world, node)) for node in world.nodes}
        rows = _check_books(world, parties, money, found)
        for row in rows:
            _Settlement(row, (parties[row.account0], parties[row.account1]), found.counters).check()
        for party in parties.values():
            _check_party(party, rows, found)
    found.channels = len(rows)
    return found


@contextmanager
def _open_party(world: World, node: Daemon) -> Iterator[Party]:
    keys = node.keys
    store = NodeStore(node.home.node_db, keys.identity.public, world.ledger.keys.identity.public)
    try:
        channels = {c.channel_id: c for c in store.channels(keys)}
        yield Party(node, store, channels, Said.read(world.journal_of(node)), _gaps(store))
    finally:
        store.close()


def _check_books(world: World, parties: dict[bytes, Party], money: int, found: Findings) -> list[ChannelRow]:
    """The ledger's own audit, and where the money is; gives all channels."""
    counters = found.counters
    books = open_books(world.ledger.home.ledger_db)
    try:
        with books.snapshot():
            for discrepancy in audit(books).discrepancies:
                counters.count("conservation", discrepancy)
            rows = list(books.all_channels())
            for account, party in parties.items():
                expected = money + sum(_balance_change(row, account) for row in rows)
                held = books.balance(account, world.asset_id)
                if held != expected:
                    counters.count("conservation", f"{party.node.name} holds {held} units, its channels say {expected}")
    finally:
        books.close()
    return rows


def _balance_change(row: ChannelRow, account: bytes) -> int:
    """What a channel has taken from, or brought to, one of its accounts."""
    if account == row.account0:
        return row.out0 + row.withdrawn0 - row.deposit0
    return row.out1 + row.withdrawn1 - row.deposit1 if account == row.account1 else 0


class _Settlement:
    """One channel: what both stores hold of it, against what the ledger made of it."""

    def __init__(self, row: ChannelRow, parties: tuple[Party, Party], counters: Counters) -> None:
        self.row = row
        self.parties = parties
        self.counters = counters
        self.name = row.channel_id.hex()[:12]

    def check(self) -> None:
        """All of it."""
        if self.row.status != SETTLED:
            self.counters.count("unresolved", f"channel {self.name} is not settled on the ledger")
            return
        for side, party in enumerate(self.parties):
            channel = party.channels.get(self.row.channel_id)
            if channel is None or channel.phase is not Phase.SETTLED:
                where = "absent" if channel is None else channel.phase.name.lower()
                self.counters.count("unresolved", f"channel {self.name} is {where} at {party.node.name}")
                return
            self._check_money(side, party)
        for payer in (0, 1):
            self._check_history(payer)
        for side in (0, 1):
            self._check_entitlement(side)

    def _check_money(self, side: int, party: Party) -> None:
        """Nothing was put in or taken out that was not asked for, or more often than asked."""
        row, ordered = self.row, party.said.ordered
        key = row.channel_id
        most_in = (0 if side else DEPOSIT_UNITS) + ordered["topup", key]
        put_in, taken = ((row.deposit0, row.withdrawn0), (row.deposit1, row.withdrawn1))[side]
        if put_in > most_in:
            self.counters.count("duplicated", f"{party.node.name} put {put_in} into {self.name}, asked for {most_in}")
        claims = side == 1 and party.channels[key].one_way
        if taken > ordered["withdraw", key] and not claims:
            self.counters.count("duplicated", f"{party.node.name} took {taken} out of {self.name}, not as asked")

    def _half(self, payer: int) -> Half:
        return (self.row.half0, self.row.half1)[payer]

    def _check_history(self, payer: int) -> None:
        made, held = self._halves(payer, payer), self._halves(1 - payer, payer)
        settled = self._half(payer)
        by, to = self.parties[payer].node.name, self.parties[1 - payer].node.name
        what = f"channel {self.name}, payments of {by}"
        if held != made[: len(held)]:
            self.counters.count("drift", f"{what}: {to} holds {held[-1].n} that differ from what was paid")
        if made[-1] != self.parties[payer].channels[self.row.channel_id].own:
            self.counters.count("drift", f"{what}: its records end at {made[-1].n}, its counters do not")
        gap = self._gap(1 - payer)
        if gap is not None:
            held += [half for half in made if (half.n, half.total) == (gap.last_n, held[-1].total + gap.units)]
        if held[-1] != self.parties[1 - payer].channels[self.row.channel_id].peer:
            self.counters.count("drift", f"{what}: {to}'s records end at {held[-1].n}, its counters do not")
        if settled not in made:
            self.counters.count("drift", f"{what}: the ledger settled {settled.n}, which is no batch's end")
        self._check_receipt(payer, settled.n)
        self._check_payments(payer, settled.n, gap)

    def _gap(self, side: int) -> Gap | None:
        """What a dispute paid to a party beyond the records that it has; nothing else may leave a gap."""
        gaps = self.parties[side].gaps.get(self.row.channel_id, [])
        if len(gaps) > 1 or (gaps and not self.row.deadline):
            self.counters.count("drift", f"channel {self.name}: records are unavailable without a dispute")
        return gaps[0] if gaps else None

    def _check_receipt(self, payer: int, settled_n: int) -> None:
        """The payee's newest signature that the payer holds is sound, and the settlement goes at least as far."""
        channel = self.parties[payer].channels[self.row.channel_id]
        if channel.held is None:
            return
        try:
            channel.verify_state(*channel.held)
        except BadSignature:
            self.counters.count("lost", f"channel {self.name}: the receipt for {channel.acked.n} payments is unsound")
        if channel.acked.n > settled_n:
            self.counters.count("lost", f"channel {self.name}: receipt for {channel.acked.n}, settled {settled_n}")

    def _halves(self, side: int, payer: int) -> list[Half]:
        """The payer's half after each batch, from the records in the store of `side`; the empty half first."""
        party = self.parties[side]
        channel = party.channels[self.row.channel_id]
        halves = [ZERO_HALF]
        for batch in _batches(party.store, self.row.channel_id, payer):
            total = sum(amount for _, amount, _, _ in batch.payments())
            halves.append(channel.next_half(payer, halves[-1], batch, total))
        return halves

    def _check_payments(self, payer: int, settled_n: int, gap: Gap | None) -> None:
        """What the payer's service was told, against the records of the payee."""
        key = self.row.channel_id
        said, payee = self.parties[payer].said, self.parties[1 - payer]
        payments = (payment for batch in _batches(payee.store, key, payer) for payment in batch.payments())
        held = {n: (payment_id, amount) for n, amount, payment_id, _ in payments}
        numbers = {payment_id: n for n, (payment_id, _) in held.items()}
        if len(numbers) < len(held):
            self.counters.count("duplicated", f"{self.name}: {len(held)} payments, {len(numbers)} ids at the payee")
        for n, (payment_id, amount) in held.items():
            if said.asked.get(payment_id) != (key, amount) or payment_id in said.refused:
                self.counters.count("phantom", f"{self.name}: payment {n} of {amount} units, id {payment_id.hex()}")
        made = (payment for batch in _batches(self.parties[payer].store, key, payer) for payment in batch.payments())
        made_n = {payment_id: n for n, _, payment_id, _ in made}
        for payment_id, told_n in said.paid.items():
            if said.asked[payment_id][0] == key:
                n = made_n.get(payment_id, 0)
                known = numbers.get(payment_id) == n or (gap is not None and gap.first_n <= n <= gap.last_n)
                if not known or n > settled_n or told_n not in (0, n):
                    told = f"told {told_n}, made {n}, the payee has {numbers.get(payment_id)}, settled {settled_n}"
                    self.counters.count("lost", f"{self.name}: id {payment_id.hex()}, {told}")

    def _check_entitlement(self, side: int) -> None:
        row, party = self.row, self.parties[side]
        channel = party.channels[row.channel_id]
        put_in, taken, got = ((row.deposit0, row.withdrawn0, row.out0), (row.deposit1, row.withdrawn1, row.out1))[side]
        entitled = put_in - taken - channel.own.total + channel.peer.total
        if got < entitled:
            self.counters.count("below_entitlement", f"{self.name}: {party.node.name} got {got} of {entitled} units")


def _batches(store: NodeStore, channel_id: bytes, payer: int) -> Iterator[Batch]:
    """All batches of a payer; the store gives so many at a time."""
    next_n = 1
    while batches := store.batches(channel_id, payer, next_n):
        yield from batches
        next_n = batches[-1].last_n + 1


def _journal(store: NodeStore) -> Iterator[JournalRow]:
    """All that a store has received."""
    after = 0
    while rows := store.journal(after, _PAGE, _PAGE * RECORD_BYTES):
        yield from rows
        after = rows[-1].next_position


def _gaps(store: NodeStore) -> dict[bytes, list[Gap]]:
    found: defaultdict[bytes, list[Gap]] = defaultdict(list)
    for row in _journal(store):
        if row.kind == ENTRY_UNAVAILABLE:
            found[row.channel_id].append(Gap(row.first_n, row.first_n + row.size - 1, row.total))
    return found


def _check_party(party: Party, rows: list[ChannelRow], found: Findings) -> None:
    """One node and its service: nothing left open, and the service has read every payment once."""
    said, counters, name = party.said, found.counters, party.node.name
    on_ledger = {row.channel_id for row in rows}
    for payment_id, (channel_id, _) in said.asked.items():
        if payment_id not in said.paid and payment_id not in said.refused:
            counters.count("unresolved", f"{name}: payment {payment_id.hex()} has no answer")
        if payment_id in said.paid and channel_id not in on_ledger:
            counters.count("lost", f"{name}: payment {payment_id.hex()} on a channel that the ledger does not know")
    for request in party.store.requests():
        counters.count("unresolved", f"{name}: request {request.request_id.hex()} to the ledger is unanswered")
    journal = [(row.channel_id, row.first_n, row.records) for row in _journal(party.store)]
    if said.received != journal:
        short = len(said.received) < len(journal)
        counters.count("lost" if short else "duplicated", f"{name}: its service read {len(said.received)} batches, the "
                       f"store has {len(journal)}")  # fmt: skip
    ids = Counter(key for _, first_n, records in said.received for _, key, _ in Batch(first_n, records, b"").ids())
    for payment_id, times in ids.items():
        if times > 1 and payment_id != NO_ID:
            counters.count("duplicated", f"{name}: its service was paid {payment_id.hex()} {times} times")
    found.acknowledged += len(said.paid)
    found.refused += len(said.refused)
    found.received += sum(ids.values())
    found.without_records += sum(gap.last_n - gap.first_n + 1 for gaps in party.gaps.values() for gap in gaps)
