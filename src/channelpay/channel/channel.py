"""The step: one input on one channel, its effects out. Spec chapter 6.

Inputs are a connection, messages, a reading of the ledger, an operator's wish, or time alone; after
each the channel advances: it flushes, shuts down, answers a dispute. Every function takes `Effects`
to fill and raises RemoteError for the peer's faults, LocalError for our caller's.
"""

from __future__ import annotations

from typing import cast

from channelpay.channel import closing, payments, reestablish, withdrawals
from channelpay.channel.closing import Now
from channelpay.channel.effects import ChangedNote, Effects, Queued
from channelpay.channel.state import Channel, Held, Phase, Reading
from channelpay.channel.transitions import LEGAL, Move
from channelpay.crypto import verify
from channelpay.errors import BadSignature, Effect, ErrorCode, RemoteError
from channelpay.limits import ANSWER_TIMEOUT_S, MAX_HELD_BACK, MAX_MEMO_BYTES, RECORD_BYTES, SUBMIT_RETRY_S
from channelpay.messages import peer
from channelpay.messages.ledger import SETTLED
from channelpay.messages.peer import Ack, Message, Pay
from channelpay.statements import ZERO_HALF, state_bytes

_REESTABLISHED_PHASES = (Phase.FUNDED, Phase.OPEN, Phase.SHUTDOWN, Phase.FINAL, Phase.CLOSING)
_NEEDS_LIVE = (
    Pay,
    Ack,
    peer.Recall,
    peer.PastRecords,
    peer.Shutdown,
    peer.Final,
    peer.WithdrawAsk,
    peer.WithdrawOk,
    peer.WithdrawNo,
)
_KEEPS_ORDER = (Pay, Ack, peer.Shutdown, peer.Final)
"""What must keep its order behind a PAY that waits for a reading of the ledger."""


# --- The connection ----------------------------------------------------------------------------


def connected(c: Channel, now: Now, fx: Effects) -> None:
    """A new connection to the peer: REESTABLISH goes first (spec C-20)."""
    disconnected(c)
    c.connected = True
    if c.phase in _REESTABLISHED_PHASES:
        _send_reestablish(c, fx)
    elif c.phase == Phase.ACCEPTED:
        fx.read_ledger = True
    advance(c, now, fx)


def _send_reestablish(c: Channel, fx: Effects) -> None:
    c.reestablish_sent = True
    c.reestablish_owed = False
    fx.messages.append(reestablish.build(c))


def disconnected(c: Channel) -> None:
    """The connection is gone, and with it all that was said only on it."""
    c.connected = c.heard = c.reestablish_sent = c.reestablish_owed = c.live = False
    c.ack_due = c.shutdown_sent = c.final_sent = c.awaiting_reading = c.reading_is_newer = False
    c.suspended = ""
    c.peer_last_n = c.waiting_since = None
    c.recalled.clear()
    _forget_held_back(c)


def suspend(c: Channel, why: str) -> None:
    """An ERROR named this channel: it stands still until the next connection (spec C-30, E-2)."""
    c.suspended = why
    _forget_held_back(c)


def _forget_held_back(c: Channel) -> list[Message]:
    messages, c.held_back, c.held_back_bytes = c.held_back, [], 0
    return messages


# --- Messages ----------------------------------------------------------------------------------


def receive(c: Channel, messages: list[Message], now: Now, fx: Effects) -> None:
    """Messages of this channel in the order they came. Raises RemoteError; what came before it counts."""
    try:
        _receive(c, messages, now, fx)
    except RemoteError as error:
        error.channel = c.channel_id
        suspend(c, str(error))
        raise
    finally:
        advance(c, now, fx)


def _receive(c: Channel, messages: list[Message], now: Now, fx: Effects) -> None:
    """What was held back and need not wait any more comes first; the rest in order (spec C-18)."""
    if c.held_back and not _must_wait(c, c.held_back[0], now):
        messages = _forget_held_back(c) + messages
    index = 0
    while index < len(messages) and not c.suspended:
        message = messages[index]
        if _judge(c, message) is Move.IGNORE:
            index += 1
        elif isinstance(message, _KEEPS_ORDER) and (c.held_back or _must_wait(c, message, now)):
            _hold_back(c, message)
            index += 1
        elif isinstance(message, Pay | Ack):
            index += _receive_run(c, messages, index, now, fx)
        else:
            _take_or_decline(c, message, now, fx)
            index += 1
    if c.held_back and not _must_wait(c, c.held_back[0], now):  # a message behind them brought what they waited for
        _receive(c, [], now, fx)


