"""Closing on the ledger: FINAL, disputes, joins, payouts. Spec 8.4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from channelpay.conformance.case import add, case
from channelpay.conformance.cases.ledger_channels import Pair, half
from channelpay.conformance.kit import Kit
from channelpay.conformance.verdict import require, same
from channelpay.ledger.outcomes import Outcome
from channelpay.messages import ledger as ops
from channelpay.statements import FLAG_ONE_WAY, ZERO_HALF, Half

# --- FINAL -------------------------------------------------------------------------------------


@case("L-37 L-40 S-12")
def final_settles_at_once(kit: Kit) -> None:
    """FINAL with both signatures settles an open channel at once, whoever shows it"""
    pair = Pair(kit)
    view = kit.ledger.channel_op(kit.account, pair.final(half(3, 300), half(1, 100), pair.soon()))
    same((view.status, view.out0, view.out1), (ops.SETTLED, pair.deposit - 200, 200), "status and payout")
    same(pair.held(), (2 * pair.deposit - 200, 200), "what the accounts hold")


@case("L-37")
def final_settles_a_dispute(kit: Kit) -> None:
    """FINAL settles a channel that is closing"""
    pair = Pair(kit)
    pair.close()
    view = kit.ledger.channel_op(kit.account, pair.final(half(1, 30), ZERO_HALF, pair.soon()))
    same((view.status, view.out1), (ops.SETTLED, 30), "status and payout")


@case("L-37 L-38 L-11")
def final_refused(kit: Kit) -> None:
    """FINAL with one signature, other halves, another expiry, or expired is refused"""
    pair = Pair(kit)
    good = pair.final(half(1, 30), ZERO_HALF, pair.soon())
    pair.refused(replace(good, signature1=good.signature0), Outcome.BAD_FINAL_SIGNATURE)
    pair.refused(replace(good, signature0=bytes(64)), Outcome.BAD_FINAL_SIGNATURE)
    pair.refused(replace(good, half0=half(1, 31).pack()), Outcome.BAD_FINAL_SIGNATURE)
    pair.refused(replace(good, expiry=good.expiry + 1), Outcome.BAD_FINAL_SIGNATURE)
    pair.refused(pair.final(half(1, 30), ZERO_HALF, kit.ledger.time() - 1), Outcome.EXPIRED_AGREEMENT)


@case("L-38 S-11")
def final_of_a_state_refused(kit: Kit) -> None:
    """Signatures over STATE are no FINAL: an ordinary state never settles at once"""
    pair = Pair(kit)
    state = pair.state(half(1, 30))
    forged = ops.CloseFinal(pair.id, state.half0, state.half1, pair.soon(), state.signature0, state.signature1)
    pair.refused(forged, Outcome.BAD_FINAL_SIGNATURE)


# --- Disputes ----------------------------------------------------------------------------------


@case("L-34")
def close_starts_the_window(kit: Kit) -> None:
    """`close` with a state makes the channel closing, its deadline a whole window ahead"""
    pair = Pair(kit)
    view = pair.close(pair.state(half(2, 30)))
    same(view.status, ops.CLOSING, "the status")
    same(view.deadline, view.time + pair.terms.window_s, "the deadline")
    same((view.half0, view.half1), (half(2, 30).pack(), ZERO_HALF.pack()), "the halves")
    same(pair.held(), (pair.deposit, 0), "what the accounts hold before the deadline")


@case("L-34")
def close_without_a_state(kit: Kit) -> None:
    """`close` needs no state: a vanished peer holds no hostage"""
    pair = Pair(kit)
    same(pair.close(by=1).status, ops.CLOSING, "the status")


@case("L-34 L-35")
def close_again_acts_as_respond(kit: Kit) -> None:
    """`close` on a closing channel joins its states and moves no deadline"""
    pair = Pair(kit)
    first = pair.close(pair.state(half(1, 10)))
    kit.sleep(1.1)
    second = pair.close(pair.state(half(2, 30)), by=1)
    same((second.status, second.deadline), (ops.CLOSING, first.deadline), "status and deadline")
    same(second.half0, half(2, 30).pack(), "half0")


@case("L-34")
def close_by_others(kit: Kit) -> None:
    """Only a channel key closes; the account's does not"""
    pair = Pair(kit)
    for key in (pair.accounts[0], pair.accounts[1], kit.account):
        pair.refused(ops.Close(pair.id, ()), Outcome.NOT_A_PARTY, key)


@case("L-35")
def respond_by_anyone(kit: Kit) -> None:
    """Anyone may show a newer state while the window runs; the deadline does not move"""
    pair = Pair(kit)
    first = pair.close(pair.state(half(1, 10)))
    kit.sleep(1.1)
    view = pair.respond(pair.state(half(3, 60), half(1, 20)))
    same((view.status, view.deadline), (ops.CLOSING, first.deadline), "status and deadline")
    same((view.half0, view.half1), (half(3, 60).pack(), half(1, 20).pack()), "the halves")


