"""Random operations against a small model of their own; books in memory and on SQLite in step.

The model knows nothing of rows, journals or requests: it is the rules in thirty lines of sets and
numbers. Whatever happens, the books answer as it does, money is conserved, and the audit is clean.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from channelpay.ledger.audit import audit
from channelpay.ledger.memory import MemoryBooks
from channelpay.ledger.outcomes import Outcome
from channelpay.ledger.requests import Ledger, advance, execute
from channelpay.limits import OUTAGE_S
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import CLOSING, OPEN, SETTLED
from channelpay.messages.peer import Request, Response
from channelpay.statements import ZERO_HALF, Half
from channelpay.store.ledger import LedgerStore
from ledger_world import (
    ALICE,
    BOB,
    CAROL,
    ISSUER,
    KEY0,
    KEY1,
    LEDGER,
    OPERATOR,
    START,
    USD,
    WINDOW_S,
    World,
    final,
    opening,
    state,
    terms,
    withdrawal,
)

PEOPLE = (ALICE, BOB, CAROL)
people = st.sampled_from(range(3))
units = st.integers(0, 60)
parties = st.sampled_from((0, 1))
counts = st.integers(0, 4)
slips = st.integers(0, 9).map(lambda n: n == 0)
"""One in ten statements lacks a signature."""


@dataclass
class ModelChannel:
    """D, W, T, n of both parties and where the channel stands."""

    one_way: bool
    deposits: list[int]
    withdrawn: list[int] = field(default_factory=lambda: [0, 0])
    totals: list[int] = field(default_factory=lambda: [0, 0])
    numbers: list[int] = field(default_factory=lambda: [0, 0])
    status: int = OPEN
    deadline: int = 0

    def pot(self) -> int:
        return 0 if self.status == SETTLED else sum(self.deposits) - sum(self.withdrawn)

    def merge(self, pairs: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
        for pair in pairs:
            for party, (number, total) in enumerate(pair):
                self.numbers[party] = max(self.numbers[party], number)
                self.totals[party] = max(self.totals[party], total)

    def share(self) -> int:
        owed = self.deposits[1] - self.withdrawn[1] - self.totals[1] + self.totals[0]
        return min(max(owed, 0), self.pot())

    def refused_for_time(self, now: int) -> Outcome:
        if self.status == SETTLED:
            return Outcome.ALREADY_SETTLED
        if self.status == CLOSING and now >= self.deadline:
            return Outcome.DEADLINE_PASSED
        return Outcome.DONE


def _half(number: int, extra: int) -> tuple[int, int]:
    """(n, T): extra may make a higher n show a lower T, which is an equivocation."""
    return (number, number + extra) if number else (0, 0)


halves = st.builds(_half, counts, st.integers(0, 40))
pairs = st.tuples(halves, halves)


def _signed(pair: tuple[tuple[int, int], tuple[int, int]]) -> tuple[Half, Half]:
    one, other = (Half(n, t, bytes([n]) * 32) if n else ZERO_HALF for n, t in pair)
    return one, other


class LedgerMachine(RuleBasedStateMachine):
    """Rules are operations; each checks the books' answer against the model's."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "ledger.db"
        self.store = LedgerStore.create(self.path, LEDGER.public, START)
        self.world = World(MemoryBooks(START))
        self.held = [0, 0, 0]
        self.issued = 0
        self.channels: dict[bytes, ModelChannel] = {}
        self.answered: list[tuple[Request, Response, int]] = []
        self.ask(OPERATOR, ops.CreateAsset("USD", 6, ISSUER.public), Outcome.DONE)
        # Something to work with from the first step on: money, and a channel of each kind.
        for person in range(3):
            self.issue_to(person, 100)
        for flags in (0, 1):
            self.open_with(40, flags, nonce=0)

    def teardown(self) -> None:
        in_memory, on_disk = audit(self.world.books), audit(self.store.books)
        assert in_memory == on_disk
        assert in_memory.discrepancies == ()
        assert list(self.world.books.whole_journal()) == list(self.store.books.whole_journal())
        self.store.close()
        self.directory.cleanup()

    def ask(self, signer, operation, expected: Outcome):
        """Both books answer with the expected outcome and with the same bytes."""
        request = self.world.request(signer, operation)
        response = self.send(request)
        assert Outcome(response.outcome) is expected
        if expected is Outcome.DONE:
            self.answered.append((request, response, self.world.now + 60))

    def send(self, request):
        """What both books answer."""
        response = self.world.send(request)
        ledger: Ledger = self.world.ledger
        on_disk, _ = self.store.commit(lambda books: execute(ledger, books, request, self.world.now))
        assert on_disk == response
        return response

    def pick(self, index: int) -> bytes:
        return list(self.channels)[index % len(self.channels)]

    # --- Money -----------------------------------------------------------------------------

    @rule(person=people, amount=units)
    def issue(self, person, amount):
        self.issue_to(person, amount)

    def issue_to(self, person, amount):
        expected = Outcome.DONE if amount else Outcome.ZERO_AMOUNT
        self.ask(ISSUER, ops.Issue(USD, PEOPLE[person].public, amount), expected)
        self.held[person] += amount
        self.issued += amount

    def spendable(self, person: int, amount: int) -> Outcome:
        return Outcome.DONE if amount <= self.held[person] else Outcome.INSUFFICIENT_FUNDS

    @rule(person=people, amount=units)
    def redeem(self, person, amount):
        expected = self.spendable(person, amount) if amount else Outcome.ZERO_AMOUNT
        self.ask(PEOPLE[person], ops.Redeem(USD, amount), expected)
        if expected is Outcome.DONE:
            self.held[person] -= amount
            self.issued -= amount

    @rule(source=people, payee=people, amount=units)
    def transfer(self, source, payee, amount):
        expected = self.spendable(source, amount) if amount else Outcome.ZERO_AMOUNT
        self.ask(PEOPLE[source], ops.Transfer(USD, PEOPLE[payee].public, amount), expected)
        if expected is Outcome.DONE:
            self.held[source] -= amount
            self.held[payee] += amount

    # --- Channels --------------------------------------------------------------------------

    @rule(deposit=units, flags=parties, nonce=st.integers(0, 3))
    def open(self, deposit, flags, nonce):
        self.open_with(deposit, flags, nonce)

    def open_with(self, deposit, flags, nonce):
        what = terms(nonce, flags)
        if what.channel_id() in self.channels:
            expected = Outcome.ALREADY_OPEN
        elif deposit < 5:
            expected = Outcome.DEPOSIT_TOO_SMALL
        else:
            expected = self.spendable(0, deposit)
        self.ask(ALICE, opening(what, deposit), expected)
        if expected is Outcome.DONE:
            self.held[0] -= deposit
            self.channels[what.channel_id()] = ModelChannel(bool(flags), [deposit, 0])

    @rule(index=counts, person=people, party=parties, amount=units)
    def topup(self, index, person, party, amount):
        channel = self.pick(index)
        model = self.channels[channel]
        if not amount:
            expected = Outcome.ZERO_AMOUNT
        elif model.status == SETTLED:
            expected = Outcome.ALREADY_SETTLED
        else:
            expected = self.spendable(person, amount)
        self.ask(PEOPLE[person], ops.Topup(channel, party, amount), expected)
        if expected is Outcome.DONE:
            self.held[person] -= amount
            model.deposits[party] += amount

    @rule(index=counts, party=parties, total=units, late=slips)
    def withdraw(self, index, party, total, late):
        channel = self.pick(index)
        model = self.channels[channel]
        more = total - model.withdrawn[party]
        if model.status == SETTLED:
            expected = Outcome.ALREADY_SETTLED
        elif late:
            expected = Outcome.EXPIRED_AGREEMENT
        elif more <= 0:
            expected = Outcome.NOT_HIGHER
        else:
            expected = Outcome.DONE if more <= model.pot() else Outcome.BEYOND_POT
        self.ask(CAROL, withdrawal(channel, party, total, self.world.now - int(late)), expected)
        if expected is Outcome.DONE:
            model.withdrawn[party] = total
            self.held[party] += more

    @rule(index=counts, pair=pairs)
    def claim(self, index, pair):
        channel = self.pick(index)
        model = self.channels[channel]
        expected = model.refused_for_time(self.world.now) if model.one_way else Outcome.NOT_ONE_WAY
        self.ask(KEY1, ops.Claim(channel, state(channel, *_signed(pair))), expected)
        if expected is Outcome.DONE:
            model.merge([pair])
            share = model.share()
            model.withdrawn[1] += share
            self.held[1] += share

    @rule(index=counts, party=parties, shown=st.lists(pairs, max_size=2), unsigned=slips)
    def close(self, index, party, shown, unsigned):
        channel = self.pick(index)
        model = self.channels[channel]
        expected = model.refused_for_time(self.world.now)
        states = self.states(channel, shown, unsigned)
        if expected is Outcome.DONE and shown and unsigned:
            expected = Outcome.BAD_STATE_SIGNATURE
        self.ask((KEY0, KEY1)[party], ops.Close(channel, states), expected)
        if expected is Outcome.DONE:
            model.merge(shown)
            if model.one_way and party == 1 and shown:
                self.settled(model)
            elif model.status == OPEN:
                model.status, model.deadline = CLOSING, self.world.now + WINDOW_S

    @rule(index=counts, person=people, shown=st.lists(pairs, max_size=2), unsigned=slips)
    def respond(self, index, person, shown, unsigned):
        channel = self.pick(index)
        model = self.channels[channel]
        expected = model.refused_for_time(self.world.now)
        if model.status == OPEN:
            expected = Outcome.NOT_CLOSING
        elif expected is Outcome.DONE and not shown:
            expected = Outcome.NO_STATE
        elif expected is Outcome.DONE and unsigned:
            expected = Outcome.BAD_STATE_SIGNATURE
        self.ask(PEOPLE[person], ops.Respond(channel, self.states(channel, shown, unsigned)), expected)
        if expected is Outcome.DONE:
            model.merge(shown)

    @rule(index=counts, pair=pairs, late=slips)
    def close_final(self, index, pair, late):
        channel = self.pick(index)
        model = self.channels[channel]
        if model.status == SETTLED:
            expected = Outcome.ALREADY_SETTLED
        else:
            expected = Outcome.EXPIRED_AGREEMENT if late else Outcome.DONE
        self.ask(CAROL, final(channel, *_signed(pair), self.world.now - int(late)), expected)
        if expected is Outcome.DONE:
            model.merge([pair])
            self.settled(model)

    @rule(index=counts)
    def settle(self, index):
        channel = self.pick(index)
        model = self.channels[channel]
        if model.status == CLOSING:
            expected = Outcome.DONE if self.world.now >= model.deadline else Outcome.DEADLINE_NOT_REACHED
        else:
            expected = Outcome.NOT_CLOSING if model.status == OPEN else Outcome.ALREADY_SETTLED
        self.ask(CAROL, ops.Settle(channel), expected)
        if expected is Outcome.DONE:
            self.settled(model)

    @rule(seconds=st.sampled_from((1, WINDOW_S // 2, WINDOW_S)))
    def wait(self, seconds):
        self.world.now += seconds

    @rule(index=st.integers(0, 99))
    def ask_again(self, index):
        """What was done is told again and not done again; once its time is over, it is refused."""
        request, response, valid_until = self.answered[index % len(self.answered)]
        again = self.send(request)
        if self.world.now <= valid_until:
            assert again == response
        else:
            assert Outcome(again.outcome) is Outcome.EXPIRED

    @rule(seconds=st.sampled_from((1, OUTAGE_S, OUTAGE_S + 1, WINDOW_S)))
    def restart(self, seconds):
        """The process is gone for a while: the file is opened again, and after an outage windows have time left."""
        self.store.commit(lambda books: books.set_clock(self.world.now))
        self.world.books.set_clock(self.world.now)
        self.store.close()
        self.store = LedgerStore.open(self.path, LEDGER.public)
        ledger, before, wall = self.world.ledger, self.world.now, self.world.now + seconds
        (now, _), there = self.store.commit(lambda books: advance(ledger, books, wall)), self.world.books
        assert advance(ledger, there, wall) == now == wall
        self.world.now = now
        for model in self.channels.values():
            if model.status == CLOSING and seconds > OUTAGE_S and model.deadline > before:
                model.deadline = max(model.deadline, now + WINDOW_S)

    def settled(self, model: ModelChannel) -> None:
        share = model.share()
        self.held[1] += share
        self.held[0] += model.pot() - share
        model.status = SETTLED

    @staticmethod
    def states(channel, shown, unsigned):
        states = [state(channel, *_signed(pair)) for pair in shown]
        if states and unsigned:
            last = states[-1]
            states[-1] = ops.CoSigned(last.half0, last.half1, last.signature0, bytes(64))
        return tuple(states)

    # --- What always holds -----------------------------------------------------------------

    @invariant()
    def the_books_agree_with_the_model(self):
        books = self.store.books
        assert [books.balance(person.public, USD) for person in PEOPLE] == self.held
        for channel, model in self.channels.items():
            row = books.channel(channel)
            assert row == self.world.books.channel(channel)
            assert (row.status, row.pot, row.deadline) == (model.status, model.pot(), model.deadline)
            assert [row.deposit0, row.deposit1] == model.deposits
            assert [row.withdrawn0, row.withdrawn1] == model.withdrawn
            assert [row.half0.n, row.half1.n] == model.numbers
            assert [row.half0.total, row.half1.total] == model.totals

    @invariant()
    def money_is_conserved(self):
        pots = sum(row.pot for row in self.store.books.all_channels())
        balances = sum(held for _, _, held in self.store.books.all_balances())
        assert pots + balances == self.issued


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=60, stateful_step_count=40)
