"""Everything that is signed or hashed: S-8 to S-19."""

from __future__ import annotations

import struct

from verifier.encoding import TOP, Json, refuse, sha256, unhex

WIDTHS = {
    "state": "channel_id h32, seq, half0 h88, half1 h88",
    "final": "channel_id h32, seq, half0 h88, half1 h88, expiry u8",
    "withdraw": "channel_id h32, party u1, total u8, expiry u8",
    "accepted": "channel_id h32",
    "genesis": "channel_id h32, salt0 h32, salt1 h32",
    "asset id": "ledger_id h32, issuer h32, scale u1, code",
    "channel id": "ledger_id h32, asset_id h16, key0 h32, key1 h32, account0 h32, account1 h32, open_nonce h32, "
    "flags u1, window_s u4, max_batch u2",
    "link": "channel_id h32, payer u1, h h32, first_n u8, count u2, records #, memos #",
    "auth": "side u1, hellos #, certificate #, node_id h32, peer_id h",
    "request": "ledger_id h32, request_id h16, blob #",
    "response": "ledger_id h32, request_id h16, request_hash h32, outcome u2, body #",
}
TAGS = {
    "state": "st", "final": "fi", "withdraw": "wd", "accepted": "op", "genesis": "h0", "asset id": "as",
    "channel id": "id", "link": "pm", "auth": "au", "request": "lr", "response": "la",
}  # fmt: skip


def statement(kind: str, given: Json) -> bytes:
    return f"channelpay.{TAGS[kind]}.v1".encode() + b"".join(part(field, given) for field in WIDTHS[kind].split(", "))


def part(field: str, given: Json) -> bytes:
    name, _, width = field.partition(" ")
    if name == "seq":
        return (int(given["half0"][:16], 16) + int(given["half1"][:16], 16)).to_bytes(8, "big")
    if name == "code":
        return given["code"].encode("ascii")
    if width == "#":
        return sha256(unhex(given[name]))
    if width[0] == "u":
        return int(given[name]).to_bytes(int(width[1:]), "big")
    data = unhex(given[name])
    assert width == "h" or len(data) == int(width[1:]), name
    return data


def half(data: bytes) -> Json:
    n, total, h, locked, root = struct.unpack(">QQ32sQ32s", data)
    if n > TOP or total > TOP:
        refuse("overflow")
    if locked or any(root):
        refuse("reserved_field")
    if total < n or (n == 0 and any(data)):
        refuse("overflow")
    return {"n": str(n), "total": str(total), "h": h.hex()}
