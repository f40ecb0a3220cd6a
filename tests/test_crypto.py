import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from channelpay.crypto import SigningKey, check_public_key, passphrase_key, seal, sha256, unseal, verify
from channelpay.errors import BadSignature, KeyRefused, SealRefused

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P

# The eight points whose order divides 8, as RFC 8032 encodes them.
SMALL_ORDER = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
# Their other spellings: x = 0 with a sign, and y + p where that fits 255 bits.
OTHER_SPELLINGS = [
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
]

seeds = st.binary(min_size=32, max_size=32)
messages = st.binary(max_size=100)


def times(scalar: int, point: tuple[int, int]) -> tuple[int, int]:
    """A multiple of a point, by the affine addition law."""
    result = (0, 1)
    while scalar:
        if scalar & 1:
            result = plus(result, point)
        point, scalar = plus(point, point), scalar >> 1
    return result


def plus(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def point_of(key: bytes) -> tuple[int, int] | None:
    """RFC 8032, section 5.1.3, to the letter."""
    y, sign = int.from_bytes(key, "little") & (2**255 - 1), key[31] >> 7
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == -u % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if v * x * x % P != u or (x == 0 and sign):
        return None
    return (x if x & 1 == sign else P - x), y


def accepted(key: bytes) -> bool:
    try:
        return check_public_key(key) == key
    except KeyRefused:
        return False


@pytest.mark.parametrize("key", SMALL_ORDER + OTHER_SPELLINGS)
def test_keys_of_small_order_are_refused_though_openssl_loads_them(key: str) -> None:
    assert Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) is not None
    with pytest.raises(KeyRefused):
        check_public_key(bytes.fromhex(key))


def test_the_list_of_small_order_keys_is_right_and_whole() -> None:
    points = {point_of(bytes.fromhex(key)) for key in SMALL_ORDER}
    assert len(points) == 8
    assert all(point is not None and times(8, point) == (0, 1) for point in points)


def test_why_small_order_matters() -> None:
    """One constant signature verifies for OpenSSL on any message under the neutral point."""
    neutral = bytes.fromhex(SMALL_ORDER[0])
    Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), b"anything")
    with pytest.raises(KeyRefused, match="small order"):
        verify(neutral, neutral + bytes(32), b"anything")


@pytest.mark.parametrize("y", range(P, 2**255))
@pytest.mark.parametrize("sign", [0, 1])
def test_every_key_that_is_not_canonical_is_refused(y: int, sign: int) -> None:
    with pytest.raises(KeyRefused, match="canonical"):
        check_public_key((y | sign << 255).to_bytes(32, "little"))


@given(st.binary(min_size=32, max_size=32))
def test_a_key_is_accepted_exactly_if_it_is_a_canonical_point_of_large_order(key: bytes) -> None:
    point = point_of(key)
    assert accepted(key) == (point is not None and times(8, point) != (0, 1))


@given(seeds)
def test_every_key_of_ours_is_accepted(seed: bytes) -> None:
    assert accepted(SigningKey(seed).public)


@given(st.binary(max_size=80).filter(lambda key: len(key) != 32))
def test_a_key_has_32_bytes(key: bytes) -> None:
    with pytest.raises(KeyRefused, match=f"32 bytes, not {len(key)}"):
        check_public_key(key)


@given(seeds, messages)
def test_a_signature_verifies(seed: bytes, message: bytes) -> None:
    key = SigningKey(seed)
    verify(key.public, key.sign(message), message)


@given(seeds, messages, st.data())
def test_a_changed_bit_anywhere_does_not_verify(seed: bytes, message: bytes, data: st.DataObject) -> None:
    key = SigningKey(seed)
    whole = bytearray(key.sign(message) + message)
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BadSignature):
        verify(key.public, bytes(whole[:64]), bytes(whole[64:]))


@given(seeds, messages, st.integers(1, 15))
def test_a_signature_has_no_second_form(seed: bytes, message: bytes, times_order: int) -> None:
    key = SigningKey(seed)
    signature = key.sign(message)
    s = int.from_bytes(signature[32:], "little") + times_order * ORDER
    if s < 2**256:
        with pytest.raises(BadSignature):
            verify(key.public, signature[:32] + s.to_bytes(32, "little"), message)


@given(seeds, messages, st.binary(max_size=130).filter(lambda data: len(data) != 64))
def test_a_signature_has_64_bytes(seed: bytes, message: bytes, signature: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(SigningKey(seed).public, signature, message)


def test_a_signature_with_a_part_of_small_order_does_not_verify() -> None:
    """Cofactored verification would take R + T for R: here it is compared by bytes."""
    seed = bytes(range(32))
    key = SigningKey(seed)
    digest = hashlib.sha512(seed).digest()
    secret = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    base = point_of(bytes.fromhex("58" + "66" * 31))
    order8 = point_of(bytes.fromhex(SMALL_ORDER[4]))
    assert base is not None
    assert order8 is not None
    x, y = plus(times(7, base), order8)
    r = (y | (x & 1) << 255).to_bytes(32, "little")
    k = int.from_bytes(hashlib.sha512(r + key.public + b"message").digest(), "little")
    s = (7 + k * secret) % ORDER
    with pytest.raises(BadSignature):
        verify(key.public, r + s.to_bytes(32, "little"), b"message")


def test_sha256() -> None:
    assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_signing_key_does_not_show_its_secret() -> None:
    seed = bytes(range(32))
    key = SigningKey(seed)
    assert repr(key) == f"SigningKey(public={key.public.hex()})"
    assert seed.hex() not in repr(key)


def test_a_passphrase_gives_the_key_of_the_reference_implementation() -> None:
    key = passphrase_key(b"password", b"somesalt", memory_kib=65_536, passes=2, lanes=1)
    assert key.hex() == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"


SEAL = (bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647"), bytes.fromhex("50515253c0c1c2c3c4c5c6c7"))
SUNSCREEN = (
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    b"sunscreen would be it."
)


def test_a_seal_is_that_of_rfc_8439() -> None:
    key, nonce, context = SEAL
    sealed = seal(key, nonce, SUNSCREEN, context)
    assert (sealed[:16].hex(), sealed[-16:].hex()) == (
        "d31a8d34648e60db7b86afbc53ef7ec2",
        "1ae10b594f09e26a7e902ecbd0600691",
    )
    assert unseal(key, nonce, sealed, context) == SUNSCREEN


@pytest.mark.parametrize("part", range(4))
def test_a_seal_opens_for_nothing_else(part: int) -> None:
    key, nonce, context = SEAL
    parts = [key, nonce, seal(key, nonce, SUNSCREEN, context), context]
    for index in range(len(parts[part])):
        changed = bytearray(parts[part])
        changed[index] ^= 1
        with pytest.raises(SealRefused, match="does not open"):
            unseal(*parts[:part], bytes(changed), *parts[part + 1 :])
    with pytest.raises(SealRefused):
        unseal(key, nonce, b"", context)
