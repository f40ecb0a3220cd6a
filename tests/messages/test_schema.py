import dataclasses
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay.codec import pack
from channelpay.errors import ErrorCode, RemoteError
from channelpay.messages.schema import Record, array, blob, nested, optional, record, text, uint
from records import FEW, RECORDS, name_of, records, wrong


@record
class Inner(Record):
    a: Annotated[int, uint(5)]
    b: Annotated[bytes, blob(2)]


@record
class Outer(Record):
    inner: Annotated[Inner, nested(Inner)]
    maybe: Annotated[Inner | None, optional(nested(Inner))]
    many: Annotated[tuple[Inner, ...], array(nested(Inner), 2, least=1)]
    name: Annotated[str, text(4)]


SAMPLE = Outer(Inner(1, b"ab"), None, (Inner(5, b"cd"),), "\u20ac")


def test_a_record_travels_as_an_array_of_its_fields_in_order() -> None:
    assert SAMPLE.to_wire() == [[1, b"ab"], None, [[5, b"cd"]], "\u20ac"]
    assert Outer.decode(SAMPLE.encode()) == SAMPLE


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SAMPLE.name = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        ([], "Outer has 4 fields, not 0"),
        ([[1, b"ab"], None, [[5, b"cd"]], "x", 0], "Outer has 4 fields, not 5"),
        ([[6, b"ab"], None, [[5, b"cd"]], "x"], "Inner.a: expected an integer 0 .. 5"),
        ([[1, b"abc"], None, [[5, b"cd"]], "x"], "Inner.b: expected 2 bytes"),
        ([None, None, [[5, b"cd"]], "x"], "Outer.inner: expected the array Inner"),
        ([[1, b"ab"], [1], [[5, b"cd"]], "x"], "Inner has 2 fields, not 1"),
        ([[1, b"ab"], None, [], "x"], "Outer.many: expected an array of 1 to 2, each the array Inner"),
        ([[1, b"ab"], None, [[5, b"cd"]], "\u20ac\u20ac"], "Outer.name: expected text of at most 4 bytes"),
        ([[1, b"ab"], None, [[5, b"cd"]], "\ud800\ud800"], "Outer.name: expected text of at most 4 bytes"),
    ],
)
def test_a_refusal_names_the_record_the_field_and_what_was_expected(wire: list[object], said: str) -> None:
    with pytest.raises(RemoteError) as caught:
        Outer.from_wire(wire)
    assert caught.value.code is ErrorCode.MALFORMED
    assert said in caught.value.text


def test_a_field_without_a_check_is_a_mistake_of_ours() -> None:
    class Forgotten(Record):
        a: int

    with pytest.raises(TypeError, match=r"Forgotten\.a has no Field"):
        record(Forgotten)


def test_bounds_read_well() -> None:
    assert [uint(n).expected for n in (1, 255, 2**16 - 1, 2**63 - 1, 256)] == [
        "an integer 0 .. 1",
        "an integer 0 .. 2^8-1",
        "an integer 0 .. 2^16-1",
        "an integer 0 .. 2^63-1",
        "an integer 0 .. 256",
    ]


@pytest.mark.parametrize("kind", RECORDS, ids=name_of)
@FEW
@given(data=st.data())
def test_every_record_comes_back_as_it_went(kind: type[Record], data: st.DataObject) -> None:
    sent = data.draw(records(kind))
    assert kind.decode(sent.encode()) == sent


@pytest.mark.parametrize("kind", RECORDS, ids=name_of)
@FEW
@given(data=st.data())
def test_every_record_refuses_every_wrong_field(kind: type[Record], data: st.DataObject) -> None:
    wire = data.draw(records(kind)).to_wire()
    for index, (name, field) in enumerate(kind._fields):
        for value in wrong(field):
            with pytest.raises(RemoteError) as caught:
                kind.from_wire([*wire[:index], value, *wire[index + 1 :]])
            assert caught.value.code is ErrorCode.MALFORMED
            inside = type(value) is list  # then a record or item inside may be the one named
            assert inside or caught.value.text.startswith(f"{kind.__name__}.{name}: expected ")


@pytest.mark.parametrize("kind", RECORDS, ids=name_of)
@FEW
@given(data=st.data())
def test_every_record_refuses_a_field_more_or_less(kind: type[Record], data: st.DataObject) -> None:
    wire = data.draw(records(kind)).to_wire()
    for changed in (wire[:-1], [*wire, 0], [*wire, None]):
        if len(changed) != len(wire):
            with pytest.raises(RemoteError, match="fields, not"):
                kind.decode(pack(changed))


def test_all_records_are_tried() -> None:
    assert len(RECORDS) > 80
    assert {"peer.Pay", "ledger.OpenChannel", "control.OpenChannel"} <= {name_of(kind) for kind in RECORDS}
