"""A ledger's judgement of one request, from its books before to what it writes: chapter 8.

The refusals of an operation are looked for in the order of their numbers (L-10).
"""

from __future__ import annotations

import re
from typing import Any

from verifier.curve import verifies
from verifier.encoding import TOP, Json, Refused, refuse, rehex, sha256, unhex
from verifier.keys import check_key, verify
from verifier.messages import frame, read_frame, request_blob
from verifier.statements import half, statement

OPEN, CLOSING, SETTLED = 0, 1, 2
LIFE_S, GRACE_S = 3600, 600
CHANNEL_BYTES = ["channel_id", "asset_id", "key0", "key1", "account0", "account1", "open_nonce", "half0", "half1"]


def refuse_unless(condition: bool, name: str) -> None:
    if not condition:
        refuse(name)


# --- Requests and answers ----------------------------------------------------------------------


def request(given: Json, _: Json) -> Json:
    """REQUEST as the ledger `ledger_id` admits it (L-3, L-5)."""
    request_id, blob, signature = read_frame(unhex(given["frame"]))[1]
    try:
        op, key, valid_until, _arguments = request_blob(blob)
    except Refused:
        refuse("bad-request")
    signed = statement("request", {**given, "request_id": request_id.hex(), "blob": blob.hex()})
    try:
        verify(key, signed, signature)
    except Refused:
        refuse("bad-signature")
    return {"op": op, "key": key.hex(), "valid_until": str(valid_until)}


def answer(given: Json, _: Json) -> Json:
    """RESPONSE as the client that sent `blob` under `request_id` believes it (L-4)."""
    request_id, request_hash, outcome, body, signature = read_frame(unhex(given["frame"]))[1]
    signed = statement("response", {
        "ledger_id": given["ledger_id"], "request_id": request_id.hex(), "request_hash": request_hash.hex(),
        "outcome": str(outcome), "body": body.hex(),
    })  # fmt: skip
    asked = (unhex(given["request_id"]), sha256(unhex(given["blob"])))
    if not verifies(unhex(given["ledger_id"]), signed, signature) or asked != (request_id, request_hash):
        refuse("bad_signature")
    return {"outcome": str(outcome), "body": rehex(body)}


def signed_request(given: Json, _: Json) -> Json:
    fields = [unhex(given[name]) for name in ("request_id", "blob", "signature")]
    return {"frame": rehex(frame(0x80, fields))}


# --- Arithmetic (L-16, L-39, L-40) -------------------------------------------------------------


def clamp(value: int, most: int) -> int:
    return max(0, min(value, most))


def numbers(given: Json) -> dict[str, int]:
    return {name: int(value) for name, value in given.items()}


def share(c: dict[str, int], t0: int, t1: int) -> tuple[int, int]:
    """The pot, and party 1's share of it."""
    pot = c["deposit0"] + c["deposit1"] - c["withdrawn0"] - c["withdrawn1"]
    return pot, clamp(c["deposit1"] - c["withdrawn1"] - t1 + t0, pot)


def payout(given: Json, _: Json) -> Json:
    c = numbers(given)
    pot, out1 = share(c, c["total0"], c["total1"])
    return {"out0": str(pot - out1), "out1": str(out1)}


def claimed(given: Json, _: Json) -> Json:
    c = numbers(given)
    _pot, units = share(c, c["total0"], c["total1"])
    return {"units": str(units), "withdrawn1": str(c["withdrawn1"] + units)}


def balance(given: Json, _: Json) -> Json:
    """C-8 on a pair as the payer signed it."""
    c = numbers(given)
    both = [c[f"deposit{p}"] - c[f"withdrawn{p}"] - c[f"total{p}"] + c[f"total{1 - p}"] for p in (0, 1)]
    refuse_unless(both[c["payer"]] >= 0, "balance")
    return {"balance0": str(both[0]), "balance1": str(both[1])}


def extended(given: Json, _: Json) -> Json:
    c = numbers(given)
    return {"deadline": str(max(c["deadline"], c["now"] + min(c["window_s"], GRACE_S)))}


def join(old: bytes, new: bytes) -> tuple[bytes, bool]:
    """The join of two halves, and whether they tell two histories and change what is held."""
    newer = max(old, new, key=lambda h: (h[:8], h[16:48]))
    joined = newer[:8] + max(old[8:16], new[8:16]) + newer[16:]
    ordered = (old[:8] < new[:8] and old[8:16] <= new[8:16]) or old == new
    return joined, joined != old and not ordered


