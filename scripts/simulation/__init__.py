"""Whole lives of daemons and a ledger in one thread, decided by a seed. See spec/17-simulation.md."""
