"""Connections that we make to others. Spec chapter 4."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio

from channelpay.crypto import SigningKey
from channelpay.daemon.link import AGENT, Link, open_link
from channelpay.daemon.outside import random_bytes
from channelpay.daemon.secure import connect
from channelpay.limits import HANDSHAKE_TIMEOUT_S
from channelpay.messages.peer import Role
from channelpay.session import Session, Side


@asynccontextmanager
async def dial(
    host: str,
    port: int,
    identity: SigningKey,
    expected: bytes | None,
    role: Role,
    ledger_ids: Iterable[bytes] = (),
    *,
    takes: Iterable[Role] | None = None,
    agent: str = AGENT,
    timeout_s: float = HANDSHAKE_TIMEOUT_S,
) -> AsyncIterator[Link]:
    """Connect, and give the link to the peer whose id is `expected` (None: whoever answers).

    `takes`: the roles the peer may have. One time-out covers TCP, TLS and AUTH. Raises LinkClosed when nobody can
    be reached or the peer goes away, RemoteError when it breaks a rule or is not the one expected.
    """
    began = trio.current_time()
    secure = await connect(host, port, began + timeout_s)
    session = Session(
        Side.CONNECTED,
        role,
        identity,
        nonce=random_bytes(32),  # spec T-10
        certificate=secure.binding,
        expected=expected,
        ledger_ids=ledger_ids,
        agent=agent,
        takes=takes,
        handshake_timeout_s=timeout_s,
    )
    async with open_link(secure.stream, session, began) as link:
        yield link
