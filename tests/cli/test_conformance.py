"""conformance: its list, its usage, and the chapter's list. What it does to real daemons: tests/conformance."""

from __future__ import annotations

import subprocess
from pathlib import Path

from channelpay.conformance.cases import all_cases
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, encode_id
from cli_shell import KEYS, OTHER, WORDS, Shell

NODE = encode_id(NODE_PREFIX, OTHER.identity.public) + "@127.0.0.1:1"
LEDGER = encode_id(LEDGER_PREFIX, KEYS.identity.public) + "@127.0.0.1:1"
ROOT = Path(__file__).parents[2]


def test_list(offline: Shell) -> None:
    lines = offline.run("conformance", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(all_cases())
    one = offline.run("conformance", "--list", "--case", "pay-one").stdout.splitlines()
    assert [line.split()[:3] for line in one] == [["pay-one", "C-9", "C-14"]]


def test_list_as_json(offline: Shell) -> None:
    rows = offline.json("conformance", "--list", "--case", "kill-keeps-what-was-paid")["cases"]
    assert rows == [
        {
            "case": "kill-keeps-what-was-paid",
            "requirements": ["C-1", "C-22"],
            "must": True,
            "needs": ["kill", "pay", "start"],
            "seconds": 0,
            "about": all_cases()["kill-keeps-what-was-paid"].about,
        }
    ]


def test_usage(offline: Shell, tmp_path: Path) -> None:
    assert offline.fails("conformance", "--case", "pay-nothing")[0] == 2
    assert offline.fails("conformance", NODE, "--ledger", LEDGER)[0] == 2
    words = tmp_path / "words"
    words.write_text("no words at all")
    assert offline.fails("conformance", NODE, "--ledger", LEDGER, "--fund", str(words))[0] == 2


def test_a_ledger_that_is_not_there(offline: Shell, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text(WORDS)
    code, told = offline.fails(
        "conformance", NODE, "--ledger", LEDGER, "--fund", str(words), "--patience", "0.1", "--case", "pay-one"
    )
    assert code == 3
    assert told.startswith("the ledger: no TLS 1.3 connection to cpl1")


def test_a_driver_that_is_not_there(offline: Shell, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text(WORDS)
    code, told = offline.fails(
        "conformance", NODE, "--ledger", LEDGER, "--fund", str(words), "--control", "/nowhere/driver"
    )
    assert code == 3
    assert told.startswith("--control: ")


def test_the_chapter_lists_the_cases_as_they_are() -> None:
    command = [str(ROOT / "scripts" / "make_cases"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
