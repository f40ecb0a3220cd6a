"""handshake.json: whole handshakes byte by byte, and each HELLO and AUTH that is refused."""

from __future__ import annotations

from typing import Any, NamedTuple

from vectors.common import SELLER, Case, case, fill, hexed, made, show
from vectors.example import cut
from vectors.statements import LEDGER_ID

from channelpay import crypto, statements
from channelpay.framing import frame
from channelpay.messages.peer import Auth, Hello, Message, Ping, Role
from channelpay.session import Session, Side

CERTIFICATE = bytes.fromhex(
    "308201283081d0a00302010202140f35cfad769dd11f68c9efc0f5bb89aff47f6ac8300a06082a8648ce3d04030230153113301106035504"
    "030c0a6368616e6e656c706179301e170d3236313132313131343334325a170d3336313131393131343334325a3015311330110603550403"
    "0c0a6368616e6e656c7061793059301306072a8648ce3d020106082a8648ce3d030107034200043603baf2abf2ab96dbaa53e66e6b5ce82a"
    "25c5b85860c79ca430b094ac2a51367180d440f0a24dd560e9f5e93851d30c2eb374f5151423ce8a0a38db64ed3b18300a06082a8648ce3d"
    "0403020347003044022002a32153b0458448516a6961aa3d3560bb38d20907ecb64cf967b71884b3312002202a2a24afbe5a3534e895fc39"
    "8fcd9d69fc2bef1fa1581f9bddc6f559d2a9b0d7"
)
"""A listener's self-signed certificate in DER; its private key was thrown away."""

CONNECTOR, LISTENER = crypto.SigningKey(fill("identity of connector")), crypto.SigningKey(fill("identity of listener"))
MALLORY = crypto.SigningKey(fill("identity of somebody in between"))


def hello(role: Role, label: str, ledger_id: bytes = LEDGER_ID) -> Hello:
    return Hello((1,), (), role, fill(f"nonce of {label}"), (ledger_id,), "channelpay/0.1")


NODE, OTHER_NODE = hello(Role.NODE, "connector"), hello(Role.NODE, "listener")
LEDGER_SAYS = hello(Role.LEDGER, "ledger", LISTENER.public)


def handshake_cases() -> list[Case]:
    client = Hello((1, 2, 300), (1, 2001), Role.LEDGER_CLIENT, fill("nonce of client"), (), "\u20ac client")
    cases = [
        transcript("two nodes", NODE, OTHER_NODE),
        transcript("a node and its ledger", NODE, LEDGER_SAYS),
        transcript("a client with versions and odd features that nobody knows", client, LEDGER_SAYS),
    ]
    return cases + hello_cases() + auth_cases()


def transcript(name: str, connector: Hello, listener: Hello) -> Case:
    """Both HELLOs, what each side signs, both AUTHs: as two sessions of ours exchange them."""
    sides = [
        start(Side.CONNECTED, CONNECTOR, connector, expected=LISTENER.public),
        start(Side.LISTENED, LISTENER, listener),
    ]
    sent = [session.outgoing() for session in sides]
    sides[1].receive(sent[0], 0.0)
    sides[0].receive(sent[1], 0.0)
    listener_auth = sides[1].outgoing()
    sides[0].receive(listener_auth, 0.0)
    connector_auth = sides[0].outgoing()
    sides[1].receive(connector_auth, 0.0)
    assert all(session.established for session in sides)
    hellos = sent[0] + sent[1]
    given = {
        "connector_seed": fill("identity of connector").hex(),
        "listener_seed": fill("identity of listener").hex(),
        "connector_hello": fields_of(connector),
        "listener_hello": fields_of(listener),
        "certificate": CERTIFICATE.hex(),
    }
    expect: dict[str, Any] = {
        "connector_id": CONNECTOR.public.hex(),
        "listener_id": LISTENER.public.hex(),
        "connector_hello": sent[0].hex(),
        "listener_hello": sent[1].hex(),
        "hellos_hash": crypto.sha256(hellos).hex(),
        "certificate_hash": crypto.sha256(CERTIFICATE).hex(),
        "listener_signed": statements.auth_bytes(1, hellos, CERTIFICATE, LISTENER.public).hex(),
        "listener_auth": listener_auth.hex(),
        "connector_signed": statements.auth_bytes(0, hellos, CERTIFICATE, CONNECTOR.public, LISTENER.public).hex(),
        "connector_auth": connector_auth.hex(),
    }
    fields = ["versions", "features", "role", "fresh random bytes", "ledger_ids", "agent"]
    for label, message in (("connector", connector), ("listener", listener)):
        expect[f"{label}_hello_parts"] = cut(message, fields)
    for label, data in (("listener", listener_auth), ("connector", connector_auth)):
        meanings = ["the signer's identity", f"over {label}_signed"]
        expect[f"{label}_auth_parts"] = cut(Auth(data[8:40], data[42:]), meanings)
    return made("transcript", name, given, expect)


