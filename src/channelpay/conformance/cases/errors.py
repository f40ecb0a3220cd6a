"""What ERROR does to the node that receives it. Spec chapter 9."""

from __future__ import annotations

from channelpay.batches import Batch, pack_record
from channelpay.conformance.case import case
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party
from channelpay.conformance.verdict import same
from channelpay.errors import ErrorCode
from channelpay.messages.peer import Error, Ping, Pong


@case("E-3")
def error_about_unknown_channel_ignored(kit: Kit) -> None:
    """An ERROR about a channel that the node does not know is ignored"""
    talk = kit.connect()
    talk.send(Error(int(ErrorCode.GAP), kit.runner.entropy(32), ""))
    talk.expect_alive()


def _suspends(kit: Kit, code: int) -> None:
    first, second = _two_channels(kit)
    first.link.send(Error(code, first.channel_id, "stop"), first.next_pay(10))
    second.pay(11)  # other channels go on
    second.link.expect_alive()
    kit.drop(first)
    talk = second.talk = first.talk = kit.connect()
    talk.send(first.reestablish_message(mine=(first.own_halves[0], first.peer)), second.reestablish_message())
    for _ in range(2):
        shown = talk.expect(type(first.reestablish_message()))
        if shown.channel_id == first.channel_id:
            same(first.pair(shown.mine)[0].n, 0, "the payments taken after ERROR")
    first.resend(0)
    first.expect_acked()


def _two_channels(kit: Kit) -> tuple[Party, Party]:
    talk = kit.connect()
    return kit.open(talk), kit.open(talk)


@case("E-2 C-30")
def error_suspends_the_channel(kit: Kit) -> None:
    """ERROR of effect suspend stops its channel until the next connection, and no other"""
    _suspends(kit, int(ErrorCode.BALANCE))


@case("E-4 C-30")
def error_with_unknown_code_suspends(kit: Kit) -> None:
    """A code that is not in the table suspends the channel that it names"""
    _suspends(kit, 60_000)


@case("E-2")
def error_retry_changes_nothing(kit: Kit) -> None:
    """ERROR of effect retry leaves the channel as it is"""
    party = kit.open()
    party.link.send(Error(int(ErrorCode.STALLED), party.channel_id, ""))
    party.pay(10)


@case("E-4")
def error_with_unknown_code_and_nil_closes(kit: Kit) -> None:
    """A code that is not in the table ends the connection when it names no channel"""
    talk = kit.connect()
    talk.send(Error(60_001, None, ""), Ping(1))
    talk.expect_end("on ERROR with nil")


@case("E-5")
def error_is_not_answered(kit: Kit) -> None:
    """No ERROR is answered with an ERROR"""
    party = kit.open()
    party.link.send(Error(int(ErrorCode.GAP), party.channel_id, "one"), Error(999, party.channel_id, "two"), Ping(4))
    same(party.link.expect(Pong).token, 4, "the token of PONG")
    party.link.expect_quiet()


@case("E-7")
def error_text_is_for_people(kit: Kit) -> None:
    """The text of an ERROR is clean, also when hostile text went before it"""
    party = kit.open()
    party.link.send(Error(int(ErrorCode.STALLED), party.channel_id, "\x1b[2J\x07\r\n\u202e"))
    party.refused(party.wrong_pay(Batch(3, pack_record(10), b"")), ErrorCode.GAP)


@case("E-1 C-6")
def unknown_channel(kit: Kit) -> None:
    """A message about a channel that does not exist gets unknown_channel"""
    party = kit.open()
    stranger = Party(party.terms._replace(open_nonce=kit.runner.entropy(32)), 0, party.key, party.salts)
    stranger.talk = party.talk
    stranger.refused(stranger.next_pay(10), ErrorCode.UNKNOWN_CHANNEL)
    party.pay(10)


@case("E-1 C-6")
def channel_of_another_peer(kit: Kit) -> None:
    """A channel belongs to the peer that opened it: for another one it is unknown"""
    party = kit.open()
    message = party.next_pay(10)
    thief = kit.connect(kit.key())
    thief.send(message)
    thief.expect_error(ErrorCode.UNKNOWN_CHANNEL, party.channel_id)
    party.link.send(message)
    party.expect_acked()
