"""What a ledger tells: records made from rows. Spec L-14, L-20.

Every view carries the journal number and the ledger's time that it shows, so that readings and
events can be put in order.
"""

from __future__ import annotations

from channelpay.ledger.books import AssetRow, ChannelRow, Holder, Line, ReadBooks, Rules
from channelpay.limits import MAX_PAGE
from channelpay.messages.ledger import (
    AccountView,
    AssetView,
    ChannelPage,
    ChannelView,
    Holding,
    JournalEntry,
    JournalPage,
    LedgerInfo,
)
from channelpay.messages.peer import Event
from channelpay.statements import Half

CHANNELS_PAGE = 128
"""Channels in one answer: 128 views of about 550 bytes stay below MAX_BODY_BYTES."""


def view_of(row: ChannelRow, number: int, time: int) -> ChannelView:
    """The channel at journal number `number`, read at `time` on the ledger's clock."""
    return ChannelView(
        row.channel_id, row.asset_id, row.key0, row.key1, row.account0, row.account1, row.open_nonce,
        row.flags, row.window_s, row.max_batch, row.status, row.deposit0, row.deposit1,
        row.withdrawn0, row.withdrawn1, row.half0.pack(), row.half1.pack(), row.deadline,
        row.out0, row.out1, row.opened, number, time,
    )  # fmt: skip


def row_of(view: ChannelView, number: int) -> ChannelRow:
    """The row whose view this is; `number` is its newest line."""
    return ChannelRow(
        view.channel_id, view.asset_id, view.key0, view.key1, view.account0, view.account1, view.open_nonce,
        view.flags, view.window_s, view.max_batch, view.status, view.deposit0, view.deposit1, view.opened, number,
        view.withdrawn0, view.withdrawn1, Half.unpack(view.half0), Half.unpack(view.half1), view.deadline,
        view.out0, view.out1,
    )  # fmt: skip


def asset_view(row: AssetRow) -> AssetView:
    """A registered asset."""
    return AssetView(row.asset_id, row.code, row.scale, row.issuer)


def info_view(books: ReadBooks, rules: Rules, ledger_id: bytes, now: int) -> LedgerInfo:
    """The ledger itself."""
    assets = tuple(asset_view(row) for row in books.assets())
    return LedgerInfo(
        ledger_id,
        now,
        books.number(),
        rules.operator,
        rules.min_window_s,
        rules.max_window_s,
        rules.min_deposit,
        assets,
    )


def account_view(books: ReadBooks, account: bytes, now: int) -> AccountView:
    """What the account holds now; a key that nobody has named holds nothing."""
    return _account_view(books, account, books.number(), now, None)


def _account_view(books: ReadBooks, account: bytes, number: int, time: int, at: int | None) -> AccountView:
    holdings = tuple(Holding(asset_id, units) for asset_id, units in books.holdings(account, at))
    return AccountView(account, number, time, holdings)


def channel_page(books: ReadBooks, account: bytes, after: int, now: int) -> ChannelPage:
    """The account's channels opened after line `after`."""
    rows = books.channels(account, after, CHANNELS_PAGE + 1)
    number = books.number()
    views = tuple(view_of(row, number, now) for row in rows[:CHANNELS_PAGE])
    return ChannelPage(views, views[-1].opened if len(rows) > CHANNELS_PAGE else None)


def journal_page(books: ReadBooks, account: bytes, after: int) -> JournalPage:
    """The account's own movements after line `after`."""
    lines = books.lines(account, after, MAX_PAGE + 1, own=True)
    entries = tuple(
        JournalEntry(
            line.number, line.time, line.kind, line.asset_id, line.counterpart, max(line.delta, 0), max(-line.delta, 0)
        )
        for line in lines[:MAX_PAGE]
    )
    return JournalPage(entries, entries[-1].number if len(lines) > MAX_PAGE else None)


def events(books: ReadBooks, account: bytes, after: int, limit: int = MAX_PAGE) -> list[Event]:
    """The next events of a subscription that has seen all up to line `after` (spec L-20, L-21)."""
    return [_event(books, line) for line in books.lines(account, after, limit, own=False)]


def _event(books: ReadBooks, line: Line) -> Event:
    if line.holder is Holder.CHANNEL:
        body = line.body
    else:
        body = _account_view(books, line.owner, line.number, line.time, line.number).encode()
    return Event(line.number, line.time, line.kind, line.owner, body)
