"""Somebody who claims to be a node or the ledger and has not its key, or speaks for the ledger on its connection.

Whoever is spoken to must end the connection: an impostor that gets anything but the end has been believed.
"""

from __future__ import annotations

import random
import struct
from typing import Any, Final

import msgpack
import trio

from channelpay.crypto import SigningKey
from channelpay.messages.peer import Role
from channelpay.session import Phase, Session, Side
from simulation.model import UNEXCUSED
from simulation.network import BINDING, Listener, Stream
from simulation.outsider import enter
from simulation.process import NodeProcess, Process
from simulation.world import LEDGER_PLACE, World, ledger_keys

_PATIENCE_S: Final = 5.0
_END_S: Final = 15.0
"""How long a node may take to end a connection: whoever it speaks to may not read."""

_RESPONSE: Final = 0x81


class _Pretender:
    """Shows another's id and signs with a key of its own."""

    def __init__(self, public: bytes, key: SigningKey) -> None:
        self.public = public
        self.sign = key.sign


class Impostor:
    """`done` counts the attempts that somebody listened to."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.done = 0
        self._rng = rng

    async def run(self) -> None:
        """One attempt of some kind."""
        await self._rng.choice((self._as_node, self._as_node, self._as_ledger, self._for_ledger))()

    # --- Without the key -------------------------------------------------------------------------

    async def _as_node(self) -> None:
        """Connect to a node in the name of another that it knows."""
        victim, other = self._rng.sample(self.world.nodes, 2)
        if victim.alive:
            await self._alone(self._connect, victim, other)

    async def _as_ledger(self) -> None:
        """Answer a node in the place of its ledger."""
        victim = self._rng.choice(self.world.nodes)
        await self._alone(self._answer, victim)

    async def _alone(self, what: object, *arguments: object) -> None:
        """In a task with a context of its own."""
        with trio.move_on_after(_PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(what, *arguments)  # type: ignore[arg-type]

    async def _connect(self, victim: NodeProcess, other: NodeProcess) -> None:
        outsider = enter(self.world, self._rng)
        try:
            stream = await self.world.network.connect(outsider, *victim.place)
        except OSError:
            return
        ids = (ledger_keys().identity.public,)
        session = self._session(Side.CONNECTED, Role.NODE, other.keys.identity.public, ids)
        await self._converse(stream, session, victim)

    async def _answer(self, victim: NodeProcess) -> None:
        outsider = enter(self.world, self._rng)
        listener = Listener(self.world.network, outsider, LEDGER_PLACE)
        self.world.network.stand_ins[victim.name] = listener
        try:
            for stream in self.world.network.between(victim.name, "ledger"):
                self.world.network.cut(stream)
            stream = await listener.accept()
            ledger_id = ledger_keys().identity.public
            await self._converse(stream, self._session(Side.LISTENED, Role.LEDGER, ledger_id, (ledger_id,)), victim)
        finally:
            self.world.network.stand_ins.pop(victim.name, None)

    def _session(self, side: Side, role: Role, public: bytes, ledger_ids: tuple[bytes, ...]) -> Session:
        pretender = _Pretender(public, SigningKey(self._rng.randbytes(32)))
        return Session(
            side, role, pretender, nonce=self._rng.randbytes(32), certificate=BINDING, ledger_ids=ledger_ids,  # type: ignore[arg-type]
        )  # fmt: skip

    async def _converse(self, stream: Stream, session: Session, victim: Process) -> None:
        """Shake hands and ask for a sign of life, until the other ends it."""
        session.start(trio.current_time())
        try:
            await stream.send_all(session.outgoing())
            while data := await stream.receive_some():
                self.done += session.phase is Phase.HELLO
                messages = session.receive(data, trio.current_time())
                if messages:
                    what = f"{type(messages[0]).__name__} was said to somebody without the key"
                    self.world.account.find("phantom", f"{victim.name}: {what}", UNEXCUSED)
                    return
                if out := session.outgoing():
                    await stream.send_all(out)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await stream.aclose()

    # --- On the ledger's own connection ------------------------------------------------------------

    async def _for_ledger(self) -> None:
        """The next answer of the ledger's to a node says something else, or another key has signed it."""
        victim, network = self._rng.choice(self.world.nodes), self.world.network
        forged = _FalseAnswer(self._rng)
        network.replaced["ledger", victim.name] = forged
        with trio.move_on_after(_PATIENCE_S):
            await forged.sent.wait()
        network.replaced.pop(("ledger", victim.name), None)
        if forged.stream is None:
            return
        self.done += 1
        while network.has_unread(forged.stream):
            await trio.sleep(1.0)
        with trio.move_on_after(_END_S):
            while network.is_sound(forged.stream):
                await trio.sleep(0.5)
            return
        self.world.account.find("phantom", f"{victim.name} takes answers that its ledger has not signed", UNEXCUSED)


class _FalseAnswer:
    """Changes one answer of the ledger's on its way."""

    def __init__(self, rng: random.Random) -> None:
        self.stream: Stream | None = None
        self.sent = trio.Event()
        self._rng = rng

    def __call__(self, stream: Stream, data: bytes) -> bytes:
        """What is sent in place of whole frames."""
        if self.stream is not None:
            return data
        changed, at = b"", 0
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            frame, at = data[at:end], end
            if frame[4] == _RESPONSE and self.stream is None:
                self.stream = stream
                frame = self._answer(msgpack.unpackb(frame[5:], use_list=True))
                self.sent.set()
            changed += frame
        return changed

    def _answer(self, fields: list[Any]) -> bytes:
        body, signature = fields[3], fields[4]
        if body and self._rng.random() < 0.5:
            body = body[:-1] + bytes([body[-1] ^ 1])
        else:
            signature = SigningKey(self._rng.randbytes(32)).sign(body)
        payload = msgpack.packb([*fields[:3], body, signature])
        return struct.pack(">IB", len(payload) + 1, _RESPONSE) + payload
