"""All cases, in the order of the report."""

from channelpay.conformance.case import CASES, Case
from channelpay.conformance.cases import (  # noqa: F401
    acknowledging,
    bad_pays,
    bad_reestablish,
    closing,
    disputes,
    errors,
    frames,
    handshake,
    ledger_channels,
    ledger_disputes,
    ledger_events,
    ledger_money,
    ledger_requests,
    node_pays,
    opening,
    paying,
    reconnecting,
    refusing_offers,
    rollbacks,
    withdrawing,
)


def all_cases() -> dict[str, Case]:
    """Every case by its name."""
    return CASES
