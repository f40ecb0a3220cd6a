"""What owners do with their nodes: open, pay in every way, retry, top up, withdraw, claim, look, close."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from channelpay.daemon.api import Api
from channelpay.errors import LocalError, Reason, StoreFailed
from channelpay.messages import control
from channelpay.messages.control import Paid, PayEach, PayMany, Refusal
from simulation import inquiries, odd_asks
from simulation.model import NO_ID, UNEXCUSED, ChannelAccount, Payment, State, Wish, memos_of, records_of
from simulation.process import Life, NodeProcess
from simulation.reading import Reader
from simulation.world import World, address_of, usd

_OPEN_TRIES: Final = 8
_ACTS: Final = (
    "topup", "topup", "withdraw", "withdraw", "claim", "claim", "look", "ask", "other amount", "history",
    "top-up too large",
)  # fmt: skip
_LEFT_OPEN: Final = (Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME, Reason.UNRESOLVED)
"""Reasons that say nothing about whether a payment was made."""

ANSWER_S: Final = 20.0
"""How long an owner waits before it looks for another way to learn what became of a payment."""


class Owner:
    """Whoever owns a node. It survives the node's crashes and remembers what it asked for."""

    def __init__(self, world: World, process: NodeProcess) -> None:
        self.world = world
        self.process = process
        self.name = process.name
        self.rng = random.Random(world.rng.random())
        self.reader = Reader(self)
        self._calls = 0

    # --- Asking --------------------------------------------------------------------------------

    async def api(self) -> tuple[Life, Api]:
        """The running node, as soon as there is one."""
        while not self.process.alive:
            await trio.sleep(0.2)
        life = self.process.life
        assert life is not None
        assert life.api is not None
        return life, life.api

    async def call(self, method: control.Method, patience_s: float = 90.0) -> Any:
        """The answer, or the LocalError that refused it, or None when there was none."""
        life, api = await self.api()
        answer: Any = None

        async def ask(scope: trio.CancelScope) -> None:
            nonlocal answer
            life.enter()
            try:
                answer = await api.call(method)
            except LocalError as error:
                answer = error
            except StoreFailed as failure:
                life.fail(failure)
                await trio.sleep_forever()  # until it has ended
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, nursery.cancel_scope)
            nursery.start_soon(_until_exit, life, nursery.cancel_scope)
            nursery.cancel_scope.deadline = trio.current_time() + patience_s
        if life.dead:
            answer = None
        self.world.log("answer", self.name, method.NAME, "none" if answer is None else type(answer).__name__)
        return answer

    # --- Channels ------------------------------------------------------------------------------

    async def open(self, peer: NodeProcess) -> ChannelAccount | None:
        """A channel with another node, or None if it could not be had."""
        known = set(self.world.account.channels)
        deposit = self.rng.choice((2_000, 20_000, 200_000))
        flags = self.rng.choice((0, 0, 0, 1))
        window_s = self.rng.choice((10, 30, 120))
        method = control.OpenChannel(address_of(peer), usd(), deposit, flags, window_s, 0)
        for _ in range(_OPEN_TRIES):
            answer = await self.call(method)
            await self.adopt(peer, deposit, flags)
            fresh = [
                c for key, c in self.world.account.channels.items() if key not in known and c.sides[0] == self.name
            ]
            if fresh:
                return fresh[0]
            if isinstance(answer, LocalError) and answer.reason is Reason.USAGE:
                raise AssertionError(str(answer))
            await trio.sleep(0.5 + self.rng.random())
        return None

    async def adopt(self, peer: NodeProcess, deposit: int, flags: int) -> None:
        """Take into the account what the node shows: an opening may have gone on after its call was cut off."""
        shown = await self.call(control.ListChannels(None, 1))
        if isinstance(shown, control.ChannelList):
            for info in shown.channels:
                if info.channel_id not in self.world.account.channels and info.side == 0:
                    self.world.account.channels[info.channel_id] = ChannelAccount(
                        info.channel_id, (self.name, peer.name), flags, info.window_s, (0, deposit)
                    )

    async def endow(self, channel: ChannelAccount) -> None:
        """Party 1 puts money in, so that it can pay."""
        side = channel.sides.index(self.name)
        if side == 1 and channel.flags == 0 and self.rng.random() < 0.8:
            await self.move(channel, channel.topups[side], control.TopupChannel, self.rng.choice((500, 5_000, 50_000)))

    # --- Paying --------------------------------------------------------------------------------

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

    async def safely(self, what: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        """Do it; a store that fails meanwhile ends the node."""
        life, _ = await self.api()
        try:
            await what(life, *arguments)
        except StoreFailed as failure:
            life.fail(failure)

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
        if error.reason is Reason.STALLED and payment.loose > 1 and self.name in self.world.rolled_back:
            payment.loose -= 1  # a store that waits may not know yet what came of the askings before
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

    # --- Money ---------------------------------------------------------------------------------

    async def act(self, channel: ChannelAccount) -> None:
        """One of the things that owners do beside paying."""
        side = channel.sides.index(self.name)
        what = self.rng.choice(_ACTS)
        units = self.rng.choice((1, 50, 500))
        if what == "topup":
            await self.move(channel, channel.topups[side], control.TopupChannel, units)
        elif what == "withdraw":
            if self.rng.random() < 0.5:
                units = await self._nearly_all(channel, units)
            await self.move(channel, channel.withdrawals[side], control.WithdrawChannel, units)
        elif what == "claim" and channel.flags == 1 and side == 1:
            await self.call(control.ClaimChannel(channel.channel_id))
        elif what == "ask":
            await inquiries.inquire(self, self.rng.choice(inquiries.ANY_TIME), channel, patience_s=6.0)
        elif what == "other amount":
            await odd_asks.pay_other_amount(self, channel)
        elif what == "history":
            await self.reader.history(channel, self.rng.randrange(2))
        elif what == "top-up too large":
            await odd_asks.top_up_too_much(self, channel)
        else:
            await self.reader.go_on()

    async def provoke(self, what: str) -> None:
        """Have the node do one certain thing, on a channel where it makes sense."""
        mine = [c for c in self.world.account.channels.values() if self.name in c.sides]
        if what == "claim":
            mine = [c for c in mine if c.flags == 1 and c.sides[1] == self.name]
        if not mine:
            return
        channel = self.rng.choice(mine)
        side = channel.sides.index(self.name)
        if what == "pay":
            payments = [self.payment(channel, 3) for _ in range(3)]
            with trio.move_on_after(1.0):
                await self.ask(channel, payments)
        elif what in ("topup", "withdraw"):
            wishes, method = (
                (channel.topups, control.TopupChannel)
                if what == "topup"
                else (channel.withdrawals, control.WithdrawChannel)
            )
            units = await self._nearly_all(channel, 1) if what == "withdraw" and self.rng.random() < 0.5 else 1
            await self.move(channel, wishes[side], method, units)
        else:
            await inquiries.inquire(self, what, channel, patience_s=3.0)

    async def _nearly_all(self, channel: ChannelAccount, units: int) -> int:
        """What the channel shows as spendable, so that payments and the withdrawal want the same money."""
        return max(units, await self.spendable(channel) - units)

    async def spendable(self, channel: ChannelAccount) -> int:
        """What the node shows."""
        shown = await self.call(control.ShowChannel(channel.channel_id.hex()))
        return shown.channel.balance if isinstance(shown, control.ChannelOne) else 0

    async def move(self, channel: ChannelAccount, wish: Wish, method: Any, units: int) -> None:
        """A top-up or a withdrawal."""
        wish.perhaps += units
        answer = await self.call(method(channel.channel_id, units))
        if isinstance(answer, control.ChannelOne):
            wish.surely += units
        elif isinstance(answer, LocalError) and answer.reason not in (
            Reason.TIMED_OUT,
            Reason.STOPPING,
            Reason.PEER_REFUSED,
        ):
            wish.perhaps -= units


async def _until_exit(life: Life, scope: trio.CancelScope) -> None:
    await life.exited.wait()
    scope.cancel()
