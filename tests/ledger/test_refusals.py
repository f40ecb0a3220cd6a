"""Every refusal is produced by a request, named, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from channelpay.codec import pack
from channelpay.ledger.outcomes import Outcome
from channelpay.ledger.requests import Ledger
from channelpay.limits import MAX_PAGE, MAX_REQUEST_LIFE_S, MAX_UNITS
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Request
from channelpay.statements import FLAG_ONE_WAY, ZERO_HALF, Half, request_bytes, state_bytes
from ledger_world import (
    ALICE,
    BOB,
    CAROL,
    ISSUER,
    KEY0,
    KEY1,
    LEDGER,
    OPERATOR,
    RULES,
    USD,
    WINDOW_S,
    World,
    final,
    half,
    key,
    opening,
    sign_request,
    state,
    terms,
    withdrawal,
)

Scenario = Callable[[World], Outcome]
SCENARIOS: list[tuple[Outcome, Scenario]] = []
NO_ONE = bytes([1]) + bytes(31)  # the small-order key for which one signature verifies on everything


def produces(outcome: Outcome) -> Callable[[Scenario], Scenario]:
    """The scenario returns the outcome of its last request, which must be this one."""

    def register(scenario: Scenario) -> Scenario:
        SCENARIOS.append((outcome, scenario))
        return scenario

    return register


# --- The request as such -------------------------------------------------------------------


def _raw(world: World, blob: bytes) -> Outcome:
    return world.refused_request(Request(bytes(16), blob, ALICE.sign(request_bytes(LEDGER.public, bytes(16), blob))))


@produces(Outcome.BAD_REQUEST)
def bytes_that_are_no_msgpack(world: World) -> Outcome:
    return _raw(world, b"\xc1")


@produces(Outcome.BAD_REQUEST)
def unknown_operation(world: World) -> Outcome:
    return _raw(world, pack(["mint", ALICE.public, world.now, []]))


@produces(Outcome.BAD_REQUEST)
def argument_of_the_wrong_type(world: World) -> Outcome:
    return _raw(world, pack(["transfer", ALICE.public, world.now, [USD, BOB.public, "5"]]))


@produces(Outcome.BAD_REQUEST)
def amount_above_the_largest(world: World) -> Outcome:
    return _raw(world, pack(["transfer", ALICE.public, world.now, [USD, BOB.public, MAX_UNITS + 1]]))


@produces(Outcome.BAD_REQUEST)
def three_states_at_once(world: World) -> Outcome:
    channel = world.open()
    states = [state(channel, half(n, n)).to_wire() for n in (1, 2, 3)]
    return _raw(world, pack(["respond", ALICE.public, world.now, [channel, states]]))


@produces(Outcome.BAD_SIGNATURE)
def signed_by_somebody_else(world: World) -> Outcome:
    request = world.request(ALICE, ops.Transfer(USD, BOB.public, 1))
    forged = CAROL.sign(request_bytes(LEDGER.public, request.request_id, request.blob))
    return world.refused_request(replace(request, signature=forged))


@produces(Outcome.BAD_SIGNATURE)
def signed_for_another_ledger(world: World) -> Outcome:
    operation = ops.Transfer(USD, BOB.public, 1)
    return world.refused_request(sign_request(ALICE, operation, bytes(16), world.now, key("another").public))


@produces(Outcome.BAD_SIGNATURE)
def replayed_under_another_id(world: World) -> Outcome:
    request = world.request(ALICE, ops.Transfer(USD, BOB.public, 1))
    world.send(request)
    return world.refused_request(replace(request, request_id=bytes(16)))


@produces(Outcome.BAD_SIGNATURE)
def small_order_key(world: World) -> Outcome:
    blob = pack(["info", NO_ONE, 0, []])
    return world.refused_request(Request(bytes(16), blob, NO_ONE + bytes(32)))


@produces(Outcome.BAD_SIGNATURE)
def zero_signature_on_a_reading(world: World) -> Outcome:
    return world.refused_request(replace(world.request(ALICE, ops.Journal(0)), signature=bytes(64)))


@produces(Outcome.EXPIRED)
def valid_until_a_second_ago(world: World) -> Outcome:
    return world.refused_request(sign_request(ALICE, ops.Transfer(USD, BOB.public, 1), bytes(16), world.now - 1))


@produces(Outcome.EXPIRED)
def executed_but_asked_again_too_late(world: World) -> Outcome:
    request = world.request(ALICE, ops.Transfer(USD, BOB.public, 1))
    world.send(request)
    world.now += 61
    return world.refused_request(request)


@produces(Outcome.TOO_FAR_AHEAD)
def valid_for_too_long(world: World) -> Outcome:
    until = world.now + MAX_REQUEST_LIFE_S + 1
    return world.refused_request(sign_request(ALICE, ops.Transfer(USD, BOB.public, 1), bytes(16), until))


@produces(Outcome.REQUEST_ID_REUSED)
def same_id_with_another_blob(world: World) -> Outcome:
    world.send(sign_request(ALICE, ops.Transfer(USD, BOB.public, 1), bytes(16), world.now))
    return world.refused_request(sign_request(ALICE, ops.Transfer(USD, BOB.public, 2), bytes(16), world.now))


@produces(Outcome.REQUEST_ID_REUSED)
def same_id_valid_for_longer(world: World) -> Outcome:
    world.send(sign_request(ALICE, ops.Transfer(USD, BOB.public, 1), bytes(16), world.now))
    return world.refused_request(sign_request(ALICE, ops.Transfer(USD, BOB.public, 1), bytes(16), world.now + 1))


@produces(Outcome.UNKNOWN_NUMBER)
def subscription_from_the_future(world: World) -> Outcome:
    return world.refused(ALICE, ops.Subscribe(world.books.number() + 1))


# --- Assets and accounts -------------------------------------------------------------------


@produces(Outcome.NOT_OPERATOR)
def asset_by_its_issuer(world: World) -> Outcome:
    return world.refused(ISSUER, ops.CreateAsset("EUR", 2, ISSUER.public))


@produces(Outcome.UNKNOWN_ASSET)
def issue_of_nothing(world: World) -> Outcome:
    return world.refused(ISSUER, ops.Issue(bytes(16), ALICE.public, 1))


@produces(Outcome.UNKNOWN_ASSET)
def channel_in_nothing(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms()._replace(asset_id=bytes(16))))


@produces(Outcome.NOT_ISSUER)
def issue_by_the_operator(world: World) -> Outcome:
    return world.refused(OPERATOR, ops.Issue(USD, ALICE.public, 1))


@produces(Outcome.ASSET_REFUSED)
def lower_case_code(world: World) -> Outcome:
    return world.refused(OPERATOR, ops.CreateAsset("usd", 6, ISSUER.public))


@produces(Outcome.ASSET_REFUSED)
def nineteen_decimals(world: World) -> Outcome:
    return world.refused(OPERATOR, ops.CreateAsset("EUR", 19, ISSUER.public))


@produces(Outcome.ASSET_CODE_TAKEN)
def same_code_of_another_issuer(world: World) -> Outcome:
    return world.refused(OPERATOR, ops.CreateAsset("USD", 2, CAROL.public))


@produces(Outcome.TOO_MANY_ASSETS)
def one_asset_more_than_a_page(world: World) -> Outcome:
    for number in range(1, MAX_PAGE):
        world.ask(OPERATOR, ops.CreateAsset(f"A{number}", 0, ISSUER.public))
    return world.refused(OPERATOR, ops.CreateAsset("LAST", 0, ISSUER.public))


@produces(Outcome.ZERO_AMOUNT)
def issue_of_zero(world: World) -> Outcome:
    return world.refused(ISSUER, ops.Issue(USD, ALICE.public, 0))


@produces(Outcome.ZERO_AMOUNT)
def redeem_of_zero(world: World) -> Outcome:
    return world.refused(ALICE, ops.Redeem(USD, 0))


@produces(Outcome.ZERO_AMOUNT)
def transfer_of_zero(world: World) -> Outcome:
    return world.refused(ALICE, ops.Transfer(USD, BOB.public, 0))


@produces(Outcome.ZERO_AMOUNT)
def topup_of_zero(world: World) -> Outcome:
    return world.refused(BOB, ops.Topup(world.open(), 1, 0))


# --- Opening -------------------------------------------------------------------------------


@produces(Outcome.NOT_PAYER)
def opened_with_somebody_elses_money(world: World) -> Outcome:
    return world.refused(BOB, opening(terms()))


@produces(Outcome.NOT_PAYER)
def opened_by_the_channel_key(world: World) -> Outcome:
    return world.refused(KEY0, opening(terms()))


@produces(Outcome.ALREADY_OPEN)
def opened_twice(world: World) -> Outcome:
    world.open()
    return world.refused(ALICE, opening(terms()))


@produces(Outcome.ALREADY_OPEN)
def opened_again_after_settlement(world: World) -> Outcome:
    channel = world.open()
    world.ask(CAROL, final(channel, ZERO_HALF, ZERO_HALF, world.now))
    return world.refused(ALICE, opening(terms()))


@produces(Outcome.FLAGS_UNKNOWN)
def flags_of_the_future(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms(flags=2)))


@produces(Outcome.WINDOW_OUT_OF_BOUNDS)
def no_window_at_all(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms(window_s=0)))


@produces(Outcome.WINDOW_OUT_OF_BOUNDS)
def a_window_just_too_short(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms(window_s=9)))


@produces(Outcome.WINDOW_OUT_OF_BOUNDS)
def a_window_just_too_long(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms(window_s=1001)))


@produces(Outcome.BATCH_OUT_OF_BOUNDS)
def batches_of_none(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms()._replace(max_batch=0)))


@produces(Outcome.BATCH_OUT_OF_BOUNDS)
def batches_too_large(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms()._replace(max_batch=4097)))


@produces(Outcome.DEPOSIT_TOO_SMALL)
def deposit_below_the_minimum(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms(), deposit=4))


@produces(Outcome.KEY_REFUSED)
def small_order_channel_key(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms()._replace(key1=NO_ONE), accepted1=NO_ONE + bytes(32)))


@produces(Outcome.KEY_REFUSED)
def one_key_for_both_parties(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms()._replace(key1=KEY0.public)))


@produces(Outcome.KEY_REFUSED)
def payout_to_no_key(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms()._replace(account1=bytes(32))))


@produces(Outcome.KEY_REFUSED)
def transfer_to_no_key(world: World) -> Outcome:
    return world.refused(ALICE, ops.Transfer(USD, NO_ONE, 1))


@produces(Outcome.KEY_REFUSED)
def issue_to_no_key(world: World) -> Outcome:
    return world.refused(ISSUER, ops.Issue(USD, bytes([255]) * 32, 1))


@produces(Outcome.KEY_REFUSED)
def issuer_that_is_no_key(world: World) -> Outcome:
    return world.refused(OPERATOR, ops.CreateAsset("EUR", 2, NO_ONE))


@produces(Outcome.BAD_CONSENT_SIGNATURE)
def only_party_0_has_accepted(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms(), accepted1=bytes(64)))


@produces(Outcome.BAD_CONSENT_SIGNATURE)
def only_party_1_has_accepted(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms(), accepted0=bytes(64)))


@produces(Outcome.BAD_CONSENT_SIGNATURE)
def accepted_other_terms(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms(), window_s=WINDOW_S + 1))


# --- Channels ------------------------------------------------------------------------------

NOWHERE = bytes(32)


@produces(Outcome.UNKNOWN_CHANNEL)
def reading_of_no_channel(world: World) -> Outcome:
    return world.refused(ALICE, ops.Channel(NOWHERE))


@produces(Outcome.UNKNOWN_CHANNEL)
def close_of_no_channel(world: World) -> Outcome:
    return world.refused(KEY0, ops.Close(NOWHERE, ()))


@produces(Outcome.UNKNOWN_CHANNEL)
def topup_of_no_channel(world: World) -> Outcome:
    return world.refused(ALICE, ops.Topup(NOWHERE, 0, 1))


@produces(Outcome.UNKNOWN_CHANNEL)
def claim_on_no_channel(world: World) -> Outcome:
    return world.refused(KEY1, ops.Claim(NOWHERE, state(NOWHERE, half(1, 1))))


@produces(Outcome.UNKNOWN_CHANNEL)
def settlement_of_no_channel(world: World) -> Outcome:
    return world.refused(KEY1, ops.Settle(NOWHERE))


@produces(Outcome.NOT_A_PARTY)
def closed_by_an_account_key(world: World) -> Outcome:
    return world.refused(ALICE, ops.Close(world.open(), ()))


@produces(Outcome.NOT_A_PARTY)
def closed_by_a_stranger_with_the_newest_state(world: World) -> Outcome:
    channel = world.open()
    return world.refused(CAROL, ops.Close(channel, (state(channel, half(1, 1)),)))


@produces(Outcome.NOT_A_PARTY)
def claimed_by_the_payer(world: World) -> Outcome:
    channel = world.open(flags=FLAG_ONE_WAY)
    return world.refused(KEY0, ops.Claim(channel, state(channel, half(1, 1))))


@produces(Outcome.NOT_ONE_WAY)
def claim_on_a_two_way_channel(world: World) -> Outcome:
    channel = world.open()
    return world.refused(KEY1, ops.Claim(channel, state(channel, half(1, 1))))


def _settled(world: World) -> bytes:
    channel = world.open(flags=FLAG_ONE_WAY)
    world.ask(CAROL, final(channel, half(1, 100), ZERO_HALF, world.now))
    return channel


@produces(Outcome.ALREADY_SETTLED)
def close_after_settlement(world: World) -> Outcome:
    channel = _settled(world)
    return world.refused(KEY0, ops.Close(channel, (state(channel, half(2, 200)),)))


@produces(Outcome.ALREADY_SETTLED)
def respond_after_settlement(world: World) -> Outcome:
    channel = _settled(world)
    return world.refused(KEY0, ops.Respond(channel, (state(channel, half(2, 200)),)))


@produces(Outcome.ALREADY_SETTLED)
def settle_after_settlement(world: World) -> Outcome:
    return world.refused(CAROL, ops.Settle(_settled(world)))


@produces(Outcome.ALREADY_SETTLED)
def topup_after_settlement(world: World) -> Outcome:
    return world.refused(ALICE, ops.Topup(_settled(world), 0, 1))


@produces(Outcome.ALREADY_SETTLED)
def withdraw_after_settlement(world: World) -> Outcome:
    return world.refused(CAROL, withdrawal(_settled(world), 0, 1, world.now))


@produces(Outcome.ALREADY_SETTLED)
def claim_after_settlement(world: World) -> Outcome:
    channel = _settled(world)
    return world.refused(KEY1, ops.Claim(channel, state(channel, half(2, 200))))


@produces(Outcome.ALREADY_SETTLED)
def final_after_settlement(world: World) -> Outcome:
    return world.refused(CAROL, final(_settled(world), half(1, 100), ZERO_HALF, world.now))


@produces(Outcome.NOT_CLOSING)
def respond_to_no_dispute(world: World) -> Outcome:
    channel = world.open()
    return world.refused(KEY0, ops.Respond(channel, (state(channel, half(1, 1)),)))


@produces(Outcome.NOT_CLOSING)
def settle_without_a_dispute(world: World) -> Outcome:
    return world.refused(KEY0, ops.Settle(world.open()))


def _at_deadline(world: World, flags: int = 0) -> bytes:
    channel = world.open(flags=flags)
    world.ask(KEY0, ops.Close(channel, ()))
    world.now += WINDOW_S
    return channel


@produces(Outcome.DEADLINE_PASSED)
def respond_at_the_deadline(world: World) -> Outcome:
    channel = _at_deadline(world)
    return world.refused(KEY1, ops.Respond(channel, (state(channel, half(1, 1)),)))


@produces(Outcome.DEADLINE_PASSED)
def close_at_the_deadline(world: World) -> Outcome:
    channel = _at_deadline(world)
    return world.refused(KEY1, ops.Close(channel, (state(channel, half(1, 1)),)))


@produces(Outcome.DEADLINE_PASSED)
def claim_at_the_deadline(world: World) -> Outcome:
    channel = _at_deadline(world, FLAG_ONE_WAY)
    return world.refused(KEY1, ops.Claim(channel, state(channel, half(1, 1))))


@produces(Outcome.DEADLINE_NOT_REACHED)
def settle_a_second_early(world: World) -> Outcome:
    channel = _at_deadline(world)
    world.now -= 1
    return world.refused(CAROL, ops.Settle(channel))


@produces(Outcome.EXPIRED_AGREEMENT)
def final_a_second_late(world: World) -> Outcome:
    return world.refused(CAROL, final(world.open(), half(1, 1), ZERO_HALF, world.now - 1))


@produces(Outcome.EXPIRED_AGREEMENT)
def withdrawal_a_second_late(world: World) -> Outcome:
    return world.refused(CAROL, withdrawal(world.open(), 0, 1, world.now - 1))


@produces(Outcome.NO_STATE)
def respond_with_nothing(world: World) -> Outcome:
    channel = world.open()
    world.ask(KEY0, ops.Close(channel, ()))
    return world.refused(KEY1, ops.Respond(channel, ()))


@produces(Outcome.RESERVED_FIELD)
def locked_money(world: World) -> Outcome:
    channel = world.open()
    return world.refused(KEY0, ops.Close(channel, (state(channel, half(1, 10)._replace(locked=1)),)))


@produces(Outcome.RESERVED_FIELD)
def locks_root_in_final(world: World) -> Outcome:
    channel = world.open()
    return world.refused(KEY0, final(channel, half(1, 10)._replace(root=bytes(31) + b"\1"), ZERO_HALF, world.now))


@produces(Outcome.UNSOUND_HALF)
def counter_above_the_largest(world: World) -> Outcome:
    channel = world.open()
    return world.refused(KEY0, ops.Close(channel, (state(channel, Half(1, MAX_UNITS + 1, b"h" * 32)),)))


@produces(Outcome.UNSOUND_HALF)
def money_without_payments(world: World) -> Outcome:
    channel = world.open()
    return world.refused(KEY0, ops.Close(channel, (state(channel, Half(0, 5)),)))


@produces(Outcome.BAD_STATE_SIGNATURE)
def state_of_party_0_alone(world: World) -> Outcome:
    channel = world.open()
    return world.refused(KEY0, ops.Close(channel, (replace(state(channel, half(1, 1)), signature1=bytes(64)),)))


@produces(Outcome.BAD_STATE_SIGNATURE)
def state_of_party_1_alone(world: World) -> Outcome:
    channel = world.open()
    return world.refused(KEY1, ops.Close(channel, (replace(state(channel, half(1, 1)), signature0=bytes(64)),)))


@produces(Outcome.BAD_STATE_SIGNATURE)
def state_signed_twice_by_one_party(world: World) -> Outcome:
    channel = world.open()
    good = state(channel, half(1, 1))
    return world.refused(KEY0, ops.Close(channel, (replace(good, signature1=good.signature0),)))


@produces(Outcome.BAD_STATE_SIGNATURE)
def signatures_of_the_wrong_sides(world: World) -> Outcome:
    channel = world.open()
    good = state(channel, half(1, 1))
    swapped = replace(good, signature0=good.signature1, signature1=good.signature0)
    return world.refused(KEY0, ops.Close(channel, (swapped,)))


@produces(Outcome.BAD_STATE_SIGNATURE)
def state_of_another_channel(world: World) -> Outcome:
    """The channel's id is inside the signed bytes, so it shows as a signature that does not verify."""
    one, other = world.open(1), world.open(2)
    return world.refused(KEY0, ops.Close(one, (state(other, half(1, 1)),)))


