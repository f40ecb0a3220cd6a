"""Talking to the ledger under test: signed requests, and answers whose signature has been verified."""

from __future__ import annotations

from collections import deque
from typing import TypeVar, cast

from channelpay.conformance.conversation import Conversation, told
from channelpay.conformance.runner import Runner
from channelpay.conformance.verdict import Violation, require, same
from channelpay.crypto import SigningKey, sha256, verify
from channelpay.errors import BadSignature, RemoteError
from channelpay.ledger.outcomes import Outcome
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import VIEWS, AccountView, ChannelView, LedgerInfo, LedgerRequest, Operation
from channelpay.messages.peer import Event, Request, Response
from channelpay.messages.schema import Record
from channelpay.statements import request_bytes, response_bytes

_R = TypeVar("_R", bound=Record)
_LIFE_S = 600


class LedgerTalk:
    """One connection to the ledger. `events` are those that came while answers were waited for."""

    def __init__(self, runner: Runner, talk: Conversation) -> None:
        self.runner = runner
        self.talk = talk
        self.events: deque[Event] = deque()
        self._early: dict[bytes, Response] = {}

    # --- Requests --------------------------------------------------------------------------

    def request(
        self,
        key: SigningKey,
        operation: Operation,
        *,
        valid_until: int | None = None,
        request_id: bytes | None = None,
        ledger_id: bytes | None = None,
    ) -> Request:
        """REQUEST signed by `key`, valid for ten minutes and with a fresh id unless told otherwise."""
        until = self.time() + _LIFE_S if valid_until is None else valid_until
        blob = LedgerRequest(key.public, until, operation).encode()
        return self.signed(key, blob, request_id, ledger_id)

    def signed(
        self, key: SigningKey, blob: bytes, request_id: bytes | None = None, ledger_id: bytes | None = None
    ) -> Request:
        """REQUEST with any blob."""
        request_id = request_id or self.runner.entropy(16)
        return Request(request_id, blob, key.sign(request_bytes(ledger_id or self.runner.ledger_id, request_id, blob)))

    def exchange(self, request: Request) -> Response:
        """The answer, of which signature and request hash are verified (spec L-4)."""
        self.talk.send(request)
        return self.answer_to(request)

    def answer_to(self, request: Request) -> Response:
        """The answer to a request that was sent; answers to others are kept."""
        while request.request_id not in self._early:
            message = self.talk.receive()
            if isinstance(message, Event):
                self.events.append(message)
            elif isinstance(message, Response):
                self._early[message.request_id] = message
            else:
                raise Violation(f"RESPONSE was due; {told(message)}")
        response = self._early.pop(request.request_id)
        same(response.request_hash, sha256(request.blob), "request_hash of RESPONSE")
        signed = response_bytes(
            self.runner.ledger_id, request.request_id, response.request_hash, response.outcome, response.body
        )
        try:
            verify(self.runner.ledger_id, response.signature, signed)
        except BadSignature:
            raise Violation("RESPONSE is not signed by the ledger's identity") from None
        return response

    def answer(self, key: SigningKey, operation: Operation) -> Record:
        """The view in the answer to a request that must be done; raises Violation if it is refused."""
        response = self.exchange(self.request(key, operation, valid_until=None))
        return view_in(response, operation)

    def ask(self, key: SigningKey, operation: Operation, kind: type[_R]) -> _R:
        """As `answer`, of a view of this kind."""
        view = self.answer(key, operation)
        return cast(_R, view)

    def channel_op(self, key: SigningKey, operation: Operation) -> ChannelView:
        """The channel after an operation that must be done."""
        return self.ask(key, operation, ChannelView)

    def refused(self, key: SigningKey, operation: Operation, outcome: Outcome) -> None:
        """The operation must be refused for this reason."""
        self.refused_request(self.request(key, operation), outcome)

    def refused_request(self, request: Request, outcome: Outcome) -> None:
        """The request must be refused for this reason; its body is a text (spec L-4, L-10)."""
        response = self.exchange(request)
        same(outcome_name(response.outcome), outcome.label, "the outcome")
        try:
            ops.Refusal.decode(response.body)
        except RemoteError as error:
            raise Violation(f"the body of the refusal is no [text]: {error}") from None

    # --- Looking ---------------------------------------------------------------------------

    def info(self) -> LedgerInfo:
        """The ledger itself."""
        key = self.talk.session.peer_id
        require(key == self.runner.ledger_id, "another ledger")
        reader = SigningKey(sha256(b"whoever reads"))
        request = self.request(reader, ops.Info(), valid_until=0)
        return cast(LedgerInfo, view_in(self.exchange(request), ops.Info()))

    def time(self) -> int:
        """The ledger's time."""
        return self.info().time

    def channel(self, channel_id: bytes) -> ChannelView:
        """The channel as the ledger shows it."""
        request = self.request(SigningKey(sha256(b"whoever reads")), ops.Channel(channel_id), valid_until=0)
        return cast(ChannelView, view_in(self.exchange(request), ops.Channel(channel_id)))

    def units(self, account: bytes, asset_id: bytes) -> int:
        """What an account holds of an asset."""
        request = self.request(SigningKey(sha256(b"whoever reads")), ops.Account(account), valid_until=0)
        view = cast(AccountView, view_in(self.exchange(request), ops.Account(account)))
        return sum(holding.units for holding in view.holdings if holding.asset_id == asset_id)

    def credited(self, key: SigningKey, subject: bytes) -> int:
        """What the channel (or account) `subject` has paid to the account of `key`, all in all."""
        units, after = 0, 0
        while True:
            page = self.ask(key, ops.Journal(after), ops.JournalPage)
            units += sum(entry.credit for entry in page.entries if entry.subject == subject)
            if page.more is None:
                return units
            after = page.more

    def next_event(self) -> Event:
        """The next EVENT of a subscription."""
        if self.events:
            return self.events.popleft()
        return self.talk.expect(Event)

    def close(self) -> None:
        """End the connection."""
        self.talk.close()


def view_in(response: Response, operation: Operation) -> Record:
    """The view of a RESPONSE that must be `done`."""
    if response.outcome:
        text = ops.Refusal.decode(response.body).text
        raise Violation(f"{operation.OP} is refused: {outcome_name(response.outcome)}: {text}")
    try:
        return VIEWS[type(operation)].decode(response.body)
    except RemoteError as error:
        raise Violation(f"the body of the answer to {operation.OP} is not what 8.3 says: {error}") from None


def outcome_name(value: int) -> str:
    """The name of an outcome, or its number."""
    member = Outcome._value2member_map_.get(value)
    return member.label if isinstance(member, Outcome) else f"outcome {value}"
