"""How a channel comes to be, and everything that can go wrong on the way."""

from __future__ import annotations

import dataclasses

import pytest

from channelpay.errors import ErrorCode, LocalError, Reason
from channelpay.limits import ANSWER_TIMEOUT_S, MAX_MAX_UNACKED, MAX_REQUEST_LIFE_S
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Accept, Error, Funded, Open, Ready
from channelpay.node.policy import AssetPolicy, Policy
from channelpay.node.ready import OpenAccepted, OpenFailed
from node_world import NodeWorld, Phase, World

DEPOSIT = 1000


def pair(tmp_path, policy: Policy | None = None, funds: int = 10_000) -> tuple[World, NodeWorld, NodeWorld]:
    """Two connected nodes without a channel."""
    world = World(tmp_path)
    a, b = world.add(funds=funds), world.add(policy)
    world.settle()
    world.connect(a, b)
    world.settle()
    return world, a, b


def offer(world: World, a: NodeWorld, b: NodeWorld, **changes) -> bytes:
    values = {"deposit": DEPOSIT, "flags": 0, "window_s": 60, "max_batch": 4096} | changes
    asset_id = values.pop("asset_id", world.ledger.asset_id)
    return a.node.open_channel(b.id, asset_id, **values, clock=world.clock)


def number(node: NodeWorld, peer: NodeWorld) -> int:
    return node.node.connections[peer.id][0]


def raw_open(world: World, a: NodeWorld, **changes) -> Open:
    """An OPEN as a peer with other software may send it."""
    values = {
        "open_nonce": bytes([5]) * 32, "asset_id": world.ledger.asset_id, "channel_key": a.keys.channel(77).public,
        "account": a.keys.account.public, "deposit": DEPOSIT, "flags": 0, "window_s": 60, "max_batch": 4096,
        "salt": bytes(32), "max_unacked": 100, "max_unacked_value": 10**6, "min_payment": 1,
    }  # fmt: skip
    return Open(**(values | changes))


def answer_to(world: World, a: NodeWorld, b: NodeWorld, message: Open) -> Error | Accept:
    b.node.received(number(b, a), [message], world.clock)
    b.turn()
    (inbox,) = [inbox for key, inbox in world.inboxes.items() if key[0] == id(a)]
    (answer,) = inbox
    return answer


# --- Policy ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "changes", "code"),
    [
        ({"auto_accept": False}, {}, ErrorCode.NOT_ACCEPTING),
        ({}, {"flags": 2}, ErrorCode.FLAGS_REFUSED),
        ({}, {"asset_id": bytes(16)}, ErrorCode.ASSET_REFUSED),
        ({"assets": frozenset()}, {}, ErrorCode.ASSET_REFUSED),
        ({}, {"deposit": 0}, ErrorCode.DEPOSIT_REFUSED),
        ({"bounds": (1001, 2000)}, {}, ErrorCode.DEPOSIT_REFUSED),
        ({"bounds": (1, 999)}, {}, ErrorCode.DEPOSIT_REFUSED),
        ({"min_window_s": 61}, {}, ErrorCode.WINDOW_REFUSED),
        ({"max_window_s": 59}, {}, ErrorCode.WINDOW_REFUSED),
        ({}, {"max_batch": 0}, ErrorCode.BATCH_REFUSED),
        ({}, {"max_batch": 4097}, ErrorCode.BATCH_REFUSED),
        ({}, {"max_unacked": 0}, ErrorCode.LIMITS_REFUSED),
        ({}, {"max_unacked_value": 0}, ErrorCode.LIMITS_REFUSED),
        ({}, {"max_unacked_value": 9, "min_payment": 10}, ErrorCode.LIMITS_REFUSED),
        ({"max_channels_per_peer": 0}, {}, ErrorCode.TOO_MANY_CHANNELS),
        ({"max_channels": 0}, {}, ErrorCode.TOO_MANY_CHANNELS),
        ({}, {"channel_key": b"\x01" + bytes(31)}, ErrorCode.KEY_REFUSED),
        ({}, {"account": bytes(32)}, ErrorCode.KEY_REFUSED),
        # The first thing wrong is the answer.
        ({"auto_accept": False}, {"flags": 2, "deposit": 0}, ErrorCode.NOT_ACCEPTING),
        ({"max_channels": 0}, {"flags": 2, "deposit": 0}, ErrorCode.FLAGS_REFUSED),
    ],
)
def test_an_offer_that_the_policy_refuses(tmp_path, policy, changes, code):
    world, a, b = pair(tmp_path)
    settings = {"auto_accept": True} | policy
    if "bounds" in settings:
        settings["bounds"] = {world.ledger.asset_id: AssetPolicy(*settings["bounds"])}
    b.node.policy = Policy(**settings)
    answer = answer_to(world, a, b, raw_open(world, a, **changes))
    assert isinstance(answer, Error)
    assert (answer.code, answer.channel) == (code, bytes([5]) * 32)
    assert b.node.channels == {}
    assert b.node.next_key_index == 0, "a refusal costs no key"


