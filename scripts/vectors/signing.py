"""keys.json and ids.json."""

from __future__ import annotations

from typing import Any

from vectors.common import (
    BUYER,
    CHANNEL,
    LEDGER,
    SELLER,
    Case,
    case,
    fill,
    made,
)
from vectors.crafted import crafted_keys, crafted_signatures
from verifier.curve import P

from channelpay import crypto, keys, statements


def key_cases() -> list[Case]:
    cases = [words_case(name, fill(f"entropy of {name}")) for name in ("buyer", "seller", "ledger", "issuer")]
    cases += [words_case("zero entropy", bytes(32)), words_case("entropy of ones", b"\xff" * 32)]
    good = "abandon " * 23 + "art"
    for name, words in {
        "the last word does not check": "abandon " * 24,
        "23 words": "abandon " * 22 + "art",
        "no words": "",
        "12 words": "abandon " * 11 + "about",
        "a word of no list": good.replace("art", "arts"),
        "capital letters": good.upper(),
    }.items():
        cases.append(case("seed words", name, {"words": words.strip()}, lambda w=words: keys.Keyring(w) and ""))
    for name, key in public_keys().items():
        cases.append(case("public key", name, {"key": key.hex()}, lambda k=key: crypto.check_public_key(k).hex()))
    return cases + signature_cases()


def words_case(name: str, entropy: bytes) -> Case:
    words = keys.words_from_entropy(entropy)
    owner = keys.Keyring(words)
    named = {"m/7668'/0'": owner.identity, "m/7668'/1'": owner.account}
    named |= {f"m/7668'/2'/{i}'": owner.channel(i) for i in (0, 1, 2**31 - 1)}
    expect = {"words": words, "public_keys": {path: key.public.hex() for path, key in named.items()}}
    return made("keyring", f"keys of {name}", {"entropy": entropy.hex()}, expect)


def public_keys() -> dict[str, bytes]:
    def point(y: int, sign: int = 0) -> bytes:
        return (y | sign << 255).to_bytes(32, "little")

    order8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
    found = {"of the buyer": BUYER.identity.public, "RFC 8032 test 1": RFC8032[0][1], "empty": b""}
    found |= {"31 bytes": BUYER.identity.public[:31], "33 bytes": BUYER.identity.public + b"\0"}
    for label, y in {"0": 0, "1": 1, "p-1": P - 1, "of order 8": order8, "of order 8, negated": P - order8}.items():
        found |= {f"small order, y = {label}, sign {sign}": point(y, sign) for sign in (0, 1)}
    for more in (0, 1, 3, 4, 5, 6, 9, 10, 13, 14, 15, 16, 18):
        found |= {f"not canonical, y = p+{more}, sign {sign}": point(P + more, sign) for sign in (0, 1)}
    found |= {"all ones": b"\xff" * 32, "no point, y = 2": point(2), "no point, y = 7": point(7)}
    return found | crafted_keys()


RFC8032 = [
    tuple(bytes.fromhex(part) for part in row)
    for row in (
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595b"
            "be24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb430"
            "2aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716e"
            "d28dc027beceea1ec40a",
        ),
    )
]
"""seed, public key, message, signature."""


