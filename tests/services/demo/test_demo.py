"""The whole demo: a ledger, two nodes and two services as processes, as a person would start it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from channelpay.services.demo.main import EXIT_FAILED, EXIT_USAGE, Options, run_demo
from channelpay.services.demo.stage import JsonLines

CHECKS = [
    "copy identical",
    "one payment per piece",
    "closed cooperatively",
    "co-signed state settled",
    "balances exact",
    "ledger agrees",
    "ledger audit",
]


@pytest.fixture(autouse=True)
def temporary_directories(tmp_path_factory, monkeypatch):
    """The demo's own temporary directory lies in ours, so that a test sees what it leaves behind."""
    directory = tmp_path_factory.mktemp("d")
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    return directory


def channelpay_demo(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "channelpay", "demo", *arguments], capture_output=True, text=True, check=False
    )


def processes_of(directory):
    """Process ids of those whose command line names the directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(directory) in line:
                found.append(int(entry.name))
    return found


def test_the_demo_sells_every_piece_and_every_check_holds(temporary_directories):
    done = channelpay_demo("--json", "--pieces", "300")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert [check["name"] for check in told["checks"] if check["holds"]] == CHECKS
    assert (told["pieces"], told["payments"], told["file"]["bytes"]) == (300, 300, 300 * 256)
    assert told["total"] == {"units": "30000", "text": "0.030000 USD"}
    assert told["ledger_transactions"] == 2
    assert 24 < told["wire_bytes_per_payment"] < 500
    assert 0 < told["latency_ms"]["median"] <= told["latency_ms"]["p99"]
    assert list(temporary_directories.iterdir()) == []


def test_with_both_daemons_killed_the_result_is_the_same(temporary_directories, tmp_path):
    file = tmp_path / "song.flac"
    file.write_bytes(os.urandom(256 * 600 - 77))
    done = channelpay_demo(str(file), "--kill", "--json", "--in-flight", "32")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert [check["name"] for check in told["checks"] if check["holds"]] == [*CHECKS, "daemons killed"]
    assert (told["pieces"], told["payments"], told["kills"]) == (600, 600, 2)
    assert told["file"]["name"] == "song.flac"
    assert list(temporary_directories.iterdir()) == []


def test_for_people_it_prints_progress_and_a_summary_and_keeps_what_it_is_told_to(tmp_path):
    keep = tmp_path / "k"
    done = channelpay_demo("--pieces", "3", "--keep", str(keep))
    assert done.returncode == 0, done.stderr
    assert "starting a ledger and two nodes" in done.stderr
    assert "selling specification.md: 3 pieces, 256 requests in flight" in done.stderr
    assert "3 of 0.000100 USD each" in done.stdout
    assert done.stdout.count("\nok ") == len(CHECKS)
    assert (keep / "copy").read_bytes() == (keep / "goods" / "specification.md").read_bytes()
    assert processes_of(keep) == []
    again = channelpay_demo("--pieces", "3", "--keep", str(keep))
    assert (again.returncode, again.stdout) == (EXIT_USAGE, "")
    assert "is not empty" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_all_processes(temporary_directories, number):
    demo = await trio.lowlevel.open_process(
        [sys.executable, "-m", "channelpay", "demo", "--pieces", "200000", "--no-progress"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    said = b""
    async with demo.stderr:
        while b"payments/s" not in said:  # it sells
            said += await demo.stderr.receive_some()
        assert len(processes_of(temporary_directories)) == 5
        demo.send_signal(number)
        async for _ in demo.stderr:
            pass
    assert await demo.wait() == 130
    assert processes_of(temporary_directories) == []
    assert list(temporary_directories.iterdir()) == []


def test_nothing_to_sell_is_wrong_usage(tmp_path, capsys):
    assert run_demo(Options(file=tmp_path / "absent")) == EXIT_USAGE
    assert "absent cannot be read" in capsys.readouterr().err
    assert run_demo(Options(file=tmp_path / "absent", json=True)) == EXIT_USAGE
    told = json.loads(capsys.readouterr().out)["error"]
    assert (told["code"], told["reason"]) == (EXIT_USAGE, "usage")


def test_a_process_that_fails_ends_the_demo_with_its_log(temporary_directories, monkeypatch, capsys):
    """The seller's service is replaced by one that cannot work."""
    monkeypatch.setattr("channelpay.services.demo.director._SELLER", "channelpay.no_such_service")
    assert run_demo(Options(pieces=3)) == EXIT_FAILED
    said = capsys.readouterr().err
    assert "error: seller ended by itself with exit code 1; everything is kept in " in said
    assert "No module named channelpay.no_such_service" in said
    (kept,) = temporary_directories.iterdir()
    assert (kept / "seller.log").exists()
    assert processes_of(kept) == []


def test_a_check_that_fails_is_named_and_the_exit_code_says_so(temporary_directories, monkeypatch, capsys):
    """The price in the parent's arithmetic is changed: the balances cannot be exact then."""
    monkeypatch.setattr("channelpay.services.demo.checks.PRICE_UNITS", 101)
    assert run_demo(Options(pieces=3)) == EXIT_FAILED
    shown = capsys.readouterr()
    assert "FAILED         balances exact: the buyer paid 0.000300 USD" in shown.out
    assert "error: failed: co-signed state settled, balances exact; everything is kept in" in shown.err


async def test_lines_come_whole(nursery):
    ours, theirs = trio.testing.memory_stream_one_way_pair()
    for part in (b'{"a"', b': 1}\n{"b": 2}\n{"c"', b": 3}\n"):
        await ours.send_all(part)
    await ours.aclose()
    assert [line async for line in JsonLines(theirs)] == [{"a": 1}, {"b": 2}, {"c": 3}]
