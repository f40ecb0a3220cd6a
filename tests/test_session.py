"""Sessions without a network: the handshake, what may be said when, pings, and what bad bytes do."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay import limits
from channelpay.codec import pack
from channelpay.crypto import SigningKey
from channelpay.errors import ErrorCode, RemoteError
from channelpay.framing import FrameBuffer, frame
from channelpay.messages import peer
from channelpay.messages.peer import Auth, Error, Hello, Message, Ping, Pong, Role
from channelpay.session import Phase, Session, Side, keep_new, peer_roles

ALICE = SigningKey(b"a" * 32)
BOB = SigningKey(b"b" * 32)
MALLORY = SigningKey(b"m" * 32)
CERTIFICATE = b"the certificate's DER bytes"
LEDGER = bytes(32)
ID = b"\x07" * 32
KEY = b"\x08" * 32
SIGNATURE = b"\x09" * 64
HALF = bytes(88)

SAMPLES: dict[int, Message] = {
    message.TYPE: message
    for message in (
        Hello((1,), (), Role.NODE, ID, (), ""),
        Auth(KEY, SIGNATURE),
        Error(ErrorCode.STALLED, ID, "later"),
        Ping(7),
        Pong(7),
        peer.Open(ID, bytes(16), KEY, KEY, 5, 0, 60, 16, ID, 16, 100, 1),
        peer.Accept(ID, bytes(16), KEY, KEY, 5, 0, 60, 16, ID, 16, 100, 1, SIGNATURE),
        peer.Funded(ID),
        peer.Ready(ID, SIGNATURE),
        peer.Pay(ID, 1, bytes(24), b"", 0, SIGNATURE),
        peer.Ack(ID, 1, 0, SIGNATURE),
        peer.Reestablish(ID, peer.SignedState(HALF, HALF, SIGNATURE), None, (), None),
        peer.Recall(ID, 0, 1),
        peer.PastRecords(ID, 0, ()),
        peer.Shutdown(ID, 3),
        peer.Final(ID, 1000, SIGNATURE),
        peer.WithdrawAsk(ID, 5, 1000, SIGNATURE),
        peer.WithdrawOk(ID, 5, 1000, SIGNATURE),
        peer.WithdrawNo(ID, 5, 1000, 56),
        peer.TopupHint(ID),
        peer.Request(bytes(16), b"\x90", SIGNATURE),
        peer.Response(bytes(16), ID, 0, b"", SIGNATURE),
        peer.Event(1, 1000, "open", ID, b""),
    )
}


def connector(identity: SigningKey = ALICE, **changes: object) -> Session:
    return _session(Side.CONNECTED, identity, **changes)


def listener(identity: SigningKey = BOB, **changes: object) -> Session:
    return _session(Side.LISTENED, identity, **changes)


def _session(side: Side, identity: SigningKey, role: Role = Role.NODE, **changes: object) -> Session:
    options: dict[str, object] = {"nonce": bytes([side]) * 32, "certificate": CERTIFICATE}
    return Session(side, role, identity, **(options | changes))  # type: ignore[arg-type]


def pump(one: Session, other: Session, now: float = 0.0) -> list[Message]:
    """Carry bytes both ways until nobody has more to say; what either gave to its application."""
    messages: list[Message] = []
    quiet = 0
    while quiet < 2:
        data = one.outgoing()
        quiet = 0 if data else quiet + 1
        if data:
            messages += other.receive(data, now)
        one, other = other, one
    return messages


def shake(one: Session, other: Session, now: float = 0.0) -> None:
    one.start(now)
    other.start(now)
    pump(one, other, now)


def established(connector_role: Role = Role.NODE, listener_role: Role = Role.NODE) -> tuple[Session, Session]:
    one, other = connector(role=connector_role), listener(role=listener_role)
    shake(one, other)
    assert one.established
    assert other.established
    return one, other


def frames(data: bytes) -> list[Message]:
    """The messages in bytes that a session sends."""
    buffer = FrameBuffer(limits.MAX_FRAME)
    buffer.feed(data)
    found = []
    while (cut := buffer.next_frame()) is not None:
        found.append(peer.decode(*cut))
    assert not buffer.partial
    return found


def code(session: Session) -> ErrorCode | None:
    return None if session.error is None else session.error.code


# --- The handshake ---------------------------------------------------------------------------


def test_both_prove_who_they_are() -> None:
    one = connector(expected=BOB.public, agent="one/1", ledger_ids=[b"\x02" * 32, LEDGER, LEDGER])
    other = listener(agent="other/2")
    shake(one, other)
    assert (one.phase, other.phase) == (Phase.OPEN, Phase.OPEN)
    assert (one.peer_id, other.peer_id) == (BOB.public, ALICE.public)
    assert (one.peer_agent, other.peer_agent) == ("other/2", "one/1")
    assert other.peer_ledger_ids == (LEDGER, b"\x02" * 32)
    assert one.peer_ledger_ids == ()
    assert (one.version, other.version) == (1, 1)
    assert (one.error, other.error) == (None, None)


def test_both_hellos_leave_at_once_and_the_listener_authenticates_first() -> None:
    one, other = connector(), listener()
    one.start(0.0)
    other.start(0.0)
    hello_one, hello_other = one.outgoing(), other.outgoing()
    assert [type(m) for m in frames(hello_one) + frames(hello_other)] == [Hello, Hello]
    one.receive(hello_other, 0.0)
    assert one.outgoing() == b""
    other.receive(hello_one, 0.0)
    auth_other = other.outgoing()
    assert [type(m) for m in frames(auth_other)] == [Auth]
    assert not other.established
    one.receive(auth_other, 0.0)
    assert one.established
    auth_one = one.outgoing()
    assert [type(m) for m in frames(auth_one)] == [Auth]
    assert other.receive(auth_one, 0.0) == []
    assert other.established


def test_what_auth_signs_to_the_byte() -> None:
    """Built here from the spec's text alone (T-16), with hashlib."""
    one, other = connector(), listener()
    one.start(0.0)
    other.start(0.0)
    hello_one, hello_other = one.outgoing(), other.outgoing()
    other.receive(hello_one, 0.0)
    auth_other = other.outgoing()
    one.receive(hello_other + auth_other, 0.0)
    auth_one = one.outgoing()
    hellos = hashlib.sha256(hello_one + hello_other).digest()
    certificate = hashlib.sha256(CERTIFICATE).digest()
    by_listener = b"channelpay.au.v1" + b"\x01" + hellos + certificate + BOB.public
    by_connector = b"channelpay.au.v1" + b"\x00" + hellos + certificate + ALICE.public + BOB.public
    # length 102: the type, an array of 2, 2 + 32 bytes of key, 2 + 64 bytes of signature
    for auth, key, signed in ((auth_other, BOB, by_listener), (auth_one, ALICE, by_connector)):
        header = struct.pack(">IB", 102, 2)
        assert auth == header + b"\x92\xc4\x20" + key.public + b"\xc4\x40" + key.sign(signed)


