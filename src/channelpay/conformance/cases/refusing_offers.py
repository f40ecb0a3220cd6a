"""OPEN that must be refused: the code names the reason, `channel` the open_nonce, the connection goes on. Spec C-5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from channelpay.conformance.case import add, case
from channelpay.conformance.conversation import told
from channelpay.conformance.kit import Kit
from channelpay.conformance.verdict import NotRun, Violation, require, same
from channelpay.errors import ErrorCode, code_name
from channelpay.messages.peer import Accept, Error
from channelpay.statements import FLAG_TWO_WAY

_SMALL_ORDER = bytes([1]) + bytes(31)
_NOT_CANONICAL = b"\xff" * 31 + b"\x7f"
_NO_POINT = bytes([2]) + bytes(31)
_MOST_OFFERS = 64

_OFFERS: dict[str, tuple[str, str, ErrorCode, dict[str, Any]]] = {
    "flags-unknown": ("C-2", "unknown flags", ErrorCode.FLAGS_REFUSED, {"flags": 2}),
    "flags-high-bit": ("C-2", "an unknown flag beside a known one", ErrorCode.FLAGS_REFUSED, {"flags": 0x81}),
    "asset-unknown": ("C-5", "an asset that the ledger lacks", ErrorCode.ASSET_REFUSED, {"asset_id": bytes(16)}),
    "deposit-zero": ("C-5", "a deposit of nothing", ErrorCode.DEPOSIT_REFUSED, {"deposit": 0}),
    "window-zero": ("C-5 C-29", "a window of no time: theft", ErrorCode.WINDOW_REFUSED, {"window_s": 0}),
    "window-too-short": ("C-5 C-29", "a window below ten seconds", ErrorCode.WINDOW_REFUSED, {"window_s": 9}),
    "window-of-a-century": ("C-5 C-29", "a window of 136 years", ErrorCode.WINDOW_REFUSED, {"window_s": 2**32 - 1}),
    "batch-zero": ("C-5", "batches of nothing", ErrorCode.BATCH_REFUSED, {"max_batch": 0}),
    "batch-above-4096": ("C-5 C-29", "batches above 4,096", ErrorCode.BATCH_REFUSED, {"max_batch": 4097}),
    "limits-no-payments": ("C-5", "max_unacked 0", ErrorCode.LIMITS_REFUSED, {"max_unacked": 0}),
    "limits-no-value": ("C-5", "max_unacked_value 0", ErrorCode.LIMITS_REFUSED, {"max_unacked_value": 0}),
    "limits-contradict": (
        "C-5", "min_payment above max_unacked_value", ErrorCode.LIMITS_REFUSED,
        {"max_unacked_value": 10, "min_payment": 11},
    ),
    "channel-key-small-order": (
        "C-5 S-3", "a channel key of small order", ErrorCode.KEY_REFUSED, {"channel_key": _SMALL_ORDER},
    ),
    "channel-key-not-canonical": (
        "C-5 S-3", "a channel key with y above p", ErrorCode.KEY_REFUSED, {"channel_key": _NOT_CANONICAL},
    ),
    "channel-key-no-point": (
        "C-5 S-3", "a channel key that is no point", ErrorCode.KEY_REFUSED, {"channel_key": _NO_POINT},
    ),
    "account-small-order": ("C-5 S-3", "an account of small order", ErrorCode.KEY_REFUSED, {"account": _SMALL_ORDER}),
}  # fmt: skip


def _refused_offer(code: ErrorCode, changes: dict[str, Any]) -> Callable[[Kit], None]:
    def script(kit: Kit) -> None:
        talk = kit.connect()
        message, _ = kit.offer(**changes)
        talk.send(message)
        talk.expect_error(code, message.open_nonce)
        kit.accepted(talk)  # retry: nothing else has changed (E-2)

    return script


for _name, (_numbers, _about, _code, _changes) in _OFFERS.items():
    add(f"open-{_name}", f"The node refuses {_about}", f"{_numbers} E-3", _refused_offer(_code, _changes))


@case("C-5 E-1")
def open_too_many_channels(kit: Kit) -> None:
    """Channels that one peer opens are bounded"""
    talk = kit.connect()
    for _ in range(_MOST_OFFERS):
        message, _ = kit.offer()
        talk.send(message)
        answer = talk.receive()
        if isinstance(answer, Error):
            same(code_name(answer.code), code_name(ErrorCode.TOO_MANY_CHANNELS), "the code of ERROR")
            same(answer.channel, message.open_nonce, "the channel that ERROR names")
            return
        if not isinstance(answer, Accept):
            raise Violation(f"ACCEPT was due; {told(answer)}")
    raise NotRun(f"the node takes {_MOST_OFFERS} channels of one peer")


@case("C-5 E-8")
def open_refusals_leave_the_connection(kit: Kit) -> None:
    """Refused offers suspend nothing: an open channel of the same peer goes on"""
    party = kit.open()
    message, _ = kit.offer(flags=77)
    party.link.send(message)
    party.link.expect_error(ErrorCode.FLAGS_REFUSED, message.open_nonce)
    party.pay(10)
    require(party.terms.flags == FLAG_TWO_WAY, "another channel")
