"""TLS as it is set up here: version 1.3, no tickets, certificates that last as long as the process."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trio.testing

from channelpay.daemon import tls


async def _handshake(
    client: ssl.SSLContext, certificate: tls.Certificate
) -> tuple[trio.SSLStream[trio.abc.Stream], trio.SSLStream[trio.abc.Stream]]:
    one, other = trio.testing.memory_stream_pair()
    dialled = trio.SSLStream[trio.abc.Stream](one, client)
    accepted = trio.SSLStream[trio.abc.Stream](other, certificate.context, server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialled.do_handshake)
        nursery.start_soon(accepted.do_handshake)
    return dialled, accepted


async def test_the_client_sees_the_certificate_that_the_listener_knows() -> None:
    certificate = tls.fresh_certificate()
    dialled, _ = await _handshake(tls.client_context(), certificate)
    assert dialled.getpeercert(binary_form=True) == certificate.der
    assert dialled.version() == "TLSv1.3"


async def test_no_tickets_to_resume_with() -> None:
    dialled, accepted = await _handshake(tls.client_context(), tls.fresh_certificate())
    await accepted.send_all(b"a ticket would come before this")
    assert await dialled.receive_some(100) == b"a ticket would come before this"
    assert not dialled.session.has_ticket


async def test_tls_1_2_is_refused() -> None:
    old = tls.client_context()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.RaisesGroup(trio.BrokenResourceError):
        await _handshake(old, tls.fresh_certificate())


def test_certificates_are_fresh_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one, other = tls.fresh_certificate(), tls.fresh_certificate()
    assert one.der != other.der
    assert list(tmp_path.iterdir()) == []
