"""A ledger with people around it, for tests: keys from numbers, requests signed, answers checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from channelpay.crypto import SigningKey, sha256, verify
from channelpay.ledger.books import Books, Rules
from channelpay.ledger.memory import MemoryBooks
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.requests import Ledger, execute
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Request, Response
from channelpay.messages.schema import Record
from channelpay.statements import (
    FLAG_TWO_WAY,
    ZERO_HALF,
    ChannelTerms,
    Half,
    accepted_bytes,
    asset_id,
    final_bytes,
    request_bytes,
    response_bytes,
    state_bytes,
    withdraw_bytes,
)

START = 1_800_000_000
WINDOW_S = 100


def key(name: str) -> SigningKey:
    """The same key for the same name, always."""
    return SigningKey(sha256(name.encode()))


def half(n: int, total: int, history: str = "") -> Half:
    """A half with a history hash of its own."""
    return Half(n, total, sha256(f"{n} {total} {history}".encode())) if n else ZERO_HALF


LEDGER = key("ledger")
OPERATOR = key("operator")
ISSUER = key("issuer")
ALICE = key("alice")  # account 0
BOB = key("bob")  # account 1
CAROL = key("carol")
KEY0 = key("channel key 0")
KEY1 = key("channel key 1")
RULES = Rules(OPERATOR.public, min_window_s=10, max_window_s=1000, min_deposit=5)
USD = asset_id(LEDGER.public, ISSUER.public, 6, "USD")

VIEWS: dict[type[ops.Operation], type[Record]] = {
    ops.Info: ops.LedgerInfo,
    ops.Account: ops.AccountView,
    ops.Channels: ops.ChannelPage,
    ops.Journal: ops.JournalPage,
    ops.Subscribe: ops.LedgerInfo,
    ops.CreateAsset: ops.AssetView,
    ops.Issue: ops.AccountView,
    ops.Redeem: ops.AccountView,
    ops.Transfer: ops.AccountView,
}


def sign_request(
    signer: SigningKey, operation: ops.Operation, request_id: bytes, valid_until: int, ledger_id: bytes = LEDGER.public
) -> Request:
    """REQUEST as a client sends it."""
    blob = ops.LedgerRequest(signer.public, valid_until, operation).encode()
    return Request(request_id, blob, signer.sign(request_bytes(ledger_id, request_id, blob)))


def terms(nonce: int = 0, flags: int = FLAG_TWO_WAY, window_s: int = WINDOW_S) -> ChannelTerms:
    """A channel between alice and bob."""
    return ChannelTerms(
        LEDGER.public, USD, KEY0.public, KEY1.public, ALICE.public, BOB.public, nonce.to_bytes(32, "big"),
        flags, window_s, 4096,
    )  # fmt: skip


def opening(what: ChannelTerms, deposit: int = 1000, **changes: Any) -> ops.OpenChannel:
    """OPEN of these terms with both consents; `changes` replace fields after signing."""
    consent = accepted_bytes(what.channel_id())
    fields: dict[str, Any] = what._asdict() | {
        "deposit": deposit, "accepted0": KEY0.sign(consent), "accepted1": KEY1.sign(consent)
    }  # fmt: skip
    del fields["ledger_id"]
    return ops.OpenChannel(**(fields | changes))


def state(channel_id: bytes, half0: Half, half1: Half = ZERO_HALF) -> ops.CoSigned:
    """A co-signed STATE."""
    message = state_bytes(channel_id, half0, half1)
    return ops.CoSigned(half0.pack(), half1.pack(), KEY0.sign(message), KEY1.sign(message))


def final(channel_id: bytes, half0: Half, half1: Half, expiry: int) -> ops.CloseFinal:
    """FINAL with both signatures."""
    message = final_bytes(channel_id, half0, half1, expiry)
    return ops.CloseFinal(channel_id, half0.pack(), half1.pack(), expiry, KEY0.sign(message), KEY1.sign(message))


def withdrawal(channel_id: bytes, party: int, total: int, expiry: int) -> ops.Withdraw:
    """WITHDRAW with both signatures."""
    message = withdraw_bytes(channel_id, party, total, expiry)
    return ops.Withdraw(channel_id, party, total, expiry, KEY0.sign(message), KEY1.sign(message))


@dataclass
class World:
    """A ledger on some books, at a time that the test sets."""

    books: Books = field(default_factory=lambda: MemoryBooks(START))
    now: int = START
    ledger: Ledger = field(default_factory=lambda: Ledger(LEDGER, RULES))
    requests: int = 0

    def request(self, signer: SigningKey, operation: ops.Operation) -> Request:
        """A request with a fresh id that is valid for a minute."""
        self.requests += 1
        return sign_request(signer, operation, self.requests.to_bytes(16, "big"), self.now + 60)

    def send(self, request: Request) -> Response:
        """The answer, whose signature has been verified."""
        response = execute(self.ledger, self.books, request, self.now)
        digest = sha256(request.blob)
        assert (response.request_id, response.request_hash) == (request.request_id, digest)
        verify(
            LEDGER.public,
            response.signature,
            response_bytes(LEDGER.public, request.request_id, digest, response.outcome, response.body),
        )
        return response

    def ask(self, signer: SigningKey, operation: ops.Operation) -> Any:
        """The view in the answer; raises LedgerRefused."""
        response = self.send(self.request(signer, operation))
        if response.outcome:
            raise LedgerRefused(Outcome(response.outcome), ops.Refusal.decode(response.body).text)
        return VIEWS.get(type(operation), ops.ChannelView).decode(response.body)

    def refused(self, signer: SigningKey, operation: ops.Operation) -> Outcome:
        """The name of the refusal; fails if there is none, or if it changed anything."""
        return self.refused_request(self.request(signer, operation))

    def refused_request(self, request: Request) -> Outcome:
        """As `refused`, for a request that is no ordinary one."""
        before = self.everything()
        outcome = Outcome(self.send(request).outcome)
        assert outcome is not Outcome.DONE
        assert self.everything() == before
        return outcome

    def everything(self) -> tuple[Any, ...]:
        """All that the books hold but the clock, to compare."""
        books = self.books
        return (
            list(books.assets()), list(books.all_balances()), list(books.all_channels()),
            list(books.whole_journal()),
        )  # fmt: skip

    def with_money(self, alice: int = 10_000, bob: int = 10_000) -> World:
        """USD exists; alice and bob have some."""
        self.ask(OPERATOR, ops.CreateAsset("USD", 6, ISSUER.public))
        self.ask(ISSUER, ops.Issue(USD, ALICE.public, alice))
        self.ask(ISSUER, ops.Issue(USD, BOB.public, bob))
        return self

    def open(self, nonce: int = 0, flags: int = FLAG_TWO_WAY, deposit: int = 1000) -> bytes:
        """A channel of alice's with bob; its id."""
        view = self.ask(ALICE, opening(terms(nonce, flags), deposit))
        return bytes(view.channel_id)

    def balance(self, signer: SigningKey, asset: bytes = USD) -> int:
        """Units of the account, as the ledger tells them."""
        view = self.ask(signer, ops.Account(signer.public))
        return {holding.asset_id: holding.units for holding in view.holdings}.get(asset, 0)

    def channel(self, channel_id: bytes) -> ops.ChannelView:
        """The channel, as the ledger tells it."""
        view: ops.ChannelView = self.ask(CAROL, ops.Channel(channel_id))
        return view
