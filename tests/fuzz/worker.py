"""One fuzzing process: `python -m fuzz.worker TARGET [libFuzzer's options and directories]`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["channelpay"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until an option says that it is enough, or a target raises; libFuzzer decides on the exit code."""
    name, *options = sys.argv[1:]
    again = f"{sys.executable} -m fuzz.worker {name}"  # how libFuzzer starts the processes of a merge, by a shell
    atheris.Setup([again, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
