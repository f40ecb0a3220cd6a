"""The auditor at the wire: each planted lie is seen, and honest traffic is not."""

from __future__ import annotations

import hashlib
import struct

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from simulation.tap import Money, Tap

LEDGER = bytes(31) + b"L"


class Party:
    """Signs and sends as a node does, with bytes put together here."""

    def __init__(self, name: str, n: int) -> None:
        self.name = name
        self.key = Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)
        self.public = self.key.public_key().public_bytes_raw()


class Wire:
    """A channel between a and b, opened before the tap's ears."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, str]] = []
        self.money: Money | None = Money((1000, 0), (0, 0))
        self.tap = Tap(
            LEDGER, lambda counter, what, name: self.found.append((counter, what, name)), lambda _: self.money
        )
        self.a, self.b = Party("a", 1), Party("b", 2)
        offer = [b"n" * 32, b"A" * 16, self.a.public, b"x" * 32, 1000, 0, 60, 16, b"s" * 32, 1, 1, 1]
        answer = [b"n" * 32, b"A" * 16, self.b.public, b"y" * 32, 0, 0, 60, 16, b"t" * 32, 1, 1, 1, b"sig"]
        self.say(self.a, 0x10, offer)
        self.say(self.b, 0x11, answer)
        (self.channel,) = self.tap.channels.values()

    def say(self, sender: Party, kind: int, fields: list[object]) -> None:
        payload = msgpack.packb(fields)
        other = self.b if sender is self.a else self.a
        frame = struct.pack(">IB", len(payload) + 1, kind) + payload
        stream = 1 if sender is self.a else 2
        self.tap.heard(stream, sender.name, other.name, frame[:7])  # it comes in pieces
        self.tap.heard(stream, sender.name, other.name, frame[7:])

    def half(self, first_n: int, *amounts: int) -> bytes:
        """a's half after a batch."""
        before = self.channel.halves[0][first_n - 1]
        n, total, h = struct.unpack(">QQ32s", before[:48])
        records = self.records(*amounts)
        link = b"".join((
            b"channelpay.pm.v1", self.channel.channel_id, b"\0", h if n else self.channel.genesis,
            first_n.to_bytes(8, "big"), len(amounts).to_bytes(2, "big"), hashlib.sha256(records).digest(),
            hashlib.sha256(b"").digest(),
        ))  # fmt: skip
        return struct.pack(
            ">QQ32sQ32s", n + len(amounts), total + sum(amounts), hashlib.sha256(link).digest(), 0, bytes(32)
        )

    @staticmethod
    def records(*amounts: int) -> bytes:
        return b"".join(struct.pack(">Q16s", amount, b"i" * 16) for amount in amounts)

    def signed(self, party: Party, half0: bytes, half1: bytes = bytes(88)) -> bytes:
        seq = int.from_bytes(half0[:8], "big") + int.from_bytes(half1[:8], "big")
        return party.key.sign(b"channelpay.st.v1" + self.channel.channel_id + seq.to_bytes(8, "big") + half0 + half1)

    def pay(self, first_n: int, *amounts: int, signature: bytes | None = None) -> None:
        signature = signature or self.signed(self.a, self.half(first_n, *amounts))
        self.say(self.a, 0x20, [self.channel.channel_id, first_n, self.records(*amounts), b"", 0, signature])

    def ack(self, n: int, half: bytes | None = None) -> None:
        half = half or self.channel.halves[0].get(n, bytes(88))
        self.say(self.b, 0x21, [self.channel.channel_id, n, 0, self.signed(self.b, half)])


@pytest.fixture
def wire():
    return Wire()


def test_honest_traffic_is_nothing_to_speak_of(wire):
    wire.pay(1, 5, 6)
    wire.ack(2)
    wire.pay(3, 7)
    wire.pay(1, 5, 6)  # resent
    wire.ack(3)
    wire.tap.restarted("a", {(wire.channel.channel_id, 0): 3})
    wire.tap.restarted("b", {(wire.channel.channel_id, 0): 3})
    assert wire.found == []


def test_another_amount_under_the_same_number(wire):
    wire.pay(1, 5)
    wire.pay(1, 6)
    assert wire.found[0][0::2] == ("drift", "a")


def test_another_history_in_place_of_what_the_peer_holds(wire):
    wire.pay(1, 5)
    wire.ack(1)
    wire.pay(1, 6)
    assert wire.found[0][0::2] == ("duplicated", "a")


def test_a_false_signature_and_whoever_acknowledges_it(wire):
    wire.pay(1, 5, signature=bytes(64))
    wire.ack(1)
    assert [entry[0::2] for entry in wire.found] == [("drift", "a"), ("drift", "b")]


def test_an_acknowledgement_of_what_was_never_sent(wire):
    wire.pay(1, 5)
    wire.ack(2, wire.half(2, 9))
    assert wire.found == [("drift", "a state was signed over 0 and 2, which were never sent", "b")]


def test_a_payment_that_follows_nothing(wire):
    wire.say(wire.a, 0x20, [wire.channel.channel_id, 4, wire.records(1), b"", 0, bytes(64)])
    assert wire.found[0][0] == "drift"


