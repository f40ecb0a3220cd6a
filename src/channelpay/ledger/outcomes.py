"""Every answer of a ledger: done, or one named refusal. Spec chapter 8, table 2.

The numbers travel, and they are the order of precedence: a request with several faults is answered
with the lowest number, because every operation looks for its faults in this order and changes
nothing before it has found none (spec L-10, L-11).
"""

from __future__ import annotations

from enum import IntEnum

from channelpay.errors import ChannelpayError


class Outcome(IntEnum):
    """RESPONSE.outcome; `explanation` says in one line what it means."""

    explanation: str

    def __new__(cls, value: int, explanation: str) -> Outcome:
        member = int.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        return member

    DONE = 0, "executed; the body is the operation's view"
    # The request as such.
    BAD_REQUEST = 1, "the blob is no request: wrong shape, type, length or operation"
    BAD_SIGNATURE = 2, "not the key's signature on this request for this ledger, or no sound key"
    EXPIRED = 3, "valid_until has passed on the ledger's clock"
    TOO_FAR_AHEAD = 4, "valid_until is further ahead than the ledger stores outcomes"
    REQUEST_ID_REUSED = 5, "the key has used this request id for another request"
    ALREADY_SUBSCRIBED = 6, "this connection has its subscription already"
    UNKNOWN_NUMBER = 7, "`after` is beyond the newest journal number: another ledger, or one set back"
    # Assets and accounts.
    NOT_OPERATOR = 10, "only the ledger's operator may do this"
    UNKNOWN_ASSET = 11, "no asset with this id is registered here"
    NOT_ISSUER = 12, "only the asset's issuer may issue it"
    ASSET_REFUSED = 13, "the asset's code or scale is out of bounds"
    ASSET_CODE_TAKEN = 14, "the ledger has an asset with this code"
    TOO_MANY_ASSETS = 15, "the ledger's list of assets is full"
    ZERO_AMOUNT = 16, "an amount must be at least one unit"
    # Opening a channel.
    NOT_PAYER = 20, "a channel is opened with the money of account0, by its key"
    ALREADY_OPEN = 21, "a channel with this id exists; ids are never used again"
    FLAGS_UNKNOWN = 22, "flags are neither two_way nor one_way"
    WINDOW_OUT_OF_BOUNDS = 23, "window_s is outside what this ledger allows"
    BATCH_OUT_OF_BOUNDS = 24, "max_batch is outside 1 .. 4096"
    DEPOSIT_TOO_SMALL = 25, "the deposit is below this ledger's minimum"
    KEY_REFUSED = 26, "a key in the arguments is unsound, or both channel keys are one"
    BAD_CONSENT_SIGNATURE = 27, "not both channel keys have signed ACCEPTED of this channel"
    # Channels.
    UNKNOWN_CHANNEL = 40, "no channel with this id was ever opened here"
    NOT_A_PARTY = 41, "the requesting key is not the party's that may ask for this"
    NOT_ONE_WAY = 42, "only one_way channels have claims"
    ALREADY_SETTLED = 43, "the channel is settled; nothing changes it any more"
    NOT_CLOSING = 44, "nobody has closed the channel"
    DEADLINE_PASSED = 45, "the dispute's deadline has passed; it can only be settled"
    DEADLINE_NOT_REACHED = 46, "the dispute's deadline has not been reached"
    EXPIRED_AGREEMENT = 47, "the signed agreement's expiry has passed on the ledger's clock"
    NO_STATE = 48, "an answer to a dispute needs at least one state"
    RESERVED_FIELD = 49, "L or R of a half is not zero"
    UNSOUND_HALF = 50, "a half that no payments lead to: counters contradict each other or 2^63-1"
    BAD_STATE_SIGNATURE = 51, "not both parties have signed this STATE of this channel"
    BAD_FINAL_SIGNATURE = 52, "not both parties have signed this FINAL of this channel"
    BAD_WITHDRAW_SIGNATURE = 53, "not both parties have signed this WITHDRAW of this channel"
    NOT_HIGHER = 54, "the withdrawal's total is not above what was withdrawn before"
    BEYOND_POT = 55, "the withdrawal takes more than the channel holds"
    # Money.
    INSUFFICIENT_FUNDS = 60, "the account holds less"
    OVERFLOW = 61, "a sum would be above 2^63-1 units"

    @property
    def label(self) -> str:
        """The name people and programs see, such as `already-settled`."""
        return self.name.lower().replace("_", "-")


class LedgerRefused(ChannelpayError):
    """The ledger said no; nothing was changed. `outcome` is its name, `text` the details."""

    def __init__(self, outcome: Outcome, text: str = "") -> None:
        super().__init__(f"{outcome.label}: {text or outcome.explanation}")
        self.outcome = outcome
        self.text = text or outcome.explanation
