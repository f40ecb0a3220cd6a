"""What all tests share: property tests give the same answer on every run, unless asked to explore."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A run judges the code, not the luck of the draw or the speed of the machine.
settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# HYPOTHESIS_PROFILE=explore scripts/test -k ... : new examples each time, and many of them.
settings.register_profile("explore", parent=settings.get_profile("steady"), derandomize=False, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

SLOW = ("benchmarks", "e2e", "endurance", "fuzz", "hostility", "simulation_checks")
"""Directories of tests that run whole programs, or very much of them: scripts/test runs them without coverage."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in SLOW:
            item.add_marker(pytest.mark.slow)
