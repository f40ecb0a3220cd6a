"""HELLO and AUTH with the node under test as listener. Spec 4.3 to 4.5."""

from __future__ import annotations

from channelpay.conformance.case import case
from channelpay.conformance.conversation import Conversation
from channelpay.conformance.kit import Kit
from channelpay.conformance.verdict import Violation, require, same
from channelpay.crypto import SigningKey, verify
from channelpay.errors import BadSignature, ErrorCode
from channelpay.framing import frame
from channelpay.limits import HANDSHAKE_TIMEOUT_S, MAX_FRAME_BEFORE_AUTH
from channelpay.messages.peer import Auth, Hello, Ping, Pong, Role
from channelpay.statements import auth_bytes

_STRANGERS = 200
_SMALL_ORDER = bytes([1]) + bytes(31)
_ANYTHING = bytes([1]) + bytes(63)
"""A key of small order, and a signature of it that the bare equation takes for every message."""


class Raw:
    """A handshake by hand: frames as they came, AUTH as the case wants it."""

    def __init__(self, kit: Kit, **hello: object) -> None:
        self.kit = kit
        self.wire = kit.dial().wire
        own = {
            "versions": (1,), "features": (), "role": int(Role.NODE), "nonce": kit.runner.entropy(32),
            "ledger_ids": (kit.runner.ledger_id,), "agent": "channelpay conformance",
        }  # fmt: skip
        self.hello_frame = Hello(**(own | hello)).to_frame()  # type: ignore[arg-type]
        self._buffer = b""

    def frame(self) -> bytes:
        """The next whole frame of the node's; Violation if it closes or says nothing."""
        while len(self._buffer) < 4 or len(self._buffer) < 4 + int.from_bytes(self._buffer[:4], "big"):
            data = self.wire.receive(self.kit.runner.patience_s)
            require(data is not None, "the node says nothing during the handshake")
            require(data, "the node closed during the handshake")
            self._buffer += data or b""
        end = 4 + int.from_bytes(self._buffer[:4], "big")
        cut, self._buffer = self._buffer[:end], self._buffer[end:]
        return cut

    def hellos(self) -> None:
        """Both HELLOs and the node's AUTH."""
        self.wire.send(self.hello_frame)
        self.node_hello = self.frame()
        self.node_auth = Auth.decode(self.frame()[5:])

    def statement(
        self, side: int = 0, node_id: bytes | None = None, certificate: bytes | None = None, peer: bytes | None = None
    ) -> bytes:
        """What AUTH signs (S-17)."""
        own = self.kit.identity.public if node_id is None else node_id
        other = self.kit.runner.node_id if peer is None else peer
        hellos = self.hello_frame + self.node_hello
        return auth_bytes(side, hellos, certificate or self.wire.certificate, own, other)

    def auth(self, statement: bytes | None = None, node_id: bytes | None = None, signature: bytes = b"") -> None:
        """AUTH over this statement."""
        signature = signature or self.kit.identity.sign(self.statement() if statement is None else statement)
        self.wire.send(Auth(node_id or self.kit.identity.public, signature).to_frame())

    def expect_silent_end(self) -> None:
        """The node closes without another byte (T-20, E-6)."""
        data = self.wire.receive(self.kit.runner.patience_s)
        if data is None:
            self.wire.send(Ping(1).to_frame())
            data = self.wire.receive(self.kit.runner.patience_s)
        require(data is not None, "the node did not close")
        require(not data, f"the node said {len(data or b'')} bytes more before it closed")


@case("T-15 T-16 S-17")
def handshake_listener_proves_itself(kit: Kit) -> None:
    """The listener sends AUTH first, signed over both HELLOs and its certificate"""
    raw = Raw(kit)
    raw.hellos()
    same(raw.node_auth.node_id, kit.runner.node_id, "the node's id in AUTH")
    try:
        verify(raw.node_auth.node_id, raw.node_auth.signature, raw.statement(1, kit.runner.node_id, peer=b""))
    except BadSignature:
        raise Violation("the node's AUTH does not verify") from None
    raw.auth()
    raw.wire.send(Ping(5).to_frame())
    same(raw.frame(), Pong(5).to_frame(), "the answer to PING after AUTH")


