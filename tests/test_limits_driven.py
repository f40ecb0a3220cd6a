"""Every limit is driven to its bound and one beyond it: here, or by the test that limits_table names.

A limit that is added to channelpay.limits fails `test_every_limit_has_a_test_that_drives_it` until it stands in one
of the two tables there.
"""

from __future__ import annotations

import ast
import inspect
import random
import re
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio.testing

from channel_pair import Pair
from channelpay import limits
from channelpay.amounts import AmountError, check_code
from channelpay.batches import pack_memos, pack_record, parse_memos
from channelpay.channel import channel as step
from channelpay.codec import pack
from channelpay.crypto import SigningKey
from channelpay.daemon import upkeep
from channelpay.daemon.descriptors import connections_possible
from channelpay.daemon.ledger_server import serve_ledger
from channelpay.daemon.payments import _is_timely
from channelpay.daemon.peers import Backoff
from channelpay.errors import ErrorCode, RemoteError
from channelpay.home import Home, HomeError
from channelpay.home.config import Limits, Opening, Policy, Records, rule_of
from channelpay.messages import ledger as ops
from channelpay.messages import peer
from channelpay.node import policy
from channelpay.store import payment_ids
from limits_table import DRIVEN_BY, NO_BOUNDS
from node_store import Fixture, payment_id
from node_world import open_pair

ROOT = Path(__file__).parent


def names() -> set[str]:
    return {name for name in vars(limits) if name.isupper()}


def test_every_limit_has_a_test_that_drives_it() -> None:
    assert set(DRIVEN_BY) | set(NO_BOUNDS) == names()
    assert not set(DRIVEN_BY) & set(NO_BOUNDS)


@pytest.mark.parametrize("reference", sorted(set(DRIVEN_BY.values())))
def test_the_tests_named_exist(reference: str) -> None:
    file, _, function = reference.partition("::")
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_limit_is_used_and_says_why() -> None:
    """A reason is the docstring below a limit, or below the last one of its group."""
    source = inspect.getsource(limits)
    reasons = re.findall(r"((?:^[A-Z_]+: Final = .*\n)+)(\"\"\"|\n|# )", source, re.M)
    assert [group for group, follows in reasons if follows != '"""'] == [], "write the reason below the limit"
    assert sum(len(group.splitlines()) for group, _ in reasons) == len(names())
    package = "\n".join(path.read_text("utf-8") for path in (ROOT.parent / "src" / "channelpay").rglob("*.py"))
    assert [name for name in names() if len(re.findall(rf"\b{name}\b", package)) < 2] == []


# --- Messages --------------------------------------------------------------------------------


def hello(**changes: Any) -> peer.Hello:
    return replace(peer.Hello((1,), (), 0, bytes(32), (), ""), **changes)


def rising(count: int) -> tuple[int, ...]:
    return tuple(range(count))


MESSAGES = {
    "MAX_VERSIONS": lambda n: hello(versions=rising(n)),
    "MAX_FEATURES": lambda n: hello(features=rising(n)),
    "MAX_LEDGERS": lambda n: hello(ledger_ids=tuple(bytes([each]) * 32 for each in range(n))),
    "MAX_AGENT_BYTES": lambda n: hello(agent="x" * n),
    "MAX_TEXT_BYTES": lambda n: peer.Error(1, None, "x" * n),
    "MAX_BATCH": lambda n: peer.Pay(bytes(32), 1, pack_record(1) * n, b"", 0, bytes(64)),
    "MAX_RECORDS_BATCHES": lambda n: peer.PastRecords(
        bytes(32), 0, tuple(peer.PastBatch(each + 1, pack_record(1), b"") for each in range(n))
    ),
    "MAX_BLOB_BYTES": lambda n: peer.Request(bytes(16), bytes(n), bytes(64)),
    "MAX_BODY_BYTES": lambda n: peer.Response(bytes(16), bytes(32), 0, bytes(n), bytes(64)),
    "RESPOND_STATES": lambda n: close(n),
}


def close(states: int) -> ops.LedgerRequest:
    state = ops.CoSigned(bytes(88), bytes(88), bytes(64), bytes(64))
    return ops.LedgerRequest(SigningKey(bytes(32)).public, 0, ops.Close(bytes(32), (state,) * states))


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_what_a_message_holds(name: str) -> None:
    most = getattr(limits, name)
    whole, too_much = (MESSAGES[name](count) for count in (most, most + 1))
    assert type(whole).decode(whole.encode()) == whole
    with pytest.raises(RemoteError) as caught:
        type(whole).decode(too_much.encode())
    assert caught.value.code is ErrorCode.MALFORMED


def test_asset_codes() -> None:
    assert check_code("A" * limits.MAX_ASSET_CODE)
    with pytest.raises(AmountError, match="at most 12"):
        check_code("A" * (limits.MAX_ASSET_CODE + 1))


