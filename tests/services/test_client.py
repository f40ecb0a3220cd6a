"""The client's methods, against a node in memory that runs in the same process."""

from dataclasses import replace

import pytest
import trio
import trio.testing

from channelpay.amounts import Asset
from channelpay.batches import NO_ID
from channelpay.errors import AmountError, LocalError, Reason
from channelpay.messages import control
from channelpay.services.backend import InProcess
from channelpay.services.client import Client
from channelpay.services.exceptions import NotReachable, PartlyPaid, PaymentUnknown
from channelpay.services.ids import new_payment_id
from channelpay.services.values import (
    Balance,
    PaidMany,
    Payment,
    PaymentState,
    PaymentStatus,
    ReceivedPayment,
)
from channelpay.statements import FLAG_ONE_WAY
from services.fake_daemon import CHANNEL, USD, FakeNode, channel_info

USD_ASSET = Asset(USD.asset_id, "USD", 6, USD.issuer)
OTHER = bytes(range(1, 33))


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def client(node):
    return Client(InProcess(node))


async def taken(iterator, count):
    """The first `count` things of an endless iterator."""
    found = []
    async for item in iterator:
        found.append(item)
        if len(found) == count:
            break
    return found


# --- Paying ---


async def test_pay_in_units_and_in_words(client, node):
    payment_id = new_payment_id()
    assert await client.pay(CHANNEL, 100) == Payment(CHANNEL, 1, 100, None, b"")
    paid = await client.pay(CHANNEL.hex(), "0.0001 USD", payment_id=payment_id, memo=b"for tea")
    assert paid == Payment(CHANNEL, 2, 100, payment_id, b"for tea", repeated=False)
    assert node.made == [(CHANNEL, 100, NO_ID, b""), (CHANNEL, 100, payment_id, b"for tea")]


async def test_a_channel_may_be_given_as_object_bytes_hex_or_its_first_digits(client, node):
    channel = await client.channel("0001")
    for name in (channel, channel.id, str(channel), "000102"):
        await client.pay(name, 1)
    assert [made[0] for made in node.made] == [CHANNEL] * 4


async def test_paying_again_with_the_same_id_gives_the_first_payment_back(client, node):
    payment_id = new_payment_id()
    first = await client.pay(CHANNEL, 5, payment_id=payment_id)
    again = await client.pay(CHANNEL, 5, payment_id=payment_id)
    assert (again.n, first.repeated, again.repeated) == (first.n, False, True)
    assert len(node.made) == 1


@pytest.mark.parametrize("amount", [0, -1, 2**63, True, 1.5, None, "0.0000001 USD", "1 EUR", "1e3 USD", "0 USD"])
async def test_what_is_no_amount_is_not_paid(client, node, amount):
    with pytest.raises(AmountError):
        await client.pay(CHANNEL, amount)
    assert node.made == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"payment_id": b"short"}, Reason.USAGE),
        ({"payment_id": NO_ID}, Reason.USAGE),
        ({"memo": bytes(257)}, Reason.USAGE),
        ({"memo": "text"}, Reason.USAGE),
        ({"channel": b"short"}, Reason.UNKNOWN_CHANNEL),
        ({"channel": "ffff"}, Reason.UNKNOWN_CHANNEL),
        ({"channel": bytes(32)}, Reason.UNKNOWN_CHANNEL),
        ({"amount": 10**13}, Reason.INSUFFICIENT_BALANCE),
    ],
)
async def test_what_the_client_or_the_node_refuses(client, node, options, reason):
    options = {"channel": CHANNEL, "amount": 1, **options}
    with pytest.raises(LocalError) as caught:
        await client.pay(options.pop("channel"), options.pop("amount"), **options)
    assert caught.value.reason is reason
    assert node.made == []


async def test_pay_many(client, node):
    payment_id = new_payment_id()
    orders = [1, "0.000002 USD", (3, payment_id, b"three"), ("0.000004 USD", None, b"")]
    assert await client.pay_many(CHANNEL, iter(orders)) == PaidMany(CHANNEL, 1, 4, 10, False)
    assert [made[1:] for made in node.made] == [
        (1, NO_ID, b""), (2, NO_ID, b""), (3, payment_id, b"three"), (4, NO_ID, b""),
    ]  # fmt: skip


async def test_pay_many_beyond_the_balance_tells_what_was_paid(client, node):
    node.channels[CHANNEL] = channel_info(deposit=5000)
    with pytest.raises(PartlyPaid) as caught:
        await client.pay_many(CHANNEL, [1] * 10_000)
    assert caught.value.paid == (range(0, 4096),)
    assert caught.value.cause.reason is Reason.INSUFFICIENT_BALANCE
    assert len(node.made) == 4096


