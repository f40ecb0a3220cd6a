"""The only door to `cryptography`: Ed25519, SHA-256 (spec chapter 3); passphrases to keys, sealed boxes (spec N-24).

One verification equation for everyone, OpenSSL's: cofactorless, S < L, R compared by bytes.
OpenSSL loads any 32 bytes as a public key, so keys are checked here, where they enter.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from channelpay.errors import BadSignature, KeyRefused, SealRefused

_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P
_CACHED_KEYS: Final = 65_536  # parsed keys kept: two for each of many channels, a few hundred bytes each


def sha256(data: bytes) -> bytes:
    """SHA-256 of `data`, 32 bytes (spec S-1)."""
    return hashlib.sha256(data).digest()


def _small_order_ys() -> frozenset[int]:
    """y of the eight points whose order divides 8: 1, -1, 0 and the two roots for order 8."""
    # Order 8: 2P has order 4, so y(2P) = 0, so y^2 = -x^2; with the curve's equation d y^4 + 2 y^2 - 1 = 0.
    root = _sqrt((1 + _D) % _P)
    ys = {0, 1, _P - 1}
    if root is not None:
        for value in ((-1 + root) * pow(_D, -1, _P) % _P, (-1 - root) * pow(_D, -1, _P) % _P):
            y = _sqrt(value)
            if y is not None:
                ys |= {y, _P - y}
    return frozenset(ys)


def _sqrt(value: int) -> int | None:
    """A square root modulo p = 5 mod 8, or None."""
    root = pow(value, (_P + 3) // 8, _P)
    if root * root % _P != value % _P:
        root = root * pow(2, (_P - 1) // 4, _P) % _P
    return root if root * root % _P == value % _P else None


_SMALL_ORDER_YS: Final = _small_order_ys()


def check_public_key(key: bytes) -> bytes:
    """`key` itself if it is a canonical point that is not of small order (spec S-3); raises KeyRefused."""
    _loaded(key)
    if not _is_point(key):
        raise KeyRefused("public key is no point of the curve")
    return key


@lru_cache(maxsize=_CACHED_KEYS)
def _loaded(key: bytes) -> Ed25519PublicKey:
    """The key, which may still be no point of the curve: then nothing verifies under it."""
    if len(key) != 32:
        raise KeyRefused(f"a public key has 32 bytes, not {len(key)}")
    y = _y(key)
    if y >= _P:
        raise KeyRefused("public key is not canonically encoded")
    if y in _SMALL_ORDER_YS:
        raise KeyRefused("public key is of small order: anyone could sign for it")
    return Ed25519PublicKey.from_public_bytes(key)


@lru_cache(maxsize=_CACHED_KEYS)
def _is_point(key: bytes) -> bool:
    """Whether x^2 = (y^2 - 1) / (d y^2 + 1) has a solution: Euler's criterion, on their product."""
    square = _y(key) ** 2
    return pow((square - 1) * (_D * square + 1), (_P - 1) // 2, _P) in (0, 1)


def _y(key: bytes) -> int:
    return int.from_bytes(key, "little") & (2**255 - 1)


def verify(key: bytes, signature: bytes, message: bytes) -> None:
    """Return if `signature` (64 bytes) is `key`'s on `message` (spec S-2); raises BadSignature or KeyRefused."""
    try:
        _loaded(key).verify(signature, message)
    except InvalidSignature:
        check_public_key(key)  # looked at only here, as it costs as much as a signature
        raise BadSignature("signature does not verify") from None


class SigningKey:
    """A private Ed25519 key made from its 32-byte seed; `public` is the 32-byte public key."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature on `message`."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"


def passphrase_key(passphrase: bytes, salt: bytes, *, memory_kib: int, passes: int, lanes: int) -> bytes:
    """A 32-byte key from a passphrase by Argon2id (RFC 9106); raises MemoryError when there is too little."""
    kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory_kib)
    return kdf.derive(passphrase)


def seal(key: bytes, nonce: bytes, secret: bytes, context: bytes) -> bytes:
    """`secret` encrypted and bound to `context` by ChaCha20-Poly1305 (RFC 8439); a nonce (12 bytes) is used once."""
    return ChaCha20Poly1305(key).encrypt(nonce, secret, context)


def unseal(key: bytes, nonce: bytes, sealed: bytes, context: bytes) -> bytes:
    """The secret in what `seal` gave; raises SealRefused for another key, nonce or context, and for changed bytes."""
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, context)
    except InvalidTag:
        raise SealRefused("the seal does not open with this key") from None
