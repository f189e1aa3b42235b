"""A workshop in a real stack for each test; without a stack, or not as root, they are skipped."""

import os
from pathlib import Path

import pytest

from tests.buildpacks import runner


@pytest.fixture
def shop(tmp_path: Path) -> runner.Workshop:
    stack = runner.find_stack()
    if stack is None:
        pytest.skip("no stack deodar-12; set DEODAR_TEST_STACKS")
    if os.geteuid() != 0:
        pytest.skip("running in a stack needs root")
    return runner.Workshop(stack, tmp_path / "workshop")
