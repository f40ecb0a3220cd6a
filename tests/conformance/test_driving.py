"""The driver as a process: JSON lines, answers in any order, and what happens when it misbehaves."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from channelpay.conformance.driving import Driver, DriverFailed
from channelpay.conformance.runner import ControlRefused
from channelpay.conformance.verdict import Violation

FAKE = """
import json, sys
print(json.dumps({"commands": ["echo", "swap", "no", "break", "mute", "end"]}), flush=True)
kept = []
for text in sys.stdin:
    order = json.loads(text)
    number, command = order["id"], order["command"]
    if command == "echo":
        print(json.dumps({"id": number, "answer": order}), flush=True)
    elif command == "swap":
        kept.append(number)
        if len(kept) == 2:
            print("this is no JSON", flush=True)
            for one in reversed(kept):
                print(json.dumps({"id": one, "answer": {"number": one}}), flush=True)
    elif command == "no":
        print(json.dumps({"id": number, "refused": "poor"}), flush=True)
    elif command == "break":
        print(json.dumps({"id": number, "error": "broken"}), flush=True)
    elif command == "end":
        break
"""


@pytest.fixture
def command(tmp_path: Path) -> str:
    """The command line of a small driver."""
    file = tmp_path / "driver.py"
    file.write_text(FAKE)
    return shlex.join([sys.executable, str(file)])


def test_commands_and_answers(command: str) -> None:
    with Driver(command) as driver:
        assert driver.commands == {"echo", "swap", "no", "break", "mute", "end"}
        answer = driver.start("echo", amount="20").result(10)
        assert (answer["command"], answer["amount"]) == ("echo", "20")
        first, second = driver.start("swap"), driver.start("swap")
        assert (first.result(10)["number"], second.result(10)["number"]) == (2, 3)
        assert first.done()


def test_refusals_and_failures(command: str) -> None:
    with Driver(command) as driver:
        with pytest.raises(ControlRefused, match="poor"):
            driver.start("no").result(10)
        with pytest.raises(DriverFailed, match="break: broken"):
            driver.start("break").result(10)
        silent = driver.start("mute")
        assert not silent.done()
        with pytest.raises(Violation, match=r"has not answered mute within 0\.01 s"):
            silent.result(0.01)


def test_a_driver_that_ends_answers_nothing_more(command: str) -> None:
    with Driver(command) as driver:
        with pytest.raises(DriverFailed, match="the driver has ended"):
            driver.start("end").result(10)


@pytest.mark.parametrize("program", ["pass", "print('hello')", "print('{}')"])
def test_a_driver_that_does_not_say_what_it_can_do(program: str) -> None:
    with pytest.raises(DriverFailed):
        Driver(shlex.join([sys.executable, "-c", program])).__enter__()
