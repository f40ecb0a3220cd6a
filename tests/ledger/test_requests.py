"""The handling of a request: once only, in time, signed; the clock; pages and events."""

from __future__ import annotations

from dataclasses import replace

import pytest

from channelpay.ledger.books import Kind
from channelpay.ledger.outcomes import Outcome
from channelpay.ledger.requests import advance
from channelpay.ledger.views import CHANNELS_PAGE, events
from channelpay.limits import MAX_PAGE, MAX_REQUEST_LIFE_S, OUTAGE_S
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import CLOSING, SETTLED
from channelpay.statements import ZERO_HALF
from ledger_world import (
    ALICE,
    BOB,
    CAROL,
    ISSUER,
    KEY0,
    KEY1,
    LEDGER,
    RULES,
    START,
    USD,
    WINDOW_S,
    World,
    final,
    half,
    sign_request,
    state,
)


@pytest.fixture
def world():
    return World().with_money()


# --- Once only -----------------------------------------------------------------------------


def test_the_same_request_again_gives_the_same_answer_and_pays_nothing(world):
    request = world.request(ALICE, ops.Transfer(USD, BOB.public, 100))
    first = world.send(request)
    world.ask(BOB, ops.Transfer(USD, ALICE.public, 5))
    world.now += 60
    assert world.send(request) == first
    assert world.balance(ALICE) == 10_000 - 100 + 5


def test_ids_of_different_keys_do_not_meet(world):
    for signer in (ALICE, BOB):
        request = sign_request(signer, ops.Transfer(USD, CAROL.public, 1), bytes(16), world.now)
        assert world.send(request).outcome == 0
    assert world.balance(CAROL) == 2


def test_a_refused_request_may_succeed_later(world):
    request = world.request(CAROL, ops.Transfer(USD, BOB.public, 5))
    assert world.send(request).outcome == Outcome.INSUFFICIENT_FUNDS
    world.ask(ISSUER, ops.Issue(USD, CAROL.public, 5))
    assert world.send(request).outcome == Outcome.DONE
    assert world.balance(CAROL) == 0


def test_answers_are_forgotten_when_the_request_can_no_longer_be_executed(world):
    request = world.request(ALICE, ops.Transfer(USD, BOB.public, 100))
    world.send(request)
    advance(world.ledger, world.books, world.now + 60)
    assert world.books.outcome(ALICE.public, request.request_id) is not None
    advance(world.ledger, world.books, world.now + 61)
    assert world.books.outcome(ALICE.public, request.request_id) is None
    world.now += 61
    assert world.send(request).outcome == Outcome.EXPIRED


def test_a_request_is_valid_to_the_second(world):
    for valid_until in (world.now, world.now + MAX_REQUEST_LIFE_S):
        request = sign_request(ALICE, ops.Transfer(USD, BOB.public, 1), valid_until.to_bytes(16, "big"), valid_until)
        assert world.send(request).outcome == Outcome.DONE


def test_readings_need_no_valid_until_and_leave_no_trace(world):
    for valid_until in (0, world.now + 10 * MAX_REQUEST_LIFE_S):
        assert world.send(sign_request(CAROL, ops.Info(), bytes(16), valid_until)).outcome == Outcome.DONE
    assert world.books.outcome(CAROL.public, bytes(16)) is None


def test_refusals_are_signed_and_carry_their_details(world):
    response = world.send(replace(world.request(ALICE, ops.Info()), blob=b"\x90"))
    assert response.outcome == Outcome.BAD_REQUEST
    assert ops.Refusal.decode(response.body).text == "a request is [op, key, valid_until, [arguments]]"


# --- Readings ------------------------------------------------------------------------------


def test_info_tells_the_rules(world):
    info = world.ask(CAROL, ops.Info())
    assert (info.ledger_id, info.time, info.number) == (LEDGER.public, START, world.books.number())
    assert (info.operator, info.min_window_s, info.max_window_s, info.min_deposit) == (RULES.operator, 10, 1000, 5)


def test_views_carry_the_number_and_time_of_the_reading(world):
    channel = world.open()
    world.ask(ALICE, ops.Transfer(USD, BOB.public, 1))
    world.now += 7
    view = world.channel(channel)
    assert (view.number, view.time) == (world.books.number(), START + 7)
    assert view.opened == view.number - 2


def test_channels_come_in_pages_in_the_order_of_their_opening(world):
    opened = [world.open(nonce, deposit=5) for nonce in range(CHANNELS_PAGE + 3)]
    first = world.ask(BOB, ops.Channels(0))
    second = world.ask(BOB, ops.Channels(first.more))
    assert second.more is None
    assert [view.channel_id for view in first.channels + second.channels] == opened
    assert len(first.channels) == CHANNELS_PAGE
    assert world.ask(CAROL, ops.Channels(0)).channels == ()