def test_a_node_that_stops_or_has_no_ledger_accepts_nothing(tmp_path):
    world, a, b = pair(tmp_path)
    b.lose_ledger()
    assert answer_to(world, a, b, raw_open(world, a)).code == ErrorCode.LEDGER_REFUSED
    b.connect_ledger()
    world.inboxes[id(a), number(a, b)].clear()
    world.settle()
    b.node.stopping = True
    assert answer_to(world, a, b, raw_open(world, a)).code == ErrorCode.NOT_ACCEPTING


def test_channels_are_counted_while_they_live(tmp_path):
    world, a, b = pair(tmp_path, Policy(auto_accept=True, max_channels_per_peer=1))
    offer(world, a, b)
    world.settle()
    assert answer_to(world, a, b, raw_open(world, a)).code == ErrorCode.TOO_MANY_CHANNELS
    world.inboxes[id(a), number(a, b)].clear()
    a.node.close(a.channel().channel_id, False, world.clock)
    world.settle()
    assert isinstance(answer_to(world, a, b, raw_open(world, a)), Accept)


def test_a_limit_that_no_payer_should_have_to_keep_is_cut(tmp_path):
    world, a, b = pair(tmp_path)
    assert isinstance(answer_to(world, a, b, raw_open(world, a, max_unacked=2**32 - 1)), Accept)
    assert b.channel().setup.peer_limits.max_unacked == MAX_MAX_UNACKED


# --- The opener --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [int(ErrorCode.DEPOSIT_REFUSED), 999])
def test_the_opener_is_told_why(tmp_path, code):
    world, a, b = pair(tmp_path)
    nonce = offer(world, a, b)
    a.turn()
    a.node.received(number(a, b), [Error(code, nonce, "too little")], world.clock)
    a.turn()
    (told,) = a.opened()
    assert isinstance(told, OpenFailed)
    assert told.error.reason is Reason.PEER_REFUSED
    assert "too little" in str(told.error)
    # An ACCEPT after all is too late.
    world.settle()
    assert a.node.channels == {}


def test_offers_to_nobody_or_in_nothing_are_refused_at_once(tmp_path):
    world, a, b = pair(tmp_path)
    with pytest.raises(LocalError) as refused:
        offer(world, a, a)
    assert refused.value.reason is Reason.UNKNOWN_PEER
    with pytest.raises(LocalError) as refused:
        offer(world, a, b, asset_id=bytes(16))
    assert refused.value.reason is Reason.UNKNOWN_ASSET


def test_an_offer_that_is_not_answered_ends(tmp_path):
    world, a, b = pair(tmp_path)
    world.cut(a)
    nonce = offer(world, a, b)
    a.turn()
    assert a.node.next_deadline() <= world.clock + ANSWER_TIMEOUT_S
    a.node.tick(world.clock + ANSWER_TIMEOUT_S)
    a.turn()
    (told,) = a.opened()
    assert (told.open_nonce, told.error.reason) == (nonce, Reason.TIMED_OUT)


def accept_of(world: World, a: NodeWorld, b: NodeWorld, nonce: bytes) -> Accept:
    """The ACCEPT that b sends, taken off the wire."""
    a.turn()
    world.deliver(b)
    b.turn()
    accept = world.inboxes[id(a), number(a, b)].pop()
    assert isinstance(accept, Accept)
    assert accept.open_nonce == nonce
    return accept


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"flags": 1}, ErrorCode.UNEXPECTED),
        ({"window_s": 61}, ErrorCode.UNEXPECTED),
        ({"max_batch": 1}, ErrorCode.UNEXPECTED),
        ({"asset_id": bytes(16)}, ErrorCode.UNEXPECTED),
        ({"deposit": 1}, ErrorCode.UNEXPECTED),
        ({"signature": bytes(64)}, ErrorCode.BAD_SIGNATURE),
        ({"salt": bytes(32)}, None),
        ({"channel_key": b"\x01" + bytes(31)}, ErrorCode.KEY_REFUSED),
        ({"account": bytes(32)}, ErrorCode.KEY_REFUSED),
        ({"max_unacked": 0}, ErrorCode.LIMITS_REFUSED),
        ({"max_unacked_value": 1, "min_payment": 2}, ErrorCode.LIMITS_REFUSED),
    ],
)
def test_an_accept_to_something_else_opens_nothing(tmp_path, changes, code):
    world, a, b = pair(tmp_path)
    accept = accept_of(world, a, b, offer(world, a, b))
    connection = number(a, b)
    a.node.received(connection, [dataclasses.replace(accept, **changes)], world.clock)
    ready = a.node.ready()
    if code is None:  # a salt is the sender's own affair
        assert [type(note) for note in ready.notes] == [OpenAccepted]
        return
    assert a.node.channels == {}
    assert not ready.persist.requests
    (note,) = ready.notes
    assert note.error.reason is Reason.PEER_REFUSED
    closes = code in (ErrorCode.UNEXPECTED, ErrorCode.BAD_SIGNATURE)
    assert [error.code for _, error in ready.close] == ([code] if closes else [])
    assert [message.code for _, message in ready.send] == ([] if closes else [code])
    assert (b.id in a.node.connections) is not closes, "other channels with this peer go on"


