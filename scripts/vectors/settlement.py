"""settlement.json: joins of halves, payouts, claims, deadlines after an outage, balances of a pair."""

from __future__ import annotations

from typing import Any

from vectors.common import BUYER, CHANNEL, SALT0, SALT1, TERMS, Case, case, fill, made, shown

from channelpay.channel.state import Channel, Reading, ReceiveLimits, Setup
from channelpay.errors import ErrorCode, RemoteError
from channelpay.ledger.books import ChannelRow
from channelpay.ledger.disputes import extended_deadline, join, share_of_party1
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.statements import ZERO_HALF, Half

TOP = 2**63 - 1


def settlement_cases() -> list[Case]:
    return join_cases() + payout_cases() + deadline_cases() + balance_cases()


# --- Joins -------------------------------------------------------------------------------------


def join_cases() -> list[Case]:
    low, high = sorted(fill(f"history {i}") for i in range(2))
    held = Half(5, 500, low)
    rows = {
        "the first that is shown": (ZERO_HALF, held),
        "nothing new": (held, held),
        "the zero half later": (held, ZERO_HALF),
        "both zero": (ZERO_HALF, ZERO_HALF),
        "a higher n, a higher T": (held, Half(6, 501, high)),
        "a lower n, a lower T": (held, Half(4, 499, high)),
        "a higher n, an equal T": (held, Half(6, 500, high)),
        "a lower n, an equal T": (held, Half(4, 500, high)),
        "a higher n, a lower T: equivocation": (held, Half(6, 400, high)),
        "a lower n, a higher T: equivocation": (held, Half(4, 600, high)),
        "equal n, a higher h: equivocation": (held, Half(5, 500, high)),
        "equal n, a lower h: nothing changes": (Half(5, 500, high), held),
        "equal n and h, a higher T: equivocation": (held, Half(5, 501, low)),
        "equal n and h, a lower T: nothing changes": (held, Half(5, 499, low)),
        "equal n, a higher h, a lower T: equivocation": (held, Half(5, 499, high)),
        "equal n, a lower h, a higher T: equivocation": (Half(5, 500, high), Half(5, 501, low)),
        "the largest n and T": (held, Half(TOP, TOP, high)),
        "the largest n, T of n, over a larger T": (Half(5, TOP, low), Half(6, 6, high)),
        "n above 2^63-1": (held, Half(TOP + 1, TOP, high)),
        "T above 2^63-1": (held, Half(6, TOP + 1, high)),
        "T below n": (held, Half(6, 5, high)),
        "n = 0 with a total": (held, Half(0, 1)),
        "n = 0 with a history": (held, Half(0, 0, high)),
        "L not zero": (held, Half(6, 600, high, locked=1)),
        "R not zero": (held, Half(6, 600, high, root=low)),
    }
    return [
        case("join", n, shown({"held": a.pack(), "new": b.pack()}), lambda a=a, b=b: joined(a, b.pack()))
        for n, (a, b) in rows.items()
    ]


def joined(held: Half, new: bytes) -> Any:
    try:
        found = join(held, Half.unpack(new))
    except RemoteError as error:
        reserved = error.code is ErrorCode.RESERVED_FIELD
        raise LedgerRefused(Outcome.RESERVED_FIELD if reserved else Outcome.UNSOUND_HALF) from None
    return {"half": found.half.pack().hex(), "equivocation": str(int(found.equivocation))}


# --- Payouts and claims ------------------------------------------------------------------------


def payout_cases() -> list[Case]:
    rows = {
        "nothing paid": (1000, 0, 0, 0, 0, 0),
        "a channel without money": (0, 0, 0, 0, 0, 0),
        "party 0 paid": (1000, 0, 0, 0, 300, 0),
        "both paid": (1000, 500, 0, 0, 300, 120),
        "both paid the same": (1000, 500, 0, 0, 700, 700),
        "party 0 paid all it had": (1000, 0, 0, 0, 1000, 0),
        "one unit more: clamped to the pot": (1000, 0, 0, 0, 1001, 0),
        "party 1 paid all it had": (1000, 500, 0, 0, 0, 500),
        "one unit more: clamped to zero": (1000, 500, 0, 0, 0, 501),
        "paid back and forth beyond the deposits": (1000, 500, 0, 0, 10_000_000, 9_999_500),
        "party 1 took out what it received": (1000, 0, 0, 300, 300, 0),
        "party 0 took out": (1000, 0, 400, 0, 300, 0),
        "party 1 took out more than it then had": (1000, 500, 0, 600, 0, 0),
        "party 0 took out more than it then had": (1000, 500, 1100, 0, 0, 0),
        "all is taken out": (1000, 500, 1000, 500, 0, 0),
        "an empty pot and payments": (1000, 500, 900, 600, 77, 5),
        "the largest deposit": (TOP, 0, 0, 0, 0, 0),
        "the largest deposit, paid": (TOP, 0, 0, 0, TOP, 0),
        "the largest deposit of party 1": (0, TOP, 0, 0, 0, 0),
        "the largest totals": (1000, 500, 0, 0, TOP, TOP),
        "the largest total of party 0": (1, TOP - 1, 0, 0, TOP, 0),
        "the largest total of party 1": (TOP - 1, 1, 0, 0, 0, TOP),
        "an intermediate sum above 2^63-1": (0, TOP, 0, 0, TOP, 1),
        "an intermediate sum below -2^63": (TOP, 0, 0, TOP, 0, TOP),
    }
    found = []
    for name, row in rows.items():
        fields = dict(zip(("deposit0", "deposit1", "withdrawn0", "withdrawn1", "total0", "total1"), row, strict=True))
        out1 = share(fields)
        pot = sum(row[:2]) - sum(row[2:4])
        found.append(made("payout", name, shown(fields), {"out0": str(pot - out1), "out1": str(out1)}))
        if row[1] == 0:
            expect = {"units": str(out1), "withdrawn1": str(fields["withdrawn1"] + out1)}
            found.append(made("claim", name, shown(fields), expect))
    return found


