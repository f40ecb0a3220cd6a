"""Keys, signatures, seed words, ids and addresses: S-2 to S-7, S-25."""

from __future__ import annotations

import hashlib
import hmac
import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mnemonic import Mnemonic

from verifier.curve import NEUTRAL, decompress, multiply, same, verifies
from verifier.encoding import Json, Refused, refuse, sha256

WORDS = Mnemonic("english").wordlist


def check_key(key: bytes) -> bytes:
    """`key` if it is a canonical point and eight times it is not the neutral one (S-3)."""
    point = decompress(key) if len(key) == 32 else None
    if point is None or same(multiply(8, point), NEUTRAL):
        refuse("key")
    return key


def verify(key: bytes, message: bytes, signature: bytes) -> str:
    return "" if verifies(check_key(key), message, signature) else refuse("signature")


def public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def words_of(entropy: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in (*entropy, sha256(entropy)[0]))
    return " ".join(WORDS[int(bits[i : i + 11], 2)] for i in range(0, 264, 11))


def check_words(words: str) -> None:
    listed = words.split()
    if len(listed) != 24 or not set(listed) <= set(WORDS):
        refuse("key")
    bits = "".join(f"{WORDS.index(word):011b}" for word in listed)
    if words_of(int(bits[:256], 2).to_bytes(32, "big")) != words:
        refuse("key")


def derive(words: str, path: str) -> bytes:
    """The seed of the Ed25519 key at a hardened SLIP-0010 path."""
    seed = hashlib.pbkdf2_hmac("sha512", words.encode(), b"mnemonic", 2048)
    node = hmac.digest(b"ed25519 seed", seed, "sha512")
    for step in path.split("/")[1:]:
        index = int(step.removesuffix("'")) + 2**31
        node = hmac.digest(node[32:], b"\0" + node[:32] + index.to_bytes(4, "big"), "sha512")
    return node[:32]


ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> i & 1 else 0
    return check


def id_text(prefix: str, key: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in key) + "0000"
    data = [1] + [int(bits[i : i + 5], 2) for i in range(0, 260, 5)]
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    check = polymod(expanded + data + [0] * 6) ^ 0x2BC830A3
    return f"{prefix}1" + "".join(ALPHABET[v] for v in data + [check >> 5 * (5 - i) & 31 for i in range(6)])


def key_of_id(prefix: str, text: str) -> bytes:
    data = text.removeprefix(f"{prefix}1")
    if len(data) != 59 or data == text or any(c not in ALPHABET for c in data):
        refuse("address")
    bits = "".join(f"{ALPHABET.index(c):05b}" for c in data[1:53])
    key = int(bits[:256], 2).to_bytes(32, "big")
    if id_text(prefix, key) != text:
        refuse("address")
    try:
        return check_key(key)
    except Refused:
        return refuse("address")


def address(prefix: str, text: str) -> Json:
    name, _, place = text.partition("@")
    host, _, port = place.rpartition(":")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        refuse("address")
    v6 = re.fullmatch(r"\[(?=[^%]*:)([0-9A-Fa-f:.]+(%[A-Za-z0-9._~-]+)?)\]", host)
    if not v6 and not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", host):
        refuse("address")
    return {"key": key_of_id(prefix, name).hex(), "host": v6[1] if v6 else host, "port": port}
