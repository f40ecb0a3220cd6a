"""One signed request, from its bytes to the signed answer. Spec L-3 to L-11.

A caller with a database does it in steps: `admit` needs no books, so that strangers' signatures are
verified before a transaction begins; `read` needs books that can be read, `write` books inside a
transaction that is committed before the answer leaves (spec L-9). `execute` does all in one.
"""

from __future__ import annotations

from dataclasses import dataclass

from channelpay.crypto import SigningKey, sha256, verify
from channelpay.errors import BadSignature, KeyRefused, RemoteError
from channelpay.ledger.book import Book
from channelpay.ledger.books import Books, ChannelRow, ReadBooks, Rules, StoredOutcome
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.ledger.views import account_view, asset_view, channel_page, info_view, journal_page, view_of
from channelpay.limits import MAX_REQUEST_LIFE_S, MAX_TEXT_BYTES, OUTAGE_S
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Request, Response
from channelpay.messages.schema import Record
from channelpay.statements import request_bytes, response_bytes

READS = (ops.Info, ops.Account, ops.Channel, ops.Channels, ops.Journal, ops.Subscribe)
"""Operations that change nothing: no valid_until, no stored outcome (spec L-7)."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request whose shape and signature are sound; `request_hash` is of its exact bytes."""

    request_id: bytes
    request_hash: bytes
    key: bytes
    valid_until: int
    operation: ops.Operation

    @property
    def is_read(self) -> bool:
        """Whether it can be answered from books that are only read."""
        return isinstance(self.operation, READS)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Who a ledger is and what its operator has decided; it holds no books."""

    key: SigningKey
    rules: Rules

    @property
    def ledger_id(self) -> bytes:
        """The ledger's identity key, 32 bytes."""
        return self.key.public

    def admit(self, request: Request) -> Admitted:
        """The request in `request`; raises LedgerRefused (bad_request, bad_signature; spec L-5)."""
        try:
            inner = ops.LedgerRequest.decode(request.blob)
        except RemoteError as error:
            raise LedgerRefused(Outcome.BAD_REQUEST, error.text) from None
        try:
            verify(inner.key, request.signature, request_bytes(self.ledger_id, request.request_id, request.blob))
        except (BadSignature, KeyRefused) as error:
            raise LedgerRefused(Outcome.BAD_SIGNATURE, str(error)) from None
        return Admitted(request.request_id, sha256(request.blob), inner.key, inner.valid_until, inner.operation)

    def read(self, books: ReadBooks, admitted: Admitted, now: int) -> Response:
        """The signed answer to a request that changes nothing."""
        try:
            body = self._look_up(books, admitted, now).encode()
        except LedgerRefused as refusal:
            return self.refuse(admitted.request_id, admitted.request_hash, refusal)
        return self._answer(admitted.request_id, admitted.request_hash, Outcome.DONE, body)

    def write(self, books: Books, admitted: Admitted, now: int) -> Response:
        """Execute once and give the signed answer, stored first; a refusal changes nothing."""
        try:
            with books.savepoint():
                body = self._perform_once(books, admitted, now)
        except LedgerRefused as refusal:
            return self.refuse(admitted.request_id, admitted.request_hash, refusal)
        return self._answer(admitted.request_id, admitted.request_hash, Outcome.DONE, body)

    def refuse(self, request_id: bytes, request_hash: bytes, refusal: LedgerRefused) -> Response:
        """The signed refusal; its body is the details as text."""
        details = refusal.text.encode("utf-8", "replace")[:MAX_TEXT_BYTES].decode("utf-8", "ignore")
        return self._answer(request_id, request_hash, refusal.outcome, ops.Refusal(details).encode())

    def _answer(self, request_id: bytes, request_hash: bytes, outcome: Outcome, body: bytes) -> Response:
        message = response_bytes(self.ledger_id, request_id, request_hash, outcome, body)
        return Response(request_id, request_hash, int(outcome), body, self.key.sign(message))

    def _perform_once(self, books: Books, admitted: Admitted, now: int) -> bytes:
        if admitted.valid_until < now:  # spec L-6
            raise LedgerRefused(Outcome.EXPIRED, f"it was valid until {admitted.valid_until}; it is {now}")
        if admitted.valid_until > now + MAX_REQUEST_LIFE_S:
            raise LedgerRefused(Outcome.TOO_FAR_AHEAD, f"at most {MAX_REQUEST_LIFE_S} seconds from {now}")
        stored = books.outcome(admitted.key, admitted.request_id)
        if stored is not None:  # spec L-8
            if stored.request_hash != admitted.request_hash:
                raise LedgerRefused(Outcome.REQUEST_ID_REUSED)
            return stored.body
        body = self._perform(books, admitted, now)
        outcome = StoredOutcome(admitted.request_hash, admitted.valid_until, body)
        books.put_outcome(admitted.key, admitted.request_id, outcome)
        return body

    def _look_up(self, books: ReadBooks, admitted: Admitted, now: int) -> Record:
        match admitted.operation:
            case ops.Account(account):
                return account_view(books, account, now)
            case ops.Channel(channel_id):
                row = books.channel(channel_id)
                if row is None:
                    raise LedgerRefused(Outcome.UNKNOWN_CHANNEL, channel_id.hex())
                return view_of(row, books.number(), now)
            case ops.Channels(after):
                return channel_page(books, admitted.key, after, now)
            case ops.Journal(after):
                return journal_page(books, admitted.key, after)
            case ops.Subscribe(after) if after > books.number():  # spec L-21
                raise LedgerRefused(Outcome.UNKNOWN_NUMBER, f"the newest number here is {books.number()}")
            case _:
                return info_view(books, self.rules, self.ledger_id, now)

    def _perform(self, books: Books, admitted: Admitted, now: int) -> bytes:
        """The packed view that answers the operation."""
        book = Book(books, self.rules, self.ledger_id, now)
        match admitted.operation:
            case ops.CreateAsset() as op:
                return asset_view(book.create_asset(admitted.key, op)).encode()
            case ops.Issue() as op:
                book.issue(admitted.key, op)
                return account_view(books, op.account, now).encode()
            case ops.Redeem() as op:
                book.redeem(admitted.key, op)
                return account_view(books, admitted.key, now).encode()
            case ops.Transfer() as op:
                book.transfer(admitted.key, op)
                return account_view(books, admitted.key, now).encode()
            case operation:
                return book.packed_view(_change_channel(book, admitted.key, operation))