@pytest.mark.parametrize("reason", [Reason.TIMED_OUT, Reason.UNKNOWN_OUTCOME])
async def test_a_payment_of_which_the_node_cannot_tell_is_unknown_and_not_refused(reason):
    class Stopping(FakeNode):
        def pay_each(self, message, done):
            done(control.Refusal(message.call_id, LocalError(reason, "the node stopped before")))

        def pay_many(self, message, done):
            done(LocalError(reason, "the first 2 had been sent before"))

    client, payment_id = Client(InProcess(Stopping())), new_payment_id()
    with pytest.raises(PaymentUnknown, match="the node stopped before") as caught:
        await client.pay(CHANNEL, 5, payment_id=payment_id)
    assert (caught.value.channel_id, caught.value.payment_id) == (CHANNEL, payment_id)
    with pytest.raises(PaymentUnknown, match="the first 2 had been sent before"):
        await client.pay_many(CHANNEL, [5, 6, 7])


async def test_the_status_of_a_payment(client):
    payment_id = new_payment_id()
    assert (await client.payment(payment_id)).state is PaymentState.UNKNOWN
    await client.pay(CHANNEL, 5, payment_id=payment_id)
    assert await client.payment(payment_id, CHANNEL) == PaymentStatus(PaymentState.PAID, payment_id, CHANNEL, 1, 5)
    with pytest.raises(LocalError):
        await client.payment(b"short")


async def test_a_payment_status_of_another_version_is_no_answer(node):
    class Later(FakeNode):
        async def call(self, method):
            return control.PaymentView(9, None, 0, 0, method.payment_id)

    with pytest.raises(NotReachable, match="another version"):
        await Client(InProcess(Later())).payment(new_payment_id())


# --- Being paid ---


async def test_payments_come_in_order_over_all_batches(client, node):
    ids = [new_payment_id() for _ in range(5)]
    await node.receive((1, ids[0], b""), (2, NO_ID, b"memo"))
    await node.receive((3, ids[2], b""), (1, ids[0], b""), repeated=(1,))
    assert await taken(client.payments(), 4) == [
        ReceivedPayment(0, 1, CHANNEL, 1, 1, ids[0], b"", False),
        ReceivedPayment(1, 2, CHANNEL, 2, 2, None, b"memo", False),
        ReceivedPayment(2, 3, CHANNEL, 3, 3, ids[2], b"", False),
        ReceivedPayment(3, 4, CHANNEL, 4, 1, ids[0], b"", True),
    ]


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4, 5])
async def test_each_cursor_continues_exactly_after_it(client, node, after):
    """Also in the middle of a batch, which the node gives whole."""
    await node.receive(*((amount, NO_ID, b"") for amount in (10, 20, 30)))
    await node.receive(*((amount, NO_ID, b"") for amount in (40, 50, 60)))
    rest = await taken(client.payments(after=after), 6 - after)
    assert [payment.amount for payment in rest] == [10, 20, 30, 40, 50, 60][after:]
    assert [payment.cursor for payment in rest] == list(range(after + 1, 7))


async def test_nothing_is_forgotten_until_the_caller_moves_its_cursor(client, node):
    await node.receive((7, NO_ID, b""))
    first, second = await taken(client.payments(0), 1), await taken(client.payments(0), 1)
    assert first == second


async def test_payments_without_records_are_told_as_one(client, node):
    await node.receive((1, NO_ID, b""))
    await node.receive_unavailable(count=30, total=900)
    await node.receive((2, NO_ID, b""))
    _, gap, last = await taken(client.payments(), 3)
    assert gap == ReceivedPayment(1, 2, CHANNEL, 2, 900, None, b"", False, covers=30)
    assert (last.position, last.cursor, last.n) == (2, 3, 32)


async def test_payments_waits_for_the_next_one(client, node, nursery):
    got = []

    async def watch():
        got.extend(await taken(client.payments(), 2))

    nursery.start_soon(watch)
    await trio.testing.wait_all_tasks_blocked()
    await node.receive((1, NO_ID, b""))
    await node.receive((2, NO_ID, b""))
    await trio.testing.wait_all_tasks_blocked()
    assert [payment.amount for payment in got] == [1, 2]


async def test_a_cancelled_wait_for_a_payment_takes_nothing_away(client, node, nursery):
    payments = client.payments()
    for amount in (1, 2, 3):
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(payments)
        assert scope.cancelled_caught
        await node.receive((amount, NO_ID, b""))
        assert (await anext(payments)).amount == amount


async def test_more_is_asked_for_only_when_what_came_is_used_up(client, node):
    for _ in range(5):
        await node.receive(*((1, NO_ID, b""),) * 4096)
    payments = client.payments()
    for _ in range(4096):
        await anext(payments)
    assert [method.after for method in node.calls] == [0]
    await anext(payments)
    assert [method.after for method in node.calls] == [0, 4096]


async def test_payment_batches_give_the_bytes(client, node):
    await node.receive((1, NO_ID, b""), (2, NO_ID, b"x"))
    (batch,) = await taken(client.payment_batches(), 1)
    assert (len(batch.record.records), batch.cursor) == (48, 2)
    assert [payment.amount for payment in batch.payments()] == [1, 2]


# --- Channels and the rest ---