@produces(Outcome.BAD_STATE_SIGNATURE)
def good_state_beside_a_bad_one(world: World) -> Outcome:
    channel = world.open()
    good = state(channel, half(1, 1))
    return world.refused(KEY0, ops.Close(channel, (good, replace(good, half0=half(2, 2).pack()))))


@produces(Outcome.BAD_STATE_SIGNATURE)
def final_shown_as_a_state(world: World) -> Outcome:
    channel = world.open()
    agreed = final(channel, half(1, 1), ZERO_HALF, world.now)
    shown = ops.CoSigned(agreed.half0, agreed.half1, agreed.signature0, agreed.signature1)
    return world.refused(KEY0, ops.Close(channel, (shown,)))


@produces(Outcome.BAD_STATE_SIGNATURE)
def claim_with_one_signature(world: World) -> Outcome:
    channel = world.open(flags=FLAG_ONE_WAY)
    return world.refused(KEY1, ops.Claim(channel, replace(state(channel, half(1, 1)), signature0=bytes(64))))


@produces(Outcome.BAD_FINAL_SIGNATURE)
def final_of_party_0_alone(world: World) -> Outcome:
    return world.refused(KEY0, replace(final(world.open(), half(1, 1), ZERO_HALF, world.now), signature1=bytes(64)))


