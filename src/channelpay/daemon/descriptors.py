"""File descriptors: every connection takes one, and a process that has none left cannot even open its store."""

from __future__ import annotations

import resource

from channelpay.limits import DESCRIPTOR_RESERVE, MAX_CONNECTIONS, MAX_PENDING_HANDSHAKES


def connections_possible() -> int:
    """How many authenticated connections this process can keep, at most MAX_CONNECTIONS.

    Raises its own limit of open files as far as the system lets it; handshakes under way, stores and logs have theirs
    beside the connections, or half of all where that is little.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + MAX_PENDING_HANDSHAKES + DESCRIPTOR_RESERVE
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    free = wanted if soft == resource.RLIM_INFINITY else soft
    return min(MAX_CONNECTIONS, max(free // 2, free - MAX_PENDING_HANDSHAKES - DESCRIPTOR_RESERVE))
