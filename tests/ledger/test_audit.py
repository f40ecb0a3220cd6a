"""An audit finds nothing in sound books, and finds each kind of damage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channelpay.ledger.audit import audit
from channelpay.ledger.books import Holder, Kind
from channelpay.ledger.views import row_of, view_of
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import OPEN, ChannelView
from channelpay.statements import FLAG_ONE_WAY, ZERO_HALF
from ledger_world import ALICE, BOB, CAROL, KEY0, KEY1, USD, WINDOW_S, World, final, half, state


@pytest.fixture
def world():
    world = World().with_money()
    disputed, claimed, world.open_one = world.open(1), world.open(2, FLAG_ONE_WAY), world.open(3)
    world.ask(BOB, ops.Topup(disputed, 1, 50))
    world.ask(KEY1, ops.Claim(claimed, state(claimed, half(1, 100))))
    world.ask(KEY1, ops.Close(claimed, (state(claimed, half(2, 200)),)))
    world.ask(KEY0, ops.Close(disputed, ()))
    world.ask(KEY1, ops.Respond(disputed, (state(disputed, half(5, 60)),)))
    world.now += WINDOW_S
    world.ask(CAROL, ops.Settle(disputed))
    world.books.set_clock(world.now)
    return world


def _change(world: World, find, **changes) -> None:
    journal = world.books._journal
    index = next(i for i, line in enumerate(journal) if find(line))
    journal[index] = journal[index]._replace(**changes)


def _change_view(world: World, kind: Kind, **changes) -> None:
    line = next(line for line in world.books._journal if line.kind is kind and line.holder is Holder.CHANNEL)
    view = ChannelView.decode(line.body)
    _change(world, lambda other: other.number == line.number, body=replace(view, **changes).encode())


def test_sound_books(world):
    result = audit(world.books)
    assert result.discrepancies == ()
    assert result.balanced
    (totals,) = result.assets
    assert totals.accounts + totals.channels == totals.issued == 20_000
    assert totals.channels == 1000
    assert (result.open_channels, result.closing_channels, result.settled_channels) == (1, 0, 2)
    assert result.lines == world.books.number()
    assert result.entries < result.lines


def test_empty_books():
    result = audit(World().books)
    assert (result.discrepancies, result.assets, result.lines, result.entries) == ((), (), 0, 0)


def test_rows_and_views_are_each_other(world):
    for row in world.books.all_channels():
        assert row_of(view_of(row, 99, 100), row.number) == row


DAMAGES = {
    "balance": (lambda w: w.books.put_balance(ALICE.public, USD, 1), "the index 1"),
    "balance of nobody": (lambda w: w.books.put_balance(bytes(32), USD, 1), "the journal says None, the index 1"),
    "issued": (lambda w: w.books.put_asset(replace(w.books.asset(USD), issued=1)), "the index 1"),
    "channel row": (lambda w: w.books._channels.pop(w.open_one), "the index None"),
    "clock": (lambda w: w.books.set_clock(0), "the clock 0 is behind"),
    "lost line": (lambda w: w.books._journal.pop(4), "follows number 4"),
    "entry that does not balance": (
        lambda w: _change(w, lambda line: line.kind is Kind.TOPUP, delta=-49), "does not sum to zero but to 1",
    ),
    "wrong balance after": (lambda w: _change(w, lambda line: line.number == 2, after=3), "not 3 as it says"),
    "time that goes back": (lambda w: _change(w, lambda line: line.kind is Kind.SETTLE, time=0), "is earlier"),
    "entry that begins elsewhere": (
        lambda w: _change(w, lambda line: line.kind is Kind.TOPUP, entry=1), "which does not begin here",
    ),
    "illegal step": (lambda w: _change_view(w, Kind.CLOSE, status=OPEN), "moves the channel from open to open"),
    "change of terms": (lambda w: _change_view(w, Kind.TOPUP, window_s=11), "changes what its kind may not change"),
    "deposit without money": (lambda w: _change_view(w, Kind.TOPUP, deposit1=51), "the channel's terms leave a pot of"),
    "lower half": (lambda w: _change_view(w, Kind.SETTLE, half0=ZERO_HALF.pack()), "lowers half0"),
    "wrong payout": (lambda w: _change_view(w, Kind.SETTLE, out0=801, out1=99), "the halves say"),
    "channel out of nothing": (lambda w: _change_view(w, Kind.OPEN, status=1), "opens it not"),
    "settled two_way at once": (lambda w: _settle_at_once(w), "without a dispute"),
}  # fmt: skip


def _settle_at_once(world: World) -> None:
    world.ask(CAROL, final(world.open_one, half(1, 5), ZERO_HALF, world.now))
    journal = world.books._journal
    journal[:] = [line._replace(kind=Kind.SETTLE) if line.kind is Kind.CLOSE_FINAL else line for line in journal]


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found(world, name):
    damage, sentence = DAMAGES[name]
    damage(world)
    found = audit(world.books).discrepancies
    assert any(sentence in text for text in found), found