@produces(Outcome.BAD_FINAL_SIGNATURE)
def final_of_party_1_alone(world: World) -> Outcome:
    return world.refused(KEY1, replace(final(world.open(), half(1, 1), ZERO_HALF, world.now), signature0=bytes(64)))


@produces(Outcome.BAD_FINAL_SIGNATURE)
def final_with_a_later_expiry_than_signed(world: World) -> Outcome:
    return world.refused(KEY0, replace(final(world.open(), half(1, 1), ZERO_HALF, world.now - 1), expiry=world.now))


@produces(Outcome.BAD_FINAL_SIGNATURE)
def state_shown_as_final(world: World) -> Outcome:
    channel = world.open()
    good = state(channel, half(1, 1))
    shown = ops.CloseFinal(channel, good.half0, good.half1, world.now, good.signature0, good.signature1)
    return world.refused(KEY0, shown)


@produces(Outcome.BAD_WITHDRAW_SIGNATURE)
def withdrawal_that_the_peer_has_not_signed(world: World) -> Outcome:
    return world.refused(KEY0, replace(withdrawal(world.open(), 0, 1, world.now), signature1=bytes(64)))


@produces(Outcome.BAD_WITHDRAW_SIGNATURE)
def withdrawal_of_the_other_party(world: World) -> Outcome:
    return world.refused(KEY1, replace(withdrawal(world.open(), 0, 1, world.now), party=1))


