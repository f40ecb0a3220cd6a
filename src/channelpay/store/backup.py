"""Copies of a store: made while the daemon runs, judged before they are needed, put back. Spec N-25.

A backup is a directory with the store as one SQLite file and `backup.json`, which says whose it is and how
the file reads to the bit. It has its name only when it is whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final

from channelpay.errors import StoreFailed
from channelpay.ledger.audit import audit
from channelpay.node.ledger_link import RESTORED
from channelpay.node.ready import Persist
from channelpay.store import ledger_schema, node_schema
from channelpay.store.files import being_restored, lock_store, put_in_place, sync
from channelpay.store.ledger import LedgerStore
from channelpay.store.ledger_books import SqlReadBooks
from channelpay.store.ledger_check import check_rows
from channelpay.store.node import NodeStore
from channelpay.store.scrub import check_every_row
from channelpay.store.sqlite import Schema, open_reader

MANIFEST: Final = "backup.json"
NODE: Final = "node"
LEDGER: Final = "ledger"
_FORMAT: Final = 1
_MOST_MANIFEST_BYTES: Final = 4096
_ALSO_OF_A_STORE: Final = ("-wal", "-shm", "-journal")


class BackupRefused(StoreFailed):
    """What was asked for makes no sense here; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `backup.json` says. Ids are hexadecimal, `created` is Unix time in seconds."""

    format: int
    kind: str  # node or ledger
    owner: str  # id of the node, or of the ledger
    ledger: str  # id of the ledger on which the node settles, or of the ledger itself
    version: int  # of the store's tables
    created: int
    size: int  # bytes of the file
    sha256: str  # of the file


@dataclass(frozen=True, slots=True)
class _Kind:
    """What differs between the stores of nodes and of ledgers."""

    schema: Schema
    owners: str  # SQL that tells owner and ledger
    judge: Callable[[Path], None]  # raises StoreFailed unless what the file says holds together
    prepare: Callable[[Path, bytes, bytes], None]  # makes a copy ready for use; raises StoreFailed


def _judge_node(path: Path) -> None:
    database = open_reader(path, node_schema.SCHEMA)
    try:
        check_every_row(database)
    finally:
        database.close()


def _judge_ledger(path: Path) -> None:
    database = open_reader(path, ledger_schema.SCHEMA)
    try:
        found = audit(SqlReadBooks(database))
        if not found.balanced:
            raise StoreFailed(f"{path}: the books do not balance: {found.discrepancies[0]}")
        check_rows(database)
    finally:
        database.close()


def _mark_restored(path: Path, node_id: bytes, ledger_id: bytes) -> None:
    """A node must know that its store came from a backup before it pays (spec C-28)."""
    store = NodeStore(path, node_id, ledger_id)
    try:
        store.commit(Persist(restored_until=RESTORED))
    finally:
        store.close()


def _open_once(path: Path, ledger_id: bytes, _: bytes) -> None:
    LedgerStore.open(path, ledger_id).close()


_KINDS: Final = {
    NODE: _Kind(node_schema.SCHEMA, "SELECT node_id, ledger_id FROM identity", _judge_node, _mark_restored),
    LEDGER: _Kind(ledger_schema.SCHEMA, "SELECT ledger_id, ledger_id FROM ledger", _judge_ledger, _open_once),
}


# --- Making one --------------------------------------------------------------------------------


def create(kind: str, store: Path, directory: Path, now: int) -> Manifest:
    """A backup of `store` in a new `directory`, as the store is at one moment, beside whoever writes it.

    It is on disk and has been judged as by `verify` when this returns. Raises BackupRefused if the directory
    exists, StoreFailed if the store cannot be read or is damaged.
    """
    if os.path.lexists(directory):
        raise BackupRefused(f"{directory} exists already; a backup is made in a new directory")
    beside = directory.with_name(directory.name + ".unfinished")
    try:
        beside.mkdir(mode=0o700)
        beside.chmod(0o700)  # whatever the umask took away
        manifest = _copy_into(beside, kind, store, now)
        verify(beside)
        put_in_place(beside, directory)
    except FileExistsError:
        raise BackupRefused(f"{beside} is left from a backup that was cut off; remove it") from None
    except OSError as error:
        _remove(beside)
        raise StoreFailed(f"{beside} cannot be made: {error.strerror}") from error
    except BaseException:
        _remove(beside)
        raise
    return manifest


def _copy_into(directory: Path, kind: str, store: Path, now: int) -> Manifest:
    schema = _KINDS[kind].schema
    copy = directory / _file_of(kind)
    database = open_reader(store, schema)
    try:
        database.copy_to(copy)
    finally:
        database.close()
    owner, ledger = _owners(kind, copy)
    manifest = Manifest(_FORMAT, kind, owner, ledger, schema.version, now, copy.stat().st_size, _digest(copy))
    _write(directory / MANIFEST, json.dumps(asdict(manifest), indent=1) + "\n")
    sync(directory)
    return manifest


def _owners(kind: str, path: Path) -> tuple[str, str]:
    database = open_reader(path)
    try:
        row = database.row(_KINDS[kind].owners)
    finally:
        database.close()
    if row is None:
        raise StoreFailed(f"{path} does not say whose it is")
    return row[0].hex(), row[1].hex()


# --- Judging one -------------------------------------------------------------------------------


def verify(directory: Path) -> Manifest:
    """What a backup says of itself, after all of it was checked.

    The file is the one that was written, to the bit; SQLite finds its structure sound; every row has its checksum,
    and a ledger's books balance. Raises StoreFailed. Nothing is written.
    """
    manifest = read_manifest(directory)
    kind = _KINDS[manifest.kind]
    path = directory / _file_of(manifest.kind)
    try:
        size, digest = path.stat().st_size, _digest(path)
    except OSError as error:
        raise StoreFailed(f"{path} cannot be read: {error.strerror}") from None
    if (size, digest) != (manifest.size, manifest.sha256):
        raise StoreFailed(f"{path} is damaged: it is not what was written into this backup; use another one")
    if manifest.version > kind.schema.version:
        raise StoreFailed(
            f"{path} has version {manifest.version}, this program knows {kind.schema.version}: use a newer channelpay"
        )
    _check_structure(path)
    if manifest.version == kind.schema.version:  # an older one is judged when it has been brought to today's
        kind.judge(path)
    if _owners(manifest.kind, path) != (manifest.owner, manifest.ledger):
        raise StoreFailed(f"{directory / MANIFEST} names another owner than {path}")
    return manifest


def _check_structure(path: Path) -> None:
    database = open_reader(path)
    try:
        found = database.rows("PRAGMA integrity_check(1)") + database.rows("PRAGMA foreign_key_check")
    finally:
        database.close()
    if found != [("ok",)]:
        raise StoreFailed(f"{path} is damaged: {found[0][0]}")


def read_manifest(directory: Path) -> Manifest:
    """What `backup.json` says; raises StoreFailed."""
    path = directory / MANIFEST
    try:
        with path.open("rb") as file:
            values: Any = json.loads(file.read(_MOST_MANIFEST_BYTES))
        if isinstance(values, dict) and type(values.get("format")) is int and values["format"] > _FORMAT:
            raise StoreFailed(f"{path} is of a newer format: use a newer channelpay")
        manifest = Manifest(**values)
        bytes.fromhex(manifest.owner + manifest.ledger + manifest.sha256)
    except OSError as error:
        raise StoreFailed(f"{directory} is no backup: {path.name} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise StoreFailed(f"{path} is damaged; use another backup") from None
    numbers = (manifest.format, manifest.version, manifest.created, manifest.size)
    if manifest.kind not in _KINDS or not all(type(number) is int for number in numbers):
        raise StoreFailed(f"{path} is damaged; use another backup")
    return manifest


# --- Putting one back --------------------------------------------------------------------------


def restore(
    directory: Path, kind: str, store: Path, owner: bytes, ledger: bytes, now: int, *, replace: bool
) -> Path | None:
    """Put a backup in the place of `store`; where the store that was there is now, if there was one.

    A node's store is marked as restored before it has its name. Raises BackupRefused if there is a store and not
    `replace`, or if the backup is another owner's; StoreFailed if the backup is damaged or a process uses the store.
    """
    manifest = verify(directory)
    if (manifest.kind, manifest.owner, manifest.ledger) != (kind, owner.hex(), ledger.hex()):
        raise BackupRefused(
            f"{directory} is of {manifest.kind} {manifest.owner[:16]}… on ledger {manifest.ledger[:16]}…: not of this "
            f"home, whose seed and configuration name {kind} {owner.hex()[:16]}… on ledger {ledger.hex()[:16]}…"
        )
    lock = lock_store(store, manifest.kind)
    try:
        if store.exists() and not replace:
            raise BackupRefused(f"{store} exists; --replace puts the backup in its place and keeps it beside")
        fresh = being_restored(store)
        _copy_back(directory / _file_of(kind), fresh)
        _KINDS[kind].prepare(fresh, owner, ledger)
        _remove_lock(fresh)
        if manifest.version != _KINDS[kind].schema.version:
            _KINDS[kind].judge(fresh)
        sync(store.parent)
        kept = _put_aside(store, now)
        sync(store.parent)  # a log of the old store must not stand beside the new one
        put_in_place(fresh, store)
    except OSError as error:
        raise StoreFailed(f"{store} cannot be restored: {error}") from error
    finally:
        os.close(lock)
    return kept


def _copy_back(source: Path, target: Path) -> None:
    for end in ("", *_ALSO_OF_A_STORE):
        target.with_name(target.name + end).unlink(missing_ok=True)  # of a restore that was cut off
    database = open_reader(source)
    try:
        database.copy_to(target)
    finally:
        database.close()


def _remove_lock(store: Path) -> None:
    store.with_name(store.name + ".lock").unlink(missing_ok=True)


def _put_aside(store: Path, now: int) -> Path | None:
    """Rename a store, which may be newer than the backup, with all that belongs to it."""
    aside = store.with_name(f"{store.name}.replaced-{now}")
    kept = aside if store.exists() else None
    for end in ("", *_ALSO_OF_A_STORE):
        with suppress(FileNotFoundError):
            store.with_name(store.name + end).rename(aside.with_name(aside.name + end))
    return kept


# --- Files -------------------------------------------------------------------------------------


def _file_of(kind: str) -> str:
    return f"{kind}.db"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _remove(directory: Path) -> None:
    with suppress(OSError):
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
