"""The kit as a program against real daemons: with a driver, without one, and against a node that is set to refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from channelpay.conformance.cases import all_cases
from channelpay.home import Home
from channelpay.keys import NODE_PREFIX, encode_id
from channelpay.services.demo.stage import Stage, free_ports, open_stage, tails

LONGEST_S = 16
"""Longer waits are played in memory, where time costs nothing."""


@dataclass
class Rig:
    """A ledger that runs, homes of nodes, and words whose account is rich."""

    stage: Stage
    directory: Path
    ledger: str
    words: Path

    async def home(self, name: str, *arguments: str) -> tuple[Home, str]:
        """A new node's home, and its address."""
        (port,) = free_ports(1)
        place = self.directory / name
        await self.stage.command(
            "--home", str(place), "init", "--ledger", self.ledger, "--listen", f"127.0.0.1:{port}", *arguments
        )
        home = Home(place)
        return home, f"{encode_id(NODE_PREFIX, home.keyring().identity.public)}@127.0.0.1:{port}"

    async def play(self, address: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        """(exit code, report) of the kit."""
        command = [sys.executable, "-m", "channelpay", "conformance", address, "--ledger", self.ledger, "--json"]
        with trio.fail_after(240):
            done = await trio.run_process(
                [*command, "--fund", str(self.words), "--longest", str(LONGEST_S), *arguments],
                check=False, capture_stdout=True,
            )  # fmt: skip
        return done.returncode, json.loads(done.stdout)


@asynccontextmanager
async def rig(directory: Path) -> AsyncIterator[Rig]:
    """A ledger with USD, on which somebody has a thousand."""
    try:
        async with open_stage(directory) as stage:
            (port,) = free_ports(1)
            ledger = str(directory / "ledger")
            listen = f"127.0.0.1:{port}"
            made = await stage.command("--home", ledger, "ledger", "init", "--listen", listen, "--min-window", "10")
            await stage.start("ledger", "channelpay", "--home", ledger, "ledger", "serve", *ADMITTING)
            await stage.command("--home", ledger, "ledger", "asset", "create", "USD", "--scale", "6", "--wait", "60")
            found = Rig(stage, directory, str(made["address"]), directory / "pocket" / "seed")
            await found.home("pocket")
            account = await stage.command("--home", str(directory / "pocket"), "id")
            await stage.command("--home", ledger, "ledger", "issue", str(account["account"]), "1000 USD")
            yield found
            await stage.command("--home", ledger, "ledger", "audit")
    except BaseException:
        print(tails(directory))
        raise


ADMITTING = [  # the kit comes from one address, hundreds of times
    word for key in ("address_per_s", "address_burst", "per_s", "burst") for word in ("--set", f"admission.{key}=10000")
]

ACCEPTING = (
    *ADMITTING,
    "--auto-accept", "--set", "policy.min_window_s=10", "--set", "limits.max_unacked=100",
    "--set", 'limits.max_unacked_value=["0.006 USD"]', "--set", 'limits.min_payment=["0.000002 USD"]',
)  # fmt: skip


async def test_our_node_and_ledger_conform(tmp_path: Path) -> None:
    async with rig(tmp_path) as here:
        home, address = await here.home("node", *ACCEPTING)
        driver = f"{sys.executable} -m channelpay.cli.driver --home {home.path}"
        code, report = await here.play(address, "--control", driver)
        wrong = {row["case"]: row["text"] for row in report["cases"] if row["status"] == "fail"}
        assert (code, wrong, report["passed"]) == (0, {}, True)
        waiting = {case.name for case in all_cases().values() if case.takes_s > LONGEST_S}
        assert {row["case"] for row in report["cases"] if row["status"] == "not run"} == waiting
        assert {row["case"] for row in report["cases"]} == set(all_cases())


async def test_without_a_driver_and_against_a_node_that_refuses(tmp_path: Path) -> None:
    async with rig(tmp_path) as here:
        home, address = await here.home("node", *ACCEPTING)
        await here.stage.start("node", "channelpay", "--home", str(home.path), "run")
        names = ("pay-one", "node-pays-one", "kill-keeps-what-was-acknowledged")
        code, report = await here.play(address, *[word for name in names for word in ("--case", name)])
        assert [row["status"] for row in report["cases"]] == ["pass", "not run", "not run"]
        assert code == 0

        home, address = await here.home("miser")
        await here.stage.start("miser", "channelpay", "--home", str(home.path), "run")
        code, report = await here.play(address, "--case", "open-accepted", "--case", "ping-answered-in-order")
        assert [row["status"] for row in report["cases"]] == ["fail", "pass"]
        assert (code, report["passed"]) == (1, False)
        assert report["summary"] == "1 passed, 1 failed, 0 not run; broken: C-4 C-5 S-14 S-9"


async def test_a_driver_that_does_not_start_is_named(tmp_path: Path) -> None:
    async with rig(tmp_path) as here:
        _, address = await here.home("node")
        nothing = f"{sys.executable} -m channelpay.cli.driver --home {tmp_path / 'nowhere'}"
        command = [sys.executable, "-m", "channelpay", "conformance", address, "--ledger", here.ledger]
        done = await trio.run_process(
            [*command, "--fund", str(here.words), "--control", nothing], check=False, capture_stderr=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 3
        assert b"--control" in done.stderr


pytestmark = pytest.mark.slow