def test_an_accept_nobody_asked_for_changes_nothing(tmp_path):
    world, a, b = pair(tmp_path)
    accept = accept_of(world, a, b, offer(world, a, b))
    c = world.add()
    world.settle()
    world.connect(a, c)
    a.node.received(number(a, c), [accept], world.clock)  # from somebody else
    a.node.received(number(a, b), [dataclasses.replace(accept, open_nonce=bytes(32))], world.clock)
    a.turn()
    assert a.node.channels == {}


# --- The ledger --------------------------------------------------------------------------------


def test_the_ledger_refuses_to_open(tmp_path):
    world, a, b = pair(tmp_path, funds=DEPOSIT - 1)
    nonce = offer(world, a, b)
    world.settle()
    assert a.channel().phase is Phase.ABANDONED
    accepted, answered, failed = a.opened()
    assert isinstance(accepted, OpenAccepted)
    assert answered.outcome
    assert (failed.open_nonce, failed.error.reason) == (nonce, Reason.LEDGER_REFUSED)
    assert "insufficient-funds" in str(failed.error)
    assert a.store.requests() == []
    assert b.channel().phase is Phase.ACCEPTED
    assert a.node._open_refused == {}


def test_what_was_accepted_and_never_came_is_given_up(tmp_path):
    world, a, b = pair(tmp_path, funds=DEPOSIT - 1)
    offer(world, a, b)
    world.settle()
    world.pass_time(MAX_REQUEST_LIFE_S - 10, step=100)
    assert b.channel().phase is Phase.ACCEPTED
    world.pass_time(20, step=5)
    assert b.channel().phase is Phase.ABANDONED
    assert b.node.roster.live == {}
    assert (b.id in a.node.wanted_peers(), a.id in b.node.wanted_peers()) == (False, False)
    b.crash()
    b.restart()
    world.settle()
    assert b.channel().phase is Phase.ABANDONED


def test_it_is_given_up_too_if_the_ledger_was_away_then(tmp_path):
    world, a, b = pair(tmp_path, funds=DEPOSIT - 1)
    offer(world, a, b)
    world.settle()
    b.lose_ledger()
    world.pass_time(MAX_REQUEST_LIFE_S + 10, step=100)
    assert b.channel().phase is Phase.ACCEPTED
    b.connect_ledger()
    world.settle()
    assert b.channel().phase is Phase.ABANDONED


def test_an_opening_that_the_ledger_did_not_answer_is_asked_again_once(tmp_path):
    world, a, b = pair(tmp_path)
    offer(world, a, b)
    a.turn()
    world.deliver(b)
    b.turn()
    world.deliver(a)
    a.turn()
    assert a.ledger_takes()  # executed
    a.lose_ledger()  # and the answer is lost
    assert len(a.store.requests()) == 1
    a.crash()
    a.restart()
    world.connect(a, b)
    world.settle()
    assert a.channel().phase is Phase.OPEN
    assert b.channel().phase is Phase.OPEN
    assert a.store.requests() == []
    assert world.ledger.balance(a.keys.account.public) == 10_000 - DEPOSIT


def test_a_reading_that_overtakes_the_opening_after_a_restart_gives_nothing_up(tmp_path):
    world, a, b = pair(tmp_path)
    offer(world, a, b)
    a.turn()
    world.deliver(b)
    b.turn()
    world.deliver(a)
    a.turn()
    a.crash()
    a.restart()
    world.connect(a, b)
    a.turn()
    late = a.requests.popleft()
    assert isinstance(ops.LedgerRequest.decode(late.blob).operation, ops.OpenChannel)
    world.settle()  # the ledger answers other requests first: it does not know the channel yet
    assert a.channel().phase is Phase.ACCEPTED
    a.requests.append(late)
    world.settle()
    assert (a.channel().phase, b.channel().phase) == (Phase.OPEN, Phase.OPEN)


