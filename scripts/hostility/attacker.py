"""A process that attacks: `python -m hostility.attacker KIND ADDRESS --sources N --rate R --seconds S`.

Prints one JSON object when it is done: how often what happened, and the CPU seconds that it took.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

import trio

from channelpay.keys import LEDGER_PREFIX, NODE_PREFIX, parse_address
from hostility.attacks import KINDS, Attack, run


def main() -> None:
    """Options in, counts out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("address", help="cp1...@host:port or cpl1...@host:port")
    parser.add_argument("--sources", type=int, default=32, help="addresses to come from, 127.0.0.2 and up")
    parser.add_argument("--rate", type=float, required=True, help="a second, of what the kind counts")
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    prefix = LEDGER_PREFIX if options.address.startswith(LEDGER_PREFIX + "1") else NODE_PREFIX
    sources = [f"127.0.{(1 + number) // 256}.{(1 + number) % 256 or 1}" for number in range(1, options.sources + 1)]
    attack = Attack(parse_address(prefix, options.address), sources, options.rate)
    began = time.monotonic()
    trio.run(run, options.kind, attack, options.seconds)
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {"seconds": round(time.monotonic() - began, 1), "cpu_s": round(used.ru_utime + used.ru_stime, 1)}
    print(json.dumps({**told, "counts": dict(attack.counts)}), flush=True)


if __name__ == "__main__":
    main()
