"""Micropayment channels: two nodes, co-signed balance states, a settlement ledger.

A service uses the names below; they are loaded when they are first asked for, so that the command
line does not pay for what it does not use. `channelpay.services.client` begins with an example.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_CLIENT = "channelpay.services.client"
_CONNECT = "channelpay.services.connect"
_EXCEPTIONS = "channelpay.services.exceptions"
_IDS = "channelpay.services.ids"
_VALUES = "channelpay.services.values"

# The same names stand in __init__.pyi, which is what type checkers read.
_HOMES = {
    "AddressError": _EXCEPTIONS,
    "AmountError": _EXCEPTIONS,
    "Balance": _VALUES,
    "Channel": _VALUES,
    "ChannelpayError": _EXCEPTIONS,
    "Client": _CLIENT,
    "Node": _CONNECT,
    "NotReachable": _EXCEPTIONS,
    "PaidMany": _VALUES,
    "PartlyPaid": _EXCEPTIONS,
    "Payment": _VALUES,
    "PaymentState": _VALUES,
    "PaymentStatus": _VALUES,
    "PaymentUnknown": _EXCEPTIONS,
    "Reason": _EXCEPTIONS,
    "ReceivedBatch": _VALUES,
    "ReceivedPayment": _VALUES,
    "Refused": _EXCEPTIONS,
    "StoreFailed": _EXCEPTIONS,
    "TRANSIENT": _EXCEPTIONS,
    "connect": _CONNECT,
    "new_payment_id": _IDS,
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'channelpay' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
