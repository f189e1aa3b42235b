"""What tests of every room may need of this machine."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def stack_root() -> Path:
    """A stack's root file system; `make test` builds it first."""
    root = Path(os.environ.get("DEODAR_TEST_STACK", "/var/lib/deodar/stacks/deodar-12/run"))
    if not (root / "usr/bin/tini").exists():
        pytest.skip(f"no stack at {root}: build one, or set DEODAR_TEST_STACK")
    return root
