"""Due times, and the roster of channels, against what they replace: looking at everything."""

from __future__ import annotations

import random

from channelpay.node.timers import Timers


def test_every_key_comes_due_once_and_never_late():
    rng = random.Random(7)
    timers, due_at, clock = Timers(), {}, 0.0
    for _ in range(3000):
        key = bytes([rng.randrange(20)])
        due = None if rng.random() < 0.1 else clock + rng.uniform(0, 10)
        timers.arm(key, due)
        due_at[key] = due
        clock += rng.uniform(0, 0.5)
        for fired in timers.due(clock):
            wanted = due_at[fired]
            if wanted is not None and wanted <= clock:
                due_at[fired] = None
            else:
                timers.arm(fired, wanted)  # it came early, as one that moved away does
        assert all(due is None or due > clock for due in due_at.values()), "nothing that is due is left"
        first = timers.next()
        assert first is None or first > clock
        assert all(due is None or first <= due for due in due_at.values())


def test_times_that_move_away_cost_nothing():
    timers = Timers()
    for n in range(10_000):
        timers.arm(b"busy", 30.0 + n)
    assert len(timers._heap) == 1
    assert timers.next() == 30.0
