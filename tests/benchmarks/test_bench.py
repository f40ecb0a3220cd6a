"""Every benchmark runs small and its accounting is right. How fast it was is nobody's business here."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import trio

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
SCENARIOS = sorted(file.stem.replace("_", "-") for file in (SCRIPTS / "benchmarks" / "scenarios").glob("[a-z]*.py"))
WITH_PAYMENTS = {"alone", "each", "awaited", "daemon", "bulk", "both"}


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short path: sockets are made below it."""
    return tmp_path_factory.mktemp("b")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`benchmarks` is found by the tests and by the processes that they start."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(SCRIPTS), *([before] if before else [])]))


def of(module: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{module}")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / "bench"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


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


# --- The scenarios -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_runs_small_and_accounts_for_every_payment(name: str, place: Path) -> None:
    done = bench(name, "--small", "--json", "--directory", str(place))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert all(value > 0 for value in told["limits"].values())
    (result,) = told["results"].values()
    row = of("table").BY_NAME[name]
    assert [mark["name"] for mark in result["marks"]] == [mark.name for mark in row.marks]
    assert (result["ratio"], result["floor"], result["goal"]) == (
        result["marks"][0]["value"], row.marks[0].floor, row.marks[0].goal,
    )  # fmt: skip
    assert result["topology"]
    assert len(set(result["accounts"].values())) <= 1
    if name in WITH_PAYMENTS:
        assert result["accounts"].keys() == {"sent", "received", "settled"}
        assert result["accounts"]["sent"] > 0
        assert all(result[figure] > 0 for figure in of("result").FIGURES)
    assert (list(place.iterdir()), processes_of(place)) == ([], [])


def test_several_scenarios_are_told_in_the_order_of_the_table_and_a_chapter_is_renewed(place: Path) -> None:
    report = of("report")
    chapter = place / "chapter.md"
    chapter.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    done = bench("awaited", "alone", "--small", "--directory", str(place), "--markdown", str(chapter))
    assert done.returncode == 0, done.stderr
    assert done.stderr == "measuring alone\nmeasuring awaited\n"
    assert "Ed25519 signatures made" in done.stdout
    text = chapter.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert [line.split()[1] for line in text.splitlines() if line.startswith("| ") and "processes, " in line] == [
        "alone", "awaited",
    ]  # fmt: skip


# --- The accounting notices --------------------------------------------------------------------


async def play(place: Path, spoil: Any) -> dict[str, int]:
    """A pair with some payments, spoilt in some way before its accounts are compared."""
    pair_of, size = of("pair"), of("result").Size(small=True)
    async with of("stage").open_stage(place, size) as stage, pair_of.open_pair(stage) as pair:
        await pair.round((pair_of.PAY, {"tasks": 2, "seconds": 0.05}))
        spoil(pair)
        accounts: dict[str, int] = await pair.settle()
        return accounts


def failure(group: pytest.ExceptionInfo[BaseException]) -> str:
    error: BaseException = group.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert type(error).__name__ == "BenchFailed"
    return str(error)


@pytest.mark.parametrize("extra", [1, -1])
async def test_a_payment_that_was_lost_or_invented_is_noticed(place: Path, extra: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(of("pair"), "_READ_LIMIT_S", 0.2)

    def spoil(pair: Any) -> None:
        pair.payer.paid += extra

    with pytest.raises(BaseException) as caught:
        await play(place, spoil)
    assert "received" in failure(caught)


async def test_another_settlement_than_what_was_paid_is_noticed(place: Path) -> None:
    def spoil(pair: Any) -> None:
        async def believe() -> list[int]:
            return [0, 0]

        pair.all_received = believe
        pair.payer.units += 1

    with pytest.raises(BaseException) as caught:
        await play(place, spoil)
    assert "the ledger settled" in failure(caught)


def test_numbers_that_should_be_the_same_and_are_not_fail_the_scenario() -> None:
    result = of("result")
    result.Result({"ratio": 1.0}, accounts={"sent": 2, "received": 2}).check("alone")
    with pytest.raises(result.BenchFailed, match="alone: the accounting is wrong"):
        result.Result({"ratio": 1.0}, accounts={"sent": 2, "received": 1}).check("alone")


async def test_a_scenario_that_fails_is_told_with_exit_code_1(place: Path, monkeypatch: Any, capsys: Any) -> None:
    async def wrong(*_: object) -> Any:
        return of("result").Result({"ratio": 1.0}, accounts={"sent": 2, "settled": 1})

    monkeypatch.setitem(__import__("sys").modules, "benchmarks.scenarios.alone", SimpleNamespace(run=wrong))
    run = of("run")
    report, code = await run.play(run.Plan(["alone"], of("result").Size(small=True), place, quiet=True))
    assert code == 1
    assert "accounting is wrong" in report.as_json()["results"]["alone"]["error"]
    assert "accounting is wrong" in capsys.readouterr().err


# --- Around them -------------------------------------------------------------------------------


def test_an_unknown_name_and_a_directory_in_memory_are_wrong_usage(place: Path, monkeypatch: Any) -> None:
    done = bench("alnoe")
    assert done.returncode == 2
    assert "no scenario alnoe" in done.stderr
    done = bench("alone", "--directory", str(place / "absent"))
    assert (done.returncode, done.stdout) == (2, "")
    environment = of("environment")
    assert environment.file_system(Path("/proc/self")) == "proc"
    monkeypatch.setattr(environment, "_IN_MEMORY", ("proc",))
    assert not environment.is_durable(Path("/proc/self"))
    assert environment.is_durable(place)


async def test_a_signal_ends_every_process(place: Path) -> None:
    process = await trio.lowlevel.open_process(
        [str(SCRIPTS / "bench"), "awaited", "--directory", str(place)], stdout=subprocess.PIPE
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
    rows = of("table").ROWS
    assert [row.name for row in rows] == [
        "alone", "each", "awaited", "daemon", "bulk", "both", "fan-in", "idle", "restart", "disk", "ledger",
    ]  # fmt: skip
    for row in rows:
        for mark in row.marks:
            assert mark.reaches(mark.floor, mark.floor)
            assert mark.reaches(mark.goal, mark.floor)
            assert not mark.reaches(mark.floor * (1.01 if mark.lower_is_better else 0.99), mark.floor)


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
    found = report.Report({}, {}, None, {}, {})
    for text in ("none", report.BEGIN, f"{report.END}\n{report.BEGIN}", f"{report.BEGIN}\n" * 2 + report.END):
        file = tmp_path / "chapter.md"
        file.write_text(text)
        with pytest.raises(of("result").BenchFailed, match="no place for the tables"):
            found.renew(file)
        assert file.read_text() == text


def test_medians_and_percentiles() -> None:
    assert of("result").medians([{"x": 1.0}, {"x": 9.0}, {"x": 2.0}]) == {"x": 2.0}
    percentile = of("work").percentile
    assert percentile([], 50) == 0.0
    assert [percentile([1.0, 2.0, 3.0, 4.0], p) for p in (50, 75, 99)] == [2.0, 3.0, 4.0]
    assert percentile([5.0], 1) == 5.0
