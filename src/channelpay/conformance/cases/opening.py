"""OPEN, ACCEPT, FUNDED, READY by the rules, with the kit as party 0 and as party 1. Spec 6.3."""

from __future__ import annotations

from channelpay.conformance.case import case
from channelpay.conformance.kit import DEPOSIT, Kit, terms_of
from channelpay.conformance.party import Party
from channelpay.conformance.runner import ControlRefused
from channelpay.conformance.verdict import Violation, require, same
from channelpay.errors import ErrorCode
from channelpay.ledger.outcomes import Outcome
from channelpay.limits import MAX_BATCH, MIN_WINDOW_S
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Ack, Funded, Ready, Shutdown
from channelpay.statements import FLAG_ONE_WAY, ZERO_HALF

_SMALL_ORDER = bytes([1]) + bytes(31)


@case("C-4 C-5 S-9 S-14")
def open_accepted(kit: Kit) -> None:
    """OPEN is answered with the same terms, sound keys and a consent that verifies"""
    kit.accepted(kit.connect())


@case("C-2 C-5")
def open_one_way_accepted(kit: Kit) -> None:
    """A one_way channel is accepted, and payments flow"""
    kit.open(flags=FLAG_ONE_WAY).pay(10)


@case("C-5 C-29")
def open_with_the_bounds_accepted(kit: Kit) -> None:
    """The bounds themselves are accepted: max_batch 1 and 4,096, the least window"""
    talk = kit.connect()
    kit.accepted(talk, max_batch=1)
    kit.accepted(talk, max_batch=MAX_BATCH)
    kit.accepted(talk, window_s=max(MIN_WINDOW_S, kit.info.min_window_s))


@case("S-6 S-24 C-4")
def open_fresh_channel_keys(kit: Kit) -> None:
    """Every channel has a key and a salt of its own"""
    talk = kit.connect()
    first, second = kit.accepted(talk)[0], kit.accepted(talk)[0]
    require(first.node_key != second.node_key, "two channels have the same channel key")
    require(first.salts[1] != second.salts[1], "two channels have the same salt")
    require(first.node_key != kit.runner.node_id, "the channel key is the node's identity")


@case("C-7")
def open_funded_ready(kit: Kit) -> None:
    """After FUNDED the node reads the ledger and signs the zero state; then payments flow"""
    kit.open().pay(10)


@case("C-7 C-6")
def open_ready_before_the_ledger(kit: Kit) -> None:
    """READY may come before the node has seen the channel on the ledger; it counts when it has"""
    party, _ = kit.accepted(kit.connect())
    party.link.send(Ready(party.channel_id, party.sign(ZERO_HALF, ZERO_HALF)))
    party.link.expect_quiet()
    kit.fund(party)
    party.link.send(Funded(party.channel_id))
    kit.take_ready(party, party.link.expect(Ready))
    party.pay(10)


@case("C-7 C-8")
def open_funded_is_not_believed(kit: Kit) -> None:
    """FUNDED without an opening on the ledger brings no READY: the node reads for itself"""
    party, _ = kit.accepted(kit.connect())
    party.link.send(Funded(party.channel_id))
    party.link.expect_quiet()
    party.link.expect_alive()


@case("C-6")
def open_pay_while_accepted(kit: Kit) -> None:
    """A payment before the ledger has opened the channel is illegal_now"""
    party, _ = kit.accepted(kit.connect())
    party.refused(party.next_pay(10), ErrorCode.ILLEGAL_NOW)


@case("C-6")
def open_pay_while_funded(kit: Kit) -> None:
    """A payment before READY is illegal_now"""
    party = kit.funded(kit.connect())
    party.link.send(Funded(party.channel_id))
    kit.take_ready(party, party.link.expect(Ready))
    party.refused(party.next_pay(10), ErrorCode.ILLEGAL_NOW)


@case("C-6")
def open_ack_and_shutdown_while_accepted(kit: Kit) -> None:
    """ACK and SHUTDOWN before the channel is open are illegal_now"""
    talk = kit.connect()
    for message in (Ack, Shutdown):
        party, _ = kit.accepted(talk)
        if message is Ack:
            party.refused(party.ack_message(), ErrorCode.ILLEGAL_NOW)
        else:
            party.refused(party.shutdown_message(), ErrorCode.ILLEGAL_NOW)


@case("C-7 S-11")
def ready_bad_signature(kit: Kit) -> None:
    """READY that is not signed over the zero state ends the connection"""
    party = kit.funded(kit.connect())
    party.link.send(Funded(party.channel_id))
    kit.take_ready(party, party.link.expect(Ready))
    party.refused(Ready(party.channel_id, party.key.sign(b"READY")), ErrorCode.BAD_SIGNATURE)


