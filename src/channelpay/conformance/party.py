"""The kit's side of a channel with the node under test: what a sound peer would say, and what to make of the answers.

Nothing here is taken from the node's own code: halves are counted again from the records, and every signature of
the node is verified over bytes that are put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from channelpay.batches import NO_ID, Batch, pack_memos, pack_record
from channelpay.conformance.conversation import Conversation, told
from channelpay.conformance.verdict import Violation, require, same
from channelpay.crypto import SigningKey, verify
from channelpay.errors import BadSignature, ErrorCode
from channelpay.messages.ledger import CoSigned
from channelpay.messages.peer import (
    Accept,
    Ack,
    OpenFinal,
    OpenWithdrawal,
    PastBatch,
    PastRecords,
    Pay,
    Reestablish,
    Shutdown,
    SignedState,
    TopupHint,
)
from channelpay.statements import (
    ZERO_HALF,
    ChannelTerms,
    Half,
    final_bytes,
    genesis,
    link,
    state_bytes,
    withdraw_bytes,
)


class Signed(NamedTuple):
    """A state that the node signed, as (kit's half, node's half)."""

    own: Half
    peer: Half
    signature: bytes


class Party:
    """One side of a channel, played by the kit: party 0 or 1 of `terms`, with `key`.

    `own` and `peer` are the newest halves; `own_halves` and `peer_halves` all of them by n; `batches` what was paid,
    by payer; `held` the newest state that the node signed.
    """

    def __init__(
        self, terms: ChannelTerms, side: int, key: SigningKey, salts: tuple[bytes, bytes], limits: Accept | None = None
    ) -> None:
        self.terms = terms
        self.side = side
        self.key = key
        self.salts = salts
        self.limits = limits  # the ACCEPT in which the node announced them
        self.channel_id = terms.channel_id()
        self.node_key = terms.key1 if side == 0 else terms.key0
        self.own = self.peer = ZERO_HALF
        self.own_halves = {0: ZERO_HALF}
        self.peer_halves = {0: ZERO_HALF}
        self.batches: dict[int, list[Batch]] = {0: [], 1: []}
        self.held: Signed | None = None
        self.talk: Conversation | None = None

    # --- Statements ------------------------------------------------------------------------

    @property
    def link(self) -> Conversation:
        """The connection; there must be one."""
        if self.talk is None:
            raise AssertionError("the case has not connected")
        return self.talk

    def in_order(self, own: Half, peer: Half) -> tuple[Half, Half]:
        """(half0, half1)."""
        return (own, peer) if self.side == 0 else (peer, own)

    def state(self, own: Half, peer: Half) -> bytes:
        """STATE of the pair."""
        return state_bytes(self.channel_id, *self.in_order(own, peer))

    def sign(self, own: Half, peer: Half) -> bytes:
        """The kit's signature over STATE."""
        return self.key.sign(self.state(own, peer))

    def verify(self, signature: bytes, statement: bytes, what: str) -> None:
        """Raises Violation unless the node's channel key signed the statement."""
        try:
            verify(self.node_key, signature, statement)
        except BadSignature:
            raise Violation(f"{what}: the node's signature does not verify") from None

    def half_after(self, payer: int, before: Half, batch: Batch) -> Half:
        """The payer's half after a batch (S-16)."""
        h = before.h if before.n else genesis(self.channel_id, *self.salts)
        h = link(self.channel_id, payer, h, batch.first_n, batch.size, batch.records, batch.memos)
        total = sum(payment.amount for payment in batch.payments())
        return Half(before.n + batch.size, before.total + total, h)

    def co_signed(self, signed: Signed | None = None) -> CoSigned:
        """A state of the node with the kit's signature added, for the ledger; the newest one if not told."""
        state = signed or self.held
        require(state is not None, "the node has signed no state")
        assert state is not None
        signatures = [self.sign(state.own, state.peer), state.signature]
        signature0, signature1 = signatures if self.side == 0 else signatures[::-1]
        half0, half1 = self.in_order(state.own, state.peer)
        return CoSigned(half0.pack(), half1.pack(), signature0, signature1)

    # --- Paying ----------------------------------------------------------------------------

    def batch(
        self, *amounts: int, ids: Sequence[bytes] = (), memos: Sequence[tuple[int, bytes]] = (), first_n: int = 0
    ) -> Batch:
        """Payments that follow on the newest, unless `first_n` says otherwise."""
        names = [*ids, *[NO_ID] * (len(amounts) - len(ids))]
        records = b"".join(pack_record(amount, name) for amount, name in zip(amounts, names, strict=True))
        return Batch(first_n or self.own.n + 1, records, pack_memos(list(memos)))

    def next_pay(
        self, *amounts: int, ids: Sequence[bytes] = (), memos: Sequence[tuple[int, bytes]] = (), ack_n: int = -1
    ) -> Pay:
        """PAY of the next payments, which from now on have been made."""
        batch = self.batch(*amounts, ids=ids, memos=memos)
        self.own = self.half_after(self.side, self.own, batch)
        self.own_halves[self.own.n] = self.own
        self.batches[self.side].append(batch)
        return self.pay_of(batch, self.own, self.peer_halves[ack_n] if ack_n >= 0 else self.peer)

    def pay_of(self, batch: Batch, half: Half, peer: Half | None = None) -> Pay:
        """PAY of any batch, signed over (half after it, the node's half)."""
        peer = self.peer if peer is None else peer
        return Pay(self.channel_id, batch.first_n, batch.records, batch.memos, peer.n, self.sign(half, peer))

    def wrong_pay(self, batch: Batch, *, ack_n: int | None = None) -> Pay:
        """A soundly signed PAY that does not count as made: for batches that the node must refuse."""
        payments = max(1, len(batch.records) // 24)
        amounts = [int.from_bytes(batch.records[i : i + 8], "big") for i in range(0, len(batch.records) // 24 * 24, 24)]
        before = self.own
        h = before.h if before.n else genesis(self.channel_id, *self.salts)
        h = link(self.channel_id, self.side, h, batch.first_n, payments, batch.records, batch.memos)
        half = Half(before.n + payments, (before.total + sum(amounts)) % 2**64, h)
        peer = self.peer
        signature = self.sign(half, peer)
        number = peer.n if ack_n is None else ack_n
        return Pay(self.channel_id, batch.first_n, batch.records, batch.memos, number, signature)

    def pay(self, *amounts: int, ids: Sequence[bytes] = (), memos: Sequence[tuple[int, bytes]] = ()) -> Pay:
        """Pay, and take the acknowledgement."""
        message = self.next_pay(*amounts, ids=ids, memos=memos)
        self.link.send(message)
        self.expect_acked()
        return message

    def expect_acked(self) -> None:
        """ACKs (or PAYs) come until the newest payment of the kit's is acknowledged."""
        while self.held is None or self.held.own != self.own:
            message = self.link.receive()
            if isinstance(message, Ack):
                self.take_ack(message)
            elif isinstance(message, Pay):
                self.take_pay(message)
            elif not isinstance(message, TopupHint):
                raise Violation(f"ACK was due; {told(message)}")

    def expect_ack(self) -> Ack:
        """One ACK, sound in itself."""
        message = self.link.expect(Ack)
        self.take_ack(message)
        return message

    def take_ack(self, message: Ack) -> None:
        """The node acknowledges: it names batches that were sent, goes never back, and is signed (C-15, C-16)."""
        same(message.channel_id, self.channel_id, "the channel of ACK")
        require(message.n in self.own_halves, f"ACK names payment {message.n}, which ends no batch (C-15)")
        require(message.own_n == self.peer.n, f"ACK shows own_n {message.own_n}; {self.peer.n} were sent (C-15)")
        self._hold(self.own_halves[message.n], self.peer, message.signature, "ACK")

    def expect_pay(self) -> Pay:
        """The node pays."""
        message = self.link.expect(Pay)
        self.take_pay(message)
        return message

    def take_pay(self, message: Pay) -> Batch:
        """The node pays: the next number, a sound batch, the link, signed with what it acknowledges."""
        same(message.channel_id, self.channel_id, "the channel of PAY")
        same(message.first_n, self.peer.n + 1, "first_n of PAY")
        batch = Batch(message.first_n, message.records, message.memos)
        require(1 <= batch.size <= self.terms.max_batch, f"PAY has {batch.size} payments (C-10)")
        require(message.ack_n in self.own_halves, f"ack_n {message.ack_n} ends no batch (C-12)")
        half = self.half_after(1 - self.side, self.peer, batch)
        self._hold(self.own_halves[message.ack_n], half, message.signature, "PAY")
        self.peer = half
        self.peer_halves[half.n] = half
        self.batches[1 - self.side].append(batch)
        return batch

    def _hold(self, own: Half, peer: Half, signature: bytes, what: str) -> None:
        before = self.held
        if before is not None:
            require(own.n >= before.own.n and peer.n >= before.peer.n, f"{what} shows an older state (C-12)")
        self.verify(signature, self.state(own, peer), what)
        self.held = Signed(own, peer, signature)

    def ack_message(self, n: int | None = None, own_n: int | None = None) -> Ack:
        """ACK of the node's payments up to n (all)."""
        peer = self.peer if n is None else self.peer_halves[n]
        own = self.own if own_n is None else self.own_halves[own_n]
        return Ack(self.channel_id, peer.n, own.n, self.sign(own, peer))

    def ack(self) -> None:
        """Acknowledge all that the node has paid."""
        self.link.send(self.ack_message())

    # --- After a lost connection -----------------------------------------------------------

    def reestablish_message(
        self,
        *,
        mine: tuple[Half, Half] | None = None,
        yours: Signed | str | None = "held",
        withdrawals: tuple[OpenWithdrawal, ...] = (),
        final: OpenFinal | None = None,
    ) -> Reestablish:
        """REESTABLISH of what the kit knows, or of what a case wants to show."""
        own, peer = mine or (self.own, self.peer)
        half0, half1 = self.in_order(own, peer)
        shown = SignedState(half0.pack(), half1.pack(), self.sign(own, peer))
        held = self.held if isinstance(yours, str) else yours
        other = None
        if held is not None:
            held0, held1 = self.in_order(held.own, held.peer)
            other = SignedState(held0.pack(), held1.pack(), held.signature)
        return Reestablish(self.channel_id, shown, other, withdrawals, final)

    def expect_reestablish(self) -> Reestablish:
        """The node's REESTABLISH, whose signatures verify (C-20)."""
        message = self.link.expect(Reestablish)
        same(message.channel_id, self.channel_id, "the channel of REESTABLISH")
        mine = self.pair(message.mine)
        self.verify(message.mine.signature, self.state(*mine), "REESTABLISH.mine")
        if message.yours is not None:
            try:
                verify(self.key.public, message.yours.signature, self.state(*self.pair(message.yours)))
            except BadSignature:
                raise Violation("REESTABLISH.yours is not signed by the kit's key (C-20)") from None
        return message

    def pair(self, state: SignedState) -> tuple[Half, Half]:
        """(kit's half, node's half) of a state on the wire."""
        half0, half1 = Half.unpack(state.half0), Half.unpack(state.half1)
        return (half0, half1) if self.side == 0 else (half1, half0)

    def learn(self, message: Reestablish) -> None:
        """What the node's REESTABLISH acknowledges becomes the state held (C-22)."""
        own, peer = self.pair(message.mine)
        if self.own_halves.get(own.n) == own and peer == self.peer:
            self.held = Signed(own, peer, message.mine.signature)

    def resend(self, after: int) -> None:
        """Send again, as they were, the batches after payment `after` (C-22)."""
        for batch in self.batches[self.side]:
            if batch.last_n > after:
                self.link.send(self.pay_of(batch, self.own_halves[batch.last_n]))

    def records(self, payer: int, from_n: int) -> PastRecords:
        """RECORDS of all batches from from_n on."""
        past = tuple(PastBatch(*batch) for batch in self.batches[payer] if batch.last_n >= from_n)
        return PastRecords(self.channel_id, payer, past)

    # --- Closing ---------------------------------------------------------------------------

    def shutdown_message(self) -> Shutdown:
        """SHUTDOWN after the kit's last payment."""
        return Shutdown(self.channel_id, self.own.n)

    def final_statement(self, expiry: int) -> bytes:
        """FINAL of the newest halves."""
        return final_bytes(self.channel_id, *self.in_order(self.own, self.peer), expiry)

    def withdraw_statement(self, party: int, total: int, expiry: int) -> bytes:
        """WITHDRAW."""
        return withdraw_bytes(self.channel_id, party, total, expiry)

    def refused(self, message: object, code: ErrorCode) -> None:
        """The node must refuse what was sent: ERROR with this code about this channel (or the connection)."""
        self.link.send(message)  # type: ignore[arg-type]
        self.link.expect_error(code, self.channel_id)