def _hold_back(c: Channel, message: Message) -> None:
    """Keep it for later, as much as an honest peer may have under way and no more (spec C-18)."""
    c.held_back.append(message)
    if isinstance(message, Pay):
        c.held_back_bytes += len(message.records) + len(message.memos)
    most = c.setup.my_limits.max_unacked * (RECORD_BYTES + MAX_MEMO_BYTES + payments.MEMO_OVERHEAD)
    if len(c.held_back) > MAX_HELD_BACK or c.held_back_bytes > most:
        raise RemoteError(ErrorCode.LIMIT_EXCEEDED, "too much at once while the ledger cannot be read")


def _judge(c: Channel, message: Message) -> Move:
    move = LEGAL.get((c.phase, c.side, type(message)))
    if move is None:  # spec C-6
        raise RemoteError(ErrorCode.ILLEGAL_NOW, f"{type(message).__name__} is not legal while {c.phase.name.lower()}")
    if move is Move.TAKE and isinstance(message, _NEEDS_LIVE) and not c.live:
        raise RemoteError(ErrorCode.UNEXPECTED, f"{type(message).__name__} before REESTABLISH")
    return move


def _must_wait(c: Channel, message: Message, now: Now) -> bool:
    """A PAY needs a fresh reading, FINAL the ledger's time; nothing moves during a recall (spec C-18, C-23)."""
    if isinstance(message, peer.Final) and not now.ledger:
        return True
    unprovable = c.setup.found and not c.peer.n  # its link begins with salts that are not known
    return not c.resolved or (isinstance(message, Pay) and (now.stale or c.awaiting_reading or unprovable))


def _receive_run(c: Channel, messages: list[Message], start: int, now: Now, fx: Effects) -> int:
    """PAYs and ACKs in a row from `start`; how many were taken."""
    end = start + 1
    while end < len(messages) and isinstance(messages[end], Pay | Ack) and not _must_wait(c, messages[end], now):
        end += 1
    taken, error = payments.receive_run(c, cast("list[Pay | Ack]", messages[start:end]), fx)
    if taken:
        c.reading_is_newer = False  # it was asked for because of the first of them
    if error is not None:
        # Spec C-18: for balance a PAY is refused only after a reading of the ledger made since it came.
        if error.code != ErrorCode.BALANCE or c.reading_is_newer:
            raise error
        c.awaiting_reading = True
        fx.read_ledger = True
    return taken


def _take_or_decline(c: Channel, message: Message, now: Now, fx: Effects) -> None:
    try:
        _take(c, message, now, fx)
    except RemoteError as error:
        if error.code.effect is not Effect.RETRY:
            raise
        fx.messages.append(peer.Error(int(error.code), c.channel_id, error.text))


def _take(c: Channel, message: Message, now: Now, fx: Effects) -> None:
    match message:
        case peer.Funded() | peer.TopupHint():
            fx.read_ledger = True
        case peer.Ready():
            _receive_ready(c, message, fx)
        case peer.Reestablish():
            _receive_reestablish(c, message, now, fx)
        case peer.Recall():
            reestablish.answer_recall(c, message, fx)
        case peer.PastRecords():
            reestablish.receive_records(c, message, fx)
        case peer.Shutdown():
            closing.receive_shutdown(c, message, now, fx)
        case peer.Final():
            closing.receive_final(c, message, now, fx)
        case peer.WithdrawAsk():
            withdrawals.receive_ask(c, message, now, fx)
        case peer.WithdrawOk():
            withdrawals.receive_ok(c, message, fx)
        case peer.WithdrawNo():
            withdrawals.receive_no(c, message, fx)
        case _:
            raise AssertionError(f"{type(message).__name__} is legal and has no rule")


def _receive_ready(c: Channel, message: peer.Ready, fx: Effects) -> None:
    """The peer's signature over STATE(0, 0) (spec C-7)."""
    zero = state_bytes(c.channel_id, ZERO_HALF, ZERO_HALF)
    try:
        verify(c.peer_key, message.signature, zero)
    except BadSignature:
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "READY is not signed by its sender") from None
    c.heard = True
    if c.held is None:
        payments.hold(c, Held(ZERO_HALF, ZERO_HALF, message.signature), fx)
        fx.save_hot = True
    if c.phase == Phase.FUNDED:
        _become_open(c, fx)


def _become_open(c: Channel, fx: Effects) -> None:
    """FUNDED here, and the peer has signed STATE(0, 0) or a later one (spec C-7); what was found is closed (N-26)."""
    c.phase = Phase.SHUTDOWN if c.setup.found else Phase.OPEN
    c.close_asked = c.setup.found
    fx.save = True
    fx.notes.append(ChangedNote(c.channel_id))
    if c.heard:
        _go_live(c, ZERO_HALF.n, fx)


def _go_live(c: Channel, held_by_peer: int, fx: Effects) -> None:
    c.live = c.reestablished = True
    reestablish.resume(c, held_by_peer, fx)
    withdrawals.ask_again(c, fx)


