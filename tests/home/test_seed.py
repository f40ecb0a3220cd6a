"""The seed file under a passphrase. Spec N-24."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

import pytest

from channelpay import limits
from channelpay.errors import KeyRefused
from channelpay.home.layout import Home, HomeError
from channelpay.home.seed import SeedRefused, WrongPassphrase, check_sealed, is_sealed, seal_words, words_in
from channelpay.keys import Keyring, words_from_entropy

WORDS = words_from_entropy(bytes(range(32)))
PASSPHRASE = "korrekt pferd Batterie \N{HIRAGANA LETTER KA}"


def counting(count: int) -> bytes:
    """Entropy that is none, so that the file is the same every time."""
    return bytes(range(count))


SEALED = seal_words(WORDS, PASSPHRASE, counting)


def never() -> str:
    raise AssertionError("the passphrase was asked for")


def resealed(body: str) -> str:
    """`body` with a checksum that fits."""
    return f"{body}sha256 {hashlib.sha256(body.encode()).hexdigest()}\n"


def body_of(text: str) -> str:
    return text.rpartition("sha256 ")[0]


def test_the_file_has_the_form_of_the_specification() -> None:
    title, kdf, box, checksum = SEALED.splitlines()
    assert title == "channelpay seed, encrypted, version 1"
    assert kdf == (
        f"argon2id memory_kib={limits.SEED_KDF_MEMORY_KIB} passes={limits.SEED_KDF_PASSES} "
        f"lanes={limits.SEED_KDF_LANES} salt={counting(16).hex()}"
    )
    assert re.fullmatch(rf"chacha20-poly1305 nonce={counting(12).hex()} sealed=[0-9a-f]{{96}}", box)
    assert checksum == "sha256 " + hashlib.sha256(f"{title}\n{kdf}\n{box}\n".encode()).hexdigest()
    assert len(SEALED) <= limits.MAX_SEED_FILE_BYTES
    assert not any(word in SEALED.split() for word in WORDS.split())


def test_the_right_passphrase_gives_the_words() -> None:
    assert is_sealed(SEALED)
    assert words_in(SEALED, lambda: PASSPHRASE) == WORDS


def test_the_same_passphrase_from_another_keyboard_gives_the_words() -> None:
    sealed = seal_words(WORDS, "\N{LATIN SMALL LETTER E WITH ACUTE}", counting)
    assert words_in(sealed, lambda: "e\N{COMBINING ACUTE ACCENT}") == WORDS


def test_plain_words_need_no_passphrase() -> None:
    assert not is_sealed(WORDS)
    assert words_in(f"  {WORDS}\n", never) == WORDS
    with pytest.raises(KeyRefused, match="24 valid BIP-39"):
        words_in("abandon " * 24, never)


def test_a_wrong_passphrase_is_refused_by_name() -> None:
    with pytest.raises(WrongPassphrase, match="the passphrase is wrong"):
        words_in(SEALED, lambda: PASSPHRASE + " ")


def test_every_damaged_character_is_refused_and_no_passphrase_asked_for() -> None:
    for index in range(len("channelpay seed"), len(SEALED)):
        for other in "0", "a", "\n":
            text = SEALED[:index] + other + SEALED[index + 1 :]
            if text != SEALED:
                with pytest.raises(SeedRefused, match=r"damaged|version"):
                    words_in(text, never)


@pytest.mark.parametrize("cut", [20, 60, 200, len(SEALED) - 1])
def test_a_file_cut_short_is_damaged(cut: int) -> None:
    with pytest.raises(SeedRefused, match="damaged: its checksum does not fit"):
        words_in(SEALED[:cut], never)


def test_more_after_the_end_is_damage() -> None:
    with pytest.raises(SeedRefused, match="damaged"):
        words_in(SEALED + "\n", never)


def test_a_newer_version_is_refused_by_name() -> None:
    newer = resealed(body_of(SEALED).replace("version 1", "version 2"))
    with pytest.raises(SeedRefused, match="version 2 of its format: use a newer channelpay"):
        words_in(newer, never)


def test_other_parameters_than_the_sealed_ones_do_not_open_it() -> None:
    other = resealed(body_of(SEALED).replace(counting(16).hex(), bytes(16).hex()))
    with pytest.raises(WrongPassphrase):
        words_in(other, lambda: PASSPHRASE)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("memory_kib", limits.MAX_SEED_KDF_MEMORY_KIB),
        ("passes", limits.MAX_SEED_KDF_PASSES),
        ("lanes", limits.MAX_SEED_KDF_LANES),
    ],
)
def test_parameters_beyond_their_bounds_are_refused(name: str, most: int) -> None:
    check_sealed(resealed(re.sub(rf"{name}=\d+", f"{name}={most}", body_of(SEALED))))
    with pytest.raises(SeedRefused, match=f"more than {most} is not done"):
        words_in(resealed(re.sub(rf"{name}=\d+", f"{name}={most + 1}", body_of(SEALED))), never)


def test_parameters_that_are_none_are_refused() -> None:
    with pytest.raises(SeedRefused, match="less than 8 for each lane"):
        words_in(resealed(re.sub(r"memory_kib=\d+", "memory_kib=31", body_of(SEALED))), never)


def test_too_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr("channelpay.home.seed.passphrase_key", none_left)
    with pytest.raises(SeedRefused, match="needs 64 MiB of memory"):
        words_in(SEALED, lambda: PASSPHRASE)


@pytest.mark.parametrize(
    ("passphrase", "message"),
    [("", "is empty"), ("x" * (limits.MAX_PASSPHRASE_BYTES + 1), "a passphrase of 1025 bytes; at most 1024")],
)
def test_a_passphrase_has_bounds(passphrase: str, message: str) -> None:
    with pytest.raises(SeedRefused, match=message):
        seal_words(WORDS, passphrase, counting)


def test_the_longest_passphrase_is_taken() -> None:
    longest = "x" * limits.MAX_PASSPHRASE_BYTES
    assert words_in(seal_words(WORDS, longest, counting), lambda: longest) == WORDS


def test_bad_words_are_not_sealed() -> None:
    with pytest.raises(KeyRefused):
        seal_words("abandon " * 24, PASSPHRASE, counting)


# --- In a home ---------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A new home with an encrypted seed."""
    Home(tmp_path / "node").create(WORDS, "", PASSPHRASE)
    return Home(tmp_path / "node", passphrase=lambda: PASSPHRASE)


