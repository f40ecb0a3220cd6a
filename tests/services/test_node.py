"""The real node inside the process: it begins, answers, refuses and ends; the money is another test's matter."""

import pytest

import channelpay
from channelpay.errors import Reason
from channelpay.home import Home, HomeError, NodeConfig
from channelpay.home.load import template
from channelpay.keys import LEDGER_PREFIX, Address, Keyring, words_from_entropy

LEDGER = Address(LEDGER_PREFIX, Keyring(words_from_entropy(b"L" * 32)).identity.public, "127.0.0.1", 9)


@pytest.fixture
def home(tmp_path_factory):
    """A home whose ledger is nowhere; the node listens on any free port."""
    home = Home(tmp_path_factory.mktemp("h") / "n")
    flags = {"ledger.address": str(LEDGER), "node.listen": ["127.0.0.1:0"]}
    home.create(words_from_entropy(b"N" * 32), template(NodeConfig, flags))
    return home


async def test_inside_the_process_and_over_its_socket_at_the_same_time(home):
    async with channelpay.Node(home.path) as node:
        inside = await node.status()
        assert (inside.home, inside.channels_open, inside.ledger_connected) == (str(home.path), 0, 0)
        assert await node.channels() == []
        async with channelpay.connect(home.path) as client:
            assert (await client.status()).node_id == inside.node_id
            for user in (node, client):
                with pytest.raises(channelpay.Refused) as caught:
                    await user.pay(bytes(32), 1)
                assert caught.value.reason is Reason.UNKNOWN_CHANNEL
                with pytest.raises(channelpay.Refused):
                    await user.pay_many(bytes(32), [1, 2])
    with pytest.raises(channelpay.NotReachable):
        async with channelpay.connect(home.path):
            pytest.fail("the node has ended")


async def test_what_the_block_raises_comes_out_as_it_is_and_the_home_is_free_again(home):
    for _ in range(2):
        with pytest.raises(KeyError, match="mine"):
            async with channelpay.Node(home.path):
                raise KeyError("mine")


async def test_no_home_no_node(tmp_path):
    with pytest.raises(HomeError, match="no channelpay home"):
        async with channelpay.Node(tmp_path / "nowhere"):
            pytest.fail("the block must not begin")
