"""Is the simulation any good? Production code is sabotaged, one line at a time, and it must find out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from endurance.counters import Counters

from simulation.world import fast_disk

TOP: Final = Path(__file__).resolve().parents[2]
SEEDS: Final = 60
"""Within so many seeds each is found, unless it says otherwise."""

_LIMIT_S: Final = 600


@dataclass(frozen=True, slots=True)
class Sabotage:
    """`old` in `file` (below src/channelpay) becomes `new`; found within `seeds` seeds from 0 on.

    `focus` are options of the run, for what few seeds meet: a profile of faults, a lie. `also` are further replacements
    (file, old, new), where a rule stands in two places and one would hide the other.
    """

    name: str
    about: str
    file: str
    old: str
    new: str
    seeds: int = SEEDS
    focus: tuple[str, ...] = ()
    also: tuple[dict[str, str], ...] = ()

    def apply(self, source: Path) -> None:
        """Change the copy of the package in `source`; raises ValueError if the code is not as it was."""
        for change in ({"file": self.file, "old": self.old, "new": self.new}, *self.also):
            path = source / "channelpay" / change["file"]
            text = path.read_text()
            if (times := text.count(change["old"])) != 1:
                raise ValueError(f"{self.name}: {change['file']} has {times} times what is to be replaced")
            path.write_text(text.replace(change["old"], change["new"]))


@dataclass(frozen=True, slots=True)
class Found:
    """What a sabotaged run came to: the first seed that failed, or None, and what it said."""

    seed: int | None
    finding: str


def known() -> dict[str, Sabotage]:
    """All sabotages by name."""
    with (Path(__file__).parent / "sabotages.toml").open("rb") as file:
        return {name: Sabotage(name, **entry) for name, entry in tomllib.load(file).items()}


def try_out(sabotage: Sabotage, seeds: int | None = None) -> Found:
    """Run the simulation on sabotaged code until it fails."""
    with tempfile.TemporaryDirectory(dir=fast_disk(), prefix="sabotage") as directory:
        source = Path(directory) / "src"
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TOP / "src", source, ignore=ignore)
        for package in ("simulation", "endurance"):
            shutil.copytree(TOP / "scripts" / package, source / package, ignore=ignore)
        sabotage.apply(source)
        count = str(seeds or sabotage.seeds)
        command = [sys.executable, "-m", "simulation", "--seed", "0", "--seeds", count, "--first", *sabotage.focus]
        environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    line = next((line for line in run.stderr.splitlines() if line.startswith("seed ")), "")
    if run.returncode == 0:
        return Found(None, "")
    if not line:
        return Found(None, run.stderr[-500:])
    seed, _, finding = line.removeprefix("seed ").partition(": ")
    if finding.partition(":")[0] not in dict(Counters().numbers()):
        return Found(None, f"but at seed {seed} the simulation itself failed: {finding}")
    return Found(int(seed), finding)


def check(names: list[str]) -> int:
    """Try the sabotages called `names`, or all; 0 if each was found."""
    all_known = known()
    unknown = [name for name in names if name not in all_known]
    if unknown:
        print(f"no sabotage is called {', '.join(unknown)}; there are {', '.join(all_known)}", file=sys.stderr)
        return 2
    missed = 0
    for sabotage in [all_known[name] for name in names] or all_known.values():
        found = try_out(sabotage)
        if found.seed is None:
            missed += 1
            print(f"{sabotage.name}: NOT FOUND within {sabotage.seeds} seeds {found.finding}", flush=True)
        else:
            print(f"{sabotage.name}: found at seed {found.seed}: {found.finding}", flush=True)
    return 1 if missed else 0