def test_the_journal_of_an_account_comes_in_pages(world):
    for _ in range(MAX_PAGE):
        world.ask(ALICE, ops.Transfer(USD, BOB.public, 1))
    first = world.ask(BOB, ops.Journal(0))
    second = world.ask(BOB, ops.Journal(first.more))
    assert second.more is None
    entries = first.entries + second.entries
    assert len(entries) == MAX_PAGE + 1
    assert sum(entry.credit for entry in entries) - sum(entry.debit for entry in entries) == world.balance(BOB)
    assert {entry.kind for entry in entries} == {"issue", "transfer"}
    assert {entry.subject for entry in entries} == {USD + bytes(16), ALICE.public}


def test_a_full_page_without_a_rest_says_that_it_is_the_end(world):
    for _ in range(MAX_PAGE - 1):
        world.ask(ALICE, ops.Transfer(USD, BOB.public, 1))
    page = world.ask(BOB, ops.Journal(0))
    assert (len(page.entries), page.more) == (MAX_PAGE, None)


# --- Events --------------------------------------------------------------------------------


def test_events_tell_an_account_its_balances_and_its_channels(world):
    start = world.books.number()
    channel = world.open()
    world.ask(CAROL, final(channel, half(1, 300), ZERO_HALF, world.now))
    told = events(world.books, ALICE.public, start)
    assert [(event.kind, event.subject) for event in told] == [
        ("open", ALICE.public), ("open", channel), ("close_final", ALICE.public), ("close_final", channel),
    ]  # fmt: skip
    balances = [ops.AccountView.decode(told[i].body).holdings[0].units for i in (0, 2)]
    assert balances == [9000, 9700]
    views = [ops.ChannelView.decode(told[i].body) for i in (1, 3)]
    assert [view.status for view in views] == [0, SETTLED]
    assert [view.number for view in views] == [told[1].number, told[3].number]
    # Bob did not move money at the opening, and carol is no party.
    assert [event.kind for event in events(world.books, BOB.public, start)] == ["open", "close_final", "close_final"]
    assert events(world.books, CAROL.public, 0) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_events_resume_after_any_number_without_gap_or_repetition(world, limit):
    for nonce in range(3):
        channel = world.open(nonce)
        world.ask(BOB, ops.Topup(channel, 1, 10))
        world.ask(KEY1, ops.Close(channel, ()))
    whole = events(world.books, BOB.public, 0, 1000)
    assert len({event.number for event in whole}) == len(whole)
    pieces, after = [], 0
    while page := events(world.books, BOB.public, after, limit):
        pieces += page
        after = page[-1].number
    assert pieces == whole


def test_an_event_shows_the_moment_and_not_the_present(world):
    world.ask(ISSUER, ops.Issue(USD, CAROL.public, 5))
    world.ask(ISSUER, ops.Issue(USD, CAROL.public, 6))
    views = [ops.AccountView.decode(event.body) for event in events(world.books, CAROL.public, 0)]
    assert [view.holdings[0].units for view in views] == [5, 11]


# --- The clock -----------------------------------------------------------------------------


def _closing(world: World, window_left: int) -> bytes:
    channel = world.open()
    world.ask(KEY0, ops.Close(channel, ()))
    world.now += WINDOW_S - window_left
    for second in range(world.books.clock() + 1, world.now + 1):
        advance(world.ledger, world.books, second)
    return channel


def test_the_clock_never_goes_back(world):
    assert advance(world.ledger, world.books, START + 2) == START + 2
    assert advance(world.ledger, world.books, START - 100) == START + 2
    assert world.books.clock() == START + 2


def test_an_outage_does_not_eat_a_window(world):
    channel = _closing(world, window_left=10)
    back = advance(world.ledger, world.books, world.now + OUTAGE_S + 1)
    view = world.channel(channel)
    assert (view.status, view.deadline) == (CLOSING, back + WINDOW_S)
    assert events(world.books, BOB.public, 0)[-1].kind == Kind.EXTEND
    world.now = back + WINDOW_S - 1
    world.ask(KEY1, ops.Respond(channel, (state(channel, half(1, 1)),)))


def test_a_dispute_that_ran_out_during_an_outage_can_still_be_answered(world):
    channel = _closing(world, window_left=10)
    world.now = advance(world.ledger, world.books, world.now + 1_000_000)
    assert world.refused(CAROL, ops.Settle(channel)) is Outcome.DEADLINE_NOT_REACHED
    world.ask(KEY1, ops.Respond(channel, (state(channel, half(1, 1)),)))


def test_a_dispute_that_had_run_out_before_the_outage_stays_so(world):
    channel = _closing(world, window_left=0)
    world.now = advance(world.ledger, world.books, world.now + 1_000_000)
    assert world.ask(CAROL, ops.Settle(channel)).status == SETTLED


def test_ordinary_ticks_extend_nothing(world):
    channel = _closing(world, window_left=10)
    deadline = world.channel(channel).deadline
    advance(world.ledger, world.books, world.now + OUTAGE_S)
    assert world.channel(channel).deadline == deadline