@produces(Outcome.NOT_HIGHER)
def withdrawal_executed_twice(world: World) -> Outcome:
    agreed = withdrawal(world.open(), 0, 5, world.now)
    world.ask(ALICE, agreed)
    return world.refused(ALICE, agreed)


@produces(Outcome.NOT_HIGHER)
def withdrawal_of_zero(world: World) -> Outcome:
    return world.refused(ALICE, withdrawal(world.open(), 0, 0, world.now))


@produces(Outcome.BEYOND_POT)
def withdrawal_of_more_than_there_is(world: World) -> Outcome:
    return world.refused(BOB, withdrawal(world.open(), 1, 1001, world.now))


# --- Money ---------------------------------------------------------------------------------


@produces(Outcome.INSUFFICIENT_FUNDS)
def transfer_of_one_unit_too_much(world: World) -> Outcome:
    return world.refused(ALICE, ops.Transfer(USD, BOB.public, 10_001))


@produces(Outcome.INSUFFICIENT_FUNDS)
def transfer_from_nothing(world: World) -> Outcome:
    return world.refused(CAROL, ops.Transfer(USD, BOB.public, 1))


@produces(Outcome.INSUFFICIENT_FUNDS)
def redeem_of_one_unit_too_much(world: World) -> Outcome:
    return world.refused(ALICE, ops.Redeem(USD, 10_001))


