"""OPEN and ACCEPT: two sets of terms become one channel. Spec C-4, C-5."""

from __future__ import annotations

from dataclasses import dataclass

from channelpay.channel.state import Channel, Phase, ReceiveLimits, Setup
from channelpay.crypto import SigningKey, check_public_key, verify
from channelpay.errors import BadSignature, ErrorCode, KeyRefused, RemoteError
from channelpay.limits import MAX_MAX_UNACKED
from channelpay.messages.ledger import OpenChannel
from channelpay.messages.peer import Accept, Open
from channelpay.node import policy
from channelpay.node.ledger_link import LedgerLink
from channelpay.node.policy import Policy, sound_limits
from channelpay.statements import ChannelTerms, accepted_bytes


@dataclass(slots=True)
class Offer:
    """An opening that this node began: what it will send or has sent."""

    open_nonce: bytes
    peer_id: bytes
    message: Open
    key_index: int
    key: SigningKey
    deadline: float
    sent_on: int | None = None


class Offers:
    """The openings that this node has begun and that the peer has not answered."""

    def __init__(self) -> None:
        self._by_nonce: dict[bytes, Offer] = {}

    def __len__(self) -> int:
        return len(self._by_nonce)

    def add(self, offer: Offer) -> None:
        """A new one."""
        self._by_nonce[offer.open_nonce] = offer

    def take(self, open_nonce: bytes | None, peer_id: bytes) -> Offer | None:
        """The one that this peer answers, which is no longer among them; None if there is none."""
        offer = self._by_nonce.get(open_nonce or b"")
        return self._by_nonce.pop(offer.open_nonce) if offer is not None and offer.peer_id == peer_id else None

    def overdue(self, clock: float) -> list[Offer]:
        """Those that were not answered in time, which are no longer among them."""
        late = [offer for offer in self._by_nonce.values() if offer.deadline <= clock]
        for offer in late:
            del self._by_nonce[offer.open_nonce]
        return late

    def next_deadline(self) -> float | None:
        """When the first is overdue."""
        return min((offer.deadline for offer in self._by_nonce.values()), default=None)

    def to_send(self, peer_id: bytes, connection: int) -> list[Open]:
        """What has not been said to the peer on its connection; from now on it has."""
        unsent = [offer for offer in self._by_nonce.values() if offer.peer_id == peer_id and offer.sent_on is None]
        for offer in unsent:
            offer.sent_on = connection
        return [offer.message for offer in unsent]

    def connection_lost(self, connection: int) -> None:
        """What was said on it is said again on the next."""
        for offer in self._by_nonce.values():
            if offer.sent_on == connection:
                offer.sent_on = None

    def peers(self) -> set[bytes]:
        """Those to whom there are offers."""
        return {offer.peer_id for offer in self._by_nonce.values()}


def build_offer(
    open_nonce: bytes,
    salt: bytes,
    key: SigningKey,
    account: bytes,
    asset_id: bytes,
    deposit: int,
    flags: int,
    window_s: int,
    max_batch: int,
    limits: ReceiveLimits,
) -> Open:
    """Party 0's OPEN."""
    return Open(open_nonce, asset_id, key.public, account, deposit, flags, window_s, max_batch, salt, *limits)


def _terms(ledger_id: bytes, offer: Open, key1: bytes, account1: bytes) -> ChannelTerms:
    return ChannelTerms(
        ledger_id,
        offer.asset_id,
        offer.channel_key,
        key1,
        offer.account,
        account1,
        offer.open_nonce,
        offer.flags,
        offer.window_s,
        offer.max_batch,
    )


def opened_by(ledger_id: bytes, op: OpenChannel) -> bytes:
    """The id of the channel that a request opens."""
    return ChannelTerms(
        ledger_id, op.asset_id, op.key0, op.key1, op.account0, op.account1, op.open_nonce, op.flags, op.window_s,
        op.max_batch,
    ).channel_id()  # fmt: skip


def check_keys(offer: Open | Accept) -> None:
    """Raises RemoteError(KEY_REFUSED) for keys that nobody may use (spec S-3)."""
    try:
        check_public_key(offer.channel_key)
        check_public_key(offer.account)
    except KeyRefused as error:
        raise RemoteError(ErrorCode.KEY_REFUSED, str(error)) from None


