"""After a connection was lost, or a disk rolled back: rule D6. Spec chapter 6, section 5."""

from __future__ import annotations

from channelpay.batches import Batch, records_total
from channelpay.channel.effects import ChangedNote, Effects, JournalBatch, JournalGap, OperatorNote, RecallAnswer
from channelpay.channel.payments import hold
from channelpay.channel.state import Channel, Held, Phase
from channelpay.crypto import verify
from channelpay.errors import BadSignature, ErrorCode, RemoteError
from channelpay.limits import MAX_BATCH
from channelpay.messages.peer import (
    OpenFinal,
    OpenWithdrawal,
    PastRecords,
    Pay,
    Recall,
    Reestablish,
    SignedState,
)
from channelpay.statements import Half, state_bytes


def build(c: Channel) -> Reestablish:
    """What I know: my newest STATE, the newest of the peer's that I hold, open agreements (spec C-20)."""
    half0, half1 = c.in_order(c.own, c.peer)
    mine = SignedState(half0.pack(), half1.pack(), c.sign_state(c.own, c.peer))
    yours = None
    if c.held is not None:
        held0, held1 = c.in_order(c.held.own, c.held.peer)
        yours = SignedState(held0.pack(), held1.pack(), c.held.signature)
    withdrawals = tuple(
        OpenWithdrawal(w.party, w.total, w.expiry, w.signature0 or None, w.signature1 or None)
        for _, w in sorted(c.withdrawals.items())
    )
    final = None
    if c.final is not None:
        f = c.final
        final = OpenFinal(f.half0.pack(), f.half1.pack(), f.expiry, f.signature0 or None, f.signature1 or None)
    return Reestablish(c.channel_id, mine, yours, withdrawals, final)


def receive(c: Channel, message: Reestablish, fx: Effects) -> None:
    """Judge what the peer shows, adopt my own newer signature, resend what the peer lacks (spec C-21)."""
    shown = _shown_by_peer(c, message.mine)
    known_to_peer = _signed_by_me(c, message.yours)
    if known_to_peer is not None and (known_to_peer.own.n > c.own.n or known_to_peer.peer.n > c.peer.n):
        _adopt(c, known_to_peer, shown, fx)
    if shown.own.n > c.own.n:
        raise RemoteError(
            ErrorCode.UNKNOWN_BOUNDARY,
            f"you claim to hold {shown.own.n} payments of mine; I signed {c.own.n} and you show no signature of mine",
        )
    _check_same(c, shown)
    held_by_peer = max(c.acked.n, shown.own.n, known_to_peer.own.n if known_to_peer else 0)
    _keep(c, shown, fx)
    _resend(c, held_by_peer, fx)
    _recall_next(c, fx)


def _unpack(c: Channel, state: SignedState) -> tuple[Half, Half]:
    """(own, peer) of a state on the wire."""
    half0, half1 = Half.unpack(state.half0), Half.unpack(state.half1)
    return (half0, half1) if c.side == 0 else (half1, half0)


def _shown_by_peer(c: Channel, state: SignedState) -> Held:
    own, peer = _unpack(c, state)
    try:
        c.verify_state(own, peer, state.signature)
    except BadSignature:
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "REESTABLISH: your own state is not signed by you") from None
    return Held(own, peer, state.signature)


def _signed_by_me(c: Channel, state: SignedState | None) -> Held | None:
    if state is None:
        return None
    own, peer = _unpack(c, state)
    try:
        verify(c.key.public, state.signature, state_bytes(c.channel_id, *c.in_order(own, peer)))
    except BadSignature:
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "REESTABLISH: the state shown as mine is not signed by me") from None
    return Held(own, peer, state.signature)


def _adopt(c: Channel, mine: Held, shown: Held, fx: Effects) -> None:
    """I was rolled back: what I once signed binds me again, records follow by RECALL (spec C-23)."""
    if shown.peer.n < mine.peer.n:
        raise RemoteError(ErrorCode.REGRESSION, "your own state is older than the one that you hold of mine")
    lost_own, lost_peer = max(0, mine.own.n - c.own.n), max(0, mine.peer.n - c.peer.n)
    if mine.own.n > c.own.n:
        c.own_known = c.own_known or c.own
        c.own = mine.own
    if mine.peer.n > c.peer.n:
        c.peer_known = c.peer_known or c.peer
        c.peer = mine.peer
        c.recent.clear()
    c.rebuild_boundaries()
    fx.save = fx.save_hot = True
    fx.notes.append(
        OperatorNote(
            c.channel_id,
            f"this node's store was rolled back: the peer showed its signature on {lost_own} sent and {lost_peer} "
            "received payments that it does not remember; they are being recalled",
        )
    )


