"""Disks under the production stores: an apsw VFS that knows what is durable and what a power cut may take.

A file lives in memory twice: as processes see it, in a tmpfs (SQLite's shared memory needs a real file), which is the
system's page cache and outlives a process; and as it would be found after the power failed: what was synced, and of the
rest only what luck has written. After a failed sync the two differ for good, where nothing is written once more.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import apsw

from channelpay.store import sqlite

VFS_NAME: Final = "simulated"
_SECTOR: Final = 512
_SHARED_MEMORY: Final = "-shm"

Content = dict[str, bytes]
"""What stands on a disk: file name to bytes."""

_Write = tuple[int, bytes | None]
"""Offset and data; or a size and None: the file is cut there."""


class Loss(Enum):
    """How a process ends."""

    KILLED = "killed"  # what it wrote stays in the page cache, and what was not synced is still not
    POWER = "power"  # what was not synced is lost, or some of it, or part of one write


@dataclass(slots=True)
class _File:
    """`synced` is what a power cut leaves; `pending` are the writes since, in order.

    `cached` is what processes see, once a failed sync has made that another thing than the two together.
    """

    synced: bytearray = field(default_factory=bytearray)
    pending: list[_Write] = field(default_factory=list)
    cached: bytearray | None = None

    def write(self, offset: int, data: bytes | None) -> None:
        self.pending.append((offset, data))
        if self.cached is not None:
            _apply(self.cached, [(offset, data)])

    def sync(self) -> None:
        _apply(self.synced, self.pending)
        self.pending.clear()

    def fail_to_sync(self) -> None:
        """Linux marks the pages clean: processes see them, and a second sync would succeed and write nothing."""
        self.cached = bytearray(self.seen())
        self.pending.clear()

    def seen(self) -> bytes:
        """What a process reads."""
        return self.found(self.pending) if self.cached is None else bytes(self.cached)

    def found(self, writes: list[_Write]) -> bytes:
        """What is on the disk if these of the pending writes reached it."""
        copy = bytearray(self.synced)
        _apply(copy, writes)
        return bytes(copy)


def _apply(content: bytearray, writes: list[_Write]) -> None:
    for offset, data in writes:
        if data is None:
            del content[offset:]
            continue
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data


class Disk:
    """The disk of one machine; `passed(event)` is told of every write and sync, before and after it."""

    def __init__(self, directory: Path, rng: random.Random, passed: Callable[[str], None]) -> None:
        self.directory = directory
        self.writes = 0
        self.syncs = 0
        self.full_after: int | None = None  # so many more writes succeed
        self.sync_fails = False  # the next sync, once
        self.faults: list[str] = []  # kinds of faults that were really met
        self.damaged = False  # a bit of it changed
        self.has_failed = False  # it refused to write, or a bit of it changed
        self._rng = rng
        self._passed = passed
        self._files: dict[str, _File] = {}
        self._frozen: dict[str, _File] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    # --- What SQLite does ------------------------------------------------------------------

    def opened(self, name: str) -> None:
        """A file is opened, and made if it does not exist."""
        if self._frozen is None:
            self._files.setdefault(name, _File())

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Raises apsw.FullError if there is no room."""
        kind = _kind(name)
        self._passed(f"{kind} write before")
        if self._frozen is not None:
            return
        if self.full_after is not None:
            if self.full_after <= 0:
                self.faults.append("disk full")
                self.has_failed = True
                raise apsw.FullError("simulated: no space left on the device")
            self.full_after -= 1
        self.writes += 1
        self._files[name].write(offset, bytes(data))
        self._passed(f"{kind} write after")

    def truncate(self, name: str, size: int) -> None:
        """Cut a file."""
        if self._frozen is None:
            self._files[name].write(size, None)

    def sync(self, name: str) -> None:
        """Make all writes to a file durable; raises apsw.IOError if the disk fails, and then they are gone."""
        kind = _kind(name)
        self._passed(f"{kind} sync before")
        if self._frozen is not None:
            return
        file = self._files[name]
        if self.sync_fails:
            self.sync_fails = False
            self.faults.append("sync error")
            self.has_failed = True
            file.fail_to_sync()
            self._passed(f"{kind} sync failed")
            raise apsw.IOError("simulated: input/output error on fsync")
        self.syncs += 1
        file.sync()
        self._passed(f"{kind} sync after")

    def deleted(self, name: str) -> None:
        """A file is removed."""
        if self._frozen is None:
            self._files.pop(name, None)

    def renamed(self, name: str, new: str) -> None:
        """A file has another name, and its directory was synced."""
        if self._frozen is None:
            self._files[new] = self._files.pop(name)

    # --- What happens to the machine -------------------------------------------------------

    @property
    def frozen(self) -> bool:
        """Whether the process that writes here has ended and only does not know it yet."""
        return self._frozen is not None

    def freeze(self, loss: Loss) -> None:
        """Nothing that is written from now on counts; what is found later is decided now."""
        if self._frozen is None:
            self._frozen = dict(sorted(self._files.items()))
            if loss is Loss.POWER:
                for name, file in self._frozen.items():
                    self._frozen[name] = _File(bytearray(file.found(self._survivors(file))))

    def _survivors(self, file: _File) -> list[_Write]:
        if not file.pending:
            return []
        fate = self._rng.random()
        if fate < 0.1:
            return file.pending
        if fate < 0.4:
            self.faults.append("unsynced writes lost")
            return []
        if fate < 0.7:  # any of them, in any order: the disk's queue is its own affair
            self.faults.append("unsynced writes lost")
            return [write for write in file.pending if self._rng.random() < 0.5]
        last = self._rng.randrange(len(file.pending))
        offset, data = file.pending[last]
        if data is None or len(data) <= _SECTOR:
            return file.pending[:last]
        self.faults.append("torn write")
        return [*file.pending[:last], (offset, data[: _SECTOR * self._rng.randrange(1, len(data) // _SECTOR)])]

    def thaw(self) -> None:
        """After the process has ended: the files are what `freeze` left of them."""
        if self._frozen is not None:
            files = self._frozen
            self.put({name: file.seen() for name, file in files.items()})
            self._files = files

    def content(self) -> Content:
        """What a power cut at this moment would surely leave: a consistent copy between two commits."""
        return {name: bytes(file.synced) for name, file in self._files.items()}

    def seen(self) -> Content:
        """What processes see, whether or not a power cut would leave it."""
        return {name: file.seen() for name, file in self._files.items()}

    def put(self, content: Content) -> None:
        """Replace everything, durably, with nobody using it."""
        self._frozen = None
        self.full_after, self.sync_fails = None, False
        for path in self.directory.iterdir():
            path.unlink()
        for name, data in content.items():
            (self.directory / name).write_bytes(data)
        self._files = {name: _File(bytearray(data)) for name, data in content.items()}

    def settle(self, name: str) -> None:
        """Move SQLite's log into the file, as a close in order does, so that the file alone is what counts."""
        connection = apsw.Connection(str(self.directory / name))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.close()
        self.put(
            {path.name: path.read_bytes() for path in self.directory.iterdir() if path.name in (name, f"{name}-wal")}
        )

    def remove(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.directory, ignore_errors=True)


def _kind(name: str) -> str:
    return "wal" if name.endswith("-wal") else "db"


# --- The VFS -----------------------------------------------------------------------------------


class _SimulatedFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str, filename: object, flags: list[int]) -> None:
        super().__init__("", filename, flags)  # type: ignore[arg-type]
        self._disk = disk
        self._name = name
        disk.opened(name)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.write(self._name, offset, data)
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.truncate(self._name, newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        self._disk.sync(self._name)


class SimulatedVFS(apsw.VFS):
    """One for all disks: the directory of a file says whose it is."""

    def __init__(self) -> None:
        self.disks: dict[str, Disk] = {}
        super().__init__(VFS_NAME, "")

    def _find(self, path: str) -> tuple[Disk | None, str]:
        directory, _, name = path.rpartition("/")
        return self.disks.get(directory), name

    def xOpen(self, name: object, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        disk, short = self._find(str(path)) if path else (None, "")
        if disk is None:
            return apsw.VFSFile("", name, flags)  # type: ignore[arg-type]
        return _SimulatedFile(disk, short, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        disk, name = self._find(filename)
        if disk is not None and not name.endswith(_SHARED_MEMORY):
            disk.deleted(name)
        super().xDelete(filename, syncdir)


def mount(disk: Disk) -> None:
    """Have the VFS know this disk."""
    _vfs().disks[str(disk.directory)] = disk


def unmount(disk: Disk) -> None:
    """Forget it."""
    _vfs().disks.pop(str(disk.directory), None)


def watch_renames() -> None:
    """Have the disks know what the stores rename: SQLite does not, and so the VFS is not told."""
    original = sqlite.put_in_place
    if hasattr(original, "watched"):
        return

    def put_in_place(fresh: Path, path: Path) -> None:
        original(fresh, path)
        disk = _vfs().disks.get(str(path.parent))
        if disk is not None:
            disk.renamed(fresh.name, path.name)

    put_in_place.watched = True  # type: ignore[attr-defined]
    sqlite.put_in_place = put_in_place


_MADE: list[SimulatedVFS] = []


def _vfs() -> SimulatedVFS:
    if not _MADE:
        _MADE.append(SimulatedVFS())
    return _MADE[0]
