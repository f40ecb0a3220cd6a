"""What a scenario gives back, and how large it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

from channelpay.errors import ChannelpayError

T = TypeVar("T")


class BenchFailed(ChannelpayError):
    """A scenario could not be played, or its accounting is wrong: payments were lost or invented."""


@dataclass(frozen=True, slots=True)
class Size:
    """`small`: a second or two, for tests, where the figures mean nothing and the accounting all the same."""

    small: bool = False

    def of(self, full: T, small: T) -> T:
        """One value for a real run, another one for a small one."""
        return small if self.small else full


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one scenario; None: it has no such figure.

    `values` holds every mark of the scenario's row by its name, `ratio` among them. CPU in microseconds for each
    payment; the bytes that TCP carried (whole TLS records) in both directions together; commits of both stores
    together; memory as the largest peak of a process. `accounts` are counts of the same thing by different witnesses
    (payments `sent`, `received` and `settled`), which must be equal. `extra` is whatever else is worth telling, as
    JSON.
    """

    values: Mapping[str, float]
    payments_per_s: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    payer_cpu_us: float | None = None
    payee_cpu_us: float | None = None
    wire_bytes: float | None = None
    commits: float | None = None
    peak_mib: float | None = None
    accounts: Mapping[str, int] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, figures: Mapping[str, float], ratio: float, accounts: Mapping[str, int], **extra: float) -> Result:
        """A result with one mark, from the figures of `Pair.medians`."""
        return cls({"ratio": ratio}, **{name: figures[name] for name in FIGURES}, accounts=accounts, extra=extra)

    def check(self, name: str) -> None:
        """Raises BenchFailed unless all numbers of `accounts` are the same."""
        if len(set(self.accounts.values())) > 1:
            raise BenchFailed(f"{name}: the accounting is wrong: {dict(self.accounts)}")


FIGURES = (
    "payments_per_s", "p50_ms", "p99_ms", "payer_cpu_us", "payee_cpu_us", "wire_bytes", "commits", "peak_mib",
)  # fmt: skip
"""The fields of a Result that are figures, in the order of the table."""


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over the rounds."""
    return {name: median([one[name] for one in rounds]) for name in rounds[0]}
