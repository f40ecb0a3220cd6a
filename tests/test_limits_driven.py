"""Every limit is driven to its bound and one beyond it: here, or by the test that DRIVEN_BY names.

A limit that is added to channelpay.limits fails `test_every_limit_has_a_test_that_drives_it` until it stands in one
of the two tables.
"""

from __future__ import annotations

import ast
import inspect
import random
import re
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channel_pair import Pair
from channelpay import limits
from channelpay.amounts import AmountError, check_code
from channelpay.batches import pack_memos, pack_record, parse_memos
from channelpay.channel import channel as step
from channelpay.codec import pack
from channelpay.crypto import SigningKey
from channelpay.daemon.descriptors import connections_possible
from channelpay.daemon.ledger_server import serve_ledger
from channelpay.daemon.payments import _is_timely
from channelpay.daemon.peers import Backoff
from channelpay.errors import ErrorCode, RemoteError
from channelpay.home import Home, HomeError
from channelpay.home.config import Limits, Opening, Policy, rule_of
from channelpay.messages import ledger as ops
from channelpay.messages import peer
from channelpay.node import policy
from node_world import open_pair

ROOT = Path(__file__).parent

DRIVEN_BY = {
    "MAX_UNITS": "test_batches.py::test_a_payment_is_1_to_2_63_units",
    "MAX_ASSET_SCALE": "test_amounts.py::test_an_asset_has_a_whole_scale_within_bounds",
    "MAX_ASSET_CODE": "test_limits_driven.py::test_asset_codes",
    "MAX_FRAME_BEFORE_AUTH": "test_session.py::test_lengths_before_auth",
    "MAX_FRAME": "test_session.py::test_lengths_after_auth",
    "MAX_CONTROL_FRAME": "daemon/test_control_server.py::test_garbage_ends_its_own_client_only",
    "MAX_ARRAY_ITEMS": "test_codec.py::test_no_array_has_more_than_4096_items",
    "MAX_BATCH": "test_limits_driven.py::test_what_a_message_holds",
    "MAX_MEMO_BYTES": "test_limits_driven.py::test_a_memo",
    "MAX_MEMOS_BYTES": "test_batches.py::test_memos_have_16_kib_in_all",
    "HANDSHAKE_TIMEOUT_S": "daemon/test_link.py::test_strangers_have_one_deadline",
    "ADDRESS_HANDSHAKES_PER_S": "daemon/test_admission.py::test_an_address_has_its_burst_and_then_its_rate",
    "ADDRESS_HANDSHAKE_BURST": "daemon/test_admission.py::test_an_address_has_its_burst_and_then_its_rate",
    "HANDSHAKES_PER_S": "daemon/test_admission.py::test_the_common_rate",
    "HANDSHAKE_BURST": "daemon/test_admission.py::test_all_addresses_together_have_a_burst_and_leave_a_reserve",
    "HANDSHAKE_RESERVE": "daemon/test_admission.py::test_all_addresses_together_have_a_burst_and_leave_a_reserve",
    "HANDSHAKE_REST_S": "daemon/test_admission.py::test_an_address_that_has_rested_gets_in_while_others_flood",
    "MAX_ADMISSION_ADDRESSES": "daemon/test_admission.py::test_addresses_that_are_remembered_are_bounded",
    "MAX_PENDING_HANDSHAKES": "daemon/test_admission.py::test_places_in_all_turn_over_after_a_time_of_grace",
    "MAX_PENDING_PER_ADDRESS": "daemon/test_admission.py::test_places_of_an_address",
    "HANDSHAKE_GRACE_S": "daemon/test_admission.py::test_places_in_all_turn_over_after_a_time_of_grace",
    "MAX_CONNECTIONS": "test_limits_driven.py::test_connections_are_as_many_as_there_are_descriptors",
    "MAX_GUESTS": "daemon/test_admission.py::test_guests_of_an_address_and_in_all",
    "MAX_GUESTS_PER_ADDRESS": "daemon/test_admission.py::test_guests_of_an_address_and_in_all",
    "DESCRIPTOR_RESERVE": "test_limits_driven.py::test_connections_are_as_many_as_there_are_descriptors",
    "LOG_LINES_PER_S": "daemon/test_admission.py::test_one_line_tells_how_many_were_left_out",
    "LOG_BURST": "daemon/test_admission.py::test_one_line_tells_how_many_were_left_out",
    "PING_INTERVAL_S": "test_session.py::test_a_ping_after_silence_and_its_answer",
    "PING_TIMEOUT_S": "test_session.py::test_a_silent_peer_is_dropped",
    "MAX_OUTGOING_BYTES": "daemon/test_link.py::test_a_peer_that_does_not_read",
    "MAX_GUEST_OUTGOING_BYTES": "daemon/test_link.py::test_little_waits_for_a_guest_that_does_not_read",
    "LINGER_TIMEOUT_S": "daemon/test_link.py::test_close_never_hangs",
    "RECONNECT_MIN_S": "daemon/test_streams.py::test_waits_grow_with_failures_and_begin_anew_after_a_good_connection",
    "RECONNECT_MAX_S": "daemon/test_streams.py::test_waits_grow_with_failures_and_begin_anew_after_a_good_connection",
    "RECONNECT_RESET_S": "test_limits_driven.py::test_a_connection_that_lasted_ends_the_back_off",
    "MAX_VERSIONS": "test_limits_driven.py::test_what_a_message_holds",
    "MAX_FEATURES": "test_limits_driven.py::test_what_a_message_holds",
    "MAX_LEDGERS": "test_limits_driven.py::test_what_a_message_holds",
    "MAX_AGENT_BYTES": "test_limits_driven.py::test_what_a_message_holds",
    "MAX_TEXT_BYTES": "test_limits_driven.py::test_what_a_message_holds",
    "MIN_WINDOW_S": "test_limits_driven.py::test_bounds_of_the_configuration",
    "MAX_WINDOW_S": "test_limits_driven.py::test_bounds_of_the_configuration",
    "MAX_MAX_UNACKED": "test_limits_driven.py::test_bounds_of_the_configuration",
    "MAX_QUEUED_PAYMENTS": "channel/test_payments.py::test_the_queue_is_bounded",
    "FLUSH_BATCHES": "channel/test_payments.py::test_one_step_takes_so_many_batches_and_says_that_there_are_more",
    "RECEIPT_DELAY_S": "test_limits_driven.py::test_a_receipt_waits_for_a_commit_so_long",
    "DUPLICATE_WINDOW_BATCHES": "test_limits_driven.py::test_a_batch_is_recognised_among_the_newest",
    "REMEMBERED_IDS": "store/test_node_store.py::test_ids_are_found_beyond_what_is_remembered",
    "PAYMENT_ID_HORIZON_S": "test_limits_driven.py::test_the_time_in_a_payment_id",
    "PAYMENT_ID_FUTURE_S": "test_limits_driven.py::test_the_time_in_a_payment_id",
    "FINAL_EXPIRY_S":
        "channel/test_closing.py::test_a_final_that_lives_too_long_or_not_at_all_is_declined_and_nothing_stops",
    "ANSWER_TIMEOUT_S": "channel/test_receive.py::test_a_peer_that_owes_an_ack_for_too_long_loses_the_connection",
    "CLOSE_TIMEOUT_S": "channel/test_closing.py::test_a_close_that_takes_too_long_goes_on_alone",
    "FINAL_SUBMIT_DELAY_S": "channel/test_closing.py::test_party_1_submits_if_party_0_does_not",
    "SUBMIT_RETRY_S": "channel/test_closing.py::test_a_refused_submission_is_repeated_later",
    "CLAIM_WAIT_S": "channel/test_closing.py::test_or_for_a_named_time",
    "MAX_HELD_BACK": "test_limits_driven.py::test_messages_that_wait_for_the_ledger",
    "MAX_RECORDS_BATCHES": "test_limits_driven.py::test_what_a_message_holds",
    "MAX_CHANNELS_PER_PEER": "test_limits_driven.py::test_channels_with_one_peer",
    "MAX_BLOB_BYTES": "test_limits_driven.py::test_what_a_message_holds",
    "MAX_BODY_BYTES": "test_limits_driven.py::test_what_a_message_holds",
    "MAX_REQUEST_LIFE_S": "ledger/test_requests.py::test_a_request_is_valid_to_the_second",
    "RESPOND_STATES": "test_limits_driven.py::test_what_a_message_holds",
    "RESTART_GRACE_S": "ledger/test_requests.py::test_an_outage_does_not_eat_a_window",
    "OUTAGE_S": "ledger/test_requests.py::test_ordinary_ticks_extend_nothing",
    "LEDGER_TICK_S": "test_limits_driven.py::test_an_idle_ledger_ticks",
    "LEDGER_REQUEST_TIMEOUT_S": "daemon/test_streams.py::test_a_ledger_that_does_not_answer_is_left",
    "MAX_PAGE": "ledger/test_requests.py::test_the_journal_of_an_account_comes_in_pages",
    "MAX_REQUESTS_IN_FLIGHT":
        "daemon/test_ledger_server.py::test_more_requests_than_may_be_under_way_wait_and_are_all_answered",
    "MAX_SEED_KDF_MEMORY_KIB": "home/test_seed.py::test_parameters_beyond_their_bounds_are_refused",
    "MAX_SEED_KDF_PASSES": "home/test_seed.py::test_parameters_beyond_their_bounds_are_refused",
    "MAX_SEED_KDF_LANES": "home/test_seed.py::test_parameters_beyond_their_bounds_are_refused",
    "MAX_SEED_FILE_BYTES": "test_limits_driven.py::test_the_length_of_a_seed_file",
    "MAX_PASSPHRASE_BYTES": "home/test_seed.py::test_a_passphrase_has_bounds",
}  # fmt: skip

NO_BOUNDS = {
    "FRAME_HEADER_BYTES": "the width of a field, which the vectors of messages.json fix",
    "RECORD_BYTES": "the width of a record, which test_limits.py::test_a_record_has_24_bytes fixes",
    "DEFAULT_WINDOW_S": "a default: test_the_defaults_are_within_their_bounds",
    "DEFAULT_MAX_UNACKED": "a default: test_the_defaults_are_within_their_bounds",
    "SEED_KDF_MEMORY_KIB": "what is written, not what is taken; the bounds of that are MAX_SEED_KDF_*",
    "SEED_KDF_PASSES": "what is written, not what is taken; the bounds of that are MAX_SEED_KDF_*",
    "SEED_KDF_LANES": "what is written, not what is taken; the bounds of that are MAX_SEED_KDF_*",
}


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
