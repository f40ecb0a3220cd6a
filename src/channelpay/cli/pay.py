"""Commands about payments: pay, payments, payment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from channelpay.batches import Batch, pack_record
from channelpay.cli.app import AmountCommand, connected, shared
from channelpay.cli.channel import channel_amount
from channelpay.cli.control import Control
from channelpay.cli.daemon import connect, find_channel
from channelpay.cli.exits import CommandError, Exit
from channelpay.cli.inputs import ChannelPrefix, Memo, PaymentIdText, amount_text
from channelpay.cli.show import print_json, print_table
from channelpay.cli.views import SHORT_ID, Assets, received_json, sent_json
from channelpay.errors import AmountError, Reason
from channelpay.limits import MAX_BATCH
from channelpay.messages import control as wire
from channelpay.services.ids import new_payment_id
from channelpay.services.values import PAYMENT_STATES, PaymentState, ReceivedBatch

_MOST_AT_ONCE: Final = 100_000_000
_PAGE: Final = 4096
_HEADERS: Final = ["NUMBER", "CHANNEL", "AMOUNT", "ID", "MEMO"]


@click.command(cls=AmountCommand)
@click.argument("prefix", type=ChannelPrefix(), metavar="CHANNEL")
@click.argument("amount", nargs=-1, required=True, metavar="AMOUNT ASSET")
@click.option(
    "--id",
    "payment_id",
    type=PaymentIdText(),
    metavar="HEX|UUID",
    help="The payment's id, a UUIDv7: paying again with the same id pays nothing. Default: a new one.",
)
@click.option("--memo", type=Memo(), metavar="TEXT", help="Text for the payee, at most 256 bytes.")
@click.option(
    "--count", type=click.IntRange(1, _MOST_AT_ONCE), metavar="N", help="Pay N times; these payments have no ids."
)
@connected
def pay(prefix: str, amount: tuple[str, ...], payment_id: bytes | None, memo: bytes | None, count: int | None) -> None:
    """Pay on a channel, such as: channelpay pay 3f2a 0.0001 USD. Returns once the payee holds the payment."""
    if count is not None and (payment_id or memo):
        raise click.UsageError("--count makes payments without ids and memos: leave --id and --memo out")
    text = amount_text(amount)
    with connect(shared()) as control:
        found = find_channel(control, prefix)
        units = channel_amount(text, found)
        if units == 0:
            raise AmountError(f"{text!r}: a payment is at least one unit")
        if count is None:
            _pay_once(control, found, units, payment_id or new_payment_id(), memo or b"")
        else:
            _pay_often(control, found, units, count)


def _pay_once(control: Control, found: wire.ChannelOne, units: int, payment_id: bytes, memo: bytes) -> None:
    name = payment_id.hex()
    changes = f"it may be paid or not. 'channelpay payment {name}' tells; paying again with --id {name} is safe"
    paid = control.pay(found.channel.channel_id, units, payment_id, memo, changes)
    shown = _paid_json(found, units, paid.first_n, 1) | {"id": name, "repeated": bool(paid.repeated)}
    if shared().json:
        print_json(shown)
    elif paid.repeated:
        click.echo(f"paid before: this id is payment {paid.first_n}; nothing was paid now")
    else:
        click.echo(f"paid {shown['amount']['text']}: payment {paid.first_n}, id {name}")


def _pay_often(control: Control, found: wire.ChannelOne, units: int, count: int) -> None:
    channel_id = found.channel.channel_id
    changes = f"a part may be paid. 'channelpay channel show {channel_id.hex()[:SHORT_ID]}' tells how many payments"
    bulks = (pack_record(units) * min(MAX_BATCH, count - start) for start in range(0, count, MAX_BATCH))
    first_n = done = 0
    refusal: CommandError | None = None
    for outcome in control.pay_in_bulk(channel_id, bulks, changes):
        if isinstance(outcome, CommandError):
            refusal = refusal or outcome
            continue
        first_n = first_n or outcome.first_n
        done += outcome.count
    if refusal is not None:
        raise CommandError(refusal.code, refusal.reason, f"{done} of {count} payments were made, then: {refusal}")
    shown = _paid_json(found, units, first_n, done)
    if shared().json:
        print_json(shown)
    else:
        click.echo(f"paid {done} times {shown['amount']['text']}, {shown['total']['text']} in all")


def _paid_json(found: wire.ChannelOne, units: int, first_n: int, count: int) -> dict[str, Any]:
    assets, asset_id = Assets(found.assets), found.channel.asset_id
    return {
        "channel": found.channel.channel_id.hex(),
        "first_n": first_n,
        "count": count,
        "amount": assets.amount(units, asset_id),
        "total": assets.amount(units * count, asset_id),
    }


@click.command()
@click.argument("payment_id", type=PaymentIdText(), metavar="HEX|UUID")
@connected
def payment(payment_id: bytes) -> None:
    """What became of a payment that this node made, by its id: queued, sent or paid."""
    with connect(shared()) as control:
        view = control.call(wire.FindPayment(payment_id, None), wire.PaymentView)
        state = PAYMENT_STATES.get(view.status, PaymentState.UNKNOWN)
        if state is PaymentState.UNKNOWN or view.channel_id is None:
            raise CommandError(
                Exit.REFUSED, Reason.UNKNOWN_PAYMENT, f"this node has made no payment with id {payment_id.hex()}"
            )
        found = find_channel(control, view.channel_id.hex())
    amount = Assets(found.assets).amount(view.amount, found.channel.asset_id)
    shown = {
        "id": payment_id.hex(),
        "status": str(state),
        "channel": view.channel_id.hex(),
        "n": view.n,
        "amount": amount,
    }
    if shared().json:
        print_json(shown)
    else:
        number = f", payment {view.n}" if view.n else ""
        click.echo(f"{state}: {amount['text']} on channel {view.channel_id.hex()}{number}")


@click.command()
@click.option("--after", type=click.IntRange(0), default=0, metavar="N", help="The cursor: where to go on.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, metavar="N", help="How many at most.")
@click.option("--follow", is_flag=True, help="Go on with payments as they come, until interrupted.")
@click.option("--channel", "prefix", type=ChannelPrefix(), metavar="CHANNEL", help="Of one channel only.")
@click.option("--sent", is_flag=True, help="Payments that this node made (needs --channel; N is a payment number).")
@connected
def payments(after: int, limit: int, follow: bool, prefix: str | None, sent: bool) -> None:
    """Payments that this node received, in order. --follow prints one JSON object per line with --json."""
    if sent and prefix is None:
        raise click.UsageError("--sent needs --channel: payments are numbered channel by channel")
    if sent and follow:
        raise click.UsageError("--follow is for received payments: leave --sent or --follow out")
    with connect(shared()) as control:
        only = find_channel(control, prefix) if prefix is not None else None
        if sent and only is not None:
            _show_sent(list(_sent(control, only, after, limit)), after)
            return
        received = _Received(control, only)
        if follow:
            _follow(received, after)
            return
        rows, cursor = received.take(after, limit)
    if shared().json:
        print_json({"payments": rows, "cursor": cursor})
    else:
        print_table(_HEADERS, [_row(row, row["position"]) for row in rows], right=["NUMBER", "AMOUNT"])


def _show_sent(rows: list[dict[str, Any]], after: int) -> None:
    if shared().json:
        print_json({"payments": rows, "cursor": rows[-1]["n"] if rows else after})
    else:
        print_table(_HEADERS, [_row(row, row["n"]) for row in rows], right=["NUMBER", "AMOUNT"])


def _follow(received: _Received, after: int) -> None:
    while True:
        rows, after = received.page(after, _PAGE, wait=True)
        for row in rows:
            if shared().json:
                print_json(row)
            else:
                number, channel, *rest = _row(row, row["position"])
                click.echo(" ".join([number, channel, *(text for text in rest if text)]))


def _row(row: dict[str, Any], number: int) -> tuple[str, ...]:
    memo = row["memo"] if row["memo"] is not None else row["memo_hex"] or ""
    notes = " (repeated)" if row.get("repeated") else ""
    if row.get("covers", 1) > 1:
        notes += f" ({row['covers']} payments, records unavailable)"
    return str(number), row["channel"][:SHORT_ID], row["amount"]["text"], row["id"] or "", memo + notes


class _Received:
    """Received payments as JSON rows, of all channels or of one."""

    def __init__(self, control: Control, only: wire.ChannelOne | None) -> None:
        self._control = control
        self._only = only.channel.channel_id if only else None
        self._channels: dict[bytes, wire.ChannelOne] = {only.channel.channel_id: only} if only else {}

    def take(self, after: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """(rows, cursor) of up to `limit` payments after a position."""
        rows: list[dict[str, Any]] = []
        while len(rows) < limit:
            found, cursor = self.page(after, limit - len(rows), wait=False)
            if cursor == after:
                break
            rows += found
            after = cursor
        return rows, after

    def page(self, after: int, limit: int, wait: bool) -> tuple[list[dict[str, Any]], int]:
        """(rows, cursor) of one answer of the daemon; never more than `limit` rows."""
        page = self._control.call(wire.Payments(after, min(limit, _PAGE), int(wait)), wire.ReceivedPage)
        rows: list[dict[str, Any]] = []
        for batch in page.batches:
            if self._only not in (None, batch.channel_id):
                continue
            for payment in ReceivedBatch(batch).payments():
                if payment.position < after:
                    continue
                if len(rows) == limit:
                    return rows, rows[-1]["cursor"]
                rows.append(received_json(payment, self._amount(batch.channel_id, payment.amount)))
        return rows, page.cursor

    def _amount(self, channel_id: bytes, units: int) -> dict[str, str]:
        found = self._channels.get(channel_id)
        if found is None:
            found = self._channels[channel_id] = find_channel(self._control, channel_id.hex())
        return Assets(found.assets).amount(units, found.channel.asset_id)


def _sent(control: Control, found: wire.ChannelOne, after: int, limit: int) -> Iterator[dict[str, Any]]:
    """Payments number after + 1 and on that this node made on a channel."""
    assets, info = Assets(found.assets), found.channel
    next_n, left = after + 1, limit
    while left > 0 and next_n <= info.own_n:
        page = control.call(wire.History(info.channel_id, info.side, next_n, min(left, _PAGE)), wire.HistoryPage)
        for batch in page.batches:
            for payment in Batch(batch.first_n, batch.records, batch.memos).payments():
                if payment.n >= next_n and left > 0:
                    left -= 1
                    yield sent_json(payment, info.channel_id, assets.amount(payment.amount, info.asset_id))
        if page.next_n <= next_n:
            return
        next_n = page.next_n
