"""Every check of the demo holds on a good run, and each fails, alone, on what it is there for."""

from dataclasses import replace

import pytest

from channelpay.messages.control import CoSignedState
from channelpay.services.demo.checks import Facts, checks
from channelpay.statements import Half
from services.fake_daemon import channel_info

PIECES = 5000
PAID = PIECES * 100


def co_signed(n=PIECES, total=PAID, signature=b"s" * 64):
    return CoSignedState(Half(n, total, b"h" * 32).pack(), Half().pack(), b"t" * 64, signature)


def channel(**changed):
    return replace(channel_info(phase="settled"), **changed)


def on_ledger(status="settled", payments=PIECES, units=PAID):
    return {"status": status, "party0": {"paid": {"payments": payments, "total": {"units": str(units), "text": ""}}}}


def accounts(buyer=2_000_000 - PAID, seller=7 + PAID):
    rows = {"cpa1buyer": buyer, "cpa1seller": seller, "cpa1other": 5}
    return {
        "accounts": [
            {"account": name, "holdings": [{"asset": "USD", "amount": {"units": str(units), "text": ""}}]}
            for name, units in rows.items()
        ]
    }


GOOD = Facts(
    pieces=PIECES,
    sha256_original="ab" * 32,
    sha256_copy="ab" * 32,
    buyer_channel=channel(own_n=PIECES, own_total=PAID, state=co_signed()),
    seller_channel=channel(peer_n=PIECES, peer_total=PAID),
    seller_received=PIECES,
    buyer_before=2_000_000,
    buyer_after=2_000_000 - PAID,
    seller_before=7,
    seller_after=7 + PAID,
    buyer_account="cpa1buyer",
    seller_account="cpa1seller",
    accounts=accounts(),
    on_ledger=on_ledger(),
    entries=["open", "close_final"],
    audit={"balanced": True, "discrepancies": [], "lines": 8},
    kills_wanted=2,
    kills=2,
)


def test_a_good_run():
    assert [check.name for check in checks(GOOD)] == [
        "copy identical",
        "one payment per piece",
        "closed cooperatively",
        "co-signed state settled",
        "balances exact",
        "ledger agrees",
        "ledger audit",
        "daemons killed",
    ]
    assert all(check.holds for check in checks(GOOD))
    assert "daemons killed" not in [check.name for check in checks(replace(GOOD, kills_wanted=0, kills=0))]


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        ({"sha256_copy": "cd" * 32}, "copy identical"),
        ({"seller_received": PIECES + 1}, "one payment per piece"),
        ({"seller_channel": channel(peer_n=PIECES - 1)}, "one payment per piece"),
        ({"buyer_channel": channel(own_n=PIECES + 1, state=co_signed())}, "one payment per piece"),
        ({"entries": ["open", "close", "settle"]}, "closed cooperatively"),
        ({"entries": ["open"]}, "closed cooperatively"),
        ({"on_ledger": on_ledger(status="closing")}, "closed cooperatively"),
        ({"buyer_channel": channel(own_n=PIECES, phase="closing", state=co_signed())}, "closed cooperatively"),
        ({"buyer_channel": channel(own_n=PIECES, state=None)}, "co-signed state settled"),
        ({"buyer_channel": channel(own_n=PIECES, state=co_signed(signature=None))}, "co-signed state settled"),
        ({"buyer_channel": channel(own_n=PIECES, state=co_signed(n=PIECES - 1))}, "co-signed state settled"),
        ({"on_ledger": on_ledger(units=PAID - 1)}, "co-signed state settled"),
        ({"on_ledger": on_ledger(payments=PIECES - 1)}, "co-signed state settled"),
        ({"buyer_after": GOOD.buyer_after - 1, "accounts": accounts(buyer=GOOD.buyer_after - 1)}, "balances exact"),
        ({"seller_after": GOOD.seller_after + 1, "accounts": accounts(seller=GOOD.seller_after + 1)}, "balances exact"),
        ({"accounts": accounts(seller=0)}, "ledger agrees"),
        ({"accounts": {"accounts": []}}, "ledger agrees"),
        ({"audit": {"balanced": False, "discrepancies": ["USD: off by one"], "lines": 8}}, "ledger audit"),
        ({"kills": 1}, "daemons killed"),
    ],
)
def test_each_check_fails_alone(changed, failed):
    assert [check.name for check in checks(replace(GOOD, **changed)) if not check.holds] == [failed]


def test_a_failed_check_says_what_it_found():
    found = {check.name: check.detail for check in checks(replace(GOOD, sha256_copy="cd" * 32, seller_received=4999))}
    assert found["copy identical"] == f"{'cd' * 32} instead of {'ab' * 32}"
    assert found["one payment per piece"].endswith("payments made 5000, received 5000, delivered 4999")
