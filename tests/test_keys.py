import pytest
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from channelpay.crypto import SigningKey
from channelpay.errors import AddressError, KeyRefused
from channelpay.keys import (
    ACCOUNT_PREFIX,
    LEDGER_PREFIX,
    NODE_PREFIX,
    Address,
    Keyring,
    decode_id,
    derive,
    encode_id,
    parse_address,
    words_from_entropy,
)

# SLIP-0010, test vectors 1 and 2 for ed25519: seed, path, private key, public key.
SEED1 = "000102030405060708090a0b0c0d0e0f"
SEED2 = (
    "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a2"
    "9f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542"
)
SLIP10 = [
    (SEED1, "m", "2b4be7f19ee27bbf30c667b642d5f4aa69fd169872f8fc3059c08ebae2eb19e7",
     "a4b2856bfec510abab89753fac1ac0e1112364e7d250545963f135f2a33188ed"),
    (SEED1, "m/0'", "68e0fe46dfb67e368c75379acec591dad19df3cde26e63b93a8e704f1dade7a3",
     "8c8a13df77a28f3445213a0f432fde644acaa215fc72dcdf300d5efaa85d350c"),
    (SEED1, "m/0'/1'", "b1d0bad404bf35da785a64ca1ac54b2617211d2777696fbffaf208f746ae84f2",
     "1932a5270f335bed617d5b935c80aedb1a35bd9fc1e31acafd5372c30f5c1187"),
    (SEED1, "m/0'/1'/2'", "92a5b23c0b8a99e37d07df3fb9966917f5d06e02ddbd909c7e184371463e9fc9",
     "ae98736566d30ed0e9d2f4486a64bc95740d89c7db33f52121f8ea8f76ff0fc1"),
    (SEED1, "m/0'/1'/2'/2'", "30d1dc7e5fc04c31219ab25a27ae00b50f6fd66622f6e9c913253d6511d1e662",
     "8abae2d66361c879b900d204ad2cc4984fa2aa344dd7ddc46007329ac76c429c"),
    (SEED1, "m/0'/1'/2'/2'/1000000000'", "8f94d394a8e8fd6b1bc2f3f49f5c47e385281d5c17e65324b0f62483e37e8793",
     "3c24da049451555d51a7014a37337aa4e12d41e485abccfa46b47dfb2af54b7a"),
    (SEED2, "m", "171cb88b1b3c1db25add599712e36245d75bc65a1a5c9e18d76f9f2b1eab4012",
     "8fe9693f8fa62a4305a140b9764c5ee01e455963744fe18204b4fb948249308a"),
    (SEED2, "m/0'", "1559eb2bbec5790b0c65d8693e4d0875b1747f4970ae8b650486ed7470845635",
     "86fab68dcb57aa196c77c5f264f215a112c22a912c10d123b0d03c3c28ef1037"),
    (SEED2, "m/0'/2147483647'", "ea4f5bfe8694d8bb74b7b59404632fd5968b774ed545e810de9c32a4fb4192f4",
     "5ba3b9ac6e90e83effcd25ac4e58a1365a9e35a3d3ae5eb07b9e4d90bcf7506d"),
]  # fmt: skip

