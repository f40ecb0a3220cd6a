"""HELLO and AUTH as their receiver judges them, and a whole handshake: T-3, T-11 to T-18, S-17."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from verifier.encoding import Json, Refused, refuse, sha256, to_json, unhex
from verifier.keys import public, verify
from verifier.messages import MESSAGES, frame, from_fields, read_frame
from verifier.statements import statement

BEFORE_AUTH = 4096
MAY_SPEAK = {(0, 0), (0, 1), (2, 1)}


def hello(given: Json, _: Json) -> Json:
    """What the receiver on `side`, whose own HELLO is `own`, finds in the HELLO of `frame`."""
    own, theirs = (fields_of(given[name], 0x01) for name in ("own", "frame"))
    for numbers in (theirs[0], theirs[1], theirs[4]):
        if any(a >= b for a, b in pairwise(numbers)):
            refuse("malformed")
    common = set(own[0]) & set(theirs[0])
    if not common:
        refuse("no_common_version")
    if any(feature % 2 == 0 and feature not in own[1] for feature in theirs[1]):
        refuse("unknown_feature")
    pair = (theirs[2], own[2]) if given["side"] == "1" else (own[2], theirs[2])
    if pair not in MAY_SPEAK:
        refuse("wrong_role")
    features = sorted(set(own[1]) & set(theirs[1]))
    return {"version": str(max(common)), "features": [str(n) for n in features], "role": str(theirs[2])}


def auth(given: Json, _: Json) -> Json:
    """The sender that AUTH in `frame` proves to the receiver on `side`."""
    node_id, signature = fields_of(given["frame"], 0x02)
    if node_id.hex() == given["own_id"]:
        refuse("self_connection")
    if given["expected"] not in ("", node_id.hex()):
        refuse("wrong_identity")
    side = 1 - int(given["side"])
    signed = {**given, "side": str(side), "node_id": node_id.hex(), "peer_id": given["own_id"] if side == 0 else ""}
    try:
        verify(node_id, statement("auth", signed), signature)
    except Refused:
        refuse("bad_auth")
    return {"node_id": node_id.hex()}


def fields_of(text: str, kind: int) -> Any:
    """The fields of a frame of a stranger, which must be of this type."""
    data = unhex(text)
    if int.from_bytes(data[:4], "big") > BEFORE_AUTH:
        refuse("too_large")
    if data[4] not in MESSAGES:
        refuse("malformed")
    if data[4] != kind:
        refuse("unexpected")
    return read_frame(data)[1]


def transcript(given: Json, expect: Json) -> Json:
    """A whole handshake from seeds and HELLOs; signatures of Ed25519 are deterministic, so all of it is."""
    connector, listener = (public(unhex(given[f"{name}_seed"])) for name in ("connector", "listener"))
    found: dict[str, Json] = {"connector_id": connector.hex(), "listener_id": listener.hex()}
    for name in ("connector", "listener"):
        found[f"{name}_hello"] = frame(0x01, from_fields(given[f"{name}_hello"])).hex()
    hellos = found["connector_hello"] + found["listener_hello"]
    found |= {"hellos_hash": sha256(unhex(hellos)).hex(), "certificate_hash": sha256(unhex(given["certificate"])).hex()}
    common = {"hellos": hellos, "certificate": given["certificate"]}
    for name, side, own, other in (("listener", "1", listener, b""), ("connector", "0", connector, listener)):
        signed = statement("auth", common | {"side": side, "node_id": own.hex(), "peer_id": other.hex()})
        auth_frame = unhex(expect[f"{name}_auth"])
        verify(own, signed, auth_frame[-64:])
        found[f"{name}_signed"] = signed.hex()
        found[f"{name}_auth"] = frame(0x02, [own, auth_frame[-64:]]).hex()
    for name in [name for name in expect if name.endswith("_parts")]:
        joined = "".join(data for data, _ in expect[name])
        found[name] = expect[name] if joined == found[name.removesuffix("_parts")] else joined
    return found


def shown_frame(text: str) -> Json:
    """A frame after AUTH, as a case shows what was read."""
    found = read_frame(unhex(text))
    return found if isinstance(found, str) else {"type": f"{found[0]:02x}", "fields": to_json(found[1])}
