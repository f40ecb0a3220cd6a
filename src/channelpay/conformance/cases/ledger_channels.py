"""Opening, topping up, withdrawing, claiming, with the kit as both parties. Spec 8.4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from channelpay.conformance.case import add, case
from channelpay.conformance.kit import Kit, open_request
from channelpay.conformance.verdict import require, same
from channelpay.crypto import SigningKey, sha256
from channelpay.ledger.outcomes import Outcome
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import ChannelView, CoSigned
from channelpay.statements import (
    FLAG_ONE_WAY,
    FLAG_TWO_WAY,
    ZERO_HALF,
    ChannelTerms,
    Half,
    accepted_bytes,
    final_bytes,
    state_bytes,
    withdraw_bytes,
)

DEPOSIT = 1_000
_SMALL_ORDER = bytes([1]) + bytes(31)


def half(n: int, total: int, history: str = "") -> Half:
    """A half with a history of its own."""
    return Half(n, total, sha256(f"{n} {total} {history}".encode())) if n else ZERO_HALF


class Pair:
    """Both parties of a channel, and its money."""

    def __init__(self, kit: Kit, *, flags: int = FLAG_TWO_WAY, window_s: int = 0, open_it: bool = True) -> None:
        self.kit = kit
        self.deposit = max(DEPOSIT, kit.info.min_deposit)
        self.keys = kit.key(), kit.key()
        self.accounts = kit.purse(2 * self.deposit), kit.purse()
        self.terms = ChannelTerms(
            kit.runner.ledger_id, kit.asset_id, self.keys[0].public, self.keys[1].public, self.accounts[0].public,
            self.accounts[1].public, kit.runner.entropy(32), flags, window_s or kit.info.max_window_s, 16,
        )  # fmt: skip
        self.id = self.terms.channel_id()
        if open_it:
            self.view = kit.ledger.channel_op(self.accounts[0], self.opening())

    def opening(self, **changes: Any) -> ops.OpenChannel:
        """`open` with both consents to exactly these terms; `changes` are signed as well."""
        deposit = changes.pop("deposit", self.deposit)
        terms = self.terms._replace(**changes)
        consent = accepted_bytes(terms.channel_id())
        return open_request(terms, deposit, self.keys[0].sign(consent), self.keys[1].sign(consent))

    def state(self, half0: Half, half1: Half = ZERO_HALF, channel_id: bytes = b"") -> CoSigned:
        """A co-signed STATE."""
        statement = state_bytes(channel_id or self.id, half0, half1)
        return CoSigned(half0.pack(), half1.pack(), *[key.sign(statement) for key in self.keys])

    def final(self, half0: Half, half1: Half, expiry: int) -> ops.CloseFinal:
        """FINAL with both signatures."""
        statement = final_bytes(self.id, half0, half1, expiry)
        return ops.CloseFinal(self.id, half0.pack(), half1.pack(), expiry, *[key.sign(statement) for key in self.keys])

    def withdrawal(self, party: int, total: int, expiry: int) -> ops.Withdraw:
        """WITHDRAW with both signatures."""
        statement = withdraw_bytes(self.id, party, total, expiry)
        return ops.Withdraw(self.id, party, total, expiry, *[key.sign(statement) for key in self.keys])

    def soon(self) -> int:
        """An expiry in ten minutes."""
        return self.kit.ledger.time() + 600

    def close(self, *states: CoSigned, by: int = 0) -> ChannelView:
        """`close` by a channel key."""
        return self.kit.ledger.channel_op(self.keys[by], ops.Close(self.id, states))

    def respond(self, *states: CoSigned) -> ChannelView:
        """`respond` by anybody."""
        return self.kit.ledger.channel_op(self.kit.account, ops.Respond(self.id, states))

    def refused(self, operation: ops.Operation, outcome: Outcome, key: SigningKey | None = None) -> None:
        """The ledger refuses the operation, and the channel stays as it is (L-11)."""
        before = self.kit.ledger.channel(self.id)
        self.kit.ledger.refused(key or self.keys[0], operation, outcome)
        after = self.kit.ledger.channel(self.id)
        same(replace(after, number=0, time=0), replace(before, number=0, time=0), "the channel after a refusal")

    def held(self) -> tuple[int, int]:
        """What the two accounts hold."""
        units = self.kit.ledger.units
        return units(self.accounts[0].public, self.terms.asset_id), units(self.accounts[1].public, self.terms.asset_id)


# --- Opening -------------------------------------------------------------------------------------


@case("L-30 L-14 S-9")
def ledger_opens_a_channel(kit: Kit) -> None:
    """`open` takes the deposit from account0 alone, and the view repeats the terms"""
    pair = Pair(kit)
    view = pair.view
    for name in ("asset_id", "key0", "key1", "account0", "account1", "open_nonce", "flags", "window_s", "max_batch"):
        same(getattr(view, name), getattr(pair.terms, name), name)
    same(view.channel_id, pair.id, "the channel's id")
    same((view.status, view.deposit0, view.deposit1), (ops.OPEN, pair.deposit, 0), "status and deposits")
    same((view.half0, view.half1), (ZERO_HALF.pack(), ZERO_HALF.pack()), "the halves")
    same(pair.held(), (pair.deposit, 0), "what the accounts hold")
    same(kit.ledger.channel(pair.id).opened, view.opened, "the number of its opening")


@case("L-30")
def ledger_opens_once(kit: Kit) -> None:
    """A channel id is never used again, settled or not"""
    pair = Pair(kit)
    kit.ledger.refused(pair.accounts[0], pair.opening(), Outcome.ALREADY_OPEN)
    kit.ledger.channel_op(pair.keys[0], pair.final(ZERO_HALF, ZERO_HALF, pair.soon()))
    kit.ledger.refused(pair.accounts[0], pair.opening(), Outcome.ALREADY_OPEN)


@case("L-30")
def ledger_opens_for_the_payer_only(kit: Kit) -> None:
    """Only account0 opens: nobody spends another one's money"""
    pair = Pair(kit, open_it=False)
    kit.ledger.refused(kit.account, pair.opening(), Outcome.NOT_PAYER)
    kit.ledger.refused(pair.accounts[1], pair.opening(), Outcome.NOT_PAYER)


