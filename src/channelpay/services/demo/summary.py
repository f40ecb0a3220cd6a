"""What a run of the demo showed, in numbers; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from channelpay.amounts import Asset, format_units
from channelpay.services.demo.goods import ASSET_CODE, ASSET_SCALE, PIECE_BYTES, PRICE_UNITS

CARD_FIXED_UNITS: Final = 300_000
"""0.30 USD for each payment,"""
CARD_PER_MILLE: Final = 29
"""and 2.9 % of it: a usual price of card payments on the internet."""

USD: Final = Asset(bytes(16), ASSET_CODE, ASSET_SCALE, bytes(32))


def percentile(values: Sequence[float], per_cent: int) -> float:
    """The nearest-rank percentile: the least value that `per_cent` of all do not exceed; 0.0 of none."""
    if not values:
        return 0.0
    rank = max(1, -(-len(values) * per_cent // 100))
    return sorted(values)[rank - 1]


def card_cost_units(payments: int, total_units: int) -> int:
    """What the same payments would cost by card, rounded up to the unit."""
    return payments * CARD_FIXED_UNITS + -(-total_units * CARD_PER_MILLE // 1000)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold; `detail` says what was found."""

    name: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. Times in seconds and milliseconds, bytes of frames between the two nodes before TLS."""

    file: str
    file_bytes: int
    sha256: str
    pieces: int
    payments: int
    seconds: float
    median_ms: float
    p99_ms: float
    wire_bytes: int
    ledger_transactions: int
    kills: int
    unknown: int
    found_paid: int
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    @property
    def total_units(self) -> int:
        """What all pieces cost."""
        return self.pieces * PRICE_UNITS

    @property
    def payments_per_second(self) -> float:
        """From the first request to the last piece."""
        return self.payments / self.seconds if self.seconds else 0.0

    @property
    def wire_bytes_per_payment(self) -> float:
        """Both directions together, with all that opening and closing takes."""
        return self.wire_bytes / self.payments if self.payments else 0.0

    @property
    def ledger_transactions_per_payment(self) -> float:
        """Opening and closing are transactions; payments are none."""
        return self.ledger_transactions / self.payments if self.payments else 0.0

    def as_json(self) -> dict[str, Any]:
        """For programs; amounts as in spec N-22."""
        return {
            "ok": self.ok,
            "file": {"name": self.file, "bytes": self.file_bytes, "sha256": self.sha256},
            "pieces": self.pieces,
            "piece_bytes": PIECE_BYTES,
            "price": amount_json(PRICE_UNITS),
            "payments": self.payments,
            "total": amount_json(self.total_units),
            "seconds": round(self.seconds, 3),
            "payments_per_second": round(self.payments_per_second, 1),
            "latency_ms": {"median": round(self.median_ms, 3), "p99": round(self.p99_ms, 3)},
            "wire_bytes_per_payment": round(self.wire_bytes_per_payment, 1),
            "ledger_transactions": self.ledger_transactions,
            "ledger_transactions_per_payment": round(self.ledger_transactions_per_payment, 6),
            "card_cost": amount_json(card_cost_units(self.payments, self.total_units)),
            "kills": self.kills,
            "unknown_payments": {
                "count": self.unknown,
                "had_been_paid": self.found_paid,
                "paid_again": self.unknown - self.found_paid,
            },
            "checks": [{"name": c.name, "holds": c.holds, "detail": c.detail} for c in self.checks],
        }

    def as_lines(self) -> list[str]:
        """For people."""
        card = format_units(card_cost_units(self.payments, self.total_units), USD)
        rows = [
            ("payments", f"{self.payments:,} of {format_units(PRICE_UNITS, USD)} each"),
            ("total", format_units(self.total_units, USD)),
            ("speed", f"{self.payments_per_second:,.0f} payments/s ({self.seconds:.2f} s)"),
            ("latency", f"{self.median_ms:.1f} ms median, {self.p99_ms:.1f} ms 99th percentile"),
            ("on the wire", f"{self.wire_bytes_per_payment:.1f} bytes per payment"),
            ("on the ledger", f"{self.ledger_transactions} transactions in all, "
                              f"{self.ledger_transactions_per_payment:.6f} per payment"),
            ("by card", f"the same payments would have cost {card} in fees (2.9 % + 0.30 USD each)"),
        ]  # fmt: skip
        if self.kills:
            again = self.unknown - self.found_paid
            rows.append(
                ("killed", f"{self.kills} daemons; {self.unknown} payments were unknown: {self.found_paid} had been "
                           f"paid, {again} were sent again with their ids")
            )  # fmt: skip
        lines = [f"{name:<14} {text}" for name, text in rows]
        lines += [f"{'ok' if check.holds else 'FAILED':<14} {check.name}: {check.detail}" for check in self.checks]
        return lines


def amount_json(units: int) -> dict[str, str]:
    """An amount for programs: units as text, because JSON's numbers are floats in most languages."""
    return {"units": str(units), "text": format_units(units, USD)}
