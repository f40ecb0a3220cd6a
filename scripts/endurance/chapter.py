"""The results in spec/19-real-processes.md, between their marks: `python -m endurance.chapter` renews them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from endurance.results import sums

SPEC: Final = Path(__file__).resolve().parents[2] / "spec"
CHAPTER: Final = SPEC / "19-real-processes.md"
TORTURE: Final = SPEC / "results" / "torture.json"
SOAK: Final = SPEC / "results" / "soak.json"


def renewed(text: str) -> str:
    """The chapter with the results that stand in the results files now."""
    for name, file, table in (("torture", TORTURE, torture_table), ("soak", SOAK, soak_table)):
        if file.exists():
            begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
            before, after = text.index(begin) + len(begin), text.index(end)
            text = f"{text[:before]}\n{table(json.loads(file.read_text()))}\n\n{text[after:]}"
    return text


def renew() -> None:
    """Write the chapter anew."""
    CHAPTER.write_text(renewed(CHAPTER.read_text()))


def torture_table(results: dict[str, Any]) -> str:
    """The sums of all rounds, as Markdown."""
    total = sums(results["rounds"])
    payments = total["payments"]
    rows = [
        ("rounds", total["rounds"]),
        ("kills of nodes", total["kills"]["node"]),
        ("kills of the ledger", total["kills"]["ledger"]),
        ("channels", total["channels"]),
        ("payments acknowledged", payments["acknowledged"]),
        ("payments refused", payments["refused"]),
        ("settled_without_records", payments["settled_without_records"]),
        *total["counters"].items(),
    ]
    return "\n".join(["| | in all |", "|---|--:|", *(f"| {name} | {count:,} |" for name, count in rows)])


def soak_table(report: dict[str, Any]) -> str:
    """What each daemon used, as Markdown."""
    lines = [
        f"{report['minutes']:g} minutes after a warm-up of {report['warm_up_minutes']:g}, "
        f"{report['payments']:,} payments, {report['payments_per_s']} a second:",
        "",
        "| daemon | measure | mean | least | most | growth, % an hour |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, measures in report["daemons"].items():
        for measure, facts in measures.items():
            unit = 2**20 if measure == "memory" else 1
            numbers = " | ".join(f"{facts[key] / unit:.1f}" for key in ("mean", "least", "most"))
            shown = "memory, MiB" if measure == "memory" else measure
            lines.append(f"| {name} | {shown} | {numbers} | {facts['percent_per_hour']:+.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    renew()
