"""Two processes that cannot reach each other, and can again."""

from __future__ import annotations

from simulation.network import Network


def part(network: Network, a: str, b: str) -> None:
    """New connections between the two hang, and those that there are fall silent, both ways."""
    network.unreachable.add(frozenset((a, b)))
    for stream in (*network.between(a, b), *network.between(b, a)):
        network.silence(stream)


def join(network: Network, a: str, b: str) -> None:
    """They can connect again; nothing comes on what had fallen silent."""
    network.unreachable.discard(frozenset((a, b)))
