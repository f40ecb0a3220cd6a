"""PAYs that the node must refuse, each with the code of its fault. Spec 6.6, E-8."""

from __future__ import annotations

from collections.abc import Callable

from channelpay.batches import NO_ID, Batch, pack_record
from channelpay.codec import pack
from channelpay.conformance.case import add, case
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party
from channelpay.conformance.verdict import NotRun, require, same
from channelpay.errors import ErrorCode
from channelpay.messages.peer import Ack, Pay
from channelpay.statements import final_bytes, link

_L = 2**252 + 27742317777372353535851937790883648493
_RECORD = pack_record(10)


def _refused_batch(records: bytes, memos: bytes, code: ErrorCode) -> Callable[[Kit], None]:
    def script(kit: Kit) -> None:
        party = kit.open()
        party.refused(party.wrong_pay(Batch(1, records, memos)), code)
        unchanged(kit, party)

    return script


def unchanged(kit: Kit, party: Party) -> None:
    """What was refused has changed nothing: after a reconnection payments go on from the same number (E-2)."""
    kit.reconnect(party)
    party.pay(10)


def _record(amount: int) -> bytes:
    return amount.to_bytes(8, "big") + NO_ID


_BATCHES: dict[str, tuple[str, str, ErrorCode, bytes, bytes]] = {
    "records-cut": ("S-20", "25 bytes of records", ErrorCode.BAD_BATCH, _RECORD + b"\x00", b""),
    "amount-zero": ("S-20 M-6", "a payment of nothing", ErrorCode.BAD_BATCH, _RECORD + _record(0), b""),
    "above-max-batch": ("S-20 C-10", "more payments than agreed", ErrorCode.BAD_BATCH, _RECORD * 17, b""),
    "sum-overflow": ("S-20 M-2", "a sum above 2^63-1", ErrorCode.OVERFLOW, _record(2**63 - 1) + _record(1), b""),
    "amount-overflow": ("S-20 M-1", "an amount above 2^63-1", ErrorCode.OVERFLOW, _record(2**63), b""),
    "memo-beyond-batch": ("S-21", "a memo of no payment", ErrorCode.BAD_BATCH, _RECORD, pack([[1, b"a"]])),
    "memos-not-rising": (
        "S-21", "two memos of one payment", ErrorCode.BAD_BATCH, _RECORD * 2, pack([[1, b"a"], [1, b"b"]]),
    ),
    "memo-empty": ("S-21", "an empty memo", ErrorCode.BAD_BATCH, _RECORD, pack([[0, b""]])),
    "memo-too-long": ("S-21", "a memo of 257 bytes", ErrorCode.BAD_BATCH, _RECORD, pack([[0, bytes(257)]])),
    "memos-empty-array": ("S-21", "no memos as an empty array", ErrorCode.BAD_BATCH, _RECORD, pack([])),
    "memos-not-strict": (
        "S-21 W-3", "memos in a longer form", ErrorCode.BAD_BATCH, _RECORD, b"\x91\x92\xcc\x00\xc4\x01a",
    ),
    "memo-as-text": ("S-21", "a memo that is text", ErrorCode.BAD_BATCH, _RECORD, pack([[0, "a"]])),
}  # fmt: skip

for _name, (_numbers, _about, _code, _records, _memos) in _BATCHES.items():
    add(f"pay-{_name}", f"The node refuses {_about}", f"{_numbers} E-8", _refused_batch(_records, _memos, _code))


@case("C-14")
def pay_gap(kit: Kit) -> None:
    """A payment that leaves out a number is a gap"""
    party = kit.open()
    party.refused(party.wrong_pay(Batch(2, _RECORD, b"")), ErrorCode.GAP)
    unchanged(kit, party)


@case("C-14")
def pay_number_zero(kit: Kit) -> None:
    """Payments are counted from 1"""
    party = kit.open()
    party.refused(party.wrong_pay(Batch(0, _RECORD, b"")), ErrorCode.GAP)


@case("C-14")
def pay_partly_held(kit: Kit) -> None:
    """A batch of which only a part is held is a gap"""
    party = kit.open()
    party.pay(10)
    party.refused(party.wrong_pay(Batch(1, _RECORD * 2, b"")), ErrorCode.GAP)
    unchanged(kit, party)


@case("C-14")
def pay_part_of_a_held_batch(kit: Kit) -> None:
    """A batch that ends inside one that is held is a gap: batches never change"""
    party = kit.open()
    party.pay(10, 11)
    party.refused(party.wrong_pay(Batch(1, _RECORD, b"")), ErrorCode.GAP)


