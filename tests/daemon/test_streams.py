"""The ledger's stream and the peers' connections: whatever comes in ends that connection at most."""

from __future__ import annotations

import dataclasses
import random
from itertools import pairwise

import pytest
import trio

from channelpay.batches import NO_ID, pack_record
from channelpay.daemon import ledger_stream
from channelpay.daemon.embedded import _follow_assets
from channelpay.daemon.ledger_stream import LedgerStream
from channelpay.daemon.peers import Backoff
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import ChannelpayError, ErrorCode, LocalError, Reason, RemoteError
from channelpay.home import Home, NodeConfig, load_config
from channelpay.keys import LEDGER_PREFIX, Address
from channelpay.limits import LEDGER_REQUEST_TIMEOUT_S, MIN_WINDOW_S, RECONNECT_MAX_S, RECONNECT_MIN_S
from channelpay.messages import control
from channelpay.messages.control import PayEach
from channelpay.messages.peer import Error, Event, Message, Pay, Response
from channelpay.node.policy import Policy
from channelpay.statements import response_bytes
from daemon_rig import Rig, connect, open_channel, rigs
from node_world import keyring

# --- The ledger --------------------------------------------------------------------------------


def resigned(rig: Rig, response: Response, **changes) -> Response:
    """The ledger's signature on something else."""
    other = dataclasses.replace(response, **changes)
    key = rig.ledger.keys.identity
    fields = (other.request_id, other.request_hash, other.outcome, other.body)
    return dataclasses.replace(other, signature=key.sign(response_bytes(key.public, *fields)))


async def test_others_have_their_turn_while_keys_are_looked_for(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, _):
        node, happened = a.engine.node, []

        def prepare(body: object) -> bool:
            happened.append("prepare")
            return happened.count("prepare") < 4

        def ledger_event(*_: object) -> None:
            happened.append("event")

        async def another() -> None:
            while "event" not in happened:
                happened.append("another")
                await trio.lowlevel.checkpoint()

        node.prepare, node.ledger_event = prepare, ledger_event
        stream = LedgerStream(a.engine, node.keyring.identity, NodeConfig().ledger.address)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(another)
            await stream._take(Event(1, 0, "transfer", node.account, b""))
        assert happened.count("another") >= 2
        assert happened[-1] == "event"


async def test_a_ledger_that_is_away_is_tried_again_within_a_part_of_the_shortest_window(
    tmp_path, autojump_clock, monkeypatch
):
    """Else a node that runs misses the time that the ledger gives after its outage to answer in a dispute (L-16)."""
    tries = []

    def refused(*_: object, **__: object) -> None:
        tries.append(trio.current_time())
        raise LinkClosed("connection refused")

    async with rigs(tmp_path) as (a, _):
        monkeypatch.setattr(ledger_stream, "dial", refused)
        monkeypatch.setattr(type(a.node.roster), "least_window_s", MIN_WINDOW_S)
        address = Address(LEDGER_PREFIX, a.node.ledger.ledger_id, "localhost", 1)
        with trio.move_on_after(600):
            await LedgerStream(a.engine, a.node.keyring.identity, address).run()
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits[0] <= RECONNECT_MIN_S
    assert max(waits) <= MIN_WINDOW_S / 4


