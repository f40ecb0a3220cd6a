"""A client of a ledger: signed requests, verified answers, a subscription. Spec L-3, L-4, L-20, L-24.

For the command line, tests and programs that hold money on a ledger; nodes have a stream of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from channelpay.crypto import SigningKey, sha256, verify
from channelpay.daemon.dialling import dial
from channelpay.daemon.link import Link
from channelpay.daemon.outside import random_bytes
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import BadSignature, ErrorCode, RemoteError
from channelpay.keys import Address
from channelpay.ledger.outcomes import LedgerRefused, Outcome
from channelpay.limits import HANDSHAKE_TIMEOUT_S, LEDGER_REQUEST_TIMEOUT_S
from channelpay.messages.ledger import VIEWS, Info, LedgerInfo, LedgerRequest, Operation, Refusal, Subscribe
from channelpay.messages.peer import Event, Request, Response, Role
from channelpay.statements import request_bytes, response_bytes

_LIFE_S: Final = 60
"""How long a request may wait for execution: as long as a client tries again, and a clock may differ."""

_EVENTS_KEPT: Final = 1024
"""Events that wait for the iterator; above it reading stops, and the ledger waits or hangs up."""


class LedgerTimeout(LinkClosed):
    """The ledger did not answer in time; whether it executed the request is not known (spec L-8)."""


class LedgerClient:
    """One connection to one pinned ledger; made by `connect_ledger`.

    Requests may be made from several tasks at once. A subscription must be read: a thousand events that
    wait hold up the answers behind them. All methods raise LinkClosed when the connection is
    lost, LedgerTimeout when the answer does not come, and RemoteError when the ledger breaks a rule.
    """

    def __init__(self, link: Link, ledger_id: bytes) -> None:
        self.ledger_id = ledger_id
        self._link = link
        self._answers: dict[bytes, tuple[bytes, trio.MemorySendChannel[Response]]] = {}
        self._send_event, self._events = trio.open_memory_channel[Event](_EVENTS_KEPT)
        self._ahead: float | None = None  # the ledger's clock minus trio's
        self._failure: LinkClosed | RemoteError | None = None

    async def request(self, key: SigningKey, operation: Operation, request: Request | None = None) -> Any:
        """The view record (see messages.ledger.VIEWS) that the ledger answers `operation` of `key` with.

        Raises LedgerRefused when it says no. `request` is one made by `prepare` before, to ask again
        after a connection was lost: it is executed once however often it is sent.
        """
        if request is None:
            request = await self.prepare(key, operation)
        response = await self._exchange(request)
        if response.outcome != Outcome.DONE:
            raise LedgerRefused(_outcome(response.outcome), Refusal.decode(response.body).text)
        return VIEWS[type(operation)].decode(response.body)

    async def prepare(self, key: SigningKey, operation: Operation) -> Request:
        """A signed request with a fresh id, valid for a minute on the ledger's clock."""
        if isinstance(operation, Info):
            return self._sign(key, operation, 0)  # a reading needs none (spec L-7), and this one tells the time
        if self._ahead is None:
            await self.info(key)
        return self._sign(key, operation, self.time() + _LIFE_S)

    async def info(self, key: SigningKey) -> LedgerInfo:
        """The ledger's identity, rules and assets; also sets this client's idea of its clock."""
        info: LedgerInfo = await self.request(key, Info())
        self._ahead = info.time - trio.current_time()
        return info

    def time(self) -> int:
        """The ledger's time, as the last `info` and the time since then tell it."""
        return int(trio.current_time() + (self._ahead or 0.0))

    async def subscribe(self, key: SigningKey, after: int = 0) -> AsyncIterator[Event]:
        """Events of `key`'s account after journal number `after`: the past first, then as they happen.

        Ends with LinkClosed or RemoteError; to resume, subscribe on a new connection after the number of
        the last event. One subscription for each connection.
        """
        await self.request(key, Subscribe(after))
        async for event in self._events:
            yield event
        raise self._failure or LinkClosed("the subscription has ended")

    # --- Underneath ------------------------------------------------------------------------

    def _sign(self, key: SigningKey, operation: Operation, valid_until: int) -> Request:
        request_id = random_bytes(16)
        blob = LedgerRequest(key.public, valid_until, operation).encode()
        return Request(request_id, blob, key.sign(request_bytes(self.ledger_id, request_id, blob)))

    async def _exchange(self, request: Request) -> Response:
        send, receive = trio.open_memory_channel[Response](1)
        self._answers[request.request_id] = (sha256(request.blob), send)
        try:
            self._link.send(request.to_frame())
            if self._failure is not None:
                raise self._failure
            with trio.fail_after(LEDGER_REQUEST_TIMEOUT_S):
                return await receive.receive()
        except trio.TooSlowError:
            raise LedgerTimeout(f"the ledger has not answered within {LEDGER_REQUEST_TIMEOUT_S:g} s") from None
        except trio.EndOfChannel:
            raise self._failure or LinkClosed("connection closed") from None
        finally:
            self._answers.pop(request.request_id, None)

    async def run(self) -> None:
        """Read until the connection ends; `connect_ledger` does this."""
        try:
            while True:
                for message in await self._link.receive():
                    if isinstance(message, Response):
                        self._take_response(message)
                    elif isinstance(message, Event):
                        await self._send_event.send(message)
        except (LinkClosed, RemoteError) as failure:
            self._failure = failure
            self._link.end(failure if isinstance(failure, RemoteError) else None)
        finally:
            self._send_event.close()
            for _, waiting in self._answers.values():
                waiting.close()

    def _take_response(self, response: Response) -> None:
        expected = self._answers.get(response.request_id)
        if expected is None:
            return  # its asker has given up
        request_hash, waiting = expected
        check_response(self.ledger_id, response, request_hash)
        del self._answers[response.request_id]
        waiting.send_nowait(response)


def check_response(ledger_id: bytes, response: Response, request_hash: bytes) -> None:
    """Return if the ledger signed this answer to the request with this hash; raises RemoteError (spec L-4)."""
    message = response_bytes(ledger_id, response.request_id, response.request_hash, response.outcome, response.body)
    try:
        verify(ledger_id, response.signature, message)
    except BadSignature:
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "an answer that the ledger has not signed") from None
    if response.request_hash != request_hash:
        raise RemoteError(ErrorCode.BAD_SIGNATURE, "an answer to another request under this id")


def _outcome(number: int) -> Outcome:
    for outcome in Outcome:
        if outcome == number:
            return outcome
    raise RemoteError(ErrorCode.MALFORMED, f"the ledger refuses with the unknown number {number}")


@asynccontextmanager
async def connect_ledger(
    address: Address, identity: SigningKey, *, timeout_s: float = HANDSHAKE_TIMEOUT_S
) -> AsyncIterator[LedgerClient]:
    """Connect to the ledger at `address`, whose id must be the one in it, as the client `identity`.

    `identity` names the connection only; requests are signed by the keys they are made for. A ledger's own
    identity cannot be a client. Raises LinkClosed when it cannot be reached, RemoteError when somebody else
    answers.
    """
    async with dial(
        address.host, address.port, identity, address.key, Role.LEDGER_CLIENT, [address.key],
        takes=[Role.LEDGER], timeout_s=timeout_s,
    ) as link:  # fmt: skip
        client = LedgerClient(link, address.key)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run)
            try:
                yield client
            except Exception as error:  # raised again outside the nursery, which would wrap it into a group
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