# BIP-39, the published vectors of 256 bits: entropy, words.
BIP39 = {
    "00" * 32: "abandon " * 23 + "art",
    "7f" * 32: "legal winner thank year wave sausage worth useful " * 2
    + "legal winner thank year wave sausage worth title",
    "80" * 32: "letter advice cage absurd amount doctor acoustic avoid " * 2
    + "letter advice cage absurd amount doctor acoustic bless",
    "ff" * 32: "zoo " * 23 + "vote",
    "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c": (
        "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis "
        "maple dilemma loan word shrug inflict delay length"
    ),
    "9f6a2878b2520799a44ef18bc7df394e7061a224d2c33cd015b157d746869863": (
        "panda eyebrow bullet gorilla call smoke muffin taste mesh discover soft ostrich alcohol speed nation flash "
        "devote level hobby quick inner drive ghost inside"
    ),
    "066dca1a2bb7e8a1db2832148ce9933eea0f3ac9548d793112d9a95c9407efad": (
        "all hour make first leader extend hole alien behind guard gospel lava path output census museum junior mass "
        "reopen famous sing advance salt reform"
    ),
    "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f": (
        "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol group "
        "space point ten exist slush involve unfold"
    ),
}
GOOD = "abandon " * 23 + "art"
SEED_OF_GOOD = (
    "408b285c123836004f4b8842c89324c1f01382450c0d439af345ba7fc49acf70"
    "5489c6fc77dbd4e3dc1dd8cc6bc9f043db8ada1e243c4a0eafb290d399480840"
)
KEY = SigningKey(bytes(range(32))).public
PREFIXES = [NODE_PREFIX, LEDGER_PREFIX, ACCOUNT_PREFIX]

keys = st.binary(min_size=32, max_size=32).map(lambda seed: SigningKey(seed).public)
names = st.from_regex(r"[A-Za-z0-9._-]{1,60}", fullmatch=True)
ipv6 = st.ip_addresses(v=6).map(str)


@pytest.mark.parametrize(("seed", "path", "private", "public"), SLIP10)
def test_slip_0010(seed: str, path: str, private: str, public: str) -> None:
    assert derive(bytes.fromhex(seed), path).public.hex() == public
    assert SigningKey(bytes.fromhex(private)).public.hex() == public


@pytest.mark.parametrize(("entropy", "words"), BIP39.items())
def test_bip_39_words(entropy: str, words: str) -> None:
    assert words_from_entropy(bytes.fromhex(entropy)) == words
    assert Keyring(words).identity.public == Keyring(f"  {words}\n").identity.public


def test_the_seed_is_that_of_an_empty_passphrase_and_the_paths_are_those_of_the_table() -> None:
    seed, owner = bytes.fromhex(SEED_OF_GOOD), Keyring(GOOD)
    assert Mnemonic.to_seed(GOOD, "") == seed
    assert owner.identity.public == derive(seed, "m/7668'/0'").public
    assert owner.account.public == derive(seed, "m/7668'/1'").public
    for index in (0, 1, 2**31 - 1):
        assert owner.channel(index).public == derive(seed, f"m/7668'/2'/{index}'").public


@given(st.binary(max_size=70).filter(lambda entropy: len(entropy) != 32))
def test_entropy_has_32_bytes(entropy: bytes) -> None:
    with pytest.raises(KeyRefused, match=f"not {len(entropy)}"):
        words_from_entropy(entropy)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "abandon " * 24,
        "abandon " * 22 + "art",
        "abandon " * 24 + "art",
        "abandon " * 11 + "about",
        GOOD.replace("art", "arts"),
        GOOD.upper(),
        GOOD.replace(" ", ","),
        "\ud800 " * 24,
        "x" * 100_000,
    ],
)
def test_other_words_are_refused_without_being_shown(words: str) -> None:
    with pytest.raises(KeyRefused, match="not 24 valid BIP-39 seed words") as caught:
        Keyring(words)
    assert "abandon" not in str(caught.value)


@given(st.lists(st.sampled_from(Mnemonic("english").wordlist), min_size=24, max_size=24))
def test_any_24_words_are_a_wallet_or_refused(words: list[str]) -> None:
    text = " ".join(words)
    if Mnemonic("english").check(text):
        assert Keyring(text).identity.public == derive(Mnemonic.to_seed(text, ""), "m/7668'/0'").public
    else:
        with pytest.raises(KeyRefused):
            Keyring(text)


@pytest.mark.parametrize("index", [-1, 2**31, 1.0, True, "0", None])
def test_a_channel_key_has_an_index_within_31_bits(index: int) -> None:
    with pytest.raises(KeyRefused, match="outside"):
        Keyring(GOOD).channel(index)


