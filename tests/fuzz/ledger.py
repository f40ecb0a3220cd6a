"""Requests to a ledger with money in it: any operation that decodes is signed by somebody and executed."""

from __future__ import annotations

import ledger_world as world
from channelpay.crypto import SigningKey
from channelpay.errors import RemoteError
from channelpay.ledger.audit import audit
from channelpay.ledger.outcomes import Outcome
from channelpay.messages.ledger import LedgerRequest
from channelpay.messages.peer import Request
from fuzz.source import Source

SIGNERS: tuple[SigningKey, ...] = (
    world.ALICE, world.BOB, world.CAROL, world.OPERATOR, world.ISSUER, world.KEY0, world.KEY1,
)  # fmt: skip


class Requests:
    """Entries: who signs, how much later it is, how long the request is, the request."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.world = world.World().with_money()
        self.world.open()

    def play(self) -> None:
        """Every request in turn; the books balance in the end."""
        while self.source:
            signer = SIGNERS[self.source.below(len(SIGNERS))]
            self.world.now += self.source.byte()
            self._send(signer, self.source.take(self.source.number()))
        assert audit(self.world.books).balanced

    def _send(self, signer: SigningKey, blob: bytes) -> None:
        self.world.requests += 1
        request_id = self.world.requests.to_bytes(16, "big")
        try:
            operation = LedgerRequest.decode(blob).operation
        except RemoteError:
            request = Request(request_id, blob, bytes(64))
            assert self.world.refused_request(request) is Outcome.BAD_REQUEST
            return
        request = world.sign_request(signer, operation, request_id, self.world.now + 60)
        before = self.world.everything()
        response = self.world.send(request)
        assert response.outcome in Outcome._value2member_map_
        if response.outcome:
            assert self.world.everything() == before
            return
        again = self.world.send(request)
        assert again.body == response.body, "asked twice, done once"
