"""Closing: together by FINAL, or alone by the newest state that the peer signed. Rules D7, D8. Spec chapter 7."""

from __future__ import annotations

from typing import NamedTuple

from channelpay.channel.effects import (
    ChangedNote,
    Effects,
    FailedNote,
    JournalGap,
    OperatorNote,
    PaidNote,
    Queued,
    Submission,
)
from channelpay.channel.payments import forget_ids
from channelpay.channel.state import Channel, FinalAgreement, Held, Phase, Reading
from channelpay.crypto import verify
from channelpay.errors import BadSignature, ErrorCode, LocalError, Reason, RemoteError
from channelpay.limits import CLAIM_WAIT_S, CLOSE_TIMEOUT_S, FINAL_EXPIRY_S, FINAL_SUBMIT_DELAY_S
from channelpay.messages.ledger import CLOSING, SETTLED, Close, CloseFinal, CoSigned, Respond
from channelpay.messages.peer import Final, OpenFinal, Shutdown
from channelpay.statements import Half, final_bytes


class Now(NamedTuple):
    """The time of a step: this process's clock, the ledger's clock, and whether our reading of it is too old."""

    clock: float
    ledger: int
    stale: bool


# --- Together (D7) -----------------------------------------------------------------------------


def ask(c: Channel, force: bool, now: Now, fx: Effects) -> None:
    """The operator wants the channel closed; with `force` without the peer. Raises LocalError."""
    if c.phase in (Phase.SETTLED, Phase.ABANDONED, Phase.ACCEPTED):
        raise LocalError(Reason.NOT_OPEN, f"the channel is {c.phase.name.lower()}: there is nothing to close")
    if force:
        close_alone(c, now, fx)
        return
    if c.phase == Phase.FUNDED:
        raise LocalError(Reason.NOT_OPEN, "the peer has not finished opening; close with force to get the deposit back")
    c.close_asked = True
    fx.save = True
    if c.phase == Phase.OPEN:
        _stop_paying(c, now, fx)


def _stop_paying(c: Channel, now: Now, fx: Effects) -> None:
    c.phase = Phase.SHUTDOWN
    c.closing_since = now.clock
    fx.save = True
    fx.notes.append(ChangedNote(c.channel_id))


def receive_shutdown(c: Channel, message: Shutdown, now: Now, fx: Effects) -> None:
    """The peer pays no more (spec X-1)."""
    if message.last_n != c.peer.n:
        raise RemoteError(ErrorCode.GAP, f"SHUTDOWN after {message.last_n} payments; {c.peer.n} are held")
    c.peer_last_n = message.last_n
    if c.phase == Phase.OPEN:
        _stop_paying(c, now, fx)


def drained(c: Channel) -> bool:
    """Everything paid is acknowledged and nothing more can come (spec X-2); SHUTDOWN left on an empty queue."""
    return (
        c.shutdown_sent
        and c.peer_last_n == c.peer.n
        and c.acked == c.own
        and not c.ack_due
        and c.resolved
        and not c.suspended
    )


def advance(c: Channel, now: Now, fx: Effects) -> None:
    """Whatever a closing channel can do now: SHUTDOWN, FINAL, submission, time-out."""
    if c.phase in (Phase.SHUTDOWN, Phase.FINAL) and c.live and not c.suspended:
        if not c.shutdown_sent and not c.queue and c.resolved:
            c.shutdown_sent = True
            fx.messages.append(Shutdown(c.channel_id, c.own.n))
        # Without the ledger's time there is no expiry that party 1 could accept.
        if c.side == 0 and not c.final_sent and drained(c) and not _usable(c.final, now) and now.ledger:
            _propose(c, now, fx)
    _submit_final(c, now, fx)
    if c.closing_since is None and c.phase in (Phase.SHUTDOWN, Phase.FINAL):
        c.closing_since = now.clock
    due = close_deadline(c)
    if due is not None and now.clock >= due:
        fx.notes.append(OperatorNote(c.channel_id, "the cooperative close took too long; closing without the peer"))
        close_alone(c, now, fx)
    if c.phase == Phase.CLOSING:
        _answer(c, now, fx)


