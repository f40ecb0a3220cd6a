import pytest

from channelpay.errors import (
    AddressError,
    AmountError,
    ChannelpayError,
    Effect,
    ErrorCode,
    KeyRefused,
    LocalError,
    Reason,
    RemoteError,
    shown,
)


def test_a_code_is_its_number_and_knows_its_effect() -> None:
    assert ErrorCode.GAP == 43
    assert ErrorCode(43) is ErrorCode.GAP
    assert ErrorCode.GAP.effect is Effect.SUSPEND
    assert {code.effect for code in ErrorCode} == set(Effect)


def test_codes_of_the_connection_close_it_and_answers_to_open_do_not() -> None:
    assert all((code.effect is Effect.CLOSE) == (code < 20 or code is ErrorCode.BAD_SIGNATURE) for code in ErrorCode)
    assert all(code.effect is Effect.RETRY for code in ErrorCode if 20 <= code < 40)


def test_an_unknown_number_is_no_code() -> None:
    with pytest.raises(ValueError, match="999"):
        ErrorCode(999)


def test_reasons_are_words_for_programs() -> None:
    values = [reason.value for reason in Reason]
    assert len(set(values)) == len(values)
    assert all(value == value.lower() and value.replace("-", "").isalpha() for value in values)


def test_a_remote_error_says_its_code_and_keeps_its_parts() -> None:
    error = RemoteError(ErrorCode.BALANCE, "5 units short", b"c" * 32)
    assert str(error) == "balance: 5 units short"
    assert (error.code, error.text, error.channel) == (ErrorCode.BALANCE, "5 units short", b"c" * 32)
    assert RemoteError(ErrorCode.BUSY, "later").channel is None


def test_a_local_error_has_its_reason_and_its_text() -> None:
    error = LocalError(Reason.ONE_WAY, "party 1 never pays here")
    assert (error.reason, str(error)) == (Reason.ONE_WAY, "party 1 never pays here")


def test_bad_input_is_a_value_error_and_all_have_one_root() -> None:
    for kind in (AmountError, AddressError, KeyRefused):
        assert issubclass(kind, ValueError)
        assert issubclass(kind, ChannelpayError)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "''"),
        ("1 USD", "'1 USD'"),
        ("a\x1b[2J\n", r"'a\x1b[2J\n'"),
        ("\ud800", r"'\ud800'"),
        ("x" * 81, f"'{'x' * 80}'..."),
    ],
)
def test_a_text_is_shown_short_and_without_control_characters(text: str, expected: str) -> None:
    assert shown(text) == expected
