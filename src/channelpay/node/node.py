"""The node: every input that concerns its channels, in; one `Ready`, out.

Nothing here waits, reads a clock, or touches a socket or a disk. Time comes in as `clock` (seconds
that never go back), entropy as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from channelpay.channel import channel as step
from channelpay.channel import closing, withdrawals
from channelpay.channel.closing import Now
from channelpay.channel.effects import Effects, OperatorNote, Queued, Submission
from channelpay.channel.saved import Saved, Summary, pack_cold, pack_hot, pack_setup
from channelpay.channel.state import Channel, Phase, Reading
from channelpay.channel.transitions import CHANNEL_MESSAGES
from channelpay.errors import Effect, ErrorCode, LocalError, Reason, RemoteError, code_name, effect_of
from channelpay.keys import Keyring
from channelpay.ledger.outcomes import Outcome
from channelpay.limits import ANSWER_TIMEOUT_S, CLAIM_WAIT_S, MAX_REQUEST_LIFE_S, RECEIPT_DELAY_S
from channelpay.messages import ledger as ask
from channelpay.messages.ledger import ChannelView, LedgerInfo, LedgerRequest, Operation
from channelpay.messages.peer import Accept, Error, Message, Open, Reestablish, Request, TopupHint
from channelpay.messages.schema import Record
from channelpay.node import opening
from channelpay.node.ledger_link import RESTORED, Asked, LedgerLink, reading_of
from channelpay.node.opening import Offer, Offers
from channelpay.node.policy import REFUSALS, Policy
from channelpay.node.ready import Connection, OpenAccepted, OpenFailed, OperationAnswered, Ready, RequestAnswered
from channelpay.node.recovery import UNKNOWN_PEER, Finder, name_peer
from channelpay.node.roster import DEAD, Roster
from channelpay.node.timers import Timers
from channelpay.session import keep_new

Entropy = Callable[[int], bytes]


class Memory(Protocol):
    """What a node reads at its start, and channels later on; see `store.node`."""

    def next_key_index(self) -> int: ...

    def ledger_number(self) -> int: ...

    def restored_until(self) -> int: ...

    def peers(self) -> Iterable[tuple[bytes, str]]: ...

    def requests(self) -> Iterable[Request]: ...

    def roster(self) -> Iterable[Summary]: ...

    def channel(self, channel_id: bytes, keyring: Keyring) -> Channel: ...


_NO_CONNECTION: Connection = -1
_ALREADY_DONE = (Outcome.DONE, Outcome.ALREADY_OPEN, Outcome.ALREADY_SETTLED)


class Node:
    """All channels of one owner; see the module."""

    def __init__(self, keyring: Keyring, ledger_id: bytes, policy: Policy, entropy: Entropy, clock: float) -> None:
        self.keyring = keyring
        self.node_id = keyring.identity.public
        self.account = keyring.account.public
        self.policy = policy
        self.ledger = LedgerLink(ledger_id)
        self.roster = Roster()
        self.roster.on_load = self._loaded
        self.channels = self.roster.channels
        self.connections: dict[bytes, tuple[Connection, bool]] = {}  # by peer: number, whether we dialled
        self.peer_of: dict[Connection, bytes] = {}
        self.addresses: dict[bytes, str] = {}
        self.next_key_index = 0
        self.stopping = False
        self._entropy = entropy
        self._clock = self._started_at = clock
        self.offers = Offers()
        self._open_refused: dict[bytes, str] = {}  # by channel: what the ledger said against opening it
        self._dirty: dict[bytes, Channel] = {}
        self._stalled: dict[bytes, Channel] = {}
        self._timers = Timers()
        self._cold: dict[bytes, Channel] = {}
        self._hot: dict[bytes, Channel] = {}
        self._receipts: dict[bytes, Channel] = {}  # whose newest receipt waits for a commit to ride with
        self._receipts_due = 0.0
        self._more: dict[bytes, Channel] = {}  # with more to send than one step took
        self._ready = Ready()
        self._holding: dict[bytes, Channel] = {}  # with an open withdrawal
        self._lonely: dict[bytes, None] = {}  # peers that may have to be dialled
        self._finder = Finder(keyring)

    # --- Start -----------------------------------------------------------------------------

    def load(self, memory: Memory) -> None:
        """What the store knows, before any other input: summaries of all channels, and those that do not rest."""
        self.next_key_index = memory.next_key_index()
        self.ledger.number = memory.ledger_number()
        self.ledger.restored_until = memory.restored_until()
        self.addresses.update(memory.peers())
        self._lonely = dict.fromkeys(self.addresses)
        for channel_id in self.roster.learn(memory.roster(), lambda key: memory.channel(key, self.keyring)):
            self._dirty[channel_id] = self.channels[channel_id]  # its time-outs begin now
        for request in memory.requests():
            self.load_request(request)

    def _loaded(self, channel: Channel) -> None:
        channel.started_at = self._started_at
        channel.restored = self.ledger.restored_until != 0
        self._set_timer(channel)
        if channel.withdrawals:
            self._holding[channel.channel_id] = channel

    def mark_restored(self) -> None:
        """The store came from a backup: no payments until what it may have forgotten has expired (spec C-28)."""
        self.ledger.restored_until = RESTORED
        self._ready.persist.restored_until = RESTORED
        for channel in self.roster.loaded.values():
            channel.restored = True

    def load_request(self, request: Request) -> None:
        """An operator's request that was not answered before the last stop."""
        operation = LedgerRequest.decode(request.blob).operation
        channel_id: bytes | None = getattr(operation, "channel_id", None)
        if isinstance(operation, ask.OpenChannel):  # it names no channel: it makes one
            channel_id = opening.opened_by(self.ledger.ledger_id, operation)
        self.ledger.asked[request.request_id] = Asked(request, operation, channel_id, self._clock, kept=True)

    # --- Time ------------------------------------------------------------------------------

    def tick(self, clock: float) -> None:
        """Time has passed; call at `next_deadline` at the latest."""
        self._clock = clock
        for channel_id in self._timers.due(clock):
            channel = self._dirty[channel_id] = self.channels[channel_id]
            if channel.phase == Phase.ACCEPTED:
                self.read_channel(channel_id)  # does it still come, or is it given up?
        for offer in self.offers.overdue(clock):
            self._open_failed(offer, LocalError(Reason.TIMED_OUT, "the peer did not answer OPEN in time"))
        if self.ledger.subscribed and clock >= self.ledger.polled_at + self._poll_interval():
            self._ask(ask.Info(), None)
            self.ledger.polled_at = clock

    def next_deadline(self) -> float | None:
        """When `tick` is due, on the caller's clock."""
        times = [due for due in (self._timers.next(), self.offers.next_deadline()) if due is not None]
        if self.ledger.subscribed:
            times.append(self.ledger.polled_at + self._poll_interval())
        if self._receipts:
            times.append(self._receipts_due)
        return min(times, default=None)

    def _poll_interval(self) -> float:
        return self.ledger.poll_interval(self.roster.least_window_s)

    def now(self, channel: Channel) -> Now:
        """The time as this channel must see it."""
        stale = self.ledger.is_stale(channel.setup.terms.window_s, self._clock)
        if stale:
            self._stalled[channel.channel_id] = channel
        return Now(self._clock, self.ledger.time_now(self._clock), stale)

    # --- Connections -----------------------------------------------------------------------

    def connected(self, connection: Connection, peer_id: bytes, initiated: bool, clock: float) -> bool:
        """An authenticated connection; False if an older one of the pair stays instead (spec T-25)."""
        self._clock = clock
        old = self.connections.get(peer_id)
        if old is not None:
            if not keep_new(self.node_id, peer_id, old_initiated=old[1], new_initiated=initiated):
                self._end(connection, RemoteError(ErrorCode.REPLACED, "another connection of this pair stays"))
                return False
            self._end(old[0], RemoteError(ErrorCode.REPLACED, "a newer connection of this pair took over"))
            self.disconnected(old[0], clock)
        self.connections[peer_id] = connection, initiated
        self.peer_of[connection] = peer_id
        for channel in self.roster.with_peer(peer_id):
            self._run(channel, lambda fx, c=channel: step.connected(c, self.now(c), fx))
        for message in self.offers.to_send(peer_id, connection):
            self._send(connection, message)
        return True

    def disconnected(self, connection: Connection, clock: float) -> None:
        """A connection ended. What it carried and was not yet given in is dropped (spec T-25)."""
        self._clock = clock
        peer_id = self.peer_of.pop(connection, None)
        if peer_id is None:
            return
        del self.connections[peer_id]
        for channel in self.roster.loaded_with(peer_id):
            step.disconnected(channel)
            self._drop_if_idle(channel)
        self.offers.connection_lost(connection)
        self._lonely[peer_id] = None

    def wanted_peers(self) -> list[bytes]:
        """Peers with something to do and no connection, whose address is known."""
        self._lonely = {peer_id: None for peer_id in self._lonely if self.wants_peer(peer_id)}
        return list(self._lonely)

    def wants_peer(self, peer_id: bytes) -> bool:
        """Whether this peer is one of `wanted_peers`."""
        if peer_id in self.connections or peer_id not in self.addresses:
            return False
        if self.roster.count_with(peer_id) > 0 or peer_id in self.offers.peers():
            return True
        return self.roster.count_with(UNKNOWN_PEER) > 0  # it may be the one that a found channel waits for

    def knows_peer(self, peer_id: bytes) -> bool:
        """Whether there is or was a channel with it, or its address is known: a stranger may be anybody."""
        return peer_id in self.roster.by_peer or peer_id in self.addresses

    def know_address(self, peer_id: bytes, address: str) -> None:
        """Where a peer listens."""
        if self.addresses.get(peer_id) != address:
            self.addresses[peer_id] = address
            self._lonely[peer_id] = None
            self._ready.persist.peers.append((peer_id, address))

    def _end(self, connection: Connection, error: RemoteError) -> None:
        self._ready.close.append((connection, error))

    # --- Messages --------------------------------------------------------------------------

    def received(self, connection: Connection, messages: list[Message], clock: float) -> None:
        """Messages of one connection in order. Those of a fenced connection are dropped."""
        self._clock = clock
        groups: dict[bytes, list[Message]] = {}
        for message in messages:
            if connection not in self.peer_of:
                return
            if type(message) in CHANNEL_MESSAGES:
                groups.setdefault(message.channel_id, []).append(message)  # type: ignore[attr-defined]
            else:
                self._receive_groups(connection, groups)
                groups = {}
                self._receive_other(connection, message)
        self._receive_groups(connection, groups)

    def _receive_groups(self, connection: Connection, groups: dict[bytes, list[Message]]) -> None:
        for channel_id, messages in groups.items():
            peer_id = self.peer_of.get(connection)
            if peer_id is None:
                return
            channel = self.roster.find(peer_id, channel_id)
            if channel is not None:
                self._run(channel, lambda fx, c=channel, m=messages: step.receive(c, m, self.now(c), fx))
            elif not self._of_found_channel(connection, peer_id, messages):
                self._send_unknown(connection, channel_id)

    def _send_unknown(self, connection: Connection, channel_id: bytes) -> None:
        self._send(connection, Error(int(ErrorCode.UNKNOWN_CHANNEL), channel_id, "no such channel between us"))

    def _receive_other(self, connection: Connection, message: Message) -> None:
        try:
            match message:
                case Open():
                    self._receive_open(connection, message)
                case Accept():
                    self._receive_accept(connection, message)
                case Error():
                    self._receive_error(connection, message)
                case _:
                    raise RemoteError(ErrorCode.UNEXPECTED, f"{type(message).__name__} is not for a node")
        except RemoteError as error:
            self._end(connection, error)
            self.disconnected(connection, self._clock)

    def _receive_error(self, connection: Connection, message: Error) -> None:
        """Never answered with an ERROR (spec E-5); its text goes to people only (spec E-7)."""
        peer_id = self.peer_of[connection]
        if (offer := self.offers.take(message.channel, peer_id)) is not None:
            text = f"the peer refused the channel: {code_name(message.code)}: {message.text}"
            self._open_failed(offer, LocalError(Reason.PEER_REFUSED, text))
            return
        channel = self.roster.find(peer_id, message.channel or b"")
        if channel is None or channel.phase in DEAD:
            return  # spec E-3
        text = f"{code_name(message.code)}: {message.text}"
        if effect_of(message.code) is not Effect.RETRY:
            step.suspend(channel, f"the peer refused: {text}")
        self._note(channel, f"the peer reports {text}")

    # --- Opening ---------------------------------------------------------------------------

    def open_channel(
        self, peer_id: bytes, asset_id: bytes, deposit: int, flags: int, window_s: int, max_batch: int, clock: float
    ) -> bytes:
        """Begin to open a channel; the answer comes as OpenAccepted or OpenFailed with the nonce returned."""
        self._clock = clock
        if peer_id == self.node_id:
            raise LocalError(Reason.UNKNOWN_PEER, "this is this node's own id; a channel needs another node")
        if asset_id not in self.ledger.assets:
            raise LocalError(Reason.UNKNOWN_ASSET, "the ledger has no such asset")
        index = self._take_key_index()
        key, nonce = self.keyring.channel(index), self._entropy(32)
        limits = self.policy.receive_limits(asset_id)
        message = opening.build_offer(
            nonce, self._entropy(32), key, self.account, asset_id, deposit, flags, window_s, max_batch, limits
        )
        offer = Offer(nonce, peer_id, message, index, key, clock + ANSWER_TIMEOUT_S)
        self.offers.add(offer)
        self._lonely[peer_id] = None
        if peer_id in self.connections:
            connection = self.connections[peer_id][0]
            for opened in self.offers.to_send(peer_id, connection):
                self._send(connection, opened)
        return nonce

    def _take_key_index(self) -> int:
        index = self.next_key_index
        self.next_key_index += 1
        self._ready.persist.next_key_index = self.next_key_index
        return index

    def _open_failed(self, offer: Offer, error: LocalError) -> None:
        self._ready.notes.append(OpenFailed(offer.open_nonce, error))

    def _receive_open(self, connection: Connection, offer: Open) -> None:
        peer_id = self.peer_of[connection]
        code = opening.refusal(
            self.policy, offer, self.ledger, self.stopping, self.roster.count_with(peer_id), len(self.roster.live)
        )
        if code is not None:
            self._send(connection, Error(int(code), offer.open_nonce, REFUSALS.get(code, "")))
            return
        index = self._take_key_index()
        key, limits = self.keyring.channel(index), self.policy.receive_limits(offer.asset_id)
        channel, answer = opening.accept(
            self.ledger.ledger_id, offer, peer_id, key, index, self.account, self._entropy(32), limits
        )
        self._add_new(channel, connection)
        self._send(connection, answer)

    def _receive_accept(self, connection: Connection, answer: Accept) -> None:
        offer = self.offers.take(answer.open_nonce, self.peer_of[connection])
        if offer is None:
            return  # the opening has timed out since
        try:
            channel, request = opening.accepted(self.ledger.ledger_id, offer, answer)
        except RemoteError as error:
            self._open_failed(offer, LocalError(Reason.PEER_REFUSED, str(error)))
            if error.code.effect is Effect.CLOSE:
                raise
            self._send(connection, Error(int(error.code), offer.open_nonce, error.text))
            return
        self._add_new(channel, connection)
        self._ready.notes.append(OpenAccepted(offer.open_nonce, channel.channel_id))
        self._ready.persist.requests.append(self._ask(request, channel.channel_id, kept=True))

    def _add_new(self, channel: Channel, connection: Connection) -> None:
        channel.connected = connection in self.peer_of
        channel.started_at = self._clock
        self.roster.add(channel)
        self._lonely[channel.setup.peer_id] = None
        self._set_timer(channel)
        saved = Saved(pack_setup(channel.setup), pack_cold(channel), pack_hot(channel))
        self._ready.persist.channels.append((channel.channel_id, saved))

    # --- Our own wishes --------------------------------------------------------------------

    def pay(self, channel_id: bytes, items: list[Queued], clock: float) -> None:
        """Queue payments; they leave with the next `ready`. Raises LocalError."""
        self._clock = clock
        if self.stopping:
            raise LocalError(Reason.STOPPING, "the node is stopping")
        channel = self.channel(channel_id)
        step.pay(channel, items, self.now(channel))
        self._dirty[channel_id] = channel

    def channel(self, channel_id: bytes) -> Channel:
        """A channel by its id; raises LocalError."""
        try:
            return self.channels[channel_id]
        except KeyError:
            raise LocalError(Reason.UNKNOWN_CHANNEL, f"no channel {channel_id.hex()}") from None

    def close(self, channel_id: bytes, force: bool, clock: float) -> None:
        """Begin to close. Raises LocalError."""
        self._wish(channel_id, clock, lambda c, fx: closing.ask(c, force, self.now(c), fx))

    def withdraw(self, channel_id: bytes, units: int, clock: float) -> None:
        """Ask the peer's consent to a withdrawal. Raises LocalError."""
        self._wish(channel_id, clock, lambda c, fx: withdrawals.ask(c, units, self.now(c), fx))

    def claim(self, channel_id: bytes, clock: float) -> None:
        """Take what a one_way channel has paid; the answer comes as OperationAnswered. Raises LocalError."""
        self._need_ledger()
        self._wish(channel_id, clock, lambda c, fx: withdrawals.claim(c, self.now(c), fx))

    def topup(self, channel_id: bytes, units: int, clock: float) -> bytes:
        """Add to my deposit; RequestAnswered comes with the request id returned. Raises LocalError."""
        self._clock = clock
        channel = self.channel(channel_id)
        if channel.phase not in (Phase.FUNDED, Phase.OPEN):
            raise LocalError(Reason.NOT_OPEN, f"the channel is {channel.phase.name.lower()}, not open")
        self._need_ledger()
        request = self._ask(ask.Topup(channel_id, channel.side, units), channel_id, kept=True)
        self._ready.persist.requests.append(request)
        return request.request_id

    def _need_ledger(self) -> None:
        if not self.ledger.connected or not self.ledger.time:
            raise LocalError(Reason.LEDGER_UNREACHABLE, "there is no connection to the ledger")

    def _wish(self, channel_id: bytes, clock: float, do: Callable[[Channel, Effects], None]) -> None:
        self._clock = clock
        channel = self.channel(channel_id)
        fx = Effects()
        do(channel, fx)
        step.advance(channel, self.now(channel), fx)
        self._apply(channel, fx)

    def read_channel(self, channel_id: bytes) -> None:
        """Ask the ledger for a reading of one channel that shows it as it is now."""
        if self.ledger.connected and self.ledger.wants_reading(channel_id):
            self._ask(ask.Channel(channel_id), channel_id)

    def read_ledger(self, clock: float) -> None:
        """Ask for the ledger's assets and rules, and so for a reading of all channels, before the next poll is due."""
        self._clock = clock
        if self.ledger.subscribed:
            self._ask(ask.Info(), None)
            self.ledger.polled_at = clock

    def read_account(self, clock: float) -> bytes | None:
        """Ask for this node's balance; AccountView comes with the request id returned. None: no ledger."""
        self._clock = clock
        return self._ask(ask.Account(self.account), None).request_id if self.ledger.connected else None

    # --- The ledger ------------------------------------------------------------------------

    def ledger_connected(self, clock: float) -> None:
        """An authenticated connection to the pinned ledger: subscribe, and ask again what was cut off."""
        self._clock = clock
        self.ledger.connected = True
        self.ledger.polled_at = clock
        self._ready.submit += self.ledger.ask_again(clock)
        self._ask(ask.Subscribe(self.ledger.number), None)

    def ledger_disconnected(self, clock: float) -> None:
        """The connection to the ledger is gone."""
        self._clock = clock
        for channel_id in self.ledger.lost():
            channel = self.roster.loaded.get(channel_id)
            if channel is not None:
                channel.in_flight.clear()

    def ledger_answer(self, request_id: bytes, outcome: int, text: str, body: Record | None, clock: float) -> None:
        """A verified RESPONSE: `body` is the view it carries when it is done, `text` says why it is not.

        Raises RemoteError for a view that cannot be; the request then counts as not answered.
        """
        self._clock = clock
        asked = self.ledger.asked.get(request_id)
        if asked is None:
            return
        reading = reading_of(body) if isinstance(body, ChannelView) else None
        del self.ledger.asked[request_id]
        if asked.kept:
            self._ready.persist.requests_done.append(request_id)
            self._ready.notes.append(RequestAnswered(request_id, outcome, text if outcome else ""))
        newest = isinstance(asked.operation, ask.Channel) and self.ledger.reading_came(asked.operation.channel_id)
        if isinstance(body, LedgerInfo):
            self._learn(body, asked)
        elif isinstance(body, ChannelView) and reading is not None:
            self._reading(body, reading, newest)
        channel = self.channels.get(asked.channel_id) if asked.channel_id else None
        if channel is not None:
            self._answered(channel, asked.operation, outcome, text, newest)
        elif isinstance(asked.operation, ask.Subscribe) and outcome:
            self._ready.notes.append(OperatorNote(b"", f"the ledger refused the subscription: {text}"))

    def ledger_event(self, number: int, at: int, body: Record | None, clock: float) -> None:
        """A journal entry that concerns this node's account. Raises RemoteError for a view that cannot be."""
        self._clock = clock
        if number <= self.ledger.number and self.ledger.subscribed:
            return
        if isinstance(body, ChannelView):
            # It may have been under way before a payment came: no reason to refuse that one (spec C-18).
            self._reading(body, reading_of(body), asked=False)
        if number > self.ledger.number:
            self.ledger.number = number
            self._ready.persist.ledger_number = number

    def _learn(self, info: LedgerInfo, asked: Asked) -> None:
        self.ledger.learn(info, asked.at)
        if isinstance(asked.operation, ask.Subscribe):
            # What happened before the subscription comes as events; the next info proves that all have come.
            self.ledger.subscribed = True
            self.ledger.polled_at = self._clock
            self._ask(ask.Info(), None)
            unsent, self.ledger.unsent = self.ledger.unsent, []
            for submission in unsent:
                self._submit(submission)
            for channel in self.roster.loaded_live():
                self._dirty[channel.channel_id] = channel
                if channel.phase == Phase.ACCEPTED or channel.reading is None or channel.awaiting_reading:
                    self.read_channel(channel.channel_id)
            return
        if not self.ledger.was_read:
            for connection, message in self._finder.take_all_early():
                if connection in self.peer_of:
                    self._send_unknown(connection, message.channel_id)
        self.ledger.fresh_at = max(self.ledger.fresh_at, asked.at)
        if self.ledger.outlive_forgotten():
            self._ready.persist.restored_until = self.ledger.restored_until
        self._dirty |= self._stalled
        self._stalled = {}
        for channel in list(self._holding.values()):
            self._run(channel, lambda fx, c=channel: withdrawals.follow_ledger(c, self.ledger.time, fx))

    def _reading(self, view: ChannelView, reading: Reading, asked: bool) -> None:
        self._open_refused.pop(view.channel_id, None)  # it is there all the same
        if self.roster.is_dead(view.channel_id):
            return
        channel = self.channels.get(view.channel_id) or self._find(view)
        if channel is None:
            return
        self._run(channel, lambda fx: step.ledger_reading(channel, reading, view.time, self.now(channel), fx, asked))

    def _answered(self, channel: Channel, operation: Operation, outcome: int, text: str, newest: bool) -> None:
        """What an answer means to its channel; what the ledger changed came as a reading before."""
        if isinstance(operation, ask.Channel):
            if outcome == Outcome.UNKNOWN_CHANNEL:
                self._not_on_ledger(channel)
            if not newest:
                self.read_channel(channel.channel_id)
            return
        refused = outcome not in _ALREADY_DONE
        if refused:
            self._note(channel, f"the ledger refused {operation.OP}: {text}")
            if isinstance(operation, ask.OpenChannel):
                self._open_refused[channel.channel_id] = text
        if outcome == Outcome.DONE and isinstance(operation, ask.Topup) and channel.connected:
            self._send(self.connections[channel.setup.peer_id][0], TopupHint(channel.channel_id))
        if outcome != Outcome.DONE:
            self.read_channel(channel.channel_id)  # why it was refused, or what had been done before
        self._run(channel, lambda fx: step.answered(channel, operation.OP, refused, self.now(channel), fx))
        self._ready.notes.append(OperationAnswered(channel.channel_id, operation.OP, outcome, text))

    def _not_on_ledger(self, channel: Channel) -> None:
        """An opening that cannot come any more is given up: mine once refused, the peer's after a request's life."""
        if channel.phase != Phase.ACCEPTED or self.ledger.awaits_opening(channel.channel_id):
            return
        patience_s = 0 if channel.side == 0 else MAX_REQUEST_LIFE_S
        if self._clock >= channel.started_at + patience_s:
            self._run(channel, lambda fx: step.abandon(channel, fx))
            text = self._open_refused.pop(channel.channel_id, "the ledger does not know the channel")
            error = LocalError(Reason.LEDGER_REFUSED, f"the ledger refused to open the channel: {text}")
            self._ready.notes.append(OpenFailed(channel.setup.terms.open_nonce, error))

    def _submit(self, submission: Submission) -> None:
        if not self.ledger.time or not self.ledger.connected:
            self.ledger.unsent.append(submission)
            return
        self._ask(submission.operation, submission.channel_id, by_channel_key=submission.by_channel_key)

    def _ask(
        self, operation: Operation, channel_id: bytes | None, *, by_channel_key: bool = False, kept: bool = False
    ) -> Request:
        key = self.channels[channel_id].key if by_channel_key and channel_id else self.keyring.account
        request = self.ledger.ask(self._entropy(16), key, operation, channel_id, self._clock, kept)
        if self.ledger.connected:
            self._ready.submit.append(request)
        return request

    # --- Channels that the store does not know (spec N-26) -----------------------------------

    def _find(self, view: ChannelView) -> Channel | None:
        """A channel of this account that is not in the store: its keys tell whether it is this node's."""
        limits = self.policy.receive_limits(view.asset_id)
        channel = self._finder.channel(view, self.ledger.ledger_id, self.next_key_index, limits)
        if channel is None:
            if view.status != ask.SETTLED:
                text = "the ledger shows this channel of my account, and none of this node's next keys is in it"
                self._ready.notes.append(OperatorNote(view.channel_id, text))
            return None
        while channel.setup.key_index >= self.next_key_index:  # a key is not used twice
            self._take_key_index()
        if view.status == ask.SETTLED:
            return None
        if not self.ledger.restored_until:  # the store is older than this channel, and may have forgotten more
            self.mark_restored()
        self._add_new(channel, _NO_CONNECTION)
        self._lonely |= dict.fromkeys(self.addresses)
        self._note(
            channel,
            "found on the ledger, and not in this node's store, which is new or old: it waits for its peer, to be "
            "closed; if the peer does not know where this node is: channelpay peer connect cp1...@host:port",
        )
        if (early := self._finder.take_early(view.channel_id)) is not None and early[0] in self.peer_of:
            self._of_found_channel(early[0], self.peer_of[early[0]], [early[1]])
        return channel

    def _of_found_channel(self, connection: Connection, peer_id: bytes, messages: list[Message]) -> bool:
        """Whether messages are the first about a channel that was found, or may yet be."""
        message = messages[0]
        if not isinstance(message, Reestablish):
            return False
        channel = self.roster.find(UNKNOWN_PEER, message.channel_id)
        if channel is None:
            unknown = self.roster.phase(message.channel_id) is None
            return unknown and not self.ledger.was_read and self._finder.keep(connection, message)
        if not name_peer(channel, peer_id, message):
            return False
        self.roster.named_peer(channel)
        self._ready.persist.setups.append((channel.channel_id, pack_setup(channel.setup)))
        self._run(channel, lambda fx: step.connected(channel, self.now(channel), fx))
        self._run(channel, lambda fx: step.receive(channel, messages, self.now(channel), fx))
        return True

    # --- Effects ---------------------------------------------------------------------------

    def _run(self, channel: Channel, do: Callable[..., Any]) -> None:
        """One step on a channel; the peer's faults are answered as their code says (spec E-2)."""
        fx = Effects()
        try:
            do(fx)
        except RemoteError as error:
            self._apply(channel, fx)
            self._fault(channel, error)
        else:
            self._apply(channel, fx)

    def _fault(self, channel: Channel, error: RemoteError) -> None:
        entry = self.connections.get(channel.setup.peer_id)
        self._note(channel, f"the peer broke a rule: {error}")
        if entry is None:
            return
        if error.code.effect is Effect.CLOSE:
            self._end(entry[0], error)
            self.disconnected(entry[0], self._clock)
        else:
            self._send(entry[0], Error(int(error.code), channel.channel_id, error.text[:200]))

    def _apply(self, channel: Channel, fx: Effects) -> None:
        ready = self._ready
        ready.persist.journal += fx.journal
        if fx.save:
            self._cold[channel.channel_id] = channel
        if fx.save_hot:
            self._hot[channel.channel_id] = channel
        elif fx.receipt:
            if not self._receipts:
                self._receipts_due = self._clock + RECEIPT_DELAY_S
            self._receipts[channel.channel_id] = channel
        if fx.again:
            self._more[channel.channel_id] = channel
        entry = self.connections.get(channel.setup.peer_id)
        if entry is not None:
            ready.send += [(entry[0], message) for message in fx.messages]
            ready.recalls += [(entry[0], recall) for recall in fx.recalls]
            if fx.drop:
                self._end(entry[0], RemoteError(ErrorCode.TIMED_OUT, fx.drop))
                self.disconnected(entry[0], self._clock)
        for submission in fx.submissions:
            self._submit(submission)
        if fx.read_ledger:
            self.read_channel(channel.channel_id)
        ready.notes += fx.notes
        self._set_timer(channel)
        if fx.save:
            self.roster.moved(channel)
        if channel.withdrawals:
            self._holding[channel.channel_id] = channel
        else:
            self._holding.pop(channel.channel_id, None)
        if not channel.connected:
            self._drop_if_idle(channel)

    def _drop_if_idle(self, channel: Channel) -> None:
        """Without a connection a channel in which nothing is under way needs no memory (spec N-31)."""
        c = channel
        if c.queue or c.in_flight or any(sent.items for sent in c.unacked):
            return  # somebody waits
        if c.phase not in DEAD and not (c.phase is Phase.OPEN and c.reading is not None and c.resolved):
            return
        if c.phase is Phase.OPEN and (c.withdrawals or c.final or c.close_asked or c.evidence or c.submit_after):
            return
        if closing.may_be_old(c) and c.reestablished and self._clock < c.started_at + CLAIM_WAIT_S:
            return  # a claim may go that would have to wait in a channel that was just loaded (spec X-11)
        if any(channel_id == c.channel_id for channel_id, _ in self._ready.persist.channels):
            return  # it is not in the store yet
        self.roster.drop(channel)

    def _set_timer(self, channel: Channel) -> None:
        due = step.next_deadline(channel)
        if channel.phase == Phase.ACCEPTED and (given_up := channel.started_at + MAX_REQUEST_LIFE_S) > self._clock:
            due = given_up if due is None else min(due, given_up)
        self._timers.arm(channel.channel_id, due)

    def _send(self, connection: Connection, message: Message) -> None:
        self._ready.send.append((connection, message))

    def _note(self, channel: Channel, text: str) -> None:
        self._ready.notes.append(OperatorNote(channel.channel_id, text))

    def ready(self) -> Ready:
        """Everything that the inputs so far want done, once."""
        self._dirty |= self._more
        self._more = {}
        while self._dirty:
            dirty, self._dirty = self._dirty, {}
            for channel in dirty.values():
                if channel.held_back:
                    self._run(channel, lambda fx, c=channel: step.receive(c, [], self.now(c), fx))
                else:
                    self._run(channel, lambda fx, c=channel: step.advance(c, self.now(c), fx))
        ready, self._ready = self._ready, Ready()
        ready.again = bool(self._more)
        if self._receipts and (ready.leaves or self._hot or self._cold or self._receipts_wait_no_longer()):
            self._hot |= self._receipts
            self._receipts = {}
        ready.persist.hot = [(key, pack_hot(c)) for key, c in self._hot.items()]
        ready.persist.cold = [(key, pack_cold(c)) for key, c in self._cold.items()]
        self._hot, self._cold = {}, {}
        return ready

    def _receipts_wait_no_longer(self) -> bool:
        return self.stopping or self._clock >= self._receipts_due
