"""What the fuzzer begins with: inputs of every shape, made from the test vectors and from the records themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ledger_world as world
from channelpay.messages import control, schema
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import LedgerRequest
from fuzz.ledger import SIGNERS
from fuzz.targets import VIEW_KINDS

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"
SIDES = (0, 1)


def frames() -> Iterator[bytes]:
    """A few frames in a row, short pieces and long ones, below and above a bound."""
    whole = [frame for frame in _vector_frames() if len(frame) < 300]
    for first in range(0, len(whole), 16):
        yield bytes([first % 4, first % 256]) + b"".join(whole[first : first + 3])


def values() -> Iterator[bytes]:
    """Payloads under both bounds of an array."""
    for case in _cases("codec.json", "decode"):
        yield b"\x02" + _bytes(case["input"]["bytes"])
    for frame in _vector_frames():
        yield b"\x01" + frame[5:]


def messages() -> Iterator[bytes]:
    """Type byte and payload of every message in the vectors, sound and refused."""
    for frame in _vector_frames():
        yield frame[4:]


def controls() -> Iterator[bytes]:
    """Every message of the local socket, and every method's parameters and result inside one."""
    for message in control.CONTROL_MESSAGES.values():
        yield from (bytes([message.TYPE]) + sample(message, full).encode() for full in (False, True))
    for method in control.METHODS.values():
        for full in (False, True):
            yield _inside(control.Call(1, method.NAME, sample(method, full).encode()))
            yield _inside(control.Result(1, sample(method.RESULT, full).encode()))


def _inside(message: control.Call | control.Result) -> bytes:
    return bytes([message.TYPE]) + message.encode()


def views() -> Iterator[bytes]:
    """Every view of a ledger."""
    for index, kind in enumerate(VIEW_KINDS):
        yield from (bytes([index]) + sample(kind, full).encode() for full in (False, True))


def requests() -> Iterator[bytes]:
    """The life of a channel as requests, each alone and all together; and requests from the vectors."""
    life = [_entry(signer, operation) for signer, operation in _life()]
    yield from life
    yield b"".join(life)
    for case in _cases("ledger.json", "request blob"):
        yield _raw_entry(0, _bytes(case["input"]["blob"]))


def _life() -> Iterator[tuple[int, ops.Operation]]:
    alice, bob, carol, operator, issuer, key0, _ = range(len(SIGNERS))
    terms = world.terms()
    channel = terms.channel_id()
    newest = world.state(channel, world.half(3, 30), world.half(2, 5))
    yield operator, ops.CreateAsset("EUR", 2, world.ISSUER.public)
    yield issuer, ops.Issue(world.USD, world.ALICE.public, 500)
    yield alice, ops.Transfer(world.USD, world.BOB.public, 5)
    yield bob, ops.Redeem(world.USD, 5)
    yield alice, world.opening(world.terms(1))
    yield bob, ops.Topup(channel, 1, 50)
    yield carol, world.withdrawal(channel, 0, 10, world.START + 1000)
    yield key0, ops.Close(channel, (world.state(channel, world.half(1, 10)),))
    yield carol, ops.Respond(channel, (newest,))
    yield carol, ops.Settle(channel)
    yield carol, world.final(channel, world.half(3, 30), world.half(2, 5), world.START + 1000)
    yield bob, ops.Claim(channel, newest)
    yield alice, ops.Account(world.ALICE.public)
    yield alice, ops.Channel(channel)
    yield alice, ops.Channels(0)
    yield alice, ops.Journal(0)
    yield alice, ops.Info()
    yield alice, ops.Subscribe(0)


def _entry(signer: int, operation: ops.Operation) -> bytes:
    return _raw_entry(signer, LedgerRequest(SIGNERS[signer].public, world.START + 60, operation).encode())


def _raw_entry(signer: int, blob: bytes) -> bytes:
    return bytes([signer, 30]) + len(blob).to_bytes(2, "big") + blob


def two_nodes() -> Iterator[bytes]:
    """Short lives of a channel: the actions of `fuzz.two_nodes` by their place in its list."""
    (
        pay,
        deliver,
        run,
        mangle,
        repeat,
        lose,
        connect,
        crash,
        read,
        submit,
        topup,
        withdraw,
        close,
        force,
        claim,
        wait,
    ) = range(16)
    for terms in range(16):
        yield bytes([terms, _step(pay, 0), 3, 7, 8, 9, _step(run, 0), _step(pay, 1), 0, 9, _step(run, 1)])
        for end in (close, force):
            yield bytes([terms, _step(pay, 0), 0, 50, _step(end, terms & 1), _step(run, 0), _step(wait, 0), 5])
    for what in (deliver, mangle, repeat, lose, connect, crash, read, submit, topup, withdraw, claim):
        for side in SIDES:
            step = _step(what, side)
            yield bytes([0, _step(pay, 0), 1, 20, 30, step, 1, 2, 3, _step(pay, 1), 0, 9, step, 0, 1, _step(run, 0)])


def _step(action: int, side: int) -> int:
    return action << 1 | side


SEEDS: dict[str, Callable[[], Iterator[bytes]]] = {
    seed.__name__: seed for seed in (frames, values, messages, controls, views, requests, two_nodes)
}
"""The seeds of every target by its name."""


# --- Material ----------------------------------------------------------------------------------


def sample(kind: type[schema.Record], full: bool) -> schema.Record:
    """A record of this kind: the least that its fields take, or with `full` something in each of them."""
    return kind(*(_sample(field, full) for _, field in kind._fields))


def _sample(field: schema.Field, full: bool) -> Any:
    match field:
        case schema.Bounded(kind=kind, least=least, most=most):
            size = min(most, least + 2) if full else least
            return size if kind is int else kind() + "ab"[:size] if kind is str else b"\x01" * size
        case schema.Array(inner=inner, least=least, most=most):
            return tuple(_sample(inner, full) for _ in range(min(most, least + 2) if full else least))
        case schema.Optional(inner=inner):
            return _sample(inner, full) if full else None
        case schema.Nested(kind=kind):
            return sample(kind, full)
    return "USD"


@cache
def _vector_frames() -> list[bytes]:
    whole = [_bytes(case["expect"]["frame"]) for case in _cases("messages.json", "message")]
    return whole + [_bytes(case["input"]["frame"]) for case in _cases("messages.json", "frame")]


def _cases(file: str, kind: str) -> list[dict[str, Any]]:
    return [case for case in json.loads((VECTORS / file).read_text())["cases"] if case["kind"] == kind]


def _bytes(text: str) -> bytes:
    """Bytes as the vectors write them: pieces between spaces, `aabb*3` repeated."""
    parts = (piece.partition("*") for piece in text.split())
    return b"".join(bytes.fromhex(piece) * int(times or 1) for piece, _, times in parts)
