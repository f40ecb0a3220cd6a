"""The ledger's side of a node: connections to it, its answers and events, channels that are found there."""

from __future__ import annotations

from channelpay.channel import channel as step
from channelpay.channel import withdrawals
from channelpay.channel.effects import OperatorNote
from channelpay.channel.saved import pack_setup
from channelpay.channel.state import Channel, Phase, Reading
from channelpay.errors import LocalError, Reason
from channelpay.ledger.outcomes import Outcome
from channelpay.limits import MAX_REQUEST_LIFE_S
from channelpay.messages import ledger as ask
from channelpay.messages.ledger import ChannelView, LedgerInfo, Operation
from channelpay.messages.peer import Message, Reestablish, TopupHint
from channelpay.messages.schema import Record
from channelpay.node.core import NO_CONNECTION, Core
from channelpay.node.ledger_link import Asked, reading_of
from channelpay.node.ready import Connection, OpenFailed, OperationAnswered, RequestAnswered
from channelpay.node.recovery import UNKNOWN_PEER, name_peer

_ALREADY_DONE = (Outcome.DONE, Outcome.ALREADY_OPEN, Outcome.ALREADY_SETTLED)


class LedgerSide(Core):
    """A node as far as the ledger speaks to it; see `node.node`."""

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
            if not channel.connected:  # an answer that means nothing to it has loaded it all the same
                self._drop_if_idle(channel)
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

    # --- Channels that the store does not know (spec N-26) -------------------------------------

    def prepare(self, body: Record | None) -> bool:
        """Do a part of the work for a view that `ledger_answer` or `ledger_event` will bring; whether there is more.

        Whoever calls it until there is none keeps those two from taking long.
        """
        if not isinstance(body, ChannelView) or self.roster.phase(body.channel_id) is not None:
            return False
        return self._finder.step(body, self.next_key_index)

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
        self._add_new(channel, NO_CONNECTION)
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
