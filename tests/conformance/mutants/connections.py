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
from channelpay.errors import BadSignature, ErrorCode, RemoteError
from channelpay.messages import peer
from channelpay.node import node as node_module
from channelpay.node import opening, policy
from channelpay.session import Session
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
    patch.setattr(Session, "_agree", lambda self, hello: original(self, replace(hello, role=0)))


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


@mutant("auth-small-order-key")
def small_order_identity_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(crypto, "_SMALL_ORDER_YS", frozenset())
    crypto._loaded.cache_clear()


@mutant("open-channel-key-small-order", "open-account-small-order")
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


@mutant("refuses-type-for-a-ledger")
def payload_judged_before_type(patch: pytest.MonkeyPatch) -> None:
    from channelpay.session import LEGAL

    legal = frozenset(peer.MESSAGES.values())
    patch.setattr("channelpay.session.LEGAL", dict.fromkeys(LEGAL, legal))


@mutant("pong-unasked")
def pongs_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "_on_pong", lambda self, message: None)


@mutant("ping-answered-in-order")
def pong_with_another_token(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("channelpay.session.Pong", lambda token: peer.Pong(0))


@mutant("connection-replaced")
def old_connection_stays(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_module, "keep_new", lambda *args, **kwargs: False)


@mutant("error-with-nil-ends-the-connection")
def error_with_nil_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Session, "_on_farewell", lambda self, message: None)


@mutant("error-suspends-the-channel", "error-with-unknown-code-suspends")
def errors_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_module.Node, "_receive_error", lambda self, connection, message: None)


# --- Opening -----------------------------------------------------------------------------------


@mutant(
    "open-flags-unknown", "open-window-too-short", "open-batch-above-4096", "open-deposit-zero", "open-asset-unknown"
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


@mutant("open-limits-no-payments", "accept-with-limits-for-nothing")
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


@mutant("open-fresh-channel-keys")
def one_channel_key_for_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(node_module.Node, "_take_key_index", lambda self: 0)


@mutant("open-pay-while-funded", "final-before-shutdown")
def every_message_is_legal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(step, "_judge", lambda c, message: step.Move.TAKE)


@mutant("channel-of-another-peer")
def channels_belong_to_nobody(patch: pytest.MonkeyPatch) -> None:
    from channelpay.node.roster import Roster

    patch.setattr(Roster, "find", lambda self, peer_id, channel_id: self.channels.get(channel_id))