@pytest.mark.parametrize("prefix", PREFIXES)
@given(key=keys)
def test_an_id_reads_back_and_has_its_length(prefix: str, key: bytes) -> None:
    text = encode_id(prefix, key)
    assert text.startswith(f"{prefix}1p")
    assert len(text) == 60 + len(prefix)
    assert decode_id(prefix, text) == key


@given(keys, st.data())
def test_up_to_four_wrong_characters_are_caught(key: bytes, data: st.DataObject) -> None:
    text = list(encode_id(NODE_PREFIX, key))
    for place in data.draw(st.sets(st.integers(3, len(text) - 1), min_size=1, max_size=4)):
        text[place] = data.draw(st.sampled_from([c for c in "qpzry9x8gf2tvdw0s3jn54khce6mua7l" if c != text[place]]))
    with pytest.raises(AddressError, match="its checksum does not fit"):
        decode_id(NODE_PREFIX, "".join(text))


@given(st.text(max_size=80), st.booleans())
def test_any_other_text_is_no_id(tail: str, with_prefix: bool) -> None:
    with pytest.raises(AddressError) as caught:
        decode_id(NODE_PREFIX, f"cp1{tail}" if with_prefix else tail)
    assert str(caught.value).endswith(("its checksum does not fit)", "it must begin with cp1"))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("other", PREFIXES)
def test_an_id_of_another_kind_is_refused(prefix: str, other: str) -> None:
    if prefix != other:
        with pytest.raises(AddressError, match=f"it must begin with {prefix}1"):
            decode_id(prefix, encode_id(other, KEY))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_id_is_made_of_32_bytes(size: int) -> None:
    with pytest.raises(KeyRefused, match=f"not {size}"):
        encode_id(NODE_PREFIX, bytes(size))


def test_an_id_with_a_bad_key_says_what_is_wrong_with_the_key() -> None:
    with pytest.raises(AddressError, match="small order"):
        decode_id(NODE_PREFIX, encode_id(NODE_PREFIX, bytes(32)))


def test_an_id_in_capitals_is_refused() -> None:
    with pytest.raises(AddressError):
        decode_id(NODE_PREFIX, encode_id(NODE_PREFIX, KEY).upper())


@given(keys, names | ipv6, st.integers(1, 65535))
def test_an_address_reads_back(key: bytes, host: str, port: int) -> None:
    address = Address(LEDGER_PREFIX, key, host, port)
    assert parse_address(LEDGER_PREFIX, str(address)) == address


@given(st.text(max_size=40) | st.text("a.1:[]%@ 0", max_size=8) | ipv6.map("[{}]:9735".format))
def test_what_is_read_as_a_place_is_printed_as_it_was(place: str) -> None:
    text = f"{encode_id(NODE_PREFIX, KEY)}@{place}"
    try:
        found = parse_address(NODE_PREFIX, text)
    except AddressError as error:
        assert len(str(error)) < 300  # noqa: PT017
    else:
        assert str(found) == text


@pytest.mark.parametrize(
    "place",
    ["", "host", ":1", "host:", "host:0", "host:65536", "host:080", "host: 80", "host:+80", "host:8\u0660", "::1:80",
     "[]:80", "[127.0.0.1]:80", "[::1]", "[::1:80", "a b:80", "a@b:80", "h\u00f6st:80", "host:80\n", "a" * 254 + ":80",
     "host:" + "0" * 6 + "9" * 5000, "host:" + "9" * 5000],
)  # fmt: skip
def test_a_bad_place_is_refused_in_few_words(place: str) -> None:
    with pytest.raises(AddressError, match="after '@' comes host:port") as caught:
        parse_address(NODE_PREFIX, f"{encode_id(NODE_PREFIX, KEY)}@{place}")
    assert len(str(caught.value)) < 300


def test_an_id_alone_is_no_address() -> None:
    with pytest.raises(AddressError, match="lacks '@host:port'"):
        parse_address(NODE_PREFIX, encode_id(NODE_PREFIX, KEY))