HelloChange = Callable[[Hello], Hello]


def _changed(**fields: object) -> HelloChange:
    def change(hello: Hello) -> Hello:
        values = {
            name: getattr(hello, name) for name in ("versions", "features", "role", "nonce", "ledger_ids", "agent")
        }
        return Hello(**(values | fields))  # type: ignore[arg-type]

    return change


BAD_HELLOS: dict[str, tuple[HelloChange, ErrorCode]] = {
    "other version": (_changed(versions=(2, 3)), ErrorCode.NO_COMMON_VERSION),
    "versions fall": (_changed(versions=(2, 1)), ErrorCode.MALFORMED),
    "version twice": (_changed(versions=(1, 1)), ErrorCode.MALFORMED),
    "unknown even feature": (_changed(features=(1, 4)), ErrorCode.UNKNOWN_FEATURE),
    "unknown feature 0": (_changed(features=(0,)), ErrorCode.UNKNOWN_FEATURE),
    "features fall": (_changed(features=(3, 1)), ErrorCode.MALFORMED),
    "feature twice": (_changed(features=(1, 1)), ErrorCode.MALFORMED),
    "ledger twice": (_changed(ledger_ids=(LEDGER, LEDGER)), ErrorCode.MALFORMED),
    "ledgers fall": (_changed(ledger_ids=(ID, LEDGER)), ErrorCode.MALFORMED),
    "role of a client": (_changed(role=Role.LEDGER_CLIENT), ErrorCode.WRONG_ROLE),
    "unknown role": (_changed(role=200), ErrorCode.WRONG_ROLE),
}


