"""Durable state on SQLite: the only place that knows apsw. Spec chapters 8 and 12.

`sqlite` opens a file safely, `ledger` keeps a ledger's books.
"""
