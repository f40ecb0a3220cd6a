"""Every cell of the table of legal messages, legal or not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from channel_pair import Pair, Side
from channelpay import limits
from channelpay.batches import pack_record
from channelpay.channel.state import FinalAgreement, Phase
from channelpay.channel.transitions import CHANNEL_MESSAGES, LEGAL, Move
from channelpay.errors import ErrorCode
from channelpay.messages import peer
from channelpay.messages.peer import Message
from channelpay.statements import ZERO_HALF

NO_SIGNATURE = bytes(64)
SPEC = Path(__file__).parents[2] / "spec"


def example(kind: type[Message], pair: Pair, side: Side) -> Message:
    """A message of this kind from the peer, sound where that is easy."""
    channel_id, other = side.c.channel_id, pair.other(side)
    state = peer.SignedState(ZERO_HALF.pack(), ZERO_HALF.pack(), other.c.sign_state(ZERO_HALF, ZERO_HALF))
    examples: list[Message] = [
        peer.Funded(channel_id),
        peer.Ready(channel_id, state.signature),
        peer.Pay(channel_id, 1, pack_record(1), b"", 0, NO_SIGNATURE),
        peer.Ack(channel_id, 0, 0, NO_SIGNATURE),
        peer.Reestablish(channel_id, state, None, (), None),
        peer.Recall(channel_id, 0, 1),
        peer.PastRecords(channel_id, 0, ()),
        peer.Shutdown(channel_id, 0),
        peer.Final(channel_id, pair.time + 60, NO_SIGNATURE),
        peer.WithdrawAsk(channel_id, 1, pair.time + 60, NO_SIGNATURE),
        peer.WithdrawOk(channel_id, 1, pair.time + 60, NO_SIGNATURE),
        peer.WithdrawNo(channel_id, 1, pair.time + 60, 1),
        peer.TopupHint(channel_id),
    ]
    (found,) = (message for message in examples if type(message) is kind)
    return found


def standing(phase: Phase, party: int, live: bool = True) -> tuple[Pair, Side]:
    """A side in this phase."""
    pair = Pair().open()
    side = pair.sides[party]
    c = side.c
    c.phase = phase
    c.heard = c.live = live
    c.shutdown_sent = phase in (Phase.SHUTDOWN, Phase.FINAL)
    c.closing_since = pair.clock
    if phase is Phase.FINAL:
        c.final = FinalAgreement(ZERO_HALF, ZERO_HALF, pair.time + 60, NO_SIGNATURE, b"")
    side.disk.cold, side.disk.hot = side.bytes()
    return pair, side


CELLS = [(phase, party, kind) for phase in Phase for party in (0, 1) for kind in sorted(CHANNEL_MESSAGES, key=str)]


def test_the_table_names_every_message_that_names_a_channel() -> None:
    named = {kind for kind in peer.MESSAGES.values() if "channel_id" in {name for name, _ in kind._fields}}
    assert named == CHANNEL_MESSAGES
    assert len(CELLS) == 8 * 2 * 13


@pytest.mark.parametrize(("phase", "party", "kind"), [cell for cell in CELLS if cell not in LEGAL])
def test_an_illegal_message_is_named_and_changes_nothing(phase: Phase, party: int, kind: type[Message]) -> None:
    pair, side = standing(phase, party)
    before, sent = side.bytes(), len(side.sent)
    fx = side.receive(example(kind, pair, side))
    (error,) = side.errors
    assert error.code is ErrorCode.ILLEGAL_NOW
    assert error.channel == side.c.channel_id
    assert kind.__name__ in error.text
    assert side.bytes() == before
    assert len(side.sent) == sent
    assert not fx.journal
    assert not fx.notes


@pytest.mark.parametrize(
    ("phase", "party", "kind"), [cell for cell in CELLS if LEGAL.get(cell) is Move.IGNORE]
)  # fmt: skip
@pytest.mark.parametrize("live", [False, True])
def test_a_late_message_changes_nothing(phase: Phase, party: int, kind: type[Message], live: bool) -> None:
    pair, side = standing(phase, party, live)
    before, sent = side.bytes(), len(side.sent)
    fx = side.receive(example(kind, pair, side))
    assert not side.errors
    assert side.bytes() == before
    assert len(side.sent) == sent
    assert not fx.read_ledger
    assert not side.c.suspended


@pytest.mark.parametrize(("phase", "party", "kind"), [cell for cell in CELLS if LEGAL.get(cell) is Move.TAKE])
def test_a_legal_message_is_judged_by_its_own_rule(phase: Phase, party: int, kind: type[Message]) -> None:
    live = kind is not peer.Reestablish
    pair, side = standing(phase, party, live)
    side.receive(example(kind, pair, side))
    assert not [error for error in side.errors if error.code is ErrorCode.ILLEGAL_NOW]


@pytest.mark.parametrize(("phase", "party"), [(phase, party) for phase in Phase for party in (0, 1)])
def test_pay_and_ack_in_a_row_are_legal_together(phase: Phase, party: int) -> None:
    """A row of them is judged by its first."""
    taken = {LEGAL.get((phase, party, kind)) is Move.TAKE for kind in (peer.Pay, peer.Ack)}
    assert len(taken) == 1


def test_the_specification_has_the_same_table() -> None:
    text = (SPEC / "06-channel.md").read_text()
    rows = {
        match[1]: match[2].split("|")
        for match in re.finditer(r"^\| ([A-Z-]+(?: to party [01])?) \|((?: [Ti-] \|){8})$", text, re.M)
    }
    names = {kind: NAMES.get(kind, kind.__name__.upper()) for kind in CHANNEL_MESSAGES}
    for phase, party, kind in CELLS:
        row = rows.get(names[kind]) or rows[f"{names[kind]} to party {party}"]
        move = LEGAL.get((phase, party, kind))
        assert row[phase].strip() == ("-" if move is None else {Move.TAKE: "T", Move.IGNORE: "i"}[move])
    assert {name.split(" ")[0] for name in rows} == set(names.values())


def test_the_specification_has_the_same_bounds() -> None:
    rows = [
        match.groups()
        for chapter in ("06-channel.md", "07-closing.md")
        for match in re.finditer(r"^\| ([A-Z_]+) \| (\d+) \|", (SPEC / chapter).read_text(), re.M)
    ]
    assert len(rows) >= 16
    for name, value in rows:
        assert (name, int(value)) == (name, getattr(limits, name))


NAMES: dict[type[Message], str] = {
    peer.PastRecords: "RECORDS",
    peer.TopupHint: "TOPUP-HINT",
    peer.WithdrawAsk: "WITHDRAW-ASK",
    peer.WithdrawOk: "WITHDRAW-OK",
    peer.WithdrawNo: "WITHDRAW-NO",
}
