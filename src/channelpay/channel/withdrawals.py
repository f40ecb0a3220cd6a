"""Withdrawals by consent, and claims on one_way channels: rule D9. Spec chapter 7, sections 3 and 4.

A withdrawal is held against the asker's balance from the moment it is asked for (by the asker) or
consented to (by the other) until the ledger shows that it executed, or shows a time past its
expiry at which it had not.
"""

from __future__ import annotations

from channelpay.channel.closing import Now, co_sign, may_claim
from channelpay.channel.effects import ChangedNote, Effects, OperatorNote, Submission
from channelpay.channel.state import Channel, Phase, Withdrawal
from channelpay.crypto import verify
from channelpay.errors import BadSignature, ErrorCode, LocalError, Reason, RemoteError, code_name
from channelpay.limits import FINAL_EXPIRY_S, MAX_UNITS
from channelpay.messages import ledger
from channelpay.messages.peer import OpenWithdrawal, WithdrawAsk, WithdrawNo, WithdrawOk
from channelpay.statements import withdraw_bytes


def ask(c: Channel, units: int, now: Now, fx: Effects) -> None:
    """Ask the peer's consent to take `units` out (spec X-8). Raises LocalError."""
    if c.phase != Phase.OPEN:
        raise LocalError(Reason.NOT_OPEN, f"the channel is {c.phase.name.lower()}, not open")
    if not c.live or c.suspended:
        raise LocalError(Reason.PEER_UNREACHABLE, "a withdrawal needs the peer's consent and it is not connected")
    if now.stale or c.reading is None:
        raise LocalError(
            Reason.STALLED,
            "no reading of the ledger for a quarter of the dispute window, or a restored store that must wait",
        )
    if c.side in c.withdrawals:
        raise LocalError(Reason.WITHDRAWAL_OPEN, "another withdrawal of this channel is still open")
    if not 1 <= units <= c.spendable():
        raise LocalError(
            Reason.INSUFFICIENT_BALANCE, f"{units} units to withdraw, {c.spendable()} units left in the channel"
        )
    total = c.reading.withdrawn[c.side] + units
    if total > MAX_UNITS:
        raise LocalError(Reason.INSUFFICIENT_BALANCE, "all withdrawals together would pass 2^63-1 units")
    expiry = now.ledger + FINAL_EXPIRY_S
    signature = c.key.sign(withdraw_bytes(c.channel_id, c.side, total, expiry))
    signatures = (signature, b"") if c.side == 0 else (b"", signature)
    c.withdrawals[c.side] = Withdrawal(c.side, total, expiry, *signatures)
    fx.save = True
    fx.messages.append(WithdrawAsk(c.channel_id, total, expiry, signature))


def ask_again(c: Channel, fx: Effects) -> None:
    """After a reconnection: an ASK without an answer goes again as it was (spec X-9)."""
    mine = c.withdrawals.get(c.side)
    if mine is not None and not mine.agreed and c.phase in (Phase.OPEN, Phase.SHUTDOWN):
        signature = mine.signature0 if c.side == 0 else mine.signature1
        fx.messages.append(WithdrawAsk(c.channel_id, mine.total, mine.expiry, signature))


def remember(c: Channel, shown: OpenWithdrawal, now: Now, fx: Effects) -> None:
    """An agreement that I signed and forgot, because my store was rolled back, is held again (spec X-10)."""
    signatures = (shown.signature0, shown.signature1)
    known = c.withdrawals.get(shown.party)
    if signatures[c.side] is None or now.ledger > shown.expiry or c.reading is None:
        return
    if c.reading.withdrawn[shown.party] >= shown.total or (known is not None and known.total >= shown.total):
        return
    statement = withdraw_bytes(c.channel_id, shown.party, shown.total, shown.expiry)
    for key, signature in ((c.key.public, signatures[c.side]), (c.peer_key, signatures[1 - c.side])):
        try:
            if signature is not None:
                verify(key, signature, statement)
        except BadSignature:
            raise RemoteError(ErrorCode.BAD_SIGNATURE, "REESTABLISH: a withdrawal is not signed as it says") from None
    c.withdrawals[shown.party] = Withdrawal(
        shown.party, shown.total, shown.expiry, signatures[0] or b"", signatures[1] or b""
    )
    fx.save = True
    fx.notes.append(OperatorNote(c.channel_id, "the peer showed a withdrawal that this node signed and had forgotten"))
    fx.notes.append(ChangedNote(c.channel_id))


