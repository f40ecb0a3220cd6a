"""The kit's sockets against listeners that do right and wrong: TLS versions, tickets, strangers, broken connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from channelpay.conformance.case import Case
from channelpay.conformance.cases import all_cases
from channelpay.conformance.play import play
from channelpay.conformance.tcp import TcpRunner, TcpWire, play_all
from channelpay.conformance.verdict import Status, Violation
from channelpay.crypto import SigningKey
from channelpay.daemon.tls import Certificate, fresh_certificate
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, Address

KEY = SigningKey(bytes(32))


@contextmanager
def listening(
    serve: Callable[[ssl.SSLSocket], None], change: Callable[[Certificate], None] = lambda certificate: None
) -> Iterator[int]:
    """A TLS listener that serves one connection after another; its port."""
    certificate = fresh_certificate()
    change(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), certificate.context.wrap_socket(stream, server_side=True) as tls:
                serve(tls)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
        assert not thread.is_alive()


def greet(tls: ssl.SSLSocket) -> None:
    """Say something, and wait for the end."""
    tls.sendall(b"hello")
    tls.recv(1)


def runner(port: int) -> TcpRunner:
    return TcpRunner(
        Address(NODE_PREFIX, KEY.public, "127.0.0.1", port), Address(LEDGER_PREFIX, KEY.public, "127.0.0.1", port),
        patience_s=2.0, quiet_s=0.05,
    )  # fmt: skip


def judged(name: str, port: int) -> Status:
    return play(all_cases()[name], runner(port), KEY, bytes(16)).status


def old(certificate: Certificate) -> None:
    certificate.context.minimum_version = ssl.TLSVersion.TLSv1_2


def ticketing(certificate: Certificate) -> None:
    certificate.context.num_tickets = 2


def test_old_versions_are_noticed() -> None:
    with listening(greet) as port:
        assert judged("tls-older-versions-refused", port) is Status.PASS
    with listening(greet, old) as port:
        assert judged("tls-older-versions-refused", port) is Status.FAIL


def test_tickets_are_noticed() -> None:
    with listening(greet) as port:
        assert judged("tls-without-tickets", port) is Status.PASS
    with listening(greet, ticketing) as port:
        assert judged("tls-without-tickets", port) is Status.FAIL


def test_strangers_without_bound_are_noticed() -> None:
    """The one thread serves one after the other: all others stand in its queue."""
    with listening(greet) as port:
        tls = runner(port).tls
        assert tls is not None
        assert tls.strangers(5) == 5


def test_strangers_that_are_closed_are_not_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def run() -> None:
            for number in range(5):
                stream, _ = listener.accept()
                if number < 2:
                    kept.append(stream)
                else:
                    stream.close()

        thread = threading.Thread(target=run)
        thread.start()
        tls = runner(listener.getsockname()[1]).tls
        assert tls is not None
        assert tls.strangers(5) == 2
        thread.join()
        for stream in kept:
            stream.close()


def test_a_wire_carries_bytes_both_ways_and_knows_the_certificate() -> None:
    seen = []

    def echo(tls: ssl.SSLSocket) -> None:
        while data := tls.recv(100):
            seen.append(data)
            tls.sendall(data[::-1])

    with listening(echo) as port:
        wire = runner(port).dial_node()
        assert wire.receive(0.0) is None
        wire.send(b"abc")
        assert wire.receive(5.0) == b"cba"
        assert wire.certificate
        wire.close()
        assert wire.certificate == runner(port).tls.certificate()  # type: ignore[union-attr]
    assert seen == [b"abc"]


def test_a_wire_that_the_other_side_ended() -> None:
    with listening(lambda tls: None) as port:
        wire = TcpWire("127.0.0.1", port, 2.0)
        assert wire.receive(5.0) == b""
        wire.send(b"too late" * 100_000)
        assert wire.receive(0.0) == b""
        wire.close()


def test_nobody_there_is_told_with_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    here = TcpRunner(
        Address(NODE_PREFIX, KEY.public, "127.0.0.1", port), Address(LEDGER_PREFIX, KEY.public, "127.0.0.1", port),
        patience_s=0.1,
    )  # fmt: skip
    with pytest.raises(Violation, match=r"no TLS 1\.3 connection to cp1"):
        here.dial_node()


def test_cases_that_stop_the_node_come_last_and_alone() -> None:
    order: list[str] = []
    lock = threading.Lock()

    def script(name: str) -> Callable[[object], None]:
        def note(kit: object) -> None:
            with lock:
                order.append(name)

        return note

    cases = [Case(name, name, ("C-1",), script(name), alone=name.startswith("x")) for name in ("x1", "b", "x2", "a")]
    with listening(greet) as port:
        results = list(play_all(cases, runner(port), KEY, bytes(16), longest_s=1, jobs=2))
    assert [result.name for result in results] == ["b", "a", "x1", "x2"]
    assert order[2:] == ["x1", "x2"]
    assert sorted(order[:2]) == ["a", "b"]
