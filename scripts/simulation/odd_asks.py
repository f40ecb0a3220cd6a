"""What owners should not ask for, by mistake or to see what happens: each must be refused, and be told so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from channelpay.messages import control
from channelpay.messages.control import Paid, PayEach, Refusal
from simulation.model import NO_ID, ChannelAccount, Payment, State
from simulation.world import FUNDS

if TYPE_CHECKING:
    from simulation.process import Life
    from simulation.workload import Owner

_MORE_THAN_THERE_IS: Final = 100 * FUNDS


async def top_up_too_much(owner: Owner, channel: ChannelAccount) -> None:
    """The account does not have it: the ledger refuses, and nothing may be said to have moved."""
    answer = await owner.call(control.TopupChannel(channel.channel_id, _MORE_THAN_THERE_IS))
    if isinstance(answer, control.ChannelOne):
        owner.world.account.find("duplicated", "a top-up that its account cannot pay is told as done", owner.name)


async def pay_other_amount(owner: Owner, channel: ChannelAccount) -> None:
    """A used id with another amount is refused, whatever happened to it."""
    mine = [p for p in channel.payments if p.payer == owner.name and p.state is State.PAID and p.payment_id != NO_ID]
    if mine:
        await owner.safely(_twist, owner, channel, owner.rng.choice(mine))


async def _twist(life: Life, owner: Owner, channel: ChannelAccount, payment: Payment) -> None:
    api = life.api
    if life.dead or api is None:
        return
    life.enter()
    record = (payment.amount + 1).to_bytes(8, "big") + payment.payment_id

    def done(answer: Paid | Refusal) -> None:
        if not life.dead and isinstance(answer, Paid):
            owner.world.account.find("duplicated", "a used id with another amount was paid", owner.name)

    api.pay_each(PayEach(0, channel.channel_id, record, b""), done)