def share(fields: dict[str, int]) -> int:
    return share_of_party1(
        ChannelRow(
            CHANNEL, *TERMS[1:], 0, fields["deposit0"], fields["deposit1"], 0, 0, fields["withdrawn0"],
            fields["withdrawn1"], Half(1, fields["total0"]), Half(1, fields["total1"]),
        )
    )  # fmt: skip


# --- Deadlines ---------------------------------------------------------------------------------


def deadline_cases() -> list[Case]:
    rows = {
        "far ahead of the outage": (100_000, 86_400, 50_000),
        "within the grace": (50_100, 86_400, 50_000),
        "just at the grace": (50_600, 86_400, 50_000),
        "passed meanwhile": (49_000, 86_400, 50_000),
        "a window shorter than the grace": (49_000, 10, 50_000),
        "a window of the grace": (49_000, 600, 50_000),
        "a window a second longer": (49_000, 601, 50_000),
    }
    found = []
    for name, (deadline, window_s, now) in rows.items():
        row = ChannelRow(CHANNEL, *TERMS[1:8], window_s, 1, 1, 0, 0, 0, 0, deadline=deadline)
        given = shown({"deadline": deadline, "window_s": window_s, "now": now})
        found.append(made("extended deadline", name, given, {"deadline": str(extended_deadline(row, now))}))
    return found


# --- Balances (C-8) ----------------------------------------------------------------------------


def balance_cases() -> list[Case]:
    rows = {
        "nothing paid": (0, 1000, 500, 0, 0, 0, 0),
        "party 0 pays": (0, 1000, 500, 0, 0, 300, 120),
        "party 1 pays": (1, 1000, 500, 0, 0, 300, 120),
        "party 0 pays all it has": (0, 1000, 0, 0, 0, 1000, 0),
        "party 0 pays a unit more": (0, 1000, 0, 0, 0, 1001, 0),
        "party 1 pays what it received": (1, 1000, 0, 0, 0, 300, 300),
        "party 1 pays a unit more than it received": (1, 1000, 0, 0, 0, 300, 301),
        "a withdrawal that may still execute": (0, 1000, 0, 2, 0, 999, 0),
        "a withdrawal that leaves just enough": (0, 1000, 0, 2, 0, 998, 0),
        "the payee's own balance is below zero: it does not look at that": (0, 1000, 0, 0, 300, 200, 0),
        "the largest": (0, TOP, 0, 0, 0, TOP, 0),
        "back and forth": (1, 1, 0, 0, 0, TOP, TOP - 1),
        "back and forth, a unit more": (1, 1, 0, 0, 0, TOP - 1, TOP),
        "after a top-up that the payer saw first": (0, 1050, 0, 0, 0, 1040, 0),
        "before that top-up": (0, 1000, 0, 0, 0, 1040, 0),
    }
    names = ("payer", "deposit0", "deposit1", "withdrawn0", "withdrawn1", "total0", "total1")
    found = []
    for name, row in rows.items():
        fields = dict(zip(names, row, strict=True))
        found.append(case("balance", name, shown(fields), lambda f=fields: balances(f)))
    return found


def balances(fields: dict[str, int]) -> Any:
    """Both balances of a pair that the payer signed, as its receiver judges it."""
    limits = ReceiveLimits(1, 1, 1)
    channel = Channel(CHANNEL, Setup(TERMS, 0, bytes(32), 0, SALT0, SALT1, 0, limits, limits), BUYER.channel(0))
    deposits = (fields["deposit0"], fields["deposit1"])
    channel.reading = Reading(deposits=deposits, withdrawn=(fields["withdrawn0"], fields["withdrawn1"]))
    halves = (Half(1, fields["total0"]), Half(1, fields["total1"]))
    both = [channel.balance(party, *halves) for party in (0, 1)]
    if both[fields["payer"]] < 0:
        raise RemoteError(ErrorCode.BALANCE, "the payer's balance is below zero")
    return {"balance0": str(both[0]), "balance1": str(both[1])}
