"""What is sold: a file in pieces of 256 bytes, 0.0001 USD each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import channelpay

PIECE_BYTES: Final = 256
PRICE_UNITS: Final = 100
"""0.0001 USD."""

ASSET_CODE: Final = "USD"
ASSET_SCALE: Final = 6
DEFAULT_PIECES: Final = 5_000
MAX_FILE_BYTES: Final = 1 << 30
"""The demo reads the whole file; a gigabyte is four million pieces."""


class NoGoods(channelpay.ChannelpayError):
    """There is nothing to sell."""


def piece_count(size: int) -> int:
    """Pieces of a file of `size` bytes; the last may be shorter."""
    return -(-size // PIECE_BYTES)


def piece_of(goods: bytes, index: int) -> bytes:
    """Piece `index`, counted from 0."""
    return goods[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]


def load_goods(file: Path | None, pieces: int | None) -> bytes:
    """The bytes to sell: the file's, or the specification's text again and again; at most `pieces` of them.

    Raises NoGoods.
    """
    if file is None:
        text = specification_text()
        size = (pieces or DEFAULT_PIECES) * PIECE_BYTES
        return (text * -(-size // len(text)))[:size]
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise NoGoods(f"{file} has {size} bytes; the demo sells at most {MAX_FILE_BYTES}")
        goods = file.read_bytes()
    except OSError as error:
        raise NoGoods(f"{file} cannot be read: {error.strerror}") from None
    if not goods:
        raise NoGoods(f"{file} is empty: nothing to sell")
    return goods if pieces is None else goods[: pieces * PIECE_BYTES]


def specification_text() -> bytes:
    """The specification: beside the package when installed, at the top of a checkout otherwise. Raises NoGoods."""
    package = Path(channelpay.__file__).parent
    for place in (package / "_spec", package.parents[1] / "spec"):
        chapters = sorted(place.glob("*.md"))
        if chapters:
            return b"\n".join(chapter.read_bytes() for chapter in chapters)
    raise NoGoods("the specification's text is not installed; name a file to sell")
