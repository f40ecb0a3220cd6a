"""What a case is given: connections to the node and the ledger, money, channels, the driver, and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from channelpay.batches import NO_ID
from channelpay.conformance.conversation import Conversation
from channelpay.conformance.ledger import LedgerTalk
from channelpay.conformance.party import Party, Signed
from channelpay.conformance.runner import Call, Runner
from channelpay.conformance.verdict import NotRun, Violation, require, same
from channelpay.crypto import SigningKey, check_public_key
from channelpay.errors import KeyRefused
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import ChannelView, LedgerInfo, OpenChannel
from channelpay.messages.peer import Accept, Funded, Open, Ready, Role
from channelpay.statements import FLAG_TWO_WAY, ZERO_HALF, ChannelTerms, accepted_bytes

DEPOSIT = 10_000
"""Units that the kit puts into a channel: all that a case can lose."""
WINDOW_S = 60
MAX_BATCH = 16
MAX_UNACKED = 1_000
MAX_UNACKED_VALUE = 5_000
_BREATH_S = 5.0
"""How long the kit leaves PINGs unanswered."""
_T = TypeVar("_T")


class Kit:
    """The world of one case. `account` holds money of `asset_id`; every case has an identity of its own."""

    def __init__(self, runner: Runner, account: SigningKey, asset_id: bytes) -> None:
        self.runner = runner
        self.account = account
        self.asset_id = asset_id
        self.identity = SigningKey(runner.entropy(32))
        self._ledger: LedgerTalk | None = None
        self._info: LedgerInfo | None = None
        self._open: list[Conversation] = []
        self._purses: list[SigningKey] = []

    # --- Connections -----------------------------------------------------------------------

    def dial(
        self,
        identity: SigningKey | None = None,
        *,
        role: Role = Role.NODE,
        versions: tuple[int, ...] = (1,),
        features: tuple[int, ...] = (),
    ) -> Conversation:
        """A connection to the node on which nothing has been said yet."""
        talk = Conversation(
            self.runner, self.runner.dial_node(), identity or self.identity, role, self.runner.node_id,
            versions=versions, features=features,
        )  # fmt: skip
        self._open.append(talk)
        return talk

    def connect(self, identity: SigningKey | None = None) -> Conversation:
        """An authenticated connection to the node."""
        return self.dial(identity).handshake()

    def dial_ledger(self, identity: SigningKey | None = None, role: Role = Role.LEDGER_CLIENT) -> Conversation:
        """A connection to the ledger on which nothing has been said yet."""
        wire = self.runner.dial_ledger()
        talk = Conversation(self.runner, wire, identity or self.identity, role, self.runner.ledger_id)
        self._open.append(talk)
        return talk

    def new_ledger(self) -> LedgerTalk:
        """Another authenticated connection to the ledger."""
        return LedgerTalk(self.runner, self.dial_ledger().handshake())

    @property
    def ledger(self) -> LedgerTalk:
        """The case's connection to the ledger."""
        if self._ledger is None:
            self._ledger = self.new_ledger()
        return self._ledger

    @property
    def info(self) -> LedgerInfo:
        """The ledger as it was when the case began."""
        if self._info is None:
            self._info = self.ledger.info()
        return self._info

    def key(self) -> SigningKey:
        """A fresh key."""
        return SigningKey(self.runner.entropy(32))

    def close(self) -> None:
        """End everything, and take back what is left in the purses."""
        for purse in self._purses:
            left = self.ledger.units(purse.public, self.asset_id)
            if left:
                self.ledger.answer(purse, ops.Transfer(self.asset_id, self.account.public, left))
        self.hang_up()

    def hang_up(self) -> None:
        """End every connection without a word."""
        for talk in self._open:
            talk.close()

    # --- Time ------------------------------------------------------------------------------

    def sleep(self, seconds: float) -> None:
        """Let time pass; meanwhile PINGs are answered."""
        end = self.runner.clock() + seconds
        while (left := end - self.runner.clock()) > 0:
            self.runner.sleep(min(left, _BREATH_S))
            for talk in self._open:
                talk.keep_up()

    def until(self, look: Callable[[], _T | None], wait_s: float, what: str) -> _T:
        """What `look` finds, as soon as it finds something; Violation when nothing was found in `wait_s`."""
        end = self.runner.clock() + wait_s
        while True:
            found = look()
            if found:
                return found
            if self.runner.clock() >= end:
                raise Violation(f"{what} did not come within {wait_s:g} s")
            self.sleep(min(0.2, wait_s))

    # --- Money -----------------------------------------------------------------------------

    def purse(self, units: int = 0) -> SigningKey:
        """A fresh account with some money, which goes back when the case is over."""
        key = self.key()
        self._purses.append(key)
        if units:
            self.ledger.answer(self.account, ops.Transfer(self.asset_id, key.public, units))
        return key

    # --- The driver ------------------------------------------------------------------------

    def start(self, command: str, **arguments: Any) -> Call:
        """Give the node's operator a command. The list of the case's needs must name it."""
        control = self.runner.control
        if control is None or command not in control.commands:
            raise NotRun(f"needs a driver that can {command}")
        return control.start(command, **arguments)

    def order(self, command: str, **arguments: Any) -> Mapping[str, Any]:
        """The answer to a command."""
        return self.start(command, **arguments).result(self.runner.patience_s)

    def order_pay(self, party: Party, amount: int, count: int = 1, payment_id: bytes = NO_ID) -> Call:
        """The node is to pay the kit `count` payments of `amount` units."""
        name = payment_id.hex() if payment_id != NO_ID else ""
        return self.start("pay", channel=party.channel_id.hex(), amount=str(amount), count=count, payment_id=name)

    def delivered(self, party: Party) -> list[int]:
        """The amounts that the node has delivered to its application on this channel, in order."""
        answer = self.order("payments", channel=party.channel_id.hex())
        return [int(amount) for amount in answer["amounts"]]

    def expect_delivered(self, party: Party, amounts: list[int]) -> None:
        """Exactly these payments are delivered, each once (spec C-9); looked at only with a driver."""
        control = self.runner.control
        if control is not None and "payments" in control.commands:
            same(self.delivered(party), amounts, "what the node delivered")

    def node_account(self) -> bytes:
        """The account of the node on the ledger, with some money on it."""
        account = bytes.fromhex(self.order("id")["account"])
        if self.ledger.units(account, self.asset_id) < 10 * DEPOSIT:
            self.ledger.answer(self.account, ops.Transfer(self.asset_id, account, 10 * DEPOSIT))
        return account

    # --- Channels that the kit opens -------------------------------------------------------

    def offer(self, key: SigningKey | None = None, **changes: Any) -> tuple[Open, SigningKey]:
        """OPEN on terms that the node accepts (spec 14.2), with `changes`; and the channel key in it."""
        key = key or self.key()
        window_s = max(WINDOW_S, self.info.min_window_s)
        message = Open(
            self.runner.entropy(32), self.asset_id, key.public, self.account.public, self.deposit, FLAG_TWO_WAY,
            window_s, MAX_BATCH, self.runner.entropy(32), MAX_UNACKED, MAX_UNACKED_VALUE, 1,
        )  # fmt: skip
        return replace(message, **changes), key

    @property
    def deposit(self) -> int:
        """What the kit puts in."""
        return max(DEPOSIT, self.info.min_deposit)

    def accepted(self, talk: Conversation, **changes: Any) -> tuple[Party, Open]:
        """An offer that the node has accepted: it repeats the terms, and its consent verifies (C-5)."""
        message, key = self.offer(**changes)
        talk.send(message)
        answer = talk.expect(Accept)
        for name in ("open_nonce", "asset_id", "flags", "window_s", "max_batch"):
            same(getattr(answer, name), getattr(message, name), f"{name} of ACCEPT")
        same(answer.deposit, 0, "deposit of ACCEPT")
        require(answer.max_unacked >= 1, "ACCEPT takes no payments at all: max_unacked is 0")
        require(answer.max_unacked_value >= max(1, answer.min_payment), "ACCEPT takes no payments at all")
        check_keys(answer)
        terms = terms_of(self.runner.ledger_id, message, answer)
        party = Party(terms, 0, key, (message.salt, answer.salt), answer)
        party.verify(answer.signature, accepted_bytes(party.channel_id), "ACCEPT")
        party.talk = talk
        return party, message

    def fund(self, party: Party) -> ChannelView:
        """Open on the ledger the channel that the node has accepted."""
        assert party.limits is not None
        accepted_by_node = party.limits.signature
        consent = party.key.sign(accepted_bytes(party.channel_id))
        return self.ledger.channel_op(self.account, open_request(party.terms, self.deposit, consent, accepted_by_node))

    def funded(self, talk: Conversation, **changes: Any) -> Party:
        """A channel that the ledger has opened; neither side has said so."""
        party, _ = self.accepted(talk, **changes)
        self.fund(party)
        return party

    def open(self, talk: Conversation | None = None, **changes: Any) -> Party:
        """An open channel in which the kit is party 0 (C-4 to C-7)."""
        party = self.funded(talk or self.connect(), **changes)
        self.make_ready(party)
        return party

    def make_ready(self, party: Party) -> None:
        """FUNDED and READY on a funded channel, and the node's READY."""
        party.link.send(Funded(party.channel_id))
        self.take_ready(party, party.link.expect(Ready))
        party.link.send(Ready(party.channel_id, party.sign(ZERO_HALF, ZERO_HALF)))

    def take_ready(self, party: Party, message: Ready) -> None:
        """The node's signature over the zero state."""
        same(message.channel_id, party.channel_id, "the channel of READY")
        party.verify(message.signature, party.state(ZERO_HALF, ZERO_HALF), "READY")
        party.held = Signed(ZERO_HALF, ZERO_HALF, message.signature)

    # --- Channels that the node opens ------------------------------------------------------

    def offered(self, talk: Conversation, **terms: Any) -> tuple[Open, Call]:
        """The node is told to open a channel with the kit; its OPEN."""
        self.node_account()
        wanted = {"deposit": str(self.deposit), "flags": 0, "window_s": WINDOW_S, "max_batch": MAX_BATCH} | terms
        call = self.start("open", peer=self.identity.public.hex(), asset=self.asset_id.hex(), **wanted)
        message = talk.expect(Open)
        same(str(message.deposit), wanted["deposit"], "deposit of OPEN")
        for name in ("flags", "window_s", "max_batch"):
            same(getattr(message, name), wanted[name], f"{name} of OPEN")
        same(message.asset_id, self.asset_id, "asset_id of OPEN")
        return message, call

    def accept_of(self, message: Open, key: SigningKey, **changes: Any) -> Accept:
        """ACCEPT of the node's OPEN, with `changes`; the consent is over the terms that it then says."""
        answer = Accept(
            message.open_nonce, message.asset_id, key.public, self.account.public, 0, message.flags, message.window_s,
            message.max_batch, self.runner.entropy(32), MAX_UNACKED, MAX_UNACKED_VALUE, 1, bytes(64),
        )  # fmt: skip
        answer = replace(answer, **{name: value for name, value in changes.items() if name != "signature"})
        channel_id = terms_of(self.runner.ledger_id, message, answer).channel_id()
        signature = changes.get("signature", key.sign(accepted_bytes(channel_id)))
        return replace(answer, signature=signature)

    def opened_by_node(
        self, talk: Conversation | None = None, limits: Mapping[str, int] | None = None, **terms: Any
    ) -> Party:
        """An open channel in which the kit is party 1; `limits` are what the kit takes."""
        talk = talk or self.connect()
        message, call = self.offered(talk, **terms)
        key = self.key()
        answer = self.accept_of(message, key, **(limits or {}))
        talk.send(answer)
        party = Party(terms_of(self.runner.ledger_id, message, answer), 1, key, (message.salt, answer.salt))
        party.talk = talk
        funded = talk.expect(Funded)
        same(funded.channel_id, party.channel_id, "the channel of FUNDED")
        same(self.ledger.channel(party.channel_id).deposit0, message.deposit, "the deposit on the ledger")
        self.take_ready(party, talk.expect(Ready))
        talk.send(Ready(party.channel_id, party.sign(ZERO_HALF, ZERO_HALF)))
        call.result(self.runner.patience_s)
        return party

    # --- After a lost connection -----------------------------------------------------------

    def reconnect(self, party: Party) -> None:
        """A new connection, REESTABLISH both ways by the rules."""
        self.drop(party)
        party.talk = self.connect()
        party.link.send(party.reestablish_message())
        party.learn(party.expect_reestablish())

    def drop(self, party: Party) -> None:
        """The connection breaks."""
        party.link.close()
        party.talk = None

    # --- On the ledger ---------------------------------------------------------------------

    def channel_until(self, party: Party, status: int, wait_s: float | None = None) -> ChannelView:
        """The channel on the ledger, once it has this status."""

        def look() -> ChannelView | None:
            view = self.ledger.channel(party.channel_id)
            return view if view.status == status else None

        names = {ops.OPEN: "open", ops.CLOSING: "closing", ops.SETTLED: "settled"}
        return self.until(look, wait_s or self.runner.patience_s, f"the channel as {names[status]} on the ledger")

    def close_on_ledger(self, party: Party, *states: Signed) -> ChannelView:
        """The kit closes alone, with these states of the node, countersigned."""
        shown = tuple(party.co_signed(state) for state in states)
        return self.ledger.channel_op(party.key, ops.Close(party.channel_id, shown))


def terms_of(ledger_id: bytes, offer: Open, answer: Accept) -> ChannelTerms:
    """What OPEN and ACCEPT make together (S-9)."""
    return ChannelTerms(
        ledger_id, offer.asset_id, offer.channel_key, answer.channel_key, offer.account, answer.account,
        offer.open_nonce, offer.flags, offer.window_s, offer.max_batch,
    )  # fmt: skip


def open_request(terms: ChannelTerms, deposit: int, accepted0: bytes, accepted1: bytes) -> OpenChannel:
    """The ledger's `open` of these terms."""
    fields = terms._asdict()
    del fields["ledger_id"]
    return OpenChannel(**fields, deposit=deposit, accepted0=accepted0, accepted1=accepted1)


def check_keys(message: Open | Accept) -> None:
    """The node's keys are sound (S-3)."""
    try:
        check_public_key(message.channel_key)
        check_public_key(message.account)
    except KeyRefused as error:
        raise Violation(f"{type(message).__name__} carries a key that S-3 refuses: {error}") from None
