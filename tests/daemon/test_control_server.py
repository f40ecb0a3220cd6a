"""The local socket: frames in, answers out; a bad client harms itself alone."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import asynccontextmanager

import pytest
import trio

from channelpay.batches import NO_ID, pack_record
from channelpay.daemon.control_server import ControlServer, SocketInUse, bind, bound
from channelpay.errors import Reason
from channelpay.framing import FrameBuffer
from channelpay.limits import MAX_CALLS, MAX_CONTROL_FRAME
from channelpay.messages import control
from channelpay.messages.control import Call, Cancel, Failed, Paid, PayEach, PayMany, Result, decode
from channelpay.messages.peer import Message
from daemon_rig import Rig, connect, open_channel, rigs


def pay(call_id: int, channel_id: bytes, *amounts: int) -> PayEach:
    return PayEach(call_id, channel_id, b"".join(amount.to_bytes(8, "big") + NO_ID for amount in amounts), b"")


class Client:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = FrameBuffer(MAX_CONTROL_FRAME)

    async def send(self, *messages: Message) -> None:
        await self.stream.send_all(b"".join(message.to_frame() for message in messages))

    async def receive(self) -> Message:
        with trio.fail_after(20):
            while (frame := self._buffer.next_frame()) is None:
                data = await self.stream.receive_some(65536)
                if not data:
                    raise EOFError
                self._buffer.feed(data)
        return decode(*frame)

    async def call(self, call_id: int, method: control.Method) -> Message:
        await self.send(Call(call_id, method.NAME, method.encode()))
        return await self.receive()


@asynccontextmanager
async def served(rig: Rig, clients: int = 1):
    async with bound(rig.home.control_socket) as listener, trio.open_nursery() as nursery:
        await nursery.start(ControlServer(rig.api).serve, listener)
        streams = [await trio.open_unix_socket(os.fspath(rig.home.control_socket)) for _ in range(clients)]
        yield [Client(stream) for stream in streams]
        for stream in streams:
            await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_calls_and_payments_are_answered_by_their_numbers(tmp_path):
    async with rigs(tmp_path) as (a, b):
        channel_id = (await open_channel(a, b)).channel_id
        async with served(a) as (client,):
            await client.send(
                pay(1, channel_id, 5),
                Call(2, "status", control.Status().encode()),
                PayMany(3, channel_id, pack_record(6) + pack_record(7), b""),
                pay(4, channel_id, 0),
                PayMany(5, channel_id, bytes(25), b""),
                pay(6, bytes(32), 1),
            )
            answers = [await client.receive() for _ in range(6)]
        found = {answer.call_id: answer for answer in answers}
        assert found[1] == Paid(1, 1, 1, 0)
        assert control.StatusView.decode(found[2].body).node_id == a.id
        assert found[3] == Paid(3, 2, 2, 0)
        assert found[4].reason == found[5].reason == Reason.USAGE
        assert found[6].reason == Reason.UNKNOWN_CHANNEL
        assert b.received() == [5, 6, 7]


async def test_what_a_client_sends_in_order_is_paid_in_order(tmp_path):
    async with rigs(tmp_path) as (a, b):
        channel_id = (await open_channel(a, b)).channel_id
        async with served(a) as (client,):
            await client.send(*(pay(n, channel_id, n) for n in range(1, 501)))
            answers = [await client.receive() for _ in range(500)]
        assert [(answer.call_id, answer.first_n) for answer in answers] == [(n, n) for n in range(1, 501)]
        assert b.received() == list(range(1, 501))


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x00",
        (MAX_CONTROL_FRAME + 1).to_bytes(4, "big") + b"\xa0",
        b"\x00\x00\x00\x02\xa0\x90",
        b"\x00\x00\x00\x02\x20\x90",
        b"\x00\x00\x00\x03\xa6\x91\xff",
    ],
)
async def test_garbage_ends_its_own_client_only(tmp_path, garbage):
    async with rigs(tmp_path, 1) as (a,):
        async with served(a, 2) as (bad, good):
            await bad.stream.send_all(garbage)
            with pytest.raises((EOFError, trio.BrokenResourceError)):
                await bad.receive()
            assert isinstance(await good.call(1, control.Status()), Result)


async def test_a_client_that_goes_away_in_the_middle_stops_nothing(tmp_path):
    async with rigs(tmp_path) as (a, b):
        channel_id = (await open_channel(a, b)).channel_id
        async with served(a, 2) as (bad, good):
            await bad.send(pay(1, channel_id, 5), Call(2, "payments", control.Payments(0, 1, 1).encode()))
            await bad.stream.send_all(b"\x00\x00\x10")
            await bad.stream.aclose()
            await a.until(lambda: b.received() == [5])
            assert isinstance(await good.call(1, control.Status()), Result)


async def test_calls_that_cannot_be(tmp_path):
    async with rigs(tmp_path, 1) as (a,):
        async with served(a) as (client,):
            await client.send(Call(1, "abolish", b"\x90"), Call(2, "payments", b"\x90"), Call(3, "payments", b"\xc1"))
            answers = [await client.receive() for _ in range(3)]
            assert all(isinstance(answer, Failed) and answer.reason == Reason.USAGE for answer in answers)
            assert sorted(answer.call_id for answer in answers) == [1, 2, 3]


async def test_a_wait_is_cancelled(tmp_path):
    async with rigs(tmp_path) as (a, b):
        await open_channel(a, b)
        async with served(b) as (client,):
            wait = Call(1, "payments", control.Payments(0, 10, 1).encode())
            await client.send(wait, wait)
            answer = await client.receive()
            assert (answer.call_id, answer.reason) == (1, Reason.USAGE), "one number twice at once"
            await b.until(lambda: len(b.engine.arrived) == 1)
            await client.send(Cancel(1), Cancel(99))
            await b.until(lambda: len(b.engine.arrived) == 0)
            await client.send(Call(2, "payments", control.Payments(0, 10, 1).encode()))
            await a.pay(5)
            answer = await client.receive()
            assert (answer.call_id, control.ReceivedPage.decode(answer.body).cursor) == (2, 1)


async def test_too_many_calls_at_once(tmp_path):
    async with rigs(tmp_path, 1) as (a,):
        async with served(a) as (client,):
            wait = control.Payments(0, 10, 1).encode()
            await client.send(*(Call(n, "payments", wait) for n in range(MAX_CALLS + 1)))
            answer = await client.receive()
            assert (answer.call_id, answer.reason) == (MAX_CALLS, Reason.USAGE)


async def test_a_refusal_in_any_script_fits_its_field(tmp_path):
    async with rigs(tmp_path, 1) as (a,):
        async with served(a) as (client,):
            peer = "漢" * 133  # 399 bytes
            answer = await client.call(1, control.OpenChannel(peer, a.ledger.asset_id, 1000, 0, 60, 0))
            assert (answer.call_id, answer.reason) == (1, Reason.USAGE)
            assert len(answer.text.encode()) <= 1024


async def test_a_client_that_does_not_read_is_not_read_either(tmp_path, monkeypatch):
    monkeypatch.setattr("channelpay.daemon.control_server.MAX_OUTGOING_BYTES", 1000)
    async with rigs(tmp_path, 1) as (a,):
        async with served(a, 2) as (greedy, good):
            call = Call(1, "nothing", b"\x90").to_frame()
            with trio.move_on_after(1) as scope:
                while True:
                    await greedy.stream.send_all(call * 1000)
            assert scope.cancelled_caught, "the daemon stopped reading"
            assert isinstance(await good.call(1, control.Status()), Result)


async def test_a_full_queue_holds_its_client_back(tmp_path, monkeypatch):
    monkeypatch.setattr("channelpay.daemon.payments._RESUME_BELOW", 3)
    async with rigs(tmp_path) as (a, b):
        channel = await open_channel(a, b)
        a.links[0].end()
        await a.until(lambda: not channel.connected)
        async with served(a, 2) as (client, other):
            await client.send(*(pay(n, channel.channel_id, n) for n in range(1, 6)))
            await a.until(lambda: channel.queued_count == 3)
            assert isinstance(await other.call(1, control.Status()), Result)
            assert channel.queued_count == 3
            connect(a, b)
            assert [(await client.receive()).call_id for _ in range(5)] == [1, 2, 3, 4, 5]


# --- The socket's file -------------------------------------------------------------------------


async def test_only_its_owner_may_open_the_socket(tmp_path):
    async with bound(tmp_path / "s") as listener:
        assert listener is not None
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    assert not (tmp_path / "s").exists()


async def test_a_socket_that_a_killed_daemon_left_is_replaced(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(os.fspath(path))
    assert path.exists()
    async with bound(path):
        await (await trio.open_unix_socket(os.fspath(path))).aclose()


async def test_a_second_daemon_is_refused_and_leaves_the_first_ones_socket(tmp_path):
    path = tmp_path / "s"
    async with bound(path):
        with pytest.raises(SocketInUse, match="another daemon answers there"):
            async with bound(path):
                pytest.fail("there are two")
        await (await trio.open_unix_socket(os.fspath(path))).aclose()


async def test_a_socket_that_another_has_put_in_the_same_place_stays(tmp_path):
    path = tmp_path / "s"
    async with bound(path):
        path.unlink()
        other = await bind(path)
    assert path.exists()
    other.socket.close()
