"""A run as JSON, as a table for people, and as a table of the specification."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from channelpay import __version__
from channelpay.cli.show import print_table
from hostility.arena import HostileFailed

BEGIN: Final = "<!-- scripts/hostile writes from here -->"
END: Final = "<!-- to here -->"

MOST_RATIO: Final = 2.0
"""The 99th percentile of honest work under an attack, in times of the one without."""

MOST_GROWN_MIB: Final = 128.0
"""512 handshakes of at most 100 KiB, and as much again for what Python keeps."""

MOST_DESCRIPTORS: Final = 700
"""512 handshakes, those that linger for a second, and what a quiet daemon has open."""

_HEADERS: Final = (
    "attack", "what", "p99 calm ms", "p99 attacked ms", "ratio", "newcomers", "grown MiB", "descriptors", "CPU", "kept",
)  # fmt: skip


@dataclass
class Report:
    """What a run has found so far: outcomes of attacks by name, of the closes, and why a scenario could not be played.

    `small`: too short for a statement about latency.
    """

    small: bool = False
    attacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    closes: dict[str, Any] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether everything was played and kept its bounds."""
        faults = [fault for found in self.attacks.values() for fault in attack_faults(found, self.small)]
        return not faults and not self.failures and (self.closes is None or not close_faults(self.closes))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "version": __version__,
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "seconds": round(self.seconds),
            "load_average": round(os.getloadavg()[1], 1),
            "attacks": {
                name: {**found, "faults": attack_faults(found, self.small)} for name, found in self.attacks.items()
            },
            "closes": None if self.closes is None else {**self.closes, "faults": close_faults(self.closes)},
            "failures": self.failures,
            "kept": self.kept,
        }

    def print(self) -> None:
        """For people, on stdout."""
        found = self.as_json()
        if found["attacks"]:
            print_table([header.upper() for header in _HEADERS], _rows(found))
        if found["closes"]:
            print(_closes(found["closes"]))
        for name, why in self.failures.items():
            print(f"FAILED {name}: {why}")


def attack_faults(found: dict[str, Any], small: bool) -> list[str]:
    """What an attack broke; latency is not judged where the run was too short for it."""
    let_in, tried = found["newcomers"]
    bounds = [
        (small or found["ratio"] <= MOST_RATIO, f"the 99th percentile is {found['ratio']} times the calm one"),
        (not found["failed"], f"{len(found['failed'])} honest requests failed"),
        (let_in * 2 >= tried, f"{let_in} of {tried} newcomers were let in"),
        (found["grown_mib"] <= MOST_GROWN_MIB, f"{found['grown_mib']} MiB more memory"),
        (found["descriptors"] <= MOST_DESCRIPTORS, f"{found['descriptors']} descriptors"),
        ("STILL OPEN" not in found["counts"], "bad input did not end its connection"),
    ]
    return [fault for kept, fault in bounds if not kept]


def close_faults(found: dict[str, Any]) -> list[str]:
    """What is wrong with the answers to stale closes."""
    bounds = [
        (found["answered"] == found["channels"], f"{found['answered']} of {found['channels']} closes were answered"),
        (found["last_s"] < found["window_s"] / 2, f"the last answer took {found['last_s']} s"),
        (
            found["settled_at_newest"] == found["channels"],
            f"{found['settled_at_newest']} settled at their newest state",
        ),
        (not found["failed"], f"{len(found['failed'])} honest payments failed"),
    ]
    return [fault for kept, fault in bounds if not kept]


def _rows(found: dict[str, Any]) -> Iterator[list[str]]:
    for name, one in found["attacks"].items():
        calm, attacked = (median(phase) for phase in one["p99_ms"])
        newcomers = f"{one['newcomers'][0]} of {one['newcomers'][1]}"
        yield [
            name, one["attack"]["about"], f"{calm:.1f}", f"{attacked:.1f}", f"{one['ratio']:.2f}", newcomers,
            f"{one['grown_mib']:.1f}", str(one["descriptors"]), f"{one['cpu']:.0%}",
            "; ".join(one["faults"]) or "yes",
        ]  # fmt: skip


def _closes(found: dict[str, Any]) -> str:
    return (
        f"{found['channels']:,} channels closed with an old state within {found['closes_sent_s']} s, window "
        f"{found['window_s']} s: {found['answered']:,} answered, the first after {found['first_s']} s, half of them "
        f"after {found['median_s']} s, the last after {found['last_s']} s; {found['settled_at_newest']:,} settled at "
        f"their newest state. Honest payments meanwhile: 99th percentile {found['p99_ms'][1]:.1f} ms, "
        f"{found['p99_ms'][0]:.1f} ms before."
    )


def markdown(found: dict[str, Any]) -> str:
    """The committed results as the chapter shows them."""
    lines = [_HEADERS, ["---"] * len(_HEADERS), *_rows(found)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    about = f"channelpay {found['version']}, {found['machine']}, Python {found['python']}"
    load = f"load average of the machine, which was not ours alone: {found['load_average']}"
    closes = f"\n\n{_closes(found['closes'])}" if found["closes"] else ""
    return f"{about}; {load}. The run took {found['seconds']} s.\n\n{table}{closes}"


def renew(chapter: Path, results: Path) -> None:
    """Write the results into the chapter, in place of what stands between its two markers."""
    text = chapter.read_text("utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise HostileFailed(f"{chapter} has no place for the results: a line {BEGIN!r} and below it a line {END!r}")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    found = json.loads(results.read_text("utf-8"))
    chapter.write_text(f"{before}{BEGIN}\n\n{markdown(found)}\n\n{after}", "utf-8")
