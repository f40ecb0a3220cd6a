"""How one value of a configuration is checked: what TOML may give, what the program gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from channelpay.amounts import Asset, check_code, parse_number, split_amount
from channelpay.errors import AmountError
from channelpay.keys import LEDGER_PREFIX, Address, parse_address
from channelpay.limits import MAX_ASSET_SCALE

MAX_LISTEN: Final = 16
"""Addresses that one daemon listens on."""

_SOME_ISSUER: Final = bytes(32)


class HostPort(NamedTuple):
    """A place to listen on or to be reached at; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AmountBounds:
    """At most one amount for each asset code, as written; units are known once the asset is.

    `entries` are (code, decimal number) pairs.
    """

    entries: tuple[tuple[str, str], ...] = ()

    def units(self, asset: Asset, default: int) -> int:
        """The bound for `asset` in its units, or `default` if there is none.

        Raises AmountError if it is written with more decimals than the asset has.
        """
        for code, number in self.entries:
            if code == asset.code:
                return parse_number(number, asset)
        return default

    def number(self, code: str) -> str | None:
        """The decimal number for this asset code, or None."""
        return dict(self.entries).get(code)


@dataclass(frozen=True, slots=True)
class Rule:
    """`load` turns TOML's value into the program's or raises ValueError; `dump` turns it back.

    `expected` completes the sentence "expected ...".
    """

    expected: str
    load: Callable[[Any], Any]
    dump: Callable[[Any], Any] = lambda value: value


def _typed(value: Any, kind: type) -> Any:
    """`value` if its type is exactly `kind`: TOML's true is no integer."""
    if type(value) is not kind:
        raise ValueError(f"this is {_TOML_NAMES.get(type(value), type(value).__name__)}")
    return value


_TOML_NAMES: Final = {
    bool: "true or false",
    int: "an integer",
    float: "a decimal number",
    str: "a text",
    list: "a list",
    dict: "a table",
}


def integer(least: int, most: int) -> Rule:
    """An integer between two bounds."""

    def load(value: Any) -> int:
        number: int = _typed(value, int)
        if not least <= number <= most:
            raise ValueError(f"{number} is outside")
        return number

    return Rule(f"an integer {least} .. {most}", load)


def yes_no() -> Rule:
    """true or false."""
    return Rule("true or false", lambda value: _typed(value, bool))


def choice(*names: str) -> Rule:
    """One of some names."""

    def load(value: Any) -> str:
        name: str = _typed(value, str)
        if name not in names:
            raise ValueError(f"{name!r} is none of them")
        return name

    return Rule("one of " + ", ".join(f'"{name}"' for name in names), load)


def parse_host_port(text: str) -> HostPort:
    """The place in `host:port` or `[v6]:port`; raises ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or (":" in host and not bracketed) or any(c.isspace() or c in "@/[]" for c in host):
        raise ValueError(f"{text!r} is no host:port")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"{text!r}: the port is not 0 .. 65535")
    return HostPort(host, int(port))


def places() -> Rule:
    """A list of host:port."""

    def load(value: Any) -> tuple[HostPort, ...]:
        texts = _texts(value)
        if not 1 <= len(texts) <= MAX_LISTEN:
            raise ValueError(f"{len(texts)} addresses")
        return tuple(_distinct(parse_host_port(text) for text in texts))

    return Rule(f'a list of 1 .. {MAX_LISTEN} texts "host:port"', load, lambda value: [str(place) for place in value])


def maybe_place() -> Rule:
    """host:port with a real port, or an empty text for None."""

    def load(value: Any) -> HostPort | None:
        if not _typed(value, str):
            return None
        place = parse_host_port(value)
        if place.port == 0:
            raise ValueError(f"{value!r}: nobody can connect to port 0")
        return place

    return Rule('"host:port" or ""', load, lambda value: "" if value is None else str(value))


def maybe_ledger() -> Rule:
    """A ledger's address, or an empty text for None."""

    def load(value: Any) -> Address | None:
        return parse_address(LEDGER_PREFIX, value) if _typed(value, str) else None

    return Rule('"cpl1...@host:port" or ""', load, lambda value: "" if value is None else str(value))


def asset_codes() -> Rule:
    """A list of asset codes."""
    return Rule(
        'a list of asset codes such as ["USD"]',
        lambda value: tuple(_distinct(check_code(code) for code in _texts(value))),
        list,
    )


def amounts() -> Rule:
    """A list of amounts, at most one for each asset."""

    def load(value: Any) -> AmountBounds:
        entries = [_amount_entry(text) for text in _texts(value)]
        _distinct(code for code, _ in entries)
        return AmountBounds(tuple(entries))

    return Rule(
        'a list of amounts such as ["10 USD"], one for each asset at most',
        load,
        lambda value: [f"{number} {code}" for code, number in value.entries],
    )


def _amount_entry(text: str) -> tuple[str, str]:
    """(code, number) of an amount whose asset is not known yet: as many decimals as any asset may have."""
    number, code = split_amount(text)
    decimals = len(number.partition(".")[2])
    if decimals > MAX_ASSET_SCALE:
        raise AmountError(f"{text!r} has {decimals} decimals; no asset has more than {MAX_ASSET_SCALE}")
    parse_number(number, Asset(b"", code, decimals, _SOME_ISSUER))
    return code, number


def _texts(value: Any) -> list[str]:
    return [_typed(item, str) for item in _typed(value, list)]


def _distinct(values: Iterable[Any]) -> list[Any]:
    """The values in order; raises ValueError if one comes twice."""
    seen = list(values)
    for index, value in enumerate(seen):
        if value in seen[:index]:
            raise ValueError(f"{value} stands there twice")
    return seen
