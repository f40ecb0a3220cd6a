"""What the owner of a node may ask of it: one object for the socket and for a program that embeds the node.

Spec N-9 to N-14. Refusals are LocalError. A call that waits looks again whenever something changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from channelpay import __version__
from channelpay.channel.state import Channel, Phase
from channelpay.daemon.engine import Engine
from channelpay.daemon.ledger_stream import LedgerStream
from channelpay.daemon.payments import Done, EachDone, PaymentDesk
from channelpay.daemon.peers import Peers
from channelpay.daemon.usage import usage
from channelpay.errors import AddressError, LocalError, Reason
from channelpay.home import Home
from channelpay.home.config import NodeConfig
from channelpay.keys import NODE_PREFIX, Address, encode_id, parse_address
from channelpay.limits import ANSWER_TIMEOUT_S, CLOSE_TIMEOUT_S, LEDGER_REQUEST_TIMEOUT_S, MAX_BATCH, MAX_PAGE
from channelpay.messages import control
from channelpay.messages.control import Method, PayEach, PayMany
from channelpay.messages.ledger import AssetView
from channelpay.messages.schema import Record
from channelpay.node.recovery import UNKNOWN_PEER
from channelpay.node.roster import DEAD
from channelpay.node.views import channel_info, money
from channelpay.statements import FLAG_ONE_WAY, FLAG_TWO_WAY

_CHANNELS_PAGE: Final = 128
_MAX_PAGE_BYTES: Final = 512 * 1024
_OPEN_TIMEOUT_S: Final = ANSWER_TIMEOUT_S + LEDGER_REQUEST_TIMEOUT_S


class Api:
    """See the module. `stop` is called by the Stop method; None: whoever embeds the node stops it."""

    def __init__(
        self,
        engine: Engine,
        peers: Peers,
        ledger: LedgerStream,
        home: Home,
        config: NodeConfig,
        stop: Callable[[], None] | None,
    ) -> None:
        self.engine = engine
        self.node = engine.node
        self.desk = PaymentDesk(engine)
        self._peers = peers
        self._ledger = ledger
        self._home = home
        self._config = config
        self._stop = stop
        self.listening: tuple[str, ...] = ()
        self._methods: dict[type[Method], Callable[[Any], Awaitable[Record]]] = {
            control.Status: self._status,
            control.ListAssets: self._assets,
            control.ListChannels: self._channels,
            control.ShowChannel: self._show,
            control.OpenChannel: self._open,
            control.TopupChannel: self._topup,
            control.WithdrawChannel: self._withdraw,
            control.ClaimChannel: self._claim,
            control.CloseChannel: self._close,
            control.Balance: self._balance,
            control.ListPeers: self._list_peers,
            control.ConnectPeer: self._connect,
            control.FindPayment: self._payment,
            control.Payments: self._payments,
            control.History: self._history,
            control.Stop: self._stop_node,
        }

    async def call(self, method: Method) -> Record:
        """Answer one method; raises LocalError."""
        await trio.lowlevel.checkpoint()
        return await self._methods[type(method)](method)

    async def wait_room(self, channel_id: bytes) -> None:
        """Until the channel takes payments and its queue has room: `pay` slows its caller down. Raises LocalError."""
        await self.desk.wait_room(channel_id)

    def pay_each(self, message: PayEach, done: EachDone) -> None:
        """Queue payments, each on its own; `done` is told of every one."""
        self.desk.pay_each(message, done)

    def pay_many(self, message: PayMany, done: Done) -> None:
        """Queue up to 4,096 payments in a row, all or none; `done` is told once. Raises LocalError."""
        self.desk.pay_many(message, done)

    def before_turn(self, hand_over: Callable[[], None]) -> Callable[[], None]:
        """Have `hand_over` called at the beginning of every turn; gives what asks for a turn."""
        self.engine.sources.append(hand_over)
        return self.engine.wake

    # --- Looking ---------------------------------------------------------------------------

    async def _status(self, _: control.Status) -> Record:
        node, clock = self.node, trio.current_time()
        phases = node.roster.phases
        return control.StatusView(
            node.node_id,
            __version__,
            str(self._home.path),
            self.listening[:16],
            node.ledger.ledger_id,
            str(self._config.ledger.address),
            int(node.ledger.subscribed),
            node.ledger.time_now(clock),
            node.ledger.number,
            node.account,
            sum(phases[p] for p in (Phase.ACCEPTED, Phase.FUNDED, Phase.OPEN)),
            sum(phases[p] for p in (Phase.SHUTDOWN, Phase.FINAL, Phase.CLOSING)),
            phases[Phase.SETTLED],
            len(node.connections),
            self.engine.store.received,
            *usage(),
            tuple(cut(warning, 1000) for warning in self.engine.warnings),
        )

    def _asset_list(self) -> tuple[AssetView, ...]:
        return tuple(self.node.ledger.assets.values())[:MAX_PAGE]

    async def _assets(self, _: control.ListAssets) -> Record:
        await self._read_assets()
        return control.AssetList(self._asset_list())

    async def _read_assets(self) -> None:
        """Assets that were created a moment ago count: ask the ledger now."""
        ledger = self.node.ledger
        await self._until(lambda: bool(ledger.subscribed), LEDGER_REQUEST_TIMEOUT_S, self._no_ledger)
        asked_at = trio.current_time()
        self.node.read_ledger(asked_at)
        self.engine.wake()
        await self._until(lambda: ledger.fresh_at >= asked_at, LEDGER_REQUEST_TIMEOUT_S, self._no_ledger)

    async def _channels(self, method: control.ListChannels) -> Record:
        roster, clock = self.node.roster, trio.current_time()
        ids = roster.page(method.after or b"", _CHANNELS_PAGE + 1, dead=bool(method.settled))
        page = tuple(channel_info(self.node, roster.peek(key), clock) for key in ids[:_CHANNELS_PAGE])
        return control.ChannelList(page, int(len(ids) > _CHANNELS_PAGE), self._asset_list())

    async def _show(self, method: control.ShowChannel) -> Record:
        prefix = method.prefix.lower()
        found = self.node.roster.named(prefix) if prefix else []
        if not found:
            raise LocalError(Reason.UNKNOWN_CHANNEL, f"no channel's id begins with {method.prefix!r}")
        if len(found) > 1:
            raise LocalError(
                Reason.AMBIGUOUS_CHANNEL, f"{len(found)} channels' ids begin with {prefix!r}: type more of it"
            )
        return self._one(self.node.roster.peek(found[0]))

    def _one(self, channel: Channel) -> control.ChannelOne:
        return control.ChannelOne(channel_info(self.node, channel, trio.current_time()), self._asset_list())

    async def _balance(self, _: control.Balance) -> Record:
        request_id = self.node.read_account(trio.current_time())
        if request_id is None:
            raise self._no_ledger()
        self.engine.wake()
        with self.engine.watch(request_id) as answers:
            await self._until(lambda: bool(answers), LEDGER_REQUEST_TIMEOUT_S, self._no_ledger)
        held = {h.asset_id: h.units for h in answers[0].holdings}
        if not held.keys() <= self.node.ledger.assets.keys():
            await self._read_assets()
        inside = await self._in_channels()
        rows = tuple(
            control.AssetBalance(key, held.get(key, 0), inside.get(key, 0)) for key in sorted({*held, *inside})
        )
        return control.BalanceView(rows, self._asset_list())

    async def _in_channels(self) -> dict[bytes, int]:
        """Units of this node in channels that are not settled, by asset. Others go on while many are added up."""
        inside: dict[bytes, int] = {}
        roster = self.node.roster
        for index, channel_id in enumerate(list(roster.live)):
            c = roster.peek(channel_id)
            asset_id = c.setup.terms.asset_id
            inside[asset_id] = inside.get(asset_id, 0) + max(0, c.own_balance())
            if index % _CHANNELS_PAGE == 0:
                await trio.lowlevel.checkpoint()
        return inside

    async def _list_peers(self, _: control.ListPeers) -> Record:
        node = self.node
        rows = []
        for peer_id in sorted({*node.roster.by_peer, *node.connections} - {UNKNOWN_PEER}):
            live = node.roster.count_with(peer_id)
            sent, received = self.engine.traffic(peer_id)
            rows.append(
                control.PeerInfo(
                    peer_id,
                    node.addresses.get(peer_id, ""),
                    int(peer_id in node.connections),
                    self._peers.connected_since(peer_id),
                    live,
                    sent,
                    received,
                )
            )
        return control.PeerList(tuple(rows[: control.MAX_ROWS]))

    async def _connect(self, method: control.ConnectPeer) -> Record:
        address = _address(method.peer)
        self.node.know_address(address.key, method.peer)
        if address.key not in self.node.connections:
            if not self.node.wants_peer(address.key):
                raise LocalError(Reason.USAGE, "no channel waits for a peer; a channel to a node is opened by 'open'")
            self._peers.dial_now(address.key)
        await self._durable()
        connections = self.node.connections
        await self._until(lambda: address.key in connections, ANSWER_TIMEOUT_S, _no_answer(method.peer))
        return control.Empty()

    # --- Channels --------------------------------------------------------------------------

    async def _open(self, method: control.OpenChannel) -> Record:
        address = _address(method.peer)
        if method.flags not in (FLAG_TWO_WAY, FLAG_ONE_WAY):
            raise LocalError(Reason.USAGE, f"flags {method.flags} are neither two_way (0) nor one_way (1)")
        ledger = self.node.ledger
        await self._until(lambda: ledger.subscribed, LEDGER_REQUEST_TIMEOUT_S, self._no_ledger)
        window_s = method.window_s or self._config.channel.window_s
        if not ledger.min_window_s <= window_s <= ledger.max_window_s:
            raise LocalError(
                Reason.USAGE, f"window {window_s} s: the ledger takes {ledger.min_window_s} to {ledger.max_window_s} s"
            )
        max_batch = method.max_batch or self._config.channel.max_batch
        if not 1 <= max_batch <= MAX_BATCH:
            raise LocalError(Reason.USAGE, f"max_batch {max_batch} is outside 1 .. {MAX_BATCH}")
        if method.deposit < ledger.min_deposit:
            raise LocalError(Reason.USAGE, f"the ledger opens channels with at least {ledger.min_deposit} units")
        nonce = self.node.open_channel(
            address.key, method.asset_id, method.deposit, method.flags, window_s, max_batch, trio.current_time()
        )
        self.node.know_address(address.key, method.peer)
        self._peers.dial_now(address.key)
        with self.engine.watch(nonce) as told:
            await self._durable()
            return self._one(await self._opened(told, method.peer))

    async def _opened(self, told: list[bytes | LocalError], peer: str) -> Channel:
        """The channel of an opening, of which `told` tells what became of it."""

        no_answer = _no_answer(peer)
        await self._until(lambda: bool(told), _OPEN_TIMEOUT_S, no_answer)
        result = told[0]
        if isinstance(result, LocalError):
            raise no_answer() if result.reason is Reason.TIMED_OUT else result
        channel = self.node.channels[result]
        waiting = (Phase.ACCEPTED, Phase.FUNDED)
        await self._until(lambda: len(told) > 1 or channel.phase not in waiting, _OPEN_TIMEOUT_S, self._slow(channel))
        if len(told) > 1:  # the peer had accepted, the ledger refused
            refused = told[1]
            assert isinstance(refused, LocalError)
            raise refused
        return channel

    async def _topup(self, method: control.TopupChannel) -> Record:
        if method.units < 1:
            raise LocalError(Reason.USAGE, "a top-up is at least one unit")
        channel = self.node.channel(method.channel_id)
        request_id = self.node.topup(method.channel_id, method.units, trio.current_time())
        with self.engine.watch(request_id) as answers:
            await self._durable()
            await self._until(
                lambda: bool(answers), LEDGER_REQUEST_TIMEOUT_S, self._unknown(channel, "top-up, which goes on")
            )
        self._check_done(answers[0])
        return self._one(channel)

    async def _withdraw(self, method: control.WithdrawChannel) -> Record:
        channel = self.node.channel(method.channel_id)
        before = channel.reading.withdrawn[channel.side] if channel.reading else 0
        left = channel.spendable()
        if channel.phase is Phase.OPEN and method.units > left:
            wanted, left_text = money(self.node, channel, method.units), money(self.node, channel, left)
            raise LocalError(Reason.INSUFFICIENT_BALANCE, f"{wanted} to withdraw, {left_text} left in the channel")
        with self.engine.watch(method.channel_id) as notes:
            self.node.withdraw(method.channel_id, method.units, trio.current_time())
            await self._durable()
            await self._until(
                lambda: channel.side not in channel.withdrawals or channel.phase in DEAD,
                2 * ANSWER_TIMEOUT_S,
                self._slow(channel),
            )
        if channel.reading is None or channel.reading.withdrawn[channel.side] <= before:
            raise LocalError(Reason.PEER_REFUSED, notes[-1] if notes else "the withdrawal was not executed")
        return self._one(channel)

    async def _claim(self, method: control.ClaimChannel) -> Record:
        channel = self.node.channel(method.channel_id)
        self.node.claim(method.channel_id, trio.current_time())
        with self.engine.watch((method.channel_id, "claim")) as answers:
            await self._durable()
            # The ledger's answer, or the connection to it was lost: then nobody waits for one any more.
            await self._until(
                lambda: bool(answers) or "claim" not in channel.in_flight,
                LEDGER_REQUEST_TIMEOUT_S,
                self._unknown(channel, "claim"),
            )
        if not answers:
            raise self._unknown(channel, "claim")()
        self._check_done(answers[0])
        return self._one(channel)

    def _check_done(self, answer: tuple[int, str]) -> None:
        outcome, text = answer
        if outcome:
            raise LocalError(Reason.LEDGER_REFUSED, f"the ledger refused: {text}")

    async def _close(self, method: control.CloseChannel) -> Record:
        channel = self.node.channel(method.channel_id)
        if channel.phase not in (Phase.SHUTDOWN, Phase.FINAL, Phase.CLOSING) or method.force:
            self.node.close(method.channel_id, bool(method.force), trio.current_time())
            await self._durable()
        if method.wait:
            limit = 2 * CLOSE_TIMEOUT_S + channel.setup.terms.window_s
            await self._until(lambda: channel.phase is Phase.SETTLED, limit, self._slow(channel))
        return self._one(channel)

    # --- Payments --------------------------------------------------------------------------

    async def _payment(self, method: control.FindPayment) -> Record:
        return self.desk.find(method.payment_id, method.channel_id)

    async def _payments(self, method: control.Payments) -> Record:
        store = self.engine.store
        if method.after > store.received:
            raise LocalError(
                Reason.USAGE, f"cursor {method.after} is beyond the {store.received} payments that were received"
            )
        if 0 < method.after < store.kept_from:
            raise LocalError(
                Reason.PRUNED,
                f"cursor {method.after} is before {store.kept_from}, the first that is kept; records.keep_s in the "
                "configuration says for how long. Cursor 0 begins with the first that is kept",
            )
        while method.wait and store.received <= method.after:
            self.engine.check_running()
            await self.engine.arrived.park()
        rows = store.journal(method.after, max(1, method.limit), _MAX_PAGE_BYTES)
        batches = tuple(control.ReceivedBatch(*row) for row in rows)
        return control.ReceivedPage(batches, rows[-1].next_position if rows else method.after)

    async def _history(self, method: control.History) -> Record:
        store = self.engine.store
        if method.channel_id not in self.node.channels:
            raise LocalError(Reason.UNKNOWN_CHANNEL, f"no channel {method.channel_id.hex()}")
        kept_n = store.kept_n(method.channel_id, method.payer)
        if 1 < method.from_n < kept_n:
            raise LocalError(
                Reason.PRUNED,
                f"payment {method.from_n} is before {kept_n}, the first whose records are kept; records.keep_s in the "
                "configuration says for how long. Number 1 begins with the first that is kept",
            )
        room = min(_MAX_PAGE_BYTES, max(1, method.limit) * 40)
        batches = store.batches(method.channel_id, method.payer, max(1, method.from_n), room, over_gaps=True)
        rows = tuple(control.HistoryBatch(*batch) for batch in batches)
        return control.HistoryPage(rows, batches[-1].last_n + 1 if batches else max(1, method.from_n))

    # --- Waiting ---------------------------------------------------------------------------

    async def _stop_node(self, _: control.Stop) -> Record:
        if self._stop is None:
            raise LocalError(Reason.USAGE, "this node runs inside a program: stop the program")
        self._stop()
        return control.Empty()

    async def _durable(self) -> None:
        """What was asked for is on disk, and whoever dials and submits has been told (spec N-8)."""
        await self.engine.made_durable()
        self.engine.changed.unpark_all()  # the dialler looks for new peers

    async def _until(self, reached: Callable[[], bool], seconds: float, late: Callable[[], LocalError]) -> None:
        with trio.move_on_after(seconds):
            while not reached():
                self.engine.check_running()
                await self.engine.changed.park()
        if not reached():
            raise late()
        # What was seen may be newer than the disk, and than what the node has told so far.
        await self.engine.made_durable()

    def _no_ledger(self) -> LocalError:
        return LocalError(
            Reason.LEDGER_UNREACHABLE,
            f"the ledger at {self._config.ledger.address} does not answer: is it running there?",
        )

    def _unknown(self, channel: Channel, what: str) -> Callable[[], LocalError]:
        def late() -> LocalError:
            name = channel.channel_id.hex()[:16]
            text = f"the ledger has not answered the {what}; see 'channelpay channel show {name}'"
            return LocalError(Reason.TIMED_OUT, text)

        return late

    def _slow(self, channel: Channel) -> Callable[[], LocalError]:
        def late() -> LocalError:
            name = channel.channel_id.hex()[:16]
            return LocalError(
                Reason.TIMED_OUT,
                f"channel {name} is still {channel.phase.name.lower()}; see 'channelpay channel show {name}'",
            )

        return late


def node_address(node_id: bytes, place: str) -> str:
    """cp1...@host:port."""
    return f"{encode_id(NODE_PREFIX, node_id)}@{place}"


def cut(text: str, most: int) -> str:
    """`text` if it has at most `most` bytes of UTF-8, else as much of it."""
    return text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _address(text: str) -> Address:
    try:
        return parse_address(NODE_PREFIX, text)
    except AddressError as error:
        raise LocalError(Reason.USAGE, str(error)) from None


def _no_answer(peer: str) -> Callable[[], LocalError]:
    return lambda: LocalError(Reason.PEER_UNREACHABLE, f"{peer} did not answer in time: is it running there?")