@case("L-35 L-11")
def respond_refused(kit: Kit) -> None:
    """`respond` on an open channel, or without a state, is refused"""
    pair = Pair(kit)
    pair.refused(ops.Respond(pair.id, (pair.state(half(1, 10)),)), Outcome.NOT_CLOSING)
    pair.close()
    pair.refused(ops.Respond(pair.id, ()), Outcome.NO_STATE)


@case("L-39")
def join_takes_the_newest_of_each_half(kit: Kit) -> None:
    """Each half is joined on its own: two states that cross give the newest of both"""
    pair = Pair(kit)
    view = pair.close(pair.state(half(5, 50), half(1, 10)), pair.state(half(2, 20), half(4, 44)))
    same((view.half0, view.half1), (half(5, 50).pack(), half(4, 44).pack()), "the join")


@case("L-39")
def join_keeps_the_newest(kit: Kit) -> None:
    """An older state changes nothing"""
    pair = Pair(kit)
    before = pair.close(pair.state(half(5, 50), half(4, 44)))
    after = pair.respond(pair.state(half(2, 20), half(1, 10)))
    same((after.half0, after.half1), (before.half0, before.half1), "the halves")


@case("L-39")
def join_takes_the_highest_total(kit: Kit) -> None:
    """Two histories of one party: n and h of the highest n, T the highest seen; nothing is refused"""
    pair = Pair(kit)
    pair.close(pair.state(half(3, 90)))
    view = pair.respond(pair.state(half(4, 40)))
    same(view.half0, half(4, 40)._replace(total=90).pack(), "the join of two histories")


@case("L-38")
def close_with_two_states_one_bad(kit: Kit) -> None:
    """If one of two states is bad, none counts"""
    pair = Pair(kit)
    good, bad = pair.state(half(1, 10)), pair.state(half(2, 20))
    bad = replace(bad, signature1=bytes(64))
    pair.refused(ops.Close(pair.id, (good, bad)), Outcome.BAD_STATE_SIGNATURE)


def _refused_state(outcome: Outcome, make: Callable[[Pair], ops.CoSigned]) -> Callable[[Kit], None]:
    def script(kit: Kit) -> None:
        pair = Pair(kit)
        pair.refused(ops.Close(pair.id, (make(pair),)), outcome)
        pair.close()
        pair.refused(ops.Respond(pair.id, (make(pair),)), outcome)

    return script


for _name, _about, _numbers, _outcome, _make in (
    ("one-signature", "with party 0's signature only", "L-38", Outcome.BAD_STATE_SIGNATURE,
     lambda p: replace(p.state(half(1, 10)), signature1=bytes(64))),
    ("other-signature", "with party 1's signature only", "L-38", Outcome.BAD_STATE_SIGNATURE,
     lambda p: replace(p.state(half(1, 10)), signature0=p.state(half(1, 10)).signature1)),
    ("of-another-channel", "of another channel", "L-38 S-11", Outcome.BAD_STATE_SIGNATURE,
     lambda p: p.state(half(1, 10), channel_id=bytes(32))),
    ("changed", "with a total raised after signing", "L-38", Outcome.BAD_STATE_SIGNATURE,
     lambda p: replace(p.state(half(1, 10)), half0=half(1, 10)._replace(total=11).pack())),
    ("locked", "with L set", "L-38 S-10", Outcome.RESERVED_FIELD, lambda p: p.state(half(1, 10)._replace(locked=1))),
    ("rooted", "with R set", "L-38 S-10", Outcome.RESERVED_FIELD,
     lambda p: p.state(half(1, 10)._replace(root=bytes([1]) * 32))),
    ("total-below-n", "with a total below its number of payments", "L-38 S-10", Outcome.UNSOUND_HALF,
     lambda p: p.state(half(10, 9))),
    ("without-payments", "with a history and no payments", "L-38 S-10", Outcome.UNSOUND_HALF,
     lambda p: p.state(Half(0, 0, bytes([1]) * 32))),
    ("counter-overflow", "with a counter above 2^63-1", "L-38 S-10", Outcome.UNSOUND_HALF,
     lambda p: p.state(Half(1, 2**63, bytes(32)))),
):  # fmt: skip
    add(f"ledger-state-{_name}", f"The ledger refuses a state {_about}", _numbers, _refused_state(_outcome, _make))


# --- Payouts -----------------------------------------------------------------------------------


def _paid(kit: Kit, half0: Half, half1: Half, deposit1: int = 0) -> tuple[int, int, int]:
    pair = Pair(kit)
    if deposit1:
        kit.ledger.answer(pair.accounts[0], ops.Topup(pair.id, 1, deposit1))
    view = kit.ledger.channel_op(kit.account, pair.final(half0, half1, pair.soon()))
    same(pair.held(), (2 * pair.deposit - pair.deposit - deposit1 + view.out0, view.out1), "what the accounts hold")
    return pair.deposit, view.out0, view.out1


