"""The operations of a ledger: money, channels, disputes. Spec L-17, L-18, L-30 to L-41.

Each operation looks for its faults in the order of `Outcome`, raises LedgerRefused at the first, and
writes only when there is none: what is refused has changed nothing (spec L-10, L-11).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from channelpay.amounts import check_code
from channelpay.errors import AmountError
from channelpay.ledger.books import NOBODY, AssetRow, Books, ChannelRow, Holder, Kind, Line, Rules
from channelpay.ledger.checks import check_keys, half_of, refuse_unless, verify_both, verify_consent
from channelpay.ledger.disputes import extended_deadline, join, share_of_party1
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.views import asset_view, view_of
from channelpay.limits import MAX_ASSET_SCALE, MAX_BATCH, MAX_PAGE, MAX_UNITS
from channelpay.messages.ledger import (
    CLOSING,
    OPEN,
    SETTLED,
    Claim,
    Close,
    CloseFinal,
    CoSigned,
    CreateAsset,
    Issue,
    OpenChannel,
    Redeem,
    Respond,
    Settle,
    Topup,
    Transfer,
    Withdraw,
)
from channelpay.statements import (
    FLAG_ONE_WAY,
    FLAG_TWO_WAY,
    ChannelTerms,
    asset_id,
    final_bytes,
    state_bytes,
    withdraw_bytes,
)


class Leg(NamedTuple):
    """What an entry does to one account: `units` more (or fewer, below zero) because of `counterpart`."""

    account: bytes
    units: int
    counterpart: bytes


class Book:
    """The books of the ledger `ledger_id`, open for one moment `now` of its clock.

    Operations take the requesting key and the operation's record, and return the row they changed.
    """

    def __init__(self, books: Books, rules: Rules, ledger_id: bytes, now: int) -> None:
        self._books = books
        self._rules = rules
        self._ledger_id = ledger_id
        self._now = now
        self._entered: tuple[ChannelRow, bytes] | None = None  # the newest entry's channel, and its packed view

    def packed_view(self, row: ChannelRow) -> bytes:
        """The packed ChannelView of a row that an operation has just returned."""
        if self._entered is not None and self._entered[0] is row:
            return self._entered[1]
        return view_of(row, self._books.number(), self._now).encode()

    # --- Assets and accounts ---------------------------------------------------------------

    def create_asset(self, key: bytes, op: CreateAsset) -> AssetRow:
        """Register an asset with any issuer; the operator only (spec L-17)."""
        refuse_unless(key == self._rules.operator, Outcome.NOT_OPERATOR)
        try:
            check_code(op.code)
        except AmountError as error:
            raise LedgerRefused(Outcome.ASSET_REFUSED, str(error)) from None
        refuse_unless(op.scale <= MAX_ASSET_SCALE, Outcome.ASSET_REFUSED, f"a scale is 0 .. {MAX_ASSET_SCALE}")
        existing = self._books.assets()
        refuse_unless(all(row.code != op.code for row in existing), Outcome.ASSET_CODE_TAKEN)
        refuse_unless(len(existing) < MAX_PAGE, Outcome.TOO_MANY_ASSETS)
        check_keys(op.issuer)
        row = AssetRow(asset_id(self._ledger_id, op.issuer, op.scale, op.code), op.code, op.scale, op.issuer)
        self._books.put_asset(row)
        self._enter(Kind.ASSET, row, (), asset_body=asset_view(row).encode())
        return row

    def issue(self, key: bytes, op: Issue) -> None:
        """New money into an account; the asset's issuer only (spec L-18)."""
        asset = self._asset(op.asset_id)
        refuse_unless(key == asset.issuer, Outcome.NOT_ISSUER)
        refuse_unless(op.units > 0, Outcome.ZERO_AMOUNT)
        check_keys(op.account)
        refuse_unless(asset.issued + op.units <= MAX_UNITS, Outcome.OVERFLOW)
        self._enter(Kind.ISSUE, asset, (Leg(op.account, op.units, asset.owner),))

    def redeem(self, key: bytes, op: Redeem) -> None:
        """Money of the requesting account leaves the ledger (spec L-18)."""
        asset = self._asset(op.asset_id)
        refuse_unless(op.units > 0, Outcome.ZERO_AMOUNT)
        self._check_funds(key, op.asset_id, op.units)
        self._enter(Kind.REDEEM, asset, (Leg(key, -op.units, asset.owner),))

    def transfer(self, key: bytes, op: Transfer) -> None:
        """From the requesting account to another (spec L-18)."""
        asset = self._asset(op.asset_id)
        refuse_unless(op.units > 0, Outcome.ZERO_AMOUNT)
        check_keys(op.account)
        self._check_funds(key, op.asset_id, op.units)
        legs = (Leg(key, -op.units, op.account), Leg(op.account, op.units, key))
        self._enter(Kind.TRANSFER, asset, legs)

    # --- The life of a channel -------------------------------------------------------------

    def open_channel(self, key: bytes, op: OpenChannel) -> ChannelRow:
        """Open a channel with the requesting account's money and both parties' consent (spec L-30)."""
        self._asset(op.asset_id)
        refuse_unless(key == op.account0, Outcome.NOT_PAYER)
        channel_id = ChannelTerms(
            self._ledger_id, op.asset_id, op.key0, op.key1, op.account0, op.account1, op.open_nonce,
            op.flags, op.window_s, op.max_batch,
        ).channel_id()  # fmt: skip
        refuse_unless(self._books.channel(channel_id) is None, Outcome.ALREADY_OPEN, channel_id.hex())
        self._check_terms(op)
        verify_consent(op, channel_id)
        self._check_funds(key, op.asset_id, op.deposit)
        number = self._books.number() + 2  # the account's line comes first
        row = ChannelRow(
            channel_id, op.asset_id, op.key0, op.key1, op.account0, op.account1, op.open_nonce,
            op.flags, op.window_s, op.max_batch, OPEN, op.deposit, 0, opened=number, number=number,
        )  # fmt: skip
        self._books.add_channel(row)
        return self._enter_channel(Kind.OPEN, None, row, (Leg(key, -op.deposit, channel_id),))

    def topup(self, key: bytes, op: Topup) -> ChannelRow:
        """Raise a party's deposit with the requesting account's money (spec L-31)."""
        refuse_unless(op.units > 0, Outcome.ZERO_AMOUNT)
        row = self._live(op.channel_id)
        self._check_funds(key, row.asset_id, op.units)
        refuse_unless(row.deposit0 + row.deposit1 + op.units <= MAX_UNITS, Outcome.OVERFLOW)
        if op.party == 0:
            new = row._replace(deposit0=row.deposit0 + op.units)
        else:
            new = row._replace(deposit1=row.deposit1 + op.units)
        return self._enter_channel(Kind.TOPUP, row, new, (Leg(key, -op.units, row.channel_id),))

    def withdraw(self, op: Withdraw) -> ChannelRow:
        """Pay out to a party until its withdrawals reach `total`, as both have signed (spec L-32)."""
        row = self._live(op.channel_id)
        refuse_unless(self._now <= op.expiry, Outcome.EXPIRED_AGREEMENT)
        message = withdraw_bytes(row.channel_id, op.party, op.total, op.expiry)
        verify_both(row, (op.signature0, op.signature1), message, Outcome.BAD_WITHDRAW_SIGNATURE)
        before = row.withdrawn1 if op.party else row.withdrawn0
        units = op.total - before
        refuse_unless(units > 0, Outcome.NOT_HIGHER, f"{before} units were withdrawn before")
        refuse_unless(units <= row.pot, Outcome.BEYOND_POT, f"the channel holds {row.pot} units")
        if op.party == 0:
            new, account = row._replace(withdrawn0=op.total), row.account0
        else:
            new, account = row._replace(withdrawn1=op.total), row.account1
        return self._enter_channel(Kind.WITHDRAW, row, new, (Leg(account, units, row.channel_id),))

    def claim(self, key: bytes, op: Claim) -> ChannelRow:
        """one_way: pay party 1 what the state shows; the channel goes on (spec L-33)."""
        row = self._channel(op.channel_id)
        refuse_unless(key in (row.key1, row.account1), Outcome.NOT_A_PARTY)
        refuse_unless(row.flags == FLAG_ONE_WAY, Outcome.NOT_ONE_WAY)
        self._check_disputable(row)
        new, equivocation = self._joined(row, (op.state,))
        units = share_of_party1(new)
        new = new._replace(withdrawn1=new.withdrawn1 + units)
        row = self._note(equivocation, row, new)
        return self._enter_channel(Kind.CLAIM, row, new, (Leg(row.account1, units, row.channel_id),))

    def close_final(self, op: CloseFinal) -> ChannelRow:
        """FINAL with both signatures settles at once (spec L-37)."""
        row = self._live(op.channel_id)
        refuse_unless(self._now <= op.expiry, Outcome.EXPIRED_AGREEMENT)
        half0, half1 = half_of(op.half0), half_of(op.half1)
        message = final_bytes(row.channel_id, half0, half1, op.expiry)
        verify_both(row, (op.signature0, op.signature1), message, Outcome.BAD_FINAL_SIGNATURE)
        joined0, joined1 = join(row.half0, half0), join(row.half1, half1)
        new = row._replace(half0=joined0.half, half1=joined1.half)
        row = self._note(joined0.equivocation or joined1.equivocation, row, new)
        return self._pay_out(Kind.CLOSE_FINAL, row, new)

    def close(self, key: bytes, op: Close) -> ChannelRow:
        """Begin a dispute, or answer in it; by a channel key (spec L-34, L-41)."""
        row = self._channel(op.channel_id)
        refuse_unless(key in (row.key0, row.key1), Outcome.NOT_A_PARTY)
        self._check_disputable(row)
        new, equivocation = self._joined(row, op.states)
        row = self._note(equivocation, row, new)
        if row.flags == FLAG_ONE_WAY and key == row.key1 and op.states:
            return self._pay_out(Kind.SETTLE, row, new)  # spec L-41: nobody could answer with more for party 1
        if row.status == CLOSING:
            return self._enter_channel(Kind.RESPOND, row, new)
        deadline = self._now + row.window_s
        return self._enter_channel(Kind.CLOSE, row, new._replace(status=CLOSING, deadline=deadline))

    def respond(self, op: Respond) -> ChannelRow:
        """Newer states in a dispute, by anyone, before the deadline, which never moves (spec L-35)."""
        row = self._live(op.channel_id)
        refuse_unless(row.status == CLOSING, Outcome.NOT_CLOSING)
        self._check_disputable(row)
        refuse_unless(bool(op.states), Outcome.NO_STATE)
        new, equivocation = self._joined(row, op.states)
        row = self._note(equivocation, row, new)
        return self._enter_channel(Kind.RESPOND, row, new)

    def settle(self, op: Settle) -> ChannelRow:
        """Pay out a dispute whose deadline has been reached; by anyone (spec L-36)."""
        row = self._live(op.channel_id)
        refuse_unless(row.status == CLOSING, Outcome.NOT_CLOSING)
        refuse_unless(self._now >= row.deadline, Outcome.DEADLINE_NOT_REACHED, f"it is {row.deadline}")
        return self._pay_out(Kind.SETTLE, row, row)

    # --- The ledger's own timer ------------------------------------------------------------

    def settle_due(self, limit: int = MAX_PAGE) -> int:
        """Settle up to `limit` disputes whose deadline has been reached; how many (spec L-36)."""
        due = self._books.disputes(self._now, limit)
        for row in due:
            self._pay_out(Kind.SETTLE, row, row)
        return len(due)

    def extend_disputes(self, since: int) -> int:
        """Give the disputes that were open at `since` their time after an outage; how many gained some (spec L-16)."""
        extended = 0
        for row in self._books.disputes(None, None):
            deadline = extended_deadline(row, self._now)
            if row.deadline > since and deadline != row.deadline:
                self._enter_channel(Kind.EXTEND, row, row._replace(deadline=deadline))
                extended += 1
        return extended

    # --- Checks ----------------------------------------------------------------------------

    def _asset(self, wanted: bytes) -> AssetRow:
        row = self._books.asset(wanted)
        if row is None:
            raise LedgerRefused(Outcome.UNKNOWN_ASSET, wanted.hex())
        return row

    def _channel(self, channel_id: bytes) -> ChannelRow:
        row = self._books.channel(channel_id)
        if row is None:
            raise LedgerRefused(Outcome.UNKNOWN_CHANNEL, channel_id.hex())
        return row

    def _live(self, channel_id: bytes) -> ChannelRow:
        row = self._channel(channel_id)
        refuse_unless(row.status != SETTLED, Outcome.ALREADY_SETTLED)
        return row

    def _check_disputable(self, row: ChannelRow) -> None:
        """States are taken while OPEN, and while CLOSING before the deadline."""
        refuse_unless(row.status != SETTLED, Outcome.ALREADY_SETTLED)
        in_time = row.status == OPEN or self._now < row.deadline
        refuse_unless(in_time, Outcome.DEADLINE_PASSED, f"it was {row.deadline}")

    def _check_funds(self, account: bytes, asset: bytes, units: int) -> None:
        held = self._books.balance(account, asset)
        refuse_unless(units <= held, Outcome.INSUFFICIENT_FUNDS, f"the account holds {held} units, not {units}")

    def _check_terms(self, op: OpenChannel) -> None:
        low, high, least = self._rules.min_window_s, self._rules.max_window_s, self._rules.min_deposit
        refuse_unless(op.flags in (FLAG_TWO_WAY, FLAG_ONE_WAY), Outcome.FLAGS_UNKNOWN)
        refuse_unless(low <= op.window_s <= high, Outcome.WINDOW_OUT_OF_BOUNDS, f"a window is {low} .. {high} seconds")
        refuse_unless(1 <= op.max_batch <= MAX_BATCH, Outcome.BATCH_OUT_OF_BOUNDS)
        refuse_unless(op.deposit >= least, Outcome.DEPOSIT_TOO_SMALL, f"the least is {least} units")
        check_keys(op.account1)  # the channel keys show that they are sound by signing
        refuse_unless(op.key0 != op.key1, Outcome.KEY_REFUSED, "both channel keys are the same")

    def _joined(self, row: ChannelRow, states: Iterable[CoSigned]) -> tuple[ChannelRow, bool]:
        """The row with the states' halves joined in, and whether they tell two histories (spec L-38, L-39)."""
        equivocation = False
        shown = [(half_of(state.half0), half_of(state.half1), state) for state in states]
        for half0, half1, state in shown:
            message = state_bytes(row.channel_id, half0, half1)
            verify_both(row, (state.signature0, state.signature1), message, Outcome.BAD_STATE_SIGNATURE)
            joined0, joined1 = join(row.half0, half0), join(row.half1, half1)
            row = row._replace(half0=joined0.half, half1=joined1.half)
            equivocation |= joined0.equivocation or joined1.equivocation
        return row, equivocation

    # --- Writing ---------------------------------------------------------------------------

    def _note(self, equivocation: bool, row: ChannelRow, new: ChannelRow) -> ChannelRow:
        """Log two histories of one party as an entry of its own (spec L-39); the row as it is then."""
        if not equivocation:
            return row
        return self._enter_channel(Kind.EQUIVOCATION, row, row._replace(half0=new.half0, half1=new.half1))

    def _pay_out(self, kind: Kind, row: ChannelRow, new: ChannelRow) -> ChannelRow:
        """SETTLED: party 1's share to account1, the rest to account0 (spec L-40)."""
        out1 = share_of_party1(new)
        out0 = new.pot - out1
        legs = (Leg(row.account0, out0, row.channel_id), Leg(row.account1, out1, row.channel_id))
        return self._enter_channel(kind, row, new._replace(status=SETTLED, out0=out0, out1=out1), legs)

    def _enter_channel(
        self, kind: Kind, old: ChannelRow | None, new: ChannelRow, legs: tuple[Leg, ...] = ()
    ) -> ChannelRow:
        """Status first, by conditional update; money second (spec L-13). Without a change, nothing at all."""
        legs = tuple(sorted(leg for leg in legs if leg.units))
        if old is not None:
            if new._replace(number=old.number) == old:
                return old
            new = new._replace(number=self._books.number() + len(legs) + 1)
            self._books.replace_channel(old, new)
        asset = self._asset(new.asset_id)
        gained = new.pot - (old.pot if old is not None else 0)
        self._enter(kind, asset, legs, channel=new, gained=gained)
        return new

    def _enter(
        self,
        kind: Kind,
        asset: AssetRow,
        legs: tuple[Leg, ...],
        *,
        channel: ChannelRow | None = None,
        gained: int = 0,
        asset_body: bytes = b"",
    ) -> None:
        """Write one entry: the accounts' lines, then the channel's or the asset's own (spec L-12)."""
        entry = self._books.number() + 1
        lines = [self._account_line(entry + index, entry, kind, asset, leg) for index, leg in enumerate(legs)]
        total = sum(leg.units for leg in legs)
        last = entry + len(legs)
        if channel is not None:
            if total + gained:
                raise AssertionError(f"{kind} moves {total} units to accounts and {gained} to the channel")
            body = view_of(channel, last, self._now).encode()
            self._entered = channel, body
            watchers = tuple(sorted({channel.account0, channel.account1}))
            lines.append(
                Line(last, entry, self._now, kind, Holder.CHANNEL, channel.channel_id, asset.asset_id, gained,
                     channel.pot, NOBODY, body, watchers)
            )  # fmt: skip
        elif total or not legs:
            asset = replace(asset, issued=asset.issued + total)
            self._books.put_asset(asset)
            lines.append(
                Line(last, entry, self._now, kind, Holder.ISSUED, asset.owner, asset.asset_id, -total,
                     -asset.issued, NOBODY, asset_body)
            )  # fmt: skip
        self._books.append(lines)

    def _account_line(self, number: int, entry: int, kind: Kind, asset: AssetRow, leg: Leg) -> Line:
        after = self._books.balance(leg.account, asset.asset_id) + leg.units
        self._books.put_balance(leg.account, asset.asset_id, after)
        return Line(
            number, entry, self._now, kind, Holder.ACCOUNT, leg.account, asset.asset_id, leg.units,
            after, leg.counterpart, b"", (leg.account,),
        )  # fmt: skip
