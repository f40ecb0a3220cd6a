"""`channelpay conformance`: the conformance kit against any node and any ledger. Spec chapter 14."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from channelpay.cli.app import local, shared
from channelpay.cli.exits import CommandError, Exit
from channelpay.cli.inputs import AddressText
from channelpay.cli.passphrase import current_passphrase
from channelpay.cli.show import printable
from channelpay.crypto import SigningKey
from channelpay.home import HomeError
from channelpay.home.seed import SeedRefused, words_in
from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, Address, Keyring

if TYPE_CHECKING:
    from channelpay.conformance.case import Case
    from channelpay.conformance.tcp import TcpRunner

_LEAST_UNITS = 10_000_000


@click.command()
@click.argument("address", type=AddressText(NODE_PREFIX), metavar="cp1...@HOST:PORT", required=False)
@click.option(
    "--ledger", type=AddressText(LEDGER_PREFIX), metavar="cpl1...@HOST:PORT", help="The ledger it settles on."
)
@click.option(
    "--fund",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="KEYFILE",
    help="24 seed words whose account holds money on that ledger: what the cases pay with.",
)
@click.option("--control", metavar="COMMAND", help="The driver of the node (chapter 14); without it fewer cases run.")
@click.option(
    "--asset", metavar="CODE", help="The asset to pay in. Default: the first of which the account has enough."
)
@click.option("--case", "names", multiple=True, metavar="NAME", help="Play this case only; may be repeated.")
@click.option("--list", "list_only", is_flag=True, help="List the cases and end.")
@click.option("--longest", type=click.IntRange(min=0), default=45, show_default=True, metavar="SECONDS",
              help="Leave out cases that have to wait longer than this.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 64), default=6, show_default=True, metavar="N",
              help="Cases played at once.")  # fmt: skip
@click.option("--patience", type=click.FloatRange(min=0.1), default=10.0, show_default=True, metavar="SECONDS",
              help="How long an answer may take.")  # fmt: skip
@local
def conformance(
    address: Address | None,
    ledger: Address | None,
    fund: Path | None,
    control: str | None,
    asset: str | None,
    names: tuple[str, ...],
    list_only: bool,
    longest: int,
    jobs: int,
    patience: float,
) -> int:
    """Hold the node at ADDRESS, and its ledger, against the specification.

    Plays scripted conversations as the other party and judges the answers: one line for each case, with the
    requirements that it tests. Exit code 0: none that MUST hold is broken; 1: some are; a case that could not be
    played is `not run`, and no pass. The node must accept channels of anybody (chapter 14 lists the terms).
    """
    from channelpay.conformance.cases import all_cases

    known = all_cases()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.UsageError(f"no case {unknown[0]!r}; --list tells all names")
    cases = [known[name] for name in dict.fromkeys(names)] if names else list(known.values())
    if list_only:
        _list(cases)
        return Exit.OK
    if address is None or ledger is None or fund is None:
        raise click.UsageError("a run needs the node's ADDRESS, --ledger and --fund")
    account = _account(fund)
    with _driver(control) as driver:
        from channelpay.conformance.tcp import TcpRunner

        runner = TcpRunner(address, ledger, driver, patience_s=patience)  # type: ignore[arg-type]
        return _run(cases, runner, account, _asset_id(runner, account, asset), longest, jobs)


def _account(fund: Path) -> SigningKey:
    """The account key of a seed file, which may be encrypted."""
    try:
        words = words_in(fund.read_text("utf-8"), lambda: current_passphrase(shared().passphrase_file))
    except SeedRefused as error:
        raise HomeError(f"{fund}: {error}") from None
    return Keyring(words).account


@contextlib.contextmanager
def _driver(command_line: str | None) -> Iterator[object]:
    """The driver while it runs, or None."""
    if command_line is None:
        yield None
        return
    from channelpay.conformance.driving import Driver, DriverFailed

    try:
        with Driver(command_line) as driver:
            yield driver
    except (DriverFailed, OSError) as error:
        raise CommandError(Exit.NOT_REACHABLE, "driver", f"--control: {error}") from None


def _asset_id(runner: TcpRunner, account: SigningKey, code: str | None) -> bytes:
    """The asset to pay in: the one named, or the first of which the account holds enough."""
    from channelpay.conformance.kit import Kit
    from channelpay.conformance.verdict import Violation

    kit = Kit(runner, account, bytes(16))
    try:
        for view in kit.info.assets:
            if code in (None, view.code) and kit.ledger.units(account.public, view.asset_id) >= _LEAST_UNITS:
                return view.asset_id
    except Violation as violation:
        raise CommandError(Exit.NOT_REACHABLE, "ledger-unreachable", f"the ledger: {violation}") from None
    finally:
        kit.hang_up()
    wanted = f"{_LEAST_UNITS} units of {code or 'any asset'}"
    raise CommandError(Exit.REFUSED, "insufficient-funds", f"the account of --fund does not hold {wanted}")


def _list(cases: list[Case]) -> None:
    if shared().json:
        rows = [
            {
                "case": case.name,
                "requirements": list(case.requirements),
                "must": case.must,
                "needs": sorted(case.needs),
                "seconds": case.takes_s,
                "about": case.about,
            }
            for case in cases
        ]
        click.echo(json.dumps({"cases": rows}, indent=1))
        return
    for case in cases:
        click.echo(f"{case.name:<44}{' '.join(case.requirements):<24} {case.about}")


def _run(cases: list[Case], runner: TcpRunner, account: SigningKey, asset_id: bytes, longest: int, jobs: int) -> int:
    from channelpay.conformance.play import as_json, failed_must, line, summary
    from channelpay.conformance.tcp import play_all

    results = []
    for result in play_all(cases, runner, account, asset_id, longest_s=longest, jobs=jobs):
        results.append(result)
        if not shared().json:
            click.echo(printable(line(result)))
    failed = any(failed_must(result) for result in results)
    if shared().json:
        report = {"cases": [as_json(result) for result in results], "summary": summary(results), "passed": not failed}
        click.echo(json.dumps(report, indent=1))
    else:
        click.echo(summary(results))
    return 1 if failed else Exit.OK
