"""Keys and signatures that no honest signer makes, and for which implementations of Ed25519 give different verdicts."""

from __future__ import annotations

import hashlib

from vectors.common import fill
from verifier.curve import BASE, L, P, add, compress, decompress, multiply

_SECRET = int.from_bytes(fill("secret of the crafted signatures"), "little") % L
_OWN = multiply(_SECRET, BASE)
_ORDER8 = decompress(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")) or BASE
_ORDER4, _ORDER2 = multiply(2, _ORDER8), multiply(4, _ORDER8)
_NEUTRAL = (1).to_bytes(32, "little")

Variant = tuple[bytes, bytes, bytes]
"""Key, message, signature."""


def crafted_keys() -> dict[str, bytes]:
    orders = {2: _ORDER2, 4: _ORDER4, 8: _ORDER8}
    return {f"mixed order, a part of order {n}": compress(add(_OWN, point)) for n, point in orders.items()}


def crafted_signatures(message: bytes) -> dict[str, Variant]:
    own, r = compress(_OWN), int.from_bytes(fill("nonce of the crafted signatures"), "little") % L
    plain, beyond = _signed(own, compress(multiply(r, BASE)), r, message), "S beyond L"
    s = int.from_bytes(plain[32:], "little")
    found = {"by the crafted key": (own, message, plain)}
    for times in (1, 2, 8, 14):
        found[f"{beyond}: S + {times} L"] = (own, message, plain[:32] + (s + times * L).to_bytes(32, "little"))
    with_part = compress(add(multiply(r, BASE), _ORDER8))
    encodings = {
        "R the neutral point, S = k a": _NEUTRAL,
        "R the neutral point not canonical: y = p + 1": (P + 1).to_bytes(32, "little"),
        "R the neutral point with sign bit 1": (1 | 1 << 255).to_bytes(32, "little"),
        "R of order 2, S = k a": compress(_ORDER2),
        "R of order 8, S = k a": compress(_ORDER8),
    }
    found |= {name: (own, message, _signed(own, data, 0, message)) for name, data in encodings.items()}
    found["R of mixed order"] = (own, message, _signed(own, with_part, r, message))
    return found | _under_mixed_keys(message)


def _under_mixed_keys(message: bytes) -> dict[str, Variant]:
    """The part of small order drops out exactly when its order divides k, and k is reduced by L before."""
    mixed8, mixed2 = (compress(add(_OWN, point)) for point in (_ORDER8, _ORDER2))
    wanted = {
        "key of mixed order 8, 8 divides k": (mixed8, lambda k, whole: k % 8 == 0 and whole % 8 != 0),
        "key of mixed order 8, 8 divides only the hash before mod L": (
            mixed8,
            lambda k, whole: k % 8 != 0 and whole % 8 == 0,
        ),
        "key of mixed order 8, k = 4 mod 8": (mixed8, lambda k, _: k % 8 == 4),
        "key of mixed order 2, k even": (mixed2, lambda k, _: k % 2 == 0),
        "key of mixed order 2, k odd": (mixed2, lambda k, _: k % 2 == 1),
    }
    found = {}
    for name, (key, fits) in wanted.items():
        r = 1
        while not fits(*_challenge(compress(multiply(r, BASE)), key, message)):
            r += 1
        found[name] = (key, message, _signed(key, compress(multiply(r, BASE)), r, message))
    return found


def _challenge(r: bytes, key: bytes, message: bytes) -> tuple[int, int]:
    """k, and the number that it is before it is reduced by L."""
    whole = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little")
    return whole % L, whole


def _signed(key: bytes, r_bytes: bytes, r: int, message: bytes) -> bytes:
    k, _ = _challenge(r_bytes, key, message)
    return r_bytes + ((r + k * _SECRET) % L).to_bytes(32, "little")