def test_a_home_asks_once(home: Home) -> None:
    asked: list[bool] = []
    home.passphrase = lambda: asked.append(True) or PASSPHRASE  # type: ignore[func-returns-value]
    assert home.seed_is_encrypted()
    assert home.keyring().identity.public == home.keyring().identity.public == Keyring(WORDS).identity.public
    assert len(asked) == 1


def test_without_a_passphrase_or_with_another_the_seed_is_named(home: Home) -> None:
    with pytest.raises(HomeError, match=r"node/seed is encrypted: its passphrase is needed"):
        Home(home.path).keyring()
    with pytest.raises(HomeError, match=r"node/seed: the passphrase is wrong"):
        Home(home.path, passphrase=lambda: "x").keyring()
    home.seed_file.write_text(SEALED[:-2])
    with pytest.raises(HomeError, match=r"node/seed: damaged"):
        home.keyring()


def test_no_home_is_made_with_an_empty_passphrase(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="the passphrase is empty"):
        Home(tmp_path / "node").create(WORDS, "", "")
    assert not (tmp_path / "node").exists()


def test_two_homes_of_the_same_words_and_passphrase_have_different_files(home: Home, tmp_path: Path) -> None:
    Home(tmp_path / "other").create(WORDS, "", PASSPHRASE)
    assert Home(tmp_path / "other").read_seed() != home.read_seed()


def test_a_seed_is_replaced_whole_or_not_at_all(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = home.read_seed()
    (home.path / "seed.new").write_text("of a change that was cut off")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(HomeError, match=r"seed\.new cannot be written"):
            home.replace_seed(WORDS, None)
    assert home.read_seed() == before
    home.replace_seed(WORDS, None)
    assert home.read_seed() == WORDS + "\n"
    assert stat.S_IMODE(home.seed_file.stat().st_mode) == 0o600
    assert sorted(path.name for path in home.path.iterdir()) == ["config.toml", "seed"]