# --- Interruptions -----------------------------------------------------------------------------


def opening_steps(world: World, a: NodeWorld, b: NodeWorld):
    """One act after another until the channel is open on both sides."""
    offer(world, a, b)
    while True:
        for node in (a, b):
            for act in (node.turn, lambda n=node: world.deliver(n, 1), node.ledger_takes, node.ledger_answers):
                act()
                yield
            node.events()


STEPS = 36


def run_until(world: World, a: NodeWorld, b: NodeWorld, step: int) -> None:
    acts = opening_steps(world, a, b)
    for _ in range(step):
        next(acts)


def finish(world: World, a: NodeWorld, b: NodeWorld) -> None:
    """Back together: either the channel is open on both sides, or nothing was taken and nothing is left."""
    world.settle()
    if b.id not in a.node.connections:
        world.connect(a, b)
        world.settle()
    world.pass_time(1)
    if not a.node.channels:
        assert world.ledger.balance(a.keys.account.public) == 10_000
        assert all(c.phase is Phase.ACCEPTED for c in b.node.channels.values())
        return
    assert a.channel().phase is Phase.OPEN
    channel = b.node.channels[a.channel().channel_id]
    assert channel.phase is Phase.OPEN
    assert a.channel().live
    assert channel.live
    assert world.ledger.balance(a.keys.account.public) == 10_000 - DEPOSIT
    a.pay(7)
    world.settle()
    assert b.journal() == [(0, 7)]


@pytest.mark.parametrize("who", ["a", "b"])
def test_a_crash_at_every_step_of_an_opening(tmp_path, who):
    opened = 0
    for step in range(1, STEPS):
        (tmp_path / f"{step}").mkdir()
        world, a, b = pair(tmp_path / f"{step}")
        run_until(world, a, b, step)
        victim = a if who == "a" else b
        victim.crash()
        victim.restart()
        finish(world, a, b)
        opened += bool(a.node.channels)
        for node in (a, b):
            node.crash()
    assert opened > 0, "some came far enough"


def test_a_lost_connection_at_every_step_of_an_opening(tmp_path):
    for step in range(1, STEPS):
        (tmp_path / f"{step}").mkdir()
        world, a, b = pair(tmp_path / f"{step}")
        run_until(world, a, b, step)
        world.cut(a)
        finish(world, a, b)
        assert a.node.channels, "the offer is sent again"
        for node in (a, b):
            node.crash()


def test_a_lost_ledger_at_every_step_of_an_opening(tmp_path):
    for step in range(1, STEPS):
        for who in ("a", "b"):
            (tmp_path / f"{step}{who}").mkdir()
            world, a, b = pair(tmp_path / f"{step}{who}")
            run_until(world, a, b, step)
            victim = a if who == "a" else b
            victim.lose_ledger()
            world.settle()
            victim.connect_ledger()
            finish(world, a, b)
            for node in (a, b):
                node.crash()


def test_funded_and_ready_before_the_ledger_was_read(tmp_path):
    """Party 1 believes the ledger alone; what the peer says meanwhile is kept."""
    world, a, b = pair(tmp_path)
    b.ledger_up = False
    offer(world, a, b)
    a.turn()
    world.deliver(b)
    b.turn()
    b.lose_ledger()
    world.settle()
    assert a.channel().phase is Phase.FUNDED
    assert b.channel().phase is Phase.ACCEPTED
    b.ledger_up = True
    b.connect_ledger()
    world.settle()
    assert b.channel().phase is Phase.OPEN
    assert a.channel().phase is Phase.OPEN


def test_messages_for_a_channel_that_is_not_there(tmp_path):
    world, a, b = pair(tmp_path)
    for message in (Funded(bytes(32)), Ready(bytes(32), bytes(64))):
        b.node.received(number(b, a), [message], world.clock)
        ready = b.node.ready()
        ((_, answer),) = ready.send
        assert (answer.code, answer.channel) == (ErrorCode.UNKNOWN_CHANNEL, bytes(32))
        assert not ready.close


def test_errors_about_nothing_are_ignored(tmp_path):
    world, a, b = pair(tmp_path)
    b.node.received(number(b, a), [Error(int(ErrorCode.UNKNOWN_CHANNEL), bytes(32), "what?")], world.clock)
    assert b.node.ready().notes == []
