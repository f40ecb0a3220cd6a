"""A daemon that answers from a table, on a real Unix socket: what the command line is tested against."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from channelpay.errors import Reason
from channelpay.framing import FrameBuffer
from channelpay.limits import MAX_CONTROL_FRAME
from channelpay.messages import control as wire
from channelpay.messages.peer import Message
from channelpay.messages.schema import Record

HANG_UP = "hang up"
SILENCE = "silence"
GARBAGE = "garbage"


class Refusal(Exception):
    """What an answer raises to refuse the call."""

    def __init__(self, reason: Reason | str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


Answer = Record | str
"""A result record, a Paid, or HANG_UP, SILENCE, GARBAGE."""


class FakeDaemon:
    """Listens at `path` once it is started; `answers` maps a method's name (or `pay`, `pay_many`) to a function.

    `calls` has every request in the order in which it came. Used as a context manager.
    """

    def __init__(self, path: Path, answers: dict[str, Callable[[Any], Answer]]) -> None:
        self.path = path
        self.answers = answers
        self.calls: list[Any] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeDaemon:
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        self._listener.close()
        self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        buffer = FrameBuffer(MAX_CONTROL_FRAME)
        while data := connection.recv(65536):
            buffer.feed(data)
            while (found := buffer.next_frame()) is not None:
                answer = self._answer(wire.decode(*found))
                if answer == HANG_UP:
                    return
                if isinstance(answer, bytes):
                    connection.sendall(answer)

    def _answer(self, request: Any) -> bytes | str:
        if isinstance(request, wire.Call):
            name, parameters = request.method, wire.METHODS[request.method].decode(request.body)
        else:
            name, parameters = {wire.PayEach: "pay", wire.PayMany: "pay_many"}[type(request)], request
        self.calls.append(parameters)
        try:
            answer = self.answers[name](parameters)
        except Refusal as refusal:
            return wire.Failed(request.call_id, str(refusal.reason), str(refusal)).to_frame()
        if answer == GARBAGE:
            return b"\0\0\0\2\xa1\xc0"
        if isinstance(answer, str):
            return answer
        message = answer if isinstance(answer, Message) else wire.Result(request.call_id, answer.encode())
        return message.to_frame()