@produces(Outcome.INSUFFICIENT_FUNDS)
def deposit_of_one_unit_too_much(world: World) -> Outcome:
    return world.refused(ALICE, opening(terms(), deposit=10_001))


@produces(Outcome.INSUFFICIENT_FUNDS)
def topup_of_one_unit_too_much(world: World) -> Outcome:
    return world.refused(BOB, ops.Topup(world.open(), 1, 10_001))


@produces(Outcome.OVERFLOW)
def more_issued_than_can_be_counted(world: World) -> Outcome:
    return world.refused(ISSUER, ops.Issue(USD, CAROL.public, MAX_UNITS - 20_000 + 1))


@produces(Outcome.OVERFLOW)
def deposits_that_add_up_to_too_much(world: World) -> Outcome:
    world.ask(ISSUER, ops.Issue(USD, ALICE.public, MAX_UNITS - 20_000))
    channel = world.open(deposit=MAX_UNITS - 10_000)
    world.ask(ALICE, withdrawal(channel, 0, MAX_UNITS - 10_000, world.now))
    return world.refused(ALICE, ops.Topup(channel, 1, 10_001))


# --- The tests -----------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "scenario"), [pytest.param(*case, id=case[1].__name__) for case in SCENARIOS])
def test_refused_by_name_and_nothing_changes(outcome, scenario):
    assert scenario(World().with_money()) is outcome


