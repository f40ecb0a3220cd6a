"""Every method of the local api, and every way in which it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from channelpay.channel.state import Phase
from channelpay.daemon.outside import OUTSIDE
from channelpay.errors import LocalError, Reason
from channelpay.limits import MAX_ARRAY_ITEMS, MIN_KEEP_S
from channelpay.messages import control
from channelpay.node.policy import Policy
from daemon_rig import FUNDS, Rig, connect, open_channel, rigs
from node_world import START


async def refused(awaitable) -> LocalError:
    with pytest.raises(LocalError) as caught:
        await awaitable
    return caught.value


def offer(a: Rig, b: Rig, **changes) -> control.OpenChannel:
    values = {
        "peer": b.address, "asset_id": a.ledger.asset_id, "deposit": 1000, "flags": 0, "window_s": 60, "max_batch": 0,
    }  # fmt: skip
    return control.OpenChannel(**(values | changes))


# --- Looking -----------------------------------------------------------------------------------


async def test_status(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        await a.pay(1)
        view = await b.api.call(control.Status())
        assert view.node_id == b.id
        assert (view.channels_open, view.channels_closing, view.channels_settled) == (1, 0, 0)
        assert (view.peers_connected, view.ledger_connected, view.received) == (1, 1, 1)
        assert view.ledger_time >= START
        assert control.StatusView.decode(view.encode()) == view


async def test_assets_come_as_soon_as_the_ledger_is_there(tmp_path, autojump_clock):
    async with rigs(tmp_path, 1) as (a,):
        rig = Rig(a.ledger, 9, tmp_path / "late", a.nursery)
        began = trio.current_time()
        found = []

        async def ask() -> None:
            found.append(await rig.api.call(control.ListAssets()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await rig.join_ledger()
        assert [asset.code for asset in found[0].assets] == ["USD"]
        assert trio.current_time() - began < 1, "nobody waited for a time-out"
        rig.kill()


async def test_channels_page_by_page(tmp_path, autojump_clock, monkeypatch):
    monkeypatch.setattr("channelpay.daemon.api._CHANNELS_PAGE", 2)
    async with rigs(tmp_path) as (a, b):
        channels = [await open_channel(a, b, deposit=1000) for _ in range(5)]
        await a.api.call(control.CloseChannel(channels[0].channel_id, 0, 1))
        found, after = [], None
        while True:
            page = await a.api.call(control.ListChannels(after, 0))
            found += [info.channel_id for info in page.channels]
            if not page.more:
                break
            after = found[-1]
        assert found == sorted(c.channel_id for c in channels[1:])
        everything = await a.api.call(control.ListChannels(sorted(c.channel_id for c in channels)[2], 1))
        assert len(everything.channels) == 2


async def test_one_channel_by_the_beginning_of_its_id(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        channel_id = a.channel().channel_id
        for prefix in (channel_id.hex(), channel_id.hex()[:6], channel_id.hex()[:6].upper()):
            assert (await a.api.call(control.ShowChannel(prefix))).channel.channel_id == channel_id
        for prefix in ("", "zz", "0" * 64):
            assert (await refused(a.api.call(control.ShowChannel(prefix)))).reason is Reason.UNKNOWN_CHANNEL
        while len({key.hex()[0] for key in a.node.channels}) == len(a.node.channels):
            await open_channel(a, b, deposit=1000)
        digits = [key.hex()[0] for key in a.node.channels]
        twice = next(digit for digit in digits if digits.count(digit) > 1)
        assert (await refused(a.api.call(control.ShowChannel(twice)))).reason is Reason.AMBIGUOUS_CHANNEL


async def test_balance_on_the_ledger_and_in_channels(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        await a.pay(300)
        (row,) = (await a.api.call(control.Balance())).balances
        assert (row.account, row.channels) == (FUNDS - 1000, 700)
        (row,) = (await b.api.call(control.Balance())).balances
        assert (row.account, row.channels) == (FUNDS, 300)
        b.lose_ledger()
        await b.until(lambda: not b.node.ledger.connected)
        assert (await refused(b.api.call(control.Balance()))).reason is Reason.LEDGER_UNREACHABLE


async def test_a_silent_ledger_is_an_answer_too(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        a.ledger_link.silent = True
        assert (await refused(a.api.call(control.Balance()))).reason is Reason.LEDGER_UNREACHABLE


async def test_peers_and_their_traffic(tmp_path, autojump_clock):
    OUTSIDE.set(replace(OUTSIDE.get(), time=lambda: 1234.5))
    async with rigs(tmp_path, 1) as (a,):
        b = Rig(a.ledger, 2, tmp_path / "b", a.nursery)
        await b.join_ledger()
        connect(a, b)
        await open_channel(a, b, deposit=1000)
        (peer,) = (await a.api.call(control.ListPeers())).peers
        assert (peer.node_id, peer.address, peer.connected, peer.channels) == (b.id, b.address, 1, 1)
        assert peer.connected_since == 1234
        assert peer.sent_bytes > 0
        assert peer.received_bytes > 0
        a.links[0].end()
        await a.until(lambda: not a.node.connections)
        (after,) = (await a.api.call(control.ListPeers())).peers
        assert (after.connected, after.connected_since) == (0, 0)
        assert (after.sent_bytes, after.received_bytes) == (peer.sent_bytes, peer.received_bytes)
        b.kill()


async def test_strangers_leave_nothing_behind(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, _):
        a.links[0].end()
        await a.until(lambda: not a.engine.links)
        assert a.engine._traffic == {}
        assert (await a.api.call(control.ListPeers())).peers == ()


async def test_a_peer_is_dialled_for_a_channel_that_was_found(tmp_path, autojump_clock):
    async with rigs(tmp_path, 1) as (a,):
        b = Rig(a.ledger, 2, tmp_path / "b", a.nursery)
        await b.join_ledger()
        assert (await refused(a.api.call(control.ConnectPeer("b:1")))).reason is Reason.USAGE
        nothing = await refused(a.api.call(control.ConnectPeer(b.address)))
        assert (nothing.reason, "no channel waits for a peer" in str(nothing)) == (Reason.USAGE, True)
        connect(a, b)
        await open_channel(a, b, deposit=1000)
        assert await a.api.call(control.ConnectPeer(b.address)) == control.Empty()
        a.kill()
        a = Rig(a.ledger, 1, tmp_path / "made anew", a.nursery)
        await a.join_ledger()
        await a.until(lambda: len(a.node.channels) == 1)
        (info,) = (await a.api.call(control.ListChannels(None, 0))).channels
        assert (info.peer_id, info.stalled) == (bytes(32), "found on the ledger; waits for its peer, to be closed")
        assert (await a.api.call(control.ListPeers())).peers == ()
        late = await refused(a.api.call(control.ConnectPeer(b.address)))
        assert (late.reason, a.node.wanted_peers()) == (Reason.PEER_UNREACHABLE, [b.id])
        connect(a, b)
        await a.until(lambda: a.node.roster.phases[Phase.SETTLED] == 1)
        b.kill()
        a.kill()


# --- Opening -----------------------------------------------------------------------------------


async def test_a_channel_is_open_for_both_when_open_answers(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        one = await a.api.call(offer(a, b))
        assert one.channel.phase == "open"
        assert (one.channel.deposit0, one.channel.window_s, one.channel.max_batch) == (1000, 60, 4096)
        assert one.channel.stalled == ""
        assert control.ChannelOne.decode(one.encode()) == one


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peer": "cp1nobody@127.0.0.1:1"}, Reason.USAGE),
        ({"flags": 2}, Reason.USAGE),
        ({"window_s": 9}, Reason.USAGE),
        ({"max_batch": 4097}, Reason.USAGE),
        ({"deposit": 0}, Reason.USAGE),
        ({"asset_id": bytes(16)}, Reason.UNKNOWN_ASSET),
        ({"deposit": FUNDS + 1}, Reason.LEDGER_REFUSED),
    ],
)
async def test_offers_that_cannot_be(tmp_path, autojump_clock, changes, reason):
    async with rigs(tmp_path) as (a, b):
        assert (await refused(a.api.call(offer(a, b, **changes)))).reason is reason
        assert a.engine._watched == {}


async def test_a_node_opens_no_channel_to_itself(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, _):
        assert (await refused(a.api.call(offer(a, a)))).reason is Reason.UNKNOWN_PEER


async def test_a_peer_that_refuses_says_why(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        b.node.policy = Policy(auto_accept=False)
        error = await refused(a.api.call(offer(a, b)))
        assert error.reason is Reason.PEER_REFUSED
        assert "not_accepting" in str(error)
        assert a.node.channels == {}


async def test_a_peer_that_is_not_there(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        a.links[0].end()
        await a.until(lambda: not a.node.connections)
        assert (await refused(a.api.call(offer(a, b)))).reason is Reason.PEER_UNREACHABLE
        assert len(a.node.offers) == 0
        assert a.node.wanted_peers() == []


async def test_no_ledger_no_channel(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        a.lose_ledger()
        await a.until(lambda: not a.node.ledger.connected)
        assert (await refused(a.api.call(offer(a, b)))).reason is Reason.LEDGER_UNREACHABLE


async def test_a_ledger_that_refuses_to_open_says_why(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        error = await refused(a.api.call(offer(a, b, deposit=FUNDS + 1)))
        assert error.reason is Reason.LEDGER_REFUSED
        assert "insufficient-funds" in str(error)
        assert a.channel().phase is Phase.ABANDONED


async def test_a_ledger_that_says_nothing_leaves_the_opening_under_way(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        a.ledger_link.silent = True
        a.ledger_link.watching = False
        assert (await refused(a.api.call(offer(a, b)))).reason is Reason.TIMED_OUT
        assert a.engine._watched == {}


async def test_a_cancelled_opening_leaves_nothing_to_remember(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        b.links[0].hold(True)
        with trio.move_on_after(1):
            await a.api.call(offer(a, b))
        b.links[0].hold(False)
        await a.until(lambda: a.node.channels and a.channel().phase is Phase.OPEN)
        assert a.engine._watched == {}


# --- Changing ----------------------------------------------------------------------------------


async def test_topup(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        channel_id = a.channel().channel_id
        one = await a.api.call(control.TopupChannel(channel_id, 500))
        assert (one.channel.deposit0, one.channel.balance) == (1500, 1500)
        one = await b.api.call(control.TopupChannel(channel_id, 50))
        assert (one.channel.deposit1, one.channel.balance) == (50, 50)
        assert (await refused(a.api.call(control.TopupChannel(channel_id, 0)))).reason is Reason.USAGE
        assert (await refused(a.api.call(control.TopupChannel(bytes(32), 1)))).reason is Reason.UNKNOWN_CHANNEL
        error = await refused(a.api.call(control.TopupChannel(channel_id, FUNDS)))
        assert error.reason is Reason.LEDGER_REFUSED
        assert "insufficient-funds" in str(error)
        assert a.store.requests() == []


async def test_a_topup_without_an_answer_is_under_way_and_never_done_twice(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        channel_id = a.channel().channel_id
        a.ledger_link.silent = True
        assert (await refused(a.api.call(control.TopupChannel(channel_id, 500)))).reason is Reason.TIMED_OUT
        assert len(a.store.requests()) == 1
        a.kill()
        a.start()
        assert (await refused(a.api.call(control.TopupChannel(channel_id, 1)))).reason is Reason.LEDGER_UNREACHABLE
        await a.join_ledger()
        await a.until(lambda: a.store.requests() == [])
        await a.until(lambda: a.channel().reading.deposits == (1500, 0))
        assert a.ledger.balance(a.keys.account.public) == FUNDS - 1500


async def test_withdraw(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        await a.pay(400)
        channel_id = a.channel().channel_id
        one = await b.api.call(control.WithdrawChannel(channel_id, 300))
        assert (one.channel.withdrawn1, one.channel.balance) == (300, 100)
        assert b.ledger.balance(b.keys.account.public) == FUNDS + 300
        error = await refused(b.api.call(control.WithdrawChannel(channel_id, 101)))
        assert error.reason is Reason.INSUFFICIENT_BALANCE
        b.links[0].end()
        await b.until(lambda: not b.node.connections)
        assert (await refused(b.api.call(control.WithdrawChannel(channel_id, 1)))).reason is Reason.PEER_UNREACHABLE


async def test_a_withdrawal_that_the_peer_refuses(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        b.lose_ledger()
        await trio.sleep(16)  # a quarter of the window
        error = await refused(a.api.call(control.WithdrawChannel(a.channel().channel_id, 100)))
        assert error.reason is Reason.PEER_REFUSED
        assert "stalled" in str(error)
        assert a.channel().withdrawals == {}


async def test_a_withdrawal_that_the_peer_does_not_answer(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        b.links[0].hold(True)
        channel_id = a.channel().channel_id
        assert (await refused(a.api.call(control.WithdrawChannel(channel_id, 100)))).reason is Reason.TIMED_OUT
        assert (await refused(a.api.call(control.WithdrawChannel(channel_id, 1)))).reason is Reason.WITHDRAWAL_OPEN


async def test_claim(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000, flags=1)
        channel_id = a.channel().channel_id
        assert (await refused(b.api.call(control.ClaimChannel(channel_id)))).reason is Reason.INSUFFICIENT_BALANCE
        await a.pay(400)
        one = await b.api.call(control.ClaimChannel(channel_id))
        assert one.channel.withdrawn1 == 400
        assert b.ledger.balance(b.keys.account.public) == FUNDS + 400
        assert (await refused(a.api.call(control.ClaimChannel(channel_id)))).reason is Reason.ONE_WAY
        assert (await refused(b.pay(1))).reason is Reason.ONE_WAY


async def test_a_claim_that_is_not_answered_is_no_success(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000, flags=1)
        channel_id = a.channel().channel_id
        await a.pay(400)
        b.ledger_link.silent = True
        failures = []

        async def claim() -> None:
            failures.append(await refused(b.api.call(control.ClaimChannel(channel_id))))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(claim)
            await trio.sleep(1)
            b.lose_ledger()
        assert failures[0].reason is Reason.TIMED_OUT
        await b.until(lambda: not b.node.ledger.connected)
        assert (await refused(b.api.call(control.ClaimChannel(channel_id)))).reason is Reason.LEDGER_UNREACHABLE


async def test_a_claim_that_the_ledger_refuses_says_so(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000, flags=1)
        await a.pay(400)
        b.ledger_link.watching = False  # so that it does not see the close below
        a.node.close(a.channel().channel_id, True, trio.current_time())
        a.engine.wake()
        await a.until(lambda: a.channel().phase is Phase.CLOSING)
        await trio.sleep(70)
        channel = b.channel()
        channel.phase = Phase.OPEN
        error = await refused(b.api.call(control.ClaimChannel(channel.channel_id)))
        assert error.reason is Reason.LEDGER_REFUSED
        assert "already-settled" in str(error)


@pytest.mark.parametrize("force", [0, 1])
async def test_close_and_wait(tmp_path, autojump_clock, force):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        await a.pay(250)
        channel_id = a.channel().channel_id
        one = await a.api.call(control.CloseChannel(channel_id, force, 1))
        assert (one.channel.phase, one.channel.out0, one.channel.out1) == ("settled", 750, 250)
        for method in (control.CloseChannel(channel_id, force, 1), control.TopupChannel(channel_id, 1)):
            assert (await refused(a.api.call(method))).reason is Reason.NOT_OPEN
        assert (await refused(a.pay(1))).reason is Reason.NOT_OPEN


async def test_closing_is_on_disk_when_close_answers(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        a.links[0].end()
        await a.until(lambda: not a.node.connections)
        await a.api.call(control.CloseChannel(a.channel().channel_id, 0, 0))
        assert (await refused(a.pay(1))).reason is Reason.CLOSING
        a.kill()
        a.start()
        assert a.channel().phase is Phase.SHUTDOWN


async def test_a_close_that_the_peer_does_not_join_becomes_a_forced_one(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, deposit=1000)
        await a.pay(250)
        a.links[0].end()
        await a.until(lambda: not a.node.connections)
        one = await a.api.call(control.CloseChannel(a.channel().channel_id, 0, 1))
        assert (one.channel.phase, one.channel.out1) == ("settled", 250)


# --- Payments ----------------------------------------------------------------------------------


async def test_a_long_poll_ends_when_something_comes(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        pages = []

        async def poll() -> None:
            pages.append(await b.api.call(control.Payments(0, 100, 1)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll)
            await trio.sleep(5)
            assert pages == []
            await a.pay(3)
        assert (pages[0].cursor, pages[0].batches[0].total) == (1, 3)
        empty = await b.api.call(control.Payments(1, 100, 0))
        assert (empty.cursor, empty.batches) == (1, ())
        assert (await refused(b.api.call(control.Payments(2, 100, 0)))).reason is Reason.USAGE
        with trio.move_on_after(1) as scope:
            await b.api.call(control.Payments(1, 100, 1))
        assert scope.cancelled_caught


async def test_what_was_pruned_is_refused_by_name_and_payments_go_on(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):

        def prune(now_s: int) -> None:
            for rig in (a, b):
                while rig.store.prune(now_s, MIN_KEEP_S):
                    pass

        await open_channel(a, b)
        for units in (1, 2, 3):
            await a.pay(units)
        prune(10 * MIN_KEEP_S)  # marks what there is
        await a.pay(4)
        prune(11 * MIN_KEEP_S)
        assert (a.store.kept_n(a.channel().channel_id, 0), b.store.kept_from) == (4, 3)
        error = await refused(b.api.call(control.Payments(2, 100, 0)))
        assert (error.reason, "before 3, the first that is kept" in str(error)) == (Reason.PRUNED, True)
        for after in (0, 3):
            page = await b.api.call(control.Payments(after, 100, 0))
            assert [(row.position, row.total) for row in page.batches] == [(3, 4)]
        channel_id = a.channel().channel_id
        error = await refused(a.api.call(control.History(channel_id, 0, 2, 100)))
        assert (error.reason, "before 4, the first" in str(error)) == (Reason.PRUNED, True)
        for from_n in (1, 4):
            (row,) = (await a.api.call(control.History(channel_id, 0, from_n, 100))).batches
            assert row.first_n == 4
        await a.pay(5)
        assert a.channel().acked.n == 5


async def test_pages_never_hold_more_than_an_answer_may(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b, max_batch=1)
        channel_id = a.channel().channel_id
        for first in range(1, 5001, 1000):
            records = b"".join((n % 7 + 1).to_bytes(8, "big") + bytes(16) for n in range(first, first + 1000))
            await a.pay_many(control.PayMany(1, channel_id, records, b""))
        history = await b.api.call(control.History(channel_id, 0, 1, 1_000_000))
        assert len(history.batches) == MAX_ARRAY_ITEMS
        assert control.HistoryPage.decode(history.encode()) == history
        rest = await b.api.call(control.History(channel_id, 0, history.next_n, 1_000_000))
        assert rest.next_n == 5001
        page = await b.api.call(control.Payments(0, 1_000_000, 0))
        assert control.ReceivedPage.decode(page.encode()) == page
        assert page.cursor == MAX_ARRAY_ITEMS
        assert (await b.api.call(control.Payments(page.cursor, 1_000_000, 0))).cursor == 5000
        assert (await b.api.call(control.Payments(0, 7, 0))).cursor == 7


async def test_stop(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        assert await a.api.call(control.Stop()) == control.Empty()
        assert a.stops == 1
        a.node.stopping = True
        assert (await refused(a.pay(1))).reason is Reason.STOPPING
        a.api._stop = None
        assert (await refused(a.api.call(control.Stop()))).reason is Reason.USAGE


# --- Refusals of a payment that need a state of their own --------------------------------------


async def test_refusals_of_payments(tmp_path, autojump_clock):
    async with rigs(tmp_path) as (a, b):
        bounds = b.node.policy.of_asset(a.ledger.asset_id)._replace(max_unacked_value=500, min_payment=10)
        b.node.policy = b.node.policy._replace(bounds={a.ledger.asset_id: bounds})
        await open_channel(a, b, deposit=1000)
        assert (await refused(a.pay(501))).reason is Reason.ABOVE_LIMIT
        assert (await refused(a.pay(9))).reason is Reason.BELOW_MINIMUM
        await a.pay(500)
        await a.pay(490)
        assert (await refused(a.pay(11))).reason is Reason.INSUFFICIENT_BALANCE
        a.lose_ledger()
        await trio.sleep(16)
        assert (await refused(a.pay(10))).reason is Reason.STALLED
        a.channel().own_known = a.channel().own
        assert (await refused(a.pay(10))).reason is Reason.UNRESOLVED