@case("C-20 C-7")
def open_across_a_reconnection(kit: Kit) -> None:
    """An opening goes on after a lost connection: REESTABLISH stands for READY"""
    party = kit.funded(kit.connect())
    party.link.send(Funded(party.channel_id))
    kit.take_ready(party, party.link.expect(Ready))
    kit.reconnect(party)
    party.pay(10)


@case("C-3 C-7 C-1", needs="kill start", alone=True)
def open_across_a_crash(kit: Kit) -> None:
    """A node that was killed while the channel was being opened goes on with it"""
    party = kit.funded(kit.connect())
    party.link.send(Funded(party.channel_id))
    kit.take_ready(party, party.link.expect(Ready))
    kit.order("kill")
    kit.order("start")
    kit.reconnect(party)
    party.pay(10)


# --- The node opens ----------------------------------------------------------------------------


@case("C-4 C-5 C-7 L-30", needs="id open")
def node_opens(kit: Kit) -> None:
    """The node opens: its OPEN is sound, it funds the channel, says FUNDED and READY; then payments flow"""
    party = kit.opened_by_node()
    view = kit.ledger.channel(party.channel_id)
    same(view.account1, kit.account.public, "account1 on the ledger")
    same(view.deposit1, 0, "the deposit of party 1")


@case("C-4", needs="id open")
def node_opens_with_fresh_secrets(kit: Kit) -> None:
    """Each OPEN has a nonce, a salt and a key of its own"""
    talk = kit.connect()
    first, second = kit.offered(talk)[0], kit.offered(talk)[0]
    for name in ("open_nonce", "salt", "channel_key"):
        require(getattr(first, name) != getattr(second, name), f"two OPENs have the same {name}")


def _attempt_fails(kit: Kit, party: Party) -> None:
    """The node gave up: the ledger has no such channel."""
    kit.ledger.refused(kit.account, ops.Channel(party.channel_id), Outcome.UNKNOWN_CHANNEL)


@case("C-5", needs="id open")
def accept_with_other_terms(kit: Kit) -> None:
    """ACCEPT that changes a term ends the attempt"""
    for changes in ({"window_s": 61}, {"max_batch": 15}, {"flags": 1}, {"asset_id": bytes(16)}, {"deposit": 5}):
        talk = kit.connect()
        message, call = kit.offered(talk)
        key = kit.key()
        talk.send(kit.accept_of(message, key, **changes))
        _expect_refused(kit, call, f"ACCEPT with {changes}")


@case("C-5 S-14", needs="id open")
def accept_bad_signature(kit: Kit) -> None:
    """ACCEPT without the consent over this channel ends the connection, and nothing is opened"""
    talk = kit.connect()
    message, call = kit.offered(talk)
    key = kit.key()
    answer = kit.accept_of(message, key, signature=key.sign(b"I agree"))
    talk.send(answer)
    talk.expect_error(ErrorCode.BAD_SIGNATURE)
    _expect_refused(kit, call, "ACCEPT with a bad signature")
    terms = terms_of(kit.runner.ledger_id, message, answer)
    _attempt_fails(kit, Party(terms, 1, key, (bytes(32), bytes(32))))


@case("C-5 S-3", needs="id open")
def accept_small_order_key(kit: Kit) -> None:
    """ACCEPT with a key that anyone can sign for is refused by its nonce"""
    talk = kit.connect()
    message, call = kit.offered(talk)
    answer = kit.accept_of(message, kit.key(), channel_key=_SMALL_ORDER, signature=bytes([1]) + bytes(63))
    talk.send(answer)
    talk.expect_error(ErrorCode.KEY_REFUSED, message.open_nonce)
    _expect_refused(kit, call, "ACCEPT with a key of small order")


@case("C-5", needs="id open")
def accept_with_limits_for_nothing(kit: Kit) -> None:
    """ACCEPT under whose limits nothing can be paid is refused by its nonce"""
    talk = kit.connect()
    message, call = kit.offered(talk)
    talk.send(kit.accept_of(message, kit.key(), max_unacked=0))
    talk.expect_error(ErrorCode.LIMITS_REFUSED, message.open_nonce)
    _expect_refused(kit, call, "ACCEPT with max_unacked 0")


def _expect_refused(kit: Kit, call: object, what: str) -> None:
    try:
        call.result(kit.runner.patience_s)  # type: ignore[attr-defined]
    except ControlRefused:
        return
    raise Violation(f"{what}: the node opened the channel")


@case("C-30 C-7", needs="id open pay")
def node_opens_and_pays(kit: Kit) -> None:
    """As party 0 the node pays, and is paid back"""
    party = kit.opened_by_node()
    call = kit.order_pay(party, 25)
    party.expect_pay()
    party.ack()
    call.result(kit.runner.patience_s)
    party.pay(10)
    require(party.peer.total == 25, f"the node paid {party.peer.total} units, not 25 of {DEPOSIT}")
