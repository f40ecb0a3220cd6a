"""What a program has made durable, in order: names that are made or changed, and what is synced then."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


def watch(monkeypatch: pytest.MonkeyPatch, top: Path) -> list[str]:
    """From now on: `mkdir A`, `rename A B`, `sync A` of files, `sync A: names` of directories, below `top`.

    SQLite's own calls are not among them.
    """
    seen: list[str] = []
    mkdir, rename, fsync = os.mkdir, os.rename, os.fsync

    def name(path: Any) -> str:
        return Path(path).relative_to(top).as_posix()

    def watched_mkdir(path: Any, *rest: Any) -> None:
        mkdir(path, *rest)
        seen.append(f"mkdir {name(path)}")

    def watched_rename(old: Any, new: Any) -> None:
        rename(old, new)
        seen.append(f"rename {name(old)} {name(new)}")

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        names = f": {' '.join(sorted(file.name for file in path.iterdir()))}" if path.is_dir() else ""
        seen.append(f"sync {name(path)}{names}")

    monkeypatch.setattr(os, "mkdir", watched_mkdir)
    monkeypatch.setattr(os, "rename", watched_rename)
    monkeypatch.setattr(os, "fsync", watched_fsync)
    return seen
