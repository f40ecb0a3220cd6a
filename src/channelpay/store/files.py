"""What a store is as files: the lock of its process, and the names that say how far it has come. Spec N-8, N-30, N-34.

A store has its own name only when it is complete and on disk. Beside it stand `.lock`, which stays, and, while
they are made, `.creating` and `.restoring`.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from channelpay.errors import StoreFailed

# --- Its names -----------------------------------------------------------------------------------


def being_created(path: Path) -> Path:
    """The new store that takes the name `path` when it is complete."""
    return path.with_name(path.name + ".creating")


def being_restored(path: Path) -> Path:
    """The copy of a backup that takes the place of `path` when it is ready; while it is there, no new file is made."""
    return path.with_name(path.name + ".restoring")


def is_lost(path: Path) -> bool:
    """Whether a store that was opened at `path` once, where its lock has stayed, is there no more."""
    under_way = (being_created(path), being_restored(path))
    return _lock_of(path).exists() and not any(file.exists() for file in (path, *under_way))


def put_in_place(fresh: Path, path: Path) -> None:
    """Give a file that is complete and on disk its name, durably; raises StoreFailed."""
    try:
        fresh.rename(path)
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror}") from error
    sync(path.parent)


def touch(path: Path) -> None:
    """A file that its owner alone can read; SQLite gives its other files the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror}") from error


def sync(path: Path) -> None:
    """What was written to a file, or the names in a directory, are on disk; raises StoreFailed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror}") from error


# --- Its lock ------------------------------------------------------------------------------------


def lock_store(path: Path, name: str) -> int:
    """A locked descriptor of `path`.lock; the system drops the lock when the process ends, however it ends.

    Raises StoreFailed if another process has it.
    """
    lock_path = _lock_of(path)
    try:
        descriptor = os.open(lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreFailed(f"{lock_path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreFailed(f"{path}: this {name} is used by process {holder}; only one may use it") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor


def last_opened(path: Path) -> int:
    """When a process last opened the store for writing, in ns: its lock is written then. 0: never, or it is a copy."""
    try:
        return _lock_of(path).stat().st_mtime_ns
    except OSError:
        return 0


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")