async def test_open_channel(client, node):
    channel = await client.open_channel("cp1peer@127.0.0.1:1", "5 USD", one_way=True, window_s=60, max_batch=16)
    assert node.calls[-1] == control.OpenChannel("cp1peer@127.0.0.1:1", USD.asset_id, 5_000_000, FLAG_ONE_WAY, 60, 16)
    assert (channel.balance, channel.text(channel.balance), channel.phase) == (5_000_000, "5.000000 USD", "open")
    await client.pay(channel, "1 USD")
    await client.open_channel("cp1peer@127.0.0.1:1", 7, asset=USD_ASSET)
    assert node.calls[-1] == control.OpenChannel("cp1peer@127.0.0.1:1", USD.asset_id, 7, 0, 0, 0)


async def test_a_deposit_must_say_which_asset(client):
    with pytest.raises(AmountError, match="units of what"):
        await client.open_channel("cp1peer@127.0.0.1:1", 5)
    with pytest.raises(LocalError, match="no asset EUR") as caught:
        await client.open_channel("cp1peer@127.0.0.1:1", "5 EUR")
    assert caught.value.reason is Reason.UNKNOWN_ASSET
    with pytest.raises(AmountError):
        await client.open_channel("cp1peer@127.0.0.1:1", 0, asset=USD_ASSET)


async def test_two_assets_of_the_same_code_must_be_told_apart():
    class Twins(FakeNode):
        async def call(self, method):
            twin = control.AssetView(b"V" * 16, "USD", 2, b"J" * 32)
            return control.AssetList((USD, twin)) if method == control.ListAssets() else await super().call(method)

    client = Client(InProcess(Twins()))
    with pytest.raises(LocalError, match="2 assets"):
        await client.open_channel("cp1peer@127.0.0.1:1", "5 USD")
    opened = await client.open_channel("cp1peer@127.0.0.1:1", "5 USD", asset=USD_ASSET)
    assert opened.asset == USD_ASSET


async def test_close_topup_withdraw_claim(client, node):
    assert (await client.topup(CHANNEL, "1 USD")).info.deposit0 == 10**12 + 10**6
    assert (await client.close_channel(CHANNEL, force=True, wait=False)).phase == "settled"
    assert node.calls[-1] == control.CloseChannel(CHANNEL, 1, 0)
    for call in (client.withdraw(CHANNEL, 5), client.claim(CHANNEL)):
        with pytest.raises(LocalError):  # the node in memory knows neither
            await call
    assert node.calls[-2:] == [control.WithdrawChannel(CHANNEL, 5), control.ClaimChannel(CHANNEL)]


async def test_channels_come_page_by_page():
    node = FakeNode(*(channel_info(bytes([index]) * 32) for index in range(5)))
    channels = await Client(InProcess(node)).channels(settled=True)
    assert [channel.id[0] for channel in channels] == [0, 1, 2, 3, 4]
    assert node.calls == [control.ListChannels(after and bytes([after]) * 32, 1) for after in (None, 1, 3)]


async def test_a_node_that_has_just_started_names_the_assets_a_little_later():
    class Starting(FakeNode):
        async def call(self, method):
            answer = await super().call(method)
            return answer if isinstance(method, control.ListAssets) else replace(answer, assets=())

    client = Client(InProcess(Starting()))
    assert (await client.channel(CHANNEL)).asset == USD_ASSET
    (balance,) = await Client(InProcess(Starting())).balance()
    assert balance.asset == USD_ASSET


async def test_an_asset_that_the_ledger_does_not_know_is_told():
    class Strange(FakeNode):
        async def call(self, method):
            return replace(await super().call(method), assets=())

    with pytest.raises(LocalError, match="no asset 5555") as caught:
        await Client(InProcess(Strange())).channels()
    assert caught.value.reason is Reason.UNKNOWN_ASSET


async def test_balance(client):
    (balance,) = await client.balance()
    assert balance == Balance(USD_ASSET, 5_000_000, 250_000)
    assert str(balance) == "5.000000 USD on the ledger, 0.250000 USD in channels"


async def test_history(client):
    ids = [new_payment_id() for _ in range(10)]
    for payment_id in ids:
        await client.pay(CHANNEL, 3, payment_id=payment_id)
    assert [payment async for payment in client.history(CHANNEL, from_n=4)] == [
        Payment(CHANNEL, n, 3, ids[n - 1], b"") for n in range(4, 11)
    ]


async def test_history_asks_for_the_right_payer(client, node):
    await client.pay(CHANNEL, 1)
    _ = [payment async for payment in client.history(CHANNEL)]
    _ = [payment async for payment in client.history(CHANNEL, received=True)]
    payers = [method.payer for method in node.calls if isinstance(method, control.History)]
    assert (payers[0], payers[-1]) == (0, 1)


async def test_an_answer_of_the_wrong_kind_is_told():
    class Wrong(FakeNode):
        async def call(self, method):
            return control.Empty()

    with pytest.raises(TypeError, match="balance"):
        await Client(InProcess(Wrong())).balance()
