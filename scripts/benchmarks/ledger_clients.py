"""A process with many clients of a ledger, all of whose requests were signed before the clock runs.

Each client has an account, a connection and a row of requests, and keeps some of them under way: the next one is
sent when one is answered. What a client costs is then little beside what the ledger does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import trio

from benchmarks.work import percentile
from benchmarks.worker import serve
from channelpay.crypto import SigningKey, sha256
from channelpay.daemon.dialling import dial
from channelpay.daemon.ledger_client import check_response
from channelpay.daemon.link import Link
from channelpay.daemon.outside import random_bytes
from channelpay.keys import LEDGER_PREFIX, Address, parse_address
from channelpay.messages import ledger as ops
from channelpay.messages.peer import Request, Response, Role
from channelpay.statements import (
    FLAG_TWO_WAY,
    ZERO_HALF,
    ChannelTerms,
    Half,
    accepted_bytes,
    final_bytes,
    request_bytes,
    state_bytes,
)

DEPOSIT: Final = 1000
WINDOW_S: Final = 10
_PAID: Final = Half(3, 30, sha256(b"shown first")), Half(5, 50, sha256(b"shown later"))
_BATCH: Final = 4096

SIGNATURES: Final = {"transfer": 1, "open": 3, "close_final": 3, "close": 3, "respond": 3}
"""What a ledger verifies for each: the request's signature, and two on each statement in it."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A request that waits for its turn."""

    operation: str
    request: Request
    frame: bytes


@dataclass
class Client:
    """One account and its connection."""

    key: SigningKey
    rows: dict[str, list[Signed]] = field(default_factory=dict)
    link: Link | None = None


class Clients:
    """All clients of this process. Channels are theirs on both sides: a client holds the keys of both parties."""

    commits = 0
    """Of a store; clients have none (see worker.usage)."""

    def __init__(self, address: Address, count: int) -> None:
        self.address = address
        self.clients = [Client(SigningKey(random_bytes(32))) for _ in range(count)]
        self._valid_until = 0
        self._asset_id = b""

    async def connect(self, stack: AsyncExitStack) -> None:
        for client in self.clients:
            client.link = await stack.enter_async_context(
                dial(self.address.host, self.address.port, client.key, self.address.key, Role.LEDGER_CLIENT)
            )

    def asset(self, asset_id: bytes, valid_until: int) -> None:
        self._asset_id, self._valid_until = asset_id, valid_until

    def sign(self, signer: SigningKey, operation: ops.Operation) -> Signed:
        """A request of `signer`'s as it will be sent."""
        request_id = random_bytes(16)
        blob = ops.LedgerRequest(signer.public, self._valid_until, operation).encode()
        signature = signer.sign(request_bytes(self.address.key, request_id, blob))
        request = Request(request_id, blob, signature)
        return Signed(operation.OP, request, request.to_frame())

    # --- What can be asked -------------------------------------------------------------------

    def transfer(self, client: Client) -> Signed:
        """One unit to the next client."""
        peer = self.clients[(self.clients.index(client) + 1) % len(self.clients)]
        return self.sign(client.key, ops.Transfer(self._asset_id, peer.key.public, 1))

    def channel(self, client: Client) -> Channel:
        """A new channel with the next client."""
        peer = self.clients[(self.clients.index(client) + 1) % len(self.clients)]
        keys = SigningKey(random_bytes(32)), SigningKey(random_bytes(32))
        terms = ChannelTerms(
            self.address.key, self._asset_id, keys[0].public, keys[1].public, client.key.public, peer.key.public,
            random_bytes(32), FLAG_TWO_WAY, WINDOW_S, _BATCH,
        )  # fmt: skip
        return Channel(self, client, keys, terms, self._valid_until)

    def cooperative(self, client: Client) -> Iterator[Signed]:
        """A channel that its parties close together."""
        channel = self.channel(client)
        yield from (channel.open(), self.transfer(client), channel.close_final())

    def disputed(self, client: Client) -> Iterator[Signed]:
        """A channel that one party closes, and the other one answers; the ledger's timer settles it."""
        channel = self.channel(client)
        yield from (channel.open(), self.transfer(client), channel.close(), channel.respond())


