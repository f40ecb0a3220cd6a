"""Commands that look into the books: accounts, journal, audit. The operator reads the file itself. Spec N-23."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from channelpay.cli.app import Shared, connected, local, shared
from channelpay.cli.exits import CommandError, Exit
from channelpay.cli.inputs import AccountText
from channelpay.cli.ledger_link import Ask, access, converse, ledger_option
from channelpay.cli.ledger_views import account_id, account_json, account_pairs, entry_json
from channelpay.cli.show import moment, print_json, print_pairs, print_table
from channelpay.cli.views import SHORT_ID, Assets
from channelpay.keys import Address
from channelpay.ledger.books import Holder
from channelpay.messages import ledger as wire

if TYPE_CHECKING:
    from channelpay.store.ledger_books import SqlReadBooks


@contextmanager
def _books(options: Shared) -> Iterator[SqlReadBooks]:
    """The books of the ledger whose home this is, read beside the daemon that may be running."""
    from channelpay.store.ledger import open_books  # only the operator's commands need SQLite

    books = open_books(options.home.ledger_db)
    try:
        with books.snapshot():
            yield books
    finally:
        books.close()


def _assets(books: SqlReadBooks) -> Assets:
    return Assets([wire.AssetView(row.asset_id, row.code, row.scale, row.issuer) for row in books.assets()])


@click.command()
@click.argument("account", type=AccountText(), metavar="ACCOUNT", required=False)
@ledger_option
@connected
def accounts(account: bytes | None, ledger: Address | None) -> None:
    """Balances: of all accounts on the ledger's own home, of this node's account on a node's, or of the one named."""
    who = access(shared(), ledger)
    if account is None and who.operator:
        _all_accounts()
        return

    async def conversation(ask: Ask) -> tuple[wire.AccountView, Assets]:
        info = await ask(wire.Info(), wire.LedgerInfo)
        return await ask(wire.Account(account or who.account.public), wire.AccountView), Assets(info.assets)

    view, assets = converse(shared(), who, conversation)
    if shared().json:
        print_json({"accounts": [account_json(view, assets)]})
    else:
        print_pairs(account_pairs(view, assets))


def _all_accounts() -> None:
    with _books(shared()) as books:
        assets, number, time = _assets(books), books.number(), books.clock()
        views = [
            wire.AccountView(owner, number, time, tuple(wire.Holding(asset_id, units) for _, asset_id, units in rows))
            for owner, rows in itertools.groupby(sorted(books.all_balances()), key=lambda row: row[0])
        ]
    if shared().json:
        print_json({"accounts": [account_json(view, assets) for view in views]})
        return
    rows = [
        (account_id(view.account), assets.text(holding.units, holding.asset_id))
        for view in views
        for holding in view.holdings
    ]
    print_table(["ACCOUNT", "HOLDS"], rows, right=["HOLDS"])


@click.command()
@click.option("--after", type=click.IntRange(0), default=0, metavar="N", help="The journal number to go on from.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="How many at most.")
@ledger_option
@connected
def journal(after: int, limit: int, ledger: Address | None) -> None:
    """Movements of this home's account; on the ledger's own home every line of the journal."""
    who = access(shared(), ledger)
    if who.operator:
        _whole_journal(after, limit)
        return

    async def conversation(ask: Ask) -> tuple[list[wire.JournalEntry], Assets]:
        info = await ask(wire.Info(), wire.LedgerInfo)
        entries: list[wire.JournalEntry] = []
        more: int | None = after
        while more is not None and len(entries) < limit:
            page = await ask(wire.Journal(more), wire.JournalPage)
            entries += page.entries
            more = page.more
        return entries[:limit], Assets(info.assets)

    entries, assets = converse(shared(), who, conversation)
    rows = [entry_json(entry, assets) for entry in entries]
    if shared().json:
        print_json({"entries": rows, "cursor": rows[-1]["number"] if rows else after})
        return
    print_table(
        ["NUMBER", "TIME", "KIND", "IN", "OUT", "WITH"],
        [
            (
                str(entry.number),
                moment(entry.time),
                entry.kind,
                row["credit"]["text"] if entry.credit else "",
                row["debit"]["text"] if entry.debit else "",
                row["subject"][:SHORT_ID],
            )
            for entry, row in zip(entries, rows, strict=True)
        ],
        right=["NUMBER", "IN", "OUT"],
    )


def _whole_journal(after: int, limit: int) -> None:
    with _books(shared()) as books:
        assets = _assets(books)
        lines = list(itertools.islice((line for line in books.whole_journal() if line.number > after), limit))
    rows = [
        {
            "number": line.number,
            "entry": line.entry,
            "time": line.time,
            "kind": str(line.kind),
            "holder": line.holder.name.lower(),
            "owner": account_id(line.owner) if line.holder == Holder.ACCOUNT else line.owner.hex(),
            "asset": assets.code(line.asset_id),
            "delta": assets.amount(line.delta, line.asset_id),
            "after": assets.amount(line.after, line.asset_id),
            "subject": line.counterpart.hex(),
        }
        for line in lines
    ]
    if shared().json:
        print_json({"lines": rows, "cursor": lines[-1].number if lines else after})
        return
    print_table(
        ["NUMBER", "ENTRY", "TIME", "KIND", "HOLDER", "OWNER", "CHANGE", "AFTER"],
        [_journal_row(row) for row in rows],
        right=["NUMBER", "ENTRY", "CHANGE", "AFTER"],
    )


def _journal_row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(row["number"]),
        str(row["entry"]),
        moment(row["time"]),
        row["kind"],
        row["holder"],
        row["owner"][:SHORT_ID],
        row["delta"]["text"],
        row["after"]["text"],
    )


@click.command()
@local
def audit() -> None:
    """Recompute everything from the journal and say whether the books balance (exit code 1 if not)."""
    access(shared()).must_be_operator("audit")
    from channelpay.ledger.audit import audit as recompute

    with _books(shared()) as books:
        found = recompute(books)
        assets = _assets(books)
    totals: list[dict[str, Any]] = [
        {
            "asset": total.code,
            "issued": assets.amount(total.issued, total.asset_id),
            "accounts": assets.amount(total.accounts, total.asset_id),
            "channels": assets.amount(total.channels, total.asset_id),
        }
        for total in found.assets
    ]
    channels = {"open": found.open_channels, "closing": found.closing_channels, "settled": found.settled_channels}
    if shared().json:
        print_json(
            {
                "balanced": found.balanced,
                "discrepancies": list(found.discrepancies),
                "assets": totals,
                "lines": found.lines,
                "entries": found.entries,
                "channels": channels,
            }
        )
        if not found.balanced:
            raise click.exceptions.Exit(Exit.INTERNAL)
        return
    print_table(
        ["ASSET", "ISSUED", "ACCOUNTS", "CHANNELS"],
        [(row["asset"], row["issued"]["text"], row["accounts"]["text"], row["channels"]["text"]) for row in totals],
        right=["ISSUED", "ACCOUNTS", "CHANNELS"],
    )
    click.echo(f"{found.entries} entries, {found.lines} lines; channels: {_counts(channels)}")
    if not found.balanced:
        for discrepancy in found.discrepancies:
            click.echo(f"wrong: {discrepancy}")
        raise CommandError(Exit.INTERNAL, "books-do-not-balance", "the books do not balance: see the lines above")
    click.echo("the books balance")


def _counts(channels: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in channels.items())