def _usable(final: FinalAgreement | None, now: Now) -> bool:
    return final is not None and final.agreed and now.ledger <= final.expiry


def close_deadline(c: Channel) -> float | None:
    """When the cooperative close turns unilateral, on this process's clock (spec X-12)."""
    if c.phase not in (Phase.SHUTDOWN, Phase.FINAL) or c.closing_since is None:
        return None
    due = c.closing_since + CLOSE_TIMEOUT_S
    if may_be_old(c) and not c.reestablished:  # spec X-11
        due = max(due, c.started_at + CLAIM_WAIT_S)
    return due


def _propose(c: Channel, now: Now, fx: Effects) -> None:
    """Party 0 signs FINAL; an unexpired one is sent again as it was (spec X-3)."""
    half0, half1 = c.in_order(c.own, c.peer)
    old = c.final
    if old is None or old.expiry <= now.ledger:
        expiry = now.ledger + FINAL_EXPIRY_S
        signature = c.key.sign(final_bytes(c.channel_id, half0, half1, expiry))
        c.final = FinalAgreement(half0, half1, expiry, signature, b"")
        c.phase = Phase.FINAL
        fx.save = True
    assert c.final is not None
    c.final_sent = True
    fx.messages.append(Final(c.channel_id, c.final.expiry, c.final.signature0))


def receive_final(c: Channel, message: Final, now: Now, fx: Effects) -> None:
    """Party 1 countersigns exactly its own drained halves; party 0 takes the countersignature (spec X-3)."""
    half0, half1 = c.in_order(c.own, c.peer)
    try:
        verify(c.peer_key, message.signature, final_bytes(c.channel_id, half0, half1, message.expiry))
    except BadSignature:
        raise RemoteError(ErrorCode.FINAL_MISMATCH, "FINAL is not signed over the halves that I hold") from None
    if c.side == 0:
        if c.final is None or c.final.expiry != message.expiry:
            return  # the answer to one that has been renewed since
        c.final = c.final._replace(signature1=message.signature)
        c.closing_since = now.clock
        fx.save = True
        return
    if not drained(c):
        raise RemoteError(ErrorCode.FINAL_MISMATCH, "FINAL before both sides are drained")
    if not now.ledger < message.expiry <= now.ledger + 2 * FINAL_EXPIRY_S:  # spec X-6
        raise RemoteError(ErrorCode.EXPIRY_REFUSED, f"FINAL expires at {message.expiry}; it is {now.ledger}")
    if c.final is None or c.final.expiry != message.expiry:
        signature = c.key.sign(final_bytes(c.channel_id, half0, half1, message.expiry))
        c.final = FinalAgreement(half0, half1, message.expiry, message.signature, signature)
        c.phase = Phase.FINAL
        c.closing_since = now.clock
        fx.save = True
    fx.messages.append(Final(c.channel_id, message.expiry, c.final.signature1))


def _submit_final(c: Channel, now: Now, fx: Effects) -> None:
    """Hand a FINAL with both signatures to the ledger, in a dispute too: it settles at once (spec X-3)."""
    c.final_wait = None
    final = c.final
    if final is None or c.phase not in (Phase.FINAL, Phase.CLOSING) or not _usable(final, now):
        return
    if "close_final" in c.in_flight or c.submit_after is not None:
        return
    since = c.closing_since if c.closing_since is not None else now.clock
    if c.phase == Phase.FINAL and c.side == 1 and c.connected and now.clock < since + FINAL_SUBMIT_DELAY_S:
        c.final_wait = since + FINAL_SUBMIT_DELAY_S  # party 0 submits; one transaction is enough
        return
    c.in_flight.add("close_final")
    operation = CloseFinal(
        c.channel_id, final.half0.pack(), final.half1.pack(), final.expiry, final.signature0, final.signature1
    )
    fx.submissions.append(Submission(c.channel_id, operation, by_channel_key=True))


