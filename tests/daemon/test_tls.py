"""TLS as it is set up here: version 1.3, no tickets, certificates that last as long as the process."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from channelpay.daemon import tls
from channelpay.daemon.tcp import TcpStream


async def _handshake(client: ssl.SSLContext, certificate: tls.Certificate) -> tuple[tls.TlsStream, tls.TlsStream]:
    one, other = trio.testing.memory_stream_pair()
    return await _shake_hands(
        tls.TlsStream(one, client, server_side=False), tls.TlsStream(other, certificate.context, server_side=True)
    )


async def _shake_hands(dialled: tls.TlsStream, accepted: tls.TlsStream) -> tuple[tls.TlsStream, tls.TlsStream]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialled.do_handshake)
        nursery.start_soon(accepted.do_handshake)
    return dialled, accepted


@asynccontextmanager
async def _over_sockets() -> AsyncIterator[tuple[tls.TlsStream, tls.TlsStream]]:
    """Two ends, connected by the system and its buffers."""
    one, other = (TcpStream(trio.SocketStream(end)) for end in trio.socket.socketpair())
    async with one, other:
        yield await _shake_hands(
            tls.TlsStream(one, tls.client_context(), server_side=False),
            tls.TlsStream(other, tls.fresh_certificate().context, server_side=True),
        )


async def _with_reference() -> tuple[trio.SSLStream[trio.abc.Stream], tls.TlsStream]:
    """Another implementation's client, and our server."""
    one, other = trio.testing.memory_stream_pair()
    reference = trio.SSLStream[trio.abc.Stream](one, tls.client_context())
    accepted = tls.TlsStream(other, tls.fresh_certificate().context, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reference.do_handshake)
        nursery.start_soon(accepted.do_handshake)
    return reference, accepted


async def _received(stream: tls.TlsStream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += await stream.receive_some()
    return data


async def test_the_client_sees_the_certificate_that_the_listener_knows() -> None:
    certificate = tls.fresh_certificate()
    dialled, _ = await _handshake(tls.client_context(), certificate)
    assert dialled.peer_certificate() == certificate.der
    assert dialled.version == "TLSv1.3"


async def test_no_tickets_to_resume_with() -> None:
    """Nothing comes after the handshake that is not data: a ticket would be the first bytes to read."""
    reference, accepted = await _with_reference()
    await accepted.send_all(b"a ticket would come before this")
    assert await reference.receive_some(100) == b"a ticket would come before this"
    assert not reference.session.has_ticket


async def test_tls_1_2_is_refused() -> None:
    old = tls.client_context()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.RaisesGroup(trio.BrokenResourceError, trio.BrokenResourceError):  # the alert reaches the client
        await _handshake(old, tls.fresh_certificate())


async def test_all_that_has_come_is_read_at_once() -> None:
    dialled, accepted = await _handshake(tls.client_context(), tls.fresh_certificate())
    for n in range(100):
        await dialled.send_all(b"%4d" % n)
    assert await accepted.receive_some() == b"".join(b"%4d" % n for n in range(100))


async def test_what_the_transport_takes_goes_without_waiting_and_the_rest_with_the_next_send() -> None:
    async with _over_sockets() as (dialled, accepted):
        data, sent = os.urandom(32 * 1024), b""
        while dialled.send_now(data):
            sent += data
        sent += data + b"more"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dialled.send_all, b"more")
            assert await _received(accepted, len(sent)) == sent


async def test_a_stream_without_a_socket_sends_nothing_by_itself() -> None:
    dialled, accepted = await _handshake(tls.client_context(), tls.fresh_certificate())
    assert not dialled.send_now(b"one, ")
    assert not dialled.send_now(b"two, ")
    await dialled.send_all(b"")
    assert await accepted.receive_some() == b"one, two, "


async def test_large_data_goes_in_pieces_and_arrives_whole() -> None:
    async with _over_sockets() as (dialled, accepted):
        data = os.urandom(1_000_001)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dialled.send_all, data)
            assert await _received(accepted, len(data)) == data


async def test_the_end_of_the_transport_is_the_end() -> None:
    async with _over_sockets() as (dialled, accepted):
        await dialled.send_all(b"last")
        await dialled.send_eof()
        assert await accepted.receive_some() == b"last"
        assert await accepted.receive_some() == b""


async def test_a_close_notify_is_the_end_too(autojump_clock: trio.testing.MockClock) -> None:
    reference, accepted = await _with_reference()
    with trio.move_on_after(1):
        await reference.aclose()  # waits for ours, which does not come
    assert await accepted.receive_some() == b""


async def test_nothing_is_read_behind_a_close_notify(autojump_clock: trio.testing.MockClock) -> None:
    """Nobody would ever take it: whoever goes on sending must not fill the memory."""
    dialled, accepted = await _handshake(tls.client_context(), tls.fresh_certificate())
    await dialled.send_all(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        dialled._tls.unwrap()
    await dialled.transport.send_all(dialled._outgoing.read())
    assert await accepted.receive_some() == b"last"
    await dialled.transport.send_all(bytes(1_000_000))
    with trio.fail_after(1):
        assert await accepted.receive_some() == b""
    assert accepted._incoming.pending == 0


async def test_a_spoiled_record_breaks_the_stream_behind_what_came_whole() -> None:
    dialled, accepted = await _handshake(tls.client_context(), tls.fresh_certificate())
    await dialled.send_all(b"whole")
    await dialled.transport.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert await accepted.receive_some() == b"whole"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await accepted.receive_some()


async def test_sending_to_who_has_gone_breaks_the_stream() -> None:
    async with _over_sockets() as (dialled, accepted):
        await accepted.aclose()
        with pytest.raises(trio.BrokenResourceError):
            dialled.send_now(b"into the void")
        await dialled.aclose()
        with pytest.raises(trio.BrokenResourceError):
            dialled.send_now(b"on a closed socket")


def test_certificates_are_fresh_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one, other = tls.fresh_certificate(), tls.fresh_certificate()
    assert one.der != other.der
    assert list(tmp_path.iterdir()) == []
