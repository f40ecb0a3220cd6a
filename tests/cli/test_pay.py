"""pay, payments, payment. Spec N-20 to N-22."""

from __future__ import annotations

from typing import Any

import pytest

from channelpay.batches import Batch, pack_memos, pack_record
from channelpay.errors import Reason
from channelpay.messages import control as wire
from cli_shell import CHANNEL, EUR, Shell, one
from fakedaemon import HANG_UP, SILENCE, Answer, Refusal

ID = CHANNEL.channel_id.hex()
UUID = "0192e4a0-7c1b-7d3e-8f00-000000000001"
PAYMENT = bytes.fromhex(UUID.replace("-", ""))
OTHER_CHANNEL = b"\xee" * 32


@pytest.fixture
def node(shell: Shell) -> Shell:
    """A daemon with one channel that pays whatever it is asked to."""
    shell.answers |= {
        "channel": lambda method: one() if ID.startswith(method.prefix) else one(channel_id=OTHER_CHANNEL),
        "pay": lambda request: wire.Paid(request.call_id, 4, 1, 0),
        "pay_many": lambda request: wire.Paid(request.call_id, 4, len(request.records) // 24, 0),
    }
    return shell


@pytest.mark.parametrize("amount", [["0.0001 USD"], ["0.0001", "USD"], ["0.000100  USD"]])
def test_pay_sends_one_payment_with_a_fresh_id(node: Shell, amount: list[str]) -> None:
    result = node.run("pay", "3f2a", *amount)
    assert result.exit_code == 0
    asked, paid = node.calls
    assert asked == wire.ShowChannel("3f2a")
    (payment,) = Batch(1, paid.records, paid.memos).payments()
    assert (paid.channel_id, payment.amount, payment.memo) == (CHANNEL.channel_id, 100, b"")
    assert payment.payment_id[6] >> 4 == 7  # a UUIDv7
    assert result.stdout == f"paid 0.000100 USD: payment 4, id {payment.payment_id.hex()}\n"


def test_two_payments_have_two_ids(node: Shell) -> None:
    first, second = (node.json("pay", "3f", "1 USD")["id"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("text", [UUID, UUID.upper(), PAYMENT.hex()])
def test_pay_with_an_id_and_a_memo(node: Shell, text: str) -> None:
    shown = node.json("pay", "3f", "2 USD", "--id", text, "--memo", "page 7 \u00e9")
    memos = pack_memos([(0, "page 7 é".encode())])
    assert node.calls[-1] == wire.PayEach(
        node.calls[-1].call_id, CHANNEL.channel_id, pack_record(2_000_000, PAYMENT), memos
    )
    assert shown == {
        "channel": ID,
        "first_n": 4,
        "count": 1,
        "amount": {"units": "2000000", "text": "2.000000 USD"},
        "total": {"units": "2000000", "text": "2.000000 USD"},
        "id": PAYMENT.hex(),
        "repeated": False,
    }


def test_pay_again_with_the_same_id_says_that_nothing_was_paid(node: Shell) -> None:
    node.answers["pay"] = lambda request: wire.Paid(request.call_id, 2, 1, 1)
    assert node.run("pay", "3f", "1 USD", "--id", UUID).stdout == (
        "paid before: this id is payment 2; nothing was paid now\n"
    )
    assert node.json("pay", "3f", "1 USD", "--id", UUID)["repeated"] is True


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["3f"], "Missing argument"),
        (["3f", "1"], "is no amount"),
        (["3f", "1 EUR"], "'1 EUR' is in EUR; this needs USD"),
        (["3f", "0 USD"], "a payment is at least one unit"),
        (["3f", "-1", "USD"], "'-1' has a sign"),
        (["3f", "1", "USD", "now"], "'1 USD now' is no amount"),
        (["3f", "1 USD", "--id", "7"], "'7' is no payment id: write 32 hexadecimal digits or a UUID"),
        (["3f", "1 USD", "--id", "00" * 16], "stands for no id"),
        (["3f", "1 USD", "--id", "-" * 32], "is no payment id"),
        (["3f", "1 USD", "--memo", "x" * 257], "a memo of 257 bytes; at most 256"),
        (["3f", "1 USD", "--memo", "é" * 129], "a memo of 258 bytes"),
        (["3f", "1 USD", "--count", "0"], "is not in the range"),
        (["3f", "1 USD", "--count", "2", "--id", UUID], "leave --id and --memo out"),
        (["3f", "1 USD", "--count", "1", "--memo", "x"], "leave --id and --memo out"),
        (["seller", "1 USD"], "is no channel"),
        (["3f", "1 USD", "--timeout", "0"], "is not in the range x>0"),
        (["3f", "1 USD", "--wait", "-1"], "is not in the range x>=0"),
        (["3f", "1 USD", "--jsno"], "No such option '--jsno'"),
    ],
)
def test_wrong_input_pays_nothing(node: Shell, args: list[str], message: str) -> None:
    code, text = node.fails("pay", *args)
    assert code == 2
    assert message in text.replace("No such option: --jsno", "No such option '--jsno'")
    assert not [call for call in node.calls if not isinstance(call, wire.ShowChannel)]


