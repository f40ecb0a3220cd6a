"""What the operations do when they are allowed, and the whole dispute matrix."""

from __future__ import annotations

import pytest

from channelpay.ledger.audit import audit
from channelpay.ledger.books import ChannelRow, Kind
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.requests import settle_due
from channelpay.limits import MAX_UNITS
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import CLOSING, OPEN, SETTLED
from channelpay.statements import FLAG_ONE_WAY, ZERO_HALF
from ledger_world import (
    ALICE,
    BOB,
    CAROL,
    ISSUER,
    KEY0,
    KEY1,
    OPERATOR,
    USD,
    WINDOW_S,
    World,
    final,
    half,
    opening,
    state,
    terms,
    withdrawal,
)


@pytest.fixture
def world():
    world = World().with_money()
    yield world
    assert audit(world.books).discrepancies == ()


def _kinds(world: World) -> list[str]:
    """Kinds of entries, one for each entry."""
    return [line.kind for line in world.books.whole_journal() if line.number == line.entry]


# --- Assets and accounts -------------------------------------------------------------------


def test_the_operator_registers_assets_of_any_issuer(world):
    view = world.ask(OPERATOR, ops.CreateAsset("EUR", 2, CAROL.public))
    assert (view.code, view.scale, view.issuer) == ("EUR", 2, CAROL.public)
    assert [asset.code for asset in world.ask(ALICE, ops.Info()).assets] == ["USD", "EUR"]


def test_issue_redeem_and_transfer_move_exactly_the_units(world):
    world.ask(ISSUER, ops.Issue(USD, CAROL.public, 7))
    world.ask(CAROL, ops.Transfer(USD, ALICE.public, 3))
    world.ask(CAROL, ops.Redeem(USD, 4))
    assert [world.balance(who) for who in (ALICE, BOB, CAROL)] == [10_003, 10_000, 0]
    (totals,) = audit(world.books).assets
    assert (totals.issued, totals.accounts, totals.channels) == (20_003, 20_003, 0)


def test_a_transfer_to_oneself_changes_no_balance(world):
    assert world.ask(ALICE, ops.Transfer(USD, ALICE.public, 10_000)).holdings[0].units == 10_000


def test_the_largest_amount_can_be_issued_and_redeemed(world):
    world.ask(ISSUER, ops.Issue(USD, CAROL.public, MAX_UNITS - 20_000))
    assert world.refused(ISSUER, ops.Issue(USD, ALICE.public, 1)) is Outcome.OVERFLOW
    world.ask(CAROL, ops.Redeem(USD, MAX_UNITS - 20_000))
    world.ask(ISSUER, ops.Issue(USD, ALICE.public, 1))


def test_an_account_that_nobody_has_named_holds_nothing(world):
    view = world.ask(CAROL, ops.Account(CAROL.public))
    assert (view.holdings, view.number, view.time) == ((), world.books.number(), world.now)


# --- Opening, top-up, withdrawal -----------------------------------------------------------


def test_open_debits_the_payer_alone(world):
    channel = world.open(deposit=1000)
    view = world.channel(channel)
    assert view.status == OPEN
    assert (view.deposit0, view.deposit1, view.half0, view.half1) == (1000, 0, bytes(88), bytes(88))
    assert (world.balance(ALICE), world.balance(BOB)) == (9000, 10_000)


def test_anyone_tops_up_either_side_with_its_own_money(world):
    channel = world.open()
    world.ask(BOB, ops.Topup(channel, 1, 500))
    view = world.ask(BOB, ops.Topup(channel, 0, 20))
    assert (view.deposit0, view.deposit1) == (1020, 500)
    assert world.balance(BOB) == 10_000 - 520


