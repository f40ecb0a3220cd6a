"""The Unix socket: frames in, calls of the Api, answers out. Spec N-9 to N-11."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog
import trio

from channelpay.daemon.api import Api, cut
from channelpay.daemon.outbox import Outbox
from channelpay.errors import LocalError, Reason, RemoteError
from channelpay.framing import FrameBuffer
from channelpay.limits import MAX_CALLS, MAX_CONTROL_FRAME, MAX_OUTGOING_BYTES
from channelpay.messages.control import METHODS, Call, Cancel, Failed, Paid, PayEach, PayMany, Refusal, Result, decode

_log = structlog.get_logger("channelpay.control")
_READ_BYTES: Final = 256 * 1024


class SocketInUse(LocalError):
    """Another daemon answers on this socket."""

    def __init__(self, path: Path) -> None:
        super().__init__(Reason.USAGE, f"{path}: another daemon answers there; a home is used by one at a time")


async def bind(path: Path) -> trio.SocketListener:
    """Listen on a Unix socket that only its owner may open; replaces one that a killed daemon left."""
    if path.exists():
        try:
            stream = await trio.open_unix_socket(os.fspath(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            await stream.aclose()
            raise SocketInUse(path)
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        await sock.bind(os.fspath(path))
    finally:
        os.umask(before)
    sock.listen(128)
    return trio.SocketListener(sock)


@asynccontextmanager
async def bound(path: Path) -> AsyncIterator[trio.SocketListener]:
    """`bind` for as long as the block lasts; then the socket's file is removed, unless another has taken its place."""
    listener = await bind(path)
    made = os.stat(path)
    try:
        yield listener
    finally:
        listener.socket.close()
        with suppress(OSError):
            if os.path.samestat(os.stat(path), made):
                path.unlink()


class ControlServer:
    """Serves one Api to any number of local clients."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def serve(
        self, listener: trio.SocketListener, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Accept clients until cancelled."""
        await trio.serve_listeners(self._client, [listener], task_status=task_status)

    async def _client(self, stream: trio.SocketStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                client = _Client(self._api, stream, nursery)
                nursery.start_soon(client.outbox.run)
                await client.read()
                nursery.cancel_scope.cancel()
        except* (RemoteError, trio.BrokenResourceError, trio.ClosedResourceError) as group:
            _log.info("control connection ended", why=[str(error) for error in group.exceptions])
        finally:
            await trio.aclose_forcefully(stream)


class _Client:
    """One client's calls."""

    def __init__(self, api: Api, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        self.outbox = Outbox(stream)
        self._api = api
        self._stream = stream
        self._nursery = nursery
        self._calls: dict[int, trio.CancelScope] = {}

    async def read(self) -> None:
        """Take frames until the client goes away; raises RemoteError for bytes that are none."""
        buffer = FrameBuffer(MAX_CONTROL_FRAME)
        while data := await self._stream.receive_some(_READ_BYTES):
            buffer.feed(data)
            while (found := buffer.next_frame()) is not None:
                message = decode(*found)
                if isinstance(message, PayEach | PayMany):
                    await self._pay(message)
                elif isinstance(message, Call):
                    await self._call(message)
                elif isinstance(message, Cancel) and message.call_id in self._calls:
                    self._calls[message.call_id].cancel()  # spec N-12
            await self.outbox.wait_below(MAX_OUTGOING_BYTES)

    async def _pay(self, message: PayEach | PayMany) -> None:
        desk, call_id = self._api.desk, message.call_id

        def done(answer: Paid | Refusal | LocalError) -> None:
            if isinstance(answer, Paid):
                self.outbox.put(answer.to_frame())
            elif isinstance(answer, Refusal):
                self.outbox.put(_failed(answer.call_id, answer.error).to_frame())
            else:
                self.outbox.put(_failed(call_id, answer).to_frame())

        # Not reading on is how a client is slowed down.
        if not desk.has_room(message.channel_id):
            await desk.wait_room(message.channel_id)
        try:
            if isinstance(message, PayEach):
                desk.pay_each(message, done)
            else:
                desk.pay_many(message, done)
        except LocalError as error:
            done(error)

    async def _call(self, message: Call) -> None:
        if len(self._calls) >= MAX_CALLS or message.call_id in self._calls:
            text = f"more than {MAX_CALLS} calls at once, or one call_id twice"
            self.outbox.put(_failed(message.call_id, LocalError(Reason.USAGE, text)).to_frame())
            return
        scope = self._calls[message.call_id] = trio.CancelScope()
        self._nursery.start_soon(self._answer, message, scope)

    async def _answer(self, message: Call, scope: trio.CancelScope) -> None:
        try:
            with scope:
                self.outbox.put(await self._result(message))
        finally:
            del self._calls[message.call_id]

    async def _result(self, message: Call) -> bytes:
        method = METHODS.get(message.method)
        try:
            if method is None:
                raise LocalError(Reason.USAGE, f"no method {message.method!r}: client and daemon are of other versions")
            try:
                parameters = method.decode(message.body)
            except RemoteError as error:
                raise LocalError(Reason.USAGE, f"{message.method}: {error.text}") from None
            result = await self._api.call(parameters)
        except LocalError as error:
            return _failed(message.call_id, error).to_frame()
        return Result(message.call_id, result.encode()).to_frame()


def _failed(call_id: int, error: LocalError) -> Failed:
    return Failed(call_id, error.reason.value, cut(str(error), 1000))