def test_a_daemon_that_does_not_tell_the_asset_is_a_bug(node: Shell) -> None:
    node.answers["channel"] = lambda _: wire.ChannelOne(CHANNEL, (EUR,))
    assert node.fails("pay", "3f", "1 USD") == (1, "the daemon did not tell the asset of this channel")


@pytest.mark.parametrize("behaviour", [HANG_UP, SILENCE])
def test_a_payment_cut_off_is_unknown_and_says_how_to_find_out(node: Shell, behaviour: str) -> None:
    node.answers["pay"] = lambda _: behaviour
    code, text = node.fails("pay", "3f", "1 USD", "--id", UUID, "--timeout", "0.05")
    assert code == 6
    assert f"'channelpay payment {PAYMENT.hex()}' tells; paying again with --id {PAYMENT.hex()} is safe" in text


@pytest.mark.parametrize(
    ("reason", "code"), [(Reason.INSUFFICIENT_BALANCE, 4), (Reason.PEER_UNREACHABLE, 5), (Reason.TIMED_OUT, 6)]
)
def test_a_refused_payment_names_its_reason(node: Shell, reason: Reason, code: int) -> None:
    def refuse(_: Any) -> Answer:
        raise Refusal(reason, "balance 0.5 USD")

    node.answers["pay"] = refuse
    assert node.json("pay", "3f", "1 USD", code=code)["error"] == {
        "code": code,
        "reason": str(reason),
        "message": "balance 0.5 USD",
    }


