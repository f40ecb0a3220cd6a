"""The only door to msgpack: one value, one encoding. Spec W-2 to W-4.

Decoding is strict. The unpacker is given every bound beforehand and refuses maps and extension types,
and what it returns is encoded again and compared, so that no integer, length or text has a second
spelling. Which type stands where is checked by `messages.schema`; no field there takes a float or
a boolean.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from channelpay.errors import ErrorCode, RemoteError
from channelpay.limits import MAX_ARRAY_ITEMS

_packer: Final = msgpack.Packer(use_bin_type=True)  # making one costs more than packing a payment does


def pack(value: Any) -> bytes:
    """The one encoding of `value`: lists, ints, bytes, text, None."""
    packed: bytes = _packer.pack(value)
    return packed


def _refused(*_: object) -> Any:
    """In place of a map or an extension type, also of an empty one, which no length bound stops."""
    raise ValueError("a type that does not travel")


def unpack(data: bytes, max_items: int = MAX_ARRAY_ITEMS) -> list[Any]:
    """The array in `data`; raises RemoteError(MALFORMED) unless it is its one strict encoding.

    `max_items` bounds every array in it.
    """
    size = len(data)
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=min(size, max_items),
            max_map_len=0,
            max_ext_len=0,
            object_hook=_refused,
            ext_hook=_refused,
        )
    # msgpack raises its own tree, ValueError and its children, and RecursionError on deep nesting
    except (ValueError, msgpack.UnpackException, RecursionError, TypeError, OverflowError) as error:
        raise RemoteError(ErrorCode.MALFORMED, f"no msgpack array: {type(error).__name__}") from None
    if type(value) is not list:
        raise RemoteError(ErrorCode.MALFORMED, f"an array is expected, not {type(value).__name__}")
    try:
        again = pack(value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        again = b""
    if again != data:  # spec W-3
        raise RemoteError(ErrorCode.MALFORMED, "not the shortest encoding of its value")
    return value
