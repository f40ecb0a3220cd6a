"""Results and reports: what counts as what, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from channelpay.conformance.case import Case
from channelpay.conformance.cases import all_cases
from channelpay.conformance.kit import Kit
from channelpay.conformance.play import as_json, failed_must, line, play, summary
from channelpay.conformance.runner import ControlRefused
from channelpay.conformance.verdict import NotRun, Result, Status, Violation, require, same, shown
from channelpay.errors import ErrorCode, RemoteError
from conformance.memory import POCKET, MemoryRunner


def judged(place: Path, script: object, *, driver: bool = True, **case: object) -> Result:
    """What becomes of a case with this script."""
    runner = MemoryRunner(place, driver=driver)
    made = Case("a-case", "what it shows", ("C-1",), script, **case)  # type: ignore[arg-type]
    return play(made, runner, POCKET, runner.asset_id)


def raising(error: Exception) -> object:
    def script(kit: Kit) -> None:
        raise error

    return script


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (Violation("it lied"), Status.FAIL, "it lied"),
        (NotRun("needs rain"), Status.NOT_RUN, "needs rain"),
        (ControlRefused("no"), Status.FAIL, "the node refused its operator: no"),
        (RemoteError(ErrorCode.GAP, "a hole"), Status.FAIL, "RemoteError: gap: a hole"),
    ],
)
def test_what_a_script_raises(tmp_path: Path, error: Exception, status: Status, text: str) -> None:
    result = judged(tmp_path, raising(error))
    assert (result.status, result.text) == (status, text)


def test_a_defect_of_the_kit_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        judged(tmp_path, raising(ZeroDivisionError()))


def test_a_script_that_ends_has_passed(tmp_path: Path) -> None:
    result = judged(tmp_path, lambda kit: None)
    assert (result.status, result.text) == (Status.PASS, "what it shows")


def test_what_a_case_needs_and_is_not_there(tmp_path: Path) -> None:
    failing = raising(Violation("played"))
    without = judged(tmp_path, failing, driver=False, needs=frozenset({"pay", "kill"}))
    assert (without.status, without.text) == (Status.NOT_RUN, "needs a driver that can kill, pay")


def test_a_case_that_waits_too_long_is_not_run(tmp_path: Path) -> None:
    result = judged(tmp_path, raising(Violation("played")), takes_s=61)
    assert (result.status, result.text) == (Status.NOT_RUN, "waits 61 s; give --longest 61")


@pytest.mark.parametrize("name", [name for name, case in all_cases().items() if case.needs])
def test_without_a_driver_no_case_that_needs_one_passes(name: str, tmp_path: Path) -> None:
    runner = MemoryRunner(tmp_path, driver=False)
    assert play(all_cases()[name], runner, POCKET, runner.asset_id).status is Status.NOT_RUN


def test_a_case_that_gives_a_command_names_it(tmp_path: Path) -> None:
    """`needs` is complete: with just these commands every case passes."""
    for case in all_cases().values():
        if not case.needs or "pay-id" in case.needs or case.real or case.takes_s > 100:
            continue
        place = tmp_path / case.name
        place.mkdir()
        runner = MemoryRunner(place)
        assert runner.control is not None
        runner.control.commands = case.needs  # type: ignore[misc]
        result = play(case, runner, POCKET, runner.asset_id)
        assert result.status is Status.PASS, f"{case.name}: {result.text}"


def test_a_case_about_tls_is_not_run_without_tls(tmp_path: Path) -> None:
    result = judged(tmp_path, raising(Violation("played")), real=True)
    assert (result.status, result.text) == (Status.NOT_RUN, "needs real connections")


class FakeTls:
    """A node whose certificate lives as long as `certificates` says, and that lets `standing` strangers stand."""

    def __init__(self, certificates: list[bytes], standing: int) -> None:
        self._certificates = certificates
        self._standing = standing

    def takes_old_versions(self) -> bool:
        return True

    def gives_ticket(self) -> bool:
        return True

    def certificate(self) -> bytes:
        return self._certificates.pop(0)

    def strangers(self, count: int) -> int:
        return min(self._standing, count)


@pytest.mark.parametrize(
    ("name", "certificates", "standing", "status"),
    [
        ("certificate-of-each-process", [b"a", b"a", b"b"], 0, Status.PASS),
        ("certificate-of-each-process", [b"a", b"a", b"a"], 0, Status.FAIL),
        ("certificate-of-each-process", [b"a", b"b", b"c"], 0, Status.FAIL),
        ("strangers-are-bounded", [], 16, Status.PASS),
        ("strangers-are-bounded", [], 1_000_000, Status.FAIL),
    ],
)
def test_cases_about_tls_can_fail(
    name: str, certificates: list[bytes], standing: int, status: Status, tmp_path: Path
) -> None:
    runner = MemoryRunner(tmp_path)
    runner.tls = FakeTls(certificates, standing)  # type: ignore[assignment]
    assert play(all_cases()[name], runner, POCKET, runner.asset_id).status is status


@pytest.mark.parametrize("name", ["node-pays-an-id-once", "node-refuses-an-old-id"])
def test_cases_about_payment_ids_can_fail(name: str, tmp_path: Path) -> None:
    """The core alone looks at no ids: a node that is no more than that pays twice."""
    runner = MemoryRunner(tmp_path)
    assert runner.control is not None
    runner.control.commands |= {"pay-id"}  # type: ignore[misc]
    assert play(all_cases()[name], runner, POCKET, runner.asset_id).status is Status.FAIL


def _result(status: Status, must: bool = True, *requirements: str) -> Result:
    return Result("a-case", requirements or ("C-1",), must, status, "why", 0.5)


def test_the_summary_counts_and_names_what_is_broken() -> None:
    results = [_result(Status.PASS), _result(Status.FAIL, True, "S-2", "C-9"), _result(Status.NOT_RUN)]
    assert summary(results) == "1 passed, 1 failed, 1 not run; broken: C-9 S-2"
    assert summary(results[:1]) == "1 passed, 0 failed, 0 not run"


def test_only_a_must_that_fails_breaks_a_run() -> None:
    assert failed_must(_result(Status.FAIL))
    assert not failed_must(_result(Status.FAIL, False))
    assert not failed_must(_result(Status.NOT_RUN))
    assert line(_result(Status.FAIL, False)).startswith("warn ")
    assert line(_result(Status.FAIL)).split() == ["fail", "a-case", "C-1", "why"]


def test_a_result_as_json() -> None:
    assert as_json(_result(Status.NOT_RUN)) == {
        "case": "a-case",
        "requirements": ["C-1"],
        "must": True,
        "status": "not run",
        "text": "why",
        "seconds": 0.5,
    }


def test_small_helpers() -> None:
    require(1, "never")
    same(b"a", b"a", "letters")
    with pytest.raises(Violation, match="the letter is 61, not 62"):
        same(b"a", b"b", "the letter")
    assert len(shown("x" * 1000)) == 80


def test_every_case_is_complete() -> None:
    for case in all_cases().values():
        assert case.about[0].isupper() or case.about[0] == "`", case.name
        assert not case.about.endswith("."), case.name
        assert case.requirements, case.name
        assert case.name == case.name.lower().replace("_", "-")
        assert len(case.name) < 44
