"""What owners ask their nodes to pay, in every way and again, and what they were told of each payment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from channelpay.errors import LocalError, Reason
from channelpay.messages import control
from channelpay.messages.control import Paid, PayEach, PayMany, Refusal
from simulation.caller import Caller
from simulation.model import NO_ID, UNEXCUSED, ChannelAccount, Payment, State, memos_of, records_of
from simulation.process import Life, NodeProcess
from simulation.reading import Reader
from simulation.world import World

_LEFT_OPEN: Final = (Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME, Reason.UNRESOLVED)
"""Reasons that say nothing about whether a payment was made."""

ANSWER_S: Final = 20.0
"""How long an owner waits before it looks for another way to learn what became of a payment."""


class Payer(Caller):
    """Remembers every payment that it asked for."""

    def __init__(self, world: World, process: NodeProcess) -> None:
        super().__init__(world, process)
        self.reader = Reader(self)
        self._calls = 0

    def payment(self, channel: ChannelAccount, most: int, named: bool = False) -> Payment:
        """A payment that this owner wants made; `named`: surely with an id."""
        payment_id = NO_ID
        if named or self.rng.random() < 0.9:
            stamp = int(self.process.time() * 1000).to_bytes(6, "big")
            payment_id = stamp + self.rng.randbytes(10)
        memo = self.rng.randbytes(self.rng.choice((1, 20))) if self.rng.random() < 0.1 else b""
        payment = Payment(self.name, channel.channel_id, payment_id, self.rng.randint(1, most), memo)
        channel.payments.append(payment)
        return payment

    async def pay(self, channel: ChannelAccount, count: int) -> None:
        """So many payments, in pieces, at the owner's pace; those that were cut off are asked for again."""
        most = self.rng.choice((10, 100, 1000))
        left = count
        while left:
            size = min(left, self.rng.choice((1, 1, 1, 2, 5, 12, 40)))
            left -= size
            payments = [self.payment(channel, most) for _ in range(size)]
            twice = payments[:1] if self.rng.random() < 0.1 and payments[0].payment_id != NO_ID else []
            await self.ask(channel, payments + twice, together=size > 1 and self.rng.random() < 0.4)
            if self.rng.random() < 0.2 and payments[-1].payment_id != NO_ID:
                await self.reader.payment(channel, payments[-1])
            if self.rng.random() < 0.3:
                await trio.sleep(self.rng.random() * 0.5)
            if self.rng.random() < 0.25:
                await self.answered(payments, 2.0)
            if self.rng.random() < 0.15:
                await self.repeat(channel)
        for _ in range(4):
            refused = [p for p in channel.payments if p.payer == self.name and p.state is State.REFUSED]
            if not refused:
                break
            await trio.sleep(1.0)
            await self.ask(channel, [p for p in refused if p.payment_id != NO_ID][:60])

    async def ask(self, channel: ChannelAccount, payments: list[Payment], together: bool = False) -> None:
        """Hand payments to the node; their answers come later."""
        async with trio.open_nursery() as nursery:  # a task of its own, which acts for the daemon
            nursery.start_soon(self.safely, self._ask, channel, payments, together)

    async def _ask(self, life: Life, channel: ChannelAccount, payments: list[Payment], together: bool) -> None:
        api = life.api
        if life.dead or api is None or not payments:
            return
        life.enter()
        self._calls += len(payments) + 1
        first = self._calls - len(payments)
        with trio.move_on_after(ANSWER_S) as scope:
            try:
                await api.wait_room(channel.channel_id)
            except LocalError:
                return
        if scope.cancelled_caught or life.dead:
            return
        for payment in payments:
            payment.state = State.ASKED if payment.state is not State.PAID else State.PAID
            payment.asked += 1
            payment.loose += 1
            payment.may_be_paid = True
        self.world.log("asked", self.name, len(payments))
        message = (first, channel.channel_id, records_of(payments), memos_of(payments))
        taken: list[None] = []  # not empty: the call was let in, and what is refused now was taken before
        if not together:
            api.pay_each(PayEach(*message), self._each(life, payments, first, taken))
        else:
            try:
                api.pay_many(PayMany(*message), self._many(life, payments))
            except LocalError as error:
                for payment in payments:
                    self._refused(payment, error, together=True)
        taken.append(None)

    def _each(
        self, life: Life, payments: list[Payment], first: int, taken: list[None]
    ) -> Callable[[Paid | Refusal], None]:
        def done(answer: Paid | Refusal) -> None:
            if life.dead:
                return
            if isinstance(answer, Refusal):
                self._refused(payments[answer.call_id - first], answer.error, taken=bool(taken))
                return
            for place in range(answer.count):
                payment = payments[answer.call_id - first + place]
                self._answered(payment, answer.first_n + place, repeated=bool(answer.repeated))

        return done

    def _many(self, life: Life, payments: list[Payment]) -> Callable[[Paid | LocalError], None]:
        def done(answer: Paid | LocalError) -> None:
            if life.dead:
                return
            if isinstance(answer, LocalError):
                for payment in payments:
                    self._refused(payment, answer, taken=True, together=True)
                return
            n = answer.first_n
            for payment in payments:
                # Payments whose ids were paid before are left out; where they are, the answer does not say.
                self._answered(payment, n if not answer.repeated else 0, repeated=not answer.count)
                n += 1

        return done

    def _answered(self, payment: Payment, n: int, *, repeated: bool) -> None:
        """An asking was answered with `paid`; `repeated`: by what had been paid before it."""
        payment.loose = max(0, payment.loose - 1)
        if repeated and payment.denied and not payment.loose:
            what = f"payment {n} had been made when its payer was told that it was not"
            self.world.account.find("phantom", what, self.name)
        self._paid(payment, n)

    def _paid(self, payment: Payment, n: int) -> None:
        self.world.log("paid", self.name, n)
        if payment.state is State.PAID and n and payment.n and n != payment.n:
            self.world.account.find("duplicated", f"one id was acknowledged as {payment.n} and as {n}", self.name)
        if n > (shown := self.world.tap.acknowledged(payment.channel_id, self.name)):
            what = f"payment {n} is told as paid, and its payee has shown {shown}"
            self.world.account.find("lost", what, self.name)
        payment.state, payment.denied = State.PAID, False
        payment.n = payment.n or n

    def _refused(self, payment: Payment, error: LocalError, *, taken: bool = False, together: bool = False) -> None:
        self.world.log("refused", self.name, error.reason.name)
        left_open = error.reason in _LEFT_OPEN
        if together and payment.loose > 1:  # one answer for all says nothing of what was asked before for some
            payment.loose -= 1
            left_open = True
        expired = error.reason is Reason.ID_EXPIRED and self.may_be_forgotten(payment)
        if expired and payment.asked > 1:  # this asking paid nothing, and of those before it nothing is said
            payment.loose = max(0, payment.loose - 1)
            left_open = True
        waits = error.reason in (Reason.STALLED, Reason.NOT_OPEN)
        if waits and payment.loose > 1 and self.name in self.world.rolled_back:
            payment.loose -= 1  # a store that went back may not know yet what came of the askings before
            left_open = True
        if not left_open:
            payment.loose = max(0, payment.loose - 1)
            payment.denied = not payment.loose and payment.state is not State.PAID
            payment.failed_in_queue |= taken and error.reason is Reason.CLOSING
        if payment.state is State.PAID:
            if error.reason in (Reason.ID_REUSED, Reason.ID_EXPIRED) and not expired:
                self.world.account.find("drift", f"a paid id is refused: {error}", self.name)
            return
        payment.state = State.UNKNOWN if left_open else State.REFUSED
        payment.may_be_paid = left_open

    def may_be_forgotten(self, payment: Payment) -> bool:
        """Whether the payment's id is so old that its node need not know it any more."""
        age_s = self.process.time() - int.from_bytes(payment.payment_id[:6], "big") / 1000
        return age_s >= self.world.limits.horizon_s

    def learn_paid(self, payment: Payment, n: int) -> None:
        """Its owner has found out otherwise than by an answer."""
        payment.loose = 0
        self._paid(payment, n)

    async def answered(self, payments: list[Payment], patience_s: float) -> bool:
        """Wait for answers; whether all have come."""
        deadline = trio.current_time() + patience_s
        while any(p.state is State.ASKED for p in payments) and trio.current_time() < deadline:
            if not self.process.alive:
                return False
            await trio.sleep(0.1)
        return not any(p.state is State.ASKED for p in payments)

    async def repeat(self, channel: ChannelAccount) -> None:
        """Ask again for something that is paid, under way or unknown: it is one payment all the same."""
        mine = [p for p in channel.payments if p.payer == self.name and p.payment_id != NO_ID and p.asked]
        if mine:
            again = self.rng.sample(mine, min(len(mine), self.rng.choice((1, 1, 3))))
            if self.rng.random() < 0.2:
                await self.ask(channel, again + again[:1])
            else:
                await self.ask(channel, again, together=self.rng.random() < 0.3)

    def process_ended(self, channels: list[ChannelAccount]) -> None:
        """The node is gone: nobody will answer what was asked of it."""
        for channel in channels:
            for payment in channel.payments:
                if payment.payer == self.name and payment.state is State.ASKED:
                    payment.state = State.UNKNOWN

    async def resolve(self, channel: ChannelAccount) -> None:
        """After the faults: ask again until every payment has an answer, or the channel cannot pay any more."""
        for _ in range(12):
            left = [p for p in channel.payments if p.payer == self.name and p.open and p.payment_id != NO_ID]
            left = [p for p in left if not self.may_be_forgotten(p)]
            if not left:
                return
            await self.ask(channel, left[:50])
            await self.answered(left, ANSWER_S)
            if any(p.state is State.ASKED for p in left):
                await trio.sleep(1.0)
        shown = await self.call(control.ShowChannel(channel.channel_id.hex()))
        is_open = isinstance(shown, control.ChannelOne) and shown.channel.phase == "open"
        waits = self.world.waiting & set(channel.sides)
        if is_open and not shown.channel.stalled and not waits:  # what stands still is looked at next
            self.world.account.find("unresolved", "payments have no answer, and nothing hinders them", UNEXCUSED)
        # The rest is looked up when the channel has settled.
