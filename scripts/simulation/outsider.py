"""Somebody without a daemon who speaks to the ledger: a cheater, a forger, whoever repeats what others have sent."""

from __future__ import annotations

import random
from functools import partial
from typing import Any, Final

import trio

from channelpay.crypto import SigningKey
from channelpay.daemon.ledger_client import connect_ledger
from channelpay.daemon.outside import OUTSIDE, Outside
from channelpay.daemon.secure import LinkClosed
from channelpay.errors import ChannelpayError
from channelpay.keys import LEDGER_PREFIX, Address
from channelpay.ledger.outcomes import LedgerRefused
from channelpay.messages.ledger import LedgerRequest, Operation
from channelpay.messages.peer import Request
from channelpay.statements import request_bytes
from simulation.process import LIFE, START, NodeProcess, connect
from simulation.world import LEDGER_PLACE, World, ledger_keys

TRIES: Final = 10
"""How often somebody asks a ledger that is down."""

_KEYS_TRIED: Final = 40


class Outsider:
    """Somebody without a daemon, as the network sees it."""

    def __init__(self) -> None:
        self.name = "outsider"
        self.dead = False
        self.armed = None

    def passed(self, event: str) -> None:
        """It crashes nowhere."""


def enter(world: World, rng: random.Random) -> Outsider:
    """The present task acts for an outsider from now on."""
    outsider = Outsider()
    LIFE.set(outsider)  # type: ignore[arg-type]
    time = lambda: START + trio.current_time()  # noqa: E731
    OUTSIDE.set(Outside(rng.randbytes, time, connect=partial(connect, world.network)))
    return outsider


def key_of(process: NodeProcess, public: bytes) -> SigningKey | None:
    """A node's private key of a channel."""
    keys = (process.keys.channel(index) for index in range(_KEYS_TRIED))
    return next((key for key in keys if key.public == public), None)


def signed(rng: random.Random, key: bytes, signer: SigningKey, operation: Operation, valid_until: int) -> Request:
    """A request in the name of `key`, signed by `signer`."""
    request_id, ledger_id = rng.randbytes(16), ledger_keys().identity.public
    blob = LedgerRequest(key, valid_until, operation).encode()
    return Request(request_id, blob, signer.sign(request_bytes(ledger_id, request_id, blob)))


async def submit(
    world: World,
    rng: random.Random,
    key: SigningKey,
    operation: Operation,
    request: Request | None = None,
    tries: int = TRIES,
) -> Any:
    """The ledger's view if it has done it, LedgerRefused if not, None if nobody answered.

    `key` connects, and signs the request if none is given.
    """
    answer: Any = None

    async def ask() -> None:
        nonlocal answer
        enter(world, rng)
        address = Address(LEDGER_PREFIX, ledger_keys().identity.public, *LEDGER_PLACE)
        for _ in range(tries):
            try:
                async with connect_ledger(address, key) as client:
                    answer = await client.request(key, operation, request)
                    return
            except LedgerRefused as refusal:
                answer = refusal
                return
            except (LinkClosed, ChannelpayError):
                await trio.sleep(1.0)

    async with trio.open_nursery() as nursery:  # a task of its own, with a context of its own
        nursery.start_soon(ask)
    return answer
