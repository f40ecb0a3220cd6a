"""What is measured, and how good it must be: the table of spec chapter 16 as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Mark:
    """One number of a scenario that is judged: at least `floor`, better `goal`; at most, where lower is better."""

    name: str
    text: str
    floor: float
    goal: float
    lower_is_better: bool = False

    def reaches(self, value: float, bound: float) -> bool:
        """Whether `value` is as good as `bound`."""
        return value <= bound if self.lower_is_better else value >= bound


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario. The first mark is the one that the table shows as its ratio."""

    name: str
    measured: str
    topology: str
    marks: tuple[Mark, ...]


_TWO_NODES: Final = "2 processes, a node embedded in each, one channel"

ROWS: Final = (
    Row(
        "alone",
        "one awaited payment after another",
        _TWO_NODES,
        (Mark("ratio", "p50 / (2 commits + 2 sign + 2 verify + 1 TLS round trip)", 2.0, 1.5, lower_is_better=True),),
    ),
    Row(
        "each",
        "every payment its own signature (max_batch 1), pipelined",
        _TWO_NODES,
        (Mark("ratio", "payments/s / raw signing rate of one core", 0.4, 0.6),),
    ),
    Row(
        "awaited",
        "512 tasks, each awaiting pay() in turn",
        _TWO_NODES,
        (Mark("ratio", "payments/s / raw signing rate", 2.0, 3.4),),
    ),
    Row(
        "daemon",
        "512 tasks, each awaiting pay() in turn, in a client of a daemon",
        "4 processes: 2 daemons, a client of each, one channel",
        (Mark("ratio", "payments/s / raw signing rate", 0.6, 1.0),),
    ),
    Row(
        "bulk",
        "pay_many, the payee reading all",
        _TWO_NODES,
        (Mark("ratio", "payments/s / raw signing rate", 17.0, 34.0),),
    ),
    Row(
        "both",
        "awaited, in both directions at once",
        _TWO_NODES,
        (Mark("ratio", "payments/s of both / (2 / CPU of both sides per payment in awaited)", 0.8, 0.95),),
    ),
    Row(
        "fan-in",
        "1,000 channels of many payers into one payee, every payment coming alone",
        "3 processes: the payee's embedded node, and 500 payers in each of two, who sign before the time begins",
        (
            Mark("ratio", "payments/s / one core's 1 / (verify + sign)", 0.4, 0.7),
            Mark("most_least", "payments of the most served channel / of the least served", 2.0, 2.0, True),
        ),
    ),
    Row(
        "idle",
        "10,000 open channels with TLS connections on one node",
        "1 process with the node, the other ends in other processes",
        (
            Mark("ratio", "KiB for each channel and connection", 60.0, 40.0, lower_is_better=True),
            Mark("alone", "p50 of a payment on one of them / of alone", 2.0, 1.5, lower_is_better=True),
        ),
    ),
    Row(
        "restart",
        "start of a node with 100,000 channels and 10,000,000 past payments, until it serves",
        "2 processes, a node embedded in each: the one that is killed and started, a peer of it",
        (
            Mark("ratio", "seconds from the start until a payment is acknowledged", 10.0, 5.0, lower_is_better=True),
            Mark("growth", "seconds with all past payments / with next to none", 1.5, 1.2, lower_is_better=True),
        ),
    ),
    Row(
        "disk",
        "bytes stored for each payment",
        "1 store",
        (
            Mark("ratio", "bytes a payment in bulk, without ids", 48.0, 32.0, lower_is_better=True),
            Mark("alone", "bytes a payment that came alone", 500.0, 400.0, lower_is_better=True),
            Mark("pruned", "bytes a channel after pruning: many payments / few", 1.5, 1.2, lower_is_better=True),
        ),
    ),
    Row(
        "ledger",
        "opens, closes, disputes and transfers",
        "1 ledger daemon, 64 clients in 1 process, each awaiting its answers, 1 that reads",
        (Mark("ratio", "operations/s / one core's 1 / (signatures that each must verify)", 0.4, 0.6),),
    ),
)

BY_NAME: Final = {row.name: row for row in ROWS}
