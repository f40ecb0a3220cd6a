"""Records that travel: positional msgpack arrays with exact types. Spec W-5 and W-6.

A record is a frozen dataclass whose annotations carry the check of each field::

    @record
    class Ack(Record):
        channel_id: Id
        n: Count

`to_wire` gives the list to encode; `from_wire` checks length and types and raises
RemoteError(MALFORMED) naming the record and the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform, get_type_hints

from channelpay.codec import pack, unpack
from channelpay.errors import ErrorCode, RemoteError
from channelpay.limits import MAX_TEXT_BYTES, MAX_UNITS

Check = Callable[[Any], bool]


class Field:
    """How one field is checked and how it is turned to and from the wire's types."""

    plain = True
    """Whether the value is the same in Python and on the wire."""

    def __init__(self, check: Check, expected: str) -> None:
        self.check = check
        self.expected = expected

    def load(self, value: Any, where: str) -> Any:
        if not self.check(value):
            raise RemoteError(ErrorCode.MALFORMED, f"{where}: expected {self.expected}")
        return value

    def dump(self, value: Any) -> Any:
        return value


class Bounded(Field):
    """An int between two bounds, or bytes or text whose number of bytes lies between them."""

    def __init__(self, kind: type, least: int, most: int, check: Check, expected: str) -> None:
        super().__init__(check, expected)
        self.kind = kind
        self.least = least
        self.most = most


class Nested(Field):
    """A record inside a record."""

    plain = False

    def __init__(self, kind: type[Record]) -> None:
        super().__init__(lambda value: type(value) is list, f"the array {kind.__name__}")
        self.kind = kind

    def load(self, value: Any, where: str) -> Any:
        return self.kind.from_wire(super().load(value, where))

    def dump(self, value: Any) -> Any:
        return value.to_wire()


class Optional(Field):
    """nil or the inner field."""

    plain = False

    def __init__(self, inner: Field) -> None:
        super().__init__(lambda value: True, f"nil or {inner.expected}")
        self.inner = inner

    def load(self, value: Any, where: str) -> Any:
        return None if value is None else self.inner.load(value, where)

    def dump(self, value: Any) -> Any:
        return None if value is None else self.inner.dump(value)


class Array(Field):
    """Between `least` and `most` values of the inner field; a tuple in Python."""

    plain = False

    def __init__(self, inner: Field, most: int, least: int = 0) -> None:
        super().__init__(
            lambda value: type(value) is list and least <= len(value) <= most,
            f"an array of {least} to {most}, each {inner.expected}",
        )
        self.inner = inner
        self.least = least
        self.most = most

    def load(self, value: Any, where: str) -> Any:
        return tuple(self.inner.load(item, where) for item in super().load(value, where))

    def dump(self, value: Any) -> Any:
        return [self.inner.dump(item) for item in value]


def uint(most: int) -> Field:
    """An unsigned integer 0 .. most; a bool is none."""
    bound = f"2^{most.bit_length()}-1" if most > 1 and most & (most + 1) == 0 else str(most)
    return Bounded(int, 0, most, lambda value: type(value) is int and 0 <= value <= most, f"an integer 0 .. {bound}")


def blob(size: int) -> Field:
    """Exactly `size` bytes."""
    return Bounded(bytes, size, size, lambda value: type(value) is bytes and len(value) == size, f"{size} bytes")


def blob_upto(most: int, least: int = 0) -> Field:
    """Between `least` and `most` bytes."""
    return Bounded(
        bytes,
        least,
        most,
        lambda value: type(value) is bytes and least <= len(value) <= most,
        f"{least} to {most} bytes",
    )


def text(most: int) -> Field:
    """UTF-8 text of at most `most` bytes."""
    return Bounded(
        str,
        0,
        most,
        lambda value: type(value) is str and len(value.encode("utf-8", "surrogatepass")) <= most,
        f"text of at most {most} bytes",
    )


