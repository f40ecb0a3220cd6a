"""All cases. Importing this package fills `case.CASES` in the order of the report."""

from channelpay.conformance.cases import (  # noqa: F401, I001
    handshake,
    frames,
    errors,
    opening,
    refusing_offers,
    paying,
    bad_pays,
    acknowledging,
    node_pays,
    reconnecting,
    bad_reestablish,
    rollbacks,
    closing,
    disputes,
    withdrawing,
    ledger_requests,
    ledger_money,
    ledger_channels,
    ledger_disputes,
    ledger_events,
)
