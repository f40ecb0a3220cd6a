"""A small round of scripts/torture finds nothing; the same round, tampered with, is found out counter by counter."""

from __future__ import annotations

import importlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from channelpay.statements import ZERO_HALF
from channelpay.store.batches import HEAD
from channelpay.store.ledger_schema import SUMMED
from channelpay.store.rows import checksum

KILLS = 6
MONEY = 10**12


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short path: sockets are made below it."""
    return tmp_path_factory.mktemp("t")


async def test_kills_lose_nothing_and_the_judge_would_see_it(place: Path) -> None:
    torture, company, audit = (importlib.import_module(f"endurance.{name}") for name in ("torture", "company", "audit"))
    played = torture.Round(place, seed=7668, kills=KILLS, window_s=10, load=company.Load(action_every_s=0.5))
    report = await played.play()
    assert set(report["counters"].values()) == {0}
    assert sum(report["kills"].values()) >= KILLS
    assert report["payments"]["acknowledged"] > 100
    assert audit.judge(played.world, MONEY).counters.clean
    for counter, name, tamper in TAMPERINGS:
        with_changes(place, name, tamper)
        assert getattr(audit.judge(played.world, MONEY).counters, counter) > 0, counter
        restore(place, name)
    assert audit.judge(played.world, MONEY).counters.clean


# --- Tampering -------------------------------------------------------------------------------


def with_changes(place: Path, name: str, tamper: Callable[[Path], None]) -> None:
    file = place / name
    shutil.copy2(file, file.with_suffix(".whole"))
    tamper(file)


def restore(place: Path, name: str) -> None:
    file = place / name
    for leftover in file.parent.glob(f"{file.name}-*"):
        leftover.unlink()
    file.with_suffix(".whole").replace(file)


def sql(*statements: str) -> Callable[[Path], None]:
    """Who tampers with rows forges their checksums too, with `checksum(...)`."""

    def tamper(file: Path) -> None:
        database = apsw.Connection(str(file))
        database.create_scalar_function("checksum", checksum, deterministic=True)
        for statement in statements:
            database.execute(statement)
        assert database.total_changes() > 0, "nothing was tampered with"
        database.close()

    return tamper


def settled_otherwise(change: str) -> Callable[[Path], None]:
    """Every settled channel of a ledger changed."""
    return sql(
        "DROP TRIGGER settled_for_ever",
        f"UPDATE channel SET {change} WHERE status = 2",
        f"UPDATE channel SET sum = checksum({SUMMED['channel']}) WHERE status = 2",
    )


def short_of_the_newest(units: int = 0) -> Callable[[Path], None]:
    """The newest received batch is gone, and the channel says that it never was, with `units` more before it."""

    def tamper(file: Path) -> None:
        database = apsw.Connection(str(file))
        newest = "SELECT channel, payer, first_n - 1, id FROM batches ORDER BY position DESC LIMIT 1"
        ref, *before, batch = database.execute(newest).fetchone()
        half = "SELECT last_n, total, h FROM batches WHERE channel = ? AND payer = ? AND last_n = ?"
        n, total, h = database.execute(half, (ref, *before)).fetchone() or ZERO_HALF[:3]  # there may be none before
        (hot,) = database.execute("SELECT hot FROM halves WHERE ref = ?", (ref,)).fetchone()
        hot = hot[:48] + struct.pack(">QQ32s", n, total + units, h) + hot[96:]  # after this node's own half
        database.execute("UPDATE halves SET hot = ?, sum = ? WHERE ref = ?", (hot, checksum(ref, hot), ref))
        database.execute("DELETE FROM batches WHERE id = ?", (batch,))
        database.close()

    return tamper


def lines(change: Callable[[list[Any]], list[Any]]) -> Callable[[Path], None]:
    """Alters the first entry of the journal for which `change` gives another list of entries than itself alone."""

    def tamper(file: Path) -> None:
        entries = [json.loads(line) for line in file.read_text().splitlines()]
        index = next(i for i, entry in enumerate(entries) if change(entry) != [entry])
        entries[index : index + 1] = change(entries[index])
        file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    return tamper


def forgotten(what: str) -> Callable[[list[Any]], list[Any]]:
    return lambda entry: [] if entry[0] == what else [entry]


def paid_for_nothing(entry: list[Any]) -> list[Any]:
    """A payment that the service was told is paid, and nobody made."""
    other = "ff" * 16
    return [["asked", entry[1], [[other, 5]]], ["paid", entry[1], [other], 0]] if entry[0] == "asked" else [entry]


OTHER_RECORDS = "(SELECT records FROM batches WHERE position > 0 LIMIT 1)"
SUMMED_HEAD = HEAD.rpartition(",")[0]
TAMPERINGS = (
    ("lost", "service-a.paid", lines(lambda e: [*paid_for_nothing(e), e] if e[0] == "asked" else [e])),
    ("lost", "a/node.db", short_of_the_newest()),
    ("duplicated", "service-b.received", lines(lambda e: [e, e])),
    (
        "duplicated",
        "ledger/ledger.db",
        settled_otherwise("deposit0 = deposit0 + 1000000000, out0 = out0 + 1000000000"),
    ),
    ("phantom", "service-a.paid", lines(lambda e: [["refused", *e[1:3]]] if e[0] == "paid" else [e])),
    ("drift", "b/node.db", short_of_the_newest(units=1)),
    (
        "drift",
        "c/node.db",
        sql(
            f"UPDATE batches SET records = {OTHER_RECORDS} WHERE position = 0",
            "UPDATE batches SET body_sum = checksum(repeated, memos, records) WHERE position = 0",
            f"UPDATE batches SET head_sum = checksum({SUMMED_HEAD}) WHERE position = 0",
        ),
    ),
    (
        "conservation",
        "ledger/ledger.db",
        sql("UPDATE balance SET units = units + 1, sum = checksum(account, asset_id, units + 1)"),
    ),
    ("unresolved", "service-c.paid", lines(forgotten("paid"))),
    (
        "below_entitlement",
        "ledger/ledger.db",
        settled_otherwise("out0 = out0 - min(out0, 1), out1 = out1 + min(out0, 1)"),
    ),
)
