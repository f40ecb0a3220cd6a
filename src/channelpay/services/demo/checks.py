"""What must hold after the demo; pure, from facts that the nodes and the ledger told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from channelpay.amounts import format_units
from channelpay.errors import ChannelpayError
from channelpay.messages.control import ChannelInfo
from channelpay.services.demo.goods import PRICE_UNITS
from channelpay.services.demo.summary import USD, Check
from channelpay.statements import Half

COOPERATIVE: Final = ["open", "close_final"]
"""What a channel costs on the ledger if its parties agree to the end; a dispute is close and settle."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the checks look at. `*_before`, `*_after`: units on the ledger account, as the node reads it.

    `audit`, `accounts` and `on_ledger` are answers of the ledger's own commands; `entries` are the
    kinds of the journal's entries since the accounts were funded.
    """

    pieces: int
    sha256_original: str
    sha256_copy: str
    buyer_channel: ChannelInfo
    seller_channel: ChannelInfo
    seller_received: int
    buyer_before: int
    buyer_after: int
    seller_before: int
    seller_after: int
    buyer_account: str
    seller_account: str
    accounts: dict[str, Any]
    on_ledger: dict[str, Any]
    entries: list[str]
    audit: dict[str, Any]
    kills_wanted: int
    kills: int


def checks(facts: Facts) -> tuple[Check, ...]:
    """Every check, in the order of the story."""
    found = [
        _copy(facts),
        _counted(facts),
        _closed(facts),
        _co_signed(facts),
        _balances(facts),
        _books(facts),
        _audit(facts),
    ]
    if facts.kills_wanted:
        found.append(Check("daemons killed", facts.kills == facts.kills_wanted, f"{facts.kills} with SIGKILL"))
    return tuple(found)


def _copy(facts: Facts) -> Check:
    same = facts.sha256_original == facts.sha256_copy
    detail = f"SHA-256 {facts.sha256_copy}" if same else f"{facts.sha256_copy} instead of {facts.sha256_original}"
    return Check("copy identical", same, detail)


def _counted(facts: Facts) -> Check:
    """One payment for each piece, on both sides, and none delivered twice."""
    numbers = (facts.buyer_channel.own_n, facts.seller_channel.peer_n, facts.seller_received)
    return Check(
        "one payment per piece", numbers == (facts.pieces,) * 3,
        f"{facts.pieces} pieces; payments made {numbers[0]}, received {numbers[1]}, delivered {numbers[2]}",
    )  # fmt: skip


def _closed(facts: Facts) -> Check:
    settled = facts.on_ledger["status"] == "settled" and facts.buyer_channel.phase == "settled"
    return Check(
        "closed cooperatively", settled and facts.entries == COOPERATIVE,
        f"{facts.on_ledger['status']} on the ledger, by {', '.join(facts.entries)}",
    )  # fmt: skip


def _co_signed(facts: Facts) -> Check:
    """The buyer holds the seller's signature on exactly what was paid, and the ledger settled that."""
    state = facts.buyer_channel.state
    paid = facts.on_ledger["party0"]["paid"]
    wanted = (facts.pieces, facts.pieces * PRICE_UNITS)
    held = (-1, -1)
    if state is not None and state.signature0 and state.signature1:
        try:
            half = Half.unpack(state.half0)
            held = (half.n, half.total)
        except ChannelpayError:
            pass
    settled = (paid["payments"], int(paid["total"]["units"]))
    return Check(
        "co-signed state settled", held == settled == wanted,
        f"{settled[0]} payments, {format_units(settled[1], USD)} on the ledger; "
        + (f"{held[0]} co-signed" if held[0] >= 0 else "no co-signed state held"),
    )  # fmt: skip


def _balances(facts: Facts) -> Check:
    price = facts.pieces * PRICE_UNITS
    spent, earned = facts.buyer_before - facts.buyer_after, facts.seller_after - facts.seller_before
    return Check(
        "balances exact", spent == earned == price,
        f"the buyer paid {format_units(spent, USD)}, the seller got {format_units(earned, USD)}, "
        f"{facts.pieces} pieces cost {format_units(price, USD)}",
    )  # fmt: skip


def _books(facts: Facts) -> Check:
    """The ledger's own table of accounts says the same as the nodes."""
    held = {
        row["account"]: sum(int(holding["amount"]["units"]) for holding in row["holdings"])
        for row in facts.accounts["accounts"]
    }
    told = {facts.buyer_account: facts.buyer_after, facts.seller_account: facts.seller_after}
    differ = [name for name, units in told.items() if held.get(name, 0) != units]
    return Check("ledger agrees", not differ, "both accounts" if not differ else f"not on {', '.join(differ)}")


def _audit(facts: Facts) -> Check:
    balanced = facts.audit["balanced"] is True
    wrong = "; ".join(facts.audit["discrepancies"])
    return Check(
        "ledger audit", balanced, f"the books balance over {facts.audit['lines']} lines" if balanced else wrong
    )
