"""What the node wants done, in the order in which it must be done.

The caller's duties, after any number of inputs:

1. Make everything in `persist` durable, in one commit. If that fails, stop: nothing below may happen.
2. Send `send` in order, each to its connection. Submit `submit` to the ledger.
3. Answer `recalls` from the store.
4. End the connections in `close`.
5. Tell `notes` to whoever waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from channelpay.channel.effects import JournalBatch, JournalGap, Note, RecallAnswer
from channelpay.channel.saved import Saved
from channelpay.errors import LocalError, RemoteError
from channelpay.messages.peer import Message, Request

Connection = int
"""A number that the caller gave to a connection."""


@dataclass(slots=True)
class Persist:
    """What must be durable. Empty is falsy."""

    channels: list[tuple[bytes, Saved]] = field(default_factory=list)
    setups: list[tuple[bytes, bytes]] = field(default_factory=list)  # of channels whose peer is known only now
    hot: list[tuple[bytes, bytes]] = field(default_factory=list)
    cold: list[tuple[bytes, bytes]] = field(default_factory=list)
    journal: list[JournalBatch | JournalGap] = field(default_factory=list)
    peers: list[tuple[bytes, str]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    requests_done: list[bytes] = field(default_factory=list)
    next_key_index: int | None = None
    ledger_number: int | None = None
    restored_until: int | None = None

    def __bool__(self) -> bool:
        return bool(
            self.journal
            or self.hot
            or self.cold
            or self.channels
            or self.setups
            or self.peers
            or self.requests
            or self.requests_done
            or self.next_key_index is not None
            or self.ledger_number is not None
            or self.restored_until is not None
        )


class OpenFailed(NamedTuple):
    """An opening that this node began came to nothing: refused by the peer, or afterwards by the ledger."""

    open_nonce: bytes
    error: LocalError


class OpenAccepted(NamedTuple):
    """The peer accepted: the opening goes on as this channel."""

    open_nonce: bytes
    channel_id: bytes


class RequestAnswered(NamedTuple):
    """A ledger request of an operator was answered; `outcome` 0 is done."""

    request_id: bytes
    outcome: int
    text: str


class OperationAnswered(NamedTuple):
    """The ledger answered what a channel asked of it, such as a claim; `outcome` 0 is done."""

    channel_id: bytes
    operation: str
    outcome: int
    text: str


NodeNote = Note | OpenFailed | OpenAccepted | RequestAnswered | OperationAnswered


@dataclass(slots=True)
class Ready:
    """See the module's docstring for what to do with it."""

    persist: Persist = field(default_factory=Persist)
    send: list[tuple[Connection, Message]] = field(default_factory=list)
    submit: list[Request] = field(default_factory=list)
    recalls: list[tuple[Connection, RecallAnswer]] = field(default_factory=list)
    close: list[tuple[Connection, RemoteError]] = field(default_factory=list)
    notes: list[NodeNote] = field(default_factory=list)
    again: bool = False  # there is more to do: take the next one soon

    @property
    def leaves(self) -> bool:
        """Whether there is a commit to make, or anything that leaves the node and must come after one."""
        return bool(self.persist or self.send or self.submit or self.recalls)
