"""Frames and their fields: W-1, W-5, W-6 and the tables of chapters 5 and 8."""

from __future__ import annotations

import re
import struct
from typing import Any

from verifier.encoding import Json, decode, encode, from_json, refuse, to_json, unhex

HALF2, MEMOS, RECORDS = "half0 b88, half1 b88", "memos b0-16384", "records b24-98304"
OFFER = (
    "open_nonce b32, asset_id b16, channel_key b32, account b32, deposit u63, flags u8, window_s u32, max_batch u16, "
    "salt b32, max_unacked u32, max_unacked_value u63, min_payment u63"
)
NESTED = {
    "state": f"{HALF2}, signature b64",
    "withdrawal": "party u1, total u63, expiry u63, signature0 b64?, signature1 b64?",
    "openfinal": f"{HALF2}, expiry u63, signature0 b64?, signature1 b64?",
    "batch": f"first_n u63, {RECORDS}, {MEMOS}",
    "version": "u16",
    "id": "b32",
}
MESSAGES = {
    0x01: "versions version[1-8], features version[0-32], role u8, nonce b32, ledger_ids id[0-8], agent t64",
    0x02: "node_id b32, signature b64",
    0x03: "code u16, channel b32?, text t256",
    0x04: "token u64",
    0x05: "token u64",
    0x10: OFFER,
    0x11: f"{OFFER}, signature b64",
    0x12: "channel_id b32",
    0x13: "channel_id b32, signature b64",
    0x20: f"channel_id b32, first_n u63, {RECORDS}, {MEMOS}, ack_n u63, signature b64",
    0x21: "channel_id b32, n u63, own_n u63, signature b64",
    0x22: "channel_id b32, mine state, yours state?, withdrawals withdrawal[0-2], final openfinal?",
    0x23: "channel_id b32, payer u1, from_n u63",
    0x24: "channel_id b32, payer u1, batches batch[0-4096]",
    0x30: "channel_id b32, last_n u63",
    0x31: "channel_id b32, expiry u63, signature b64",
    0x40: "channel_id b32, total u63, expiry u63, signature b64",
    0x41: "channel_id b32, total u63, expiry u63, signature b64",
    0x42: "channel_id b32, total u63, expiry u63, code u16",
    0x50: "channel_id b32",
    0x80: "request_id b16, blob b1-16384, signature b64",
    0x81: "request_id b16, request_hash b32, outcome u16, body b0-98304, signature b64",
    0x82: "number u63, at u63, kind t256, subject b32, body b0-98304",
}


def check_fields(shape: str, values: Any) -> None:
    """Refuses unless `values` is an array of exactly these fields."""
    fields = shape.split(", ")
    if type(values) is not list or len(values) != len(fields):
        refuse("malformed")
    for field, value in zip(fields, values, strict=True):
        check_field(field.split()[-1], value)


def check_field(kind: str, value: Any) -> None:
    if kind.endswith("?"):
        if value is not None:
            check_field(kind[:-1], value)
    elif kind.endswith("]"):
        inner, least, most = re.fullmatch(r"(\w+)\[(\d+)-(\d+)\]", kind).groups()
        if type(value) is not list or not int(least) <= len(value) <= int(most):
            refuse("malformed")
        for item in value:
            check_field(inner, item)
    elif kind == "code":
        if type(value) is not str or not re.fullmatch(r"[A-Z][A-Z0-9]{0,11}", value):
            refuse("malformed")
    elif kind == "scale":
        if type(value) is not int or not 0 <= value <= 18:
            refuse("malformed")
    elif kind in NESTED:
        check_field(NESTED[kind], value) if " " not in NESTED[kind] else check_fields(NESTED[kind], value)
    else:
        check_scalar(kind, value)


def check_scalar(kind: str, value: Any) -> None:
    bounds = [int(bound) for bound in kind[1:].split("-")]
    if kind[0] == "u":
        good = type(value) is int and 0 <= value < 1 << bounds[0]
    elif kind[0] == "b":
        good = type(value) is bytes and bounds[0] <= len(value) <= bounds[-1]
    else:
        good = type(value) is str and len(value.encode()) <= bounds[0]
    if not good:
        refuse("malformed")


