"""Which implementation checks which kind of case, and the verdict about one case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from verifier import handshake, keys, ledger
from verifier.encoding import Json, Refused, decode, encode, from_json, rehex, sha256, to_json, unhex
from verifier.messages import MESSAGES, frame, from_fields, names_of, read_frame, request_blob, view
from verifier.money import asset_code, memos, printed, records_total, units
from verifier.statements import half, statement


def blob(given: Json, _: Json) -> Json:
    op, key, valid_until, arguments = request_blob(unhex(given["blob"]))
    shown = dict(zip(arguments, to_json(list(arguments.values())), strict=True))
    return {"op": op, "key": key.hex(), "valid_until": str(valid_until), "arguments": shown}


def keyring(given: Json, expect: Json) -> Json:
    words = keys.words_of(unhex(given["entropy"]))
    public_keys = {path: keys.public(keys.derive(words, path)).hex() for path in expect["public_keys"]}
    return {"words": words, "public_keys": public_keys}


def signed(kind: str) -> Callable[[Json, Json], Json]:
    def check(given: Json, expect: Json) -> Json:
        data = statement(kind, given)
        for row in expect["signatures"]:
            keys.verify(unhex(row["key"]), data, unhex(row["signature"]))
        return {"bytes": data.hex(), "signatures": expect["signatures"]}

    return check


def signature(given: Json, _: Json) -> str:
    """The verdict about a signature over a statement that the verifier puts together itself."""
    return keys.verify(unhex(given["key"]), statement(given["statement"], given), unhex(given["signature"]))


def message(given: Json, _: Json) -> Json:
    kind = int(given["type"], 16)
    assert names_of(MESSAGES[kind]) == list(given["fields"])
    data = frame(kind, from_fields(given["fields"]))
    read_frame(data)
    return {"frame": rehex(data)}


def example(given: Json, expect: Json) -> Json:
    """Builds the whole payment again from its input; signatures are verified, not made."""
    channel_id, record = sha256(statement("channel id", given)), int(given["amount"]).to_bytes(8, "big").hex()
    start = {"channel_id": channel_id.hex(), "salt0": given["salt0"], "salt1": given["salt1"]}
    found = {"channel_id": channel_id.hex(), "genesis": sha256(statement("genesis", start)).hex()}
    found |= {"records": record + given["payment_id"], "memos": encode([[0, unhex(given["memo"])]]).hex()}
    link = {"channel_id": channel_id.hex(), "payer": "0", "h": found["genesis"], "first_n": "1", "count": "1"}
    found["h"] = sha256(statement("link", link | {k: found[k] for k in ("records", "memos")})).hex()
    found |= {"half0": f"{1:016x}{int(given['amount']):016x}{found['h']}" + "0" * 80, "half1": "0" * 176}
    found["state"] = statement("state", found).hex()
    for name, key in (("pay", "key0"), ("ack", "key1")):
        signature = unhex(expect[name])[-64:]
        keys.verify(unhex(given[key]), unhex(found["state"]), signature)
        body = [1, unhex(found["records"]), unhex(found["memos"]), 0] if name == "pay" else [1, 0]
        parts = expect[f"{name}_parts"]
        found[f"{name}_parts"] = parts if "".join(data for data, _ in parts) == expect[name] else None
        found[name] = frame({"pay": 0x20, "ack": 0x21}[name], [channel_id, *body, signature]).hex()
    return found


def taking(check: Callable[..., Any], *names: str) -> Callable[[Json, Json], Json]:
    """A check that takes these inputs as bytes."""
    return lambda given, _: check(*(unhex(given[name]) for name in names))


CHECKS: dict[str, Callable[[Json, Json], Json]] = {
    "keyring": keyring,
    "seed words": lambda given, _: keys.check_words(given["words"]),
    "public key": taking(lambda key: keys.check_key(key).hex(), "key"),
    "sign": taking(lambda seed, text: Ed25519PrivateKey.from_private_bytes(seed).sign(text).hex(), "seed", "message"),
    "verify": taking(keys.verify, "key", "message", "signature"),
    "id": lambda given, _: keys.id_text(given["prefix"], unhex(given["key"])),
    "id text": lambda given, _: keys.key_of_id(given["prefix"], given["text"]).hex(),
    "address": lambda given, _: keys.address(given["prefix"], given["text"]),
    "asset id": lambda given, _: {"asset_id": sha256(statement("asset id", given))[:16].hex()},
    "channel id": lambda given, _: {"channel_id": sha256(statement("channel id", given)).hex()},
    "genesis": lambda given, _: {"hash": sha256(statement("genesis", given)).hex()},
    "link": lambda given, _: {"hash": sha256(statement("link", given)).hex()},
    "half": taking(half, "half"),
    "signature": signature,
    "records": lambda given, _: records_total(unhex(given["records"]), int(given["max_batch"])),
    "payment id": lambda given, _: {"time_ms": str(int(given["payment_id"][:12], 16))},
    "memos": lambda given, _: memos(unhex(given["memos"]), int(given["count"])),
    "parse": lambda given, _: units(given["text"], given["code"], int(given["scale"])),
    "print": lambda given, _: printed(int(given["units"]), given["code"], int(given["scale"])),
    "code": lambda given, _: asset_code(given["code"]),
    "encode": lambda given, _: {"bytes": rehex(encode(from_json(given["value"])))},
    "decode": taking(lambda data: to_json(decode(data)), "bytes"),
    "message": message,
    "frame": lambda given, _: handshake.shown_frame(given["frame"]),
    "transcript": handshake.transcript,
    "hello": handshake.hello,
    "auth frame": handshake.auth,
    "request blob": blob,
    "request frame": ledger.request,
    "answer": ledger.answer,
    "view": view,
    "ledger operation": ledger.operation,
    "join": ledger.joined,
    "payout": ledger.payout,
    "claim": ledger.claimed,
    "extended deadline": ledger.extended,
    "balance": ledger.balance,
    "example": example,
} | {kind: signed(kind) for kind in ("state", "final", "withdraw", "accepted", "auth", "request", "response")}


def judge(case: Json) -> str | None:
    """What is wrong with a case, or None."""
    try:
        found = CHECKS[case["kind"]](case["input"], case.get("expect"))
    except Refused as error:
        return None if case.get("error") == str(error) else f"refused with {error}, not {case.get('error', 'accepted')}"
    if "error" in case:
        return f"accepted, not refused with {case['error']}"
    return None if found == case["expect"] else f"found {found!r}, not {case['expect']!r}"
