"""What travels: records and the tables of their types, one module for each conversation.

`schema` says how a record is checked, `peer` holds the messages between nodes (and the handshake
that every connection begins with), `ledger` the requests and answers of a ledger, `control` the
local socket of a daemon.
"""