def read_frame(data: bytes) -> tuple[int, list[Any]] | str:
    """Type and fields of a whole frame after AUTH, or that more bytes are needed."""
    if len(data) < 4:
        return "more bytes"
    length = int.from_bytes(data[:4], "big")
    if length == 0:
        refuse("malformed")
    if length > 128 * 1024:
        refuse("too_large")
    if len(data) < 4 + length:
        return "more bytes"
    kind, values = data[4], decode(data[5 : 4 + length]) if data[4] in MESSAGES else refuse("malformed")
    check_fields(MESSAGES[kind], values)
    return kind, values


def frame(kind: int, values: list[Any]) -> bytes:
    body = encode(values)
    return struct.pack(">IB", len(body) + 1, kind) + body


def from_fields(fields: Json) -> list[Any]:
    """The values of a message whose fields a case names."""
    return [from_json(value) for value in fields.values()]


def names_of(shape: str) -> list[str]:
    return [field.split()[0] for field in shape.split(", ")]


OPERATIONS = {
    "info": "", "account": "account b32", "channel": "channel_id b32", "channels": "after u63",
    "journal": "after u63", "subscribe": "after u63",
    "asset": "code t12, scale u8, issuer b32", "issue": "asset_id b16, account b32, units u63",
    "redeem": "asset_id b16, units u63", "transfer": "asset_id b16, account b32, units u63",
    "open": "asset_id b16, key0 b32, key1 b32, account0 b32, account1 b32, open_nonce b32, flags u8, window_s u32, "
    "max_batch u16, deposit u63, accepted0 b64, accepted1 b64",
    "topup": "channel_id b32, party u1, units u63",
    "withdraw": "channel_id b32, party u1, total u63, expiry u63, signature0 b64, signature1 b64",
    "claim": "channel_id b32, state cosigned", "close": "channel_id b32, states cosigned[0-2]",
    "close_final": f"channel_id b32, {HALF2}, expiry u63, signature0 b64, signature1 b64",
    "respond": "channel_id b32, states cosigned[0-2]", "settle": "channel_id b32",
}  # fmt: skip
NESTED["cosigned"] = f"{HALF2}, signature0 b64, signature1 b64"
NESTED["asset"] = "asset_id b16, code code, scale scale, issuer b32"
NESTED["holding"] = "asset_id b16, units u63"
NESTED["channel"] = (
    "channel_id b32, asset_id b16, key0 b32, key1 b32, account0 b32, account1 b32, open_nonce b32, flags u8, "
    "window_s u32, max_batch u16, status u8, deposit0 u63, deposit1 u63, withdrawn0 u63, withdrawn1 u63, "
    f"{HALF2}, deadline u63, out0 u63, out1 u63, opened u63, number u63, time u63"
)
NESTED["entry"] = "number u63, time u63, kind t256, asset_id b16, subject b32, credit u63, debit u63"
VIEWS = {
    "AssetView": NESTED["asset"],
    "LedgerInfo": "ledger_id b32, time u63, number u63, operator b32, min_window_s u32, max_window_s u32, "
    "min_deposit u63, assets asset[0-256]",
    "Holding": NESTED["holding"],
    "AccountView": "account b32, number u63, time u63, holdings holding[0-256]",
    "ChannelView": NESTED["channel"],
    "ChannelPage": "channels channel[0-256], more u63?",
    "JournalEntry": NESTED["entry"],
    "JournalPage": "entries entry[0-256], more u63?",
    "Refusal": "text t256",
}


def request_blob(blob: bytes) -> tuple[str, bytes, int, dict[str, Any]]:
    """Operation, key, valid_until and arguments by name."""
    values = decode(blob)
    if len(values) != 4 or type(values[3]) is not list:
        refuse("malformed")
    op, key, valid_until, arguments = values
    for shape, value in (("t16", op), ("b32", key), ("u63", valid_until)):
        check_field(shape, value)
    if op not in OPERATIONS or (not OPERATIONS[op] and arguments):
        refuse("malformed")
    if OPERATIONS[op]:
        check_fields(OPERATIONS[op], arguments)
    names = names_of(OPERATIONS[op]) if OPERATIONS[op] else []
    return op, key, valid_until, dict(zip(names, arguments, strict=True))


def view(given: Json, _: Json) -> Json:
    values = decode(unhex(given["bytes"]))
    check_fields(VIEWS[given["view"]], values)
    return dict(zip(names_of(VIEWS[given["view"]]), to_json(values), strict=True))
