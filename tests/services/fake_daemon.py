"""A node in memory that answers a client: over a stream as a daemon does, or as an object in the process."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from channelpay.batches import NO_ID, RECORD_BYTES, Batch, pack_memos, pack_record
from channelpay.daemon.outbox import Outbox
from channelpay.errors import LocalError, Reason
from channelpay.framing import FrameBuffer
from channelpay.limits import MAX_CONTROL_FRAME
from channelpay.messages import control
from channelpay.messages.control import Call, Cancel, Failed, Paid, PayEach, PayMany, Refusal, Result
from channelpay.messages.ledger import AssetView
from channelpay.messages.schema import Record

USD = AssetView(b"U" * 16, "USD", 6, b"I" * 32)
CHANNEL = bytes(range(32))
PEER = b"P" * 32


def channel_info(channel_id: bytes = CHANNEL, *, deposit: int = 10**12, phase: str = "open") -> control.ChannelInfo:
    """A channel in which this node is party 0 and has paid nothing."""
    return control.ChannelInfo(
        channel_id=channel_id, peer_id=PEER, asset_id=USD.asset_id, side=0, phase=phase, flags=0, window_s=60,
        max_batch=4096, deposit0=deposit, deposit1=0, withdrawn0=0, withdrawn1=0, own_n=0, own_total=0, own_acked_n=0,
        peer_n=0, peer_total=0, balance=deposit, peer_balance=0, queued=0, connected=1, stalled="", deadline=0, out0=0,
        out1=0, state=None,
    )  # fmt: skip


class FakeNode:
    """What a daemon answers with, kept in memory. `held` keeps payments from being answered."""

    def __init__(self, *channels: control.ChannelInfo) -> None:
        self.channels = {info.channel_id: info for info in channels or (channel_info(),)}
        self.made: list[tuple[bytes, int, bytes, bytes]] = []  # (channel, amount, id, memo) as they were paid
        self.by_id: dict[bytes, tuple[bytes, int, int]] = {}  # id -> (channel, n, amount)
        self.journal: list[control.ReceivedBatch] = []
        self.calls: list[control.Method] = []
        self.called_off = 0
        self.unanswered = 0  # payments that came and are not answered yet
        self.held = trio.Event()
        self.held.set()
        self._changed = trio.Condition()

    async def until(self, true: object) -> None:
        """Wait until `true()`, looked at whenever something happened here."""
        async with self._changed:
            while not true():  # type: ignore[operator]
                await self._changed.wait()

    async def changed(self) -> None:
        """Something happened: `until` looks again."""
        async with self._changed:
            self._changed.notify_all()

    def hold(self) -> None:
        """Answer no payment until `held.set()`."""
        self.held = trio.Event()

    # --- Payments ---

    def pay_each(self, message: PayEach, done: Callable[[Paid | Refusal], None]) -> None:
        """Payments, each on its own; a known id pays nothing."""
        for call_id, payment in enumerate(Batch(1, message.records, message.memos).payments(), message.call_id):
            try:
                record = pack_record(payment.amount, payment.payment_id)
                paid = self._queue(message.channel_id, record, {0: payment.memo}, call_id)
            except LocalError as error:
                done(Refusal(call_id, error))
            else:
                self._answer_when_let(paid, done)

    def pay_many(self, message: PayMany, done: Callable[[Paid], None]) -> None:
        """All or none."""
        batch = Batch(1, message.records, message.memos)
        memos = {payment.n - 1: payment.memo for payment in batch.payments()}
        self._answer_when_let(self._queue(message.channel_id, message.records, memos, message.call_id), done)

    def _answer_when_let(self, paid: Paid, done: Callable[[Paid], None]) -> None:
        self.unanswered += 1

        async def answer() -> None:
            await self.changed()
            await self.held.wait()
            self.unanswered -= 1
            done(paid)

        trio.lowlevel.spawn_system_task(answer)

    async def wait_room(self, channel_id: bytes) -> None:
        """There is always room."""
        await trio.lowlevel.checkpoint()

    def before_turn(self, hand_over: Callable[[], None]) -> Callable[[], None]:
        """A turn begins as soon as it is asked for."""

        async def turn() -> None:
            hand_over()

        return lambda: trio.lowlevel.spawn_system_task(turn)

    def _queue(self, channel_id: bytes, records: bytes, memos: dict[int, bytes], call_id: int) -> Paid:
        info = self._channel(channel_id)
        payments = list(Batch(info.own_n + 1, records, b"").payments())
        known = [self.by_id[p.payment_id] for p in payments if p.payment_id in self.by_id]
        if known:
            return Paid(call_id, known[0][1], len(payments), 1)
        total = sum(payment.amount for payment in payments)
        if total > info.balance:
            raise LocalError(Reason.INSUFFICIENT_BALANCE, f"{total} units are more than the balance {info.balance}")
        for index, payment in enumerate(payments):
            self.made.append((channel_id, payment.amount, payment.payment_id, memos.get(index, b"")))
            if payment.payment_id != NO_ID:
                self.by_id[payment.payment_id] = (channel_id, payment.n, payment.amount)
        last = payments[-1].n
        self.channels[channel_id] = replace(
            info, own_n=last, own_acked_n=last, own_total=info.own_total + total, balance=info.balance - total
        )
        return Paid(call_id, payments[0].n, len(payments), 0)

    def _channel(self, channel_id: bytes) -> control.ChannelInfo:
        if channel_id not in self.channels:
            raise LocalError(Reason.UNKNOWN_CHANNEL, f"no channel {channel_id.hex()}")
        return self.channels[channel_id]

    # --- Received ---

    async def receive(self, *payments: tuple[int, bytes, bytes], repeated: tuple[int, ...] = ()) -> None:
        """A batch arrives: (amount, id, memo) each."""
        records = b"".join(pack_record(amount, payment_id) for amount, payment_id, _ in payments)
        memos = pack_memos([(index, memo) for index, (_, _, memo) in enumerate(payments) if memo])
        total = sum(amount for amount, _, _ in payments)
        kind = control.ENTRY_PAYMENTS
        await self._append(kind, len(payments), total, records, memos, repeated)

    async def receive_unavailable(self, count: int, total: int) -> None:
        """Payments are told of whose records nobody has."""
        await self._append(control.ENTRY_UNAVAILABLE, count, total, b"", b"", ())

    async def _append(
        self, kind: int, count: int, total: int, records: bytes, memos: bytes, repeated: tuple[int, ...]
    ) -> None:
        first_n = sum(batch.count for batch in self.journal) + 1
        self.journal.append(
            control.ReceivedBatch(self.received, CHANNEL, kind, first_n, count, total, records, memos, repeated)
        )
        await self.changed()

    @property
    def received(self) -> int:
        """Positions taken so far."""
        return _end(self.journal[-1]) if self.journal else 0

    async def _payments(self, method: control.Payments) -> control.ReceivedPage:
        if method.wait:
            await self.until(lambda: self.received > method.after)
        batches: list[control.ReceivedBatch] = []
        for batch in self.journal:
            if _end(batch) > method.after and sum(found.count for found in batches) < method.limit:
                batches.append(batch)
        return control.ReceivedPage(tuple(batches), _end(batches[-1]) if batches else method.after)

    # --- Methods ---

    async def call(self, method: control.Method) -> Record:
        """The answer to any method."""
        self.calls.append(method)
        await self.changed()
        match method:
            case control.Payments():
                try:
                    return await self._payments(method)
                except trio.Cancelled:
                    self.called_off += 1
                    with trio.CancelScope(shield=True):
                        await self.changed()
                    raise
            case control.FindPayment(payment_id=payment_id):
                if payment_id not in self.by_id:
                    return control.PaymentView(control.PAYMENT_UNKNOWN, None, 0, 0, payment_id)
                channel_id, n, amount = self.by_id[payment_id]
                return control.PaymentView(control.PAYMENT_PAID, channel_id, n, amount, payment_id)
            case control.History(from_n=from_n, limit=limit):
                mine = [(amount, payment_id) for _, amount, payment_id, _ in self.made[from_n - 1 : from_n - 1 + limit]]
                records = b"".join(pack_record(*payment) for payment in mine)
                batches = (control.HistoryBatch(from_n, records, b""),) if mine else ()
                return control.HistoryPage(batches, from_n + len(mine))
            case _:
                return self._plain_call(method)

    def _plain_call(self, method: control.Method) -> Record:
        match method:
            case control.ListAssets():
                return control.AssetList((USD,))
            case control.ListChannels(after=after):
                left = [info for key, info in sorted(self.channels.items()) if after is None or key > after]
                return control.ChannelList(tuple(left[:2]), int(len(left) > 2), (USD,))
            case control.ShowChannel(prefix=prefix):
                found = [info for key, info in self.channels.items() if key.hex().startswith(prefix)]
                if len(found) != 1:
                    raise LocalError(Reason.UNKNOWN_CHANNEL, f"{len(found)} channels begin with {prefix}")
                return control.ChannelOne(found[0], (USD,))
            case control.OpenChannel(deposit=deposit, window_s=window_s):
                info = replace(channel_info(b"N" * 32, deposit=deposit), window_s=window_s or 86_400)
                self.channels[info.channel_id] = info
                return control.ChannelOne(info, (USD,))
            case control.CloseChannel(channel_id=channel_id):
                self.channels[channel_id] = replace(self._channel(channel_id), phase="settled")
                return control.ChannelOne(self.channels[channel_id], (USD,))
            case control.TopupChannel(channel_id=channel_id, units=units):
                info = self._channel(channel_id)
                self.channels[channel_id] = replace(info, deposit0=info.deposit0 + units)
                return control.ChannelOne(self.channels[channel_id], (USD,))
            case control.Balance():
                return control.BalanceView((control.AssetBalance(USD.asset_id, 5_000_000, 250_000),), (USD,))
        raise LocalError(Reason.USAGE, f"the fake knows no {method.NAME}")


def _end(batch: control.ReceivedBatch) -> int:
    return batch.position + (len(batch.records) // RECORD_BYTES or 1)


class FakeDaemon:
    """Serves a FakeNode over streams as the daemon's control server does."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self._streams: set[trio.abc.Stream] = set()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Answer one client until it goes away or `drop` is called."""
        buffer = FrameBuffer(MAX_CONTROL_FRAME)
        scopes: dict[int, trio.CancelScope] = {}
        outbox = Outbox(stream)
        self._streams.add(stream)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outbox.run)
                while data := await stream.receive_some(65536):
                    buffer.feed(data)
                    while (item := buffer.next_frame()) is not None:
                        message = control.decode(*item)
                        if isinstance(message, Cancel):
                            scopes[message.call_id].cancel()
                        elif isinstance(message, PayEach | PayMany):
                            self._pay(message, outbox)
                        else:
                            scopes[message.call_id] = trio.CancelScope()
                            nursery.start_soon(self._answer, message, outbox, scopes[message.call_id])
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._streams.discard(stream)
            await trio.aclose_forcefully(stream)

    def _pay(self, message: PayEach | PayMany, outbox: Outbox) -> None:
        def done(answer: Paid | Refusal) -> None:
            if isinstance(answer, Refusal):
                answer = Failed(answer.call_id, answer.error.reason, str(answer.error))
            outbox.put(answer.to_frame())

        if isinstance(message, PayEach):
            self.node.pay_each(message, done)
            return
        try:
            self.node.pay_many(message, done)
        except LocalError as refusal:
            done(Refusal(message.call_id, refusal))

    async def _answer(self, message: Call, outbox: Outbox, scope: trio.CancelScope) -> None:
        with scope:
            try:
                result = await self.node.call(control.METHODS[message.method].decode(message.body))
            except LocalError as refusal:
                outbox.put(Failed(message.call_id, refusal.reason, str(refusal)).to_frame())
            else:
                outbox.put(Result(message.call_id, result.encode()).to_frame())

    async def drop(self) -> None:
        """Break every connection, as a killed daemon does."""
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        """Accept clients on a Unix socket; at the end drop them and remove the socket."""
        listener = trio.socket.socket(socket.AF_UNIX)
        await listener.bind(os.fspath(path))
        listener.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self.serve, [trio.SocketListener(listener)])
            yield
            nursery.cancel_scope.cancel()
        path.unlink()