def _receive_reestablish(c: Channel, message: peer.Reestablish, now: Now, fx: Effects) -> None:
    """After it everything else may come (spec C-20)."""
    if c.heard:
        raise RemoteError(ErrorCode.UNEXPECTED, "REESTABLISH comes once, before anything else")
    held_by_peer = reestablish.receive(c, message, fx)
    for shown in message.withdrawals:
        withdrawals.remember(c, shown, now, fx)
    closing.remember(c, message.final, now, fx)
    c.heard = True
    c.reestablish_owed = not c.reestablish_sent and message.yours is not None
    if c.phase == Phase.ACCEPTED:
        fx.read_ledger = True  # the peer has seen it there
        return
    if c.reestablish_owed:
        _send_reestablish(c, fx)
    if c.phase == Phase.FUNDED:
        _become_open(c, fx)
    else:
        _go_live(c, held_by_peer, fx)


# --- The ledger --------------------------------------------------------------------------------


def ledger_reading(c: Channel, reading: Reading, time: int, now: Now, fx: Effects, asked: bool = True) -> None:
    """What this node has itself read of the channel, at ledger time `time`.

    `asked` says that it answers a request sent after the newest `read_ledger`: only then may it refuse
    a payment. What the ledger tells by itself may have been told before the payment came. Raises
    RemoteError for a message that waited for it.
    """
    if c.reading is None or reading.number >= c.reading.number:  # else overtaken by a newer one
        _follow(c, reading, time, fx)
    if c.awaiting_reading and asked:
        c.awaiting_reading = False
        c.reading_is_newer = True
    if c.held_back:
        receive(c, [], now, fx)
    else:
        advance(c, now, fx)


def _follow(c: Channel, reading: Reading, time: int, fx: Effects) -> None:
    if c.reading != reading:
        c.reading = reading
        fx.save = True
        fx.notes.append(ChangedNote(c.channel_id))
    if c.phase == Phase.ACCEPTED and reading.status != SETTLED:
        _fund(c, fx)
    withdrawals.follow_ledger(c, time, fx)
    closing.follow_ledger(c, reading, fx)


def _fund(c: Channel, fx: Effects) -> None:
    """The ledger opened the channel: my signature over STATE(0, 0) may go (spec C-7)."""
    c.phase = Phase.FUNDED
    fx.save = True
    if c.connected:
        if c.side == 0:
            fx.messages.append(peer.Funded(c.channel_id))
        if c.reestablish_owed:
            _send_reestablish(c, fx)
        else:
            fx.messages.append(peer.Ready(c.channel_id, c.sign_state(ZERO_HALF, ZERO_HALF)))
    if c.held is not None or c.evidence is not None:
        _become_open(c, fx)


def abandon(c: Channel, fx: Effects) -> None:
    """The ledger refused to open it."""
    if c.phase == Phase.ACCEPTED:
        c.phase = Phase.ABANDONED
        fx.save = True
        fx.notes.append(ChangedNote(c.channel_id))


def answered(c: Channel, operation: str, refused: bool, now: Now, fx: Effects) -> None:
    """The ledger answered a submission; what it changed comes as a reading. A refused one waits (spec X-13)."""
    c.in_flight.discard(operation)
    if refused:
        c.submit_after = now.clock + SUBMIT_RETRY_S
    advance(c, now, fx)


# --- Our side ----------------------------------------------------------------------------------


def pay(c: Channel, items: list[Queued], now: Now) -> None:
    """Queue payments; they leave with the next `advance`. Raises LocalError."""
    payments.enqueue(c, items, now.stale)


def advance(c: Channel, now: Now, fx: Effects) -> None:
    """Everything that can be done now without another input."""
    if c.submit_after is not None and now.clock >= c.submit_after:
        c.submit_after = None
    payments.flush(c, fx, now.stale)
    closing.advance(c, now, fx)
    withdrawals.advance(c, now, fx)
    _watch_answer(c, now, fx)


def _watch_answer(c: Channel, now: Now, fx: Effects) -> None:
    """A peer that owes an ACK for too long loses the connection (spec C-19)."""
    if not c.unacked or not c.live or c.suspended:
        c.waiting_since = None
    elif c.waiting_since is None or c.waiting_for_n != c.unacked[0].half.n:
        c.waiting_since = now.clock
        c.waiting_for_n = c.unacked[0].half.n
    elif now.clock >= c.waiting_since + ANSWER_TIMEOUT_S:
        fx.drop = f"no acknowledgement for {ANSWER_TIMEOUT_S:.0f} s"


def next_deadline(c: Channel) -> float | None:
    """When `advance` should be called even if nothing comes, on this process's clock (spec C-19, X-12)."""
    answer = None if c.waiting_since is None else c.waiting_since + ANSWER_TIMEOUT_S
    earliest = None
    for due in (answer, closing.close_deadline(c), c.submit_after, c.final_wait):
        if due is not None and (earliest is None or due < earliest):
            earliest = due
    return earliest