def joined(given: Json, _: Json) -> Json:
    """A half newly shown is judged (S-10), then joined to the one that is held (L-38, L-39)."""
    sound_half(unhex(given["new"]))
    found, equivocation = join(unhex(given["held"]), unhex(given["new"]))
    return {"half": found.hex(), "equivocation": str(int(equivocation))}


def sound_half(data: bytes) -> bytes:
    try:
        half(data)
    except Refused as error:
        refuse("reserved-field" if str(error) == "reserved_field" else "unsound-half")
    return data


# --- Operations (L-6, L-17, L-18, L-30 to L-41) ------------------------------------------------


class World:
    """The books that one request sees: rules, assets, accounts, and the one channel that it may touch."""

    def __init__(self, given: Json) -> None:
        self.now = int(given["now"])
        self.rules = given["rules"]
        self.assets = {a["asset_id"]: a for a in given["assets"]}
        self.funds = {(a["account"], a["asset_id"]): int(a["units"]) for a in given["accounts"]}
        self.channel: Any = None
        if given["channel"]:
            self.channel = {k: unhex(v) if k in CHANNEL_BYTES else int(v) for k, v in given["channel"].items()}
        self.lines: list[Json] = []

    def write(self, kind: str, accounts: list[tuple[bytes, int]], holder: str, owner: bytes, units: int) -> None:
        """One entry: accounts in the order of their keys, then the channel or the asset's source (L-12)."""
        rows = [("account", account, units) for account, units in sorted(accounts) if units]
        rows.append((holder, owner, units))
        assert sum(row[2] for row in rows) == 0
        self.lines += [{"kind": kind, "holder": h, "owner": o.hex(), "units": str(u)} for h, o, u in rows]

    def change(self, kind: str, accounts: list[tuple[bytes, int]], **changes: Any) -> None:
        """An entry of the channel; nothing at all if nothing changes (L-13)."""
        if all(self.channel[name] == value for name, value in changes.items()):
            return
        self.channel |= changes
        units = -sum(units for _, units in accounts)
        self.write(kind, accounts, "channel", self.channel["channel_id"], units)

    def asset(self, asset_id: bytes) -> Any:
        return self.assets.get(asset_id.hex()) or refuse("unknown-asset")

    def check_funds(self, account: bytes, asset_id: bytes, units: int) -> None:
        refuse_unless(units <= self.funds.get((account.hex(), asset_id.hex()), 0), "insufficient-funds")

    def named(self, channel_id: bytes) -> Any:
        found = self.channel if self.channel and self.channel["channel_id"] == channel_id else None
        return found or refuse("unknown-channel")

    def live(self, channel_id: bytes) -> Any:
        c = self.named(channel_id)
        refuse_unless(c["status"] != SETTLED, "already-settled")
        return c

    def disputable(self, c: Any) -> None:
        refuse_unless(c["status"] != SETTLED, "already-settled")
        refuse_unless(c["status"] == OPEN or self.now < c["deadline"], "deadline-passed")

    def show(self, states: list[Any]) -> dict[str, bytes]:
        """The channel's halves with these co-signed states joined in; equivocation is written first (L-39)."""
        c, equivocation = self.channel, False
        halves = {"half0": c["half0"], "half1": c["half1"]}
        for half0, half1, *_ in states:
            sound_half(half0), sound_half(half1)
        for half0, half1, *signatures in states:
            self.both_signed(signed_over("state", c, half0=half0, half1=half1), signatures, "bad-state-signature")
            for name, new in (("half0", half0), ("half1", half1)):
                halves[name], differ = join(halves[name], new)
                equivocation |= differ
        if equivocation:
            self.change("equivocation", [], **halves)
        return halves

    def both_signed(self, message: bytes, signatures: list[bytes], error: str, keys: Any = None) -> None:
        keys = keys or (self.channel["key0"], self.channel["key1"])
        for key, signature in zip(keys, signatures, strict=True):
            refuse_unless(verifies(key, message, signature), error)

    def settle(self, kind: str, **halves: bytes) -> None:
        c = {**self.channel, **halves}
        pot, out1 = share(c, *(int.from_bytes(c[name][8:16], "big") for name in ("half0", "half1")))
        paid = [(c["account0"], pot - out1), (c["account1"], out1)]
        self.change(kind, paid, **halves, status=SETTLED, out0=pot - out1, out1=out1)


