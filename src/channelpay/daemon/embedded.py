"""A whole node, running: the same code for the daemon and for a program that embeds it. Spec N-1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog
import trio

from channelpay.channel.state import Phase
from channelpay.daemon import upkeep
from channelpay.daemon.api import Api, node_address
from channelpay.daemon.control_server import ControlServer, bound
from channelpay.daemon.engine import Engine
from channelpay.daemon.ledger_stream import LedgerStream
from channelpay.daemon.outside import OUTSIDE, listen, random_bytes
from channelpay.daemon.peers import Peers
from channelpay.daemon.policy import policy_of
from channelpay.errors import AmountError, ChannelpayError, ErrorCode, RemoteError
from channelpay.home import Home
from channelpay.home.config import NodeConfig
from channelpay.home.load import load_config
from channelpay.keys import Keyring
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
async def run(
    home: Home, config: NodeConfig | None = None, stop: Stopping | None = None, *, restored: bool = False
) -> AsyncIterator[Api]:
    """Run the node of `home` for as long as the block lasts; when it ends well, the node drains and stops in order.

    `stop` is what the Stop method calls; without it only the block's end stops the node. `restored` says that the
    store came from a backup (spec C-28). Raises HomeError,
    ConfigError, StoreFailed or OSError when it cannot start. A store that fails later cancels the block and raises
    StoreFailed. What the block raises passes through as it is. Calls that still wait are told that the node stopped.
    """
    config = config or load_config(home, NodeConfig).config
    if config.ledger.address is None:
        raise ChannelpayError(f"{home.config_file}: ledger.address is empty; a node needs a ledger: cpl1...@host:port")
    keyring = home.keyring()
    ledger_id = config.ledger.address.key
    bind = OUTSIDE.get().control or bound
    failure: BaseException | None = None
    with _open_store(home, keyring, ledger_id) as store:
        node = Node(keyring, ledger_id, policy_of(config, ()), random_bytes, trio.current_time())
        node.load(store)
        if restored:
            node.mark_restored()
        engine = Engine(node, store)
        peers = Peers(engine, keyring.identity, ledger_id, config.admission)
        ledger = LedgerStream(engine, keyring.identity, config.ledger.address)
        api = Api(engine, peers, ledger, home, config, stop)
        try:
            async with trio.open_nursery() as nursery:
                try:
                    async with bind(home.control_socket) as control, _listening(config) as listeners:
                        await _start(nursery, engine, peers, ledger, api, control, listeners, config)
                        yield api
                        await _drain(engine)
                # Raised again outside the nursery, which would wrap it into a group.
                except Exception as error:
                    failure = error
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            failure = _first(group)
        finally:
            engine.stop()
    if failure is not None:
        raise failure


@contextmanager
def _open_store(home: Home, keyring: Keyring, ledger_id: bytes) -> Iterator[NodeStore]:
    if not home.node_db.exists():
        create_node_store(home.node_db, keyring.identity.public, ledger_id, vfs=OUTSIDE.get().vfs)
        _log.warning("a new, empty store was made", path=str(home.node_db))
    store = NodeStore(home.node_db, keyring.identity.public, ledger_id, vfs=OUTSIDE.get().vfs)
    try:
        yield store
    finally:
        store.close()


@asynccontextmanager
async def _listening(config: NodeConfig) -> AsyncIterator[list[trio.SocketListener]]:
    """Listeners at all configured places; raises OSError naming the place."""
    listeners: list[trio.SocketListener] = []
    try:
        for place in config.node.listen:
            try:
                listeners += await listen(place.port, place.host)
            except OSError as error:
                raise OSError(error.errno, f"cannot listen at {place}: {error.strerror or error}") from error
        yield listeners
    finally:
        for listener in listeners:
            listener.socket.close()


async def _start(
    nursery: trio.Nursery,
    engine: Engine,
    peers: Peers,
    ledger: LedgerStream,
    api: Api,
    control: trio.SocketListener,
    listeners: list[trio.SocketListener],
    config: NodeConfig,
) -> None:
    api.listening = tuple(_place(engine.node.node_id, listener) for listener in listeners)
    nursery.start_soon(engine.run)
    nursery.start_soon(ledger.run)
    nursery.start_soon(_follow_assets, engine, config)
    nursery.start_soon(upkeep.prune, engine.store, config.records.keep_s)
    nursery.start_soon(upkeep.check, engine.store)
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
        return any((c.unacked or c.queue) and c.live and c.phase == Phase.OPEN for c in node.roster.loaded_live())

    with trio.move_on_after(DRAIN_S):
        while under_way():
            await engine.room.park()
    engine.turn()  # receipts that wait for a commit
    for link in list(engine.links.values()):
        link.end(RemoteError(ErrorCode.STOPPING, "this node is stopping"))
    _log.info("node has stopped", under_way=under_way())


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure in a group, before any cancellation: one cause is what a person can act on."""
    _, failures = group.split(trio.Cancelled)
    error: BaseException = failures or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