@pytest.mark.parametrize("name", BAD_HELLOS)
@pytest.mark.parametrize("side", Side)
def test_bad_hellos_are_refused_without_a_word(name: str, side: Side) -> None:
    change, expected = BAD_HELLOS[name]
    session, stranger = (listener(), connector()) if side is Side.LISTENED else (connector(), listener())
    stranger.start(0.0)
    (hello,) = frames(stranger.outgoing())
    assert isinstance(hello, Hello)
    session.start(0.0)
    assert session.receive(change(hello).to_frame(), 0.0) == []
    assert code(session) is expected
    assert session.phase is Phase.ENDED
    assert session.outgoing() == b""


def test_no_version_at_all_is_malformed() -> None:
    session = listener()
    session.start(0.0)
    payload = pack([[], [], 0, bytes(32), [], ""])
    session.receive(frame(Hello.TYPE, payload), 0.0)
    assert code(session) is ErrorCode.MALFORMED


def test_the_highest_common_version_and_the_common_features() -> None:
    one = connector(versions=(1, 2, 5), features=(1, 4, 9))
    other = listener(versions=(2, 3, 5, 7), features=(3, 4, 9, 11))
    shake(one, other)
    assert (one.version, other.version) == (5, 5)
    assert one.features == other.features == {4, 9}


def test_unknown_odd_features_are_ignored() -> None:
    one, other = connector(features=(1, 65535)), listener()
    shake(one, other)
    assert one.established
    assert other.established
    assert other.features == frozenset()


@pytest.mark.parametrize("connects", Role)
@pytest.mark.parametrize("listens", Role)
def test_who_may_speak_to_whom(connects: Role, listens: Role) -> None:
    allowed = {(Role.NODE, Role.NODE), (Role.NODE, Role.LEDGER), (Role.LEDGER_CLIENT, Role.LEDGER)}
    possible = bool(peer_roles(Side.CONNECTED, connects)) and bool(peer_roles(Side.LISTENED, listens))
    if not possible:
        with pytest.raises(ValueError, match="nobody may be the peer"):
            shake(connector(role=connects), listener(role=listens))
        assert (connects, listens) not in allowed
        return
    one, other = connector(role=connects), listener(role=listens)
    shake(one, other)
    assert other.established == ((connects, listens) in allowed)
    if (connects, listens) not in allowed:
        assert code(other) is ErrorCode.WRONG_ROLE


def test_a_listener_may_take_fewer_roles() -> None:
    other = listener(role=Role.LEDGER, takes={Role.LEDGER_CLIENT})
    shake(connector(role=Role.NODE), other)
    assert code(other) is ErrorCode.WRONG_ROLE
    with pytest.raises(ValueError, match="nobody may be the peer"):
        listener(role=Role.LEDGER, takes={Role.LEDGER})


def test_own_id_is_refused_on_both_sides() -> None:
    one, other = connector(identity=BOB), listener(identity=BOB)
    shake(one, other)
    assert code(one) is ErrorCode.SELF_CONNECTION
    assert not other.established

    one, other = connector(identity=MALLORY), listener(identity=BOB)
    one.start(0.0)
    other.start(0.0)
    other.receive(one.outgoing(), 0.0)
    other.receive(Auth(BOB.public, SIGNATURE).to_frame(), 0.0)
    assert code(other) is ErrorCode.SELF_CONNECTION


def test_another_identity_than_the_one_dialled() -> None:
    one, other = connector(expected=MALLORY.public), listener()
    shake(one, other)
    assert code(one) is ErrorCode.WRONG_IDENTITY
    assert BOB.public.hex() in str(one.error)
    assert not other.established
    assert one.peer_id == b""


def test_a_listener_may_expect_one_peer_too() -> None:
    other = listener(expected=MALLORY.public)
    shake(connector(), other)
    assert code(other) is ErrorCode.WRONG_IDENTITY


@pytest.mark.parametrize(
    "node_id",
    [
        pytest.param(bytes([1]) + bytes(31), id="small order"),
        pytest.param(b"\xff" * 32, id="not canonical"),
        pytest.param(bytes([2]) + bytes(31), id="no point"),
    ],
)
def test_bad_keys_cannot_authenticate(node_id: bytes) -> None:
    other = listener()
    one = connector()
    one.start(0.0)
    other.start(0.0)
    other.receive(one.outgoing(), 0.0)
    other.outgoing()
    # R = 1 and S = 0 verifies on every message under the small-order key 1
    other.receive(Auth(node_id, bytes([1]) + bytes(63)).to_frame(), 0.0)
    assert code(other) is ErrorCode.BAD_AUTH
    assert other.outgoing() == b""
    assert other.peer_id == b""