def test_a_payment_beyond_the_money(wire):
    wire.pay(1, 1000)
    assert wire.found == []
    wire.pay(2, 1)
    assert wire.found[0][0::2] == ("below_entitlement", "a")


def test_a_payment_of_money_that_a_withdrawal_holds(wire):
    statement = b"channelpay.wd.v1" + wire.channel.channel_id + b"\0" + (900).to_bytes(8, "big") + bytes(8)
    wire.say(wire.a, 0x40, [wire.channel.channel_id, 900, 0, wire.a.key.sign(statement)])
    wire.pay(1, 101)
    assert wire.found[0][0::2] == ("below_entitlement", "a")


def test_a_refused_withdrawal_holds_nothing(wire):
    statement = b"channelpay.wd.v1" + wire.channel.channel_id + b"\0" + (900).to_bytes(8, "big") + bytes(8)
    wire.say(wire.a, 0x40, [wire.channel.channel_id, 900, 0, wire.a.key.sign(statement)])
    wire.say(wire.b, 0x42, [wire.channel.channel_id, 900, 0, 1])
    wire.pay(1, 101)
    assert wire.found == []


@pytest.mark.parametrize(("total", "found"), [(1000, 0), (1001, 1)])
def test_a_withdrawal_is_granted_as_far_as_there_is_money(wire, total, found):
    statement = b"channelpay.wd.v1" + wire.channel.channel_id + b"\0" + total.to_bytes(8, "big") + bytes(8)
    wire.say(wire.b, 0x41, [wire.channel.channel_id, total, 0, wire.b.key.sign(statement)])
    assert [entry[0::2] for entry in wire.found] == [("below_entitlement", "b")] * found


def test_a_payment_without_a_channel_on_the_ledger(wire):
    wire.money = None
    wire.pay(1, 1)
    assert wire.found[0][0::2] == ("phantom", "a")


def test_a_payment_after_final(wire):
    wire.pay(1, 5)
    body = wire.channel.channel_id + (1).to_bytes(8, "big") + wire.channel.halves[0][1] + bytes(88) + bytes(8)
    wire.say(wire.a, 0x31, [wire.channel.channel_id, 0, wire.a.key.sign(b"channelpay.fi.v1" + body)])
    assert wire.found == []
    wire.pay(2, 5)
    assert wire.found == [("drift", "payment 2 was signed after FINAL", "a")]


@pytest.mark.parametrize(("name", "what"), [("a", "made"), ("b", "received")])
def test_what_was_signed_and_is_not_on_the_disk(wire, name, what):
    wire.pay(1, 5, 6)
    wire.ack(2)
    wire.tap.restarted(name, {})
    assert wire.found == [("lost", f"signed 2 payments as {what}, has 0", name)]


def test_what_a_payee_has_shown_to_hold(wire):
    c = wire.channel
    wire.pay(1, 5, 6)
    assert wire.tap.acknowledged(c.channel_id, "a") == 0
    wire.ack(2)
    assert wire.tap.acknowledged(c.channel_id, "a") == 2
    wire.pay(3, 7)
    mine = [c.halves[0][3], bytes(88)]
    wire.say(wire.b, 0x22, [c.channel_id, [*mine, bytes(64)], None, [], None])
    assert wire.tap.acknowledged(c.channel_id, "a") == 2  # nobody has signed it
    assert [found[0::2] for found in wire.found] == [("drift", "b")]
    wire.say(wire.b, 0x22, [c.channel_id, [*mine, wire.signed(wire.b, *mine)], None, [], None])
    assert wire.tap.acknowledged(c.channel_id, "a") == 3
    wire.money = Money((1000, 0), (0, 0), (4, 0), over=True)
    assert wire.tap.acknowledged(c.channel_id, "a") == 4
    assert wire.tap.acknowledged(c.channel_id, "b") == 0


def test_records_that_are_left_out_between_two_pages(wire):
    c = wire.channel
    wire.pay(1, 5, 6)
    wire.pay(3, 7)
    wire.say(wire.b, 0x23, [c.channel_id, 0, 1])
    wire.say(wire.a, 0x24, [c.channel_id, 0, [[1, wire.records(5, 6), b""]]])
    wire.say(wire.b, 0x23, [c.channel_id, 0, 3])
    assert wire.found == []
    wire.say(wire.b, 0x23, [c.channel_id, 0, 4])
    assert wire.found[0][0::2] == ("lost", "b")


def test_final_settles_all_that_was_signed_or_all_that_came_if_the_rest_is_forgotten(wire):
    wire.pay(1, 5)
    wire.ack(1)
    wire.pay(2, 6)  # which never arrives
    c = wire.channel
    halves = c.halves[0][1] + bytes(88)
    signature = wire.b.key.sign(b"channelpay.fi.v1" + c.channel_id + bytes(7) + b"\1" + halves + bytes(7) + b"\7")
    wire.say(wire.b, 0x31, [c.channel_id, 7, signature])
    assert [found[0::2] for found in wire.found] == [("drift", "b")]
    wire.tap.forgetful = {"a"}
    wire.say(wire.b, 0x31, [c.channel_id, 7, signature])
    assert len(wire.found) == 1
