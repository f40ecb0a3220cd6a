"""Playing cases and telling what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from channelpay.conformance.case import Case
from channelpay.conformance.kit import Kit
from channelpay.conformance.runner import ControlRefused, Runner
from channelpay.conformance.verdict import NotRun, Result, Status, Violation
from channelpay.crypto import SigningKey
from channelpay.errors import ChannelpayError


def play(case: Case, runner: Runner, account: SigningKey, asset_id: bytes, longest_s: int = 60) -> Result:
    """One case against the node and the ledger of `runner`, paid from `account`; never raises for their faults.

    `longest_s`: cases that have to wait longer than this are not run.
    """
    began = runner.clock()
    status, text = _status(case, runner, account, asset_id, longest_s)
    return Result(case.name, case.requirements, case.must, status, text, runner.clock() - began)


def _status(case: Case, runner: Runner, account: SigningKey, asset_id: bytes, longest_s: int) -> tuple[Status, str]:
    commands = runner.control.commands if runner.control is not None else frozenset[str]()
    missing = sorted(case.needs - commands)
    if missing:
        return Status.NOT_RUN, f"needs a driver that can {', '.join(missing)}"
    if case.real and runner.tls is None:
        return Status.NOT_RUN, "needs real connections"
    if case.takes_s > longest_s:
        return Status.NOT_RUN, f"waits {case.takes_s} s; give --longest {case.takes_s}"
    kit = Kit(runner, account, asset_id)
    try:
        case.script(kit)
        kit.close()
    except NotRun as reason:
        return Status.NOT_RUN, str(reason)
    except Violation as violation:
        return Status.FAIL, str(violation)
    except ControlRefused as refused:
        return Status.FAIL, f"the node refused its operator: {refused}"
    except ChannelpayError as error:
        return Status.FAIL, f"{type(error).__name__}: {error}"
    finally:
        kit.hang_up()
    return Status.PASS, case.about


def line(result: Result) -> str:
    """One line of the report."""
    mark = result.status if result.must or result.status is not Status.FAIL else "warn"
    return f"{mark:<8}{result.name:<44}{' '.join(result.requirements):<24} {result.text}"


def summary(results: Iterable[Result]) -> str:
    """The last line of the report."""
    results = list(results)
    counts = Counter(result.status for result in results)
    failed = [name for result in results if failed_must(result) for name in result.requirements]
    text = f"{counts[Status.PASS]} passed, {counts[Status.FAIL]} failed, {counts[Status.NOT_RUN]} not run"
    return text + (f"; broken: {' '.join(sorted(set(failed)))}" if failed else "")


def failed_must(result: Result) -> bool:
    """Whether a requirement that MUST hold does not."""
    return result.must and result.status is Status.FAIL


def as_json(result: Result) -> dict[str, Any]:
    """A result for programs."""
    return {
        "case": result.name,
        "requirements": list(result.requirements),
        "must": result.must,
        "status": str(result.status),
        "text": result.text,
        "seconds": round(result.seconds, 3),
    }