def remember(c: Channel, shown: OpenFinal | None, now: Now, fx: Effects) -> None:
    """A FINAL that I signed and forgot, because my store was rolled back, binds me again (spec X-3)."""
    if shown is None or c.final is not None or now.ledger > shown.expiry:
        return
    if c.phase not in (Phase.FUNDED, Phase.OPEN, Phase.SHUTDOWN, Phase.CLOSING):
        return
    signatures = (shown.signature0, shown.signature1)
    if signatures[c.side] is None:
        return  # the peer's proposal: it comes again
    half0, half1 = Half.unpack(shown.half0), Half.unpack(shown.half1)
    statement = final_bytes(c.channel_id, half0, half1, shown.expiry)
    for key, signature in ((c.key.public, signatures[c.side]), (c.peer_key, signatures[1 - c.side])):
        try:
            if signature is not None:
                verify(key, signature, statement)
        except BadSignature:
            raise RemoteError(ErrorCode.BAD_SIGNATURE, "REESTABLISH: a signature on FINAL does not verify") from None
    c.final = FinalAgreement(half0, half1, shown.expiry, signatures[0] or b"", signatures[1] or b"")
    if c.phase != Phase.CLOSING:
        c.phase = Phase.FINAL
    fx.save = True
    fx.notes.append(OperatorNote(c.channel_id, "the peer showed a FINAL that this node signed and did not remember"))
    fx.notes.append(ChangedNote(c.channel_id))


# --- Alone (D8) --------------------------------------------------------------------------------


def close_alone(c: Channel, now: Now, fx: Effects) -> None:
    """Decide it durably, stop, and show the ledger the newest states (spec X-4)."""
    if c.phase in (Phase.SETTLED, Phase.ABANDONED, Phase.ACCEPTED):
        return
    if not may_close_alone(c, now):
        old = c.restored or c.setup.found
        who = "a store that came from a backup, or is new," if old else "party 1 of a one-way channel"
        raise LocalError(
            Reason.UNRESOLVED,
            f"{who} closes without the peer only once it has heard the peer, or {CLAIM_WAIT_S:.0f} s after the start: "
            "what it knows may be old",
        )
    c.force_asked = fx.save = True
    _enter_closing(c, fx)


def may_claim(c: Channel, now: Now) -> bool:
    """Whether party 1 of a one_way channel may close or claim (spec X-11)."""
    return c.reestablished or now.clock >= c.started_at + CLAIM_WAIT_S


def may_be_old(c: Channel) -> bool:
    """Whether my store may lack what the peer has, so that closing with what I know could cost me (spec X-11).

    Party 1 of a one_way channel is paid at once, and nobody answers; a store from a backup is known to be old; of a
    channel that was found on the ledger nothing is known.
    """
    return c.restored or c.setup.found or (c.one_way and c.side == 1)


def may_close_alone(c: Channel, now: Now) -> bool:
    """Whether a close without the peer need not wait for the peer to be heard first (spec X-11)."""
    return not may_be_old(c) or may_claim(c, now)


def _enter_closing(c: Channel, fx: Effects) -> None:
    if c.phase != Phase.CLOSING:
        c.phase = Phase.CLOSING
        fx.save = True
        fx.notes.append(ChangedNote(c.channel_id))
    fail_queue(c, fx, LocalError(Reason.CLOSING, "not paid: the channel is being closed on the ledger"))


def fail_queue(c: Channel, fx: Effects, error: LocalError) -> None:
    """Queued payments were never sent: tell their callers so."""
    if c.queue:
        items = list(c.queue)
        c.queue.clear()
        forget_ids(c, items)
        c.queued_count = c.queued_total = 0
        fx.notes.append(FailedNote(items, error))


