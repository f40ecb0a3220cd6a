"""Seed words to keys, and the names of nodes, ledgers and accounts. Spec S-5 to S-7 and S-25.

The only door to `mnemonic`, `slip10` and `bech32m`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import bech32m
from mnemonic import Mnemonic
from slip10 import SLIP10

from channelpay.crypto import SigningKey, check_public_key
from channelpay.errors import AddressError, KeyRefused, shown

_WORDS: Final = Mnemonic("english")
_ROOT: Final = "m/7668'"
_PLACE: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._~-]+)?)\]|(?P<name>[A-Za-z0-9._-]{1,253}))"
    r":(?P<port>[1-9][0-9]{0,4})",
    re.ASCII,
)
_KEY_VERSION: Final = 1  # witness version of the BIP-350 shape; 1 says: an Ed25519 key of 32 bytes


def words_from_entropy(entropy: bytes) -> str:
    """24 BIP-39 words for 32 bytes of entropy (spec S-5)."""
    if len(entropy) != 32:
        raise KeyRefused(f"seed words need 32 bytes of entropy, not {len(entropy)}")
    return _WORDS.to_mnemonic(entropy)


def entropy_from_words(words: str) -> bytes:
    """The 32 bytes of entropy in 24 BIP-39 words (spec S-5); raises KeyRefused."""
    return bytes(_WORDS.to_entropy(check_words(words)))


def check_words(words: str) -> str:
    """The words with single spaces between them; raises KeyRefused unless they are 24 of BIP-39 with their checksum."""
    words = " ".join(words.split())
    if len(words.split(" ")) != 24 or not _WORDS.check(words):
        raise KeyRefused("these are not 24 valid BIP-39 seed words: a word is misspelt, missing or out of place")
    return words


def derive(seed: bytes, path: str) -> SigningKey:
    """The Ed25519 key at a hardened SLIP-0010 path below a BIP-39 seed of 64 bytes (spec S-6)."""
    return SigningKey(SLIP10.from_seed(seed, curve_name="ed25519").get_privkey_from_path(path))


class Keyring:
    """All keys of one owner, derived from 24 words by SLIP-0010 hardened paths (spec S-6).

    `identity` is the node id (or the ledger id), `account` holds money on the ledger,
    `channel(i)` signs for the i-th channel and nothing else (spec S-24).
    """

    def __init__(self, words: str) -> None:
        self._seed = Mnemonic.to_seed(check_words(words), "")
        self.identity = derive(self._seed, f"{_ROOT}/0'")
        self.account = derive(self._seed, f"{_ROOT}/1'")

    def channel(self, index: int) -> SigningKey:
        """The key of the channel with this index, 0 .. 2^31-1."""
        if type(index) is not int or not 0 <= index < 2**31:
            raise KeyRefused(f"channel key index {index!r} is outside 0 .. 2^31-1")
        return derive(self._seed, f"{_ROOT}/2'/{index}'")


@dataclass(frozen=True, slots=True)
class Address:
    """A node (`prefix` cp) or a ledger (`prefix` cpl) and where it listens."""

    prefix: str
    key: bytes
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{encode_id(self.prefix, self.key)}@{host}:{self.port}"


NODE_PREFIX: Final = "cp"
LEDGER_PREFIX: Final = "cpl"
ACCOUNT_PREFIX: Final = "cpa"
_WHAT: Final = {NODE_PREFIX: "node", LEDGER_PREFIX: "ledger", ACCOUNT_PREFIX: "account"}


def encode_id(prefix: str, key: bytes) -> str:
    """A public key as bech32m text: prefix, `1`, version 1, 32 bytes, checksum (spec S-7)."""
    if len(key) != 32:
        raise KeyRefused(f"a public key has 32 bytes, not {len(key)}")
    return str(bech32m.encode(prefix, _KEY_VERSION, key))


def decode_id(prefix: str, text: str) -> bytes:
    """The public key in a bech32m id; raises AddressError for typing errors and bad keys."""
    what = _WHAT[prefix]
    if not text.startswith(f"{prefix}1"):
        raise AddressError(f"{shown(text)} is no {what} id: it must begin with {prefix}1")
    try:
        decoded = bech32m.decode(prefix, text)
    except ValueError:
        raise AddressError(
            f"{shown(text)} is no {what} id: a character is wrong, missing or too much (its checksum does not fit)"
        ) from None
    if decoded.witver != _KEY_VERSION or len(decoded.witprog) != 32:
        raise AddressError(f"{shown(text)} is no {what} id of this version")
    try:
        return check_public_key(bytes(decoded.witprog))
    except KeyRefused as error:
        raise AddressError(f"{shown(text)}: {error}") from None


def parse_address(prefix: str, text: str) -> Address:
    """The address in `cp1...@host:port` (or `cpl1...@host:port`, spec S-25); raises AddressError."""
    name, at, place = text.partition("@")
    if not at:
        raise AddressError(f"{shown(text)} lacks '@host:port' after the id")
    match = _PLACE.fullmatch(place)
    if match is None or int(match["port"]) > 65535:
        raise AddressError(
            f"{shown(text)}: after '@' comes host:port, a port 1 .. 65535 without leading zeros; "
            "an IPv6 address stands in brackets"
        )
    return Address(prefix, decode_id(prefix, name), match["v6"] or match["name"], int(match["port"]))
