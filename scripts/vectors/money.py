"""batches.json and amounts.json."""

from __future__ import annotations

from typing import Any

from vectors.common import ISSUER, MEMO, PAYMENT_ID, USD, Case, case, hexed, made

from channelpay import amounts, batches, codec
from channelpay.store.payment_ids import id_time_ms


def raw_record(amount: int, payment_id: bytes = batches.NO_ID) -> bytes:
    return amount.to_bytes(8, "big") + payment_id


def batch_cases() -> list[Case]:
    one, top = raw_record(1, PAYMENT_ID), 2**63 - 1
    rows = {
        "one payment": (one, 4096),
        "two payments": (one + raw_record(99), 4096),
        "as many as agreed": (one * 3, 3),
        "the largest amount": (raw_record(top), 1),
        "the largest total": (raw_record(top - 1) + one, 2),
        "no payments": (b"", 4096),
        "one more than agreed": (one * 4, 3),
        "23 bytes": (one[:23], 4096),
        "25 bytes": (one + b"\0", 4096),
        "a payment of zero": (one + raw_record(0), 4096),
        "an amount above 2^63-1": (raw_record(top + 1), 4096),
        "the largest u64": (raw_record(2**64 - 1), 4096),
        "a total above 2^63-1": (raw_record(top) + one, 4096),
    }
    cases = [
        case(
            "records", n, {"records": hexed(r), "max_batch": str(m)}, lambda r=r, m=m: str(batches.records_total(r, m))
        )
        for n, (r, m) in rows.items()
    ]
    times = {
        "the example's": PAYMENT_ID,
        "the first": bytes(15) + b"\1",
        "the last": b"\xff" * 16,
        "in 1970": bytes(5) + b"\1" + bytes(10),
    }
    for name, payment_id in times.items():
        given = {"payment_id": payment_id.hex()}
        cases.append(made("payment id", name, given, {"time_ms": str(id_time_ms(payment_id))}))
    for name, (data, count) in memo_rows().items():
        given = {"memos": hexed(data), "count": str(count)}
        cases.append(case("memos", name, given, lambda d=data, c=count: pairs(d, c)))
    return cases


def pairs(data: bytes, count: int) -> Any:
    return [[str(index), hexed(memo)] for index, memo in batches.parse_memos(data, count)]


def memo_rows() -> dict[str, tuple[bytes, int]]:
    pack = codec.pack
    big = pack([[i, bytes(256)] for i in range(62)])
    return {
        "none": (b"", 1),
        "one": (pack([[0, MEMO]]), 1),
        "of the last payment": (pack([[4095, MEMO]]), 4096),
        "256 bytes": (pack([[0, bytes(256)]]), 1),
        "as many as fit": (big, 62),
        "an empty array": (pack([]), 1),
        "beyond the batch": (pack([[1, MEMO]]), 1),
        "the same index twice": (pack([[0, MEMO], [0, MEMO]]), 2),
        "falling": (pack([[1, MEMO], [0, MEMO]]), 2),
        "an empty memo": (pack([[0, b""]]), 1),
        "257 bytes": (pack([[0, bytes(257)]]), 1),
        "above 16 KiB": (pack([[i, bytes(256)] for i in range(63)]), 63),
        "text": (pack([[0, "piece 0"]]), 1),
        "a pair of three": (pack([[0, MEMO, 0]]), 1),
        "a negative index": (pack([[-1, MEMO]]), 1),
        "an index that is a boolean": (b"\x91\x92\xc2\xc4\x01\x00", 1),
        "no pair": (pack([0]), 1),
        "an index not in its shortest form": (b"\x91\x92\xcc\x00\xc4\x01\x00", 1),
        "a map": (b"\x81\x00\xc4\x01\x00", 1),
        "a byte more": (pack([[0, MEMO]]) + b"\0", 1),
        "cut off": (pack([[0, MEMO]])[:-1], 1),
    }


def amount_cases() -> list[Case]:
    texts = {
        6: [
            "0 USD",
            "1 USD",
            "0.0001 USD",
            "0.000001 USD",
            "1.5 USD",
            "1.500000 USD",
            "9223372036854.775807 USD",
            "",
            "9223372036854.775808 USD",
            "1",
            "1USD",
            "1  USD",
            " 1 USD",
            "1 USD ",
            "1\tUSD",
            "1\u00a0USD",
            "1 usd",
            "1 EUR",
            "-1 USD",
            "+1 USD",
            "1e3 USD",
            "1E3 USD",
            "1_000 USD",
            "1,5 USD",
            "1,000 USD",
            ".5 USD",
            "5. USD",
            "01 USD",
            "00 USD",
            "1.0000000 USD",
            "0.0000001 USD",
            "\u0661 USD",
            "\uff11 USD",
            "NaN USD",
            "0x1 USD",
            "Infinity USD",
            "1.2.3 USD",
            "USD 1",
            "USD",
            "1 USD\n",
            "99999999999999999999 USD",
            "9" * 400 + " USD",
        ],
        0: ["1 USD", "9223372036854775807 USD", "9223372036854775808 USD", "1.0 USD"],
        18: ["0.000000000000000001 USD", "9.223372036854775807 USD", "9.223372036854775808 USD", "10 USD"],
    }
    cases = []
    for scale, rows in texts.items():
        asset = amounts.Asset(USD, "USD", scale, ISSUER.account.public)
        for text in rows:
            given = {"text": text, "code": "USD", "scale": str(scale)}
            name = f"{text[:32]!r} at scale {scale}"
            cases.append(case("parse", name, given, lambda t=text, a=asset: str(amounts.parse_amount(t, a))))
        for units in (0, 1, 100, 1_500_000, 2**63 - 1):
            given = {"units": str(units), "code": "USD", "scale": str(scale)}
            cases.append(
                case("print", f"{units} at scale {scale}", given, lambda u=units, a=asset: amounts.format_units(u, a))
            )
    for code in ("A", "USD", "X9", "ABCDEFGHIJKL", "", "usd", "9X", "ABCDEFGHIJKLM", "U D", "USD\n", "\u00c9UR", "U-D"):
        cases.append(case("code", repr(code), {"code": code}, lambda c=code: amounts.check_code(c)))
    return cases
