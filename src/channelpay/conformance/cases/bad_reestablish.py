"""REESTABLISH that the node must refuse. Spec C-21."""

from __future__ import annotations

from dataclasses import replace

from channelpay.conformance.case import case
from channelpay.conformance.cases.node_pays import rich
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party, Signed
from channelpay.conformance.verdict import NotRun, require
from channelpay.errors import ErrorCode
from channelpay.messages.peer import Pay, Reestablish
from channelpay.statements import Half


def _paid(kit: Kit) -> Party:
    party = kit.open()
    party.pay(10)
    party.pay(11)
    return party


def _refused(kit: Kit, party: Party, message: Reestablish, code: ErrorCode) -> None:
    """The node refuses, and on the next connection shows what it showed before (C-21: nothing changes)."""
    kit.drop(party)
    party.talk = kit.connect()
    before = party.expect_reestablish()
    party.refused(message, code)
    kit.drop(party)
    party.talk = kit.connect()
    after = party.expect_reestablish()
    require(before == after, "a refused REESTABLISH changed what the node shows")
    party.link.send(party.reestablish_message())
    party.pay(12)


@case("C-21")
def reestablish_bad_signature(kit: Kit) -> None:
    """`mine` that its sender has not signed is bad_signature"""
    party = _paid(kit)
    good = party.reestablish_message()
    bad = replace(good, mine=replace(good.mine, signature=bytes(64)))
    _refused(kit, party, bad, ErrorCode.BAD_SIGNATURE)


@case("C-21")
def reestablish_forged_yours(kit: Kit) -> None:
    """`yours` that the node never signed is bad_signature: nobody talks it into a rollback"""
    party = _paid(kit)
    forged = Signed(party.own, Half(3, 900, bytes([1]) * 32), party.key.sign(b"forged"))
    _refused(kit, party, party.reestablish_message(yours=forged), ErrorCode.BAD_SIGNATURE)


@case("C-21")
def reestablish_other_history(kit: Kit) -> None:
    """The same number of payments with another history is bad_history"""
    party = _paid(kit)
    other = party.own._replace(h=bytes([1]) * 32)
    _refused(kit, party, party.reestablish_message(mine=(other, party.peer)), ErrorCode.BAD_HISTORY)


@case("C-21")
def reestablish_other_total(kit: Kit) -> None:
    """The same number of payments with another total is bad_history"""
    party = _paid(kit)
    other = party.own._replace(total=party.own.total - 1)
    _refused(kit, party, party.reestablish_message(mine=(other, party.peer)), ErrorCode.BAD_HISTORY)


@case("C-21")
def reestablish_goes_back_behind_itself(kit: Kit) -> None:
    """The kit's half in `mine` below the one in `yours`, which the node signed, is a regression"""
    party = _paid(kit)
    message = party.reestablish_message(mine=(party.own_halves[1], party.peer))
    _refused(kit, party, message, ErrorCode.REGRESSION)


@case("C-21")
def reestablish_claims_unpaid(kit: Kit) -> None:
    """More payments of the node's than it made, without its signature, is unknown_boundary"""
    party = _paid(kit)
    dreamt = Half(2, 500, bytes([2]) * 32)
    message = party.reestablish_message(mine=(party.own, dreamt))
    _refused(kit, party, message, ErrorCode.UNKNOWN_BOUNDARY)


@case("C-21 S-10")
def reestablish_reserved_field(kit: Kit) -> None:
    """A half with L set is reserved_field"""
    party = _paid(kit)
    message = party.reestablish_message(mine=(party.own._replace(locked=1), party.peer))
    _refused(kit, party, message, ErrorCode.RESERVED_FIELD)


@case("C-21 S-10")
def reestablish_impossible_half(kit: Kit) -> None:
    """A half that no payments give is overflow"""
    party = _paid(kit)
    for half in (Half(3, 2, bytes(32)), Half(0, 5, bytes(32)), Half(3, 2**63, bytes(32))):
        message = party.reestablish_message(mine=(half, party.peer))
        _refused(kit, party, message, ErrorCode.OVERFLOW)
        kit.reconnect(party)


@case("C-21 C-15", needs="pay")
def reestablish_inside_a_batch(kit: Kit) -> None:
    """A number of the node's payments that ends no batch is unknown_boundary"""
    party = rich(kit)
    kit.order_pay(party, 20, count=3)
    message = party.link.expect(Pay)
    size = len(message.records) // 24
    if size < 2:
        raise NotRun("the node makes no batches")
    kit.drop(party)
    party.talk = kit.connect()
    party.expect_reestablish()
    inside = Half(size - 1, 20 * (size - 1), bytes([3]) * 32)
    party.refused(party.reestablish_message(mine=(party.own, inside)), ErrorCode.UNKNOWN_BOUNDARY)
