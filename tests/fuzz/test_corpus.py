"""What was found once stays found, and the corpus covers the decoders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import coverage
import pytest

from channelpay import codec, framing
from fuzz.replay import CORPUS, replay
from fuzz.targets import TARGETS

TESTS = Path(__file__).resolve().parents[1]
LARGEST = 4096
LEAST_BRANCHES_PERCENT = 90


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_seeds_and_corpus(name: str) -> None:
    assert any((CORPUS / name).iterdir()), "the corpus has inputs for every target"
    replay(name)


def test_the_corpus_is_small_and_has_no_other_directories() -> None:
    assert sorted(directory.name for directory in CORPUS.iterdir()) == sorted(TARGETS)
    sizes = [file.stat().st_size for file in CORPUS.glob("*/*")]
    assert max(sizes) <= LARGEST


def test_codec_and_framing_are_covered(tmp_path: Path) -> None:
    """In a process of its own: coverage of coverage is not to be had."""
    files = [str(module.__file__) for module in (codec, framing)]
    data, report = tmp_path / "data", tmp_path / "report.json"
    command = [sys.executable, "-m", "coverage", "run", "--branch", "--rcfile=", f"--data-file={data}",
               f"--include={','.join(files)}", "-m", "fuzz.replay", "frames", "values", "messages"]  # fmt: skip
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(TESTS)})
    seen = coverage.Coverage(data_file=data, config_file=False)
    seen.load()
    seen.json_report(outfile=str(report))
    found = json.loads(report.read_text())["files"]
    assert len(found) == len(files)
    for file, facts in found.items():
        branches = facts["summary"]["num_branches"]
        assert branches > 0
        assert 100 * facts["summary"]["covered_branches"] / branches >= LEAST_BRANCHES_PERCENT, file