def signed_over(kind: str, channel: Any, **fields: Any) -> bytes:
    given = {name: value.hex() if isinstance(value, bytes) else str(value) for name, value in fields.items()}
    return statement(kind, {**given, "channel_id": channel["channel_id"].hex()})


def operation(given: Json, _: Json) -> Json:
    """What one admitted request does to the books, or its refusal."""
    w = World(given)
    try:
        op, key, valid_until, a = request_blob(unhex(given["blob"]))
    except Refused:
        refuse("bad-request")
    refuse_unless(w.now <= valid_until, "expired")
    refuse_unless(valid_until <= w.now + LIFE_S, "too-far-ahead")
    if "units" in a:
        {"issue": issue, "redeem": redeem, "transfer": transfer, "topup": topup}[op](w, key, a)
    elif op in ("asset", "open"):
        {"asset": create_asset, "open": open_channel}[op](w, key, a)
    else:
        CHANGES[op](w, key, w.named(a["channel_id"]), a)
    shown = w.channel and {k: v.hex() if k in CHANNEL_BYTES else str(v) for k, v in w.channel.items()}
    return {"lines": w.lines, "channel": shown}


def sound_keys(*keys: bytes) -> None:
    try:
        [check_key(key) for key in keys]
    except Refused:
        refuse("key-refused")


def create_asset(w: World, key: bytes, a: Any) -> None:
    refuse_unless(key.hex() == w.rules["operator"], "not-operator")
    refuse_unless(bool(re.fullmatch(r"[A-Z][A-Z0-9]{0,11}", a["code"])) and a["scale"] <= 18, "asset-refused")
    refuse_unless(all(row["code"] != a["code"] for row in w.assets.values()), "asset-code-taken")
    sound_keys(a["issuer"])
    fields = {"ledger_id": w.rules["ledger_id"], "issuer": a["issuer"].hex(), "scale": a["scale"], "code": a["code"]}
    w.write("asset", [], "source", sha256(statement("asset id", fields))[:16] + bytes(16), 0)


def issue(w: World, key: bytes, a: Any) -> None:
    asset = w.asset(a["asset_id"])
    refuse_unless(key.hex() == asset["issuer"], "not-issuer")
    refuse_unless(a["units"] > 0, "zero-amount")
    sound_keys(a["account"])
    refuse_unless(int(asset["issued"]) + a["units"] <= TOP, "overflow")
    w.write("issue", [(a["account"], a["units"])], "source", a["asset_id"] + bytes(16), -a["units"])


def redeem(w: World, key: bytes, a: Any) -> None:
    w.asset(a["asset_id"])
    refuse_unless(a["units"] > 0, "zero-amount")
    w.check_funds(key, a["asset_id"], a["units"])
    w.write("redeem", [(key, -a["units"])], "source", a["asset_id"] + bytes(16), a["units"])


def transfer(w: World, key: bytes, a: Any) -> None:
    w.asset(a["asset_id"])
    refuse_unless(a["units"] > 0, "zero-amount")
    sound_keys(a["account"])
    w.check_funds(key, a["asset_id"], a["units"])
    lines = sorted([(key, -a["units"]), (a["account"], a["units"])])
    w.lines += [{"kind": "transfer", "holder": "account", "owner": o.hex(), "units": str(u)} for o, u in lines]


def open_channel(w: World, key: bytes, a: Any) -> None:
    w.asset(a["asset_id"])
    refuse_unless(key == a["account0"], "not-payer")
    terms = {name: value.hex() if isinstance(value, bytes) else value for name, value in a.items()}
    channel_id = sha256(statement("channel id", {**terms, "ledger_id": w.rules["ledger_id"]}))
    refuse_unless(not w.channel or w.channel["channel_id"] != channel_id, "already-open")
    refuse_unless(a["flags"] in (0, 1), "flags-unknown")
    in_bounds = int(w.rules["min_window_s"]) <= a["window_s"] <= int(w.rules["max_window_s"])
    refuse_unless(in_bounds, "window-out-of-bounds")
    refuse_unless(1 <= a["max_batch"] <= 4096, "batch-out-of-bounds")
    refuse_unless(a["deposit"] >= int(w.rules["min_deposit"]), "deposit-too-small")
    sound_keys(a["key0"], a["key1"], a["account1"])
    refuse_unless(a["key0"] != a["key1"], "key-refused")
    consent = statement("accepted", {"channel_id": channel_id.hex()})
    w.both_signed(consent, [a["accepted0"], a["accepted1"]], "bad-consent-signature", (a["key0"], a["key1"]))
    w.check_funds(key, a["asset_id"], a["deposit"])
    zero = dict.fromkeys(["status", "deposit1", "withdrawn0", "withdrawn1", "deadline", "out0", "out1"], 0)
    kept = {name: value for name, value in a.items() if name not in ("deposit", "accepted0", "accepted1")}
    halves = {"half0": bytes(88), "half1": bytes(88)}
    w.channel = {"channel_id": channel_id, **kept, **zero, **halves, "deposit0": a["deposit"]}
    w.write("open", [(key, -a["deposit"])], "channel", channel_id, a["deposit"])