def receive_ask(c: Channel, message: WithdrawAsk, now: Now, fx: Effects) -> None:
    """Consent if the asker's balance stays >= 0 with the withdrawal counted (spec X-8)."""
    asker = 1 - c.side
    try:
        verify(c.peer_key, message.signature, withdraw_bytes(c.channel_id, asker, message.total, message.expiry))
    except BadSignature:
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "WITHDRAW-ASK is not signed by its sender") from None
    open_one = c.withdrawals.get(asker)
    if open_one is not None and (open_one.total, open_one.expiry) == (message.total, message.expiry):
        signature = open_one.signature1 if c.side == 1 else open_one.signature0
        fx.messages.append(WithdrawOk(c.channel_id, message.total, message.expiry, signature))
        return
    code = _refusal(c, message, now)
    if code is not None:
        fx.read_ledger = True  # a newer reading may end another hold or show a top-up before it is asked again
        fx.messages.append(WithdrawNo(c.channel_id, message.total, message.expiry, int(code)))
        return
    signature = c.key.sign(withdraw_bytes(c.channel_id, asker, message.total, message.expiry))
    signatures = (message.signature, signature) if asker == 0 else (signature, message.signature)
    c.withdrawals[asker] = Withdrawal(asker, message.total, message.expiry, *signatures)
    fx.save = True
    fx.messages.append(WithdrawOk(c.channel_id, message.total, message.expiry, signature))


def _refusal(c: Channel, message: WithdrawAsk, now: Now) -> ErrorCode | None:
    """Why an ASK is refused, or None."""
    asker = 1 - c.side
    if now.stale or c.reading is None:
        return ErrorCode.STALLED
    if c.phase != Phase.OPEN or asker in c.withdrawals:
        return ErrorCode.WITHDRAW_REFUSED
    if not now.ledger < message.expiry <= now.ledger + 2 * FINAL_EXPIRY_S:  # spec X-6
        return ErrorCode.EXPIRY_REFUSED
    if message.total <= c.reading.withdrawn[asker]:
        return ErrorCode.WITHDRAW_REFUSED
    if c.peer_balance() < message.total - c.withdrawn(asker):
        return ErrorCode.BALANCE
    return None


def receive_ok(c: Channel, message: WithdrawOk, fx: Effects) -> None:
    """The peer consents: hand it to the ledger."""
    mine = c.withdrawals.get(c.side)
    if mine is None or mine.agreed or (mine.total, mine.expiry) != (message.total, message.expiry):
        return  # answered twice, or to one that has ended since
    try:
        verify(c.peer_key, message.signature, withdraw_bytes(c.channel_id, c.side, mine.total, mine.expiry))
    except BadSignature:
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "WITHDRAW-OK is not signed by its sender") from None
    if c.side == 0:
        c.withdrawals[0] = mine._replace(signature1=message.signature)
    else:
        c.withdrawals[1] = mine._replace(signature0=message.signature)
    fx.save = True


def receive_no(c: Channel, message: WithdrawNo, fx: Effects) -> None:
    """The peer refuses: the hold ends."""
    mine = c.withdrawals.get(c.side)
    if mine is None or mine.agreed or (mine.total, mine.expiry) != (message.total, message.expiry):
        return
    del c.withdrawals[c.side]
    fx.save = True
    fx.notes.append(OperatorNote(c.channel_id, f"the peer refused the withdrawal: {code_name(message.code)}"))
    fx.notes.append(ChangedNote(c.channel_id))


def advance(c: Channel, now: Now, fx: Effects) -> None:
    """Submit what is agreed, once; the asker does it."""
    mine = c.withdrawals.get(c.side)
    if mine is None or not mine.agreed or now.ledger > mine.expiry:
        return
    if "withdraw" in c.in_flight or c.submit_after is not None:
        return
    c.in_flight.add("withdraw")
    operation = ledger.Withdraw(c.channel_id, c.side, mine.total, mine.expiry, mine.signature0, mine.signature1)
    fx.submissions.append(Submission(c.channel_id, operation, by_channel_key=True))


def follow_ledger(c: Channel, time: int, fx: Effects) -> None:
    """One reading, made at ledger time `time`, ends holds that executed or can no longer (spec X-10)."""
    if c.reading is None:
        return
    for party, open_one in list(c.withdrawals.items()):
        if c.reading.withdrawn[party] >= open_one.total or time > open_one.expiry:
            del c.withdrawals[party]
            fx.save = True
            fx.notes.append(ChangedNote(c.channel_id))


def claim(c: Channel, now: Now, fx: Effects) -> None:
    """Party 1 of a one_way channel takes what it has been paid (spec X-11). Raises LocalError."""
    if not c.one_way or c.side != 1:
        raise LocalError(Reason.ONE_WAY, "only the payee of a one-way channel claims")
    if c.phase not in (Phase.OPEN, Phase.SHUTDOWN):
        raise LocalError(Reason.NOT_OPEN, f"the channel is {c.phase.name.lower()}, not open")
    if c.held is None or c.held.peer.n == 0:
        raise LocalError(Reason.INSUFFICIENT_BALANCE, "nothing has been paid yet")
    if not c.resolved or not may_claim(c, now):
        raise LocalError(Reason.UNRESOLVED, "the peer has not been heard since the start: this store may be old")
    if "claim" in c.in_flight:
        raise LocalError(Reason.WITHDRAWAL_OPEN, "a claim is under way")
    c.in_flight.add("claim")
    operation = ledger.Claim(c.channel_id, co_sign(c, c.held))
    fx.submissions.append(Submission(c.channel_id, operation, by_channel_key=True))
