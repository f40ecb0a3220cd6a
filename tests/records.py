"""Values of any record's fields, right and wrong, made from what its fields say about themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from channelpay.errors import ErrorCode, RemoteError
from channelpay.messages import control, ledger, peer, schema

REPEATED = 3
"""Arrays and bytes that may be longer are tried up to their least length and this much more."""


def _kinds(module: Any) -> list[type[schema.Record]]:
    found = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, schema.Record)]
    return [kind for kind in found if kind.__module__ == module.__name__ and "__match_args__" in vars(kind)]


RECORDS = [kind for module in (peer, ledger, control) for kind in _kinds(module)]
"""Every record that travels: messages, what stands inside them, ledger operations, local calls and answers."""

FEW = settings(max_examples=max(5, settings.default.max_examples // 10))
"""For tests that are repeated for each of the records."""


def outcome(read: Callable[[], schema.Record]) -> schema.Record | ErrorCode:
    """The record read, or the code it is refused with; any other exception is a defect."""
    try:
        return read()
    except RemoteError as error:
        return error.code


def name_of(kind: type[schema.Record]) -> str:
    """A test's name for a record; two modules have an OpenChannel."""
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"


def values(field: schema.Field) -> st.SearchStrategy[Any]:
    """Everything that the field takes, as it stands in a record."""
    if isinstance(field, schema.Bounded):
        if field.kind is int:
            return st.integers(field.least, field.most)
        if field.kind is bytes:
            return st.binary(min_size=field.least, max_size=min(field.most, field.least + 40))
        return st.text(max_size=field.most // 4)
    if isinstance(field, schema.Array):
        most = min(field.most, field.least + REPEATED)
        return st.lists(values(field.inner), min_size=field.least, max_size=most).map(tuple)
    if isinstance(field, schema.Optional):
        return st.none() | values(field.inner)
    if isinstance(field, schema.Nested):
        return records(field.kind)
    return st.from_regex("[A-Z][A-Z0-9]{0,11}", fullmatch=True)


def records(kind: type[schema.Record]) -> st.SearchStrategy[schema.Record]:
    """Every record of this kind."""
    return st.builds(kind, *(values(field) for _, field in kind._fields))


def wrong(field: schema.Field) -> list[Any]:
    """Wire values that the field must refuse: at its bounds, and of every other type."""
    types: list[Any] = [None, True, False, 1.0, float("nan"), -1, {}, 2**64 - 1, "text", b"x" * 7, [None]]
    if isinstance(field, schema.Optional):
        return [value for value in wrong(field.inner) if value is not None]
    if isinstance(field, schema.Array):
        few = [[None] * (field.least - 1)] if field.least else []
        return [*(v for v in types if type(v) is not list), *few, [None] * (field.most + 1), [wrong(field.inner)[0]]]
    if isinstance(field, schema.Nested):
        return [*types, [], [None] * len(field.kind._fields)]
    if not isinstance(field, schema.Bounded):
        return [*(v for v in types if type(v) is not str), "text", "", "A" * 13]
    others = [value for value in types if type(value) is not field.kind]
    if field.kind is int:
        return [*others, -1, field.most + 1]
    if field.kind is bytes:
        short = [bytes(field.least - 1)] if field.least else []
        return [*others, *short, bytes(field.most + 1)]
    return [*others, "a" * (field.most + 1), "\u20ac" * (field.most // 3 + 1)]