def _check_same(c: Channel, shown: Held) -> None:
    """Equal counts with other contents are two histories: nobody may sign both (spec C-21)."""
    known = c.boundaries.get(shown.own.n)
    if (known is not None and known != shown.own) or (shown.peer.n == c.peer.n and shown.peer != c.peer):
        raise RemoteError(ErrorCode.BAD_HISTORY, "your state and mine agree on the count and differ in the history")


def _keep(c: Channel, shown: Held, fx: Effects) -> None:
    """A state whose records I hold acknowledges; one beyond them is evidence only (spec C-22)."""
    if c.phase in (Phase.ACCEPTED, Phase.FUNDED) or shown.peer.n <= c.peer.n:
        backed = shown.peer.n == c.peer.n and c.peer_known is None
        newer = c.held is None or shown.own.n >= c.held.own.n
        if backed and newer and c.boundaries.get(shown.own.n) == shown.own:
            hold(c, shown, fx)
            return
    if shown.peer.n > (c.held.peer.n if c.held else 0) and (c.evidence is None or shown.peer.n >= c.evidence.peer.n):
        c.evidence = shown
        fx.save = True


def _resend(c: Channel, held_by_peer: int, fx: Effects) -> None:
    """The same batches again, each signed over my half after it and the newest of the peer (spec C-22)."""
    if c.phase not in (Phase.OPEN, Phase.SHUTDOWN) or c.suspended:
        return
    for sent in c.unacked:
        if sent.half.n > held_by_peer:
            b = sent.batch
            signature = c.sign_state(sent.half, c.peer)
            fx.messages.append(Pay(c.channel_id, b.first_n, b.records, b.memos, c.peer.n, signature))


# --- RECALL and RECORDS ----------------------------------------------------------------------


def _recall_next(c: Channel, fx: Effects) -> None:
    for payer, known in ((c.side, c.own_known), (1 - c.side, c.peer_known)):
        if known is not None:
            fx.messages.append(Recall(c.channel_id, payer, known.n + 1))


def answer_recall(c: Channel, message: Recall, fx: Effects) -> None:
    """The caller reads the batches from its store (spec C-24)."""
    if message.from_n < 1:
        raise RemoteError(ErrorCode.MALFORMED, "payments are counted from 1")
    fx.recalls.append(RecallAnswer(c.channel_id, message.payer, message.from_n))


def receive_records(c: Channel, message: PastRecords, fx: Effects) -> None:
    """Take recalled batches as far as they link up to what was signed (spec C-25)."""
    mine = message.payer == c.side
    known, target = (c.own_known, c.own) if mine else (c.peer_known, c.peer)
    if known is None:
        return  # asked for on an earlier connection and answered twice
    received = not mine
    if not message.batches:
        fx.journal.append(
            JournalGap(
                c.channel_id,
                message.payer,
                received,
                known.n + 1,
                target.n - known.n,
                target.total - known.total,
                target,
            )
        )
        known = target
    for past in message.batches:
        batch = Batch(past.first_n, past.records, past.memos)
        if batch.first_n != known.n + 1:
            raise RemoteError(ErrorCode.BAD_HISTORY, f"RECORDS begin at {batch.first_n}, not at {known.n + 1}")
        total = records_total(batch.records, min(MAX_BATCH, c.setup.terms.max_batch))
        half = c.next_half(message.payer, known, batch, total)
        if half.n > target.n or half.total > target.total:
            raise RemoteError(ErrorCode.BAD_HISTORY, "RECORDS run past the state that was signed")
        fx.journal.append(JournalBatch(c.channel_id, message.payer, received, batch, half))
        if received:
            c.recent.append((batch.first_n, known, half))
        known = half
        if half.n == target.n:
            break
    _records_done(c, mine, known, target, fx)


def _records_done(c: Channel, mine: bool, known: Half, target: Half, fx: Effects) -> None:
    done = known.n == target.n
    if done and known != target:
        raise RemoteError(ErrorCode.BAD_HISTORY, "RECORDS do not link up to the history hash that was signed")
    if mine:
        c.own_known = None if done else known
    else:
        c.peer_known = None if done else known
    fx.save = True
    if not done:
        fx.messages.append(Recall(c.channel_id, c.side if mine else 1 - c.side, known.n + 1))
        return
    if c.resolved:
        # The peer's newest state may be backed by records now.
        if (
            c.evidence is not None
            and c.evidence.peer == c.peer
            and c.evidence.own == c.boundaries.get(c.evidence.own.n)
        ):
            hold(c, c.evidence, fx)
        c.rebuild_boundaries()
        fx.notes.append(ChangedNote(c.channel_id))
