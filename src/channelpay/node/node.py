"""The node: every input that concerns its channels, in; one `Ready`, out.

Nothing here waits, reads a clock, or touches a socket or a disk. Time comes in as `clock` (seconds
that never go back), entropy as a function.
"""

from __future__ import annotations

from collections.abc import Callable

from channelpay.channel import channel as step
from channelpay.channel import closing, withdrawals
from channelpay.channel.effects import Effects, Queued
from channelpay.channel.state import Channel, Phase
from channelpay.channel.transitions import CHANNEL_MESSAGES
from channelpay.errors import Effect, ErrorCode, LocalError, Reason, RemoteError, code_name, effect_of
from channelpay.limits import ANSWER_TIMEOUT_S
from channelpay.messages import ledger as ask
from channelpay.messages.peer import Accept, Error, Message, Open
from channelpay.node import opening
from channelpay.node.ledger_side import LedgerSide
from channelpay.node.opening import Offer
from channelpay.node.policy import REFUSALS
from channelpay.node.ready import Connection, OpenAccepted
from channelpay.node.recovery import UNKNOWN_PEER
from channelpay.node.roster import DEAD
from channelpay.session import keep_new


class Node(LedgerSide):
    """All channels of one owner; see the module."""

    # --- Time ----------------------------------------------------------------------------------

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

    # --- Connections ---------------------------------------------------------------------------

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

    # --- Messages ------------------------------------------------------------------------------

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

    # --- Opening -------------------------------------------------------------------------------

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

    # --- Our own wishes ------------------------------------------------------------------------

    def pay(self, channel_id: bytes, items: list[Queued], clock: float) -> None:
        """Queue payments; they leave with the next `ready`. Raises LocalError."""
        self._clock = clock
        if self.stopping:
            raise LocalError(Reason.STOPPING, "the node is stopping")
        channel = self.channel(channel_id)
        step.pay(channel, items, self.now(channel))
        self._dirty[channel_id] = channel

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
