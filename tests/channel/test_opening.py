"""From ACCEPTED to OPEN, whatever comes first."""

from itertools import permutations

import pytest

from channel_pair import Pair


def test_both_become_open_and_live() -> None:
    pair = Pair().open()
    pair.check_agree()


@pytest.mark.parametrize("order", list(permutations(["a reads", "b reads", "to a", "to b"] * 2, 8))[::499])
def test_any_order_of_readings_and_deliveries(order: tuple[str, ...]) -> None:
    pair = Pair()
    pair.fund()
    pair.connect()
    for what in order:
        match what:
            case "a reads":
                pair.a.read()
            case "b reads":
                pair.b.read()
            case "to a":
                pair.a.deliver(1)
            case "to b":
                pair.b.deliver(1)
    pair.run()
    pair.a.pay(5)
    pair.run()
    pair.check_agree()
    assert pair.b.disk.payments(0) == [(1, 5)]