def fields_of(message: Message) -> dict[str, Any]:
    wire = zip(message._fields, message.to_wire(), strict=True)
    return {name: show(value) for (name, _), value in wire}


def start(side: Side, identity: crypto.SigningKey, own: Hello, expected: bytes | None = None) -> Session:
    """A session that says exactly `own` as its HELLO."""
    session = Session(
        side,
        Role(own.role),
        identity,
        nonce=own.nonce,
        certificate=CERTIFICATE,
        expected=expected,
        ledger_ids=own.ledger_ids,
        agent=own.agent,
        versions=own.versions,
        features=own.features,
    )
    session.start(0.0)
    return session


# --- HELLO -------------------------------------------------------------------------------------


def hello_cases() -> list[Case]:
    def like(versions: Any = (1,), features: Any = (), role: int = 0, ledgers: Any = (LEDGER_ID,)) -> bytes:
        return Hello(versions, features, role, fill("nonce of connector"), ledgers, "").to_frame()

    low, high = sorted((LEDGER_ID, SELLER.identity.public))
    new = Hello((1, 2), (2, 4, 5), Role.NODE, fill("nonce of listener"), (), "of another version")
    rows: dict[str, tuple[Hello, bytes]] = {
        "a node": (OTHER_NODE, like()),
        "no ledgers, an odd feature": (OTHER_NODE, like(features=(1,), ledgers=())),
        "versions 1 and 2": (OTHER_NODE, like((1, 2))),
        "versions 0, 1 and 65535": (OTHER_NODE, like((0, 1, 65535))),
        "both know 1 and 2": (new, like((1, 2, 3))),
        "features that both know": (new, like(features=(2, 3, 5))),
        "32 odd features": (OTHER_NODE, like(features=tuple(range(1, 65, 2)))),
        "two ledgers, rising": (OTHER_NODE, like(ledgers=(low, high))),
        "a node at a ledger": (LEDGER_SAYS, like()),
        "a client at a ledger": (LEDGER_SAYS, like(role=2)),
        "version 2 alone": (OTHER_NODE, like((2,))),
        "version 0 alone": (OTHER_NODE, like((0,))),
        "versions falling": (OTHER_NODE, like((2, 1))),
        "a version twice": (OTHER_NODE, like((1, 1))),
        "features falling": (OTHER_NODE, like(features=(3, 1))),
        "a feature twice": (OTHER_NODE, like(features=(1, 1))),
        "ledgers falling": (OTHER_NODE, like(ledgers=(high, low))),
        "a ledger twice": (OTHER_NODE, like(ledgers=(low, low))),
        "an even feature": (OTHER_NODE, like(features=(2,))),
        "feature 0": (OTHER_NODE, like(features=(0,))),
        "feature 65534 behind odd ones": (OTHER_NODE, like(features=(1, 3, 65534))),
        "an even feature that one side knows and another that it does not": (new, like(features=(2, 6))),
        "a ledger at a node": (OTHER_NODE, like(role=1)),
        "a client at a node": (OTHER_NODE, like(role=2)),
        "role 3": (OTHER_NODE, like(role=3)),
        "role 255 at a ledger": (LEDGER_SAYS, like(role=255)),
        "a ledger at a ledger": (LEDGER_SAYS, like(role=1)),
        "falling and no common version": (OTHER_NODE, like((3, 2))),
        "no common version and an even feature": (OTHER_NODE, like((2,), (2,))),
        "an even feature and a wrong role": (OTHER_NODE, like(features=(2,), role=1)),
        "PING in its place": (OTHER_NODE, Ping(1).to_frame()),
        "AUTH in its place": (OTHER_NODE, Auth(CONNECTOR.public, bytes(64)).to_frame()),
        "an unknown type": (OTHER_NODE, frame(0x77, b"\x90")),
        "a frame of 4,097 bytes": (OTHER_NODE, frame(0x01, bytes(4096))),
        "an array of 33 items": (OTHER_NODE, like(features=tuple(range(1, 67, 2)))),
        "no fields": (OTHER_NODE, frame(0x01, b"\x90")),
    }
    cases = [hello_case(Side.LISTENED, name, own, data) for name, (own, data) in rows.items()]
    answers = {
        "a node answers": (NODE, OTHER_NODE.to_frame()),
        "a ledger answers a node": (NODE, LEDGER_SAYS.to_frame()),
        "a client answers": (NODE, hello(Role.LEDGER_CLIENT, "client").to_frame()),
        "a node answers a client": (hello(Role.LEDGER_CLIENT, "client"), OTHER_NODE.to_frame()),
        "another version answers": (NODE, like((2,))),
    }
    return cases + [hello_case(Side.CONNECTED, name, own, data) for name, (own, data) in answers.items()]