def _refused_opening(outcome: Outcome, change: Callable[[Pair], ops.OpenChannel]) -> Callable[[Kit], None]:
    def script(kit: Kit) -> None:
        pair = Pair(kit, open_it=False)
        before = pair.held()
        kit.ledger.refused(pair.accounts[0], change(pair), outcome)
        same(pair.held(), before, "what the accounts hold after a refusal")

    return script


for _name, _about, _outcome, _change in (
    ("unknown-asset", "an asset that is not registered", Outcome.UNKNOWN_ASSET,
     lambda p: p.opening(asset_id=bytes(16))),
    ("unknown-flags", "unknown flags", Outcome.FLAGS_UNKNOWN, lambda p: p.opening(flags=2)),
    ("window-too-short", "a window below the ledger's", Outcome.WINDOW_OUT_OF_BOUNDS,
     lambda p: p.opening(window_s=p.kit.info.min_window_s - 1)),
    ("window-too-long", "a window above the ledger's", Outcome.WINDOW_OUT_OF_BOUNDS,
     lambda p: p.opening(window_s=p.kit.info.max_window_s + 1)),
    ("batch-zero", "max_batch 0", Outcome.BATCH_OUT_OF_BOUNDS, lambda p: p.opening(max_batch=0)),
    ("batch-above-4096", "max_batch 4,097", Outcome.BATCH_OUT_OF_BOUNDS, lambda p: p.opening(max_batch=4097)),
    ("deposit-too-small", "a deposit below the ledger's least", Outcome.DEPOSIT_TOO_SMALL,
     lambda p: p.opening(deposit=p.kit.info.min_deposit - 1)),
    ("small-order-key", "a channel key of small order", Outcome.KEY_REFUSED, lambda p: p.opening(key1=_SMALL_ORDER)),
    ("small-order-account", "an account of small order", Outcome.KEY_REFUSED,
     lambda p: p.opening(account1=_SMALL_ORDER)),
    ("one-key-twice", "one key for both parties", Outcome.KEY_REFUSED, lambda p: p.opening(key1=p.keys[0].public)),
    ("one-consent", "the consent of one party only", Outcome.BAD_CONSENT_SIGNATURE,
     lambda p: replace(p.opening(), accepted1=p.opening().accepted0)),
    ("consent-to-another", "consents to another channel", Outcome.BAD_CONSENT_SIGNATURE,
     lambda p: replace(p.opening(), window_s=p.terms.window_s - 1)),
    ("without-money", "a deposit that account0 does not hold", Outcome.INSUFFICIENT_FUNDS,
     lambda p: p.opening(deposit=2 * p.deposit + 1)),
):  # fmt: skip
    add(f"ledger-open-{_name}", f"The ledger refuses {_about}", "L-30 L-11", _refused_opening(_outcome, _change))


