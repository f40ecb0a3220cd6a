import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay.amounts import (
    Asset,
    check_code,
    checked,
    format_number,
    format_units,
    is_code,
    parse_amount,
    parse_number,
    split_amount,
)
from channelpay.errors import AmountError
from channelpay.limits import MAX_ASSET_SCALE, MAX_UNITS


def asset(scale: int = 6, code: str = "USD") -> Asset:
    return Asset(bytes(16), code, scale, bytes(32))


scales = st.integers(0, MAX_ASSET_SCALE)
units = st.integers(0, MAX_UNITS)


@given(units, scales)
def test_what_is_printed_reads_back(number: int, scale: int) -> None:
    assert parse_amount(format_units(number, asset(scale)), asset(scale)) == number


@given(st.integers(0, MAX_UNITS), scales)
def test_a_difference_below_zero_is_printed_with_a_sign_and_not_read(number: int, scale: int) -> None:
    printed = format_number(-number - 1, asset(scale))
    assert printed == "-" + format_number(number + 1, asset(scale))
    with pytest.raises(AmountError, match="has a sign"):
        parse_number(printed, asset(scale))


@given(st.text(), scales)
def test_any_text_is_an_amount_or_an_amount_error(text: str, scale: int) -> None:
    for given_text in (text, f"{text} USD"):
        try:
            found = parse_amount(given_text, asset(scale))
        except AmountError as error:
            assert len(str(error)) < 400  # noqa: PT017
        else:
            assert 0 <= found <= MAX_UNITS


@given(st.from_regex(r"(0|[1-9][0-9]{0,13})(\.[0-9]{1,6})?", fullmatch=True))
def test_every_number_of_the_grammar_is_read_exactly(number: str) -> None:
    whole, _, decimals = number.partition(".")
    expected = int(whole) * 10**6 + int(decimals.ljust(6, "0"))
    if expected <= MAX_UNITS:
        assert parse_amount(f"{number} USD", asset()) == expected
    else:
        with pytest.raises(AmountError, match="more than 2\\^63-1"):
            parse_amount(f"{number} USD", asset())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-1 USD", "has a sign"),
        ("+1 USD", "has a sign"),
        ("1e3 USD", "no plain decimal number"),
        ("1_000 USD", "no plain decimal number"),
        ("1,5 USD", "no plain decimal number"),
        ("\u0663 USD", "no plain decimal number"),
        ("NaN USD", "no plain decimal number"),
        ("0.0000001 USD", "has 7 decimals; USD has 6: its smallest unit is 0.000001 USD"),
        ("1 EUR", "is in EUR; this needs USD"),
        ("1 usd", "no asset code"),
        ("1", "write a number, one space and an asset"),
        ("1  USD", "write a number, one space and an asset"),
        ("9223372036854.775808 USD", "more than 2^63-1 units"),
    ],
)
def test_a_refusal_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(AmountError) as caught:
        parse_amount(text, asset())
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["9" * 10**6 + " USD", "0." + "1" * 10**6 + " USD", "x" * 10**6, "1 " + "U" * 10**6])
def test_a_huge_text_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(AmountError) as caught:
        parse_amount(text, asset())
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [1.0, True, None, "1"])
def test_only_whole_numbers_are_printed(value: int) -> None:
    with pytest.raises(AmountError, match="whole number of units"):
        format_units(value, asset())


def test_a_text_is_split_without_knowing_the_asset() -> None:
    assert split_amount("0.0001 EUR") == ("0.0001", "EUR")


@given(units)
def test_an_amount_in_range_is_itself(number: int) -> None:
    assert checked(number) == number


@pytest.mark.parametrize("value", [-1, MAX_UNITS + 1, True, False, 1.0, float("nan"), "1", None])
def test_anything_else_is_no_amount(value: object) -> None:
    with pytest.raises(AmountError):
        checked(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["A", "USD", "X9", "ABCDEFGHIJKL"])
def test_codes(code: str) -> None:
    assert check_code(code) == code


@pytest.mark.parametrize("code", ["", "usd", "9X", "ABCDEFGHIJKLM", "U D", "USD\n", "\u00c9UR", "\u0421AD", "U-D"])
def test_texts_that_are_no_codes(code: str) -> None:
    assert not is_code(code)
    with pytest.raises(AmountError, match="no asset code"):
        check_code(code)


@pytest.mark.parametrize("scale", [-1, MAX_ASSET_SCALE + 1, 6.0, True, None])
def test_an_asset_has_a_whole_scale_within_bounds(scale: int) -> None:
    with pytest.raises(AmountError, match="scale"):
        asset(scale)


def test_an_asset_has_a_code() -> None:
    with pytest.raises(AmountError, match="no asset code"):
        asset(code="usd")
