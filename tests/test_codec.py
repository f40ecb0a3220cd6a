import struct
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channelpay.codec import pack, unpack
from channelpay.errors import ErrorCode, RemoteError
from channelpay.limits import MAX_ARRAY_ITEMS, MAX_FRAME

scalars = st.none() | st.integers(0, 2**64 - 1) | st.binary(max_size=300) | st.text(max_size=80)
arrays = st.lists(st.recursive(scalars, lambda inner: st.lists(inner, max_size=20), max_leaves=40), max_size=20)
foreign = st.recursive(
    scalars | st.booleans() | st.floats() | st.integers(-(2**63), -1),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 9) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


def refused(data: bytes) -> str:
    with pytest.raises(RemoteError) as caught:
        unpack(data)
    assert caught.value.code is ErrorCode.MALFORMED
    assert len(caught.value.text) < 100
    return caught.value.text


@given(arrays)
def test_what_is_packed_is_unpacked(value: list[Any]) -> None:
    assert unpack(pack(value)) == value


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\x91" + tail))
@example(b"\x91\x80")
@example(b"\x91\xc7\x00\x00")
@example(b"\x91\xc7\x00\xff")
@example(b"\x91\xa3\xed\xa0\x80")
def test_bytes_are_the_one_encoding_of_what_they_say_or_malformed(data: bytes) -> None:
    try:
        value = unpack(data)
    except RemoteError as error:
        assert error.code is ErrorCode.MALFORMED  # noqa: PT017
    else:
        assert type(value) is list
        assert pack(value) == data


@given(arrays, st.data())
def test_every_cut_and_every_byte_more_is_malformed(value: list[Any], data: st.DataObject) -> None:
    packed = pack(value)
    refused(packed[: data.draw(st.integers(0, len(packed) - 1))])
    refused(packed + data.draw(st.binary(min_size=1, max_size=4)))


@given(foreign)
def test_a_value_that_is_no_array_is_malformed(value: Any) -> None:
    if type(value) is not list:
        refused(msgpack.packb(value))


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 9), max_size=3))
def test_a_map_is_malformed_wherever_it_stands(value: dict[int, int]) -> None:
    refused(msgpack.packb([value]))
    refused(msgpack.packb([[b"", value]]))


@given(st.integers(0, 127), st.binary(max_size=40))
def test_an_extension_is_malformed(code: int, data: bytes) -> None:
    refused(msgpack.packb([msgpack.ExtType(code, data)]))


@given(st.integers(0, 2**64 - 1))
def test_a_longer_form_of_an_integer_is_malformed(value: int) -> None:
    forms = [
        bytes([head]) + value.to_bytes(size, "big")
        for head, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8))
        if value < 1 << 8 * size
    ]
    forms += [struct.pack(">Bq", 0xD3, value)] if value < 2**63 else []
    for form in forms:
        if form != pack(value):
            assert refused(b"\x91" + form) == "not the shortest encoding of its value"


@given(st.integers(0, 40))
def test_a_longer_form_of_a_length_is_malformed(size: int) -> None:
    body = b"a" * size
    for head, width in ((0xC5, 2), (0xC6, 4), (0xDA, 2), (0xDB, 4)):
        refused(b"\x91" + bytes([head]) + size.to_bytes(width, "big") + body)
    refused(b"\xdd" + size.to_bytes(4, "big") + b"\xc0" * size)


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"], ids=lambda text: text.hex()
)
def test_text_is_well_formed_utf_8(text: bytes) -> None:
    assert "UnicodeDecodeError" in refused(b"\x91" + bytes([0xA0 + len(text)]) + text)


def test_no_array_has_more_than_4096_items() -> None:
    assert len(unpack(pack([0] * MAX_ARRAY_ITEMS))) == MAX_ARRAY_ITEMS
    refused(pack([0] * (MAX_ARRAY_ITEMS + 1)))


@pytest.mark.parametrize("claim", ["dcffff", "dd00020000", "ddffffffff", "c6ffffffff", "dbffffffff", "dfffffffff"])
def test_a_length_that_is_not_there_costs_no_memory(claim: str) -> None:
    data = (bytes.fromhex(claim) * 30_000)[:MAX_FRAME]
    tracemalloc.start()
    try:
        refused(data)
        refused(b"\x91" + data[: MAX_FRAME - 1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * 1024 * 1024


def test_arrays_in_arrays_that_each_claim_their_most_cost_little() -> None:
    data = (b"\xdc" + MAX_ARRAY_ITEMS.to_bytes(2, "big")) * (MAX_FRAME // 3)
    tracemalloc.start()
    try:
        refused(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024  # 1,024 levels of 32 KiB, and no more however long the frame is


@pytest.mark.parametrize("depth", [1024, 2000, 100_000])
def test_deep_nesting_is_malformed(depth: int) -> None:
    refused(b"\x91" * depth + b"\x90")
