"""Every benchmark runs small and its accounting is right. How fast it was is nobody's business here."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import trio

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
NAMES = ["alone", "each", "awaited", "daemon", "bulk", "both", "fan-in", "idle", "restart", "disk", "ledger"]
WITH_PAYMENTS = {"alone", "each", "awaited", "daemon", "bulk", "both"}


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short path: sockets are made below it."""
    return tmp_path_factory.mktemp("b")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the many processes find what the first of them has compiled."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(autouse=True)
def importable(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`benchmarks` is found by the tests and by the processes that they start."""
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(compiled))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SCRIPTS), *([before] if before else [])]))


def of(module: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{module}")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "bench"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            stdout, stderr = process.communicate(timeout=600)
        except BaseException:
            process.terminate()  # it ends the processes that it started, which SIGKILL would leave behind
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def processes_of(directory: Path) -> list[int]:
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


def chapters(top: Path) -> None:
    """A directory in which a run may write what it has found."""
    report = of("report")
    (top / "spec").mkdir(parents=True)
    for file in ("spec/16-performance.md", "README.md"):
        (top / file).write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")


# --- The scenarios -----------------------------------------------------------------------------


def test_everything_runs_small_accounts_for_every_payment_and_is_written_down(place: Path) -> None:
    chapters(place / "top")
    (place / "stores").mkdir()
    done = bench("--small", "--json", "--directory", str(place / "stores"), "--write", str(place / "top"))
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert all(value > 0 for value in told["limits"].values())
    for name in NAMES:
        check_result(name, told["results"][name])
    for curve in told["curves"].values():
        assert len(curve["points"]) >= 2
        assert all(value > 0 for point in curve["points"] for value in point.values())
    assert (list((place / "stores").iterdir()), processes_of(place)) == ([], [])
    check_written(place / "top")


def check_result(name: str, result: dict[str, Any]) -> None:
    """All that is said of every scenario, and that its witnesses agree."""
    row = of("table").BY_NAME[name]
    assert [mark["name"] for mark in result["marks"]] == [mark.name for mark in row.marks]
    first = result["marks"][0]["value"], row.marks[0].floor, row.marks[0].goal
    assert (result["ratio"], result["floor"], result["goal"]) == first
    assert {type(result["met"]), type(result["goal_met"])} == {bool}
    assert result["topology"]
    assert len(set(result["accounts"].values())) == 1, name
    assert min(result["accounts"].values()) > 0, name
    if name in WITH_PAYMENTS:
        assert result["accounts"].keys() == {"sent", "received", "settled"}
        assert all(result[figure] > 0 for figure in of("result").FIGURES), name


def check_written(top: Path) -> None:
    report = of("report")
    for file in ("spec/16-performance.md", "README.md"):
        text = (top / file).read_text()
        assert text.startswith(f"before\n{report.BEGIN}\n\n")
        assert text.endswith(f"\n\n{report.END}\nafter\n")
        assert "old\n" not in text
        first = [line.split()[1] for line in text.splitlines() if line.startswith("| ")]
        assert [name for name in dict.fromkeys(first) if name in NAMES] == NAMES
    drawn = ElementTree.parse(top / "spec" / "performance.svg").getroot()
    assert len(drawn) == len(of("plot")._CHARTS)


def test_tables_for_people_and_a_plot(place: Path) -> None:
    done = bench("batch", "alone", "--small", "--directory", str(place), "--plot", str(place / "batch.svg"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == "measuring alone\nmeasuring batch\n"
    for words in ("Ed25519 signatures made", "PAYMENTS/S", "PAYMENTS IN EACH CALL", "alone", "2 processes"):
        assert words in done.stdout
    assert len(ElementTree.parse(place / "batch.svg").getroot()) == 2


# --- The accounting notices --------------------------------------------------------------------


async def test_payments_that_are_lost_or_invented_are_noticed(place: Path, monkeypatch: Any) -> None:
    failed, pair_of, size = of("result").BenchFailed, of("pair"), of("result").Size(small=True)
    monkeypatch.setattr(pair_of, "_READ_LIMIT_S", 0.2)
    async with of("stage").open_stage(place, size) as stage, pair_of.open_pair(stage) as pair:
        await pair.round((pair_of.PAY, {"tasks": 2, "payments": 20}))
        assert pair.payer.paid == 20
        for extra in (1, -1):
            pair.payer.paid += extra
            with pytest.raises(failed, match="received"):
                await pair.settle()
            pair.payer.paid -= extra

        async def believe() -> list[int]:
            return [20, 0]

        pair.all_received = believe
        pair.payer.units += 1
        with pytest.raises(failed, match="the ledger settled"):
            await pair.settle()
        pair.payer.units -= 1


def test_numbers_that_should_be_the_same_and_are_not_fail_the_scenario() -> None:
    result = of("result")
    result.Result({"ratio": 1.0}, accounts={"sent": 2, "received": 2}).check("alone")
    with pytest.raises(result.BenchFailed, match="alone: the accounting is wrong"):
        result.Result({"ratio": 1.0}, accounts={"sent": 2, "received": 1}).check("alone")


async def test_a_scenario_that_fails_is_told_with_exit_code_1(place: Path, monkeypatch: Any, capsys: Any) -> None:
    async def wrong(*_: object) -> Any:
        return of("result").Result({"ratio": 1.0}, accounts={"sent": 2, "settled": 1})

    monkeypatch.setitem(sys.modules, "benchmarks.scenarios.alone", SimpleNamespace(run=wrong))
    run = of("run")
    report, code = await run.play(run.Plan(["alone"], of("result").Size(small=True), place, quiet=True))
    assert code == 1
    assert "accounting is wrong" in report.as_json()["results"]["alone"]["error"]
    assert "accounting is wrong" in capsys.readouterr().err
    assert "alone failed: alone: the accounting is wrong" in report.markdown()


async def test_a_scenario_that_hangs_is_given_up_and_the_next_one_is_played(place: Path, monkeypatch: Any) -> None:
    async def hung(name: str, *_: object) -> Any:
        if name == "each":
            await trio.sleep_forever()
        return of("result").Result({"ratio": 1.0})

    run = of("run")
    monkeypatch.setattr(run, "play_scenario", hung)
    monkeypatch.setattr(run, "LIMIT_S", 0.1)
    report, code = await run.play(run.Plan(["each", "alone"], of("result").Size(small=True), place, quiet=True))
    assert code == 1
    assert "longer than 0.1 s" in report.failures["each"]
    assert report.results.keys() == {"alone"}


# --- Around them -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alnoe"], "no scenario alnoe"),
        (["alone", "--directory", "absent"], "is no directory"),
        (["alone", "--plot", "absent/plot.svg"], "no directory absent"),
        (["alone", "--write", "."], "for a full run"),
        (["--write", "absent"], "no place for the tables"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_measured(
    arguments: list[str], said: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        of("__main__").main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_file_system_in_memory_is_told_from_a_disk(place: Path, monkeypatch: Any) -> None:
    environment = of("environment")
    assert environment.file_system(Path("/proc/self")) == "proc"
    monkeypatch.setattr(environment, "_IN_MEMORY", ("proc",))
    assert not environment.is_durable(Path("/proc/self"))
    assert environment.is_durable(place)


def test_bytes_on_the_wire_are_those_of_tcp_connections_that_are_open() -> None:
    count = of("used").tcp_bytes_sent
    before = count()
    ours, theirs = socket.socketpair()  # of the Unix kind: no wire
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as server:
        ours.sendall(bytes(1000))
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(bytes(123))
            with server.accept()[0] as peer:
                peer.sendall(bytes(7))
                assert (peer.recv(123, socket.MSG_WAITALL), client.recv(7, socket.MSG_WAITALL)) == (
                    bytes(123),
                    bytes(7),
                )
                assert count() - before == 130
    assert count() == before


async def test_a_signal_ends_every_process(place: Path) -> None:
    process = await trio.lowlevel.open_process(
        [str(SCRIPTS / "bench"), *WITH_PAYMENTS, "--small", "--directory", str(place)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    while len(processes_of(place)) < 4:  # the benchmark itself, a ledger and two nodes
        await trio.sleep(0.02)
        assert process.returncode is None
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 130
    assert (processes_of(place), list(place.iterdir())) == ([], [])


# --- The report --------------------------------------------------------------------------------


def test_the_table_is_that_of_the_chapter() -> None:
    report, rows = of("report"), of("table").ROWS
    assert [row.name for row in rows] == NAMES
    text = (ROOT / "spec" / "16-performance.md").read_text()
    section = text[text.index("## 16.4") : text.index("## 16.5")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert [(name, floor, goal) for name, _, _, floor, goal in cells[2:]] == [
        (row.name, *(f"{report._sign(row.marks[0])} {bound:g}" for bound in (row.marks[0].floor, row.marks[0].goal)))
        for row in rows
    ]


def test_a_mark_is_reached_from_its_better_side() -> None:
    for row in of("table").ROWS:
        for mark in row.marks:
            assert mark.reaches(mark.floor, mark.floor)
            assert mark.reaches(mark.goal, mark.floor)
            assert not mark.reaches(mark.floor * (1.01 if mark.lower_is_better else 0.99), mark.floor)


def test_every_limit_and_figure_is_defined_in_the_chapter() -> None:
    text = (ROOT / "spec" / "16-performance.md").read_text()
    section = text[text.index("## 16.2") : text.index("## 16.4")]
    names = [*of("limits").Limits.__slots__, *of("result").FIGURES, *of("curves").CURVES]
    curves = text[text.index("## 16.6") : text.index("## 16.7")]
    assert [name for name in names if name not in section + curves] == []


def test_the_documents_have_a_place_for_the_next_run() -> None:
    for file in ("spec/16-performance.md", "README.md"):
        of("report").check_place(ROOT / file)


def test_a_row_is_met_when_all_its_marks_are() -> None:
    report, table, result = of("report"), of("table"), of("result")
    row = table.BY_NAME["idle"]
    told = report.result_json(row, result.Result({"ratio": 39.0, "alone": 1.9}))
    assert (told["ratio"], told["floor"], told["goal"], told["met"], told["goal_met"]) == (
        39.0,
        60.0,
        40.0,
        True,
        False,
    )
    assert not report.result_json(row, result.Result({"ratio": 39.0, "alone": 2.1}))["met"]
    assert not report.result_json(row, result.Result({"ratio": 61.0, "alone": 1.0}))["met"]
    assert report.result_json(row, result.Result({"ratio": 40.0, "alone": 1.5}))["goal_met"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (1234567.8, "1,234,568"), (99.96, "100"), (12.34, "12.3"), (2.0, "2"), (1.234, "1.23"),
     (0.1234, "0.12"), (0.01234, "0.012")],
)  # fmt: skip
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert of("report").number(value) == text


def test_a_chapter_without_its_two_marks_is_left_alone(tmp_path: Path) -> None:
    report = of("report")
    for text in ("none", report.BEGIN, f"{report.END}\n{report.BEGIN}", f"{report.BEGIN}\n" * 2 + report.END):
        file = tmp_path / "chapter.md"
        file.write_text(text)
        with pytest.raises(of("result").BenchFailed, match="no place for the tables"):
            report.renew(file, "new")
        assert file.read_text() == text


def test_steps_of_a_logarithmic_axis_reach_beyond_the_values() -> None:
    steps = of("plot")._steps
    assert steps(0.3, 4.0) == [0.2, 0.5, 1, 2, 5]
    assert steps(1.0, 10.0) == [1, 2, 5, 10]
    assert [of("plot")._short(count) for count in (1, 512, 1000, 1024, 10_999, 10**7)] == [
        "1", "512", "1k", "1024", "11k", "10M",
    ]  # fmt: skip


def test_medians_and_percentiles() -> None:
    assert of("result").medians([{"x": 1.0}, {"x": 9.0}, {"x": 2.0}]) == {"x": 2.0}
    percentile = of("work").percentile
    assert percentile([], 50) == 0.0
    assert [percentile([1.0, 2.0, 3.0, 4.0], p) for p in (50, 75, 99)] == [2.0, 3.0, 4.0]
    assert percentile([5.0], 1) == 5.0
