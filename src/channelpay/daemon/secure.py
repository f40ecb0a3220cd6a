"""Streams that nobody overhears: dialled or accepted, TLS handshake done. Spec chapter 4, section 3.

A simulation puts others in their place (`outside`): a link needs no more of them than is said of `Secure`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import trio

from channelpay.daemon.outside import OUTSIDE
from channelpay.daemon.tcp import TcpStream
from channelpay.daemon.tls import Certificate, TlsStream, client_context
from channelpay.errors import ChannelpayError
from channelpay.messages.peer import Error

_client_context = cache(client_context)  # tens of kilobytes, so that all connections share one


class LinkClosed(ChannelpayError):
    """The connection is over and the peer broke no rule that we saw: it went away, or this side ended it.

    `farewell` is the ERROR with which the peer ended it, or None.
    """

    def __init__(self, text: str, farewell: Error | None = None) -> None:
        super().__init__(text)
        self.farewell = farewell


class Secure(NamedTuple):
    """A plaintext stream and what ties AUTH to it (spec T-15): the DER bytes of the TLS server's certificate.

    The stream may have a method `send_now(data) -> bool`, which never waits: see `TlsStream.send_now`.
    """

    stream: trio.abc.HalfCloseableStream
    binding: bytes


async def connect(host: str, port: int, deadline: float) -> Secure:
    """A stream to host:port; raises LinkClosed. `deadline` is on trio's clock."""
    if (other := OUTSIDE.get().connect) is not None:
        return Secure(*await other(host, port, deadline))
    try:
        with trio.fail_at(deadline):
            # spec T-1: SocketStream sets TCP_NODELAY, so that a lone payment goes at once.
            transport = await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise LinkClosed(f"cannot connect to {host} port {port}: {error}") from error
    except trio.TooSlowError:
        raise LinkClosed(f"cannot connect to {host} port {port}: no answer in time") from None
    stream = TlsStream(TcpStream(transport), _client_context(), server_side=False)
    await _shake_hands(stream, deadline)
    return Secure(stream, stream.peer_certificate())


async def accept(transport: trio.abc.HalfCloseableStream, certificate: Certificate, deadline: float) -> Secure:
    """A stream to somebody who has connected; raises LinkClosed. `deadline` is on trio's clock."""
    if (other := OUTSIDE.get().accept) is not None:
        return Secure(*await other(transport, deadline))
    if isinstance(transport, trio.SocketStream):
        transport = TcpStream(transport)
    stream = TlsStream(transport, certificate.context, server_side=True)
    await _shake_hands(stream, deadline)
    return Secure(stream, certificate.der)


async def _shake_hands(stream: TlsStream, deadline: float) -> None:
    """Raises LinkClosed; the stream is closed if it fails."""
    try:
        with trio.fail_at(deadline):
            await stream.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.TooSlowError):
            raise LinkClosed("TLS handshake not finished in time") from None
        if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
            raise LinkClosed(f"TLS handshake failed{cause_of(error)}") from error
        raise


def cause_of(error: BaseException) -> str:
    """What lies behind an exception of trio's, as the end of a message."""
    cause = error.__cause__ or error
    return f": {cause}" if str(cause) else ""
