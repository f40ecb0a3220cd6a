"""One connection of the kit's: the handshake, then messages as the script wants them, whatever the rules say."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from channelpay.conformance.runner import Runner, Wire
from channelpay.conformance.verdict import Violation, require, same, shown
from channelpay.crypto import SigningKey
from channelpay.errors import Effect, ErrorCode, RemoteError, code_name
from channelpay.framing import FrameBuffer
from channelpay.limits import MAX_FRAME
from channelpay.messages.peer import Error, Message, Ping, Pong, Role, TopupHint, decode
from channelpay.session import LEGAL, Phase, Session, Side

_M = TypeVar("_M", bound=Message)


class Conversation:
    """A connection to the node or the ledger under test, authenticated as `identity`.

    Answers PINGs unless `answers_pings` is False; judges that what comes is a sound message and legal (T-22).
    """

    def __init__(
        self,
        runner: Runner,
        wire: Wire,
        identity: SigningKey,
        role: Role,
        expected: bytes,
        *,
        versions: tuple[int, ...] = (1,),
        features: tuple[int, ...] = (),
    ) -> None:
        self.runner = runner
        self.wire = wire
        self.answers_pings = True
        self.session = Session(
            Side.CONNECTED, role, identity, nonce=runner.entropy(32), certificate=wire.certificate, expected=expected,
            ledger_ids=[runner.ledger_id], agent="channelpay conformance", versions=versions, features=features,
        )  # fmt: skip
        self._frames = FrameBuffer(MAX_FRAME)
        self._legal = LEGAL[Role.LEDGER if role is Role.LEDGER_CLIENT else Role.NODE, role]
        self._inbox: deque[Message] = deque()

    # --- The handshake ---------------------------------------------------------------------

    def handshake(self) -> Conversation:
        """HELLO and AUTH by the rules; raises Violation if the other side breaks them."""
        self.session.start(self.runner.clock())
        while self.session.phase is not Phase.OPEN:
            self.wire.send(self.session.outgoing())
            data = self.wire.receive(self.runner.patience_s)
            require(data is not None, f"nothing came during the handshake ({self.session.phase.name})")
            require(data, f"the connection was closed during the handshake ({self.session.phase.name})")
            self.session.receive(data or b"", self.runner.clock())
            if self.session.error is not None:
                raise Violation(f"the handshake breaks a rule: {self.session.error}")
        self.wire.send(self.session.outgoing())
        return self

    # --- Sending ---------------------------------------------------------------------------

    def send(self, *messages: Message) -> None:
        """All of them in one piece."""
        self.wire.send(b"".join(message.to_frame() for message in messages))

    def send_bytes(self, data: bytes) -> None:
        """Anything at all."""
        self.wire.send(data)

    # --- Receiving -------------------------------------------------------------------------

    def receive(self, wait_s: float | None = None) -> Message | None:
        """The next message; None when none came in time. Raises Violation for bytes that are none, and at the end."""
        message = self._next(self.runner.patience_s if wait_s is None else wait_s)
        if message is _END:
            raise Violation("the connection was closed")
        return message

    def take_if(self, kind: type[_M]) -> _M | None:
        """The next message if it is of this kind; any other is left for the next call, and None given."""
        message = self.peek(self.runner.patience_s)
        if not isinstance(message, kind):
            return None
        self._inbox.popleft()
        return message

    def _next(self, wait_s: float) -> Message | None:
        while not self._inbox:
            data = self.wire.receive(wait_s)
            if data is None:
                return None
            if data == b"":
                return _END
            self._take(data)
        return self._inbox.popleft()

    def _take(self, data: bytes) -> None:
        self._frames.feed(data)
        try:
            while (cut := self._frames.next_frame()) is not None:
                message = decode(*cut)
                require(type(message) in self._legal, f"{type(message).__name__} must not be sent here (T-22)")
                if isinstance(message, Ping) and self.answers_pings:
                    self.send(Pong(message.token))
                else:
                    self._inbox.append(message)
        except RemoteError as error:
            raise Violation(f"what came is no message: {error}") from None

    def keep_up(self) -> None:
        """Read what has come, so that PINGs are answered while the case waits for something else."""
        if self.session.phase is Phase.OPEN:
            while data := self.wire.receive(0.0):
                self._take(data)

    def peek(self, wait_s: float) -> Message | None:
        """The next message, which stays the next one; the end of the connection is a message of its own."""
        message = self._next(wait_s)
        if message is not None:
            self._inbox.appendleft(message)
        return message

    def expect(self, kind: type[_M], wait_s: float | None = None) -> _M:
        """The next message, which must be of this kind; hints that the case did not ask for are passed over."""
        while True:
            message = self.receive(wait_s)
            if isinstance(message, kind):
                return message
            if not isinstance(message, TopupHint):
                raise Violation(f"{kind.__name__} was due; {told(message)}")

    def expect_error(self, code: ErrorCode, channel: bytes | None = None) -> Error:
        """ERROR with this code about this channel (None: the connection, which ends after it, spec T-21)."""
        message = self._next(self.runner.patience_s)
        while isinstance(message, TopupHint):
            message = self._next(self.runner.patience_s)
        if not isinstance(message, Error):
            raise Violation(f"ERROR {code_name(code)} was due; {told(message)}")
        same(code_name(message.code), code_name(code), "the code of ERROR")
        require(message.text.isprintable(), "the text of ERROR holds characters that are not for people (E-7)")
        about = None if code.effect is Effect.CLOSE else channel
        same(message.channel, about, "the channel that ERROR names")
        if about is None:
            self.expect_end("after its ERROR")
        return message

    def expect_end(self, when: str = "") -> None:
        """The other side closes, without another message."""
        message = self._next(self.runner.patience_s)
        if message is not _END:
            raise Violation(f"the connection had to be closed {when}; {told(message)}".replace(" ;", ";"))

    def expect_quiet(self) -> None:
        """Nothing comes."""
        message = self._next(self.runner.quiet_s)
        if message is not None and not isinstance(message, TopupHint):
            raise Violation(f"nothing was due; {told(message)}")

    def expect_alive(self) -> None:
        """The connection stands and nothing but PONG comes on it."""
        self.send(Ping(77))
        same(self.expect(Pong).token, 77, "the token of PONG")

    def close(self) -> None:
        """End it without a word."""
        self.wire.close()


_END = Message()
"""In place of a message: the connection is over."""


def told(message: Message | None) -> str:
    """What came instead, in words."""
    match message:
        case None:
            return "nothing came"
        case Error():
            return f"ERROR {code_name(message.code)} came: {shown(message.text)}"
        case _ if message is _END:
            return "the connection was closed"
        case _:
            return f"{type(message).__name__} came"