def hello_case(side: Side, name: str, own: Hello, data: bytes) -> Case:
    given = {"side": str(int(side)), "own": own.to_frame().hex(), "frame": hexed(data)}
    return case("hello", name, given, lambda: heard(start(side, LISTENER, own), data))


def heard(session: Session, data: bytes) -> Any:
    session.receive(data, 0.0)
    if session.error:
        raise session.error
    features = [str(number) for number in sorted(session.features)]
    return {"version": str(session.version), "features": features, "role": str(int(session.peer_role))}


# --- AUTH --------------------------------------------------------------------------------------


class Heard(NamedTuple):
    """One AUTH as one side gets it; by default the listener gets the connector's."""

    frame: bytes
    side: Side = Side.LISTENED
    expected: bytes | None = None


HELLOS = NODE.to_frame() + OTHER_NODE.to_frame()


def signed(signer: crypto.SigningKey, side: int, **changes: Any) -> bytes:
    """AUTH of `signer` over the handshake of NODE and OTHER_NODE, or over something else."""
    peer_id = changes.get("peer_id", b"" if side else LISTENER.public)
    hellos, certificate = changes.get("hellos", HELLOS), changes.get("certificate", CERTIFICATE)
    node_id = changes.get("node_id", signer.public)
    data = statements.auth_bytes(side, hellos, certificate, node_id, peer_id)
    return Auth(node_id, signer.sign(changes.get("data", data))).to_frame()


