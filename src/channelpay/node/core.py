"""What a node knows, and how a step on one of its channels is carried out: the part under every input.

`ledger_side` adds what the ledger says, `node` the peers and the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from channelpay.channel import channel as step
from channelpay.channel import closing
from channelpay.channel.closing import Now
from channelpay.channel.effects import Effects, OperatorNote, Submission
from channelpay.channel.saved import Saved, Summary, pack_cold, pack_hot, pack_setup
from channelpay.channel.state import Channel, Phase
from channelpay.errors import Effect, ErrorCode, LocalError, Reason, RemoteError
from channelpay.keys import Keyring
from channelpay.limits import CLAIM_WAIT_S, MAX_REQUEST_LIFE_S, RECEIPT_DELAY_S
from channelpay.messages import ledger as ask
from channelpay.messages.ledger import LedgerRequest, Operation
from channelpay.messages.peer import Error, Message, Request
from channelpay.node import opening
from channelpay.node.ledger_link import RESTORED, Asked, LedgerLink
from channelpay.node.opening import Offer, Offers
from channelpay.node.policy import Policy
from channelpay.node.ready import Connection, OpenFailed, Ready
from channelpay.node.recovery import Finder
from channelpay.node.roster import DEAD, Roster
from channelpay.node.timers import Timers

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


NO_CONNECTION: Connection = -1


class Core:
    """The state of a node, and the `Ready` that its inputs fill."""

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

    # --- Start ---------------------------------------------------------------------------------

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
        for channel in self.roster.loaded_or_held():
            channel.restored = True

    def load_request(self, request: Request) -> None:
        """An operator's request that was not answered before the last stop."""
        operation = LedgerRequest.decode(request.blob).operation
        channel_id: bytes | None = getattr(operation, "channel_id", None)
        if isinstance(operation, ask.OpenChannel):  # it names no channel: it makes one
            channel_id = opening.opened_by(self.ledger.ledger_id, operation)
        self.ledger.asked[request.request_id] = Asked(request, operation, channel_id, self._clock, kept=True)

    # --- What every input needs ----------------------------------------------------------------

    def now(self, channel: Channel) -> Now:
        """The time as this channel must see it."""
        stale = self.ledger.is_stale(channel.setup.terms.window_s, self._clock)
        if stale:
            self._stalled[channel.channel_id] = channel
        return Now(self._clock, self.ledger.time_now(self._clock), stale)

    def _poll_interval(self) -> float:
        return self.ledger.poll_interval(self.roster.least_window_s)

    def channel(self, channel_id: bytes) -> Channel:
        """A channel by its id; raises LocalError."""
        try:
            return self.channels[channel_id]
        except KeyError:
            raise LocalError(Reason.UNKNOWN_CHANNEL, f"no channel {channel_id.hex()}") from None

    def _take_key_index(self) -> int:
        index = self.next_key_index
        self.next_key_index += 1
        self._ready.persist.next_key_index = self.next_key_index
        return index

    def _add_new(self, channel: Channel, connection: Connection) -> None:
        channel.connected = connection in self.peer_of
        channel.started_at = self._clock
        self.roster.add(channel)
        self._lonely[channel.setup.peer_id] = None
        self._set_timer(channel)
        saved = Saved(pack_setup(channel.setup), pack_cold(channel), pack_hot(channel))
        self._ready.persist.channels.append((channel.channel_id, saved))

    def _open_failed(self, offer: Offer, error: LocalError) -> None:
        self._ready.notes.append(OpenFailed(offer.open_nonce, error))

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

    def _end(self, connection: Connection, error: RemoteError) -> None:
        self._ready.close.append((connection, error))

    def _send(self, connection: Connection, message: Message) -> None:
        self._ready.send.append((connection, message))

    def _send_unknown(self, connection: Connection, channel_id: bytes) -> None:
        self._send(connection, Error(int(ErrorCode.UNKNOWN_CHANNEL), channel_id, "no such channel between us"))

    def _note(self, channel: Channel, text: str) -> None:
        self._ready.notes.append(OperatorNote(channel.channel_id, text))

    # --- Asking the ledger ---------------------------------------------------------------------

    def read_channel(self, channel_id: bytes) -> None:
        """Ask the ledger for a reading of one channel that shows it as it is now."""
        if self.ledger.connected and self.ledger.wants_reading(channel_id):
            self._ask(ask.Channel(channel_id), channel_id)

    def _ask(
        self, operation: Operation, channel_id: bytes | None, *, by_channel_key: bool = False, kept: bool = False
    ) -> Request:
        key = self.channels[channel_id].key if by_channel_key and channel_id else self.keyring.account
        request = self.ledger.ask(self._entropy(16), key, operation, channel_id, self._clock, kept)
        if self.ledger.connected:
            self._ready.submit.append(request)
        return request

    def _submit(self, submission: Submission) -> None:
        if not self.ledger.time or not self.ledger.connected:
            self.ledger.unsent.append(submission)
            return
        self._ask(submission.operation, submission.channel_id, by_channel_key=submission.by_channel_key)

    # --- A step and its effects ----------------------------------------------------------------

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
