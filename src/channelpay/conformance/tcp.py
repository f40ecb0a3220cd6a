"""The runner over TCP and TLS 1.3: plain blocking sockets, so that cases stay plain code."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from channelpay.conformance.case import Case
from channelpay.conformance.play import play
from channelpay.conformance.runner import Control, Tls
from channelpay.conformance.verdict import Result, Violation
from channelpay.crypto import SigningKey
from channelpay.keys import Address

_READ_BYTES: Final = 64 * 1024
_DIAL_RETRY_S: Final = 0.1
_SETTLE_S: Final = 1.0
"""How long a listener may take to close the connections that are too many."""


class TcpWire:
    """One TLS connection to a listener."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # spec T-7
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        stream = socket.create_connection((host, port), timeout=timeout_s)
        try:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._tls = context.wrap_socket(stream)
        except OSError:
            stream.close()
            raise
        self.certificate = self._tls.getpeercert(binary_form=True) or b""
        self._timeout_s = timeout_s

    def send(self, data: bytes) -> None:
        """See runner.Wire."""
        try:
            self._tls.settimeout(self._timeout_s)
            self._tls.sendall(data)
        except OSError:
            pass  # the other side has closed; what it said before is still to be read

    def receive(self, wait_s: float) -> bytes | None:
        """See runner.Wire."""
        try:
            self._tls.settimeout(wait_s)
            return self._tls.recv(_READ_BYTES)
        except (TimeoutError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """See runner.Wire."""
        self._tls.close()

    def has_ticket(self) -> bool:
        """Whether a ticket to resume this session has come."""
        return self._tls.session is not None and self._tls.session.has_ticket


def _dial(address: Address, patience_s: float) -> TcpWire:
    """A connection; a listener may let us wait for one that connects as often as a kit does (spec T-29).

    Raises Violation if there is none in `patience_s`.
    """
    end = time.monotonic() + patience_s
    while True:
        try:
            return TcpWire(address.host, address.port, patience_s)
        except OSError as error:
            if time.monotonic() >= end:
                raise Violation(f"no TLS 1.3 connection to {address}: {error}") from None
        time.sleep(_DIAL_RETRY_S)


class TcpTls:
    """See runner.Tls."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s

    def takes_old_versions(self) -> bool:
        """See runner.Tls."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with socket.create_connection((self._address.host, self._address.port), self._timeout_s) as stream:
            try:
                context.wrap_socket(stream).close()
            except OSError:
                return False
        return True

    def gives_ticket(self) -> bool:
        """See runner.Tls."""
        wire = _dial(self._address, self._timeout_s)
        wire.receive(self._timeout_s)
        try:
            return wire.has_ticket()
        finally:
            wire.close()

    def certificate(self) -> bytes:
        """See runner.Tls."""
        wire = _dial(self._address, self._timeout_s)
        wire.close()
        return wire.certificate

    def strangers(self, count: int) -> int:
        """See runner.Tls."""
        made = []
        try:
            for _ in range(count):
                made.append(socket.create_connection((self._address.host, self._address.port), self._timeout_s))
            time.sleep(_SETTLE_S)
            return sum(1 for stream in made if _stands(stream))
        except OSError:
            return 0  # nobody is let in any more: a bound as well
        finally:
            for stream in made:
                stream.close()


def _stands(stream: socket.socket) -> bool:
    """Whether the other side has neither closed nor reset a connection on which it owes nothing."""
    stream.setblocking(False)
    try:
        return bool(stream.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False


class TcpRunner:
    """Real daemons at two addresses, real time."""

    def __init__(
        self,
        node: Address,
        ledger: Address,
        control: Control | None = None,
        *,
        patience_s: float = 10.0,
        quiet_s: float = 0.4,
    ) -> None:
        self._node = node
        self._ledger = ledger
        self.node_id = node.key
        self.ledger_id = ledger.key
        self.control = control
        self.tls: Tls | None = TcpTls(node, patience_s)
        self.patience_s = patience_s
        self.quiet_s = quiet_s

    def dial_node(self) -> TcpWire:
        """See runner.Runner."""
        return _dial(self._node, self.patience_s)

    def dial_ledger(self) -> TcpWire:
        """See runner.Runner."""
        return _dial(self._ledger, self.patience_s)

    def clock(self) -> float:
        """See runner.Runner."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See runner.Runner."""
        time.sleep(seconds)

    def entropy(self, size: int) -> bytes:
        """See runner.Runner."""
        return os.urandom(size)


def play_all(
    cases: Sequence[Case], runner: TcpRunner, account: SigningKey, asset_id: bytes, *, longest_s: int, jobs: int
) -> Iterator[Result]:
    """Every case, `jobs` of them at once; those that stop the node come last, one after the other."""
    together = [case for case in cases if not case.alone]
    longest_first = sorted(together, key=lambda case: -case.takes_s)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            under_way = {
                case.name: pool.submit(play, case, runner, account, asset_id, longest_s) for case in longest_first
            }
            for case in together:
                yield under_way[case.name].result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for case in cases:
        if case.alone:
            yield play(case, runner, account, asset_id, longest_s)
