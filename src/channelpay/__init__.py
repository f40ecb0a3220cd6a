"""Micropayment channels: two nodes, co-signed balance states, a settlement ledger."""

__version__ = "0.1.0"