def test_a_memo() -> None:
    longest = b"x" * limits.MAX_MEMO_BYTES
    assert parse_memos(pack_memos([(0, longest)]), 1) == [(0, longest)]
    with pytest.raises(RemoteError) as caught:
        parse_memos(pack([[0, longest + b"x"]]), 1)
    assert caught.value.code is ErrorCode.BAD_BATCH


# --- Configuration and policy ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key", "least", "most"),
    [
        (Policy, "min_window_s", limits.MIN_WINDOW_S, limits.MAX_WINDOW_S),
        (Policy, "max_window_s", limits.MIN_WINDOW_S, limits.MAX_WINDOW_S),
        (Opening, "window_s", limits.MIN_WINDOW_S, limits.MAX_WINDOW_S),
        (Opening, "max_batch", 1, limits.MAX_BATCH),
        (Limits, "max_unacked", 1, limits.MAX_MAX_UNACKED),
        (Records, "keep_s", limits.MIN_KEEP_S, limits.MAX_KEEP_S),
    ],
)
def test_bounds_of_the_configuration(table: type[Any], key: str, least: int, most: int) -> None:
    rule = rule_of(table.__dataclass_fields__[key])
    assert (rule.load(least), rule.load(most)) == (least, most)
    for outside in (least - 1, most + 1):
        with pytest.raises(ValueError, match="outside"):
            rule.load(outside)


def test_the_defaults_are_within_their_bounds() -> None:
    assert limits.MIN_WINDOW_S <= limits.DEFAULT_WINDOW_S <= limits.MAX_WINDOW_S
    assert limits.MIN_KEEP_S <= limits.DEFAULT_KEEP_S <= limits.MAX_KEEP_S
    assert 1 <= limits.DEFAULT_MAX_UNACKED <= limits.MAX_MAX_UNACKED


def test_the_length_of_a_seed_file(tmp_path: Path) -> None:
    """No more than one byte beyond the bound is read, which is enough to see that it is no seed."""
    home = Home(tmp_path / "home")
    home.path.mkdir(mode=0o700)
    home.config_file.touch(0o600)
    home.seed_file.touch(0o600)
    most = limits.MAX_SEED_FILE_BYTES
    for size, read in ((most, most), (most + 1, most + 1), (most + 2, most + 1)):
        home.seed_file.write_text("x" * size)
        assert len(home.read_seed()) == read
        with pytest.raises(HomeError):
            home.keyring()


def test_channels_with_one_peer() -> None:
    asset, most = bytes(16), limits.MAX_CHANNELS_PER_PEER
    offer = peer.Open(
        bytes(32), asset, bytes(32), bytes(32), 1, 0, limits.MIN_WINDOW_S, 1, bytes(32), 1, 1, 1
    )  # fmt: skip
    accepting = policy.Policy(auto_accept=True)
    assert policy.refusal(accepting, offer, frozenset({asset}), most - 1, most - 1) is None
    assert policy.refusal(accepting, offer, frozenset({asset}), most, most) is ErrorCode.TOO_MANY_CHANNELS


# --- Channels --------------------------------------------------------------------------------


def test_a_batch_is_recognised_among_the_newest() -> None:
    most = limits.DUPLICATE_WINDOW_BATCHES
    pair = Pair(max_batch=1).open()
    pair.a.pay(*[1] * (most + 1))
    pays = [message for message in pair.a.sent if isinstance(message, peer.Pay)]
    pair.run()
    assert len(pays) == most + 1
    pair.b.receive(pays[1])  # the oldest of the newest `most`
    assert not pair.b.errors
    pair.b.receive(pays[0])
    assert [error.code for error in pair.b.errors] == [ErrorCode.GAP]