@case("L-40")
def payout_counts_both_ways(kit: Kit) -> None:
    """Payments of both parties are set off against each other"""
    deposit, out0, out1 = _paid(kit, half(9, 500), half(3, 200), deposit1=100)
    same((out0, out1), (deposit - 300, 400), "the payout")


@case("L-40 L-38")
def payout_is_clamped_above(kit: Kit) -> None:
    """Party 1 gets no more than the channel holds; a co-signed state is not refused for its balances"""
    deposit, out0, out1 = _paid(kit, half(1, 10**9), ZERO_HALF)
    same((out0, out1), (0, deposit), "the payout")


@case("L-40 L-38")
def payout_is_clamped_below(kit: Kit) -> None:
    """Party 1 gets nothing when it has paid more than it had"""
    deposit, out0, out1 = _paid(kit, ZERO_HALF, half(1, 10**9), deposit1=50)
    same((out0, out1), (deposit + 50, 0), "the payout")


@case("L-40 L-32")
def payout_counts_withdrawals(kit: Kit) -> None:
    """What was withdrawn is not paid again"""
    pair = Pair(kit)
    kit.ledger.channel_op(kit.account, pair.withdrawal(1, 40, pair.soon()))
    view = kit.ledger.channel_op(kit.account, pair.final(half(2, 100), ZERO_HALF, pair.soon()))
    same((view.out0, view.out1), (pair.deposit - 100, 60), "the payout")
    same(pair.held(), (2 * pair.deposit - 100, 100), "what the accounts hold")


@case("L-41")
def one_way_payee_settles_at_once(kit: Kit) -> None:
    """Party 1 of a one_way channel that closes with a state is paid at once"""
    pair = Pair(kit, flags=FLAG_ONE_WAY)
    view = pair.close(pair.state(half(2, 30)), by=1)
    same((view.status, view.out1), (ops.SETTLED, 30), "status and payout")


@case("L-41 L-34")
def one_way_payer_waits(kit: Kit) -> None:
    """Party 0 of a one_way channel waits for the window, and so does party 1 without a state"""
    first, second = Pair(kit, flags=FLAG_ONE_WAY), Pair(kit, flags=FLAG_ONE_WAY)
    same(first.close(first.state(half(2, 30))).status, ops.CLOSING, "the status after party 0's close")
    same(second.close(by=1).status, ops.CLOSING, "the status after a close without a state")


@case("L-40 L-11")
def nothing_changes_a_settled_channel(kit: Kit) -> None:
    """After settlement every operation is already-settled, and the halves are kept"""
    pair = Pair(kit)
    kit.ledger.channel_op(kit.account, pair.final(half(1, 30), ZERO_HALF, pair.soon()))
    state = pair.state(half(9, 900))
    for operation in (
        pair.final(half(1, 30), ZERO_HALF, pair.soon()), ops.Close(pair.id, (state,)), ops.Respond(pair.id, (state,)),
        ops.Settle(pair.id), pair.withdrawal(0, 5, pair.soon()),
    ):  # fmt: skip
        pair.refused(operation, Outcome.ALREADY_SETTLED)
    same(kit.ledger.channel(pair.id).half0, half(1, 30).pack(), "the half that was settled")


# --- Deadlines ---------------------------------------------------------------------------------


@case("L-36")
def settle_before_the_deadline(kit: Kit) -> None:
    """`settle` before the deadline, or without a dispute, is refused"""
    pair = Pair(kit)
    pair.refused(ops.Settle(pair.id), Outcome.NOT_CLOSING)
    pair.close()
    pair.refused(ops.Settle(pair.id), Outcome.DEADLINE_NOT_REACHED)


@case("L-36 L-40 L-35", takes_s=15)
def settles_by_itself_at_the_deadline(kit: Kit) -> None:
    """At the deadline, and not before, the ledger pays out the newest states by its own timer"""
    pair = Pair(kit, window_s=kit.info.min_window_s)
    closed = pair.close(pair.state(half(1, 10)))
    pair.respond(pair.state(half(4, 70), half(1, 20)))
    kit.sleep(max(0, closed.deadline - kit.ledger.time() - 3))
    view = kit.ledger.channel(pair.id)
    require(view.status == ops.CLOSING or view.time >= closed.deadline, "the ledger settled before the deadline")
    view = kit.until(lambda: _settled(pair), 8, "the settlement")
    same((view.out0, view.out1), (pair.deposit - 50, 50), "the payout")
    same(pair.held(), (2 * pair.deposit - 50, 50), "what the accounts hold")
    require(view.time >= closed.deadline, "the ledger settled before the deadline")


def _settled(pair: Pair) -> ops.ChannelView | None:
    view = pair.kit.ledger.channel(pair.id)
    return view if view.status == ops.SETTLED else None
