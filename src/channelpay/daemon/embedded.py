"""A whole node, running: the same code for the daemon and for a program that embeds it. Spec N-1."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
import trio

from channelpay.channel.state import Phase
from channelpay.daemon.api import Api, node_address
from channelpay.daemon.control_server import ControlServer, bind
from channelpay.daemon.engine import Engine
from channelpay.daemon.ledger_stream import LedgerStream
from channelpay.daemon.peers import Peers
from channelpay.daemon.policy import policy_of
from channelpay.errors import AmountError, ChannelpayError, ErrorCode, RemoteError
from channelpay.home import Home
from channelpay.home.config import NodeConfig
from channelpay.home.load import load_config
from channelpay.node.node import Node
from channelpay.store.node import NodeStore, create_node_store

_log = structlog.get_logger("channelpay.node")
DRAIN_S: Final = 10.0
"""How long a stopping node waits for acknowledgements of what it has sent."""


class Stopping:
    """Set by a signal or by the Stop method; `run` returns when the node has drained."""

    def __init__(self) -> None:
        self.event = trio.Event()

    def __call__(self) -> None:
        self.event.set()


@asynccontextmanager
async def run(home: Home, config: NodeConfig | None = None, stop: Stopping | None = None) -> AsyncIterator[Api]:
    """Run the node of `home` for as long as the block lasts; on the way out it drains and stops in good order.

    Raises HomeError, ConfigError or StoreFailed when it cannot start. A store that fails later cancels
    the block and raises StoreFailed.
    """
    config = config or load_config(home, NodeConfig).config
    stop = stop or Stopping()
    if config.ledger.address is None:
        raise ChannelpayError(f"{home.config_file}: ledger.address is empty; a node needs a ledger: cpl1...@host:port")
    keyring = home.keyring()
    ledger_id = config.ledger.address.key
    if not home.node_db.exists():
        create_node_store(home.node_db, keyring.identity.public, ledger_id)
        _log.warning("a new, empty store was made", path=str(home.node_db))
    store = NodeStore(home.node_db, keyring.identity.public, ledger_id)
    failure: BaseException | None = None
    try:
        node = Node(keyring, ledger_id, policy_of(config, ()), os.urandom, trio.current_time())
        _load(node, store)
        engine = Engine(node, store)
        peers = Peers(engine, keyring.identity, ledger_id)
        ledger = LedgerStream(engine, keyring.identity, config.ledger.address)
        api = Api(engine, peers, ledger, home, config, stop)
        async with trio.open_nursery() as nursery:
            try:
                await _start(nursery, engine, peers, ledger, api, home, config)
                yield api
                await _drain(engine)
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failure = _first(group)
    finally:
        store.close()
        home.control_socket.unlink(missing_ok=True)
    if failure is not None:
        raise failure


def _load(node: Node, store: NodeStore) -> None:
    node.next_key_index = store.next_key_index()
    node.ledger.number = store.ledger_number()
    node.addresses.update(store.peers())
    for channel in store.channels(node.keyring):
        node.load(channel)
    for request in store.requests():
        node.load_request(request)


async def _start(
    nursery: trio.Nursery,
    engine: Engine,
    peers: Peers,
    ledger: LedgerStream,
    api: Api,
    home: Home,
    config: NodeConfig,
) -> None:
    control = await bind(home.control_socket)
    listeners: list[trio.SocketListener] = []
    for place in config.node.listen:
        listeners += await trio.open_tcp_listeners(place.port, host=place.host)
    api.listening = tuple(_place(engine.node.node_id, listener) for listener in listeners)
    nursery.start_soon(engine.run)
    nursery.start_soon(ledger.run)
    nursery.start_soon(_follow_assets, engine, config)
    await nursery.start(peers.listen, listeners)
    nursery.start_soon(peers.keep_up)
    await nursery.start(ControlServer(api).serve, control)
    _log.info("node is up", listening=api.listening, channels=len(engine.node.channels))


def _place(node_id: bytes, listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return node_address(node_id, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


async def _follow_assets(engine: Engine, config: NodeConfig) -> None:
    """The policy speaks of assets by code and in decimals; their ids and scales come from the ledger."""
    known: dict[bytes, object] = {}
    while True:
        assets = engine.node.ledger.assets
        if assets != known:
            known = dict(assets)
            try:
                engine.node.policy = policy_of(config, assets.values())
            except AmountError as error:
                raise ChannelpayError(f"the configuration's policy or limits: {error}") from None
        await engine.changed.park()


async def _drain(engine: Engine) -> None:
    """Take no new payments, wait for what is under way, tell the peers."""
    node = engine.node
    node.stopping = True

    def under_way() -> bool:
        return any((c.unacked or c.queue) and c.live and c.phase == Phase.OPEN for c in node.channels.values())

    with trio.move_on_after(DRAIN_S):
        while under_way():
            await engine.room.park()
    for link in list(engine.links.values()):
        link.end(RemoteError(ErrorCode.STOPPING, "this node is stopping"))
    _log.info("node has stopped", under_way=under_way())


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure in a group: one cause is what a person can act on."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
