"""TLS 1.3 that hides, and proves nothing: who speaks is AUTH's business. Spec chapter 4, section 3.

A listener's certificate is made afresh in each process and never stored or shared (spec T-6). AUTH signs the hash
of its DER bytes, which ties the identity to this very TLS connection.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from channelpay.daemon.tcp import TcpStream

_PIECE_BYTES: Final = 32 * 1024
"""The most that is read, or encrypted, at once: OpenSSL's buffers stay as large as what once went through them."""

_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "channelpay")])
_LIFE = timedelta(days=3650)  # nobody looks at it (spec T-7), so it need only be a valid certificate


@dataclass(frozen=True, slots=True)
class Certificate:
    """A listener's certificate: its DER bytes, and the context of connections that use it."""

    der: bytes
    context: ssl.SSLContext


def fresh_certificate() -> Certificate:
    """A self-signed certificate with a new P-256 key, which never leaves this process in the clear."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFE)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # spec T-5
    context.num_tickets = 0  # spec T-5: no resumption, every connection has keys of its own
    _load(context, certificate, key)
    return Certificate(certificate.public_bytes(serialization.Encoding.DER), context)


def _load(context: ssl.SSLContext, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Give the context its chain. The ssl module reads files only: a 0600 one, encrypted, gone at once."""
    password = os.urandom(32).hex()
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode()),
            )
        )
        file.flush()
        context.load_cert_chain(file.name, password=password)


def client_context() -> ssl.SSLContext:
    """The context of connections that we dial: TLS 1.3, any certificate. One serves any number of them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # spec T-7
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


class TlsStream(trio.abc.HalfCloseableStream):
    """The plaintext of one TLS connection over `transport`: what a link runs on (spec T-4 to T-8).

    One task at a time may read and one may send. A fault of TLS or of the transport is a trio.BrokenResourceError.
    The end of the transport counts as the end, without a close_notify, which frames do not need (spec T-8).
    """

    __slots__ = ("_broken", "_ended", "_incoming", "_outgoing", "_tls", "_unsent", "transport")

    def __init__(self, transport: trio.abc.HalfCloseableStream, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._unsent = b""  # encrypted, and not yet taken by the transport
        self._broken = False  # OpenSSL refused what came, and does again
        self._ended = False  # a close_notify came: OpenSSL takes nothing that follows, so it must not be kept for it

    async def do_handshake(self) -> None:
        """Shake hands."""
        while not await self._handshake_step():
            if not await self._read_transport():
                raise trio.BrokenResourceError("the peer closed the connection")

    async def _handshake_step(self) -> bool:
        """Go on as far as what was read allows; whether that was all."""
        try:
            self._tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise trio.BrokenResourceError from error
        finally:
            if self._outgoing.pending:  # after a fault the alert that tells it
                await self.transport.send_all(self._outgoing.read())

    def peer_certificate(self) -> bytes:
        """DER of the certificate that the server showed to us."""
        certificate = self._tls.getpeercert(binary_form=True)
        assert certificate is not None  # there is no TLS 1.3 handshake without one
        return certificate

    @property
    def version(self) -> str | None:
        """Such as "TLSv1.3"; None before the handshake."""
        return self._tls.version()

    # --- Reading -----------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """All that is here, at least one byte; b"" at the end. `max_bytes` is trio's, and no bound here."""
        while not (data := self._decrypt() if self._is_behind() else b""):
            if self._ended or not await self._read_transport():
                return b""
        return data

    def _is_behind(self) -> bool:
        """Whether OpenSSL may have more to give before the transport does: asking it in vain costs an exception."""
        return self._incoming.pending > 0 or self._tls.pending() > 0 or self._broken

    def _decrypt(self) -> bytes:
        """Every record that has come whole, joined."""
        parts = []
        try:
            while part := self._tls.read(_PIECE_BYTES):
                parts.append(part)
                if not self._is_behind():
                    break
            else:
                self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self._broken = True
            if not parts:  # what came whole before the fault counts; the fault comes again
                raise trio.BrokenResourceError from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_transport(self) -> bool:
        """Whether something came before the end."""
        data = await self.transport.receive_some(_PIECE_BYTES)
        self._incoming.write(data)
        return bool(data)

    # --- Sending -----------------------------------------------------------------------------

    def send_now(self, data: bytes) -> bool:
        """Send as much of `data` as goes without waiting; no send_all may be under way.

        False: the rest is kept here and goes with the next send_all.
        """
        self._encrypt(data)
        if isinstance(self.transport, TcpStream):
            self._unsent = self._unsent[self.transport.send_now(self._unsent) :]
        return not self._unsent

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send what send_now has left, then `data`."""
        view = memoryview(data)
        for begin in range(0, len(view) or 1, _PIECE_BYTES):
            self._encrypt(view[begin : begin + _PIECE_BYTES])
            unsent, self._unsent = self._unsent, b""
            await self.transport.send_all(unsent)

    def _encrypt(self, data: bytes | memoryview) -> None:
        try:
            self._tls.write(data)
        except ssl.SSLError as error:  # TLS has failed before
            raise trio.BrokenResourceError from error
        self._unsent += self._outgoing.read()

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    # --- The end -----------------------------------------------------------------------------

    async def send_eof(self) -> None:
        """Say that nothing follows, below TLS, so that the peer reads to the end and then closes too."""
        await self.transport.send_eof()

    async def aclose(self) -> None:
        await self.transport.aclose()