def test_every_refusal_is_produced():
    elsewhere = {Outcome.DONE, Outcome.ALREADY_SUBSCRIBED}  # the second by the server
    assert {outcome for outcome, _ in SCENARIOS} == set(Outcome) - elsewhere


def test_the_first_fault_in_the_order_is_the_answer():
    """Each request here has the named fault and all that stand below it."""
    world = World(ledger=Ledger(LEDGER, RULES)).with_money()
    channel = world.open()
    everything_wrong = {
        "key1": NO_ONE, "flags": 7, "window_s": 1, "max_batch": 0, "deposit": 0, "accepted0": bytes(64)
    }  # fmt: skip
    mended = [
        (Outcome.FLAGS_UNKNOWN, {"flags": 0}),
        (Outcome.WINDOW_OUT_OF_BOUNDS, {"window_s": 10}),
        (Outcome.BATCH_OUT_OF_BOUNDS, {"max_batch": 1}),
        (Outcome.DEPOSIT_TOO_SMALL, {"deposit": 1_000_000}),
        (Outcome.KEY_REFUSED, {"key1": KEY1.public}),
        (Outcome.BAD_CONSENT_SIGNATURE, {}),
    ]
    assert world.refused(BOB, opening(terms(5), **everything_wrong)) is Outcome.NOT_PAYER
    for outcome, better in mended:
        assert world.refused(ALICE, opening(terms(5), **everything_wrong)) is outcome
        everything_wrong |= better
    assert world.refused(ALICE, opening(terms(5), deposit=1_000_000)) is Outcome.INSUFFICIENT_FUNDS

    late = replace(withdrawal(channel, 0, 0, world.now - 1), signature0=bytes(64))
    assert world.refused(ALICE, replace(late, channel_id=NOWHERE)) is Outcome.UNKNOWN_CHANNEL
    assert world.refused(ALICE, late) is Outcome.EXPIRED_AGREEMENT
    assert world.refused(ALICE, replace(late, expiry=world.now)) is Outcome.BAD_WITHDRAW_SIGNATURE

    reserved = half(1, 1)._replace(locked=9)
    unsigned = ops.CoSigned(reserved.pack(), ZERO_HALF.pack(), bytes(64), bytes(64))
    assert world.refused(CAROL, ops.Close(channel, (unsigned,))) is Outcome.NOT_A_PARTY
    assert world.refused(KEY0, ops.Close(channel, (unsigned,))) is Outcome.RESERVED_FIELD
    assert len(state_bytes(channel, reserved, ZERO_HALF)) == 232
