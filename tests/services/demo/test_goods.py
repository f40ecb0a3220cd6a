"""What is sold."""

import pytest

from channelpay.services.demo.goods import (
    PIECE_BYTES,
    NoGoods,
    load_goods,
    piece_count,
    piece_of,
    specification_text,
)


@pytest.mark.parametrize(("size", "pieces"), [(1, 1), (255, 1), (256, 1), (257, 2), (5_000_000, 19_532)])
def test_pieces_of_a_file(size, pieces):
    goods = bytes(index % 251 for index in range(size))
    assert piece_count(size) == pieces
    assert b"".join(piece_of(goods, index) for index in range(pieces)) == goods
    assert all(0 < len(piece_of(goods, index)) <= PIECE_BYTES for index in range(pieces))


def test_without_a_file_the_specification_is_sold_in_at_least_5000_pieces():
    goods, text = load_goods(None, None), specification_text()
    assert piece_count(len(goods)) == 5000
    assert goods.startswith(text[: len(goods)])
    assert b"MUST" in text
    assert piece_count(len(load_goods(None, 7))) == 7
    assert piece_count(len(load_goods(None, 20_000))) == 20_000


def test_a_file_is_sold_as_it_is_or_up_to_so_many_pieces(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    assert load_goods(file, None) == b"x" * 1000
    assert load_goods(file, 2) == b"x" * 512
    assert load_goods(file, 100) == b"x" * 1000


def test_nothing_to_sell(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for name, why in (("empty", "is empty"), ("absent", "No such file"), (".", "directory")):
        with pytest.raises(NoGoods, match=why):
            load_goods(tmp_path / name, None)
