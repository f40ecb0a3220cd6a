"""The seed file: 24 words, plain or sealed by a passphrase. Spec N-24.

Sealed, it is four lines of text: what it is, how the passphrase becomes a key, what the key seals, and a
checksum of the lines above. The checksum, which anybody can compute, tells damage from a wrong passphrase.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from typing import Final

from channelpay.crypto import passphrase_key, seal, unseal
from channelpay.errors import ChannelpayError, SealRefused
from channelpay.keys import check_words, entropy_from_words, words_from_entropy
from channelpay.limits import (
    MAX_PASSPHRASE_BYTES,
    MAX_SEED_KDF_LANES,
    MAX_SEED_KDF_MEMORY_KIB,
    MAX_SEED_KDF_PASSES,
    SEED_KDF_LANES,
    SEED_KDF_MEMORY_KIB,
    SEED_KDF_PASSES,
)

_VERSION: Final = 1
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_TITLE: Final = re.compile(r"channelpay seed, encrypted, version ([0-9]{1,9})\n")
_SEALED: Final = re.compile(
    r"(?P<context>channelpay seed, encrypted, version 1\n"
    r"argon2id memory_kib=(?P<memory>[1-9][0-9]{0,9}) passes=(?P<passes>[1-9][0-9]{0,9})"
    r" lanes=(?P<lanes>[1-9][0-9]{0,9}) salt=(?P<salt>[0-9a-f]{32})\n)"
    r"chacha20-poly1305 nonce=(?P<nonce>[0-9a-f]{24}) sealed=(?P<sealed>[0-9a-f]{96})\n",
    re.ASCII,
)


class SeedRefused(ChannelpayError):
    """A seed file's text that is damaged or of a newer version, or a passphrase that cannot be one."""


class WrongPassphrase(SeedRefused):
    """The seed file is whole, and this passphrase does not open it."""


def is_sealed(text: str) -> bool:
    """Whether the text of a seed file is, or was, a sealed one."""
    return text.startswith("channelpay seed")


def seal_words(words: str, passphrase: str, random: Callable[[int], bytes]) -> str:
    """The text of a sealed seed file; raises KeyRefused for bad words, SeedRefused for a passphrase that is none."""
    entropy = entropy_from_words(words)
    salt, nonce = random(_SALT_BYTES), random(_NONCE_BYTES)
    context = (
        f"channelpay seed, encrypted, version {_VERSION}\n"
        f"argon2id memory_kib={SEED_KDF_MEMORY_KIB} passes={SEED_KDF_PASSES} lanes={SEED_KDF_LANES} salt={salt.hex()}\n"
    )
    key = _key(passphrase, salt, SEED_KDF_MEMORY_KIB, SEED_KDF_PASSES, SEED_KDF_LANES)
    sealed = seal(key, nonce, entropy, context.encode("ascii"))
    body = f"{context}chacha20-poly1305 nonce={nonce.hex()} sealed={sealed.hex()}\n"
    return f"{body}sha256 {_checksum(body)}\n"


def words_in(text: str, passphrase: Callable[[], str]) -> str:
    """The 24 words in the text of a seed file; `passphrase` is asked for only when it is sealed, and whole.

    Raises SeedRefused for a sealed file that is damaged or of a newer version, WrongPassphrase, KeyRefused for words
    that are none.
    """
    if not is_sealed(text):
        return check_words(text)
    match = check_sealed(text)
    memory, passes, lanes = int(match["memory"]), int(match["passes"]), int(match["lanes"])
    key = _key(passphrase(), bytes.fromhex(match["salt"]), memory, passes, lanes)
    try:
        entropy = unseal(
            key, bytes.fromhex(match["nonce"]), bytes.fromhex(match["sealed"]), match["context"].encode("ascii")
        )
    except SealRefused:
        raise WrongPassphrase("the passphrase is wrong") from None
    return words_from_entropy(entropy)


def check_sealed(text: str) -> re.Match[str]:
    """The parts of a sealed seed file that is whole, or raises SeedRefused; needs no passphrase."""
    title = _TITLE.match(text)
    if title is not None and int(title[1]) > _VERSION:
        raise SeedRefused(f"encrypted in version {title[1]} of its format: use a newer channelpay")
    body, mark, checksum = text.rpartition("sha256 ")
    match = _SEALED.fullmatch(body)
    if match is None or not mark or checksum != f"{_checksum(body)}\n":
        raise SeedRefused("damaged: its checksum does not fit. Restore it from a backup or from your 24 words")
    for name, most in (
        ("memory", MAX_SEED_KDF_MEMORY_KIB),
        ("passes", MAX_SEED_KDF_PASSES),
        ("lanes", MAX_SEED_KDF_LANES),
    ):
        if int(match[name]) > most:
            raise SeedRefused(f"asks for {match[name]} of Argon2id's {name}; more than {most} is not done")
    if int(match["memory"]) < 8 * int(match["lanes"]):
        raise SeedRefused("its Argon2id parameters are none: memory_kib is less than 8 for each lane")
    return match


def check_passphrase(passphrase: str) -> bytes:
    """The bytes of a passphrase, the same on every keyboard (NFKD, as BIP-39 does); raises SeedRefused."""
    data = unicodedata.normalize("NFKD", passphrase).encode("utf-8", "surrogateescape")
    if not data:
        raise SeedRefused("the passphrase is empty")
    if len(data) > MAX_PASSPHRASE_BYTES:
        raise SeedRefused(f"a passphrase of {len(data)} bytes; at most {MAX_PASSPHRASE_BYTES} are taken")
    return data


def _key(passphrase: str, salt: bytes, memory_kib: int, passes: int, lanes: int) -> bytes:
    data = check_passphrase(passphrase)
    try:
        return passphrase_key(data, salt, memory_kib=memory_kib, passes=passes, lanes=lanes)
    except MemoryError:
        raise SeedRefused(f"needs {memory_kib // 1024} MiB of memory to open, more than there is") from None


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest()
