"""operations.json: what one request does to a ledger's books, or how it is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vectors.common import BUYER, CHANNEL, ISSUER, LEDGER, SELLER, TERMS, USD, Case, case, fill, hexed, shown
from vectors.statements import HALF0, HALF1, LEDGER_ID, ZERO

from channelpay import crypto, statements
from channelpay.ledger.books import AssetRow, ChannelRow, Holder, Rules
from channelpay.ledger.memory import MemoryBooks
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.requests import Admitted, Ledger
from channelpay.messages import ledger as ops
from channelpay.statements import Half

NOW = 1_750_000_000
TOP = 2**63 - 1
RULES = Rules(LEDGER.account.public, 10, 2_592_000, 5)
OWNER0, OWNER1, STRANGER = BUYER.account.public, SELLER.account.public, fill("stranger")
KEY0, KEY1 = BUYER.channel(0), SELLER.channel(0)
ASSET = AssetRow(USD, "USD", 6, ISSUER.account.public, 10**9)
FUNDS = {OWNER0: 1000, OWNER1: 50}
CHANNEL_FIELDS = [name for name in ops.ChannelView.__dataclass_fields__ if name not in ("number", "time", "opened")]

TWO_WAY = ChannelRow(CHANNEL, *TERMS[1:7], 0, 86_400, 4096, ops.OPEN, 1000, 200, opened=0, number=0)
ONE_WAY_TERMS = TERMS._replace(flags=1)
ONE_WAY = TWO_WAY._replace(channel_id=ONE_WAY_TERMS.channel_id(), flags=1, deposit1=0)


def at_deadline(row: ChannelRow, deadline: int) -> ChannelRow:
    return row._replace(status=ops.CLOSING, deadline=deadline)


CLOSING = at_deadline(TWO_WAY, NOW + 1)
SETTLED = TWO_WAY._replace(status=ops.SETTLED, deadline=NOW - 5, out0=1000, out1=200)


def later(held: Half, n: int, total: int, history: str = "later") -> Half:
    """A half with other numbers and a history hash of its own."""
    return held._replace(n=n, total=total, h=fill(f"{history} {n}"))


# --- Signed agreements -------------------------------------------------------------------------


def state(row: ChannelRow, half0: Half, half1: Half = ZERO, signed: ChannelRow | None = None) -> ops.CoSigned:
    message = statements.state_bytes((signed or row).channel_id, half0, half1)
    return ops.CoSigned(half0.pack(), half1.pack(), KEY0.sign(message), KEY1.sign(message))


def final(row: ChannelRow, half0: Half, half1: Half, expiry: int = NOW) -> ops.CloseFinal:
    message = statements.final_bytes(row.channel_id, half0, half1, expiry)
    signatures = (KEY0.sign(message), KEY1.sign(message))
    return ops.CloseFinal(row.channel_id, half0.pack(), half1.pack(), expiry, *signatures)


def withdrawal(row: ChannelRow, party: int, total: int, expiry: int = NOW) -> ops.Withdraw:
    message = statements.withdraw_bytes(row.channel_id, party, total, expiry)
    return ops.Withdraw(row.channel_id, party, total, expiry, KEY0.sign(message), KEY1.sign(message))


def opening(**changes: Any) -> ops.OpenChannel:
    """A sound opening with some terms changed before it is signed."""
    deposit = changes.pop("deposit", 1000)
    terms = TERMS._replace(**changes)
    consent = statements.accepted_bytes(terms.channel_id())
    fields = terms._asdict()
    del fields["ledger_id"]
    return ops.OpenChannel(**fields, deposit=deposit, accepted0=KEY0.sign(consent), accepted1=KEY1.sign(consent))


# --- Cases -------------------------------------------------------------------------------------


def operation_cases() -> list[Case]:
    groups = (asset_rows, open_rows, withdraw_rows, claim_rows, final_rows, close_rows, respond_rows, settle_rows)
    return [found for group in groups for found in group()]


def told(
    name: str,
    key: bytes,
    op: ops.Operation,
    row: ChannelRow | None = TWO_WAY,
    *also: str,
    asset: AssetRow = ASSET,
    funds: dict[bytes, int] = FUNDS,
    until: int = NOW,
) -> Case:
    """The case of one request at NOW on books with one asset, these accounts and this channel."""
    blob = ops.LedgerRequest(key, until, op).encode()
    rules = {"ledger_id": LEDGER_ID, "operator": RULES.operator, "min_window_s": RULES.min_window_s}
    rules |= {"max_window_s": RULES.max_window_s, "min_deposit": RULES.min_deposit}
    asset_fields = {"asset_id": asset.asset_id, "code": asset.code, "scale": asset.scale, "issuer": asset.issuer}
    given = {
        "now": str(NOW),
        "rules": shown(rules),
        "assets": [shown({**asset_fields, "issued": asset.issued})],
        "accounts": [shown({"account": a, "asset_id": asset.asset_id, "units": u}) for a, u in funds.items()],
        "channel": row and channel_fields(row),
        "blob": hexed(blob),
    }
    return case("ledger operation", f"{op.OP}: {name}", given, lambda: performed(blob, row, asset, funds), *also)


def channel_fields(row: ChannelRow) -> dict[str, str]:
    fields = {name: getattr(row, name) for name in CHANNEL_FIELDS}
    return shown({name: value.pack() if isinstance(value, Half) else value for name, value in fields.items()})


def performed(blob: bytes, row: ChannelRow | None, asset: AssetRow, funds: dict[bytes, int]) -> Any:
    """What our ledger does with the request: the lines that it writes and the channel after it."""
    books = MemoryBooks(NOW)
    books.put_asset(asset)
    for account, units in funds.items():
        books.put_balance(account, asset.asset_id, units)
    if row is not None:
        books.add_channel(row)
    asked = ops.LedgerRequest.decode(blob)
    admitted = Admitted(bytes(16), crypto.sha256(blob), asked.key, asked.valid_until, asked.operation)
    response = Ledger(LEDGER.identity, RULES).write(books, admitted, NOW)
    if response.outcome:
        raise LedgerRefused(Outcome(response.outcome))
    names = {Holder.ACCOUNT: "account", Holder.CHANNEL: "channel", Holder.ISSUED: "source"}
    lines = [
        {"kind": str(line.kind), "holder": names[line.holder], "owner": line.owner.hex(), "units": str(line.delta)}
        for line in books.whole_journal()
    ]
    touched = [line.owner for line in books.whole_journal() if line.holder is Holder.CHANNEL]
    after = books.channel(touched[-1]) if touched else row
    return {"lines": lines, "channel": after and channel_fields(after)}


def asset_rows() -> list[Case]:
    operator, issuer, poor = LEDGER.account.public, ISSUER.account.public, {OWNER0: 10}
    small = (1).to_bytes(32, "little")
    rich = replace(ASSET, issued=TOP - 5)
    other = bytes(16)
    return [
        told("by the operator", operator, ops.CreateAsset("EUR", 2, issuer), None, "L-17"),
        told("scale 18", operator, ops.CreateAsset("A23456789012", 18, issuer), None, "M-7", "M-3"),
        told("by another", OWNER0, ops.CreateAsset("EUR", 2, issuer), None, "L-17"),
        told("a code in small letters", operator, ops.CreateAsset("eur", 2, issuer), None, "M-3"),
        told("no code", operator, ops.CreateAsset("", 2, issuer), None, "M-3"),
        told("scale 19", operator, ops.CreateAsset("EUR", 19, issuer), None, "M-7"),
        told("a code that is taken", operator, ops.CreateAsset("USD", 2, issuer), None, "M-3"),
        told("an issuer of small order", operator, ops.CreateAsset("EUR", 2, small), None, "S-3"),
        told(
            "a code that is taken, and an issuer of small order",
            operator,
            ops.CreateAsset("USD", 2, small),
            None,
            "L-10",
        ),
        told("into an account", issuer, ops.Issue(USD, OWNER0, 5), None, "L-18"),
        told("all that fits", issuer, ops.Issue(USD, OWNER0, 5), None, "L-2", asset=rich),
        told("one unit more than fits", issuer, ops.Issue(USD, OWNER0, 6), None, "L-2", "M-2", asset=rich),
        told("nothing", issuer, ops.Issue(USD, OWNER0, 0), None, "L-18"),
        told("not by the issuer", OWNER0, ops.Issue(USD, OWNER0, 5), None, "L-18"),
        told("an unknown asset", issuer, ops.Issue(other, OWNER0, 5), None),
        told("to a key of small order", issuer, ops.Issue(USD, small, 5), None, "S-3"),
        told("all", OWNER0, ops.Redeem(USD, 10), None, "L-18", funds=poor),
        told("one unit more than held", OWNER0, ops.Redeem(USD, 11), None, "L-18", funds=poor),
        told("nothing", OWNER0, ops.Redeem(USD, 0), None),
        told("all", OWNER0, ops.Transfer(USD, OWNER1, 10), None, "L-18", funds=poor),
        told("to oneself", OWNER0, ops.Transfer(USD, OWNER0, 10), None, "L-12", funds=poor),
        told("one unit more than held", OWNER0, ops.Transfer(USD, OWNER1, 11), None, "L-18", funds=poor),
        told("from an empty account", OWNER1, ops.Transfer(USD, OWNER0, 1), None, funds=poor),
        told("of nothing to a bad key", OWNER0, ops.Transfer(USD, small, 0), None, "L-10"),
        told("now = valid_until", OWNER0, ops.Transfer(USD, OWNER1, 1), None, "L-6"),
        told("valid_until = now + 3600", OWNER0, ops.Transfer(USD, OWNER1, 1), None, "L-6", until=NOW + 3600),
        told("a second too late", OWNER0, ops.Transfer(USD, OWNER1, 1), None, "L-6", until=NOW - 1),
        told("valid_until = now + 3601", OWNER0, ops.Transfer(USD, OWNER1, 1), None, "L-6", until=NOW + 3601),
        told("too late for an unknown asset", OWNER0, ops.Transfer(other, OWNER1, 1), None, "L-10", until=0),
    ]


def open_rows() -> list[Case]:
    small = (1).to_bytes(32, "little")
    mixed = opening(account1=small, deposit=4)
    unsigned = replace(opening(), accepted1=bytes(64))
    swapped = replace(opening(), accepted0=opening().accepted1, accepted1=opening().accepted0)
    rows = {
        "a channel": (OWNER0, opening(), None),
        "one_way": (OWNER0, opening(flags=1), None),
        "the least deposit": (OWNER0, opening(deposit=5), None),
        "the shortest window": (OWNER0, opening(window_s=10), None),
        "the longest window": (OWNER0, opening(window_s=2_592_000), None),
        "max_batch 1": (OWNER0, opening(max_batch=1), None),
        "beside another channel": (OWNER0, opening(open_nonce=bytes(32)), TWO_WAY),
        "one account for both": (OWNER0, opening(account1=OWNER0), None),
        "an unknown asset": (OWNER0, opening(asset_id=bytes(16)), None),
        "paid by account1": (OWNER1, opening(), None),
        "paid by a channel key": (KEY0.public, opening(), None),
        "once more": (OWNER0, opening(), TWO_WAY),
        "once more after it was settled": (OWNER0, opening(), SETTLED),
        "flags 2": (OWNER0, opening(flags=2), None),
        "flags 255": (OWNER0, opening(flags=255), None),
        "a window too short": (OWNER0, opening(window_s=9), None),
        "a window of zero": (OWNER0, opening(window_s=0), None),
        "a window too long": (OWNER0, opening(window_s=2_592_001), None),
        "max_batch 0": (OWNER0, opening(max_batch=0), None),
        "max_batch 4097": (OWNER0, opening(max_batch=4097), None),
        "a deposit too small": (OWNER0, opening(deposit=4), None),
        "one channel key for both": (OWNER0, opening(key1=KEY0.public), None),
        "key1 of small order": (OWNER0, opening(key1=small), None),
        "account1 of small order": (OWNER0, opening(account1=small), None),
        "a deposit too small and a key of small order": (OWNER0, mixed, None),
        "without party 1's consent": (OWNER0, unsigned, None),
        "consents exchanged": (OWNER0, swapped, None),
        "consent to another nonce": (OWNER0, replace(opening(), open_nonce=bytes(32)), None),
        "consent to another window": (OWNER0, replace(opening(), window_s=3600), None),
        "consent to another ledger's channel": (OWNER0, replace(opening(ledger_id=SELLER.identity.public)), None),
        "a deposit above what is held": (OWNER0, opening(deposit=1001), None),
    }
    found = [told(name, key, op, row, "L-30") for name, (key, op, row) in rows.items()]
    full = TWO_WAY._replace(deposit0=TOP - 205)
    poor = {STRANGER: 5, OWNER0: 10}
    return [
        *found,
        told("of party 0", OWNER0, ops.Topup(CHANNEL, 0, 7), TWO_WAY, "L-31"),
        told("of party 1 by a stranger", STRANGER, ops.Topup(CHANNEL, 1, 5), TWO_WAY, "L-31", funds=poor),
        told("while closing", OWNER1, ops.Topup(CHANNEL, 1, 50), CLOSING, "L-31"),
        told("all that fits", OWNER0, ops.Topup(CHANNEL, 0, 5), full, "L-2"),
        told("one unit more than fits", OWNER0, ops.Topup(CHANNEL, 1, 6), full, "L-2", "L-31"),
        told("of nothing", OWNER0, ops.Topup(CHANNEL, 0, 0), TWO_WAY),
        told("of an unknown channel", OWNER0, ops.Topup(bytes(32), 0, 7), TWO_WAY),
        told("when settled", OWNER0, ops.Topup(CHANNEL, 0, 7), SETTLED, "L-31"),
        told("with more than is held", STRANGER, ops.Topup(CHANNEL, 0, 6), TWO_WAY, funds=poor),
        told("of nothing, when settled", OWNER0, ops.Topup(CHANNEL, 0, 0), SETTLED, "L-10"),
    ]


def withdraw_rows() -> list[Case]:
    taken = TWO_WAY._replace(withdrawn0=300, withdrawn1=100)
    good = withdrawal(TWO_WAY, 1, 150)
    rows = {
        "by party 1": (TWO_WAY, good),
        "by party 0": (TWO_WAY, withdrawal(TWO_WAY, 0, 1)),
        "all of the pot": (TWO_WAY, withdrawal(TWO_WAY, 1, 1200)),
        "more": (taken, withdrawal(taken, 0, 301)),
        "what is left": (taken, withdrawal(taken, 1, 900)),
        "while closing": (CLOSING, withdrawal(TWO_WAY, 1, 150)),
        "after the deadline": (at_deadline(TWO_WAY, NOW - 5), withdrawal(TWO_WAY, 1, 150)),
        "of an unknown channel": (ONE_WAY, good),
        "when settled": (SETTLED, good),
        "a second too late": (TWO_WAY, withdrawal(TWO_WAY, 1, 150, NOW - 1)),
        "with one signature": (TWO_WAY, replace(good, signature0=bytes(64))),
        "signatures exchanged": (TWO_WAY, replace(good, signature0=good.signature1, signature1=good.signature0)),
        "signed for party 1, asked for party 0": (TWO_WAY, replace(good, party=0)),
        "a higher total than signed": (TWO_WAY, replace(good, total=151)),
        "a later expiry than signed": (TWO_WAY, replace(withdrawal(TWO_WAY, 1, 150, NOW), expiry=NOW + 1)),
        "signed for another channel": (TWO_WAY, replace(withdrawal(ONE_WAY, 1, 150), channel_id=CHANNEL)),
        "the same total": (taken, withdrawal(taken, 0, 300)),
        "a lower total": (taken, withdrawal(taken, 1, 99)),
        "a total of zero": (TWO_WAY, withdrawal(TWO_WAY, 1, 0)),
        "one unit beyond the pot": (TWO_WAY, withdrawal(TWO_WAY, 1, 1201)),
        "beyond what is left": (taken, withdrawal(taken, 1, 901)),
        "too late and not signed": (TWO_WAY, replace(good, expiry=NOW - 1, signature0=bytes(64))),
    }
    return [told(name, STRANGER, op, row, "L-32", "S-13") for name, (row, op) in rows.items()]


def claim_rows() -> list[Case]:
    first, second = later(ZERO, 2, 300), later(ZERO, 3, 450)
    claimed = ONE_WAY._replace(half0=first, withdrawn1=300)
    closing = at_deadline(ONE_WAY, NOW + 1)

    def claim(row: ChannelRow, half0: Half, half1: Half = ZERO) -> ops.Claim:
        return ops.Claim(row.channel_id, state(row, half0, half1))

    rows = {
        "what was received": (ONE_WAY, claim(ONE_WAY, first)),
        "what came since": (claimed, claim(claimed, second)),
        "the same once more": (claimed, claim(claimed, first)),
        "an older state": (claimed._replace(half0=second, withdrawn1=450), claim(claimed, first)),
        "more than the pot": (ONE_WAY, claim(ONE_WAY, later(ZERO, 2, 5000))),
        "nothing was paid": (ONE_WAY, claim(ONE_WAY, ZERO)),
        "a state in which party 1 paid": (ONE_WAY, claim(ONE_WAY, first, later(ZERO, 1, 40))),
        "while closing": (closing, claim(ONE_WAY, first)),
        "a lower total under a higher n": (claimed, claim(claimed, later(ZERO, 3, 200))),
        "at the deadline": (at_deadline(ONE_WAY, NOW), claim(ONE_WAY, first)),
        "on a two_way channel": (TWO_WAY, claim(TWO_WAY, first)),
        "when settled": (ONE_WAY._replace(status=ops.SETTLED), claim(ONE_WAY, first)),
        "a state of another channel": (ONE_WAY, ops.Claim(ONE_WAY.channel_id, state(TWO_WAY, first))),
        "L not zero": (ONE_WAY, claim(ONE_WAY, first._replace(locked=1))),
        "a total below n": (ONE_WAY, claim(ONE_WAY, first._replace(total=1))),
    }
    found = [told(name, KEY1.public, op, row, "L-33") for name, (row, op) in rows.items()]
    by_account = told("by account1", OWNER1, claim(ONE_WAY, first), ONE_WAY, "L-33")
    by_payer = told("by party 0", KEY0.public, claim(ONE_WAY, first), ONE_WAY, "L-33")
    return [
        *found,
        by_account,
        by_payer,
        told("by a stranger on a two_way channel", STRANGER, claim(TWO_WAY, first), TWO_WAY, "L-10"),
    ]


def final_rows() -> list[Case]:
    shown_before = TWO_WAY._replace(half0=later(ZERO, 5, 400))
    good = final(TWO_WAY, HALF0, HALF1)
    over = later(ZERO, 5, 4000)
    rows = {
        "both paid": (TWO_WAY, good),
        "nothing paid": (TWO_WAY, final(TWO_WAY, ZERO, ZERO)),
        "while closing": (CLOSING, good),
        "after the deadline": (at_deadline(TWO_WAY, NOW - 5), good),
        "party 0 paid more than it had": (TWO_WAY, final(TWO_WAY, over, ZERO)),
        "party 1 paid more than it had": (TWO_WAY, final(TWO_WAY, ZERO, over)),
        "older than what was shown": (shown_before, good),
        "a lower total under a higher n": (shown_before, final(TWO_WAY, later(ZERO, 6, 300), ZERO)),
        "of a one_way channel": (ONE_WAY, final(ONE_WAY, HALF0, ZERO)),
        "an unknown channel": (ONE_WAY, good),
        "when settled": (SETTLED, good),
        "a second too late": (TWO_WAY, final(TWO_WAY, HALF0, HALF1, NOW - 1)),
        "R not zero": (TWO_WAY, final(TWO_WAY, HALF0, HALF1._replace(root=fill("root")))),
        "no payments and a total": (TWO_WAY, final(TWO_WAY, Half(total=5), HALF1)),
        "half0 unsound and half1 with L": (TWO_WAY, final(TWO_WAY, Half(total=5), HALF1._replace(locked=1))),
        "with one signature": (TWO_WAY, replace(good, signature1=bytes(64))),
        "signed as STATE": (TWO_WAY, _final_signed_as_state()),
        "a later expiry than signed": (TWO_WAY, replace(good, expiry=NOW + 1)),
        "halves exchanged": (TWO_WAY, replace(good, half0=good.half1, half1=good.half0)),
        "signed for another channel": (TWO_WAY, replace(final(ONE_WAY, HALF0, HALF1), channel_id=CHANNEL)),
        "too late and L not zero": (TWO_WAY, final(TWO_WAY, HALF0._replace(locked=1), HALF1, NOW - 1)),
    }
    return [told(name, STRANGER, op, row, "L-37", "S-12") for name, (row, op) in rows.items()]


def _final_signed_as_state() -> ops.CloseFinal:
    both = state(TWO_WAY, HALF0, HALF1)
    return ops.CloseFinal(CHANNEL, both.half0, both.half1, NOW, both.signature0, both.signature1)


def close_rows() -> list[Case]:
    first, second = later(ZERO, 2, 300), later(ZERO, 3, 450)
    good = state(TWO_WAY, first)
    one = replace(good, signature1=good.signature0)
    due = at_deadline(TWO_WAY, NOW)
    one_way = state(ONE_WAY, first)
    rows = {
        "with a state": (KEY0, TWO_WAY, (good,), "L-34"),
        "with none": (KEY1, TWO_WAY, (), "L-34"),
        "with two": (KEY1, TWO_WAY, (good, state(TWO_WAY, second)), "L-34"),
        "two that are newest in one half each": (
            KEY0,
            TWO_WAY,
            (state(TWO_WAY, first, HALF1), state(TWO_WAY, second)),
            "L-39",
        ),
        "on a closing channel": (KEY1, CLOSING, (good,), "L-34"),
        "on a closing channel, with none": (KEY1, CLOSING, (), "L-34"),
        "two histories in one request": (KEY0, TWO_WAY, (good, state(TWO_WAY, later(ZERO, 3, 200))), "L-39"),
        "one_way, by party 1 with a state": (KEY1, ONE_WAY, (one_way,), "L-41"),
        "one_way, by party 1 with none": (KEY1, ONE_WAY, (), "L-41"),
        "one_way, by party 0 with a state": (KEY0, ONE_WAY, (one_way,), "L-41"),
        "one_way, by party 1 while closing": (KEY1, at_deadline(ONE_WAY, NOW + 1), (one_way,), "L-41"),
        "one_way, by party 1 with a state that shows nothing new": (
            KEY1,
            ONE_WAY._replace(half0=first),
            (one_way,),
            "L-41",
        ),
        "at the deadline": (KEY0, due, (good,), "L-34"),
        "one_way, by party 1 at the deadline": (KEY1, at_deadline(ONE_WAY, NOW), (one_way,), "L-41"),
        "when settled": (KEY0, SETTLED, (good,), "L-40"),
        "with one signature": (KEY0, TWO_WAY, (one,), "L-38"),
        "a state of another channel": (KEY0, TWO_WAY, (one_way,), "L-38"),
        "the second state without a signature": (KEY0, TWO_WAY, (good, one), "L-38"),
        "n above 2^63-1": (KEY0, TWO_WAY, (state(TWO_WAY, first._replace(n=2**63, total=TOP)),), "L-38"),
        "L not zero": (KEY0, TWO_WAY, (state(TWO_WAY, first._replace(locked=1)),), "L-38"),
        "L not zero and with one signature": (
            KEY0,
            TWO_WAY,
            (replace(state(TWO_WAY, first._replace(locked=1)), signature1=bytes(64)),),
            "L-10",
        ),
    }  # fmt: skip
    found = [
        told(name, key.public, ops.Close(row.channel_id, states), row, also)
        for name, (key, row, states, also) in rows.items()
    ]
    for name, key in (("by an account", OWNER0), ("by a stranger", STRANGER)):
        found.append(told(name, key, ops.Close(CHANNEL, (good,)), TWO_WAY, "L-34"))
    found.append(told("by a stranger, when settled", STRANGER, ops.Close(CHANNEL, ()), SETTLED, "L-10"))
    return found


def respond_rows() -> list[Case]:
    held = CLOSING._replace(half0=later(ZERO, 2, 300))
    newer, older = state(TWO_WAY, later(ZERO, 3, 450)), state(TWO_WAY, later(ZERO, 1, 100, "older"))
    same_n = state(TWO_WAY, later(ZERO, 2, 310, "other history"))
    lower_t = state(TWO_WAY, later(ZERO, 4, 290))
    rows = {
        "a newer state": (held, (newer,), "L-35"),
        "an older state": (held, (older,), "L-35"),
        "the same state": (held, (state(TWO_WAY, held.half0),), "L-35"),
        "two states": (held, (newer, state(TWO_WAY, held.half0, HALF1)), "L-35"),
        "equal n, another history": (held, (same_n,), "L-39"),
        "a lower total under a higher n": (held, (lower_t,), "L-39"),
        "the maximum": (held, (state(TWO_WAY, later(ZERO, TOP, TOP)),), "L-39"),
        "one_way: it never settles": (at_deadline(ONE_WAY, NOW + 1), (state(ONE_WAY, HALF0),), "L-41"),
        "in the window's last second": (at_deadline(TWO_WAY, NOW + 1), (newer,), "L-35"),
        "at the deadline": (at_deadline(TWO_WAY, NOW), (newer,), "L-35"),
        "after the deadline": (at_deadline(TWO_WAY, NOW - 1), (newer,), "L-35"),
        "while open": (TWO_WAY, (newer,), "L-35"),
        "when settled": (SETTLED, (newer,), "L-35"),
        "with no state": (held, (), "L-35"),
        "with no state at the deadline": (at_deadline(TWO_WAY, NOW), (), "L-10"),
        "a state that one party signed": (held, (replace(newer, signature1=newer.signature0),), "L-38"),
        "a state of another channel": (held, (state(ONE_WAY, HALF0),), "L-38"),
        "a total below n": (held, (state(TWO_WAY, later(ZERO, 3, 2)),), "L-38"),
    }
    return [told(n, STRANGER, ops.Respond(row.channel_id, s), row, also) for n, (row, s, also) in rows.items()]


def settle_rows() -> list[Case]:
    due = at_deadline(TWO_WAY, NOW)._replace(half0=HALF0, half1=HALF1, withdrawn1=100)
    rows = {
        "at the deadline": due,
        "after it": due._replace(deadline=NOW - 1000),
        "on the zero state": at_deadline(TWO_WAY, NOW),
        "all to party 0": due._replace(half0=ZERO, half1=later(ZERO, 1, 5000)),
        "all to party 1": due._replace(half0=later(ZERO, 1, 5000), half1=ZERO),
        "an empty channel": due._replace(withdrawn0=1000, withdrawn1=200),
        "accounts in the other order": due._replace(account0=OWNER1, account1=OWNER0),
        "one account for both": due._replace(account1=OWNER0),
        "a second before the deadline": due._replace(deadline=NOW + 1),
        "while open": TWO_WAY,
        "when settled": SETTLED,
    }
    found = [told(n, STRANGER, ops.Settle(row.channel_id), row, "L-36", "L-40") for n, row in rows.items()]
    return [*found, told("of an unknown channel", STRANGER, ops.Settle(bytes(32)), TWO_WAY)]