def _answer(c: Channel, now: Now, fx: Effects) -> None:
    """Start the dispute, or answer one with newer states (spec X-4, X-5)."""
    if c.in_flight & {"close", "respond"} or c.submit_after is not None or c.reading is None:
        return
    on_ledger = c.reading.status
    if on_ledger == SETTLED:
        return
    if on_ledger != CLOSING:
        if c.force_asked:
            c.in_flight.add("close")
            states = tuple(co_sign(c, held) for held in newest_states(c))
            fx.submissions.append(Submission(c.channel_id, Close(c.channel_id, states), by_channel_key=True))
        return
    newer = [held for held in newest_states(c) if _is_news(c, held, c.reading)]
    if newer and now.ledger < c.reading.deadline:
        c.in_flight.add("respond")
        states = tuple(co_sign(c, held) for held in newer)
        fx.submissions.append(Submission(c.channel_id, Respond(c.channel_id, states), by_channel_key=True))


def newest_states(c: Channel) -> list[Held]:
    """What the peer signed: the newest backed by records, and a newer one for the ledger only."""
    return [held for held in (c.held, c.evidence) if held is not None]


def _is_news(c: Channel, held: Held, reading: Reading) -> bool:
    shown = zip(c.in_order(held.own, held.peer), reading.halves, strict=True)
    return any(half.n > known.n or half.total > known.total for half, known in shown)


def co_sign(c: Channel, held: Held) -> CoSigned:
    """A state of the peer with my signature added, for the ledger."""
    half0, half1 = c.in_order(held.own, held.peer)
    signatures = (c.sign_state(held.own, held.peer), held.signature)
    signature0, signature1 = signatures if c.side == 0 else signatures[::-1]
    return CoSigned(half0.pack(), half1.pack(), signature0, signature1)


# --- What the ledger shows ---------------------------------------------------------------------


def follow_ledger(c: Channel, reading: Reading, fx: Effects) -> None:
    """CLOSING on the ledger stops the channel; SETTLED ends it (spec X-5)."""
    if reading.status == CLOSING and c.phase in (Phase.FUNDED, Phase.OPEN, Phase.SHUTDOWN, Phase.FINAL):
        fx.notes.append(OperatorNote(c.channel_id, "the ledger shows a dispute; answering with the newest state"))
        _enter_closing(c, fx)
    if reading.status == SETTLED and c.phase != Phase.SETTLED:
        _settle(c, reading, fx)


def _settle(c: Channel, reading: Reading, fx: Effects) -> None:
    c.phase = Phase.SETTLED
    c.withdrawals.clear()  # nothing can be taken out any more
    fx.save = True
    fail_queue(c, fx, LocalError(Reason.CLOSING, "not paid: the channel is settled"))
    _journal_unseen(c, reading, fx)
    settled_n = reading.halves[c.side].n
    paid: list[Queued] = []
    lost: list[Queued] = []
    for sent in c.unacked:
        (paid if sent.half.n <= settled_n else lost).extend(sent.items)
    c.unacked.clear()
    forget_ids(c, paid + lost)
    if paid:
        fx.notes.append(PaidNote(paid))
    if lost:
        error = LocalError(Reason.CLOSING, "not paid: the channel settled without this payment")
        fx.notes.append(FailedNote(lost, error))
    fx.notes.append(ChangedNote(c.channel_id))


def _journal_unseen(c: Channel, reading: Reading, fx: Effects) -> None:
    """The ledger paid out more of the peer's payments than I have records of: the journal says so (spec X-7).

    A peer can sign for more than it has, and the ledger pays what there is: no more counts as received.
    """
    known = c.peer_known or c.peer
    newest = max(reading.halves[1 - c.side], c.peer)
    if newest.n > known.n:
        me = c.side
        without = reading.deposits[me] - reading.withdrawn[me] - reading.halves[me].total + known.total
        received = max(0, min(newest.total - known.total, reading.outs[me] - without))
        paid = newest._replace(total=known.total + received)
        fx.journal.append(journal_gap(c, 1 - c.side, known, paid))
        c.peer, c.peer_known = paid, None
        fx.save_hot = True


def journal_gap(c: Channel, payer: int, known: Half, target: Half) -> JournalGap:
    """All that is known of the payments after `known` up to `target` (spec C-26)."""
    total = max(0, target.total - known.total)
    return JournalGap(c.channel_id, payer, payer != c.side, known.n + 1, target.n - known.n, total, target)
