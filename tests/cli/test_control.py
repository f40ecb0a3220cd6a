"""The synchronous client of the local socket, against a daemon that answers from a table. Spec N-9 to N-14."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from channelpay.batches import pack_record
from channelpay.cli.control import Control
from channelpay.cli.exits import CommandError, Exit
from channelpay.errors import Reason
from channelpay.messages import control as wire
from fakedaemon import GARBAGE, HANG_UP, SILENCE, Answer, FakeDaemon, Refusal

ASSETS = wire.AssetList(())


def call(control: Control, changes: str = "") -> wire.AssetList:
    return control.call(wire.ListAssets(), wire.AssetList, changes)


def test_an_answer_comes_back(short_path: Path) -> None:
    with FakeDaemon(short_path / "s", {"assets": lambda _: ASSETS}) as daemon:
        with Control.connect(daemon.path) as control:
            assert call(control) == ASSETS
            assert call(control) == ASSETS
    assert daemon.calls == [wire.ListAssets(), wire.ListAssets()]


def test_nobody_there(short_path: Path) -> None:
    with pytest.raises(CommandError, match="start it with 'channelpay run'") as caught:
        Control.connect(short_path / "s")
    assert (caught.value.code, caught.value.reason) == (Exit.NOT_REACHABLE, "not-reachable")


def test_a_dead_socket_is_nobody_there(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(short_path / "s"))
    with pytest.raises(CommandError, match="no daemon answers"):
        Control.connect(short_path / "s")


def test_what_cannot_be_waited_for_is_told_at_once(short_path: Path) -> None:
    (short_path / "file").write_text("")

    def no_pause(_: float) -> None:
        raise AssertionError("waited for a path that can never be a socket")

    with pytest.raises(CommandError, match="Not a directory"):
        Control.connect(short_path / "file" / "s", wait_s=60, pause=no_pause)


def test_wait_tries_until_the_daemon_is_there(short_path: Path) -> None:
    daemon = FakeDaemon(short_path / "s", {"assets": lambda _: ASSETS})
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            daemon.__enter__()

    try:
        with Control.connect(daemon.path, wait_s=10, clock=lambda: sum(pauses), pause=pause) as control:
            assert call(control) == ASSETS
    finally:
        daemon.__exit__()
    assert len(pauses) == 3


def test_wait_ends(short_path: Path) -> None:
    pauses: list[float] = []
    with pytest.raises(CommandError) as caught:
        Control.connect(short_path / "s", wait_s=1.0, clock=lambda: sum(pauses), pause=pauses.append)
    assert caught.value.code is Exit.NOT_REACHABLE
    assert 1.0 <= sum(pauses) < 1.1


@pytest.mark.parametrize(
    ("behaviour", "changes", "code", "reason"),
    [
        (HANG_UP, "", Exit.NOT_REACHABLE, "not-reachable"),
        (HANG_UP, "it may be done", Exit.UNKNOWN, "unknown-outcome"),
        (SILENCE, "", Exit.UNKNOWN, "timed-out"),
        (SILENCE, "it may be done", Exit.UNKNOWN, "unknown-outcome"),
        (GARBAGE, "", Exit.INTERNAL, "internal"),
        (GARBAGE, "it may be done", Exit.UNKNOWN, "unknown-outcome"),
    ],
)
def test_answers_that_do_not_come(short_path: Path, behaviour: str, changes: str, code: Exit, reason: str) -> None:
    with FakeDaemon(short_path / "s", {"assets": lambda _: behaviour}) as daemon:
        with Control.connect(daemon.path, timeout_s=0.05 if behaviour == SILENCE else None) as control:
            with pytest.raises(CommandError) as caught:
                call(control, changes)
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert changes in str(caught.value)


def test_an_answer_of_another_shape_is_told(short_path: Path) -> None:
    with FakeDaemon(short_path / "s", {"assets": lambda _: wire.Empty()}) as daemon:
        with Control.connect(daemon.path) as control, pytest.raises(CommandError, match="have the same version"):
            call(control)


def test_a_paid_for_a_call_and_a_result_for_a_payment_are_told(short_path: Path) -> None:
    answers: dict[str, Any] = {"assets": lambda _: wire.Paid(1, 1, 1, 0), "pay": lambda _: wire.Empty()}
    with FakeDaemon(short_path / "s", answers) as daemon:
        with Control.connect(daemon.path) as control:
            with pytest.raises(CommandError, match="Paid is no answer to assets"):
                call(control)
            with pytest.raises(CommandError, match="Result is no answer to a payment"):
                control.pay(bytes(32), 1, bytes(16), b"", "")


def test_answers_to_other_calls_are_skipped(short_path: Path) -> None:
    # the daemon answers a call that nobody made, then falls silent: the answer must not be taken
    with FakeDaemon(short_path / "s", {"assets": lambda _: wire.Result(99, ASSETS.encode())}) as daemon:
        with Control.connect(daemon.path, timeout_s=0.05) as control, pytest.raises(CommandError, match="in time"):
            call(control)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_refusal_has_its_exit_code(short_path: Path, reason: Reason) -> None:
    def refuse(_: Any) -> Answer:
        raise Refusal(reason, "the text")

    with FakeDaemon(short_path / "s", {"assets": refuse}) as daemon:
        with Control.connect(daemon.path) as control, pytest.raises(CommandError, match="the text") as caught:
            call(control)
    expected = {
        "usage": 2,
        "ledger-unreachable": 3,
        "node-stopping": 3,
        "refused-by-peer": 5,
        "peer-unreachable": 5,
        "timed-out": 6,
        "unknown-outcome": 6,
    }
    assert (caught.value.code, caught.value.reason) == (expected.get(reason, 4), reason)


def test_a_refusal_that_we_do_not_know_is_a_refusal(short_path: Path) -> None:
    def refuse(_: Any) -> Answer:
        raise Refusal("moon-phase", "not tonight")

    with FakeDaemon(short_path / "s", {"assets": refuse}) as daemon:
        with Control.connect(daemon.path) as control, pytest.raises(CommandError) as caught:
            call(control)
    assert (caught.value.code, caught.value.reason) == (Exit.REFUSED, "moon-phase")


def test_bulks_are_answered_in_order_and_stop_at_a_refusal(short_path: Path) -> None:
    seen: list[int] = []

    def pay_many(request: wire.PayMany) -> Answer:
        seen.append(request.call_id)
        if len(seen) == 3:
            raise Refusal(Reason.INSUFFICIENT_BALANCE, "no more")
        return wire.Paid(request.call_id, len(seen), 1, 0)

    with FakeDaemon(short_path / "s", {"pay_many": pay_many}) as daemon:
        with Control.connect(daemon.path) as control:
            outcomes = list(control.pay_in_bulk(bytes(32), (pack_record(1) for _ in range(100)), ""))
    assert [getattr(outcome, "first_n", None) for outcome in outcomes[:3]] == [1, 2, None]
    assert isinstance(outcomes[2], CommandError)
    # those that were under way already are waited for; nothing more was sent
    assert len(outcomes) == len(seen) <= 6


def test_a_bulk_answered_out_of_order_is_put_in_order(short_path: Path) -> None:
    ids: list[int] = []

    def pay_many(request: wire.PayMany) -> Answer:
        ids.append(request.call_id)
        match len(ids):
            case 2:
                return wire.Paid(ids[1], 2, 1, 0)
            case 3:
                return wire.Paid(ids[0], 1, 1, 0)
        return SILENCE

    with FakeDaemon(short_path / "s", {"pay_many": pay_many}) as daemon:
        with Control.connect(daemon.path, timeout_s=0.2) as control:
            outcomes = control.pay_in_bulk(bytes(32), [pack_record(1)] * 3, "")
            first, second = next(outcomes), next(outcomes)
            assert isinstance(first, wire.Paid)
            assert isinstance(second, wire.Paid)
            assert (first.first_n, second.first_n) == (1, 2)
            with pytest.raises(CommandError, match="in time"):
                next(outcomes)


def test_stop_returns_once_the_connection_is_closed(short_path: Path) -> None:
    with FakeDaemon(short_path / "s", {"stop": lambda _: HANG_UP}) as daemon:
        with Control.connect(daemon.path) as control:
            control.stop()
    assert daemon.calls == [wire.Stop()]


def test_stop_that_takes_too_long_is_unknown(short_path: Path) -> None:
    with FakeDaemon(short_path / "s", {"stop": lambda _: wire.Empty()}) as daemon:
        with Control.connect(daemon.path, timeout_s=0.05) as control, pytest.raises(CommandError) as caught:
            control.stop()
    assert caught.value.code is Exit.UNKNOWN


def test_a_frame_above_the_bound_is_refused(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "s"))
        listener.listen()
        with Control.connect(short_path / "s") as control:
            server, _ = listener.accept()
            with server:
                server.sendall(struct.pack(">I", 2**32 - 1))
                with pytest.raises(CommandError, match="cannot be read"):
                    call(control)
