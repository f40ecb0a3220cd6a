"""The connection to this node's ledger: requests out, answers and events in. Spec N-5, L-4, L-20."""

from __future__ import annotations

from typing import Final

import structlog
import trio

from channelpay.crypto import SigningKey, sha256
from channelpay.daemon.dialling import dial
from channelpay.daemon.engine import Engine
from channelpay.daemon.ledger_client import check_response
from channelpay.daemon.link import Link
from channelpay.daemon.outside import jitter
from channelpay.daemon.peers import Backoff
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import ErrorCode, RemoteError
from channelpay.keys import Address
from channelpay.ledger.outcomes import Outcome
from channelpay.limits import LEDGER_REQUEST_TIMEOUT_S
from channelpay.messages.ledger import VIEWS, AccountView, ChannelView, Operation, Refusal
from channelpay.messages.peer import Event, Message, Request, Response, Role
from channelpay.messages.schema import Record

_log = structlog.get_logger("channelpay.ledger")
_CHECK_S: Final = LEDGER_REQUEST_TIMEOUT_S / 4


class LedgerStream:
    """Keeps one connection to the pinned ledger; answers that it did not sign end the connection."""

    def __init__(self, engine: Engine, identity: SigningKey, address: Address) -> None:
        self._engine = engine
        self._identity = identity
        self._address = address
        self._link: Link | None = None
        self._hashes: dict[bytes, bytes] = {}
        engine.submit = self._submit

    def _submit(self, request: Request) -> None:
        if self._link is not None:
            self._hashes[request.request_id] = sha256(request.blob)
            self._link.send(request.to_frame())

    async def run(self) -> None:
        """Connect, converse, connect again; until cancelled."""
        backoff = Backoff(jitter())
        while True:
            began = None
            try:
                async with dial(
                    self._address.host,
                    self._address.port,
                    self._identity,
                    self._address.key,
                    Role.NODE,
                    [self._address.key],
                    takes=[Role.LEDGER],
                ) as link:
                    began = trio.current_time()
                    await self._converse(link)
            except (LinkClosed, RemoteError) as error:
                _log.warning("no connection to the ledger", address=str(self._address), why=str(error))
            # Within the shortest window: after its own outage the ledger gives no more time to answer (spec L-16).
            node = self._engine.node
            most_s = node.ledger.poll_interval(node.roster.least_window_s)
            await trio.sleep(backoff.wait_s(0.0 if began is None else trio.current_time() - began, most_s))

    async def _converse(self, link: Link) -> None:
        node = self._engine.node
        self._link = link
        try:
            node.ledger_connected(trio.current_time())
            self._engine.wake()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, link)
                failure = await self._listen(link)
                nursery.cancel_scope.cancel()
            raise failure
        finally:
            self._link = None
            self._hashes.clear()
            node.ledger_disconnected(trio.current_time())
            self._engine.wake()
            self._engine.changed.unpark_all()

    async def _listen(self, link: Link) -> Exception:
        """Take what comes until the connection ends; why it ended."""
        try:
            while True:
                for message in await link.receive():
                    await self._take(message)
                self._engine.wake()
                self._engine.changed.unpark_all()  # what the ledger is and knows is no channel's change
                self._engine.room.unpark_all()  # payments wait for the first reading after a start
        except (LinkClosed, RemoteError) as error:
            return error

    async def _watch(self, link: Link) -> None:
        while True:
            await trio.sleep(_CHECK_S)
            if self._engine.node.ledger.overdue(trio.current_time()):
                link.end(RemoteError(ErrorCode.TIMED_OUT, "a request was not answered in time"))

    async def _take(self, message: Message) -> None:
        node = self._engine.node
        if isinstance(message, Response):
            asked = node.ledger.asked.get(message.request_id)
            request_hash = self._hashes.pop(message.request_id, None)
            if asked is None or request_hash is None:
                return
            check_response(self._address.key, message, request_hash)
            text, body = _opened(asked.operation, message)
            await self._prepare(body)
            if isinstance(body, AccountView):
                self._engine.tell(message.request_id, body)
            node.ledger_answer(message.request_id, message.outcome, text, body, trio.current_time())
        elif isinstance(message, Event):
            # The subject is this node's account or one of its channels; only channels matter here.
            body = ChannelView.decode(message.body) if message.subject != node.account else None
            await self._prepare(body)
            node.ledger_event(message.number, message.at, body, trio.current_time())

    async def _prepare(self, body: Record | None) -> None:
        """Let payments go on while keys for a channel that nobody knows are derived (spec N-26)."""
        while self._engine.node.prepare(body):
            await trio.lowlevel.checkpoint()


def _opened(operation: Operation, response: Response) -> tuple[str, Record | None]:
    """(why it was refused, None) or ("", the view)."""
    if response.outcome != Outcome.DONE:
        known = response.outcome in Outcome._value2member_map_
        name = Outcome(response.outcome).label if known else f"outcome {response.outcome}"  # type: ignore[call-arg]
        details = Refusal.decode(response.body).text if response.body else ""
        return f"{name}: {details}" if details else name, None
    return "", VIEWS[type(operation)].decode(response.body)
