"""What an operation checks without the books: keys, signatures, halves. Spec L-10, L-30, L-38.

Every function raises LedgerRefused at the first fault.
"""

from __future__ import annotations

from channelpay.crypto import check_public_key, verify
from channelpay.errors import BadSignature, ErrorCode, KeyRefused, RemoteError
from channelpay.ledger.books import ChannelRow
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.messages.ledger import OpenChannel
from channelpay.statements import Half, accepted_bytes


def refuse_unless(condition: bool, outcome: Outcome, text: str = "") -> None:
    """Go on if the condition holds."""
    if not condition:
        raise LedgerRefused(outcome, text)


def check_keys(*keys: bytes) -> None:
    """Every key is sound (spec S-3)."""
    for key in keys:
        try:
            check_public_key(key)
        except KeyRefused as error:
            raise LedgerRefused(Outcome.KEY_REFUSED, f"{key.hex()}: {error}") from None


def verify_both(row: ChannelRow | OpenChannel, signatures: tuple[bytes, bytes], message: bytes, bad: Outcome) -> None:
    """A statement counts with both signatures only (spec L-38)."""
    for party, (key, signature) in enumerate(zip((row.key0, row.key1), signatures, strict=True)):
        try:
            verify(key, signature, message)
        except BadSignature:
            raise LedgerRefused(bad, f"party {party}'s signature does not verify") from None


def verify_consent(op: OpenChannel, channel_id: bytes) -> None:
    """Both channel keys are sound and have signed ACCEPTED (spec L-30)."""
    try:
        verify_both(op, (op.accepted0, op.accepted1), accepted_bytes(channel_id), Outcome.BAD_CONSENT_SIGNATURE)
    except (KeyRefused, LedgerRefused):
        check_keys(op.key0, op.key1)  # an unsound key comes first (spec L-10)
        raise


def half_of(data: bytes) -> Half:
    """The half in 88 bytes, if payments can lead to it."""
    try:
        return Half.unpack(data)
    except RemoteError as error:  # spec L-38: reserved fields and contradictions are refused by name
        reserved = error.code is ErrorCode.RESERVED_FIELD
        raise LedgerRefused(Outcome.RESERVED_FIELD if reserved else Outcome.UNSOUND_HALF, error.text) from None