def test_messages_that_wait_for_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held to a smaller bound here, since 70,000 signatures take long; the bound itself holds an honest window."""
    assert limits.MAX_HELD_BACK > limits.DEFAULT_MAX_UNACKED
    monkeypatch.setattr(step, "MAX_HELD_BACK", 20)
    pair = Pair(max_batch=1).open()
    pair.a.pay(*[1] * 21)
    pair.b.stale = True
    for _ in range(20):
        pair.b.deliver(1)
    assert (len(pair.b.c.held_back), pair.b.errors) == (20, [])
    pair.b.deliver(1)
    assert [error.code for error in pair.b.errors] == [ErrorCode.LIMIT_EXCEEDED]


def test_a_receipt_waits_for_a_commit_so_long(tmp_path: Path) -> None:
    world, a, _ = open_pair(tmp_path)
    a.pay(1)
    world.settle()
    a.node.tick(world.clock)
    a.node.ready()
    assert a.node.next_deadline() == pytest.approx(world.clock + limits.RECEIPT_DELAY_S)
    a.node.tick(world.clock + limits.RECEIPT_DELAY_S - 0.001)
    assert not a.node.ready().persist
    a.node.tick(world.clock + limits.RECEIPT_DELAY_S)
    assert a.node.ready().persist


@pytest.mark.parametrize(
    ("age_s", "timely"),
    [
        (limits.PAYMENT_ID_HORIZON_S, True),
        (limits.PAYMENT_ID_HORIZON_S + 1, False),
        (-limits.PAYMENT_ID_FUTURE_S, True),
        (-limits.PAYMENT_ID_FUTURE_S - 1, False),
    ],
)
def test_the_time_in_a_payment_id(monkeypatch: pytest.MonkeyPatch, age_s: int, timely: bool) -> None:
    monkeypatch.setattr("channelpay.daemon.payments._age_s", lambda payment_id: age_s)
    assert _is_timely(bytes(16)) is timely


@pytest.mark.parametrize(("batches_back", "found"), [(3, True), (4, False)])
def test_batches_that_are_searched_for_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches_back: int, found: bool
) -> None:
    """A bound of three here: the newest batches whose times fit are looked through, and no more."""
    monkeypatch.setattr(payment_ids, "MAX_SEARCHED_BATCHES", 3)
    monkeypatch.setattr(payment_ids, "REMEMBERED_IDS", 1)
    fixture = Fixture(tmp_path)
    c = fixture.channel(0)
    for n in range(1, 10):
        fixture.journal(fixture.entry(c, 1, pack_record(1, payment_id(n, 1000 + n))))
    newest, old = 8, 9 - batches_back
    again = [pack_record(1, payment_id(n, 1000 + n)) for n in (old, newest)]
    fixture.journal(fixture.entry(c, 1, b"".join(again)))
    repeated = fixture.all_rows()[-1].repeated
    fixture.store.close()
    assert (0 in repeated) == found
    assert 1 in repeated


async def test_a_node_looks_for_old_records(autojump_clock: trio.testing.MockClock) -> None:
    class Store:
        looked: list[float] = []  # noqa: RUF012  one test's own

        def pruning_clock(self, wall_s: int) -> int:
            return wall_s

        def prune(self, now_s: int, keep_s: int) -> bool:
            self.looked.append(trio.current_time())
            return False

    with trio.move_on_after(2 * limits.PRUNE_LOOK_S + 1):
        await upkeep.prune(Store(), limits.DEFAULT_KEEP_S)  # type: ignore[arg-type]
    assert Store.looked == pytest.approx([0, limits.PRUNE_LOOK_S, 2 * limits.PRUNE_LOOK_S])


async def test_a_node_looks_through_its_store_in_small_steps_and_then_rests(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    fixture = Fixture(tmp_path)
    c = fixture.channel(0)
    for _ in range(10 * limits.CHECK_STEP_ROWS):
        fixture.journal(fixture.entry(c, 1, pack_record(1, payment_id(1))))
    began: list[float] = []
    work = 0.001
    look = fixture.store.check

    def check() -> Iterator[None]:
        began.append(trio.current_time())
        for _ in look():
            autojump_clock.jump(work)
            yield

    fixture.store.check = check  # type: ignore[method-assign]
    with trio.move_on_after(1.5 * limits.CHECK_EVERY_S):
        await upkeep.check(fixture.store)
    assert len(began) == 2
    steps = len(list(look()))
    assert steps >= 10
    assert began[1] - began[0] - limits.CHECK_EVERY_S == pytest.approx(steps * work * limits.CHECK_SHARE)
    fixture.store.close()


# --- Connections and time --------------------------------------------------------------------


def test_a_connection_that_lasted_ends_the_back_off() -> None:
    chance = random.Random(1)

    def waited(connected_s: float) -> float:
        backoff = Backoff(chance)
        for _ in range(5):
            backoff.wait_s(0.0)
        return backoff.wait_s(connected_s)

    assert waited(limits.RECONNECT_RESET_S) <= limits.RECONNECT_MIN_S
    assert waited(limits.RECONNECT_RESET_S - 0.01) > limits.RECONNECT_MIN_S


@pytest.mark.parametrize(
    ("allowed", "possible"),
    [
        (limits.MAX_CONNECTIONS + limits.MAX_PENDING_HANDSHAKES + limits.DESCRIPTOR_RESERVE, limits.MAX_CONNECTIONS),
        (limits.MAX_CONNECTIONS + limits.MAX_PENDING_HANDSHAKES + limits.DESCRIPTOR_RESERVE - 1,
         limits.MAX_CONNECTIONS - 1),
        (4096, 4096 - limits.MAX_PENDING_HANDSHAKES - limits.DESCRIPTOR_RESERVE),
        (256, 128),
        (resource.RLIM_INFINITY, limits.MAX_CONNECTIONS),
    ],
)  # fmt: skip
def test_connections_are_as_many_as_there_are_descriptors(
    monkeypatch: pytest.MonkeyPatch, allowed: int, possible: int
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, allowed))
    monkeypatch.setattr(resource, "setrlimit", lambda which, both: raised.append(both))
    assert connections_possible() == possible
    assert raised[0][1] == allowed


def test_an_idle_ledger_ticks() -> None:
    assert inspect.signature(serve_ledger).parameters["tick_s"].default == limits.LEDGER_TICK_S
    assert limits.LEDGER_TICK_S < limits.OUTAGE_S < limits.MIN_WINDOW_S
