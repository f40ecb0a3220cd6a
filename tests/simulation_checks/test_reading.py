"""What owners read is judged: pages that skip something, show it otherwise, or do not add up."""

from __future__ import annotations

import random
import struct
from functools import partial
from types import SimpleNamespace

import pytest
import trio
from simulation.model import Account, ChannelAccount, Payment, State
from simulation.reading import Reader

from channelpay.messages import control

ID = b"c" * 32


class Shown:
    """An owner whose node shows what `pages` holds, whatever it is asked."""

    def __init__(self, *pages: object) -> None:
        self.name = "node1"
        self.rng = random.Random(1)
        self.pages = list(pages)
        account = Account()
        tap = SimpleNamespace(channels={ID: _signed()}, acknowledged=lambda channel_id, payer: 1)
        limits = SimpleNamespace(forgets=False)
        self.world = SimpleNamespace(account=account, tap=tap, limits=limits, is_settled=lambda channel_id: False)
        self.reader = Reader(self)

    async def call(self, method: control.Method, patience_s: float = 0.0) -> object:
        await trio.lowlevel.checkpoint()
        return self.pages.pop(0)

    def may_be_forgotten(self, payment: Payment) -> bool:
        return False

    def found(self, read) -> list[str]:
        """Counters of what is found when the owner reads so."""
        trio.run(read)
        return [counter for counter, *_ in self.world.account.findings]


def _signed() -> SimpleNamespace:
    """Three payments of 1, 2 and 3 units by party 0, as the wire has shown them."""
    totals = [0, 1, 3, 6]
    return SimpleNamespace(
        halves=(dict.fromkeys(range(4), b""), {}),
        newest=[3, 0],
        claimed=[0, 3],
        total=lambda payer, n: totals[n],
    )


def records(*amounts: int) -> bytes:
    return b"".join(struct.pack(">Q16s", amount, b"i" * 16) for amount in amounts)


def row(position: int, *amounts: int) -> control.ReceivedBatch:
    rows = records(*amounts)
    return control.ReceivedBatch(position, ID, 0, position + 1, len(amounts), sum(amounts), rows, b"", ())


def page(cursor: int, *rows: control.ReceivedBatch) -> control.ReceivedPage:
    return control.ReceivedPage(rows, cursor)


@pytest.mark.parametrize(
    ("after", "shown", "found"),
    [
        (0, page(3, row(0, 1), row(1, 2, 3)), []),
        (2, page(3, row(1, 2, 3)), []),  # whole batches
        (0, page(0), []),
        (0, page(4, row(0, 1), row(1, 2, 3)), ["drift"]),
        (0, page(3, row(1, 2, 3)), ["drift"]),
        (0, page(3, row(0, 1), row(2, 2)), ["drift"]),
        (0, page(1, control.ReceivedBatch(0, ID, 0, 1, 1, 2, records(1), b"", ())), ["drift"]),
    ],
)
def test_a_page_of_the_journal(after, shown, found):
    owner = Shown(shown)
    assert owner.found(partial(owner.reader.page, after, 50)) == found


def test_a_page_that_was_read_otherwise_before():
    owner = Shown(page(1, row(0, 1)), page(1, row(0, 2)))
    assert owner.found(partial(owner.reader.page, 0, 50)) == []
    assert owner.found(partial(owner.reader.page, 0, 50)) == ["drift"]


def test_a_journal_that_ends_before_it_did():
    owner = Shown(page(3, row(0, 1), row(1, 2, 3)), page(3), page(1, row(0, 1)), page(1))
    assert owner.found(owner.reader.journal) == []
    assert owner.found(owner.reader.journal) == ["drift"]


def history(next_n: int, *batches: control.HistoryBatch) -> control.HistoryPage:
    return control.HistoryPage(batches, next_n)


def batch(first_n: int, *amounts: int) -> control.HistoryBatch:
    return control.HistoryBatch(first_n, records(*amounts), b"")


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ([history(2, batch(1, 1)), history(4, batch(2, 2, 3)), history(4)], []),
        ([history(4, batch(2, 2, 3)), history(4)], ["drift"]),
        ([history(4, batch(1, 1), batch(3, 3)), history(4)], ["drift", "drift"]),
        ([history(5, batch(1, 1, 2, 3)), history(5)], ["drift"]),
        ([history(4, batch(1, 1, 2, 4)), history(4)], ["drift"]),
        ([history(2, batch(1, 1)), history(2)], ["drift"]),
    ],
)
def test_a_history(pages, found):
    owner = Shown(*pages)
    owner.rng = SimpleNamespace(choice=lambda options: options[0], randint=lambda least, most: least)
    channel = ChannelAccount(ID, ("node0", "node1"), 0, 60, (0, 1000))
    assert owner.found(partial(owner.reader.history, channel, 0)) == found


@pytest.mark.parametrize(
    ("state", "denied", "view", "found"),
    [
        (State.PAID, False, (control.PAYMENT_PAID, ID, 1, 5), []),
        (State.ASKED, False, (control.PAYMENT_SENT, ID, 2, 5), []),
        (State.ASKED, False, (control.PAYMENT_PAID, ID, 2, 5), ["lost"]),
        (State.PAID, False, (control.PAYMENT_UNKNOWN, None, 0, 0), ["drift"]),
        (State.REFUSED, True, (control.PAYMENT_UNKNOWN, None, 0, 0), []),
        (State.REFUSED, True, (control.PAYMENT_SENT, ID, 2, 5), ["phantom"]),
        (State.ASKED, False, (control.PAYMENT_SENT, ID, 2, 6), ["drift"]),
    ],
)
def test_one_payment_while_it_is_under_way(state, denied, view, found):
    payment = Payment("node1", ID, b"i" * 16, 5, state=state, denied=denied)
    owner = Shown(control.PaymentView(*view, payment.payment_id))
    channel = ChannelAccount(ID, ("node1", "node0"), 0, 60, (0, 1000))
    assert owner.found(partial(owner.reader.payment, channel, payment)) == found
