"""What owners read: pages of the journal, histories, one payment by its id; each answer is checked at once.

Nothing may be skipped, shown twice or shown otherwise than before, whatever the size of the pages.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from channelpay.messages import control
from simulation.model import NO_ID, ChannelAccount, Payment, Seen, State

if TYPE_CHECKING:
    from simulation.paying import Payer

LOOKS: Final = 4
"""How often an owner asks: damage may be found by another who looks at the same time, and the node starts anew."""

_RECORD: Final = struct.Struct(">Q16s")


class Reader:
    """Reads what one owner's node shows."""

    def __init__(self, owner: Payer) -> None:
        self._owner = owner
        self._world = owner.world
        self._seen = owner.world.account.seen.setdefault(owner.name, {})

    def _find(self, what: str, *others: str) -> None:
        self._world.account.find("drift", what, *dict.fromkeys((self._owner.name, *others)))

    # --- The journal of received payments -------------------------------------------------------

    async def journal(self) -> None:
        """All of it from the beginning, in pages of some size; all that was read before must be there again."""
        after, misses, limit = 0, 0, self._owner.rng.choice((1, 7, 50, 1000))
        end = max((position + seen.size for position, seen in self._seen.items()), default=0)
        while misses < LOOKS:
            page = await self.page(after, limit)
            if not isinstance(page, control.ReceivedPage):
                misses += 1
            elif page.batches:
                after = page.cursor
            else:
                if after < end and not (after == 0 and self._world.limits.forgets):
                    self._find(f"the journal ends at {after}, and was read to {end} before")
                return

    async def go_on(self) -> None:
        """The newest page once more, as an application that does not know how far it had come."""
        await self.page(max(self._seen, default=0), 50)

    async def page(self, after: int, limit: int) -> Any:
        """The answer; what was read once must stay as it was."""
        page = await self._owner.call(control.Payments(after, limit, 0))
        if isinstance(page, control.ReceivedPage):
            self._check_page(page, after)
        return page

    def _check_page(self, page: control.ReceivedPage, after: int) -> None:
        expected: int | None = None
        for row in page.batches:
            seen = Seen(row.channel_id, row.records, row.memos, row.repeated)
            if expected is None:
                may_begin_later = after == 0 and self._world.limits.forgets
                if not row.position <= after < row.position + seen.size and not may_begin_later:
                    self._find(f"the page after {after} begins with {row.position}")
            elif row.position != expected:
                self._find(f"in a page of the journal {row.position} follows {expected}")
            if row.kind == control.ENTRY_PAYMENTS:
                units = [amount for amount, _ in _RECORD.iter_unpack(row.records)]
                if (len(units), sum(units)) != (row.count, row.total):
                    self._find(f"journal position {row.position} does not show what it says")
            if self._seen.setdefault(row.position, seen) != seen:
                self._find(f"journal position {row.position} changed")
            expected = row.position + seen.size
        if page.cursor != (after if expected is None else expected):
            self._find(f"the cursor of the page after {after} is {page.cursor}, and it ends at {expected}")

    # --- The history of a channel ---------------------------------------------------------------

    async def history(self, channel: ChannelAccount, payer: int) -> None:
        """One direction from a number on to its end."""
        signed = self._world.tap.channels.get(channel.channel_id)
        if signed is None or channel.sides[0] == channel.sides[1]:
            return
        own = channel.sides[payer] == self._owner.name
        newest = signed.newest[payer] if own else signed.claimed[1 - payer]
        rng = self._owner.rng
        from_n, limit = rng.choice((1, 1, rng.randint(1, newest + 1))), rng.choice((1, 10, 1000))
        began, settled = from_n, self._world.is_settled(channel.channel_id)
        while True:
            page = await self._owner.call(control.History(channel.channel_id, payer, from_n, limit))
            if not isinstance(page, control.HistoryPage):
                return
            if not page.batches:
                break
            self._check_history(channel, payer, page, from_n)
            from_n = page.next_n
        if from_n <= newest and not settled and not (began == 1 and self._world.limits.forgets):
            self._find(f"the history of party {payer} ends before {from_n}; there were {newest}", *channel.sides)

    def _check_history(self, channel: ChannelAccount, payer: int, page: control.HistoryPage, from_n: int) -> None:
        halves = self._world.tap.channels[channel.channel_id]
        expected = units = 0
        for batch in page.batches:
            amounts = [amount for amount, _ in _RECORD.iter_unpack(batch.records)]
            begins_there = batch.first_n <= from_n < batch.first_n + len(amounts)
            if not expected and not begins_there and (from_n > 1 or not self._world.limits.forgets):
                self._find(f"the history from {from_n} on begins with {batch.first_n}", *channel.sides)
            if expected and batch.first_n != expected:
                self._find(f"in a history {batch.first_n} follows {expected}", *channel.sides)
            expected, units = batch.first_n + len(amounts), units + sum(amounts)
        begin, end = page.batches[0].first_n - 1, expected - 1
        if page.next_n != expected:
            self._find(f"the history goes on at {page.next_n}, and its page ends at {end}", *channel.sides)
        known = halves.halves[payer]
        if begin in known and end in known and halves.total(payer, end) - halves.total(payer, begin) != units:
            self._find(f"the history of {begin + 1} to {end} is {units} units, not what was signed", *channel.sides)

    # --- One payment ----------------------------------------------------------------------------

    async def payment(self, channel: ChannelAccount, payment: Payment) -> None:
        """What the node says of it now, whatever becomes of it later."""
        before, denied, asked = payment.state, payment.denied, payment.asked
        view = await self._owner.call(control.FindPayment(payment.payment_id, channel.channel_id), patience_s=10.0)
        if not isinstance(view, control.PaymentView):
            return
        if view.status == control.PAYMENT_UNKNOWN:
            if before is State.PAID and not self._owner.may_be_forgotten(payment):
                self._find("a paid payment is unknown", *channel.sides)
            return
        if denied and payment.asked == asked and payment.denied:
            what = f"payment {view.n}: its payer was told that it is not paid, and status is {view.status}"
            self._world.account.find("phantom", what, self._owner.name)
        if view.amount != payment.amount:
            self._find(f"payment {view.n} shows {view.amount} units, asked were {payment.amount}", *channel.sides)
        if view.n and payment.n and view.n != payment.n:
            self._find(f"payment {payment.n} is shown as {view.n}", *channel.sides)
        shown = self._world.tap.acknowledged(channel.channel_id, self._owner.name)
        if view.status == control.PAYMENT_PAID and view.n > shown:
            what = f"payment {view.n} is shown as paid, and its payee has shown {shown}"
            self._world.account.find("lost", what, self._owner.name)

    async def answers(self, channel: ChannelAccount) -> None:
        """After the settlement: what the node says became of what is still open, and of some of the rest."""
        for payment in channel.payments:
            if payment.payer != self._owner.name or payment.payment_id == NO_ID:
                continue
            if payment.open or self._owner.rng.random() < 0.05:
                await self._answer(channel, payment)

    async def _answer(self, channel: ChannelAccount, payment: Payment) -> None:
        view = None
        for _ in range(LOOKS):
            view = view or await self._owner.call(control.FindPayment(payment.payment_id, channel.channel_id))
        if not isinstance(view, control.PaymentView):
            self._world.account.find("unresolved", "nobody tells what became of a payment", self._owner.name)
            return
        paid = view.status == control.PAYMENT_PAID
        # Of a channel that closes before its records came back, an old copy lacks payments for good.
        forgotten = self._owner.may_be_forgotten(payment) or self._owner.name in self._world.rolled_back
        if paid and view.amount != payment.amount:
            self._find(f"paid {view.amount} where {payment.amount} was asked")
        if payment.open and paid:
            self._owner.learn_paid(payment, view.n)
        elif payment.open:
            payment.state, payment.may_be_paid = State.REFUSED, forgotten
        elif paid != (payment.state is State.PAID) and (paid or not forgotten):
            self._find(f"told {payment.state.value}, now status {view.status}", *channel.sides)