@case("C-14")
def pay_duplicate_other_amount(kit: Kit) -> None:
    """A number that is held already, with another amount, is other_bytes"""
    party = kit.open()
    party.pay(10)
    party.refused(party.wrong_pay(Batch(1, pack_record(12), b"")), ErrorCode.OTHER_BYTES)
    unchanged(kit, party)
    kit.expect_delivered(party, [10, 10])


@case("C-14 S-16")
def pay_duplicate_other_memo(kit: Kit) -> None:
    """A number that is held already, with another memo, is other_bytes"""
    party = kit.open()
    party.pay(10, memos=[(0, b"apples")])
    party.refused(party.wrong_pay(Batch(1, _RECORD, pack([[0, b"pears"]]))), ErrorCode.OTHER_BYTES)


@case("C-8 C-18")
def pay_above_balance(kit: Kit) -> None:
    """A payment above the payer's balance is refused, when the ledger has been read"""
    party = kit.open()
    _spend(kit, party, kit.deposit)
    party.refused(party.wrong_pay(Batch(party.own.n + 1, _RECORD, b"")), ErrorCode.BALANCE)
    kit.reconnect(party)


def _spend(kit: Kit, party: Party, units: int) -> None:
    limit = party.limits.max_unacked_value if party.limits else units
    while units:
        amount = min(units, limit)
        party.pay(amount)
        units -= amount


@case("C-11 C-14")
def pay_above_max_unacked(kit: Kit) -> None:
    """More payments at once than the node takes unacknowledged are limit_exceeded"""
    talk = kit.connect()
    party = kit.open(talk, max_batch=4096)
    most = party.limits.max_unacked if party.limits else 0
    least = party.limits.min_payment if party.limits else 0
    if most >= 4096 or (most + 1) * least > kit.deposit:
        raise NotRun(f"the node takes {most} payments unacknowledged: more than fit one batch")
    party.refused(party.wrong_pay(Batch(1, pack_record(max(1, least)) * (most + 1), b"")), ErrorCode.LIMIT_EXCEEDED)
    unchanged(kit, party)


@case("C-11 C-14")
def pay_above_max_unacked_value(kit: Kit) -> None:
    """More value at once than the node takes unacknowledged is limit_exceeded"""
    party = kit.open()
    most = party.limits.max_unacked_value if party.limits else 0
    if most >= kit.deposit:
        raise NotRun(f"the node takes {most} units unacknowledged: more than the channel holds")
    party.refused(party.wrong_pay(Batch(1, pack_record(most + 1), b"")), ErrorCode.LIMIT_EXCEEDED)
    unchanged(kit, party)


@case("C-11 C-14")
def pay_below_min_payment(kit: Kit) -> None:
    """A payment below the least that the node takes is limit_exceeded"""
    party = kit.open()
    least = party.limits.min_payment if party.limits else 0
    if least < 2:
        raise NotRun("the node takes payments of one unit")
    records = pack_record(least) + pack_record(least - 1)
    party.refused(party.wrong_pay(Batch(1, records, b"")), ErrorCode.LIMIT_EXCEEDED)


# --- Signatures ----------------------------------------------------------------------------------


def _resigned(message: Pay, signature: bytes) -> Pay:
    return Pay(message.channel_id, message.first_n, message.records, message.memos, message.ack_n, signature)


def _refused_signature(make: Callable[[Kit, Party, Pay], bytes]) -> Callable[[Kit], None]:
    def script(kit: Kit) -> None:
        party = kit.open()
        good = party.next_pay(10)
        party.refused(_resigned(good, make(kit, party, good)), ErrorCode.BAD_SIGNATURE)
        kit.drop(party)
        party.talk = kit.connect()
        party.link.send(party.reestablish_message(mine=(party.own_halves[0], party.peer)))
        shown = party.expect_reestablish()
        same(party.pair(shown.mine)[0].n, 0, "the payments taken with a bad signature")
        party.link.send(good)
        party.expect_acked()

    return script


def _malleable(kit: Kit, party: Party, good: Pay) -> bytes:
    s = int.from_bytes(good.signature[32:], "little")
    return good.signature[:32] + (s + _L).to_bytes(32, "little")


def _final_tag(kit: Kit, party: Party, good: Pay) -> bytes:
    return party.key.sign(final_bytes(party.channel_id, *party.in_order(party.own, party.peer), 2**40))


def _wrong_tag(kit: Kit, party: Party, good: Pay) -> bytes:
    return party.key.sign(b"channelpay.st.v2" + party.state(party.own, party.peer)[16:])


