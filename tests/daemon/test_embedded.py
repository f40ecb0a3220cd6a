"""A whole node inside this process: how it begins, how it ends, and what it does with failures."""

from __future__ import annotations

import os
import signal

import apsw
import pytest
import trio
import trio.testing

from channelpay.channel.state import Phase
from channelpay.daemon import embedded, main
from channelpay.daemon.embedded import Stopping, run
from channelpay.errors import ChannelpayError, LocalError, Reason, StoreFailed
from channelpay.home import Home, NodeConfig
from channelpay.home.config import LedgerLink, Listening, Log
from channelpay.home.rules import HostPort
from channelpay.keys import LEDGER_PREFIX, encode_id, parse_address, words_from_entropy
from channelpay.messages import control
from daemon_rig import connect, open_channel, rigs
from node_world import keyring

NOBODY = parse_address(LEDGER_PREFIX, f"{encode_id(LEDGER_PREFIX, keyring(200).identity.public)}@127.0.0.1:9")


def config(**changes) -> NodeConfig:
    """A node whose ledger is not there."""
    return NodeConfig(node=Listening((HostPort("127.0.0.1", 0),)), ledger=LedgerLink(NOBODY), **changes)


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home")
    made.create(words_from_entropy(bytes(32)), 'kind = "node"\n')
    return made


async def test_a_node_lives_as_long_as_its_block(home):
    async with run(home, config()) as api:
        assert home.control_socket.exists()
        status = await api.call(control.Status())
        assert status.node_id == home.keyring().identity.public
        assert len(status.listen) == 1
    assert not home.control_socket.exists()
    async with run(home, config()):
        pass


async def test_what_the_block_raises_passes_through(home):
    for failure in (ValueError("mine"), ExceptionGroup("ours", [ValueError("a"), OSError("b")]), KeyboardInterrupt()):
        with pytest.raises(type(failure)) as caught:
            async with run(home, config()):
                raise failure
        assert caught.value is failure
        assert not home.control_socket.exists()


async def test_a_cancelled_block_is_cancelled(home):
    with trio.move_on_after(0.1) as scope:
        async with run(home, config()):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert not home.control_socket.exists()


async def test_a_store_that_fails_ends_the_block(home, monkeypatch):
    def commit(store, persist) -> None:
        raise StoreFailed("no room")

    monkeypatch.setattr(embedded.NodeStore, "commit", commit)
    apis = []

    async def live() -> None:
        async with run(home, config()) as api:
            apis.append(api)
            api.node.know_address(bytes(32), "somewhere")
            api.engine.wake()
            await trio.sleep_forever()

    with pytest.raises(StoreFailed, match="no room"):
        await live()
    with pytest.raises(LocalError) as caught:
        await apis[0].call(control.Payments(0, 1, 1))
    assert caught.value.reason is Reason.STOPPING


async def test_a_store_that_is_damaged_where_nobody_looks_ends_the_block(home):
    async with run(home, config()):
        pass
    raw = apsw.Connection(os.fspath(home.node_db))
    raw.execute("INSERT INTO pruned VALUES (1, 0, 5, 5, zeroblob(32), 7)")
    raw.close()

    async def live() -> None:
        async with run(home, config()):
            await trio.sleep_forever()

    with pytest.raises(StoreFailed, match=r"node\.db: row 1 of pruned is damaged"):
        await live()


async def test_a_home_that_lost_its_store_does_not_start_empty(home):
    async with run(home, config()):
        pass
    home.node_db.unlink()
    with pytest.raises(StoreFailed, match=r"node\.db is missing, .* \(channelpay init --words-from\)"):
        async with run(home, config()):
            pytest.fail("it runs")
    assert not home.node_db.exists()


async def test_a_second_node_on_the_same_home_leaves_the_first_alone(home):
    async with run(home, config()) as api:
        with pytest.raises(StoreFailed, match="is used by process"):
            async with run(home, config()):
                pytest.fail("there are two")
        await (await trio.open_unix_socket(os.fspath(home.control_socket))).aclose()
        assert (await api.call(control.Status())).peers_connected == 0