BAD_ANSWERS = {
    "no view": lambda rig, r: resigned(rig, r, body=b"\x90"),
    "no msgpack": lambda rig, r: resigned(rig, r, body=b"\xc1"),
    "a refusal that is none": lambda rig, r: resigned(rig, r, outcome=60, body=b"\x91\x05"),
    "signed by nobody": lambda rig, r: dataclasses.replace(r, signature=bytes(64)),
    "signed by another": lambda rig, r: dataclasses.replace(r, signature=keyring(3).identity.sign(b"")),
    "of another request": lambda rig, r: resigned(rig, r, request_hash=bytes(32)),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
async def test_an_answer_that_cannot_be_ends_the_connection_only(tmp_path, autojump_clock, name):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        link = a.ledger_link
        take = link.take

        def spoiled(*messages: Message) -> None:
            take(*(BAD_ANSWERS[name](a, m) if isinstance(m, Response) else m for m in messages))

        link.take = spoiled
        with pytest.raises(LocalError):
            await a.api.call(control.Balance())
        assert isinstance(a.ledger_end, RemoteError)
        assert not a.node.ledger.connected
        await a.join_ledger()
        assert (await a.api.call(control.Balance())).balances
        assert await a.pay(1)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x90", b"\x97" + bytes(7)])
async def test_an_event_that_cannot_be_ends_the_connection_only(tmp_path, autojump_clock, body):
    async with rigs(tmp_path) as (a, b):
        channel = await open_channel(a, b)
        a.ledger_link.take(Event(10**6, 0, "open", channel.channel_id, body))
        await a.until(lambda: not a.node.ledger.connected)
        assert isinstance(a.ledger_end, RemoteError)
        assert a.node.ledger.number < 10**6
        await a.join_ledger()
        assert await a.pay(1)


async def test_refusals_have_names_also_those_of_a_newer_ledger(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        link = a.ledger_link
        take = link.take

        def refusing(*messages: Message) -> None:
            take(*(resigned(a, m, outcome=4000, body=b"") if isinstance(m, Response) else m for m in messages))

        link.take = refusing
        with pytest.raises(LocalError) as refused:
            await a.api.call(control.TopupChannel(a.channel().channel_id, 5))
        assert refused.value.reason is Reason.LEDGER_REFUSED
        assert "outcome 4000" in str(refused.value)


async def test_messages_that_are_no_answers_change_nothing(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        channel = await open_channel(a, b)
        a.ledger_link.take(Error(1, channel.channel_id, "?"), Response(bytes(16), bytes(32), 0, b"", bytes(64)))
        await trio.sleep(1)
        assert a.node.ledger.connected
        assert not channel.suspended


async def test_a_ledger_that_does_not_answer_is_left(tmp_path, autojump_clock):
    async with rigs(tmp_path, 1) as (a,):
        a.ledger_link.silent = True
        began = trio.current_time()
        await a.until(lambda: not a.node.ledger.connected)
        assert LEDGER_REQUEST_TIMEOUT_S < trio.current_time() - began < 3 * LEDGER_REQUEST_TIMEOUT_S


# --- Peers -------------------------------------------------------------------------------------


async def test_what_a_peer_does_wrong_ends_its_connection_only(tmp_path, autojump_clock):
    async with rigs(tmp_path, 3) as (a, b, c):
        await open_channel(a, b)
        await open_channel(a, c)
        channel_id = b.channel().channel_id
        b.links[0].send(Pay(channel_id, 1, bytes(7) + b"\x05" + NO_ID, b"", 0, bytes(64)).to_frame())
        await a.until(lambda: b.id not in a.node.connections)
        assert isinstance(b.peer_end, LinkClosed)
        assert b.peer_end.farewell.code == ErrorCode.BAD_SIGNATURE
        assert c.id in a.node.connections
        connect(b, a)
        (paid,) = await a.pay_each(PayEach(1, channel_id, pack_record(5), b""))
        assert paid.first_n == 1


async def test_a_node_dials_who_it_needs_until_it_is_there(tmp_path, autojump_clock, monkeypatch):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        tries = []

        async def dial_once(peer_id: bytes) -> float:
            tries.append((round(trio.current_time()), peer_id))
            if len(tries) == 5:
                connect(a, b)
            return 0.0

        monkeypatch.setattr(a.peers, "_dial_once", dial_once)
        a.spawn(a.peers.keep_up)
        await trio.sleep(10)
        assert tries == []
        a.links[0].end()
        await a.until(lambda: len(a.links) == 2)
        await trio.sleep(100)
        assert [peer for _, peer in tries] == [b.id] * 5
        assert a.peers._dialling == set()


async def test_an_address_that_leads_nowhere_is_tried_again(tmp_path, autojump_clock):
    async with rigs(tmp_path, 1) as (a,):
        peer_id = keyring(99).identity.public
        a.node.know_address(peer_id, "this is no address")
        assert await a.peers._dial_once(peer_id) == 0.0


def test_waits_grow_with_failures_and_begin_anew_after_a_good_connection():
    backoff = Backoff(random.Random(1))
    waits = [backoff.wait_s(0.0) for _ in range(12)]
    for n, wait in enumerate(waits):
        most = min(RECONNECT_MAX_S, RECONNECT_MIN_S * 2**n)
        assert most / 2 <= wait <= most
    assert backoff.wait_s(29.9) > RECONNECT_MAX_S / 2 - 1
    assert backoff.wait_s(30.0) <= RECONNECT_MIN_S


# --- The policy --------------------------------------------------------------------------------


async def test_the_configured_policy_follows_the_ledgers_assets(tmp_path, autojump_clock):
    home = Home(tmp_path / "configured")
    home.path.mkdir()
    home.config_file.write_text(
        'kind = "node"\n[policy]\nauto_accept = true\nassets = ["USD"]\nmin_deposit = ["0.002 USD"]\n'
        '[limits]\nmax_unacked_value = ["5 USD"]\n'
    )
    config = load_config(home, NodeConfig).config
    async with rigs(tmp_path, 1) as (a,):
        late = Rig(a.ledger, 9, tmp_path / "late", a.nursery)
        late.node.policy = Policy()
        late.spawn(_follow_assets, late.engine, config)
        await late.join_ledger()
        await late.until(lambda: late.node.policy.assets == {a.ledger.asset_id})
        bounds = late.node.policy.of_asset(a.ledger.asset_id)
        assert (bounds.min_deposit, bounds.max_unacked_value) == (2000, 5_000_000)
        late.kill()
        home.config_file.write_text('kind = "node"\n[policy]\nmin_deposit = ["0.0000001 USD"]\n')
        with pytest.raises(ChannelpayError, match="policy or limits"):
            await _follow_assets(a.engine, load_config(home, NodeConfig).config)


async def test_a_call_for_a_peer_ends_its_back_off(tmp_path, autojump_clock, monkeypatch):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        tries = []

        async def dial_once(peer_id: bytes) -> float:
            tries.append(trio.current_time())
            return 0.0

        monkeypatch.setattr(a.peers, "_dial_once", dial_once)
        a.spawn(a.peers.keep_up)
        a.links[0].end()
        await trio.sleep(200)  # the back-off is at its longest
        before = len(tries)
        asked_at = trio.current_time()
        a.peers.dial_now(b.id)
        await trio.sleep(1)
        assert tries[before] == asked_at
        assert len(tries) >= before + 2  # and begins anew