def refusal(
    accepting: Policy, offer: Open, ledger: LedgerLink, stopping: bool, with_peer: int, in_all: int
) -> ErrorCode | None:
    """Why party 1 refuses an offer, or None; the counts are of living channels (spec N-6)."""
    if stopping:
        return ErrorCode.NOT_ACCEPTING
    if accepting.auto_accept and not ledger.subscribed:  # otherwise its assets would seem to be unknown
        return ErrorCode.LEDGER_REFUSED
    code = policy.refusal(accepting, offer, frozenset(ledger.assets), with_peer, in_all)
    if code is not None:
        return code
    try:
        check_keys(offer)
    except RemoteError as error:
        return error.code
    return None


def _peer_limits(message: Open | Accept) -> ReceiveLimits:
    """What the peer takes; of a number of payments that no payer should have to keep, as many as one may."""
    return ReceiveLimits(min(message.max_unacked, MAX_MAX_UNACKED), message.max_unacked_value, message.min_payment)


def accept(
    ledger_id: bytes,
    offer: Open,
    peer_id: bytes,
    key: SigningKey,
    key_index: int,
    account: bytes,
    salt: bytes,
    limits: ReceiveLimits,
) -> tuple[Channel, Accept]:
    """Party 1's side of an offer that the policy allows: its channel and the ACCEPT to send."""
    terms = _terms(ledger_id, offer, key.public, account)
    channel_id = terms.channel_id()
    setup = Setup(terms, 1, peer_id, key_index, offer.salt, salt, offer.deposit, limits, _peer_limits(offer))
    # Party 1 deposits nothing when the channel opens: the ledger debits the opener alone.
    message = Accept(
        offer.open_nonce,
        offer.asset_id,
        key.public,
        account,
        0,
        offer.flags,
        offer.window_s,
        offer.max_batch,
        salt,
        *limits,
        key.sign(accepted_bytes(channel_id)),
    )
    return Channel(channel_id, setup, key, phase=Phase.ACCEPTED), message


def accepted(ledger_id: bytes, offer: Offer, answer: Accept) -> tuple[Channel, OpenChannel]:
    """Party 0's side once the peer accepted: its channel and the request to the ledger.

    Raises RemoteError if the answer is not to what was offered, or not signed.
    """
    mine = offer.message
    same = (answer.asset_id, answer.flags, answer.window_s, answer.max_batch)
    if same != (mine.asset_id, mine.flags, mine.window_s, mine.max_batch) or answer.deposit != 0:
        raise RemoteError(ErrorCode.UNEXPECTED, "ACCEPT does not repeat the terms of OPEN")
    check_keys(answer)
    if not sound_limits(answer.max_unacked, answer.max_unacked_value, answer.min_payment):
        raise RemoteError(ErrorCode.LIMITS_REFUSED, "ACCEPT announces limits under which nothing can be paid")
    terms = _terms(ledger_id, mine, answer.channel_key, answer.account)
    channel_id = terms.channel_id()
    try:
        verify(answer.channel_key, answer.signature, accepted_bytes(channel_id))
    except BadSignature:
        raise RemoteError(
            ErrorCode.BAD_SIGNATURE, "ACCEPT does not sign the channel that both sides describe"
        ) from None
    my_limits = ReceiveLimits(mine.max_unacked, mine.max_unacked_value, mine.min_payment)
    setup = Setup(
        terms, 0, offer.peer_id, offer.key_index, mine.salt, answer.salt, mine.deposit, my_limits, _peer_limits(answer)
    )
    request = OpenChannel(
        terms.asset_id,
        terms.key0,
        terms.key1,
        terms.account0,
        terms.account1,
        terms.open_nonce,
        terms.flags,
        terms.window_s,
        terms.max_batch,
        mine.deposit,
        offer.key.sign(accepted_bytes(channel_id)),
        answer.signature,
    )
    return Channel(channel_id, setup, offer.key, phase=Phase.ACCEPTED), request