def test_count_pays_in_bulk(node: Shell) -> None:
    shown = node.json("pay", "3f", "0.0001 USD", "--count", "5000")
    bulks = [call for call in node.calls if isinstance(call, wire.PayMany)]
    assert b"".join(bulk.records for bulk in bulks) == pack_record(100) * 5000
    assert [len(bulk.records) // 24 for bulk in bulks] == [4096, 904]
    assert shown == {
        "channel": ID,
        "first_n": 4,
        "count": 5000,
        "amount": {"units": "100", "text": "0.000100 USD"},
        "total": {"units": "500000", "text": "0.500000 USD"},
    }
    assert node.run("pay", "3f", "1 USD", "--count", "1").stdout == "paid 1 times 1.000000 USD, 1.000000 USD in all\n"


def test_a_bulk_that_is_refused_in_the_middle_tells_how_many_were_made(node: Shell) -> None:
    done: list[int] = []

    def pay_many(request: wire.PayMany) -> Answer:
        done.append(request.call_id)
        if len(done) > 1:
            raise Refusal(Reason.INSUFFICIENT_BALANCE, "not enough")
        return wire.Paid(request.call_id, 1, 4096, 0)

    node.answers["pay_many"] = pay_many
    assert node.fails("pay", "3f", "1 USD", "--count", "9000") == (
        4,
        "4096 of 9000 payments were made, then: not enough",
    )


def test_a_bulk_cut_off_is_unknown(node: Shell) -> None:
    node.answers["pay_many"] = lambda _: HANG_UP
    code, text = node.fails("pay", "3f", "1 USD", "--count", "2")
    assert code == 6
    assert "'channelpay channel show 3f2a11111111' tells how many payments" in text


@pytest.mark.parametrize(("status", "name"), [(1, "queued"), (2, "sent"), (3, "paid")])
def test_payment_tells_what_became_of_an_id(node: Shell, status: int, name: str) -> None:
    n = 0 if status == 1 else 9
    node.answers["payment"] = lambda _: wire.PaymentView(status, CHANNEL.channel_id, n, 100, PAYMENT)
    assert node.json("payment", UUID) == {
        "id": PAYMENT.hex(),
        "status": name,
        "channel": ID,
        "n": n,
        "amount": {"units": "100", "text": "0.000100 USD"},
    }
    number = "" if status == 1 else ", payment 9"
    assert node.run("payment", UUID).stdout == f"{name}: 0.000100 USD on channel {ID}{number}\n"


def test_payment_of_an_unknown_id_is_refused(node: Shell) -> None:
    node.answers["payment"] = lambda _: wire.PaymentView(0, None, 0, 0, PAYMENT)
    assert node.fails("payment", UUID) == (4, f"this node has made no payment with id {PAYMENT.hex()}")
    assert node.json("payment", UUID, code=4)["error"]["reason"] == "unknown-payment"


BATCH = wire.ReceivedBatch(
    position=10,
    channel_id=CHANNEL.channel_id,
    kind=wire.ENTRY_PAYMENTS,
    first_n=1,
    count=3,
    total=600,
    records=pack_record(100, PAYMENT) + pack_record(200) + pack_record(300, PAYMENT),
    memos=pack_memos([(0, b"hello"), (1, b"\xff\x00"), (2, b"\x1b[2J")]),
    repeated=(2,),
)
UNAVAILABLE = wire.ReceivedBatch(13, OTHER_CHANNEL, wire.ENTRY_UNAVAILABLE, 1, 50, 5000, b"", b"", ())


def journal(method: wire.Payments) -> wire.ReceivedPage:
    """A journal of two entries: three payments, then fifty whose records are lost."""
    rest = tuple(batch for batch in (BATCH, UNAVAILABLE) if batch.position + len(batch.records) // 24 >= method.after)
    if method.after >= 14:
        return wire.ReceivedPage((), method.after)
    return wire.ReceivedPage(rest, 14)


def test_received_payments_for_programs(node: Shell) -> None:
    node.answers["payments"] = journal
    shown = node.json("payments", "--after", "10")
    assert shown["cursor"] == 14
    assert shown["payments"] == [
        {
            "position": 10, "cursor": 11, "channel": ID, "n": 1, "covers": 1,
            "amount": {"units": "100", "text": "0.000100 USD"},
            "id": PAYMENT.hex(), "memo": "hello", "memo_hex": "68656c6c6f", "repeated": False,
        },
        {
            "position": 11, "cursor": 12, "channel": ID, "n": 2, "covers": 1,
            "amount": {"units": "200", "text": "0.000200 USD"},
            "id": None, "memo": None, "memo_hex": "ff00", "repeated": False,
        },
        {
            "position": 12, "cursor": 13, "channel": ID, "n": 3, "covers": 1,
            "amount": {"units": "300", "text": "0.000300 USD"},
            "id": PAYMENT.hex(), "memo": None, "memo_hex": "1b5b324a", "repeated": True,
        },
        {
            "position": 13, "cursor": 14, "channel": OTHER_CHANNEL.hex(), "n": 1, "covers": 50,
            "amount": {"units": "5000", "text": "0.005000 USD"},
            "id": None, "memo": None, "memo_hex": None, "repeated": False,
        },
    ]  # fmt: skip


def test_received_payments_for_people(node: Shell) -> None:
    node.answers["payments"] = journal
    assert [line.split() for line in node.run("payments", "--after", "10").stdout.splitlines()] == [
        ["NUMBER", "CHANNEL", "AMOUNT", "ID", "MEMO"],
        ["10", ID[:12], "0.000100", "USD", PAYMENT.hex(), "hello"],
        ["11", ID[:12], "0.000200", "USD", "ff00"],
        ["12", ID[:12], "0.000300", "USD", PAYMENT.hex(), "1b5b324a", "(repeated)"],
        ["13", "eeeeeeeeeeee", "0.005000", "USD", "(50", "payments,", "records", "unavailable)"],
    ]


@pytest.mark.parametrize(
    ("args", "positions", "cursor"),
    [
        (["--after", "10", "--limit", "2"], [10, 11], 12),
        (["--after", "12"], [12, 13], 14),
        (["--after", "14"], [], 14),
        (["--after", "10", "--channel", "3f2a"], [10, 11, 12], 14),
        (["--after", "10", "--channel", "3f2a", "--limit", "1"], [10], 11),
        (["--after", "10", "--channel", "ee"], [13], 14),
    ],
)
def test_the_cursor_goes_on_where_the_last_page_ended(
    node: Shell, args: list[str], positions: list[int], cursor: int
) -> None:
    node.answers["payments"] = journal
    shown = node.json("payments", *args)
    assert ([row["position"] for row in shown["payments"]], shown["cursor"]) == (positions, cursor)


def test_follow_prints_a_line_for_each_payment_as_it_comes(node: Shell) -> None:
    def endless(method: wire.Payments) -> Answer:
        assert method.wait == 1
        return journal(method) if method.after < 14 else HANG_UP

    node.answers["payments"] = endless
    result = node.run("payments", "--after", "10", "--follow")
    assert result.exit_code == 3  # the daemon went away
    assert result.stdout.splitlines()[:2] == [
        f"10 {ID[:12]} 0.000100 USD {PAYMENT.hex()} hello",
        f"11 {ID[:12]} 0.000200 USD ff00",
    ]
    lines = node.run("payments", "--after", "12", "--follow", "--json").stdout.splitlines()
    assert len(lines) == 3  # two payments and the error
    assert '"position": 12' in lines[0]
    assert '"reason": "not-reachable"' in lines[2]


def history(method: wire.History) -> wire.HistoryPage:
    """Three payments in two batches; a page has one batch."""
    first = wire.HistoryBatch(1, pack_record(100, PAYMENT) * 2, b"")
    second = wire.HistoryBatch(3, pack_record(100), pack_memos([(0, b"last")]))
    return wire.HistoryPage((first,), 3) if method.from_n < 3 else wire.HistoryPage((second,), 4)


@pytest.mark.parametrize(
    ("args", "numbers", "cursor"),
    [([], [1, 2, 3], 3), (["--after", "1"], [2, 3], 3), (["--limit", "2"], [1, 2], 2), (["--after", "3"], [], 3)],
)
def test_sent_payments_come_from_the_history(node: Shell, args: list[str], numbers: list[int], cursor: int) -> None:
    node.answers["history"] = history
    shown = node.json("payments", "--sent", "--channel", "3f2a", *args)
    assert ([row["n"] for row in shown["payments"]], shown["cursor"]) == (numbers, cursor)
    assert all(call.payer == CHANNEL.side for call in node.calls if isinstance(call, wire.History))


def test_sent_payments_for_people(node: Shell) -> None:
    node.answers["history"] = history
    lines = node.run("payments", "--sent", "--channel", "3f").stdout.splitlines()
    assert lines[3].split() == ["3", ID[:12], "0.000100", "USD", "last"]


def test_a_history_that_goes_nowhere_ends(node: Shell) -> None:
    node.answers["history"] = lambda method: wire.HistoryPage((), method.from_n)
    assert node.json("payments", "--sent", "--channel", "3f")["payments"] == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sent"], "--sent needs --channel"),
        (["--sent", "--channel", "3f", "--follow"], "leave --sent or --follow out"),
        (["--after", "-1"], "is not in the range"),
        (["--limit", "0"], "is not in the range"),
        (["--after", "x"], "is not a valid integer"),
    ],
)
def test_wrong_questions(node: Shell, args: list[str], message: str) -> None:
    code, text = node.fails("payments", *args)
    assert code == 2
    assert message in text