# --- Money in and out ------------------------------------------------------------------------------


@case("L-31")
def ledger_topup(kit: Kit) -> None:
    """Anyone may raise the deposit of either party, with its own money"""
    pair = Pair(kit)
    kit.ledger.answer(pair.accounts[0], ops.Topup(pair.id, 0, 5))
    giver = kit.purse(10)
    view = kit.ledger.channel_op(giver, ops.Topup(pair.id, 1, 7))
    same((view.deposit0, view.deposit1), (pair.deposit + 5, 7), "the deposits")
    same(kit.ledger.units(giver.public, kit.asset_id), 3, "what the giver holds")


@case("L-31 L-11")
def ledger_topup_refused(kit: Kit) -> None:
    """A top-up of nothing, of more than there is, and of a channel that is not there or settled is refused"""
    pair = Pair(kit)
    pair.refused(ops.Topup(pair.id, 0, 0), Outcome.ZERO_AMOUNT, pair.accounts[0])
    pair.refused(ops.Topup(pair.id, 0, pair.deposit + 1), Outcome.INSUFFICIENT_FUNDS, pair.accounts[0])
    kit.ledger.refused(pair.accounts[0], ops.Topup(bytes(32), 0, 1), Outcome.UNKNOWN_CHANNEL)
    kit.ledger.channel_op(pair.keys[0], pair.final(ZERO_HALF, ZERO_HALF, pair.soon()))
    pair.refused(ops.Topup(pair.id, 0, 1), Outcome.ALREADY_SETTLED, pair.accounts[0])


@case("L-32 S-13")
def ledger_withdraw(kit: Kit) -> None:
    """A withdrawal pays up to W_total, by whoever holds both signatures, and no second time"""
    pair = Pair(kit)
    asked = pair.withdrawal(0, 100, pair.soon())
    view = kit.ledger.channel_op(kit.account, asked)
    same((view.withdrawn0, pair.held()[0]), (100, pair.deposit + 100), "what was withdrawn and where it went")
    pair.refused(asked, Outcome.NOT_HIGHER)
    kit.ledger.channel_op(kit.account, pair.withdrawal(1, 40, pair.soon()))
    kit.ledger.channel_op(kit.account, pair.withdrawal(0, 150, pair.soon()))
    same(pair.held(), (pair.deposit + 150, 40), "what the accounts hold")


