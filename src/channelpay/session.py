"""One authenticated connection, sans-IO: handshake, pings, and which messages are legal when. Spec chapter 4.

A `Session` takes bytes and the time, and gives application messages; what it has to say itself (HELLO, AUTH,
PING, PONG, ERROR) waits in `outgoing()`. Its life is a line of four phases::

    HELLO --HELLO received--> AUTH --AUTH verified--> OPEN --refused, or refused by the peer--> ENDED

and `LEGAL` says which message either side may send in OPEN. Anything else ends the session.

The caller's duties, after each of `start`, `receive`, `handle_timer` and `refuse`:

1. send `outgoing()`, in order, before any frame of its own that follows from what it was given;
2. act on the messages returned, in order: they were legal, whatever came after them;
3. if `phase` is ENDED, close the connection; `error` or `farewell` says why;
4. call `handle_timer` when `next_deadline()` is reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, IntEnum
from itertools import pairwise
from typing import Final

from channelpay.codec import unpack
from channelpay.crypto import SigningKey, verify
from channelpay.errors import BadSignature, ErrorCode, KeyRefused, RemoteError
from channelpay.framing import FrameBuffer, frame
from channelpay.limits import (
    HANDSHAKE_TIMEOUT_S,
    MAX_ARRAY_ITEMS,
    MAX_FEATURES,
    MAX_FRAME,
    MAX_FRAME_BEFORE_AUTH,
    MAX_TEXT_BYTES,
    PING_INTERVAL_S,
    PING_TIMEOUT_S,
)
from channelpay.messages import peer
from channelpay.messages.peer import MESSAGES, Auth, Error, Hello, Message, Ping, Pong, Role
from channelpay.statements import auth_bytes

VERSIONS: Final = (1,)
"""The protocol versions spoken here, rising."""

FEATURES: Final[tuple[int, ...]] = ()
"""The features known here, rising: version 1 defines none."""


class Side(IntEnum):
    """Who connected and who listened; the number is signed in AUTH (spec T-16)."""

    CONNECTED = 0
    LISTENED = 1


class Phase(Enum):
    """Where a session stands; see the module's docstring."""

    HELLO = "hello"
    AUTH = "auth"
    OPEN = "open"
    ENDED = "ended"


ROLES: Final = frozenset({(Role.NODE, Role.NODE), (Role.NODE, Role.LEDGER), (Role.LEDGER_CLIENT, Role.LEDGER)})
"""(connector, listener): who may speak to whom (spec T-14)."""

_ALWAYS: Final[frozenset[type[Message]]] = frozenset({Error, Ping, Pong})
_BETWEEN_NODES: Final = _ALWAYS | {
    peer.Open, peer.Accept, peer.Funded, peer.Ready, peer.Pay, peer.Ack, peer.Reestablish, peer.Recall,
    peer.PastRecords, peer.Shutdown, peer.Final, peer.WithdrawAsk, peer.WithdrawOk, peer.WithdrawNo, peer.TopupHint,
}  # fmt: skip
_TO_LEDGER: Final = _ALWAYS | {peer.Request}
_FROM_LEDGER: Final = _ALWAYS | {peer.Response, peer.Event}

LEGAL: Final[dict[tuple[Role, Role], frozenset[type[Message]]]] = {
    (Role.NODE, Role.NODE): _BETWEEN_NODES,
    (Role.NODE, Role.LEDGER): _TO_LEDGER,
    (Role.LEDGER_CLIENT, Role.LEDGER): _TO_LEDGER,
    (Role.LEDGER, Role.NODE): _FROM_LEDGER,
    (Role.LEDGER, Role.LEDGER_CLIENT): _FROM_LEDGER,
}
"""(sender, receiver): the messages that the sender may send after AUTH (spec T-22)."""

_HELLO_ONLY: Final[frozenset[type[Message]]] = frozenset({Hello})
_AUTH_ONLY: Final[frozenset[type[Message]]] = frozenset({Auth})
_OWN: Final[frozenset[type[Message]]] = frozenset({Hello, Auth, Ping, Pong, Error})
"""What a session may act on itself."""


