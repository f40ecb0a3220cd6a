"""What a ledger tells, as JSON and for people. Spec N-22."""

from __future__ import annotations

from typing import Any

from channelpay.cli.show import moment
from channelpay.cli.views import Assets
from channelpay.errors import RemoteError
from channelpay.keys import ACCOUNT_PREFIX, LEDGER_PREFIX, encode_id
from channelpay.messages.ledger import AccountView, AssetView, ChannelView, JournalEntry, LedgerInfo
from channelpay.statements import FLAG_ONE_WAY, Half

STATUSES = ("open", "closing", "settled")


def account_id(key: bytes) -> str:
    """An account as people write it: cpa1..."""
    return encode_id(ACCOUNT_PREFIX, key)


def asset_json(asset: AssetView) -> dict[str, Any]:
    """A registered asset."""
    return {
        "asset": asset.code,
        "asset_id": asset.asset_id.hex(),
        "scale": asset.scale,
        "issuer": account_id(asset.issuer),
    }


def info_json(info: LedgerInfo) -> dict[str, Any]:
    """The ledger itself."""
    return {
        "ledger": encode_id(LEDGER_PREFIX, info.ledger_id),
        "operator": account_id(info.operator),
        "time": info.time,
        "number": info.number,
        "min_window_s": info.min_window_s,
        "max_window_s": info.max_window_s,
        "min_deposit": str(info.min_deposit),
        "assets": [asset_json(asset) for asset in info.assets],
    }


def info_pairs(info: LedgerInfo) -> list[tuple[str, str]]:
    """The ledger for people."""
    shown = info_json(info)
    return [
        ("ledger", shown["ledger"]),
        ("operator", shown["operator"]),
        ("time", f"{moment(info.time)}, journal {info.number}"),
        ("windows", f"{info.min_window_s} .. {info.max_window_s} s"),
        ("deposits", f"at least {info.min_deposit} units"),
        ("assets", ", ".join(asset.code for asset in info.assets) or "none yet"),
    ]


def account_json(view: AccountView, assets: Assets) -> dict[str, Any]:
    """What an account holds."""
    return {
        "account": account_id(view.account),
        "number": view.number,
        "time": view.time,
        "holdings": [
            {"asset": assets.code(holding.asset_id), "amount": assets.amount(holding.units, holding.asset_id)}
            for holding in view.holdings
        ],
    }


def account_pairs(view: AccountView, assets: Assets) -> list[tuple[str, str]]:
    """What an account holds, for people."""
    held = [assets.text(holding.units, holding.asset_id) for holding in view.holdings]
    return [("account", account_id(view.account)), *(("holds", text) for text in held or ["nothing"])]


def channel_json(view: ChannelView, assets: Assets) -> dict[str, Any]:
    """A channel as the ledger sees it."""

    def amount(units: int) -> dict[str, str]:
        return assets.amount(units, view.asset_id)

    settled = view.status < len(STATUSES) and STATUSES[view.status] == "settled"

    def party(number: int) -> dict[str, Any]:
        half = _half(getattr(view, f"half{number}"))
        return {
            "account": account_id(getattr(view, f"account{number}")),
            "key": getattr(view, f"key{number}").hex(),
            "deposit": amount(getattr(view, f"deposit{number}")),
            "withdrawn": amount(getattr(view, f"withdrawn{number}")),
            "paid": {"payments": half.n, "total": amount(half.total)},
            "payout": amount(getattr(view, f"out{number}")) if settled else None,
        }

    return {
        "channel": view.channel_id.hex(),
        "status": STATUSES[view.status] if view.status < len(STATUSES) else str(view.status),
        "asset": assets.code(view.asset_id),
        "one_way": view.flags == FLAG_ONE_WAY,
        "window_s": view.window_s,
        "max_batch": view.max_batch,
        "deadline": view.deadline or None,
        "party0": party(0),
        "party1": party(1),
        "opened": view.opened,
        "number": view.number,
        "time": view.time,
    }


def _half(data: bytes) -> Half:
    """The half in a view; raises RemoteError if the ledger shows what is none."""
    try:
        return Half.unpack(data)
    except RemoteError as error:
        raise RemoteError(error.code, f"the ledger shows an unsound half: {error.text}") from None


def channel_pairs(view: ChannelView, assets: Assets) -> list[tuple[str, str]]:
    """A channel as the ledger sees it, for people."""
    shown = channel_json(view, assets)
    pairs = [
        ("channel", shown["channel"]),
        ("status", shown["status"] + (f", deadline {moment(view.deadline)}" if shown["deadline"] else "")),
        (
            "terms",
            f"{'one way' if shown['one_way'] else 'two way'}, window {view.window_s} s, max batch {view.max_batch}",
        ),
    ]
    for name in ("party0", "party1"):
        party = shown[name]
        text = (
            f"{party['account']}: deposit {party['deposit']['text']}, withdrawn {party['withdrawn']['text']}, "
            f"paid {party['paid']['total']['text']} in {party['paid']['payments']} payments"
        )
        pairs.append((name, text + (f", payout {party['payout']['text']}" if party["payout"] else "")))
    return pairs


def entry_json(entry: JournalEntry, assets: Assets) -> dict[str, Any]:
    """One entry of an account's journal."""
    return {
        "number": entry.number,
        "time": entry.time,
        "kind": entry.kind,
        "asset": assets.code(entry.asset_id),
        "credit": assets.amount(entry.credit, entry.asset_id),
        "debit": assets.amount(entry.debit, entry.asset_id),
        "subject": entry.subject.hex(),
    }
