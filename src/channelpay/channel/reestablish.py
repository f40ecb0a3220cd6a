"""After a connection was lost, or a disk rolled back: rule D6. Spec chapter 6, section 7."""

from __future__ import annotations

from channelpay.batches import Batch, parse_memos, records_total
from channelpay.channel.closing import fail_queue, journal_gap
from channelpay.channel.effects import ChangedNote, Effects, JournalBatch, OperatorNote, RecallAnswer
from channelpay.channel.payments import hold
from channelpay.channel.state import Channel, Held, Phase
from channelpay.crypto import verify
from channelpay.errors import BadSignature, ErrorCode, LocalError, Reason, RemoteError
from channelpay.messages.peer import (
    OpenFinal,
    OpenWithdrawal,
    PastBatch,
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
    held = c.evidence if _shows_evidence(c) else c.held
    yours = None
    if held is not None:
        held0, held1 = c.in_order(held.own, held.peer)
        yours = SignedState(held0.pack(), held1.pack(), held.signature)
    withdrawals = tuple(
        OpenWithdrawal(w.party, w.total, w.expiry, w.signature0 or None, w.signature1 or None)
        for _, w in sorted(c.withdrawals.items())
    )
    final = None
    if c.final is not None:
        f = c.final
        final = OpenFinal(f.half0.pack(), f.half1.pack(), f.expiry, f.signature0 or None, f.signature1 or None)
    return Reestablish(c.channel_id, mine, yours, withdrawals, final)


def _shows_evidence(c: Channel) -> bool:
    """Evidence goes back only where my own signature claims the same half already (spec C-22, C-23)."""
    return c.peer_known is not None and c.evidence is not None and c.evidence.peer == c.peer


def receive(c: Channel, message: Reestablish, fx: Effects) -> int:
    """Judge what the peer shows and adopt my own newer signature (spec C-21, C-23).

    Returns how many of my payments the peer holds. Raises RemoteError and changes nothing if the
    peer's history is not mine.
    """
    shown = _shown_by_peer(c, message.mine)
    known_to_peer = _signed_by_me(c, message.yours)
    if c.one_way and c.side == 0 and shown.peer.n:  # spec C-2
        raise RemoteError(ErrorCode.ONE_WAY, "party 1 of a one-way channel shows payments of its own")
    _check_not_below_evidence(c, shown)
    own, peer = c.own, c.peer
    if known_to_peer is not None:
        _check_same(c, known_to_peer.own, known_to_peer.peer, own, peer)
        if shown.peer.n < known_to_peer.peer.n:
            raise RemoteError(ErrorCode.REGRESSION, "your own state is older than the one that you hold of mine")
        own, peer = max(own, known_to_peer.own), max(peer, known_to_peer.peer)
    if shown.own.n > own.n:
        raise RemoteError(
            ErrorCode.UNKNOWN_BOUNDARY,
            f"you claim to hold {shown.own.n} payments of mine; I signed {own.n} and you show no signature of mine",
        )
    _check_same(c, shown.own, shown.peer, own, peer)
    if (own, peer) != (c.own, c.peer):
        _adopt(c, own, peer, fx)
    _keep(c, shown, fx)
    return max(c.acked.n, shown.own.n)


def resume(c: Channel, held_by_peer: int, fx: Effects) -> None:
    """Both sides were heard: resend what the peer lacks, ask for what I lack (spec C-22, C-24)."""
    _resend(c, held_by_peer, fx)
    for payer, known in ((c.side, c.own_known), (1 - c.side, c.peer_known)):
        if known is not None:
            fx.messages.append(Recall(c.channel_id, payer, known.n + 1))


def check_shown(c: Channel, message: Reestablish) -> None:
    """Raises RemoteError unless the channel's other key signed the state that is shown as the sender's own."""
    _shown_by_peer(c, message.mine)


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


def _check_same(c: Channel, own: Half, peer: Half, newest_own: Half, newest_peer: Half) -> None:
    """Equal counts with other contents are two histories: nobody may sign both (spec C-21)."""
    known = newest_own if own.n == newest_own.n else c.boundaries.get(own.n)
    if (known is not None and known != own) or (peer.n == newest_peer.n and peer != newest_peer):
        raise RemoteError(ErrorCode.BAD_HISTORY, "your state and mine agree on the count and differ in the history")
    if known is None and own.n > c.acked.n and own.n < c.own.n and c.own_known is None:
        raise RemoteError(ErrorCode.UNKNOWN_BOUNDARY, f"{own.n} is not the end of a batch that I sent")


def _check_not_below_evidence(c: Channel, shown: Held) -> None:
    """A peer that forgot what I hold as evidence cannot be told of it, and would sign its numbers anew (spec C-22)."""
    e = c.evidence
    if e is None or _shows_evidence(c):
        return
    if shown.peer.n == e.peer.n and shown.peer != e.peer:
        raise RemoteError(ErrorCode.BAD_HISTORY, "you have signed another history of as many payments before")
    if shown.peer.n < e.peer.n:
        raise RemoteError(
            ErrorCode.REGRESSION,
            f"your store was rolled back: you have signed {e.peer.n} payments and show {shown.peer.n}, and I have no "
            "records of the rest; this channel can only be closed on the ledger",
        )


def _adopt(c: Channel, own: Half, peer: Half, fx: Effects) -> None:
    """I was rolled back: what I once signed binds me again, records follow by RECALL (spec C-23)."""
    lost_own, lost_peer = own.n - c.own.n, peer.n - c.peer.n
    if lost_own:
        c.own_known = c.own_known or c.own
        c.own = own
    if lost_peer:
        c.peer_known = c.peer_known or c.peer
        c.peer = peer
    c.rebuild_boundaries()
    fx.save = fx.save_hot = True
    # Nothing of the queue was sent; some of it may have been paid before, in what was forgotten.
    fail_queue(c, fx, LocalError(Reason.UNRESOLVED, "not paid: this node's store was rolled back; ask again"))
    what = "they are being recalled"
    if c.setup.found:
        _leave_records(c, fx)
        what = "the channel was found on the ledger, so their records cannot be proved; their totals count"
    fx.notes.append(
        OperatorNote(
            c.channel_id,
            f"this node's store was rolled back: the peer showed its signature on {lost_own} sent and {lost_peer} "
            f"received payments that it does not remember; {what}",
        )
    )


def _leave_records(c: Channel, fx: Effects) -> None:
    """The journal says how many payments of which total there were (spec N-26)."""
    for payer, known, target in ((c.side, c.own_known, c.own), (1 - c.side, c.peer_known, c.peer)):
        if known is not None:
            fx.journal.append(journal_gap(c, payer, known, target))
    c.own_known = c.peer_known = None


def _keep(c: Channel, shown: Held, fx: Effects) -> None:
    """A state whose records I hold acknowledges; one beyond them is evidence only (spec C-22)."""
    backed = shown.peer.n == c.peer.n and c.peer_known is None
    if backed and c.boundaries.get(shown.own.n) == shown.own:  # boundaries begin at the newest acknowledged
        hold(c, shown, fx)
        fx.save_hot = True
        return
    newest = [(state.peer.n, state.own.n) for state in (c.held, c.evidence) if state is not None]
    if shown.peer.n > 0 and (shown.peer.n, shown.own.n) > max(newest, default=(0, 0)):
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


def answer_recall(c: Channel, message: Recall, fx: Effects) -> None:
    """The caller reads the batches from its store (spec C-24)."""
    if message.from_n < 1:
        raise RemoteError(ErrorCode.MALFORMED, "payments are counted from 1")
    fx.recalls.append(RecallAnswer(c.channel_id, message.payer, message.from_n))


def receive_records(c: Channel, message: PastRecords, fx: Effects) -> None:
    """Collect recalled batches until they link up to what was signed; only then are they believed (spec C-25)."""
    payer = message.payer
    known, target = (c.own_known, c.own) if payer == c.side else (c.peer_known, c.peer)
    if known is None:
        return  # asked for on an earlier connection and answered twice
    pieces = c.recalled.pop(payer, [])
    if not message.batches:
        fx.journal.append(journal_gap(c, payer, known, target))
        _records_done(c, payer, fx)
        return
    half = pieces[-1].half if pieces else known
    for past in message.batches:
        half = _link_piece(c, payer, half, target, past, pieces)
        if half.n == target.n:
            break
    if half.n < target.n:
        c.recalled[payer] = pieces
        fx.messages.append(Recall(c.channel_id, payer, half.n + 1))
        return
    if half != target:
        raise RemoteError(ErrorCode.BAD_HISTORY, "RECORDS do not link up to the history hash that was signed")
    fx.journal += pieces
    if payer != c.side:
        befores = [known, *(piece.half for piece in pieces)]
        c.recent.extend((p.batch.first_n, before, p.half) for before, p in zip(befores, pieces, strict=False))
    _records_done(c, payer, fx)


def _link_piece(
    c: Channel, payer: int, before: Half, target: Half, past: PastBatch, pieces: list[JournalBatch]
) -> Half:
    batch = Batch(past.first_n, past.records, past.memos)
    if batch.first_n != before.n + 1:
        raise RemoteError(ErrorCode.BAD_HISTORY, f"RECORDS go on at {batch.first_n}, not at {before.n + 1}")
    total = records_total(batch.records, c.setup.terms.max_batch)
    parse_memos(batch.memos, batch.size)
    half = c.next_half(payer, before, batch, total)
    if half.n > target.n or half.total > target.total:
        raise RemoteError(ErrorCode.BAD_HISTORY, "RECORDS run past the state that was signed")
    pieces.append(JournalBatch(c.channel_id, payer, payer != c.side, batch, half))
    return half


def _records_done(c: Channel, payer: int, fx: Effects) -> None:
    if payer == c.side:
        c.own_known = None
    else:
        c.peer_known = None
    fx.save = True
    if not c.resolved:
        return
    # The peer's newest state may be backed by records now.
    evidence = c.evidence
    if evidence is not None and evidence.peer == c.peer and evidence.own == c.boundaries.get(evidence.own.n):
        hold(c, evidence, fx)
        fx.save_hot = True
    c.rebuild_boundaries()
    fx.notes.append(ChangedNote(c.channel_id))
