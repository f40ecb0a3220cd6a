"""Many channels into one payee, every payment coming alone: first at a modest rate, then as fast as it goes."""

from __future__ import annotations

from typing import Final

from benchmarks.crowd import Crowds, open_crowds
from benchmarks.limits import Limits
from benchmarks.result import FIGURES, Result, Size, medians
from benchmarks.stage import Stage

_PROCESSES: Final = 2
_PER_S: Final = 2.0
_PREPARED: Final = 30
"""Payments of each end that are signed before a round: more than it can make."""


async def run(stage: Stage, limits: Limits, size: Size) -> Result:
    """See the module."""
    home = await stage.make_home("payee", **Crowds.SETTINGS)
    payee = await stage.node("payee", home)
    await payee.call("benchmarks.work:start_reading")
    crowds = await open_crowds(stage, payee, processes=_PROCESSES, channels=size.of(1000, 20))
    modest = await crowds.pay_at_rate(_PER_S, size.of(10.0, 1.0))
    await crowds.pay_flat_out(size.of(2.0, 0.2), prepare=0)
    rounds = [await crowds.pay_flat_out(size.of(5.0, 0.5), size.of(_PREPARED, 5)) for _ in range(size.of(3, 1))]
    found = medians(rounds)
    accounts = await crowds.settle()
    ratio = found["payments_per_s"] * (limits.verify_us + limits.sign_us) / 1e6
    flat_out = {name: found[name] for name in ("p50_ms", "p99_ms")}
    figures = {name: found[name] for name in FIGURES} | {name: modest[name] for name in ("p50_ms", "p99_ms")}
    marks = {"ratio": ratio, "most_least": found["most_least"]}
    return Result(marks, **figures, accounts=accounts, extra={"flat_out": flat_out})