async def test_a_place_that_is_taken_is_named(home):
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        taken = NodeConfig(node=Listening((HostPort("127.0.0.1", port),)), ledger=LedgerLink(NOBODY))
        with pytest.raises(OSError, match=f"cannot listen at 127.0.0.1:{port}"):
            async with run(home, taken):
                pytest.fail("two listen")
    assert not home.control_socket.exists()


async def test_a_node_without_a_ledger_does_not_start(home):
    with pytest.raises(ChannelpayError, match=r"ledger\.address is empty"):
        async with run(home, NodeConfig()):
            pytest.fail("it runs")


async def test_stop_is_for_daemons(home):
    async with run(home, config()) as api:
        with pytest.raises(LocalError, match="runs inside a program"):
            await api.call(control.Stop())
    stop = Stopping()
    async with run(home, config(), stop) as api:
        await api.call(control.Stop())
        assert stop.event.is_set()


async def test_those_who_still_wait_when_the_block_ends_are_told(home):
    reasons = []
    async with trio.open_nursery() as nursery:
        async with run(home, config()) as api:

            async def wait(method: control.Method) -> None:
                try:
                    await api.call(method)
                except LocalError as error:
                    reasons.append(error.reason)

            nursery.start_soon(wait, control.Payments(0, 1, 1))
            nursery.start_soon(wait, control.ListAssets())
            await trio.testing.wait_all_tasks_blocked()
    assert reasons == [Reason.STOPPING, Reason.STOPPING]


# --- Draining ----------------------------------------------------------------------------------


async def test_draining_waits_for_what_is_under_way_and_for_nobody_who_is_gone(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        b.links[0].hold(True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.pay, 5)
            await a.until(lambda: a.channel().unacked)
            nursery.start_soon(embedded._drain, a.engine)
            await trio.sleep(1)
            with pytest.raises(LocalError) as caught:
                await a.pay(6)
            assert caught.value.reason is Reason.STOPPING
            b.links[0].hold(False)
        assert b.received() == [5]
        assert not a.node.connections or a.links[0].ended


async def test_draining_ends_with_the_connection_or_after_its_time(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        b.links[0].hold(True)
        with trio.move_on_after(1):
            await a.pay(5)
        began = trio.current_time()
        await embedded._drain(a.engine)
        assert trio.current_time() - began == pytest.approx(embedded.DRAIN_S)
        a.node.stopping = False
        await a.until(lambda: not a.node.connections)
        connect(a, b)
        b.links[1].hold(True)
        await a.until(lambda: a.node.connections)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(embedded._drain, a.engine)
            await trio.sleep(1)
            a.links[1].end()
        assert trio.current_time() - began == pytest.approx(1)
        assert a.channel().phase is Phase.OPEN


# --- The process -------------------------------------------------------------------------------


def test_the_daemon_ends_well_on_sigterm(home, monkeypatch, capsys):
    drain = embedded._drain

    async def watched(engine) -> None:
        calls.append(engine)
        await drain(engine)

    calls: list[object] = []
    monkeypatch.setattr(embedded, "_drain", watched)
    monkeypatch.setattr(main, "set_up_logs", lambda config: None)
    start = embedded._start

    async def started(*arguments) -> None:
        await start(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(embedded, "_start", started)
    assert main.run_node(home, config()) == main.EXIT_OK
    assert len(calls) == 1


def test_the_daemon_says_why_it_cannot_run(home, monkeypatch):
    said = []
    monkeypatch.setattr(main, "set_up_logs", lambda config: None)
    monkeypatch.setattr(main.structlog, "get_logger", lambda *_: _Log(said))
    assert main.run_node(home, NodeConfig(log=Log())) == main.EXIT_FAILED
    assert "ledger.address is empty" in said[0]
    home.node_db.write_bytes(b"this is no database at all")
    assert main.run_node(home, config()) == main.EXIT_FAILED
    assert "no SQLite file" in said[1]


class _Log:
    def __init__(self, said: list[str]) -> None:
        self.said = said

    def error(self, text: str, why: str) -> None:
        self.said.append(f"{text}: {why}")