def auth_cases() -> list[Case]:
    swapped = OTHER_NODE.to_frame() + NODE.to_frame()
    replay = hello(Role.NODE, "another connection").to_frame() + OTHER_NODE.to_frame()
    changed = Hello((1,), (1,), Role.NODE, NODE.nonce, NODE.ledger_ids, NODE.agent).to_frame() + OTHER_NODE.to_frame()
    small = (1).to_bytes(32, "little")
    good, of_listener = signed(CONNECTOR, 0), signed(LISTENER, 1)
    to_connector = Side.CONNECTED
    rows = {
        "the connector's": Heard(good),
        "the listener's": Heard(of_listener, to_connector, LISTENER.public),
        "the listener's, nobody is expected": Heard(of_listener, to_connector),
        "the connector's, who is expected": Heard(good, expected=CONNECTOR.public),
        "signed as the other side": Heard(signed(CONNECTOR, 1, peer_id=LISTENER.public)),
        "the listener signs as connector": Heard(signed(LISTENER, 0, peer_id=b""), to_connector),
        "HELLOs in the other order": Heard(signed(CONNECTOR, 0, hellos=swapped)),
        "only the own HELLO": Heard(signed(CONNECTOR, 0, hellos=NODE.to_frame())),
        "HELLOs without their headers": Heard(signed(CONNECTOR, 0, hellos=NODE.encode() + OTHER_NODE.encode())),
        "of another connection": Heard(signed(CONNECTOR, 0, hellos=replay)),
        "a HELLO that was changed on the way": Heard(signed(CONNECTOR, 0, hellos=changed)),
        "another certificate: somebody in between": Heard(signed(CONNECTOR, 0, certificate=fill("certificate", 300))),
        "another certificate, seen by the connector": Heard(
            signed(LISTENER, 1, certificate=fill("certificate", 300)), to_connector
        ),
        "the certificate's bytes in place of their hash": Heard(
            signed(CONNECTOR, 0, data=statements.TAG_AUTH + b"\0" + HELLOS + CERTIFICATE)
        ),
        "meant for another listener": Heard(signed(CONNECTOR, 0, peer_id=MALLORY.public)),
        "the connector names no listener": Heard(signed(CONNECTOR, 0, peer_id=b"")),
        "the listener names its peer": Heard(signed(LISTENER, 1, peer_id=CONNECTOR.public), to_connector),
        "an id that is not the signer's": Heard(signed(MALLORY, 0, node_id=CONNECTOR.public)),
        "another id signed than shown": Heard(
            Auth(MALLORY.public, MALLORY.sign(_connector_bytes(CONNECTOR.public))).to_frame()
        ),
        "reflection: the listener's own AUTH": Heard(of_listener),
        "reflection: the listener's own AUTH, another expected": Heard(of_listener, expected=CONNECTOR.public),
        "the receiver's own id with a sound signature": Heard(signed(LISTENER, 0)),
        "another than expected": Heard(signed(MALLORY, 1), to_connector, LISTENER.public),
        "another than expected, and a bad signature": Heard(
            Auth(MALLORY.public, bytes(64)).to_frame(), to_connector, LISTENER.public
        ),
        "no signature": Heard(Auth(CONNECTOR.public, bytes(64)).to_frame()),
        "a key of small order": Heard(Auth(small, small + bytes(32)).to_frame()),
        "a key that is not canonical": Heard(Auth(b"\xff" * 31 + b"\x7f", bytes(64)).to_frame()),
        "over the tag of STATE": Heard(
            signed(CONNECTOR, 0, data=statements.TAG_STATE + _connector_bytes(CONNECTOR.public)[16:])
        ),
        "a signature of 63 bytes": Heard(frame(0x02, b"\x92\xc4\x20" + CONNECTOR.public + b"\xc4\x3f" + bytes(63))),
        "three fields": Heard(frame(0x02, b"\x93" + good[6:] + b"\x00")),
        "a second HELLO in its place": Heard(NODE.to_frame()),
        "PING in its place": Heard(Ping(1).to_frame()),
        "a frame of 4,097 bytes": Heard(frame(0x02, bytes(4096))),
    }
    return [auth_case(name, row) for name, row in rows.items()]


def _connector_bytes(node_id: bytes) -> bytes:
    return statements.auth_bytes(0, HELLOS, CERTIFICATE, node_id, LISTENER.public)


def auth_case(name: str, row: Heard) -> Case:
    identity = LISTENER if row.side is Side.LISTENED else CONNECTOR
    given = {
        "side": str(int(row.side)),
        "own_id": identity.public.hex(),
        "expected": (row.expected or b"").hex(),
        "hellos": HELLOS.hex(),
        "certificate": CERTIFICATE.hex(),
        "frame": hexed(row.frame),
    }

    def judge() -> Any:
        own, other = (OTHER_NODE, NODE) if row.side is Side.LISTENED else (NODE, OTHER_NODE)
        session = start(row.side, identity, own, row.expected)
        session.receive(other.to_frame(), 0.0)
        session.receive(row.frame, 0.0)
        if session.error:
            raise session.error
        assert session.established
        return {"node_id": session.peer_id.hex()}

    return case("auth frame", name, given, judge)
