"""Nodes that break a rule of connections, frames or opening."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from channelpay import crypto
from channelpay.channel import channel as step
from channelpay.channel.effects import Effects
from channelpay.channel.state import Channel
from channelpay.channel.state import Phase as ChannelPhase
from channelpay.errors import BadSignature, Effect, ErrorCode, RemoteError
from channelpay.framing import FrameBuffer, frame
from channelpay.messages import peer
from channelpay.node import node as node_module
from channelpay.node import opening, policy
from channelpay.session import Phase, Session, Side
from channelpay.store import node as node_store
from conformance.mutants import mutant

# --- The handshake and the frames --------------------------------------------------------------


@mutant("handshake-even-feature-refused")
def unknown_even_feature_accepted(patch: pytest.MonkeyPatch) -> None:
    original = Session._agree

    def agree(self: Session, hello: peer.Hello) -> None:
        original(self, replace(hello, features=tuple(f for f in hello.features if f % 2)))

    patch.setattr(Session, "_agree", agree)


@mutant("handshake-no-common-version")
def any_version_accepted(patch: pytest.MonkeyPatch) -> None:
    original = Session._agree
    patch.setattr(Session, "_agree", lambda self, hello: original(self, replace(hello, versions=(1,))))


@mutant("handshake-wrong-role", "handshake-unknown-role")
def any_role_accepted(patch: pytest.MonkeyPatch) -> None:
    original = Session._agree

    def agree(self: Session, hello: peer.Hello) -> None:
        node = self.role is peer.Role.NODE and self.side is Side.LISTENED
        original(self, replace(hello, role=0) if node else hello)

    patch.setattr(Session, "_agree", agree)


@mutant("handshake-versions-not-rising")
def hello_may_repeat(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("channelpay.session._strictly_rising", lambda values: True)


@mutant("auth-bad-signature", "auth-of-another-certificate", "auth-of-another-connection", "auth-for-another-listener")
def auth_not_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("channelpay.session.verify", lambda key, signature, message: None)


@mutant("auth-of-another-certificate")
def auth_without_the_certificate(patch: pytest.MonkeyPatch) -> None:
    from channelpay.statements import auth_bytes

    def lax(side: int, hellos: bytes, certificate: bytes, node_id: bytes, peer_id: bytes = b"") -> bytes:
        return auth_bytes(side, hellos, b"", node_id, peer_id)

    patch.setattr("channelpay.session.auth_bytes", lax)
    patch.setattr("channelpay.conformance.cases.handshake.auth_bytes", _same_certificate(auth_bytes))


def _same_certificate(original: Callable[..., bytes]) -> Callable[..., bytes]:
    """The kit must not fail for its own reasons: it signs as that node does, whatever the certificate."""

    def sign(side: int, hellos: bytes, certificate: bytes, node_id: bytes, peer_id: bytes = b"") -> bytes:
        return original(side, hellos, b"", node_id, peer_id)

    return sign


@mutant("auth-for-the-other-side")
def auth_of_either_side(patch: pytest.MonkeyPatch) -> None:
    original = crypto.verify

    def verify(key: bytes, signature: bytes, message: bytes) -> None:
        try:
            original(key, signature, message)
        except BadSignature:
            original(key, signature, message[:16] + b"\x01" + message[17:])

    patch.setattr("channelpay.session.verify", verify)


@mutant(
    "auth-small-order-key",
    "ledger-open-small-order-key",
    "ledger-open-small-order-account",
    "transfer-to-unsound-key",
)
def small_order_identity_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(crypto, "_SMALL_ORDER_YS", frozenset())
    crypto._loaded.cache_clear()


@mutant(
    "open-channel-key-small-order",
    "open-account-small-order",
    "accept-small-order-key",
    "open-channel-key-not-canonical",
    "open-channel-key-no-point",
)
def small_order_channel_key_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(opening, "check_public_key", lambda key: key)


@mutant("handshake-deadline")
def handshake_without_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "handle_timer", lambda self, now: None)


@mutant("silence-is-noticed")
def silent_peer_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "handle_timer", lambda self, now: None)


@mutant("handshake-frame-too-large")
def strangers_send_large_frames(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("channelpay.session.MAX_FRAME_BEFORE_AUTH", 1_000_000)


@mutant("refuses-frame-too-large")
def frames_without_bound(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("channelpay.session.MAX_FRAME", 10_000_000)


@mutant("refuses-int-not-shortest", "refuses-bytes-not-shortest", "pay-memos-not-strict", "request-not-shortest")
def lax_encoding(patch: pytest.MonkeyPatch) -> None:
    import msgpack

    def unpack(data: bytes, max_items: int = 0) -> list[Any]:
        try:
            value = msgpack.unpackb(data, raw=False)
        except Exception as error:
            raise RemoteError(ErrorCode.MALFORMED, str(error)) from None
        if type(value) is not list:
            raise RemoteError(ErrorCode.MALFORMED, "no array")
        return value

    for module in (
        "channelpay.session",
        "channelpay.messages.schema",
        "channelpay.messages.ledger",
        "channelpay.batches",
    ):
        patch.setattr(f"{module}.unpack", unpack)


@mutant("refuses-bool-for-int")
def booleans_are_integers(patch: pytest.MonkeyPatch) -> None:
    _, field = peer.Ping._fields[0]
    patch.setattr(field, "check", lambda value: isinstance(value, int))


@mutant(
    "refuses-type-for-a-ledger",
    "refuses-hello-again",
)
def payload_judged_before_type(patch: pytest.MonkeyPatch) -> None:
    from channelpay.session import LEGAL

    legal = frozenset(peer.MESSAGES.values())
    patch.setattr("channelpay.session.LEGAL", dict.fromkeys(LEGAL, legal))


@mutant("pong-unasked")
def pongs_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "_on_pong", lambda self, message: None)


@mutant(
    "ping-answered-in-order",
    "what-came-before-a-fault-counts",
)
def pong_with_another_token(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(peer.Pong, "to_frame", lambda self: frame(peer.Pong.TYPE, peer.Ping(self.token ^ 1).encode()))


@mutant("connection-replaced")
def old_connection_stays(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_module, "keep_new", lambda *args, **kwargs: False)


@mutant(
    "error-with-nil-ends-the-connection",
    "error-with-unknown-code-and-nil-closes",
)
def error_with_nil_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "_on_farewell", lambda self, message: None)


@mutant("error-suspends-the-channel", "error-with-unknown-code-suspends")
def errors_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_module.Node, "_receive_error", lambda self, connection, message: None)


@mutant("handshake-hello-at-once")
def hello_waits_for_the_other(patch: pytest.MonkeyPatch) -> None:
    original = Session.start

    def start(self: Session, now: float) -> None:
        original(self, now)
        if self.side is Side.LISTENED:
            self.outgoing()

    patch.setattr(Session, "start", start)


@mutant("handshake-fresh-nonce")
def one_nonce_for_all(patch: pytest.MonkeyPatch) -> None:
    original = Session.__init__
    patch.setattr(
        Session, "__init__", lambda self, *args, **more: original(self, *args, **(more | {"nonce": bytes(32)}))
    )


@mutant("handshake-message-before-auth")
def messages_taken_before_auth(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("channelpay.session._AUTH_ONLY", frozenset(peer.MESSAGES.values()))


@mutant(
    "handshake-auth-before-hello", "handshake-array-too-long", "auth-reflected", "auth-bad-signature",
    "handshake-no-common-version", "handshake-wrong-role",
)  # fmt: skip
def strangers_are_told(patch: pytest.MonkeyPatch) -> None:
    original = Session.refuse

    def refuse(self: Session, error: RemoteError) -> None:
        original(self, error)
        if self.side is Side.LISTENED and not self.peer_id:
            self._out += peer.Error(int(error.code), None, error.text[:200]).to_frame()

    patch.setattr(Session, "refuse", refuse)


@mutant(
    "refuses-type-unknown", "refuses-type-of-the-local-socket", "refuses-payload-empty", "refuses-payload-no-array",
    "refuses-payload-trailing-byte", "refuses-payload-cut-off", "refuses-fields-too-few", "refuses-fields-too-many",
    "refuses-float-for-int", "refuses-map-in-payload", "refuses-ext-in-payload", "refuses-text-for-bytes",
    "refuses-bytes-of-wrong-length", "refuses-text-not-utf8", "refuses-text-too-long", "refuses-array-claims-much",
    "refuses-array-above-4096", "refuses-arrays-deeply-nested", "frame-of-the-largest-size", "refuses-int-signed",
    "refuses-int-negative",
)  # fmt: skip
def malformed_messages_ignored(patch: pytest.MonkeyPatch) -> None:
    original = Session._decode

    def decode(self: Session, kind: int, payload: bytes) -> peer.Message:
        try:
            return original(self, kind, payload)
        except RemoteError as error:
            if error.code is not ErrorCode.MALFORMED or self.phase is not Phase.OPEN:
                raise
            return peer.Error(int(ErrorCode.STALLED), bytes(32), "")

    patch.setattr(Session, "_decode", decode)


@mutant("refuses-frame-length-zero")
def empty_frames_skipped(patch: pytest.MonkeyPatch) -> None:
    original = FrameBuffer.next_frame

    def next_frame(self: FrameBuffer) -> Any:
        while self._buffer[:4] == bytes(4):
            del self._buffer[:4]
        return original(self)

    patch.setattr(FrameBuffer, "next_frame", next_frame)


@mutant("error-about-unknown-channel-ignored")
def error_about_unknown_channel_closes(patch: pytest.MonkeyPatch) -> None:
    def receive(self: Any, connection: int, message: peer.Error) -> None:
        raise RemoteError(ErrorCode.UNEXPECTED, "what channel?")

    patch.setattr(node_module.Node, "_receive_error", receive)


@mutant("error-retry-changes-nothing")
def every_error_suspends(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_module, "effect_of", lambda code: Effect.SUSPEND)


@mutant("error-is-not-answered")
def errors_answered_with_errors(patch: pytest.MonkeyPatch) -> None:
    original = node_module.Node._receive_error

    def receive(self: Any, connection: int, message: peer.Error) -> None:
        original(self, connection, message)
        self._send(connection, message)

    patch.setattr(node_module.Node, "_receive_error", receive)


@mutant("error-text-is-for-people")
def texts_with_control_characters(patch: pytest.MonkeyPatch) -> None:
    original = RemoteError.__init__
    patch.setattr(
        RemoteError, "__init__", lambda self, code, text, channel=None: original(self, code, text + "\x07", channel)
    )


@mutant("unknown-channel")
def unknown_channels_ignored(patch: pytest.MonkeyPatch) -> None:
    original = node_module.Node._send

    def send(self: Any, connection: int, message: peer.Message) -> None:
        if not isinstance(message, peer.Error) or message.code != ErrorCode.UNKNOWN_CHANNEL:
            original(self, connection, message)

    patch.setattr(node_module.Node, "_send", send)


# --- Opening -----------------------------------------------------------------------------------


@mutant(
    "open-flags-unknown",
    "open-window-too-short",
    "open-batch-above-4096",
    "open-deposit-zero",
    "open-asset-unknown",
    "open-flags-high-bit",
    "open-window-zero",
    "open-window-of-a-century",
    "open-batch-zero",
    "open-refusals-leave-the-connection",
)
def every_offer_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(opening, "refusal", lambda *args: None)


@mutant("open-too-many-channels")
def full_is_told_as_another_reason(patch: pytest.MonkeyPatch) -> None:
    original = policy.refusal

    def refusal(*args: Any) -> ErrorCode | None:
        code = original(*args)
        return ErrorCode.NOT_ACCEPTING if code is ErrorCode.TOO_MANY_CHANNELS else code

    patch.setattr(policy, "refusal", refusal)


@mutant(
    "open-limits-no-payments",
    "accept-with-limits-for-nothing",
    "open-limits-no-value",
    "open-limits-contradict",
)
def limits_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(policy, "sound_limits", lambda *args: True)
    patch.setattr(opening, "sound_limits", lambda *args: True)


@mutant("open-funded-is-not-believed")
def funded_is_believed(patch: pytest.MonkeyPatch) -> None:
    original = step._take

    def take(c: Channel, message: Any, now: Any, fx: Effects) -> None:
        if isinstance(message, peer.Funded):
            step._fund(c, fx)
        else:
            original(c, message, now, fx)

    patch.setattr(step, "_take", take)


@mutant("ready-bad-signature")
def ready_not_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "verify", lambda *args: None)


@mutant("accept-bad-signature")
def accept_not_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(opening, "verify", lambda *args: None)


@mutant(
    "open-fresh-channel-keys",
    "node-opens-with-fresh-secrets",
)
def one_channel_key_for_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_module.Node, "_take_key_index", lambda self: 0)


@mutant("open-pay-while-funded", "final-before-shutdown")
def every_message_is_legal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "_judge", lambda c, message: step.Move.TAKE)


@mutant("channel-of-another-peer")
def channels_belong_to_nobody(patch: pytest.MonkeyPatch) -> None:
    from channelpay.node.roster import Roster

    patch.setattr(Roster, "find", lambda self, peer_id, channel_id: self.channels.get(channel_id))


@mutant("open-accepted", "node-opens")
def terms_repeated_wrongly(patch: pytest.MonkeyPatch) -> None:
    """A channel id over other terms than those of OPEN: the consents do not fit."""
    original = opening._terms
    patch.setattr(opening, "_terms", lambda *args: original(*args)._replace(window_s=77))


@mutant("open-with-the-bounds-accepted")
def bounds_are_refused(patch: pytest.MonkeyPatch) -> None:
    original = policy.refusal

    def refusal(p: Any, offer: peer.Open, *rest: Any) -> ErrorCode | None:
        return ErrorCode.BATCH_REFUSED if offer.max_batch in (1, 4096) else original(p, offer, *rest)

    patch.setattr(policy, "refusal", refusal)


@mutant("open-ready-before-the-ledger")
def ready_before_the_ledger_was_read_refused(patch: pytest.MonkeyPatch) -> None:
    original = step._receive_ready

    def receive(c: Channel, *args: Any) -> None:
        if c.phase == ChannelPhase.ACCEPTED:
            raise RemoteError(ErrorCode.ILLEGAL_NOW, "too early")
        original(c, *args)

    patch.setattr(step, "_receive_ready", receive)


@mutant("open-across-a-reconnection", "open-across-a-crash")
def ready_only_opens(patch: pytest.MonkeyPatch) -> None:
    """A node that becomes OPEN by READY alone, never by REESTABLISH."""
    original = step._become_open

    def become(c: Channel, fx: Effects) -> None:
        if not c.reestablish_sent:
            original(c, fx)

    patch.setattr(step, "_become_open", become)


@mutant("final-survives-a-crash", "withdraw-hold-survives-a-crash")
def phases_not_durable(patch: pytest.MonkeyPatch) -> None:
    original = node_store.NodeStore.commit

    def commit(self: Any, persist: Any) -> None:
        persist.cold.clear()
        original(self, persist)

    patch.setattr(node_store.NodeStore, "commit", commit)


@mutant("accept-with-other-terms")
def changed_terms_accepted(patch: pytest.MonkeyPatch) -> None:
    original = opening.accepted

    def accepted(ledger_id: bytes, offer: Any, answer: peer.Accept) -> Any:
        mine = offer.message
        same = replace(
            answer,
            asset_id=mine.asset_id,
            flags=mine.flags,
            window_s=mine.window_s,
            max_batch=mine.max_batch,
            deposit=0,
        )
        patch.setattr(opening, "verify", lambda *args: None)
        return original(ledger_id, offer, same)

    patch.setattr(opening, "accepted", accepted)


@mutant("handshake-listener-proves-itself", "connections-of-others-stand")
def listener_signs_nothing(patch: pytest.MonkeyPatch) -> None:
    original = Session._send_auth

    def send_auth(self: Session) -> None:
        original(self)
        if self.side is Side.LISTENED:
            self._out[-64:] = bytes(64)

    patch.setattr(Session, "_send_auth", send_auth)


@mutant("handshake-other-versions-ignored", "handshake-odd-feature-ignored")
def whatever_is_unknown_refused(patch: pytest.MonkeyPatch) -> None:
    original = Session._agree

    def agree(self: Session, hello: peer.Hello) -> None:
        if self.side is Side.LISTENED and (len(hello.versions) > 1 or hello.features):
            raise RemoteError(ErrorCode.NO_COMMON_VERSION, "what is that?")
        original(self, hello)

    patch.setattr(Session, "_agree", agree)


@mutant("frames-cut-anywhere")
def frames_must_come_whole(patch: pytest.MonkeyPatch) -> None:
    original = FrameBuffer.feed

    def feed(self: FrameBuffer, data: bytes | bytearray) -> None:
        self._buffer.clear()
        original(self, data)

    patch.setattr(FrameBuffer, "feed", feed)


@mutant("frame-cut-off-by-the-end")
def frames_filled_up(patch: pytest.MonkeyPatch) -> None:
    """A frame that lacks its last byte is taken with a zero byte there."""
    original = FrameBuffer.next_frame

    def next_frame(self: FrameBuffer) -> Any:
        if len(self._buffer) >= 4 and len(self._buffer) == 3 + int.from_bytes(self._buffer[:4], "big"):
            self._buffer.append(0)
        return original(self)

    patch.setattr(FrameBuffer, "next_frame", next_frame)