def test_somebody_in_between_with_another_certificate() -> None:
    one, other = connector(certificate=b"the one that Mallory showed"), listener()
    shake(one, other)
    assert code(one) is ErrorCode.BAD_AUTH
    assert not other.established


def test_the_listener_too_notices_another_certificate() -> None:
    """A connector that does not check is told apart by its own signature."""
    one, other = connector(certificate=b"the one that Mallory showed"), listener()
    helper = listener(certificate=b"the one that Mallory showed")  # Bob's signature for the wrong connection
    for session in (one, other, helper):
        session.start(0.0)
    hello = one.outgoing()
    other.receive(hello, 0.0)
    helper.receive(hello, 0.0)
    one.receive(helper.outgoing(), 0.0)
    assert one.established
    other.receive(one.outgoing(), 0.0)
    assert code(other) is ErrorCode.BAD_AUTH


def test_an_auth_sent_back_proves_nothing() -> None:
    other, mirror = listener(), connector()
    other.start(0.0)
    mirror.start(0.0)
    other.receive(mirror.outgoing(), 0.0)
    auth = frames(other.outgoing())[-1]
    other.receive(auth.to_frame(), 0.0)
    assert code(other) is ErrorCode.SELF_CONNECTION


def test_the_listeners_signature_is_no_connectors_signature() -> None:
    """The side is signed: Bob's AUTH as a listener must not open a connection as if Bob had dialled."""
    elsewhere, here = listener(), listener(identity=MALLORY)
    asker = connector()
    for session in (elsewhere, here, asker):
        session.start(0.0)
    hello = asker.outgoing()
    elsewhere.receive(hello, 0.0)
    here.receive(hello, 0.0)
    auth = frames(elsewhere.outgoing())[-1]
    here.receive(auth.to_frame(), 0.0)
    assert code(here) is ErrorCode.BAD_AUTH


def test_an_auth_of_an_earlier_connection_proves_nothing() -> None:
    """The nonces differ, so a recorded HELLO and AUTH of Alice open nothing."""
    alice, earlier, now = connector(), listener(), listener(nonce=b"\x55" * 32)
    for session in (alice, earlier, now):
        session.start(0.0)
    hello = alice.outgoing()
    earlier.receive(hello, 0.0)
    alice.receive(earlier.outgoing(), 0.0)
    auth = alice.outgoing()
    earlier.receive(auth, 0.0)
    assert earlier.established
    now.receive(hello + auth, 0.0)
    assert code(now) is ErrorCode.BAD_AUTH


@pytest.mark.parametrize("kind", sorted(set(SAMPLES) - {Hello.TYPE}))
def test_nothing_but_hello_comes_first(kind: int) -> None:
    session = listener()
    session.start(0.0)
    assert session.receive(SAMPLES[kind].to_frame(), 0.0) == []
    assert code(session) is ErrorCode.UNEXPECTED
    assert session.outgoing() == b""


@pytest.mark.parametrize("kind", sorted(set(SAMPLES) - {Auth.TYPE}))
def test_nothing_but_auth_follows_hello(kind: int) -> None:
    one, other = connector(), listener()
    one.start(0.0)
    other.start(0.0)
    other.receive(one.outgoing(), 0.0)
    assert other.phase is Phase.AUTH
    assert other.receive(SAMPLES[kind].to_frame(), 0.0) == []
    assert code(other) is ErrorCode.UNEXPECTED
    assert other.outgoing() == b""


def test_a_listener_gives_nothing_to_its_application_before_auth() -> None:
    one, other = connector(), listener()
    one.start(0.0)
    other.start(0.0)
    assert other.receive(one.outgoing() + peer.Funded(ID).to_frame() * 3, 0.0) == []
    assert code(other) is ErrorCode.UNEXPECTED