@case("T-9")
def handshake_hello_at_once(kit: Kit) -> None:
    """The node's HELLO comes without waiting for the other's"""
    raw = Raw(kit)
    Hello.decode(raw.frame()[5:])


@case("T-10")
def handshake_fresh_nonce(kit: Kit) -> None:
    """Every connection has another nonce"""
    first, second = (Hello.decode(Raw(kit).frame()[5:]) for _ in range(2))
    require(first.nonce != second.nonce, "two connections have the same nonce")


@case("T-12")
def handshake_other_versions_ignored(kit: Kit) -> None:
    """Versions that the node does not know are ignored beside one that it knows"""
    kit.dial(versions=(0, 1, 900)).handshake().expect_alive()


@case("T-13")
def handshake_odd_feature_ignored(kit: Kit) -> None:
    """An unknown odd feature is ignored"""
    kit.dial(features=(4097,)).handshake().expect_alive()


def _refused_hello(kit: Kit, **hello: object) -> None:
    raw = Raw(kit, **hello)
    raw.frame()  # its HELLO
    raw.wire.send(raw.hello_frame)
    raw.expect_silent_end()


@case("T-12 T-20 E-6")
def handshake_no_common_version(kit: Kit) -> None:
    """Without a common version the node closes without a word"""
    _refused_hello(kit, versions=(7, 8))


@case("T-13")
def handshake_even_feature_refused(kit: Kit) -> None:
    """An unknown even feature is refused"""
    _refused_hello(kit, features=(4096,))


@case("T-11")
def handshake_versions_not_rising(kit: Kit) -> None:
    """Versions that do not rise strictly are refused"""
    _refused_hello(kit, versions=(1, 1))


@case("T-14")
def handshake_wrong_role(kit: Kit) -> None:
    """A ledger does not connect to a node"""
    _refused_hello(kit, role=int(Role.LEDGER))


@case("T-14")
def handshake_unknown_role(kit: Kit) -> None:
    """A role that is not in the table is refused"""
    _refused_hello(kit, role=9)


@case("T-15 T-22")
def handshake_message_before_auth(kit: Kit) -> None:
    """Nothing but AUTH is taken after HELLO"""
    raw = Raw(kit)
    raw.hellos()
    raw.wire.send(Ping(1).to_frame())
    raw.expect_silent_end()


@case("T-9 T-22")
def handshake_auth_before_hello(kit: Kit) -> None:
    """The first frame must be HELLO"""
    raw = Raw(kit)
    raw.node_hello = raw.frame()
    raw.auth()
    raw.expect_silent_end()


@case("T-3")
def handshake_frame_too_large(kit: Kit) -> None:
    """A stranger's frame above 4,096 bytes is refused by its length alone"""
    raw = Raw(kit)
    raw.frame()
    raw.wire.send((MAX_FRAME_BEFORE_AUTH + 1).to_bytes(4, "big") + b"\x01")
    raw.expect_silent_end()


@case("T-3 W-4")
def handshake_array_too_long(kit: Kit) -> None:
    """A stranger's array of more than 32 items is refused"""
    raw = Raw(kit)
    raw.frame()
    raw.wire.send(frame(0x01, b"\x96" + b"\xdc\x00\x21" + bytes(33) + b"\x90\x00\xc4\x20" + bytes(32) + b"\x90\xa0"))
    raw.expect_silent_end()


@case("T-16 T-20")
def auth_bad_signature(kit: Kit) -> None:
    """A wrong signature in AUTH ends the connection without a word"""
    raw = Raw(kit)
    raw.hellos()
    raw.auth(signature=bytes(64))
    raw.expect_silent_end()


@case("T-16 T-17")
def auth_reflected(kit: Kit) -> None:
    """The node's own AUTH sent back is refused"""
    raw = Raw(kit)
    raw.hellos()
    raw.auth(node_id=raw.node_auth.node_id, signature=raw.node_auth.signature)
    raw.expect_silent_end()


