"""The client of a node: pay and be paid from a trio program.

Connect to the daemon of this machine, or run the node inside the process; the methods are the same::

    async with channelpay.connect() as node:              # async with channelpay.Node(home) as node:
        channel = await node.open_channel("cp1...@host:7668", "5 USD")
        payment = await node.pay(channel, "0.0001 USD")   # returns once the payee holds it durably
        await node.close_channel(channel)

    async for payment in node.payments(after=cursor):     # the other side
        ...

What can go wrong is listed in `channelpay.services.exceptions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from channelpay.amounts import Asset, parse_amount, split_amount
from channelpay.batches import NO_ID
from channelpay.errors import AmountError, LocalError, Reason
from channelpay.messages import control
from channelpay.messages.ledger import AssetView
from channelpay.messages.schema import Record
from channelpay.services.backend import Backend
from channelpay.services.bulk import Order, checked_amount, checked_id, checked_memo, chunked, outcome
from channelpay.services.exceptions import NotReachable
from channelpay.services.streams import History, ReceivedBatches, ReceivedPayments
from channelpay.services.values import (
    PAYMENT_STATES,
    Balance,
    Channel,
    PaidMany,
    Payment,
    PaymentStatus,
)
from channelpay.statements import FLAG_ONE_WAY, FLAG_TWO_WAY

_R = TypeVar("_R", bound=Record)
_PAGE_PAYMENTS: Final = 4096

ChannelLike = Channel | bytes | str
"""A channel: what `open_channel` gave, its id (32 bytes), or the id in hex (its first digits suffice)."""


class Client:
    """A node, as a service uses it. Get one from `connect()` or `Node(home)`.

    All methods may be called from many tasks at once. Amounts are whole units of the channel's asset
    (int) or texts such as `"0.0001 USD"`. What a call may raise: see `channelpay.services.exceptions`.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._assets: dict[bytes, Asset] = {}
        self._asset_of: dict[bytes, Asset] = {}

    # --- Paying ----------------------------------------------------------------------------

    async def pay(
        self, channel: ChannelLike, amount: int | str, *, payment_id: bytes | None = None, memo: bytes = b""
    ) -> Payment:
        """Pay `amount`; returns once the payee holds the payment durably and has signed for it.

        `payment_id` (16 bytes from `new_payment_id()`) makes the payment repeatable: paying again
        with the same id and amount gives the first payment back and pays nothing. A payment without
        an id is a little cheaper, and cannot be looked up after a lost connection: give an id
        whenever a payment stands for something. `memo` is at most 256 bytes for the payee.

        Raises Refused (nothing paid), NotReachable (nothing paid), PaymentUnknown, AmountError.
        When cancelled, the payment is unknown too.
        """
        channel_id = _id_of(channel) if type(channel) is bytes else await self._channel_id(channel)
        units = amount if type(amount) is int else await self._units(channel_id, amount)
        wire_id = NO_ID if payment_id is None else checked_id(payment_id)
        n, repeated = await self._backend.pay(channel_id, checked_amount(units), wire_id, checked_memo(memo))
        return Payment(channel_id, n, units, payment_id, memo, repeated == 1)

    async def pay_many(self, channel: ChannelLike, payments: Iterable[Order]) -> PaidMany:
        """Pay many at once, in order; returns once the payee holds them all.

        An order is an amount, or (amount, payment_id or None, memo). Up to 4,096 of them travel
        together and are queued all or none; more are sent as several such chunks. Raises what `pay`
        does, and PartlyPaid if some chunks were paid and another one was not. After PaymentUnknown
        the same orders with the same ids can be paid again; `pay`, one by one, tells of each.
        """
        channel_id = await self._channel_id(channel)
        orders = payments if isinstance(payments, Sequence) else list(payments)
        if any(type(order) is str or (type(order) is tuple and type(order[0]) is str) for order in orders):
            orders = [await self._in_units(channel_id, order) for order in orders]
        parts = chunked(orders)
        answers = await self._backend.pay_chunks(channel_id, [part.chunk for part in parts])
        return outcome(channel_id, parts, answers)

    async def payment(self, payment_id: bytes, channel: ChannelLike | None = None) -> PaymentStatus:
        """What became of a payment that this node made, by its id; looks only at `channel` if given."""
        channel_id = None if channel is None else await self._channel_id(channel)
        view = await self._ask(control.FindPayment(checked_id(payment_id), channel_id), control.PaymentView)
        state = PAYMENT_STATES.get(view.status)
        if state is None:
            raise NotReachable(f"the node speaks another version: payment status {view.status}")
        return PaymentStatus(state, payment_id, view.channel_id, view.n, view.amount)

    # --- Being paid ------------------------------------------------------------------------

    def payments(self, after: int = 0) -> ReceivedPayments:
        """Received payments of all channels in order, for ever: those after `after`, then each as it comes.

        Nothing is remembered here or at the node: the same `after` gives the same payments again.
        Each payment carries the `cursor` to continue from. Store it in the transaction that stores
        what the payment causes, and every payment has its effect exactly once, whatever crashes::

            async for payment in node.payments(after=database.cursor()):
                with database.transaction():
                    if not payment.repeated:
                        database.credit(payment.payment_id, payment.amount)
                    database.set_cursor(payment.cursor)

        More is asked for only when what came is used up, so a slow service just falls behind.
        """
        return ReceivedPayments(self.payment_batches(after), after)

    def payment_batches(self, after: int = 0) -> ReceivedBatches:
        """The same as `payments`, batch by batch as bytes, for those who receive very many.

        The first batch may begin before `after`.
        """

        async def fetch(position: int) -> control.ReceivedPage:
            return await self._ask(control.Payments(position, _PAGE_PAYMENTS, 1), control.ReceivedPage)

        return ReceivedBatches(fetch, after)

    # --- Channels --------------------------------------------------------------------------

    async def open_channel(
        self,
        peer: str,
        deposit: int | str,
        *,
        one_way: bool = False,
        window_s: int | None = None,
        max_batch: int | None = None,
        asset: Asset | None = None,
    ) -> Channel:
        """Open a channel to the node at `peer` (`cp1...@host:port`) and wait until both may pay.

        `deposit` is this node's own part, such as `"5 USD"`; in units it needs `asset`. On a
        `one_way` channel only this node pays. `window_s` is the dispute window, `max_batch` the most
        payments under one signature; the defaults are the node's.
        """
        if asset is None:
            asset = await self._asset_named(deposit)
        units = deposit if isinstance(deposit, int) else parse_amount(deposit, asset)
        flags = FLAG_ONE_WAY if one_way else FLAG_TWO_WAY
        method = control.OpenChannel(peer, asset.asset_id, checked_amount(units), flags, window_s or 0, max_batch or 0)
        return await self._ask_channel(method)

    async def close_channel(self, channel: ChannelLike, *, force: bool = False, wait: bool = True) -> Channel:
        """Close together with the peer, or with `force` without it; `wait` until the ledger has settled it."""
        return await self._ask_channel(control.CloseChannel(await self._channel_id(channel), int(force), int(wait)))

    async def topup(self, channel: ChannelLike, amount: int | str) -> Channel:
        """Add `amount` of this node's account to its deposit in the channel."""
        channel_id = await self._channel_id(channel)
        return await self._ask_channel(control.TopupChannel(channel_id, await self._units(channel_id, amount)))

    async def withdraw(self, channel: ChannelLike, amount: int | str) -> Channel:
        """Take `amount` out of the channel into this node's account; the peer must agree."""
        channel_id = await self._channel_id(channel)
        return await self._ask_channel(control.WithdrawChannel(channel_id, await self._units(channel_id, amount)))

    async def claim(self, channel: ChannelLike) -> Channel:
        """On a one_way channel, as its payee: take what has been paid so far, without the peer."""
        return await self._ask_channel(control.ClaimChannel(await self._channel_id(channel)))

    async def channel(self, channel: ChannelLike) -> Channel:
        """One channel as it stands now, by its id or the first hex digits of it."""
        prefix = channel if isinstance(channel, str) else _id_of(channel).hex()
        return await self._ask_channel(control.ShowChannel(prefix))

    async def channels(self, *, settled: bool = False) -> list[Channel]:
        """All channels that are not settled, or with `settled` all."""
        found: list[Channel] = []
        while True:
            after = found[-1].id if found else None
            page = await self._ask(control.ListChannels(after, int(settled)), control.ChannelList)
            self._learn(page.assets)
            found += [await self._channel_of(info) for info in page.channels]
            if not page.more or not page.channels:
                return found

    # --- Looking ---------------------------------------------------------------------------

    async def balance(self) -> tuple[Balance, ...]:
        """What this node owns, asset by asset."""
        view = await self._ask(control.Balance(), control.BalanceView)
        self._learn(view.assets)
        return tuple([Balance(await self._asset(item.asset_id), item.account, item.channels) for item in view.balances])

    async def status(self) -> control.StatusView:
        """The node in one look."""
        return await self._ask(control.Status(), control.StatusView)

    async def peers(self) -> tuple[control.PeerInfo, ...]:
        """The peers with whom this node has, or had, a channel or a connection."""
        return (await self._ask(control.ListPeers(), control.PeerList)).peers

    def history(self, channel: ChannelLike, *, received: bool = False, from_n: int = 1) -> History:
        """The payments that this node made on a channel (or `received` there), from number `from_n` on."""
        found: Channel | None = None

        async def fetch(position: int) -> tuple[bytes, control.HistoryPage]:
            nonlocal found
            found = found or await self.channel(channel)
            payer = 1 - found.info.side if received else found.info.side
            method = control.History(found.id, payer, position, _PAGE_PAYMENTS)
            return found.id, await self._ask(method, control.HistoryPage)

        return History(fetch, from_n)

    # --- Inside ----------------------------------------------------------------------------

    async def _ask(self, method: control.Method, kind: type[_R]) -> _R:
        answer = await self._backend.call(method)
        if not isinstance(answer, kind):
            raise TypeError(f"{method.NAME} answers with {type(answer).__name__}, not {kind.__name__}")
        return answer

    async def _ask_channel(self, method: control.Method) -> Channel:
        view = await self._ask(method, control.ChannelOne)
        self._learn(view.assets)
        return await self._channel_of(view.channel)

    async def _channel_of(self, info: control.ChannelInfo) -> Channel:
        asset = self._asset_of[info.channel_id] = await self._asset(info.asset_id)
        return Channel(info, asset)

    async def _asset(self, asset_id: bytes) -> Asset:
        """A node that has just started knows its channels before the ledger has told it the assets."""
        if asset_id not in self._assets:
            self._learn((await self._ask(control.ListAssets(), control.AssetList)).assets)
        if asset_id not in self._assets:
            raise LocalError(Reason.UNKNOWN_ASSET, f"the ledger has no asset {asset_id.hex()}")
        return self._assets[asset_id]

    def _learn(self, assets: Iterable[AssetView]) -> None:
        for view in assets:
            self._assets[view.asset_id] = Asset(view.asset_id, view.code, view.scale, view.issuer)

    async def _channel_id(self, channel: ChannelLike) -> bytes:
        if isinstance(channel, str):
            return bytes.fromhex(channel) if _is_whole_id(channel) else (await self.channel(channel)).id
        return _id_of(channel)

    async def _units(self, channel_id: bytes, amount: int | str) -> int:
        if not isinstance(amount, str):
            return checked_amount(amount)
        asset = self._asset_of.get(channel_id)
        return parse_amount(amount, asset or (await self.channel(channel_id)).asset)

    async def _in_units(self, channel_id: bytes, order: Order) -> Order:
        if isinstance(order, tuple):
            return (await self._units(channel_id, order[0]), *order[1:])
        return await self._units(channel_id, order)

    async def _asset_named(self, deposit: int | str) -> Asset:
        """The ledger's asset in the text of a deposit."""
        if isinstance(deposit, int):
            raise AmountError(f'{deposit} units of what? Write such as "5 USD", or name the asset')
        code = split_amount(deposit)[1]
        self._learn((await self._ask(control.ListAssets(), control.AssetList)).assets)
        found = [asset for asset in self._assets.values() if asset.code == code]
        if len(found) == 1:
            return found[0]
        why = f"{len(found)} assets of this ledger are called" if found else "this ledger has no asset"
        raise LocalError(Reason.UNKNOWN_ASSET, f"{why} {code}; name it by asset=")


def _is_whole_id(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def _id_of(channel: Channel | bytes) -> bytes:
    channel_id = channel.id if isinstance(channel, Channel) else channel
    if type(channel_id) is not bytes or len(channel_id) != 32:
        raise LocalError(Reason.UNKNOWN_CHANNEL, f"{channel_id!r} is no channel id: 32 bytes, or its hex digits")
    return channel_id
