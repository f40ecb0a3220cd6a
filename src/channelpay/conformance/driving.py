"""The driver as a process: commands and answers as JSON lines on its standard input and output. Spec 14.4."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

from channelpay.conformance.runner import ControlRefused
from channelpay.conformance.verdict import Violation
from channelpay.errors import ChannelpayError

_START_S: Final = 60.0
_END_S: Final = 20.0


class DriverFailed(ChannelpayError):
    """The driver could not be started, or says what is no answer."""


class DriverCall:
    """A command that the driver has been given."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._ended = threading.Event()
        self._line: Mapping[str, Any] = {}

    def end(self, line: Mapping[str, Any]) -> None:
        """The driver's answer has come."""
        self._line = line
        self._ended.set()

    def done(self) -> bool:
        """See runner.Call."""
        return self._ended.is_set()

    def result(self, wait_s: float) -> Mapping[str, Any]:
        """See runner.Call."""
        if not self._ended.wait(wait_s):
            raise Violation(f"the driver has not answered {self._command} within {wait_s:g} s")
        if "refused" in self._line:
            raise ControlRefused(str(self._line["refused"]))
        answer = self._line.get("answer")
        if not isinstance(answer, dict):
            raise DriverFailed(f"{self._command}: {self._line.get('error', 'no answer')}")
        return answer


class Driver:
    """A running driver: `with Driver(command_line) as control`. `commands` are those that it says it knows."""

    def __init__(self, command_line: str) -> None:
        self._process = subprocess.Popen(
            shlex.split(command_line), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._lock = threading.Lock()
        self._calls: dict[int, DriverCall] = {}
        self._count = 0
        self._greeted = DriverCall("its start")
        self.commands: frozenset[str] = frozenset()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Driver:
        try:
            self.commands = frozenset(self._greeted.result(_START_S)["commands"])
        except (Violation, KeyError) as error:
            self.__exit__(None, None, None)
            raise DriverFailed(f"the driver does not say what it can do: {error}") from None
        except DriverFailed:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Its standard input ends, and so does it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended already, and left something unread
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_END_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start(self, command: str, **arguments: Any) -> DriverCall:
        """See runner.Control."""
        call = DriverCall(command)
        with self._lock:
            self._count += 1
            number = self._count
            self._calls[number] = call
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps({"id": number, "command": command, **arguments}) + "\n")
                self._process.stdin.flush()
            except OSError:
                raise DriverFailed("the driver has ended") from None
        return call

    def _read(self) -> None:
        """What the driver says, until it ends."""
        assert self._process.stdout is not None
        for text in self._process.stdout:
            try:
                line = json.loads(text)
                call = self._calls.pop(line["id"]) if "id" in line else self._greeted
            except (ValueError, KeyError, TypeError):
                continue  # a line that answers nothing
            call.end(line if "id" in line else {"answer": line})
        with self._lock:
            for call in [self._greeted, *self._calls.values()]:
                if not call.done():
                    call.end({"error": "the driver has ended"})