def signature_cases() -> list[Case]:
    cases = [
        case(
            "sign",
            f"RFC 8032 test {i}",
            {"seed": seed.hex(), "message": message.hex()},
            lambda s=seed, m=message: crypto.SigningKey(s).sign(m).hex(),
        )
        for i, (seed, _, message, _) in enumerate(RFC8032, 1)
    ]
    signer, message = BUYER.channel(0), statements.state_bytes(CHANNEL, statements.ZERO_HALF, statements.ZERO_HALF)
    signature = signer.sign(message)
    r, s = signature[:32], signature[32:]
    small = (1).to_bytes(32, "little")
    variants = {
        "the signature": (signer.public, message, signature),
        "a bit of R": (signer.public, message, bytes([signature[0] ^ 1]) + signature[1:]),
        "a bit of S": (signer.public, message, r + bytes([s[0] ^ 1]) + s[1:]),
        "63 bytes": (signer.public, message, signature[:63]),
        "65 bytes": (signer.public, message, signature + b"\0"),
        "no bytes": (signer.public, message, b""),
        "all zero": (signer.public, message, bytes(64)),
        "R and S exchanged": (signer.public, message, s + r),
        "R the neutral point, S = 0": (signer.public, message, small + bytes(32)),
        "another key": (SELLER.channel(0).public, message, signature),
        "another message": (signer.public, message[:-1] + b"\1", signature),
        "a byte more of the message": (signer.public, message + b"\0", signature),
        "the hash of the message": (signer.public, crypto.sha256(message), signature),
        "another tag": (signer.public, statements.TAG_FINAL + message[16:], signature),
        "a key of small order, constant signature": (small, message, small + bytes(32)),
    } | crafted_signatures(message)
    for name, (key, text, given) in variants.items():
        fields = {"key": key.hex(), "message": text.hex(), "signature": given.hex()}
        cases.append(case("verify", name, fields, lambda k=key, t=text, g=given: crypto.verify(k, g, t) or ""))
    return cases


def id_cases() -> list[Case]:
    cases = []
    node, ledger_id = keys.encode_id("cp", BUYER.identity.public), keys.encode_id("cpl", LEDGER.identity.public)
    owners = {"node": ("cp", BUYER.identity), "ledger": ("cpl", LEDGER.identity), "account": ("cpa", BUYER.account)}
    for name, (prefix, key) in owners.items():
        given = {"prefix": prefix, "key": key.public.hex()}
        cases.append(case("id", f"of the {name}", given, lambda p=prefix, k=key: keys.encode_id(p, k.public)))
    bad_ids = {
        "a wrong character": node[:20] + ("q" if node[20] != "q" else "p") + node[21:],
        "cut off": node[:-1],
        "one character more": node + "q",
        "two characters changed places": node[:12] + node[13] + node[12] + node[14:],
        "another prefix": ledger_id,
        "capital letters": node.upper(),
        "mixed case": node[:-1] + node[-1].upper(),
        "a character of no alphabet": node[:-1] + "b",
        "a sign of another script": node[:-1] + "\u0663",
        "empty": "",
        "the prefix alone": "cp1",
        "a small-order key": keys.encode_id("cp", (1).to_bytes(32, "little")),
        "a key that is not canonical": keys.encode_id("cp", (P + 3).to_bytes(32, "little")),
    }
    bad_ids |= {f"version {v}": other_id(v, bytes(32)) for v in (0, 2)}
    bad_ids |= {f"a key of {n} bytes": other_id(1, bytes(n)) for n in (31, 33)}
    for name, text in bad_ids.items():
        cases.append(
            case("id text", name, {"prefix": "cp", "text": text}, lambda t=text: keys.decode_id("cp", t).hex())
        )
    places = [
        "example.org:9735",
        "127.0.0.1:1",
        "[::1]:65535",
        "[fe80::1%eth0]:9735",
        "node-1.example_net:9735",
        "",
        "host",
        "host:",
        ":9735",
        "host:0",
        "host:65536",
        "host:080",
        "host:+80",
        "host:1e3",
        "::1:9735",
        "[]:9735",
        "[127.0.0.1]:9735",
        "[::1:9735",
        "a b:9735",
        "a@b:9735",
        "host:9735 ",
        "host:\u0661",
        "h\u00f6st:9735",
        "host:" + "9" * 40,
        "a" * 254 + ":9735",
    ]
    for place in places:
        given = {"prefix": "cp", "text": f"{node}@{place}"}
        cases.append(case("address", f"at {place[:24]!r}", given, lambda t=given["text"]: parts(t)))
    cases.append(case("address", "no place", {"prefix": "cp", "text": node}, lambda: parts(node)))
    return cases


def other_id(version: int, program: bytes) -> str:
    """An id that no implementation writes: another version, another length."""
    import bech32m

    return str(bech32m.encode("cp", version, program))


def parts(text: str) -> Any:
    address = keys.parse_address("cp", text)
    return {"key": address.key.hex(), "host": address.host, "port": str(address.port)}
