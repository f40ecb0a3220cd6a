"""Batches and amounts: S-20, S-21, M-3 to M-5."""

from __future__ import annotations

import re

from verifier.encoding import TOP, Json, Refused, decode, refuse, rehex


def records_total(records: bytes, max_batch: int) -> str:
    if len(records) % 24 or not 24 <= len(records) <= 24 * max_batch:
        refuse("bad_batch")
    amounts = [int.from_bytes(records[i : i + 8], "big") for i in range(0, len(records), 24)]
    if 0 in amounts:
        refuse("bad_batch")
    return str(sum(amounts)) if sum(amounts) <= TOP else refuse("overflow")


def memos(data: bytes, count: int) -> Json:
    if not data:
        return []
    try:
        found, last = decode(data) if len(data) <= 16384 else refuse("malformed"), -1
    except Refused:
        return refuse("bad_batch")
    for pair in found:
        good = type(pair) is list and [type(item) for item in pair] == [int, bytes]
        if not good or not last < pair[0] < count or not 1 <= len(pair[1]) <= 256:
            refuse("bad_batch")
        last = pair[0]
    return [[str(index), rehex(memo)] for index, memo in found] or refuse("bad_batch")


def units(text: str, code: str, scale: int) -> str:
    match = re.fullmatch(r"(0|[1-9][0-9]{0,18})(?:\.([0-9]{1,18}))? " + code, text)
    if not match or len(match[2] or "") > scale:
        refuse("amount")
    found = int(match[1]) * 10**scale + int(((match[2] or "") + "0" * scale)[:scale] or "0")
    return str(found) if found <= TOP else refuse("amount")


def printed(number: int, code: str, scale: int) -> str:
    whole, decimals = divmod(number, 10**scale)
    return f"{whole}.{decimals:0{scale}} {code}" if scale else f"{whole} {code}"


def asset_code(code: str) -> str:
    return code if re.fullmatch(r"[A-Z][A-Z0-9]{0,11}", code) else refuse("amount")