def optional(inner: Field) -> Field:
    """nil, or what `inner` takes."""
    return Optional(inner)


def array(inner: Field, most: int, least: int = 0) -> Field:
    """An array of `least` to `most` of what `inner` takes."""
    return Array(inner, most, least)


def nested(kind: type[Record]) -> Field:
    """A record as a field."""
    return Nested(kind)


U8 = Annotated[int, uint(2**8 - 1)]
U16 = Annotated[int, uint(2**16 - 1)]
U32 = Annotated[int, uint(2**32 - 1)]
U64 = Annotated[int, uint(2**64 - 1)]
Count = Annotated[int, uint(MAX_UNITS)]
"""A payment count or payment number."""
Units = Annotated[int, uint(MAX_UNITS)]
Time = Annotated[int, uint(MAX_UNITS)]
"""Seconds since 1970 on the ledger's clock."""
Party = Annotated[int, uint(1)]
Flag = Annotated[int, uint(1)]
"""A yes or no: msgpack's booleans are not used."""
AssetId = Annotated[bytes, blob(16)]
PaymentId = Annotated[bytes, blob(16)]
RequestId = Annotated[bytes, blob(16)]
Id = Annotated[bytes, blob(32)]
Hash = Annotated[bytes, blob(32)]
Key = Annotated[bytes, blob(32)]
Nonce = Annotated[bytes, blob(32)]
Signature = Annotated[bytes, blob(64)]
MaybeSignature = Annotated[bytes | None, optional(blob(64))]
HalfBytes = Annotated[bytes, blob(88)]
"""A packed half, see statements.Half."""
Text = Annotated[str, text(MAX_TEXT_BYTES)]


class Record:
    """Base of all that travels; see the module's docstring."""

    __slots__ = ()
    _fields: ClassVar[tuple[tuple[str, Field], ...]] = ()
    _checks: ClassVar[tuple[Check, ...]] = ()
    """Of a record whose fields are all plain, as those of every payment are: empty for others."""

    def to_wire(self) -> list[Any]:
        """The positional array to encode (spec W-1)."""
        if self._checks:
            return [getattr(self, name) for name, _ in self._fields]
        return [field.dump(getattr(self, name)) for name, field in self._fields]

    @classmethod
    def from_wire(cls, values: list[Any]) -> Self:
        """The record in a decoded array; raises RemoteError(MALFORMED)."""
        if len(values) != len(cls._fields):
            raise RemoteError(ErrorCode.MALFORMED, f"{cls.__name__} has {len(cls._fields)} fields, not {len(values)}")
        if cls._checks:
            for check, value in zip(cls._checks, values, strict=True):
                if not check(value):
                    break
            else:
                return cls(*values)
        return cls(  # field by field: nested ones are made, a wrong one is named
            *(
                field.load(value, f"{cls.__name__}.{name}")
                for (name, field), value in zip(cls._fields, values, strict=True)
            )
        )

    def encode(self) -> bytes:
        """The record as msgpack bytes."""
        return pack(self.to_wire())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The record in msgpack bytes; raises RemoteError(MALFORMED)."""
        return cls.from_wire(unpack(data))


_R = TypeVar("_R", bound=Record)


@dataclass_transform(frozen_default=True)
def record(cls: type[_R]) -> type[_R]:
    """Class decorator: a frozen dataclass whose `Annotated` fields know their checks."""
    made = dataclass(frozen=True, slots=True)(cls)
    hints = get_type_hints(made, include_extras=True)
    made._fields = tuple((f.name, _field_of(hints[f.name], f"{cls.__name__}.{f.name}")) for f in fields(made))  # type: ignore[arg-type]
    if all(field.plain for _, field in made._fields):
        made._checks = tuple(field.check for _, field in made._fields)
    return made


def _field_of(hint: Any, where: str) -> Field:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Field):
            return extra
    raise TypeError(f"{where} has no Field in its annotation")