def _change_channel(book: Book, key: bytes, operation: ops.Operation) -> ChannelRow:
    match operation:
        case ops.OpenChannel() as op:
            return book.open_channel(key, op)
        case ops.Topup() as op:
            return book.topup(key, op)
        case ops.Withdraw() as op:
            return book.withdraw(op)
        case ops.Claim() as op:
            return book.claim(key, op)
        case ops.CloseFinal() as op:
            return book.close_final(op)
        case ops.Close() as op:
            return book.close(key, op)
        case ops.Respond() as op:
            return book.respond(op)
        case ops.Settle() as op:
            return book.settle(op)
        case _:
            raise AssertionError(f"{operation.OP} changes no channel")


def advance(ledger: Ledger, books: Books, wall: int) -> int:
    """Move the ledger's clock to `wall`, never back; the time now (spec L-15).

    A leap of more than OUTAGE_S is an outage, whatever its cause: disputes that were open when it
    began get time to answer (spec L-16).
    """
    last = books.clock()
    now = max(wall, last)
    if now - last > OUTAGE_S:
        Book(books, ledger.rules, ledger.ledger_id, now).extend_disputes(last)
    if now > last:
        books.set_clock(now)
        books.drop_outcomes(now)
    return now


def settle_due(ledger: Ledger, books: Books, now: int) -> int:
    """Settle disputes whose deadline has been reached; how many (spec L-36)."""
    return Book(books, ledger.rules, ledger.ledger_id, now).settle_due()


def execute(ledger: Ledger, books: Books, request: Request, now: int) -> Response:
    """The whole handling of one request at `now` on the ledger's clock; never raises for a bad request."""
    try:
        admitted = ledger.admit(request)
    except LedgerRefused as refusal:
        return ledger.refuse(request.request_id, sha256(request.blob), refusal)
    if admitted.is_read:
        return ledger.read(books, admitted, now)
    books.set_clock(max(now, books.clock()))
    return ledger.write(books, admitted, now)