@pytest.mark.parametrize("party", [0, 1])
def test_a_withdrawal_pays_the_difference_to_the_partys_account(world, party):
    channel = world.open()
    account = (ALICE, BOB)[party]
    before = world.balance(account)
    world.ask(CAROL, withdrawal(channel, party, 300, world.now))
    world.ask(CAROL, withdrawal(channel, party, 450, world.now))
    assert world.balance(account) == before + 450
    view = world.channel(channel)
    assert (view.withdrawn0, view.withdrawn1) == ((450, 0), (0, 450))[party]


def test_a_withdrawal_may_empty_the_channel(world):
    channel = world.open()
    view = world.ask(CAROL, withdrawal(channel, 1, 1000, world.now))
    assert view.status == OPEN
    settled = world.ask(CAROL, final(channel, half(1, 1000), ZERO_HALF, world.now))
    assert (settled.out0, settled.out1) == (0, 0)


# --- The dispute matrix --------------------------------------------------------------------

STATE = half(3, 300)
DONE = Outcome.DONE
MATRIX = {
    # operation: (open, closing before the deadline, closing at the deadline, settled)
    "topup": (DONE, DONE, DONE, Outcome.ALREADY_SETTLED),
    "withdraw": (DONE, DONE, DONE, Outcome.ALREADY_SETTLED),
    "claim": (DONE, DONE, Outcome.DEADLINE_PASSED, Outcome.ALREADY_SETTLED),
    "close by 0": (DONE, DONE, Outcome.DEADLINE_PASSED, Outcome.ALREADY_SETTLED),
    "close by 1": (DONE, DONE, Outcome.DEADLINE_PASSED, Outcome.ALREADY_SETTLED),
    "close on nothing": (DONE, DONE, Outcome.DEADLINE_PASSED, Outcome.ALREADY_SETTLED),
    "respond": (Outcome.NOT_CLOSING, DONE, Outcome.DEADLINE_PASSED, Outcome.ALREADY_SETTLED),
    "settle": (Outcome.NOT_CLOSING, Outcome.DEADLINE_NOT_REACHED, DONE, Outcome.ALREADY_SETTLED),
    "close_final": (DONE, DONE, DONE, Outcome.ALREADY_SETTLED),
}
ONE_WAY_STATUS = {"claim": None, "close by 1": SETTLED}
STAGES = ("open", "closing", "deadline", "settled")


def _operation(name: str, channel: bytes, now: int):
    shown = (state(channel, STATE),)
    return {
        "topup": (BOB, ops.Topup(channel, 1, 50)),
        "withdraw": (CAROL, withdrawal(channel, 0, 10, now)),
        "claim": (KEY1, ops.Claim(channel, shown[0])),
        "close by 0": (KEY0, ops.Close(channel, shown)),
        "close by 1": (KEY1, ops.Close(channel, shown)),
        "close on nothing": (KEY1, ops.Close(channel, ())),
        "respond": (CAROL, ops.Respond(channel, shown)),
        "settle": (CAROL, ops.Settle(channel)),
        "close_final": (CAROL, final(channel, STATE, ZERO_HALF, now)),
    }[name]


@pytest.mark.parametrize("flags", [0, FLAG_ONE_WAY])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", MATRIX)
def test_dispute_matrix(world, name, stage, flags):
    channel = world.open(flags=flags)
    if stage != "open":
        world.ask(KEY0, ops.Close(channel, ()))
        world.now += WINDOW_S - 1
    if stage in ("deadline", "settled"):
        world.now += 1
    if stage == "settled":
        world.ask(CAROL, ops.Settle(channel))
    expected = MATRIX[name][STAGES.index(stage)]
    if name == "claim" and flags != FLAG_ONE_WAY:
        expected = Outcome.NOT_ONE_WAY
    signer, operation = _operation(name, channel, world.now)
    if expected:
        assert world.refused(signer, operation) is expected
        return
    deadline = world.channel(channel).deadline
    view = world.ask(signer, operation)
    one_way_close = flags == FLAG_ONE_WAY and name == "close by 1"
    settles = name in ("settle", "close_final") or one_way_close
    closes = name.startswith("close") or stage != "open"
    assert view.status == (SETTLED if settles else CLOSING if closes else OPEN)
    if name.startswith("close") and stage == "open" and not settles:
        assert view.deadline == world.now + WINDOW_S
    else:
        assert view.deadline == deadline  # nothing moves it


