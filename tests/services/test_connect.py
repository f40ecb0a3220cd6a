"""Connecting to a daemon's socket, again after a loss, and the node inside the process."""

from contextlib import asynccontextmanager

import pytest
import trio

import channelpay
from channelpay.services.exceptions import NotReachable, PaymentUnknown
from channelpay.services.ids import new_payment_id
from channelpay.services.values import PaymentState
from services.fake_daemon import CHANNEL, FakeDaemon, FakeNode


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("h")


async def test_a_home_or_its_socket(node, home, monkeypatch):
    socket = home / "control.sock"
    monkeypatch.setenv("CHANNELPAY_HOME", str(home))
    async with FakeDaemon(node).listening(socket):
        for place in (home, str(home), socket, str(socket), None):
            async with channelpay.connect(place) as client:
                assert (await client.pay(CHANNEL, 1)).amount == 1
    assert len(node.made) == 5


async def test_no_daemon_says_what_to_do(home):
    with pytest.raises(NotReachable, match=r"no node answers at .*control\.sock: start it with 'channelpay run'"):
        async with channelpay.connect(home):
            pytest.fail("the block must not begin")


async def test_a_path_that_no_socket_can_have(home):
    with pytest.raises(NotReachable, match="cannot be used"):
        async with channelpay.connect(home / ("x" * 200)):
            pytest.fail("the block must not begin")


async def test_waiting_for_a_daemon_that_starts_later(node, home, nursery):
    connected = trio.Event()

    async def use():
        async with channelpay.connect(home / "control.sock", wait_s=60) as client:
            await client.pay(CHANNEL, 1)
        connected.set()

    nursery.start_soon(use)
    await trio.testing.wait_all_tasks_blocked()
    async with FakeDaemon(node).listening(home / "control.sock"):
        await connected.wait()


async def test_what_the_block_raises_comes_out_as_it_is(node, home):
    async with FakeDaemon(node).listening(home / "control.sock"):
        with pytest.raises(KeyError, match="mine"):
            async with channelpay.connect(home):
                raise KeyError("mine")
        with trio.CancelScope() as scope:
            async with channelpay.connect(home):
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_after_a_loss_the_next_call_connects_again_and_the_id_resolves(node, home, nursery):
    socket, payment_id = home / "control.sock", new_payment_id()
    daemon = FakeDaemon(node)
    node.hold()
    async with daemon.listening(socket), channelpay.connect(home) as client:

        async def kill_once_it_is_paid():
            await node.until(lambda: node.unanswered)
            await daemon.drop()
            node.held.set()

        nursery.start_soon(kill_once_it_is_paid)
        with pytest.raises(PaymentUnknown) as caught:
            await client.pay(CHANNEL, 5, payment_id=payment_id)
        assert caught.value.payment_id == payment_id
        assert (await client.payment(payment_id)).state is PaymentState.PAID
        assert (await client.pay(CHANNEL, 5, payment_id=payment_id)).repeated
        assert len(node.made) == 1


async def test_a_daemon_that_is_gone_and_comes_back(node, home, nursery):
    socket, gone = home / "control.sock", trio.Event()

    async def serve_until_gone(task_status):
        async with FakeDaemon(node).listening(socket):
            task_status.started()
            await gone.wait()

    await nursery.start(serve_until_gone)
    async with channelpay.connect(socket) as client:
        gone.set()
        while not await is_lost(client):
            await trio.lowlevel.checkpoint()
        with pytest.raises(NotReachable):
            await client.pay(CHANNEL, 1)
        with pytest.raises(NotReachable):
            await client.pay_many(CHANNEL, [1, 2])
        with pytest.raises(NotReachable):
            await anext(client.payments())
        assert node.made == []
        async with FakeDaemon(node).listening(socket):
            assert (await client.pay(CHANNEL, 1)).n == 1


async def is_lost(client):
    try:
        await client.balance()
    except NotReachable:
        return True
    return False


async def test_many_tasks_that_lost_the_connection_share_the_new_one(node, home):
    accepted = []

    class Counting(FakeDaemon):
        async def serve(self, stream):
            accepted.append(stream)
            await super().serve(stream)

    async with Counting(node).listening(home / "control.sock"), channelpay.connect(home) as client:
        await client.balance()
        await accepted[0].aclose()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(eventually, client.balance)
    assert len(accepted) == 2


async def eventually(call):
    while True:
        try:
            return await call()
        except NotReachable:
            await trio.lowlevel.checkpoint()


async def test_a_client_used_after_its_block_is_refused(node, home):
    async with FakeDaemon(node).listening(home / "control.sock"):
        async with channelpay.connect(home) as client:
            await client.pay(CHANNEL, 1)
        with pytest.raises(NotReachable, match="after its block ended"):
            await client.pay(CHANNEL, 1)


async def test_the_node_inside_the_process_has_the_same_methods(node, home, monkeypatch):
    """The daemon is replaced by a node in memory: what matters here is that it begins, serves and ends."""
    seen = []

    @asynccontextmanager
    async def run(place):
        seen.append(place.path)
        yield node
        seen.append("ended")

    monkeypatch.setattr("channelpay.daemon.embedded.run", run)
    async with channelpay.Node(home) as inside:
        assert isinstance(inside, channelpay.Client)
        assert (await inside.pay(CHANNEL, "0.0001 USD")).amount == 100
        assert (await inside.pay_many(CHANNEL, [1] * 5000)).count == 5000
        assert seen == [home]
    assert seen == [home, "ended"]
    with pytest.raises(KeyError):
        async with channelpay.Node(home):
            raise KeyError
