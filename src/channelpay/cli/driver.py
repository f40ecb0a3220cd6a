"""The driver of this project's node for the conformance kit: `python -m channelpay.cli.driver --home HOME`. Spec 14.4.

Runs the daemon of a home and does to it what an operator could, and what a bad day does: one JSON object a line on
standard input, one on standard output for each. It ends, and the daemon with it, when its input ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import trio

from channelpay.errors import ChannelpayError, LocalError
from channelpay.keys import NODE_PREFIX, encode_id
from channelpay.services.client import Client
from channelpay.services.connect import connect
from channelpay.services.exceptions import NotReachable, PaymentUnknown

_WAIT_S: Final = 60.0
_STOP_S: Final = 10.0
_LOOK_S: Final = 0.05
_NOWHERE: Final = "127.0.0.1:9"
"""Where the kit would listen if it did: its peers talk on the connection that it made."""


class HomeDriver:
    """One home, and its daemon while it runs."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._copy = home.with_name(f"{home.name}.snapshot")
        self._process: trio.Process | None = None

    def commands(self) -> list[str]:
        """What `do` can do; `pay-id` says that payments may carry an id."""
        return sorted([*(name[4:] for name in dir(self) if name.startswith("_do_")), "pay-id"])

    async def do(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The answer to a command; raises KeyError for one that is unknown."""
        handler = getattr(self, f"_do_{command}", None)
        if handler is None:
            raise LookupError(f"no command {command}")
        answer: dict[str, Any] | None = await handler(**arguments)
        return answer or {}

    # --- The process -----------------------------------------------------------------------

    async def _do_start(self) -> None:
        with (self._home.with_name(f"{self._home.name}.log")).open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "channelpay", "--home", os.fspath(self._home), "run"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        with trio.move_on_after(_WAIT_S):
            while self._process.poll() is None:
                with contextlib.suppress(NotReachable):
                    async with connect(self._home) as node:
                        if (await node.status()).ledger_connected:  # until then it could accept nothing
                            return
                await trio.sleep(_LOOK_S)
        raise ChannelpayError(f"the daemon does not come up; its log is {log.name}")

    async def _do_kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._process = None

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heard."""
        if self._process is None:
            return
        with trio.CancelScope(shield=True):
            self._process.send_signal(signal.SIGTERM)
            with trio.move_on_after(_STOP_S):
                await self._process.wait()
            await self._do_kill()

    async def _do_snapshot(self) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._home, self._copy, ignore=shutil.ignore_patterns("*.sock"))

    async def _do_restore(self) -> None:
        for file in self._home.glob("node.db*"):
            file.unlink()
        for file in self._copy.glob("node.db*"):
            shutil.copy2(file, self._home)

    # --- The operator ----------------------------------------------------------------------

    async def _do_id(self) -> dict[str, Any]:
        async with connect(self._home, wait_s=_WAIT_S) as node:
            status = await node.status()
        return {"node": encode_id(NODE_PREFIX, status.node_id), "account": status.account.hex()}

    async def _do_pay(self, channel: str, amount: str, count: int, payment_id: str) -> dict[str, Any]:
        async with connect(self._home, wait_s=_WAIT_S) as node:
            if count == 1:
                name = bytes.fromhex(payment_id) if payment_id else None
                paid = await node.pay(bytes.fromhex(channel), int(amount), payment_id=name)
                return {"first_n": paid.n}
            many = await node.pay_many(bytes.fromhex(channel), [int(amount)] * count)
            return {"first_n": many.first_n}

    async def _do_open(
        self, peer: str, asset: str, deposit: str, flags: int, window_s: int, max_batch: int
    ) -> dict[str, Any]:
        async with connect(self._home, wait_s=_WAIT_S) as node:
            found = await _asset(node, bytes.fromhex(asset))
            address = f"{encode_id(NODE_PREFIX, bytes.fromhex(peer))}@{_NOWHERE}"
            channel = await node.open_channel(
                address, int(deposit), one_way=bool(flags), window_s=window_s, max_batch=max_batch, asset=found
            )
        return {"channel": str(channel)}

    async def _do_close(self, channel: str, force: bool) -> None:
        async with connect(self._home, wait_s=_WAIT_S) as node:
            await node.close_channel(bytes.fromhex(channel), force=force, wait=False)

    async def _do_withdraw(self, channel: str, amount: str) -> None:
        async with connect(self._home, wait_s=_WAIT_S) as node:
            await node.withdraw(bytes.fromhex(channel), int(amount))

    async def _do_topup(self, channel: str, amount: str) -> None:
        async with connect(self._home, wait_s=_WAIT_S) as node:
            await node.topup(bytes.fromhex(channel), int(amount))

    async def _do_claim(self, channel: str) -> None:
        async with connect(self._home, wait_s=_WAIT_S) as node:
            await node.claim(bytes.fromhex(channel))

    async def _do_payments(self, channel: str) -> dict[str, Any]:
        amounts: list[str] = []
        async with connect(self._home, wait_s=_WAIT_S) as node:
            newest = (await node.status()).received
            position = 0
            while position < newest:
                async for payment in node.payments(position):
                    if payment.channel_id.hex() == channel and payment.covers == 1:
                        amounts.append(str(payment.amount))
                    position = payment.cursor
                    if position >= newest:
                        break
        return {"amounts": amounts}


async def _asset(node: Client, asset_id: bytes) -> Any:
    """The asset once the node's account holds some of it."""
    while True:
        for balance in await node.balance():
            if balance.asset.asset_id == asset_id:
                return balance.asset
        await trio.sleep(_LOOK_S)


async def _answer(driver: HomeDriver, line: str) -> None:
    """Carry out one line, and tell what came of it."""
    number = None
    try:
        order = json.loads(line)
        number, command = order.pop("id"), order.pop("command")
        told = {"answer": await driver.do(command, order)}
    except LocalError as error:
        told = {"refused": f"{error.reason}: {error}"}  # type: ignore[dict-item]
    except (NotReachable, PaymentUnknown) as error:
        told = {"error": str(error)}  # type: ignore[dict-item]
    except (ChannelpayError, LookupError, TypeError, ValueError, AttributeError) as error:
        told = {"error": f"{type(error).__name__}: {error}"}  # type: ignore[dict-item]
    print(json.dumps({"id": number, **told}), flush=True)


async def drive(home: Path) -> None:
    """Start the daemon and obey standard input until it ends."""
    driver = HomeDriver(home)
    async with trio.open_nursery() as nursery:
        try:
            await driver.do("start", {})
            print(json.dumps({"commands": driver.commands()}), flush=True)
            async with trio.wrap_file(sys.stdin) as lines:
                async for line in lines:
                    nursery.start_soon(_answer, driver, line)
        finally:
            await driver.stop()
        nursery.cancel_scope.cancel()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Drives a channelpay node for the conformance kit, by JSON lines.")
    parser.add_argument("--home", type=Path, required=True, help="the node's home; its daemon must not run yet")
    failure = ""
    try:
        trio.run(drive, parser.parse_args().home.absolute())
    except* ChannelpayError as group:
        failure = f"driver: {group.exceptions[0]}"  # Python before 3.11.4 wraps what is raised here in a group again
    if failure:
        sys.exit(failure)


if __name__ == "__main__":
    main()
