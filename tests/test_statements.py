import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay import statements
from channelpay.crypto import SigningKey
from channelpay.errors import ErrorCode, RemoteError
from channelpay.limits import MAX_UNITS
from channelpay.statements import ZERO_HALF, ChannelTerms, Half

ID, KEY = bytes(range(32)), SigningKey(bytes(range(32)))
b32 = st.binary(min_size=32, max_size=32)
counts = st.integers(0, MAX_UNITS)


@st.composite
def halves(draw: st.DrawFn) -> Half:
    """Any half that a party may sign."""
    n = draw(counts)
    return Half(n, draw(st.integers(n, MAX_UNITS)), draw(b32)) if n else ZERO_HALF


def test_tags_have_16_bytes_and_differ() -> None:
    tags = [value for name, value in vars(statements).items() if name.startswith("TAG_")]
    assert len(tags) == len(set(tags)) == 11
    assert all(len(tag) == 16 and tag.startswith(b"channelpay.") and tag.endswith(b".v1") for tag in tags)


@given(halves())
def test_a_half_has_88_bytes_and_reads_back(half: Half) -> None:
    assert len(half.pack()) == 88
    assert Half.unpack(half.pack()) == half


@given(halves(), st.integers(1, 2**64 - 1), b32.filter(any))
def test_reserved_fields_are_refused(half: Half, locked: int, root: bytes) -> None:
    for changed in (half._replace(locked=locked), half._replace(root=root), half._replace(locked=locked, root=root)):
        with pytest.raises(RemoteError) as caught:
            Half.unpack(changed.pack())
        assert caught.value.code is ErrorCode.RESERVED_FIELD


@given(st.binary(min_size=88, max_size=88))
def test_any_88_bytes_are_a_half_or_refused(data: bytes) -> None:
    try:
        half = Half.unpack(data)
    except RemoteError as error:
        assert error.code in {ErrorCode.OVERFLOW, ErrorCode.RESERVED_FIELD}  # noqa: PT017
    else:
        assert half.pack() == data


@pytest.mark.parametrize(
    "half",
    [
        Half(MAX_UNITS + 1, MAX_UNITS),
        Half(1, MAX_UNITS + 1),
        Half(2, 1, ID),
        Half(0, 1),
        Half(0, 0, ID),
        Half(2**64 - 1, 2**64 - 1, ID, 2**64 - 1, ID),
    ],
)
def test_a_half_that_no_payments_give_is_refused(half: Half) -> None:
    with pytest.raises(RemoteError) as caught:
        Half.unpack(half.pack())
    assert caught.value.code is ErrorCode.OVERFLOW


@given(b32, halves(), halves())
def test_state(channel_id: bytes, half0: Half, half1: Half) -> None:
    data = statements.state_bytes(channel_id, half0, half1)
    assert len(data) == 232
    assert data == (
        b"channelpay.st.v1" + channel_id + (half0.n + half1.n).to_bytes(8, "big") + half0.pack() + half1.pack()
    )


@given(b32, halves(), halves(), counts)
def test_final_is_a_state_under_another_tag_with_an_expiry(c: bytes, half0: Half, half1: Half, expiry: int) -> None:
    data = statements.final_bytes(c, half0, half1, expiry)
    assert len(data) == 240
    assert data[:16] == b"channelpay.fi.v1"
    assert data[16:232] == statements.state_bytes(c, half0, half1)[16:]
    assert data[232:] == expiry.to_bytes(8, "big")


@given(b32, st.integers(0, 1), counts, counts)
def test_withdraw(channel_id: bytes, party: int, total: int, expiry: int) -> None:
    data = statements.withdraw_bytes(channel_id, party, total, expiry)
    assert data == b"".join(
        (b"channelpay.wd.v1", channel_id, bytes([party]), total.to_bytes(8, "big"), expiry.to_bytes(8, "big"))
    )
    assert len(data) == 65


def test_widths_of_the_others() -> None:
    assert len(statements.accepted_bytes(ID)) == 48
    assert len(statements.auth_bytes(1, b"hellos", b"certificate", ID)) == 113
    assert len(statements.auth_bytes(0, b"hellos", b"certificate", ID, ID)) == 145
    assert len(statements.request_bytes(ID, bytes(16), b"blob")) == 96
    assert len(statements.response_bytes(ID, bytes(16), ID, 513, b"body")) == 130


def test_the_genesis_and_the_links_are_a_chain_of_hashes() -> None:
    start = statements.genesis(ID, b"0" * 32, b"1" * 32)
    assert start == hashlib.sha256(b"channelpay.h0.v1" + ID + b"0" * 32 + b"1" * 32).digest()
    records, memos = bytes(24 * 2), b"memos"
    expected = hashlib.sha256(
        b"channelpay.pm.v1" + ID + b"\x01" + start + (7).to_bytes(8, "big") + (2).to_bytes(2, "big")
        + hashlib.sha256(records).digest() + hashlib.sha256(memos).digest()
    ).digest()  # fmt: skip
    assert statements.link(ID, 1, start, 7, 2, records, memos) == expected


def terms() -> ChannelTerms:
    parts = [bytes([i]) * 32 for i in range(6)]
    return ChannelTerms(parts[0], bytes(16), *parts[1:5], parts[5], 0, 86_400, 4096)


def test_the_channel_id_depends_on_every_term() -> None:
    changes = {
        "ledger_id": ID, "asset_id": b"\1" * 16, "key0": ID, "key1": ID, "account0": ID, "account1": ID,
        "open_nonce": ID, "flags": 1, "window_s": 86_401, "max_batch": 1,
    }  # fmt: skip
    assert set(changes) == set(ChannelTerms._fields)
    found = {terms()._replace(**{name: value}).channel_id() for name, value in changes.items()}
    assert len(found | {terms().channel_id()}) == len(changes) + 1


def test_an_asset_id_has_16_bytes_and_depends_on_all_four() -> None:
    base: tuple[bytes, bytes, int, str] = (ID, ID[::-1], 6, "USD")
    changes = [base, (ID[::-1], *base[1:]), (ID, ID, *base[2:]), (*base[:2], 5, "USD"), (*base[:3], "EUR")]
    found = {statements.asset_id(*change) for change in changes}
    assert len(found) == len(changes)
    assert {len(asset_id) for asset_id in found} == {16}


STATEMENTS: list[Callable[[bytes], bytes]] = [
    lambda c: statements.state_bytes(c, ZERO_HALF, ZERO_HALF),
    lambda c: statements.final_bytes(c, ZERO_HALF, ZERO_HALF, 0),
    lambda c: statements.withdraw_bytes(c, 0, 0, 0),
    lambda c: statements.withdraw_bytes(c, 1, 0, 0),
    statements.accepted_bytes,
    lambda c: statements.auth_bytes(0, b"", b"", c),
    lambda c: statements.auth_bytes(1, b"", b"", c),
    lambda c: statements.request_bytes(c, bytes(16), b""),
    lambda c: statements.response_bytes(c, bytes(16), bytes(32), 0, b""),
]


@given(b32, b32)
def test_no_statement_is_another_or_of_another_channel(one: bytes, other: bytes) -> None:
    found = [make(channel) for make in STATEMENTS for channel in {one, other}]
    assert len(set(found)) == len(found)
    for a in found:
        assert not any(a is not b and b.startswith(a) for b in found)