def test_an_old_state_is_answered_and_the_newest_settles(world):
    channel = world.open()
    world.ask(KEY0, ops.Close(channel, (state(channel, half(1, 10)),)))
    world.now += WINDOW_S - 1
    world.ask(CAROL, ops.Respond(channel, (state(channel, half(9, 600), half(2, 50)),)))
    world.now += 1
    view = world.ask(CAROL, ops.Settle(channel))
    assert (view.out0, view.out1) == (1000 - 550, 550)
    assert (world.balance(ALICE), world.balance(BOB)) == (9000 + 450, 10_000 + 550)
    assert (view.half0, view.half1) == (half(9, 600).pack(), half(2, 50).pack())


def test_states_join_half_by_half_in_any_order(world):
    views = []
    for nonce, order in enumerate([(0, 1), (1, 0)]):
        channel = world.open(nonce)
        shown = [state(channel, half(5, 500), half(1, 10)), state(channel, half(3, 200), half(4, 40))]
        view = world.ask(KEY1, ops.Close(channel, tuple(shown[i] for i in order)))
        views.append((view.half0, view.half1))
    assert views == [(half(5, 500).pack(), half(4, 40).pack())] * 2


def test_the_ledger_clamps_what_the_halves_say(world):
    rich, poor = world.open(1), world.open(2)
    assert world.ask(CAROL, final(rich, half(1, 5000), ZERO_HALF, world.now)).out1 == 1000
    assert world.ask(CAROL, final(poor, ZERO_HALF, half(1, 5000), world.now)).out0 == 1000


def test_a_vanished_peer_holds_no_hostage(world):
    channel = world.open()
    world.ask(KEY0, ops.Close(channel, ()))
    world.now += WINDOW_S
    view = world.ask(CAROL, ops.Settle(channel))
    assert (view.out0, view.out1) == (1000, 0)
    assert world.balance(ALICE) == 10_000


def test_final_counts_what_the_dispute_has_shown(world):
    channel = world.open()
    world.ask(KEY0, ops.Close(channel, (state(channel, half(5, 500)),)))
    view = world.ask(CAROL, final(channel, half(3, 300), ZERO_HALF, world.now))
    assert view.out1 == 500


def test_equivocation_is_logged_once_and_refuses_nothing(world):
    channel = world.open()
    world.ask(KEY1, ops.Close(channel, (state(channel, half(5, 500)),)))
    lower = state(channel, half(7, 300))
    world.ask(KEY1, ops.Respond(channel, (lower,)))
    world.ask(KEY1, ops.Respond(channel, (lower,)))
    assert _kinds(world)[-2:] == [Kind.CLOSE, Kind.EQUIVOCATION]
    view = world.channel(channel)
    assert view.half0 == half(7, 300)._replace(total=500).pack()
    world.now += WINDOW_S
    assert world.ask(CAROL, ops.Settle(channel)).out1 == 500


def test_what_changes_nothing_leaves_no_trace(world):
    channel = world.open()
    shown = (state(channel, half(5, 500)),)
    world.ask(KEY1, ops.Close(channel, shown))
    number = world.books.number()
    world.ask(CAROL, ops.Respond(channel, shown))
    world.ask(KEY0, ops.Close(channel, (state(channel, half(2, 100)),)))
    assert world.books.number() == number


# --- one_way -------------------------------------------------------------------------------


