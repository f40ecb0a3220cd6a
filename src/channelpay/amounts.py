"""Money: integers of an asset's smallest unit, parsed and printed without a float. Spec chapter 2."""

from __future__ import annotations

import re
from dataclasses import dataclass

from channelpay.errors import AmountError, shown
from channelpay.limits import MAX_ASSET_CODE, MAX_ASSET_SCALE, MAX_UNITS

_CODE = re.compile(rf"[A-Z][A-Z0-9]{{0,{MAX_ASSET_CODE - 1}}}", re.ASCII)
_NUMBER = re.compile(r"(0|[1-9][0-9]*)(?:\.([0-9]+))?", re.ASCII)


def checked(units: int) -> int:
    """`units` itself if it is an int in 0 .. 2^63-1 (spec M-1); raises AmountError otherwise."""
    if type(units) is not int:
        raise AmountError(f"an amount is a whole number of units, not {type(units).__name__}")
    if not 0 <= units <= MAX_UNITS:
        raise AmountError(f"{units} units are outside 0 .. 2^63-1")
    return units


def is_code(code: str) -> bool:
    """Whether `code` may name an asset: A-Z and 0-9, a letter first, at most 12 (spec M-3)."""
    return _CODE.fullmatch(code) is not None


def check_code(code: str) -> str:
    """`code` itself if it may name an asset (spec M-3); raises AmountError otherwise."""
    if not is_code(code):
        raise AmountError(f"{shown(code)} is no asset code: use A-Z and 0-9, a letter first, at most {MAX_ASSET_CODE}")
    return code


@dataclass(frozen=True, slots=True)
class Asset:
    """What is paid: `asset_id` (16 bytes) names it in signed bytes, `code` names it to people."""

    asset_id: bytes
    code: str
    scale: int
    issuer: bytes

    def __post_init__(self) -> None:
        check_code(self.code)
        # spec M-7
        if type(self.scale) is not int or not 0 <= self.scale <= MAX_ASSET_SCALE:
            raise AmountError(f"scale {self.scale!r} of {self.code} is no integer 0 .. {MAX_ASSET_SCALE}")


def split_amount(text: str) -> tuple[str, str]:
    """(number, asset code) of a text such as `"0.0001 USD"`; raises AmountError."""
    parts = text.split(" ")
    if len(parts) != 2:
        raise AmountError(f"{shown(text)} is no amount: write a number, one space and an asset, such as '0.0001 USD'")
    return parts[0], check_code(parts[1])


def parse_amount(text: str, asset: Asset) -> int:
    """Units in a text such as `"0.0001 USD"` (spec M-4).

    Raises AmountError that says what is wrong: a sign, an exponent, other digits, too many
    decimals, another asset, or a value above 2^63-1 units.
    """
    number, code = split_amount(text)
    if code != asset.code:
        raise AmountError(f"{shown(text)} is in {code}; this needs {asset.code}")
    return parse_number(number, asset)


def parse_number(number: str, asset: Asset) -> int:
    """Units in a bare decimal number such as `"0.0001"`; raises AmountError."""
    if number[:1] in {"+", "-"}:
        raise AmountError(f"{shown(number)} has a sign; amounts are written without one")
    match = _NUMBER.fullmatch(number)
    if match is None:
        raise AmountError(
            f"{shown(number)} is no plain decimal number: digits 0-9, no leading zeros, at most one point, "
            "with digits on both sides of it"
        )
    whole, decimals = match[1], match[2] or ""
    if len(decimals) > asset.scale:
        raise AmountError(
            f"{shown(number)} has {len(decimals)} decimals; {asset.code} has {asset.scale}: "
            f"its smallest unit is {format_units(1, asset)}"
        )
    if len(whole) > 19:  # before int(): a million digits would cost quadratic time
        raise AmountError(f"{number[:24]}... {asset.code} is more than 2^63-1 units")
    units = int(whole + decimals.ljust(asset.scale, "0"))
    if units > MAX_UNITS:
        raise AmountError(f"{number} {asset.code} is more than 2^63-1 units")
    return units


def format_number(units: int, asset: Asset) -> str:
    """The number alone, with every decimal of the asset, such as `0.000100` (spec M-5).

    A difference below zero has a sign. Raises AmountError for anything that is no int.
    """
    if type(units) is not int:
        raise AmountError(f"an amount is a whole number of units, not {type(units).__name__}")
    sign, units = ("-", -units) if units < 0 else ("", units)
    if asset.scale == 0:
        return f"{sign}{units}"
    digits = str(units).rjust(asset.scale + 1, "0")
    return f"{sign}{digits[: -asset.scale]}.{digits[-asset.scale :]}"


def format_units(units: int, asset: Asset) -> str:
    """Amount and asset, such as `0.000100 USD`; what parse_amount reads back unchanged."""
    return f"{format_number(units, asset)} {asset.code}"