@case("L-32 L-11")
def ledger_withdraw_refused(kit: Kit) -> None:
    """A withdrawal expired, signed by one, of another party or total, or beyond the pot is refused"""
    pair = Pair(kit)
    good = pair.withdrawal(0, 100, pair.soon())
    pair.refused(pair.withdrawal(0, 100, kit.ledger.time() - 1), Outcome.EXPIRED_AGREEMENT)
    pair.refused(replace(good, signature1=good.signature0), Outcome.BAD_WITHDRAW_SIGNATURE)
    pair.refused(replace(good, party=1), Outcome.BAD_WITHDRAW_SIGNATURE)
    pair.refused(replace(good, total=101), Outcome.BAD_WITHDRAW_SIGNATURE)
    pair.refused(replace(good, expiry=good.expiry + 1), Outcome.BAD_WITHDRAW_SIGNATURE)
    pair.refused(pair.withdrawal(0, pair.deposit + 1, pair.soon()), Outcome.BEYOND_POT)
    pair.refused(pair.withdrawal(0, 0, pair.soon()), Outcome.NOT_HIGHER)


@case("L-33 L-40")
def ledger_claim(kit: Kit) -> None:
    """A claim pays party 1 of a one_way channel what the state shows, and the channel goes on"""
    pair = Pair(kit, flags=FLAG_ONE_WAY)
    view = kit.ledger.channel_op(pair.keys[1], ops.Claim(pair.id, pair.state(half(2, 30))))
    same((view.status, view.withdrawn1, pair.held()[1]), (ops.OPEN, 30, 30), "status, withdrawn and paid")
    view = kit.ledger.channel_op(pair.accounts[1], ops.Claim(pair.id, pair.state(half(5, 50))))
    same((view.status, view.withdrawn1, pair.held()[1]), (ops.OPEN, 50, 50), "status, withdrawn and paid")
    view = kit.ledger.channel_op(pair.keys[1], ops.Claim(pair.id, pair.state(half(2, 30))))
    same((view.withdrawn1, view.half0), (50, half(5, 50).pack()), "what an older state changes")


@case("L-33 L-11")
def ledger_claim_refused(kit: Kit) -> None:
    """A claim by party 0, on a two_way channel, or with one signature is refused"""
    pair = Pair(kit, flags=FLAG_ONE_WAY)
    state = pair.state(half(2, 30))
    pair.refused(ops.Claim(pair.id, state), Outcome.NOT_A_PARTY, pair.keys[0])
    pair.refused(ops.Claim(pair.id, state), Outcome.NOT_A_PARTY, kit.account)
    bad = replace(state, signature0=state.signature1)
    pair.refused(ops.Claim(pair.id, bad), Outcome.BAD_STATE_SIGNATURE, pair.keys[1])
    kit.ledger.refused(pair.keys[1], ops.Claim(bytes(32), state), Outcome.UNKNOWN_CHANNEL)
    other = Pair(kit)
    other.refused(ops.Claim(other.id, other.state(half(1, 10))), Outcome.NOT_ONE_WAY, other.keys[1])


@case("L-33 L-40")
def ledger_claim_is_clamped(kit: Kit) -> None:
    """A claim pays no more than the channel holds"""
    pair = Pair(kit, flags=FLAG_ONE_WAY)
    view = kit.ledger.channel_op(pair.keys[1], ops.Claim(pair.id, pair.state(half(1, pair.deposit + 500))))
    same((view.withdrawn1, pair.held()[1]), (pair.deposit, pair.deposit), "what was paid")


@case("L-14")
def ledger_unknown_channel(kit: Kit) -> None:
    """A channel that was never opened is unknown-channel, for reading too"""
    for operation in (ops.Channel(bytes(32)), ops.Settle(bytes(32)), ops.Close(bytes(32), ())):
        kit.ledger.refused(kit.account, operation, Outcome.UNKNOWN_CHANNEL)


@case("L-14")
def ledger_lists_channels(kit: Kit) -> None:
    """`channels` gives those of the requesting account, of either party, in the order of their opening"""
    pair = Pair(kit)
    for purse in pair.accounts:
        page = kit.ledger.ask(purse, ops.Channels(0), ops.ChannelPage)
        same([view.channel_id for view in page.channels], [pair.id], "the channels of the account")
        rest = kit.ledger.ask(purse, ops.Channels(pair.view.opened), ops.ChannelPage)
        same((rest.channels, rest.more), ((), None), "the channels after the newest")
    require(pair.view.opened > 0, "a channel opened at number 0")
