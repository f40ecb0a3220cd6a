"""What people type: amounts in one word or two, channels by prefix, payment ids, durations, addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import click

from channelpay.amounts import Asset, parse_amount, split_amount
from channelpay.crypto import check_public_key
from channelpay.errors import AddressError, AmountError, KeyRefused
from channelpay.keys import ACCOUNT_PREFIX, Address, decode_id, parse_address
from channelpay.limits import MAX_MEMO_BYTES, MAX_WINDOW_S, MIN_WINDOW_S
from channelpay.messages.ledger import AssetView

_UNITS_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd]?)", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class Duration(click.ParamType[int]):
    """Seconds, or a number with s, m, h or d after it; gives seconds within the bounds of a dispute window."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds in `value`; a click.BadParameter says what is wrong."""
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(
                f"{value!r} is no duration: write seconds, or a number with s, m, h or d, such as 24h", param, ctx
            )
        seconds = int(match[1]) * _UNITS_S[match[2]]
        if not MIN_WINDOW_S <= seconds <= MAX_WINDOW_S:
            self.fail(f"{value!r} is {seconds} s; a window has {MIN_WINDOW_S} .. {MAX_WINDOW_S} s", param, ctx)
        return seconds


class ChannelPrefix(click.ParamType[str]):
    """The first hexadecimal digits of a channel id."""

    name = "channel"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The digits in lower case; a click.BadParameter says what is wrong."""
        digits = str(value).lower()
        if not _HEX.fullmatch(digits) or len(digits) > 64:
            self.fail(f"{value!r} is no channel: write the first hexadecimal digits of its id (at most 64)", param, ctx)
        return digits


class PaymentIdText(click.ParamType[bytes]):
    """16 bytes as 32 hexadecimal digits, or written as a UUID."""

    name = "payment id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """The 16 bytes; a click.BadParameter says what is wrong."""
        if isinstance(value, bytes):
            return value
        text = str(value).lower()
        if not (_UUID.fullmatch(text) or (_HEX.fullmatch(text) and len(text) == 32)):
            self.fail(f"{value!r} is no payment id: write 32 hexadecimal digits or a UUID", param, ctx)
        payment_id = bytes.fromhex(text.replace("-", ""))
        if not any(payment_id):
            self.fail("the payment id of zeros stands for no id", param, ctx)
        return payment_id


class Memo(click.ParamType[bytes]):
    """Text of at most 256 bytes that travels with a payment."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """The memo as bytes; a click.BadParameter says what is wrong."""
        memo = str(value).encode("utf-8", "surrogateescape")
        if len(memo) > MAX_MEMO_BYTES:
            self.fail(f"a memo of {len(memo)} bytes; at most {MAX_MEMO_BYTES} travel with a payment", param, ctx)
        return memo


class AddressText(click.ParamType[Address]):
    """`cp1...@host:port` of a node, or `cpl1...@host:port` of a ledger."""

    name = "address"

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """The address; a click.BadParameter says what is wrong."""
        if isinstance(value, Address):
            return value
        try:
            return parse_address(self.prefix, str(value))
        except AddressError as error:
            self.fail(str(error), param, ctx)


class AccountText(click.ParamType[bytes]):
    """An account: `cpa1...`, or its key as 64 hexadecimal digits."""

    name = "account"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """The account's key, 32 bytes; a click.BadParameter says what is wrong."""
        if isinstance(value, bytes):
            return value
        text = str(value)
        try:
            if len(text) == 64 and _HEX.fullmatch(text.lower()):
                return check_public_key(bytes.fromhex(text))
            return decode_id(ACCOUNT_PREFIX, text)
        except (AddressError, KeyRefused) as error:
            self.fail(f"{error} (an account is cpa1... or 64 hexadecimal digits)", param, ctx)


def assets_of(views: Sequence[AssetView]) -> tuple[Asset, ...]:
    """The assets that a daemon or a ledger told of."""
    return tuple(Asset(view.asset_id, view.code, view.scale, view.issuer) for view in views)


def amount_text(words: Sequence[str]) -> str:
    """The amount in the words of a command line: `"0.0001 USD"`, or the same without quotes.

    Raises AmountError unless it is a number and an asset.
    """
    text = " ".join(" ".join(words).split())
    split_amount(text)
    return text


def typed_amount(text: str, assets: Sequence[Asset]) -> tuple[int, Asset]:
    """(units, asset) of an amount; raises AmountError, which lists the assets if this one is unknown."""
    _, code = split_amount(text)
    for asset in assets:
        if asset.code == code:
            return parse_amount(text, asset), asset
    known = ", ".join(sorted(asset.code for asset in assets)) or "none yet"
    raise AmountError(f"{text!r}: the ledger has no asset {code}; it has: {known}")
