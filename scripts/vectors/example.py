"""example.json: one payment on the wire, and how chapter 5 prints it."""

from __future__ import annotations

from vectors.common import BUYER, CHANNEL, GENESIS, MEMO, PAYMENT_ID, SALT0, SALT1, SELLER, TERMS, Case, made

from channelpay import batches, codec, statements
from channelpay.messages import peer


def example() -> Case:
    """One payment of 0.0001 USD from PAY to ACK; the two frames cut into their parts."""
    records, memos = batches.pack_record(100, PAYMENT_ID), batches.pack_memos([(0, MEMO)])
    h = statements.link(CHANNEL, 0, GENESIS, 1, 1, records, memos)
    paid = statements.Half(1, 100, h)
    state = statements.state_bytes(CHANNEL, paid, statements.ZERO_HALF)
    buyer, seller = BUYER.channel(0), SELLER.channel(0)
    pay = peer.Pay(CHANNEL, 1, records, memos, 0, buyer.sign(state))
    ack = peer.Ack(CHANNEL, 1, 0, seller.sign(state))
    given = {k: v.hex() if isinstance(v, bytes) else str(v) for k, v in TERMS._asdict().items()}
    given |= {
        "salt0": SALT0.hex(),
        "salt1": SALT1.hex(),
        "amount": "100",
        "payment_id": PAYMENT_ID.hex(),
        "memo": MEMO.hex(),
    }
    expect = {
        "channel_id": CHANNEL.hex(),
        "genesis": GENESIS.hex(),
        "records": records.hex(),
        "memos": memos.hex(),
        "h": h.hex(),
        "half0": paid.pack().hex(),
        "half1": statements.ZERO_HALF.pack().hex(),
        "state": state.hex(),
        "pay_parts": cut(
            pay,
            [
                "the channel",
                "first_n",
                "one payment in 24 bytes",
                "the memo of payment 0",
                "ack_n",
                "by key0, over STATE",
            ],
        ),
        "ack_parts": cut(ack, ["the channel", "n", "own_n", "by key1, over the same STATE"]),
        "pay": pay.to_frame().hex(),
        "ack": ack.to_frame().hex(),
    }
    return made("example", "one payment of 0.0001 USD", given, expect)


def cut(message: peer.Message, meanings: list[str]) -> list[list[str]]:
    """[hexadecimal, meaning] of every part of a frame, in order."""
    frame = message.to_frame()
    found = [
        [frame[:4].hex(), f"length: {len(frame) - 4}"],
        [frame[4:5].hex(), f"type {type(message).__name__.upper()}"],
    ]
    found.append([frame[5:6].hex(), f"an array of {len(message._fields)}"])
    for (name, _), value, meaning in zip(message._fields, message.to_wire(), meanings, strict=True):
        head, body = codec.pack(value), b""
        if isinstance(value, bytes):
            head, body = head[: -len(value)], value
            found.append([head.hex(), f"{name}: {len(body)} bytes"])
        found.append([(body or head).hex(), f"{name}: {meaning}" if meaning != name else f"{name} = {value}"])
    return found


def example_text(found: Case) -> str:
    """The example as chapter 5 prints it."""
    given, expect = found["input"], found["expect"]
    lines = ["```text"]
    for name in ("ledger_id", "asset_id", "key0", "key1", "account0", "account1", "open_nonce", "salt0", "salt1"):
        lines.append(f"{name:11} {given[name]}")
    lines += [f"flags {given['flags']}, window_s {given['window_s']}, max_batch {given['max_batch']}", ""]
    for name in ("channel_id", "genesis", "records", "memos", "h", "half0", "half1", "state"):
        pieces = [expect[name][i : i + 64] for i in range(0, len(expect[name]), 64)]
        lines += [f"{name if i == 0 else '':11} {piece}" for i, piece in enumerate(pieces)]
    for name in ("pay", "ack"):
        lines += ["", f"{name.upper()}, {len(expect[name]) // 2} bytes"]
        for data, meaning in expect[f"{name}_parts"]:
            pieces = [data[i : i + 64] for i in range(0, len(data), 64)]
            lines += [f"  {piece:64}  {meaning if i == 0 else ''}".rstrip() for i, piece in enumerate(pieces)]
    return "\n".join([*lines, "```", ""])
