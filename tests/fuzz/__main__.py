"""Fuzzes the decoders, a ledger and two nodes with atheris, a process for each target. See spec/19-real-processes.md.

It begins with seeds made from the test vectors and with the corpus in tests/fuzz/corpus. An input that makes a target
raise is kept, and named with the command that plays it again; it belongs into the corpus together with the fix.

Exit codes: 0 nothing was found; 1 a target raised; 2 wrong usage; 3 atheris is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from fuzz.replay import CORPUS
from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS

EXIT_OK: Final = 0
EXIT_FOUND: Final = 1
EXIT_NO_ATHERIS: Final = 3
MOST_BYTES: Final = {"requests": 2048, "two_nodes": 256}
"""Of an input; small ones are quick and easily understood."""

_MOST_BYTES: Final = 1024
_STUCK_S: Final = 30


def main() -> int:
    """Options in, exit code out."""
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target; default: 60")
    parser.add_argument("--processes", type=int, default=2, help="at one time; default: 2")
    parser.add_argument("--add", action="store_true", help="add to the corpus what reaches code that nothing else does")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play one input on the one target named")
    options = parser.parse_args()
    if unknown := [name for name in options.targets if name not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if options.seconds < 1 or options.processes < 1:
        parser.error("--seconds and --processes: at least 1")
    if options.replay:
        if len(options.targets) != 1:
            parser.error("--replay: name the one target that the input is for")
        TARGETS[options.targets[0]](options.replay.read_bytes())
        return EXIT_OK
    if importlib.util.find_spec("atheris") is None:
        print("error: atheris is not installed: pip install 'channelpay[fuzz]' (Linux only)", file=sys.stderr)
        return EXIT_NO_ATHERIS
    with ThreadPoolExecutor(options.processes) as pool:
        found = list(pool.map(partial(_fuzz, seconds=options.seconds, add=options.add), options.targets or TARGETS))
    return EXIT_OK if all(found) else EXIT_FOUND


def _fuzz(name: str, seconds: int, add: bool) -> bool:
    """Whether the target held; tells what happened."""
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    kept = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    new, seeds = kept / "new", kept / "seeds"
    new.mkdir()
    seeds.mkdir()
    for number, data in enumerate(SEEDS[name]()):
        (seeds / str(number)).write_bytes(data)
    limits = [f"-max_total_time={seconds}", f"-max_len={MOST_BYTES.get(name, _MOST_BYTES)}", f"-timeout={_STUCK_S}"]
    done = _worker(name, *limits, f"-artifact_prefix={kept}/found-", str(new), str(corpus), str(seeds))
    if done.returncode:
        files = [str(file) for file in kept.glob("found-*")]
        print(done.stderr[-8000:], file=sys.stderr)
        print(f"error: {name}: {files} in {kept}; again: scripts/fuzz {name} --replay FILE", file=sys.stderr)
        return False
    runs = next((line for line in done.stderr.splitlines() if line.startswith("Done ")), "Done")
    if add:
        _worker(name, "-merge=1", limits[1], str(corpus), str(seeds), str(new))
    print(f"{name}: {runs.removeprefix('Done ')}, {len(list(new.iterdir()))} new inputs", flush=True)
    for file in (*new.iterdir(), *seeds.iterdir()):
        file.unlink()
    new.rmdir()
    seeds.rmdir()
    kept.rmdir()
    return True


def _worker(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fuzz.worker", name, *options]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


if __name__ == "__main__":
    sys.exit(main())