def test_claims_pay_the_growth_and_keep_the_channel_open(world):
    channel = world.open(flags=FLAG_ONE_WAY)
    world.ask(KEY1, ops.Claim(channel, state(channel, half(1, 100))))
    world.ask(BOB, ops.Claim(channel, state(channel, half(2, 250))))  # by account1's key as well
    again = world.ask(KEY1, ops.Claim(channel, state(channel, half(1, 100))))
    assert (again.status, again.withdrawn1) == (OPEN, 250)
    assert world.balance(BOB) == 10_250
    view = world.ask(KEY1, ops.Close(channel, (state(channel, half(3, 400)),)))
    assert (view.status, view.out0, view.out1) == (SETTLED, 600, 150)
    assert (world.balance(ALICE), world.balance(BOB)) == (9_600, 10_400)


def test_a_claim_is_clamped_to_the_pot(world):
    channel = world.open(flags=FLAG_ONE_WAY)
    view = world.ask(KEY1, ops.Claim(channel, state(channel, half(1, 5000))))
    assert (view.withdrawn1, world.balance(BOB)) == (1000, 11_000)
    world.ask(ALICE, ops.Topup(channel, 0, 100))
    assert world.ask(KEY1, ops.Claim(channel, state(channel, half(1, 5000)))).withdrawn1 == 1100


def test_party_1_of_a_one_way_channel_settles_a_dispute_at_once(world):
    channel = world.open(flags=FLAG_ONE_WAY)
    world.ask(KEY0, ops.Close(channel, ()))
    view = world.ask(KEY1, ops.Close(channel, (state(channel, half(4, 400)),)))
    assert (view.status, view.out1) == (SETTLED, 400)


def test_party_1_without_a_state_gets_a_window_in_which_one_may_turn_up(world):
    channel = world.open(flags=FLAG_ONE_WAY)
    assert world.ask(KEY1, ops.Close(channel, ())).status == CLOSING
    world.ask(CAROL, ops.Respond(channel, (state(channel, half(4, 400)),)))
    world.now += WINDOW_S
    assert world.ask(CAROL, ops.Settle(channel)).out1 == 400


def test_party_0_of_a_one_way_channel_waits_out_the_window(world):
    channel = world.open(flags=FLAG_ONE_WAY)
    view = world.ask(KEY0, ops.Close(channel, (state(channel, half(4, 400)),)))
    assert (view.status, view.deadline) == (CLOSING, world.now + WINDOW_S)


# --- The timer -----------------------------------------------------------------------------


def test_the_timer_settles_what_is_due_and_nothing_else(world):
    early, late, quiet = world.open(1), world.open(2), world.open(3)
    world.ask(KEY0, ops.Close(early, ()))
    world.now += 1
    world.ask(KEY0, ops.Close(late, ()))
    world.now += WINDOW_S - 1
    world.books.set_clock(world.now)
    assert settle_due(world.ledger, world.books, world.now) == 1
    assert settle_due(world.ledger, world.books, world.now) == 0
    statuses = [world.channel(channel).status for channel in (early, late, quiet)]
    assert statuses == [SETTLED, CLOSING, OPEN]
    assert world.refused(CAROL, ops.Settle(early)) is Outcome.ALREADY_SETTLED


def test_accounts_may_be_the_same_on_both_sides(world):
    both = terms()._replace(account1=ALICE.public)
    channel = world.ask(ALICE, opening(both)).channel_id
    world.ask(CAROL, final(channel, half(1, 400), ZERO_HALF, world.now))
    assert world.balance(ALICE) == 10_000
    (view,) = world.ask(ALICE, ops.Channels(0)).channels
    assert view.status == SETTLED


def test_books_refuse_a_channel_that_is_not_as_it_was_read(world):
    row = world.books.channel(world.open())
    assert isinstance(row, ChannelRow)
    with pytest.raises(AssertionError, match="not as it was read"):
        world.books.replace_channel(row._replace(status=CLOSING), row._replace(status=SETTLED))


def test_refusals_explain_themselves(world):
    with pytest.raises(LedgerRefused, match="insufficient-funds: the account holds 10000 units, not 10001"):
        world.ask(ALICE, ops.Redeem(USD, 10_001))
