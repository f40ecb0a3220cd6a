"""How single configuration values are checked: everything else is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from channelpay.amounts import Asset
from channelpay.errors import AmountError
from channelpay.home.rules import (
    AmountBounds,
    HostPort,
    Rule,
    amounts,
    asset_codes,
    choice,
    integer,
    maybe_ledger,
    maybe_place,
    places,
    yes_no,
)
from channelpay.keys import Keyring, encode_id, words_from_entropy

LEDGER = encode_id("cpl", Keyring(words_from_entropy(bytes(32))).identity.public) + "@ledger.example:7669"


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (integer(1, 9), 1),
        (integer(1, 9), 9),
        (yes_no(), True),
        (choice("a", "b"), "b"),
        (places(), ["127.0.0.1:0", "[::1]:65535", "node.example:1"]),
        (maybe_place(), ""),
        (maybe_place(), "[2001:db8::1]:7668"),
        (maybe_ledger(), ""),
        (maybe_ledger(), LEDGER),
        (asset_codes(), []),
        (asset_codes(), ["USD", "EUR"]),
        (amounts(), []),
        (amounts(), ["10 USD", "0.000001 BTC", "0.100000000000000000 ETH"]),
    ],
)
def test_good_values_come_back_as_they_were_written(rule: Rule, value: Any) -> None:
    assert rule.dump(rule.load(value)) == value


@pytest.mark.parametrize(
    ("rule", "value", "reason"),
    [
        (integer(1, 9), 0, "0 is outside"),
        (integer(1, 9), 10, "10 is outside"),
        (integer(0, 1), True, "this is true or false"),
        (integer(1, 9), 1.0, "this is a decimal number"),
        (integer(1, 9), "1", "this is a text"),
        (yes_no(), 1, "this is an integer"),
        (choice("a"), "c", "'c' is none of them"),
        (choice("a"), ["a"], "this is a list"),
        (places(), [], "0 addresses"),
        (places(), ["a:1"] * 17, "17 addresses"),
        (places(), ["a:1", "a:1"], "a:1 stands there twice"),
        (places(), "a:1", "this is a text"),
        (places(), [{}], "this is a table"),
        (places(), ["a"], "'a' is no host:port"),
        (places(), [":1"], "':1' is no host:port"),
        (places(), ["::1:1"], "'::1:1' is no host:port"),
        (places(), ["a b:1"], "'a b:1' is no host:port"),
        (places(), ["a:65536"], "the port is not 0 .. 65535"),
        (places(), ["a:+1"], "the port is not"),
        (places(), ["a:\u0661"], "the port is not"),
        (maybe_place(), "a:0", "nobody can connect to port 0"),
        (maybe_ledger(), "ledger.example:7669", "lacks '@host:port'"),
        (maybe_ledger(), LEDGER.replace("q", "p", 1), "is no ledger id"),
        (asset_codes(), ["usd"], "is no asset code"),
        (asset_codes(), ["USD", "USD"], "USD stands there twice"),
        (amounts(), ["10"], "is no amount"),
        (amounts(), ["10  USD"], "is no amount"),
        (amounts(), ["-10 USD"], "has a sign"),
        (amounts(), ["1e3 USD"], "no plain decimal number"),
        (amounts(), ["1.0000000000000000000 USD"], "has 19 decimals"),
        (amounts(), ["9223372036854775808 USD"], "more than 2^63-1"),
        (amounts(), ["1 USD", "2 USD"], "USD stands there twice"),
    ],
)
def test_bad_values_are_refused_with_a_reason(rule: Rule, value: Any, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        rule.load(value)
    assert reason in str(caught.value)


def test_amount_bounds_become_units_once_the_asset_is_known() -> None:
    bounds = amounts().load(["10.5 USD", "3 EUR"])
    usd = Asset(bytes(16), "USD", 6, bytes(32))
    assert bounds.units(usd, 7) == 10_500_000
    assert bounds.units(Asset(bytes(16), "GBP", 2, bytes(32)), 7) == 7
    assert bounds.number("EUR") == "3"
    assert bounds.number("GBP") is None
    with pytest.raises(AmountError, match="has 1 decimals; USD has 0"):
        bounds.units(Asset(bytes(16), "USD", 0, bytes(32)), 7)
    assert AmountBounds().units(usd, 5) == 5


def test_places_are_written_with_brackets_for_ipv6() -> None:
    assert str(HostPort("::1", 5)) == "[::1]:5"
    assert str(HostPort("a", 5)) == "a:5"