def test_the_handshake_has_one_deadline() -> None:
    one, other = connector(), listener(handshake_timeout_s=10.0)
    one.start(100.0)
    other.start(100.0)
    assert other.next_deadline() == 110.0
    hello = one.outgoing()
    for index in range(9):  # bytes that trickle in do not move it
        other.receive(hello[index : index + 1], 101.0 + index)
    assert other.next_deadline() == 110.0
    other.handle_timer(109.9)
    assert code(other) is None
    other.handle_timer(110.0)
    assert code(other) is ErrorCode.TIMED_OUT
    assert other.outgoing() == b""
    assert other.next_deadline() is None


def test_a_session_that_has_not_started_waits_for_nothing() -> None:
    assert listener().next_deadline() is None


# --- How bytes are cut -----------------------------------------------------------------------


def test_byte_by_byte() -> None:
    one, other = connector(), listener()
    one.start(0.0)
    other.start(0.0)
    got: list[Message] = []
    sent = one.outgoing()
    for _ in range(3):
        for index in range(len(sent)):
            got += other.receive(sent[index : index + 1], 0.0)
        back = other.outgoing()
        for index in range(len(back)):
            got += one.receive(back[index : index + 1], 0.0)
        sent = one.outgoing()
    assert one.established
    assert other.established
    assert got == []
    messages = [peer.Funded(ID), peer.Shutdown(ID, 5)]
    for byte in b"".join(m.to_frame() for m in messages):
        got += other.receive(bytes([byte]), 0.0)
    assert got == messages


def _auth_of_connector(other: Session) -> bytes:
    """`other` has heard HELLO and waits for the AUTH that is returned."""
    one = connector()
    one.start(0.0)
    other.start(0.0)
    other.receive(one.outgoing(), 0.0)
    one.receive(other.outgoing(), 0.0)
    return one.outgoing()


def _large() -> peer.Pay:
    return peer.Pay(ID, 1, bytes(24) * limits.MAX_BATCH, b"", 0, SIGNATURE)


def test_auth_and_large_frames_in_one_chunk() -> None:
    other = listener()
    auth = _auth_of_connector(other)
    messages = [_large(), peer.Funded(ID), _large()]
    assert other.receive(auth + b"".join(m.to_frame() for m in messages), 0.0) == messages
    assert other.established


def test_the_bound_rises_with_auth_and_not_before() -> None:
    other = listener()
    auth = _auth_of_connector(other)
    assert other.receive(_large().to_frame() + auth, 0.0) == []
    assert code(other) is ErrorCode.TOO_LARGE
    assert not other.established


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (limits.MAX_FRAME_BEFORE_AUTH, None),  # waits for the rest
        (limits.MAX_FRAME_BEFORE_AUTH + 1, ErrorCode.TOO_LARGE),
        (2**32 - 1, ErrorCode.TOO_LARGE),
        (0, ErrorCode.MALFORMED),
    ],
)
def test_lengths_before_auth(length: int, expected: ErrorCode | None) -> None:
    session = listener()
    session.start(0.0)
    session.receive(length.to_bytes(4, "big"), 0.0)
    assert code(session) is expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (limits.MAX_FRAME, None),
        (limits.MAX_FRAME + 1, ErrorCode.TOO_LARGE),
        (2**32 - 1, ErrorCode.TOO_LARGE),
        (0, ErrorCode.MALFORMED),
    ],
)
def test_lengths_after_auth(length: int, expected: ErrorCode | None) -> None:
    _, other = established()
    other.receive(length.to_bytes(4, "big"), 0.0)
    assert code(other) is expected


