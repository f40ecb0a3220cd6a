"""Kills real daemons under load with SIGKILL, nodes and ledger, again and again; then counts what must not be.

A run is made of rounds. A round starts a ledger, three nodes and a service for each, kills some of them at random
moments, lets all of them recover, closes every channel, ends the daemons and judges stores, books and journals. What
a round found is added to the results file, and the next run goes on with the next seed. A round that fails keeps its
directory. See spec/19-real-processes.md.

Exit codes: 0 nothing was found; 1 a counter is not zero, or the round could not be played; 2 wrong usage; 130
interrupted.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import trio

from channelpay.daemon.link import leaves
from channelpay.errors import ChannelpayError
from channelpay.services.demo.stage import tails
from endurance.audit import Findings, judge
from endurance.chapter import TORTURE, renew
from endurance.company import CLOSE_LIMIT_S, STOP_LIMIT_S, Company, Employed, Load
from endurance.daemons import Daemon, EnduranceFailed, World, open_world, run_to_end
from endurance.results import read_rounds, sums, write_rounds

ABOUT: Final = "Rounds of scripts/torture: what was killed, what was done meanwhile, and the seven counters."
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
KILLS_A_ROUND: Final = 50
NAMES: Final = ("a", "b", "c")
MONEY: Final = 10**12
WINDOW_S: Final = 30
"""Longer than a killed daemon is ever away, so that it must answer every close."""

STUCK_S: Final = 90.0
_LONGEST_PAUSE_S: Final = 3.0
_LONGEST_WAIT_S: Final = 1.5
_MOST_PAYMENTS: Final = 400


class Round:
    """One round in a directory of its own."""

    def __init__(
        self, directory: Path, seed: int, kills: int, window_s: int = WINDOW_S, load: Load | None = None
    ) -> None:
        self.directory = directory
        self.seed = seed
        self.kills = kills
        self.window_s = window_s
        self.load = load or Load()
        self.chance = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.world: World | None = None

    async def play(self) -> dict[str, Any]:
        """What is added to the results; raises EnduranceFailed or DemoFailed if the round cannot be played."""
        begun = time.monotonic()
        async with trio.open_nursery() as nursery:
            async with open_world(self.directory, NAMES, self.window_s) as world:
                self.world = world
                company = Company(world, nursery, self.seed, self.load)
                await self._rage(world, company)
                in_time = await self._heal(company)
                actions = sum((Counter(service.actions) for service in company.services), Counter[str]())
            nursery.cancel_scope.cancel()
        found = judge(world, MONEY)
        for order in (order for order, done in in_time.items() if not done):
            found.counters.count("unresolved", f"the services did not get done with '{order}' in time")
        return self._report(found, actions, time.monotonic() - begun)

    async def _rage(self, world: World, company: Company) -> None:
        await world.begin(MONEY)
        for service in company.services:
            await company.start(service)
        await company.wait_for(10, STUCK_S)
        while sum(self.killed.values()) - self.killed["service"] < self.kills:
            await self._wait(company)
            await self._strike(world, company)
        await company.wait_for(10, STUCK_S)

    async def _wait(self, company: Company) -> None:
        """For the next moment: so many payments, or a while, which may end before a daemon is up again."""
        if self.chance.random() < 0.6:
            await company.wait_for(self.chance.randint(1, _MOST_PAYMENTS), STUCK_S)
        else:
            await trio.sleep(self.chance.uniform(0, _LONGEST_WAIT_S))

    async def _strike(self, world: World, company: Company) -> None:
        """One victim, sometimes two at once; most are started again at once, some a while later."""
        services = company.services
        count = 2 if self.chance.random() < 0.15 else 1
        everybody: list[Daemon | Employed] = [*world.nodes, *world.nodes, world.ledger, world.ledger]
        everybody.append(self.chance.choice(services))
        victims = dict.fromkeys(self.chance.sample(everybody, count))
        for victim in victims:
            if isinstance(victim, Employed):
                await company.kill(victim)
                self.killed["service"] += 1
            else:
                await world.kill(victim)
                self.killed["ledger" if victim is world.ledger else "node"] += 1
        if self.chance.random() < 0.3:
            await trio.sleep(self.chance.uniform(0, _LONGEST_PAUSE_S))
        for victim in victims:
            await (company.start(victim) if isinstance(victim, Employed) else world.start(victim))

    async def _heal(self, company: Company) -> dict[str, bool]:
        """No more kills: every payment is answered, every channel closed. Whether each was done in time."""
        stopped = await company.tell_all("stop", STOP_LIMIT_S)
        return {"stop": stopped, "close": stopped and await company.tell_all("close", CLOSE_LIMIT_S)}

    def _report(self, found: Findings, actions: Counter[str], seconds: float) -> dict[str, Any]:
        counters = found.counters
        if not counters.clean:
            raise EnduranceFailed("\n  ".join(["counters are not zero:", *counters.findings]))
        payments = {"acknowledged": found.acknowledged, "refused": found.refused, "received": found.received}
        payments["settled_without_records"] = found.without_records
        return {
            "seed": self.seed,
            "kills": {"node": self.killed["node"], "ledger": self.killed["ledger"]},
            "kills_of_services": self.killed["service"],
            "seconds": round(seconds),
            "payments": payments,
            "channels": found.channels,
            "actions": dict(sorted(actions.items())),
            "counters": dict(counters.numbers()),
        }


def main() -> int:
    """Options in, exit code out."""
    parser = argparse.ArgumentParser(
        prog="scripts/torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=KILLS_A_ROUND, help="kills of nodes and ledger in this run")
    parser.add_argument("--seed", type=int, help="play the one round with this seed, and write down nothing")
    parser.add_argument("--results", type=Path, default=TORTURE, help=f"default: {TORTURE}")
    options = parser.parse_args()
    if options.kills < 1:
        parser.error("--kills: at least one")
    if options.seed is not None:
        played = _played(options.seed, options.kills)
        return played if isinstance(played, int) else EXIT_OK
    return _run(options.kills, options.results)


def _run(kills: int, results: Path) -> int:
    """Rounds until so many more kills stand in the results; the exit code."""
    rounds = read_rounds(results)
    while kills > 0:
        seed = 1 + max((one["seed"] for one in rounds), default=0)
        played = _played(seed, min(kills, KILLS_A_ROUND))
        if isinstance(played, int):
            return played
        rounds.append(played)
        kills -= sum(played["kills"].values())
        write_rounds(results, ABOUT, rounds)
        if results == TORTURE:
            renew()
    print(json.dumps(sums(rounds), indent=1))
    return EXIT_OK


def _played(seed: int, kills: int) -> dict[str, Any] | int:
    """The results of a round, or the exit code if it failed or was interrupted."""
    directory = Path(tempfile.mkdtemp(prefix=f"torture-{seed}-", dir="/var/tmp"))
    failures: list[str] = []
    found: dict[str, Any] | None = None
    try:
        found = trio.run(run_to_end, Round(directory, seed, kills).play)
    except* (ChannelpayError, OSError) as group:
        failures = [str(error) for error in leaves(group)]
    if failures:
        print(tails(directory), file=sys.stderr)
        print(f"error: seed {seed}: {'; '.join(failures)}\neverything is kept in {directory}\n"
              f"again: scripts/torture --seed {seed} --kills {kills}", file=sys.stderr)  # fmt: skip
        return EXIT_FAILED
    shutil.rmtree(directory)
    if found is None:
        return EXIT_INTERRUPTED
    print(json.dumps(found), flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
