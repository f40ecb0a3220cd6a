"""Two ends of a channel under a stream of actions: honest owners, and a wire on which anything may happen.

What must hold: nothing is raised but named refusals; a message that was refused has changed nothing; nobody's balance
is ever below zero; and in the end the ledger gives each at least what his own signatures and his peer's say.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from channel_pair import Pair, Side
from channelpay.channel.state import Phase, ReceiveLimits
from channelpay.errors import LocalError, RemoteError
from channelpay.ledger.audit import audit
from channelpay.messages.ledger import CLOSING, SETTLED
from channelpay.messages.peer import Message
from channelpay.statements import FLAG_ONE_WAY, FLAG_TWO_WAY
from fuzz.source import Source

MOST_STEPS = 200
MAX_BATCHES = (1, 3, 4096)
LIMITS = (ReceiveLimits(1000, 100_000, 1), ReceiveLimits(5, 300, 2))
WAITS_S = (1, 5, 31, 130, 4000)


class TwoNodes:
    """The first byte chooses the terms; then each step is a byte for the action, and what that needs."""

    def __init__(self, source: Source) -> None:
        self.source = source
        terms = source.byte()
        limits = LIMITS[terms >> 3 & 1]
        self.pair = Pair(
            FLAG_ONE_WAY if terms & 1 else FLAG_TWO_WAY,
            max_batch=MAX_BATCHES[(terms >> 1 & 3) % 3],
            limits=(limits, limits),
        ).open()
        self.actions: tuple[Callable[[Side], None], ...] = (
            self.pay, self.deliver, self.run, self.mangle, self.repeat, self.lose, self.connect, self.crash, self.read,
            self.submit, self.topup, self.withdraw, self.close, self.force, self.claim, self.wait, self.stall,
        )  # fmt: skip

    def play(self) -> None:
        """All steps, then both settle."""
        for _ in range(MOST_STEPS):
            if not self.source:
                break
            which = self.source.byte()
            side = self.pair.sides[which & 1]
            with suppress(LocalError):  # the owner's wish was refused by name
                self.actions[(which >> 1) % len(self.actions)](side)
            self.hang_up_after_refusals()
            self.check()
        self.settle()

    # --- Actions ---------------------------------------------------------------------------

    def pay(self, side: Side) -> None:
        """Up to four payments."""
        side.pay(*(1 + self.source.byte() for _ in range(1 + self.source.below(4))))

    def deliver(self, side: Side) -> None:
        """Some of what is on its way arrives."""
        side.deliver(1 + self.source.below(4))

    def run(self, _: Side) -> None:
        """Everything arrives."""
        self.pair.run()

    def mangle(self, side: Side) -> None:
        """The next message arrives with one of its fields altered."""
        if side.inbox:
            self.arrive(side, lambda: self.altered(side.inbox.popleft()))

    def repeat(self, side: Side) -> None:
        """A message that the other has sent before arrives again."""
        sent = self.pair.other(side).sent
        if sent and side.c.connected:
            self.arrive(side, lambda: sent[self.source.number() % len(sent)])

    def lose(self, side: Side) -> None:
        """The next message is lost, as no connection would lose it."""
        if side.inbox:
            side.inbox.popleft()

    def connect(self, _: Side) -> None:
        """A new connection; what was on the old one is lost."""
        self.pair.connect()

    def crash(self, side: Side) -> None:
        """The process dies and starts again; it has not read the ledger then."""
        side.crash()
        side.stale = side.wants_reading = True

    def read(self, side: Side) -> None:
        """The ledger is read."""
        side.read()

    def submit(self, side: Side) -> None:
        """What waits for the ledger gets there."""
        side.submit()

    def topup(self, side: Side) -> None:
        """More money, as long as the ledger takes it."""
        if self.pair.row().status != SETTLED:
            self.pair.topup(side.party, 1 + self.source.byte())

    def withdraw(self, side: Side) -> None:
        side.withdraw(1 + self.source.byte())

    def close(self, side: Side) -> None:
        side.close()

    def force(self, side: Side) -> None:
        side.close(force=True)

    def claim(self, side: Side) -> None:
        side.claim()

    def wait(self, _: Side) -> None:
        """Time passes, and both may read the ledger; nobody sleeps through a dispute."""
        how = self.source.byte()
        if self.pair.row().status == CLOSING:
            self.answer_dispute()
        self.pair.pass_time(WAITS_S[(how >> 1) % len(WAITS_S)], read=bool(how & 1))

    def stall(self, side: Side) -> None:
        """The ledger has been silent for long."""
        side.stale = not side.stale

    def answer_dispute(self) -> None:
        """Both see it and show the ledger what they have, all of it within a second."""
        for _ in range(2):
            for side in self.pair.sides:
                side.stale = False
                side.read()
                side.advance()
                side.submit()

    # --- A bad wire ------------------------------------------------------------------------

    def arrive(self, side: Side, message: Callable[[], Message]) -> None:
        """A message arrives alone; if it is refused nothing has changed."""
        before, journal, refused = side.bytes(), len(side.disk.journal), len(side.errors)
        earlier = bool(side.c.held_back)  # may take effect together with it
        try:
            side.receive(message())
        except RemoteError:
            pass  # not even a message any more
        else:
            if len(side.errors) == refused:
                return
        assert earlier or side.bytes() == before, "a refused message changed the channel"
        assert earlier or len(side.disk.journal) == journal, "a refused message reached the journal"
        self.pair.cut()

    def altered(self, message: Message) -> Message:
        """Raises RemoteError if the alteration leaves no message."""
        fields = message.to_wire()
        index = self.source.below(len(fields))
        fields[index] = self.other(fields[index])
        return type(message).from_wire(fields)

    def other(self, value: Any) -> Any:
        """Another value in the place of this one."""
        match value:
            case int():
                return value ^ self.source.number(1 + self.source.below(8))
            case bytes() if value:
                changed = bytearray(value)
                changed[self.source.number() % len(value)] ^= 1 + self.source.below(255)
                return bytes(changed[: len(changed) - self.source.below(2) * self.source.byte()])
            case list() if value:
                changed = list(value)
                index = self.source.below(len(value))
                changed[index] = self.other(changed[index])
                return changed[: len(changed) - self.source.below(2)]
            case None:
                return self.source.take(self.source.byte())
        return value

    def hang_up_after_refusals(self) -> None:
        """A refusal ends the connection, as a node would."""
        if any(side.errors for side in self.pair.sides):
            self.pair.cut()
            for side in self.pair.sides:
                side.errors.clear()

    # --- What must hold --------------------------------------------------------------------

    def check(self) -> None:
        """After every step; also remembers what each was promised, as long as the ledger has not settled."""
        for side in self.pair.sides:
            if side.c.phase in (Phase.OPEN, Phase.SHUTDOWN):
                assert side.c.own_balance() >= 0
                assert side.c.peer_balance() >= 0
        if self.pair.row().status != SETTLED:
            self.due = [self.promised_to(side) for side in self.pair.sides]

    @staticmethod
    def promised_to(side: Side) -> int:
        """What the peer's signatures give, but for evidence that may come after a close that settles at once."""
        states = (side.c.held, None if side.c.one_way else side.c.evidence)
        return max((state.peer.total for state in states if state), default=0)

    def settle(self) -> None:
        """Both heal, one closes alone, and the ledger gives each what is his."""
        pair = self.pair
        for side in pair.sides:
            side.stale = False
            side.read()
        pair.clock += 10  # a refused submission waits
        pair.reconnect()
        self.check()
        pair.cut()
        with suppress(LocalError):  # it is over already
            pair.a.close(force=True)
        pair.run()
        for side in pair.sides:
            side.read()
        pair.run()
        pair.pass_time(pair.terms.window_s + 1)
        pair.books.set_clock(pair.time)
        assert audit(pair.books).balanced
        self.check_payouts()

    def check_payouts(self) -> None:
        row = self.pair.row()
        assert row.status == SETTLED
        for party, out in enumerate((row.out0, row.out1)):
            signed = max(state[party].total for state in self.pair.sides[party].key.states)
            deposit, withdrawn = (row.deposit0, row.deposit1)[party], (row.withdrawn0, row.withdrawn1)[party]
            assert out >= deposit - withdrawn - signed + self.due[party]