def _other_channel(kit: Kit, party: Party, good: Pay) -> bytes:
    state = party.state(party.own, party.peer)
    return party.key.sign(state[:16] + bytes(32) + state[48:])


def _swapped(kit: Kit, party: Party, good: Pay) -> bytes:
    return party.key.sign(party.state(party.peer, party.own))


def _other_history(kit: Kit, party: Party, good: Pay) -> bytes:
    return party.sign(party.own._replace(h=bytes(32)), party.peer)


def _other_genesis(kit: Kit, party: Party, good: Pay) -> bytes:
    h = link(party.channel_id, 0, bytes(32), 1, 1, good.records, good.memos)
    return party.sign(party.own._replace(h=h), party.peer)


def _other_total(kit: Kit, party: Party, good: Pay) -> bytes:
    return party.sign(party.own._replace(total=party.own.total - 1), party.peer)


def _locked(kit: Kit, party: Party, good: Pay) -> bytes:
    return party.sign(party.own._replace(locked=1), party.peer)


for _title, _told, _needs, _make in (
    ("zero", "all zero bytes", "S-2", lambda kit, party, good: bytes(64)),
    (
        "by-the-identity",
        "made with the identity key",
        "S-24",
        lambda kit, party, good: kit.identity.sign(party.state(party.own, party.peer)),
    ),
    (
        "by-the-account",
        "made with the account key",
        "S-24",
        lambda kit, party, good: kit.account.sign(party.state(party.own, party.peer)),
    ),
    ("s-plus-l", "with S above L: a second form of a good one", "S-2", _malleable),
    ("of-final", "over FINAL of the same halves", "S-11 S-12", _final_tag),
    ("of-another-tag", "under another tag", "S-11", _wrong_tag),
    ("of-another-channel", "over another channel", "S-11", _other_channel),
    ("of-swapped-halves", "over the halves in the wrong order", "S-11", _swapped),
    ("of-another-history", "over another history", "S-16", _other_history),
    ("of-another-genesis", "over a history that begins with zero bytes", "S-15", _other_genesis),
    ("of-another-total", "over another total", "S-11", _other_total),
    ("of-a-locked-half", "over a half with L set", "S-10", _locked),
):
    add(f"pay-signature-{_title}", f"The node refuses a signature {_told}", f"{_needs} C-13", _refused_signature(_make))


@case("C-13")
def pay_run_with_bad_newest_signature(kit: Kit) -> None:
    """When the newest signature of what came together fails, it counts not, nor what was not verified by itself"""
    party = kit.open()
    first = party.next_pay(10)
    second = party.next_pay(11)
    party.link.send(first, _resigned(second, bytes(64)))
    acknowledged = party.link.take_if(Ack)  # a receiver that verifies every PAY has taken the first
    require(acknowledged is None or acknowledged.n == 1, "a payment with a bad signature was acknowledged")
    party.link.expect_error(ErrorCode.BAD_SIGNATURE)
    party.talk = kit.connect()
    party.link.send(party.reestablish_message(mine=(party.own_halves[0], party.peer)))
    taken = party.pair(party.expect_reestablish().mine)[0].n
    require(taken in (0, 1), f"{taken} payments were taken, one of them with a bad signature")
    party.link.send(first, second)
    party.expect_acked()


@case("C-13")
def pay_run_with_a_bad_batch_behind(kit: Kit) -> None:
    """What came before a refused PAY in the same read counts"""
    party = kit.open()
    good = party.next_pay(10)
    bad = party.wrong_pay(Batch(3, _RECORD, b""))
    party.link.send(good, bad)
    message = party.link.receive()
    if isinstance(message, Ack):  # the acknowledgement may come before the ERROR, or with the next REESTABLISH
        party.take_ack(message)
        message = None
    if message is None:
        party.link.expect_error(ErrorCode.GAP, party.channel_id)
    kit.drop(party)
    party.talk = kit.connect()
    party.link.send(party.reestablish_message())
    shown = party.expect_reestablish()
    same(party.pair(shown.mine)[0].n, 1, "the payments taken before the refused one")


# --- Numbers of the node's payments ---------------------------------------------------------------


@case("C-15")
def pay_ack_n_unknown(kit: Kit) -> None:
    """An ack_n that ends no batch of the node's is unknown_boundary"""
    party = kit.open()
    party.refused(party.wrong_pay(Batch(1, _RECORD, b""), ack_n=3), ErrorCode.UNKNOWN_BOUNDARY)
    unchanged(kit, party)