def peer_roles(side: Side, role: Role) -> frozenset[Role]:
    """The roles that a peer may have when we are `role` on `side`."""
    if side is Side.CONNECTED:
        return frozenset(listener for connector, listener in ROLES if connector is role)
    return frozenset(connector for connector, listener in ROLES if listener is role)


def keep_new(own_id: bytes, peer_id: bytes, *, old_initiated: bool, new_initiated: bool) -> bool:
    """Of two authenticated connections of one pair, whether the new one stays (spec T-25).

    `..._initiated` says that we dialled it. Both sides come to the same answer: when each dialled one, the one
    dialled by the lower node id stays; when one side dialled both, the newer AUTH does.
    """
    if old_initiated == new_initiated:
        return True
    return new_initiated == (own_id < peer_id)


class Session:
    """One side of one connection.

    `nonce`: 32 fresh random bytes. `certificate`: the DER bytes of the TLS server's certificate, as this side
    sent or received it. `expected`: the peer's id if it is known, else None. `takes`: the peer roles taken here,
    by default all that `ROLES` allows. Times are seconds on any one clock that never goes back.

    Once `established`: `peer_id`, `peer_role`, `peer_ledger_ids`, `peer_agent`, `version`, and `features`, those
    that both sides know.
    """

    def __init__(
        self,
        side: Side,
        role: Role,
        identity: SigningKey,
        *,
        nonce: bytes,
        certificate: bytes,
        expected: bytes | None = None,
        ledger_ids: Iterable[bytes] = (),
        agent: str = "",
        takes: Iterable[Role] | None = None,
        versions: tuple[int, ...] = VERSIONS,
        features: tuple[int, ...] = FEATURES,
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
    ) -> None:
        possible = peer_roles(side, role)
        self._takes = possible if takes is None else possible & frozenset(takes)
        if not self._takes:
            raise ValueError(f"nobody may be the peer of {role.name} that {side.name.lower()}")
        self.side = side
        self.role = role
        self.phase = Phase.HELLO
        self.error: RemoteError | None = None
        """Why we refused the peer."""
        self.farewell: Error | None = None
        """The ERROR with which the peer ended the connection."""
        self.peer_id = b""
        self.peer_role = role
        self.peer_ledger_ids: tuple[bytes, ...] = ()
        self.peer_agent = ""
        self.version = 0
        self.features: frozenset[int] = frozenset()
        self._identity = identity
        self._expected = expected
        self._certificate = certificate
        self._hello = Hello(versions, features, role, nonce, tuple(sorted(set(ledger_ids))), agent)
        self._hello_frames = b""  # both, the connector's first
        self._frames = FrameBuffer(MAX_FRAME_BEFORE_AUTH)
        self._legal = _HELLO_ONLY
        self._out = bytearray()
        self._handshake_timeout_s = handshake_timeout_s
        self._handshake_deadline: float | None = None
        self._heard_at = 0.0
        self._pinged_at: float | None = None  # when a PING went out that nothing has followed
        self._pings = 0  # PINGs sent; the token of the newest
        self._pongs = 0  # PINGs answered

    # --- What the caller does ----------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin: HELLO goes out at once on both sides (spec T-9).

        `now` may lie before this call: the one deadline of the handshake (spec T-19) runs from the moment
        when the connection was made, so that the TLS handshake counts as well.
        """
        self._handshake_deadline = now + self._handshake_timeout_s
        self._out += self._hello.to_frame()

    def receive(self, data: bytes | bytearray, now: float) -> list[Message]:
        """Take bytes from the peer; the application messages that became whole, in order.

        Never raises for what the peer sent: messages that came whole and legal before a fault are returned,
        the fault stands in `error`, and `phase` is ENDED. Bytes after that are ignored (spec T-4).
        """
        messages: list[Message] = []
        if self.phase is Phase.ENDED:
            return messages
        self._heard_at, self._pinged_at = now, None
        self._frames.feed(data)
        try:
            self._take_frames(messages)
        except RemoteError as error:
            self.refuse(error)
        return messages

    def outgoing(self) -> bytes:
        """Take what must be sent, which may be nothing."""
        if not self._out:
            return b""
        data = bytes(self._out)
        self._out.clear()
        return data

    def refuse(self, error: RemoteError) -> None:
        """End the session for a fault of the peer's: seen here, or by those who act on its messages.

        An authenticated peer is told, once (spec T-21); a stranger is not (spec T-20). Does nothing after the end.
        """
        if self.phase is Phase.ENDED:
            return
        if self.phase is Phase.OPEN:  # spec E-6
            self._out += Error(error.code, None, _cut(error.text)).to_frame()
        else:
            self._out.clear()
        self.error = error
        self.phase = Phase.ENDED

    @property
    def established(self) -> bool:
        """Whether the peer has proved who it is, and the session has not ended."""
        return self.phase is Phase.OPEN

    def next_deadline(self) -> float | None:
        """When `handle_timer` must be called; None for never."""
        if self.phase is Phase.ENDED:
            return None
        if self.phase is not Phase.OPEN:
            return self._handshake_deadline
        if self._pinged_at is not None:
            return self._pinged_at + (PING_TIMEOUT_S - PING_INTERVAL_S)
        return self._heard_at + PING_INTERVAL_S

    def handle_timer(self, now: float) -> None:
        """Do what is due at `now`: nothing, a PING (spec T-23), or the end of the session."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.phase is not Phase.OPEN:
            text = f"no AUTH within {self._handshake_timeout_s:g} s"
            self.refuse(RemoteError(ErrorCode.TIMED_OUT, text))
        elif self._pinged_at is not None:
            self.refuse(RemoteError(ErrorCode.TIMED_OUT, f"nothing was heard for {PING_TIMEOUT_S:g} s"))
        else:
            self._pings += 1
            self._pinged_at = now
            self._out += Ping(self._pings).to_frame()

    # --- What the peer does ------------------------------------------------------------------

    def _take_frames(self, messages: list[Message]) -> None:
        """Act on every whole frame; append what is for the application. Raises RemoteError."""
        # One by one: each message may change the bound on the next frame (spec T-3) and what is legal.
        while self.phase is not Phase.ENDED and (cut := self._frames.next_frame()) is not None:
            kind, payload = cut
            message = self._decode(kind, payload)
            if type(message) not in _OWN:
                messages.append(message)
                continue
            match message:
                case Hello():
                    self._on_hello(message, frame(kind, payload))
                case Auth():
                    self._on_auth(message)
                case Ping():  # spec T-24
                    self._out += Pong(message.token).to_frame()
                case Pong():
                    self._on_pong(message)
                case Error(channel=None):
                    self._on_farewell(message)
                case _:  # an ERROR about a channel
                    messages.append(message)

    def _decode(self, kind: int, payload: bytes) -> Message:
        message_type = MESSAGES.get(kind)
        if message_type is None:  # spec W-5, W-8: those of the local socket too
            raise RemoteError(ErrorCode.MALFORMED, f"unknown message type 0x{kind:02x}")
        if message_type not in self._legal:  # spec T-22
            raise RemoteError(ErrorCode.UNEXPECTED, f"{message_type.__name__} {self._why_not()}")
        # spec T-3: a stranger's arrays are as long as HELLO needs, so that nested ones take little memory
        max_items = MAX_ARRAY_ITEMS if self.phase is Phase.OPEN else MAX_FEATURES
        return message_type.from_wire(unpack(payload, max_items))

    def _why_not(self) -> str:
        if self.phase is Phase.OPEN:
            return f"does not belong here: it came from a {self.peer_role.name} to a {self.role.name} after AUTH"
        return f"came where only {self.phase.name} may"

    def _on_hello(self, message: Hello, its_frame: bytes) -> None:
        for name, values in (
            ("versions", message.versions),
            ("features", message.features),
            ("ledger_ids", message.ledger_ids),
        ):
            if not _strictly_rising(values):  # spec T-11
                raise RemoteError(ErrorCode.MALFORMED, f"Hello.{name} is not strictly rising")
        self._agree(message)
        own_frame = self._hello.to_frame()
        connected = self.side is Side.CONNECTED
        self._hello_frames = own_frame + its_frame if connected else its_frame + own_frame
        self.peer_ledger_ids = message.ledger_ids
        self.peer_agent = message.agent
        self.phase, self._legal = Phase.AUTH, _AUTH_ONLY
        if not connected:  # spec T-15: the listener's AUTH is the first
            self._send_auth()

    def _agree(self, hello: Hello) -> None:
        common = set(hello.versions) & set(self._hello.versions)
        if not common:
            ours, theirs = list(self._hello.versions), list(hello.versions)
            raise RemoteError(ErrorCode.NO_COMMON_VERSION, f"we speak versions {ours}, the peer {theirs}")
        self.version = max(common)  # spec T-12
        known = set(self._hello.features)
        for feature in hello.features:
            if feature % 2 == 0 and feature not in known:  # spec T-13: even ones must be understood
                raise RemoteError(ErrorCode.UNKNOWN_FEATURE, f"the peer demands feature {feature}")
        self.features = frozenset(known & set(hello.features))
        taken = {int(role): role for role in self._takes}
        if hello.role not in taken:  # spec T-14
            names = " or ".join(sorted(role.name for role in self._takes))
            raise RemoteError(ErrorCode.WRONG_ROLE, f"the peer's role is {hello.role}; here it must be {names}")
        self.peer_role = taken[hello.role]

    def _send_auth(self) -> None:
        own_id = self._identity.public
        signed = auth_bytes(self.side, self._hello_frames, self._certificate, own_id, self.peer_id)
        self._out += Auth(own_id, self._identity.sign(signed)).to_frame()

    def _on_auth(self, message: Auth) -> None:
        own_id, peer_id = self._identity.public, message.node_id
        if peer_id == own_id:  # spec T-17
            raise RemoteError(ErrorCode.SELF_CONNECTION, "the peer shows our own id")
        if self._expected is not None and peer_id != self._expected:  # spec T-18
            raise RemoteError(ErrorCode.WRONG_IDENTITY, f"expected {self._expected.hex()}, found {peer_id.hex()}")
        its_side = Side(1 - self.side)
        signed_to = own_id if its_side is Side.CONNECTED else b""
        signed = auth_bytes(its_side, self._hello_frames, self._certificate, peer_id, signed_to)
        try:
            verify(peer_id, message.signature, signed)
        except (BadSignature, KeyRefused) as error:
            raise RemoteError(ErrorCode.BAD_AUTH, f"{error}; somebody may sit in between") from None
        self.peer_id = peer_id
        if self.side is Side.CONNECTED:
            self._send_auth()
        self._hello_frames = b""
        self._frames.max_frame = MAX_FRAME
        self.phase, self._legal = Phase.OPEN, LEGAL[self.peer_role, self.role]

    def _on_pong(self, message: Pong) -> None:
        if self._pongs == self._pings or message.token != self._pongs + 1:  # spec T-24
            raise RemoteError(ErrorCode.UNEXPECTED, f"Pong {message.token} answers no Ping of ours")
        self._pongs += 1

    def _on_farewell(self, message: Error) -> None:
        self.farewell = message  # spec T-21
        self.phase = Phase.ENDED
        self._out.clear()  # the peer has stopped reading; nothing is owed to it


def _strictly_rising(values: Sequence[int] | Sequence[bytes]) -> bool:
    return all(a < b for a, b in pairwise(values))  # type: ignore[operator]


def _cut(text: str) -> str:
    """`text` within the bound of a text field."""
    return text.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")