@dataclass(frozen=True)
class Channel:
    """What the parties of one channel ask."""

    clients: Clients
    owner: Client
    keys: tuple[SigningKey, SigningKey]
    terms: ChannelTerms
    expiry: int

    @property
    def id(self) -> bytes:
        return self.terms.channel_id()

    def _both(self, message: bytes) -> tuple[bytes, bytes]:
        return self.keys[0].sign(message), self.keys[1].sign(message)

    def _state(self, half: Half) -> ops.CoSigned:
        return ops.CoSigned(half.pack(), ZERO_HALF.pack(), *self._both(state_bytes(self.id, half, ZERO_HALF)))

    def open(self) -> Signed:
        _, *terms = self.terms
        accepted = self._both(accepted_bytes(self.id))
        return self.clients.sign(self.owner.key, ops.OpenChannel(*terms, DEPOSIT, *accepted))

    def close_final(self) -> Signed:
        signatures = self._both(final_bytes(self.id, _PAID[1], ZERO_HALF, self.expiry))
        halves = _PAID[1].pack(), ZERO_HALF.pack()
        return self.clients.sign(self.owner.key, ops.CloseFinal(self.id, *halves, self.expiry, *signatures))

    def close(self) -> Signed:
        return self.clients.sign(self.keys[0], ops.Close(self.id, (self._state(_PAID[0]),)))

    def respond(self) -> Signed:
        return self.clients.sign(self.keys[1], ops.Respond(self.id, (self._state(_PAID[1]),)))


# --- What the process is told to do --------------------------------------------------------------


async def accounts(clients: Clients) -> list[str]:
    """The accounts that need money."""
    return [client.key.public.hex() for client in clients.clients]


async def prepare(clients: Clients, asset_id: str, valid_until: int, rounds: int, lives: int, each: int) -> int:
    """Sign all requests; how many there are.

    `rounds` times a row "mix" of `lives` pairs of channels, one closed together, one disputed; and a row of `each`
    requests of every kind alone.
    """
    clients.asset(bytes.fromhex(asset_id), valid_until)
    for client in clients.clients:
        for number in range(rounds):
            lived = [
                one for _ in range(lives) for life in (clients.cooperative, clients.disputed) for one in life(client)
            ]
            client.rows[f"mix{number}"] = lived
        channels = [clients.channel(client) for _ in range(2 * each)]
        client.rows["transfer"] = [clients.transfer(client) for _ in range(each)]
        client.rows["open"] = [channel.open() for channel in channels]
        client.rows["close_final"] = [channel.close_final() for channel in channels[:each]]
        client.rows["close"] = [channel.close() for channel in channels[each:]]
        client.rows["respond"] = [channel.respond() for channel in channels[each:]]
    return sum(len(row) for client in clients.clients for row in client.rows.values())


async def play(clients: Clients, row: str, at_once: int) -> dict[str, Any]:
    """Have every client send its requests of a row, `at_once` of them under way: what that gave.

    All answers are checked afterwards, signatures and all; `done` counts those that say so.
    """
    latencies: list[float] = []
    answers: list[tuple[Signed, Response]] = []
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for client in clients.clients:
            nursery.start_soon(_send, client, row, at_once, latencies, answers)
    seconds = time.perf_counter() - began
    facts = {"operations": len(answers), "seconds": seconds, "signatures": 0, "done": 0}
    for signed, response in answers:
        check_response(clients.address.key, response, sha256(signed.request.blob))
        facts["done"] += response.outcome == 0
        facts["signatures"] += SIGNATURES[signed.operation]
    latencies.sort()
    return {**facts, "p50_ms": percentile(latencies, 50) * 1000, "p99_ms": percentile(latencies, 99) * 1000}


async def _send(
    client: Client, row: str, at_once: int, latencies: list[float], answers: list[tuple[Signed, Response]]
) -> None:
    assert client.link is not None
    link, left, clock = client.link, iter(client.rows.pop(row)), time.perf_counter
    under_way: dict[bytes, tuple[Signed, float]] = {}

    def send(count: int) -> None:
        for signed in islice(left, count):
            under_way[signed.request.request_id] = signed, clock()
            link.send(signed.frame)

    send(at_once)
    while under_way:
        messages = await link.receive()
        now = clock()
        for message in messages:
            assert isinstance(message, Response)
            signed, sent = under_way.pop(message.request_id)
            latencies.append(now - sent)
            answers.append((signed, message))
        send(len(messages))


async def main(address: Address, count: int) -> None:
    """Run until stdin ends."""
    clients = Clients(address, count)
    async with AsyncExitStack() as stack:
        await clients.connect(stack)
        await serve(clients, [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="the ledger's: cpl1...@host:port")
    parser.add_argument("clients", type=int, help="how many")
    options = parser.parse_args()
    trio.run(main, parse_address(LEDGER_PREFIX, options.address), options.clients)
