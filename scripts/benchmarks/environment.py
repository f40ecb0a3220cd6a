"""On what machine and with what versions a run was made."""

from __future__ import annotations

import os
import platform
import ssl
from importlib.metadata import version
from pathlib import Path
from typing import Final

import apsw
from cryptography.hazmat.backends.openssl import backend

_IN_MEMORY: Final = ("tmpfs", "ramfs")


def machine(directory: Path) -> dict[str, str]:
    """Processor, cores that may be used, memory, kernel, file system of `directory`, and how busy it is just now."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": file_system(directory),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def versions() -> dict[str, str]:
    """What a payment passes through."""
    return {
        "channelpay": version("channelpay"),
        "Python": platform.python_version(),
        "cryptography": f"{version('cryptography')} with {backend.openssl_version_text()}",
        "ssl": ssl.OPENSSL_VERSION,
        "apsw": f"{apsw.apsw_version()} with SQLite {apsw.sqlite_lib_version()}",
        "trio": version("trio"),
    }


def file_system(directory: Path) -> str:
    """The kind of file system that a directory is on, such as ext4."""
    place = os.fspath(directory.resolve())
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if (place == mount or place.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best[0]):
            best = mount, kind
    return best[1]


def is_durable(directory: Path) -> bool:
    """Whether what is written there outlives the machine's power: on a file system in memory, fsync costs nothing."""
    return file_system(directory) not in _IN_MEMORY


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