@case("T-16 S-17")
def auth_for_the_other_side(kit: Kit) -> None:
    """AUTH signed as a listener is refused from a connector"""
    raw = Raw(kit)
    raw.hellos()
    raw.auth(raw.statement(side=1))
    raw.expect_silent_end()


@case("T-16 S-17")
def auth_of_another_certificate(kit: Kit) -> None:
    """AUTH over another certificate is refused: somebody sits in between"""
    raw = Raw(kit)
    raw.hellos()
    raw.auth(raw.statement(certificate=b"somebody else's"))
    raw.expect_silent_end()


@case("T-16 S-17")
def auth_for_another_listener(kit: Kit) -> None:
    """AUTH that names another listener is refused"""
    raw = Raw(kit)
    raw.hellos()
    raw.auth(raw.statement(peer=kit.key().public))
    raw.expect_silent_end()


@case("T-16 T-10")
def auth_of_another_connection(kit: Kit) -> None:
    """AUTH of an earlier connection is refused"""
    first = Raw(kit)
    first.hellos()
    old = first.statement()
    second = Raw(kit)
    second.hellos()
    second.auth(old)
    second.expect_silent_end()


@case("T-16 S-3")
def auth_small_order_key(kit: Kit) -> None:
    """A node id of small order, for which anyone can sign, is refused"""
    raw = Raw(kit)
    raw.hellos()
    raw.auth(node_id=_SMALL_ORDER, signature=_ANYTHING)
    raw.expect_silent_end()


@case("T-19", takes_s=int(HANDSHAKE_TIMEOUT_S))
def handshake_deadline(kit: Kit) -> None:
    """A stranger that says nothing is dropped after ten seconds"""
    raw = Raw(kit)
    raw.frame()
    kit.sleep(HANDSHAKE_TIMEOUT_S / 2)
    raw.wire.send(raw.hello_frame[:10])  # what arrives moves no deadline
    kit.sleep(HANDSHAKE_TIMEOUT_S / 2 + 1)
    raw.expect_silent_end()


@case("T-5", real=True)
def tls_older_versions_refused(kit: Kit) -> None:
    """No connection comes about with TLS 1.2"""
    tls = kit.runner.tls
    require(tls is not None and not tls.takes_old_versions(), "the node takes TLS 1.2")


@case("T-5", real=True)
def tls_without_tickets(kit: Kit) -> None:
    """The node issues no session tickets"""
    tls = kit.runner.tls
    require(tls is not None and not tls.gives_ticket(), "the node issues session tickets")


@case("T-6", real=True, needs="kill start", alone=True)
def certificate_of_each_process(kit: Kit) -> None:
    """A node that was started again has another certificate"""
    tls = kit.runner.tls
    assert tls is not None
    before = tls.certificate()
    require(before == tls.certificate(), "two connections of one process have two certificates")
    kit.order("kill")
    kit.order("start")
    require(before != tls.certificate(), "the certificate outlives its process")


@case("T-28", real=True, alone=True)
def strangers_are_bounded(kit: Kit) -> None:
    """Of two hundred silent connections from one address the node closes some at once, and serves others still"""
    tls = kit.runner.tls
    assert tls is not None
    standing = tls.strangers(_STRANGERS)
    require(standing < _STRANGERS, f"{standing} strangers may stand at once")
    kit.connect().expect_alive()


@case("T-25")
def connection_replaced(kit: Kit) -> None:
    """A second connection of the same peer takes over; the first is told so and closed"""
    first: Conversation = kit.connect()
    second = kit.connect()
    first.expect_error(ErrorCode.REPLACED)
    second.expect_alive()


@case("T-25")
def connections_of_others_stand(kit: Kit) -> None:
    """Connections of two peers do not disturb each other"""
    first = kit.connect()
    second = kit.connect(SigningKey(kit.runner.entropy(32)))
    first.expect_alive()
    second.expect_alive()
