"""What this process has used since it started, as the kernel counts it."""

from __future__ import annotations

import os
import resource
import socket
import stat
from pathlib import Path
from typing import Any, Final

_BYTES_SENT_AT: Final = 200
"""Where tcpi_bytes_sent, a u64, stands in Linux's struct tcp_info (include/uapi/linux/tcp.h)."""


def used(commits: int) -> dict[str, Any]:
    """The fields of `stage.Usage`; `commits` are counted by the store."""
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_s": cpu.ru_utime + cpu.ru_stime,
        "peak_kib": peak_kib(os.getpid()),
        "commits": commits,
        "wire_bytes": tcp_bytes_sent(),
    }


def peak_kib(pid: int) -> int:
    """The most memory that a process ever had resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def tcp_bytes_sent() -> int:
    """Bytes that left by the TCP connections which are open now, TLS records whole, headers of TCP and IP left out."""
    return sum(_sent(int(name)) for name in os.listdir("/proc/self/fd"))


def _sent(descriptor: int) -> int:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return 0
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
                return 0
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_SENT_AT + 8)
    except OSError:
        return 0  # it was closed meanwhile, as the directory's own descriptor is
    return int.from_bytes(info[_BYTES_SENT_AT:], "little")