def topup(w: World, key: bytes, a: Any) -> None:
    refuse_unless(a["units"] > 0, "zero-amount")
    c = w.live(a["channel_id"])
    w.check_funds(key, c["asset_id"], a["units"])
    refuse_unless(c["deposit0"] + c["deposit1"] + a["units"] <= TOP, "overflow")
    name = f"deposit{a['party']}"
    w.change("topup", [(key, -a["units"])], **{name: c[name] + a["units"]})


def withdraw(w: World, key: bytes, c: Any, a: Any) -> None:
    w.live(a["channel_id"])
    refuse_unless(w.now <= a["expiry"], "expired-agreement")
    message = signed_over("withdraw", c, party=a["party"], total=a["total"], expiry=a["expiry"])
    w.both_signed(message, [a["signature0"], a["signature1"]], "bad-withdraw-signature")
    name = f"withdrawn{a['party']}"
    units = a["total"] - c[name]
    refuse_unless(units > 0, "not-higher")
    refuse_unless(units <= share(c, 0, 0)[0], "beyond-pot")
    w.change("withdraw", [(c[f"account{a['party']}"], units)], **{name: a["total"]})


def claim(w: World, key: bytes, c: Any, a: Any) -> None:
    refuse_unless(key in (c["key1"], c["account1"]), "not-a-party")
    refuse_unless(c["flags"] == 1, "not-one-way")
    w.disputable(c)
    halves = w.show([a["state"]])
    _pot, units = share(c, *(int.from_bytes(halves[name][8:16], "big") for name in ("half0", "half1")))
    w.change("claim", [(c["account1"], units)], **halves, withdrawn1=c["withdrawn1"] + units)


def close_final(w: World, key: bytes, c: Any, a: Any) -> None:
    w.live(a["channel_id"])
    refuse_unless(w.now <= a["expiry"], "expired-agreement")
    halves = [sound_half(a["half0"]), sound_half(a["half1"])]
    message = signed_over("final", c, half0=halves[0], half1=halves[1], expiry=a["expiry"])
    w.both_signed(message, [a["signature0"], a["signature1"]], "bad-final-signature")
    (half0, differ0), (half1, differ1) = join(c["half0"], halves[0]), join(c["half1"], halves[1])
    if differ0 or differ1:
        w.change("equivocation", [], half0=half0, half1=half1)
    w.settle("close_final", half0=half0, half1=half1)


def close(w: World, key: bytes, c: Any, a: Any) -> None:
    refuse_unless(key in (c["key0"], c["key1"]), "not-a-party")
    w.disputable(c)
    halves = w.show(a["states"])
    if c["flags"] == 1 and key == c["key1"] and a["states"]:
        w.settle("settle", **halves)
    elif c["status"] == CLOSING:
        w.change("respond", [], **halves)
    else:
        w.change("close", [], **halves, status=CLOSING, deadline=w.now + c["window_s"])


def respond(w: World, key: bytes, c: Any, a: Any) -> None:
    w.live(a["channel_id"])
    refuse_unless(c["status"] == CLOSING, "not-closing")
    w.disputable(c)
    refuse_unless(bool(a["states"]), "no-state")
    w.change("respond", [], **w.show(a["states"]))


def settle(w: World, key: bytes, c: Any, a: Any) -> None:
    w.live(a["channel_id"])
    refuse_unless(c["status"] == CLOSING, "not-closing")
    refuse_unless(w.now >= c["deadline"], "deadline-not-reached")
    w.settle("settle")


CHANGES = {
    "withdraw": withdraw, "claim": claim, "close_final": close_final, "close": close, "respond": respond,
    "settle": settle,
}  # fmt: skip