def test_deep_nesting_takes_little_memory_before_auth() -> None:
    """A decoder makes room for what each array's header claims: 300 times 4,000 items are 10 MB."""
    session = listener()
    session.start(0.0)
    data = frame(Hello.TYPE, b"\xdc\x0f\xa0" * 300 + bytes(3_100))
    tracemalloc.start()
    session.receive(data, 0.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert code(session) is ErrorCode.MALFORMED
    assert peak < 100_000


# --- After AUTH ------------------------------------------------------------------------------

TO_A_PEER = {3, 4, 5, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x22, 0x23, 0x24, 0x30, 0x31, 0x40, 0x41, 0x42, 0x50}
ALLOWED: dict[tuple[Role, Role], set[int]] = {
    (Role.NODE, Role.NODE): TO_A_PEER,
    (Role.NODE, Role.LEDGER): {3, 4, 5, 0x80},
    (Role.LEDGER_CLIENT, Role.LEDGER): {3, 4, 5, 0x80},
    (Role.LEDGER, Role.NODE): {3, 4, 5, 0x81, 0x82},
    (Role.LEDGER, Role.LEDGER_CLIENT): {3, 4, 5, 0x81, 0x82},
}


def _receiver(sender: Role, receiver: Role) -> Session:
    """An open session of a `receiver` whose peer is a `sender`."""
    if sender is Role.LEDGER:
        return established(receiver, sender)[0]
    return established(sender, receiver)[1]


CELLS = [(*pair, kind) for pair in ALLOWED for kind in sorted(SAMPLES)]


@pytest.mark.parametrize(("sender", "receiver", "kind"), CELLS)
def test_every_cell_of_the_table_of_legal_messages(sender: Role, receiver: Role, kind: int) -> None:
    session = _receiver(sender, receiver)
    session.outgoing()
    message = SAMPLES[kind]
    got = session.receive(message.to_frame(), 0.0)
    if kind == Pong.TYPE:  # legal, but we sent no PING
        assert code(session) is ErrorCode.UNEXPECTED
        assert "no Ping" in str(session.error)
    elif kind in ALLOWED[sender, receiver]:
        assert session.error is None
        assert got == ([] if kind == Ping.TYPE else [message])
    else:
        assert got == []
        assert code(session) is ErrorCode.UNEXPECTED
        assert [type(m) for m in frames(session.outgoing())] == [Error]


def test_samples_are_complete() -> None:
    assert set(SAMPLES) == set(peer.MESSAGES)


BAD_FRAMES: dict[str, tuple[bytes, ErrorCode]] = {
    "unknown type": (frame(0x77, b"\x90"), ErrorCode.MALFORMED),
    "local socket's type": (frame(0xA0, b"\x90"), ErrorCode.MALFORMED),
    "no payload": (frame(peer.Funded.TYPE, b""), ErrorCode.MALFORMED),
    "no msgpack": (frame(peer.Funded.TYPE, b"\xc1\xc1"), ErrorCode.MALFORMED),
    "no array": (frame(peer.Funded.TYPE, pack(b"x" * 32)), ErrorCode.MALFORMED),
    "map": (frame(peer.Funded.TYPE, b"\x81\x01\x02"), ErrorCode.MALFORMED),
    "too few fields": (frame(peer.Funded.TYPE, pack([])), ErrorCode.MALFORMED),
    "too many fields": (frame(peer.Funded.TYPE, pack([ID, 1])), ErrorCode.MALFORMED),
    "text for bytes": (frame(peer.Funded.TYPE, pack(["x" * 32])), ErrorCode.MALFORMED),
    "true for 1": (frame(peer.Shutdown.TYPE, pack([ID, True])), ErrorCode.MALFORMED),
    "float": (frame(peer.Shutdown.TYPE, pack([ID, 1.0])), ErrorCode.MALFORMED),
    "negative": (frame(peer.Shutdown.TYPE, pack([ID, -1])), ErrorCode.MALFORMED),
    "2^63": (frame(peer.Shutdown.TYPE, pack([ID, 2**63])), ErrorCode.MALFORMED),
    "long integer": (frame(peer.Shutdown.TYPE, b"\x92\xc4\x20" + ID + b"\xcc\x05"), ErrorCode.MALFORMED),
    "bytes after it": (frame(peer.Funded.TYPE, pack([ID]) + b"\x00"), ErrorCode.MALFORMED),
    "cut off inside": (frame(peer.Funded.TYPE, pack([ID])[:-1]), ErrorCode.MALFORMED),
    "second hello": (SAMPLES[Hello.TYPE].to_frame(), ErrorCode.UNEXPECTED),
    "second auth": (SAMPLES[Auth.TYPE].to_frame(), ErrorCode.UNEXPECTED),
    "length 0": (bytes(4), ErrorCode.MALFORMED),
    "too long": (b"\xff\xff\xff\xff", ErrorCode.TOO_LARGE),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
@pytest.mark.parametrize("side", Side)
def test_bad_frames_end_the_session_after_one_error(name: str, side: Side) -> None:
    data, expected = BAD_FRAMES[name]
    session = established()[side]
    session.outgoing()
    good = [peer.Funded(ID), peer.Shutdown(ID, 9)]
    chunk = b"".join(m.to_frame() for m in good) + data + peer.TopupHint(ID).to_frame()
    # What was whole and legal before the fault is not lost, what follows it does not count.
    assert session.receive(chunk, 0.0) == good
    assert code(session) is expected
    assert session.phase is Phase.ENDED
    (error,) = frames(session.outgoing())
    assert isinstance(error, Error)
    assert (error.code, error.channel) == (expected, None)
    assert session.error is not None
    assert error.text == session.error.text
    assert session.receive(data + peer.Funded(ID).to_frame(), 1.0) == []
    assert session.outgoing() == b""
    assert session.next_deadline() is None


def test_an_error_that_names_a_channel_goes_to_the_application() -> None:
    one, _ = established()
    message = Error(ErrorCode.GAP, ID, "payments 3 to 5 are missing")
    assert one.receive(message.to_frame(), 0.0) == [message]
    assert one.established


def test_an_error_without_a_channel_ends_the_session() -> None:
    one, _ = established()
    farewell = Error(ErrorCode.STOPPING, None, "going down")
    data = peer.Funded(ID).to_frame() + Ping(1).to_frame() + farewell.to_frame() + peer.Shutdown(ID, 1).to_frame()
    assert one.receive(data, 0.0) == [peer.Funded(ID)]
    assert one.farewell == farewell
    assert one.error is None
    assert one.phase is Phase.ENDED
    assert not one.established
    assert one.outgoing() == b""


def test_unknown_codes_are_taken() -> None:
    one, _ = established()
    one.receive(Error(60000, None, "of a later version").to_frame(), 0.0)
    assert one.farewell is not None
    assert one.farewell.code == 60000


def test_refused_from_above() -> None:
    one, other = established()
    one.refuse(RemoteError(ErrorCode.BAD_SIGNATURE, "é" * 300, ID))
    one.refuse(RemoteError(ErrorCode.BUSY, "too late"))
    assert code(one) is ErrorCode.BAD_SIGNATURE
    pump(one, other)
    assert other.farewell == Error(ErrorCode.BAD_SIGNATURE, None, "é" * (limits.MAX_TEXT_BYTES // 2))


# --- Pings -----------------------------------------------------------------------------------


def test_a_ping_after_silence_and_its_answer() -> None:
    one, other = established()
    assert one.next_deadline() == limits.PING_INTERVAL_S
    one.handle_timer(limits.PING_INTERVAL_S - 0.1)
    assert one.outgoing() == b""
    now = limits.PING_INTERVAL_S
    one.handle_timer(now)
    ping = one.outgoing()
    assert [type(m) for m in frames(ping)] == [Ping]
    assert one.next_deadline() == limits.PING_TIMEOUT_S
    assert other.receive(ping, now) == []
    pong = other.outgoing()
    assert frames(pong) == [Pong(m.token) for m in frames(ping) if isinstance(m, Ping)]
    assert one.receive(pong, now + 1) == []
    assert one.next_deadline() == now + 1 + limits.PING_INTERVAL_S
    assert other.next_deadline() == now + limits.PING_INTERVAL_S


def test_anything_heard_counts() -> None:
    one, _ = established()
    data = peer.Funded(ID).to_frame()
    one.receive(data[:3], 14.0)
    assert one.next_deadline() == 14.0 + limits.PING_INTERVAL_S
    one.handle_timer(29.0)
    assert one.next_deadline() == 14.0 + limits.PING_TIMEOUT_S
    one.receive(data[3:], 40.0)
    assert one.next_deadline() == 40.0 + limits.PING_INTERVAL_S


def test_a_silent_peer_is_dropped() -> None:
    one, other = established()
    one.handle_timer(limits.PING_INTERVAL_S)
    one.outgoing()
    one.handle_timer(limits.PING_TIMEOUT_S - 0.1)
    assert one.established
    one.handle_timer(limits.PING_TIMEOUT_S)
    assert code(one) is ErrorCode.TIMED_OUT
    pump(one, other)
    assert other.farewell is not None
    assert other.farewell.code == ErrorCode.TIMED_OUT


def test_a_late_timer_asks_before_it_drops() -> None:
    """A process that stood still for a minute has heard nothing, and must not blame the peer."""
    one, _ = established()
    one.handle_timer(60.0)
    assert one.established
    assert one.next_deadline() == 60.0 + limits.PING_TIMEOUT_S - limits.PING_INTERVAL_S


def test_pongs_that_answer_pings_in_order() -> None:
    one, _ = established()
    for now in (15.0, 35.0):  # the second PING leaves before the first is answered
        one.handle_timer(now)
        one.receive(peer.Funded(ID).to_frame(), now + 5)
    assert frames(one.outgoing()) == [Ping(1), Ping(2)]
    one.receive(Pong(1).to_frame() + Pong(2).to_frame(), 41.0)
    assert one.established
    one.receive(Pong(2).to_frame(), 42.0)
    assert code(one) is ErrorCode.UNEXPECTED


@pytest.mark.parametrize("token", [0, 2, 2**64 - 1])
def test_a_pong_with_another_token(token: int) -> None:
    one, _ = established()
    one.handle_timer(15.0)
    one.receive(Pong(token).to_frame(), 16.0)
    assert code(one) is ErrorCode.UNEXPECTED


# --- Bad bytes at random ---------------------------------------------------------------------


def _in_chunks(session: Session, data: bytes, size: int) -> list[Message]:
    return [m for at in range(0, len(data), size) for m in session.receive(data[at : at + size], 0.0)]


@given(data=st.binary(max_size=300), size=st.integers(1, 300))
def test_garbage_before_auth(data: bytes, size: int) -> None:
    session = listener()
    session.start(0.0)
    session.outgoing()
    assert _in_chunks(session, data, size) == []
    assert not session.established
    assert session.outgoing() == b""


WIRE = st.lists(
    st.one_of(
        st.sampled_from([m.to_frame() for m in SAMPLES.values()]),
        st.binary(max_size=40),
        st.builds(frame, st.sampled_from(sorted(SAMPLES)), st.binary(max_size=60)),
    ),
    max_size=6,
).map(b"".join)


@given(data=WIRE, size=st.integers(1, 64))
def test_garbage_after_auth_is_judged_alike_in_any_chunks(data: bytes, size: int) -> None:
    whole, cut = established()[1], established()[1]
    messages = whole.receive(data, 0.0)
    assert _in_chunks(cut, data, size) == messages
    assert (code(cut), cut.farewell, cut.phase) == (code(whole), whole.farewell, whole.phase)
    assert cut.outgoing() == whole.outgoing()


def test_one_changed_bit_anywhere_in_the_handshake_is_noticed() -> None:
    """Whatever is changed under way, in HELLO or AUTH of the connector, the listener never lets it in."""
    first, second = connector(), listener()
    first.start(0.0)
    second.start(0.0)
    hello = first.outgoing()
    second.receive(hello, 0.0)
    first.receive(second.outgoing(), 0.0)
    sent = hello + first.outgoing()
    for position in range(len(sent)):
        other = listener()
        other.start(0.0)
        changed = bytearray(sent)
        changed[position] ^= 1
        other.receive(bytes(changed), 0.0)
        assert not other.established, position
    other = listener()
    other.start(0.0)
    other.receive(sent, 0.0)
    assert other.established


# --- Two connections of one pair -------------------------------------------------------------


def test_the_newer_of_two_dialled_by_one_side_stays() -> None:
    assert keep_new(b"\x01" * 32, b"\x02" * 32, old_initiated=True, new_initiated=True)
    assert keep_new(b"\x01" * 32, b"\x02" * 32, old_initiated=False, new_initiated=False)


def test_of_two_crossing_ones_the_one_dialled_by_the_lower_id_stays() -> None:
    low, high = b"\x01" * 32, b"\x02" * 32
    assert keep_new(low, high, old_initiated=False, new_initiated=True)
    assert not keep_new(low, high, old_initiated=True, new_initiated=False)
    assert keep_new(high, low, old_initiated=True, new_initiated=False)
    assert not keep_new(high, low, old_initiated=False, new_initiated=True)


@given(one=st.binary(min_size=32, max_size=32), other=st.binary(min_size=32, max_size=32), dialled=st.booleans())
def test_both_sides_keep_the_same_one_whatever_they_saw_first(one: bytes, other: bytes, dialled: bool) -> None:
    if one == other:
        return
    keeps_own_dial = keep_new(one, other, old_initiated=not dialled, new_initiated=dialled) == dialled
    # The other side sees the same two connections, from its end, and perhaps in the other order.
    for new in (True, False):
        assert (keep_new(other, one, old_initiated=not new, new_initiated=new) == new) != keeps_own_dial
