"""The only door to msgpack: one value, one encoding. Spec T-3.

Decoding is strict. The unpacker is given every bound beforehand, and what it returns is encoded
again and compared, so non-minimal integers, map keys, extension types and trailing bytes have no
second spelling. Types are checked by `messages.schema`.
"""

from __future__ import annotations

from typing import Any

import msgpack

from channelpay.errors import ErrorCode, RemoteError


def pack(value: Any) -> bytes:
    """The one encoding of `value`: lists, ints, bytes, text, None."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes) -> list[Any]:
    """The array in `data`; raises RemoteError(MALFORMED) unless it is its one strict encoding."""
    size = len(data)
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=size,
            max_bin_len=size,
            max_array_len=size,
            max_map_len=0,
            max_ext_len=0,
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
    if again != data:
        raise RemoteError(ErrorCode.MALFORMED, "not the shortest encoding of its value")
    return value
