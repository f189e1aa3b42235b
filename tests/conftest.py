"""What tests of every room may need of this machine."""

import os
from pathlib import Path

# Here, and not by its plugin in the depth of pytest's summary, where CPython 3.11 cannot compile it.
import hypothesis  # noqa: F401
import pytest


@pytest.fixture(scope="session")
def stack_root() -> Path:
    """A stack's root file system; `make test` builds it first."""
    root = Path(os.environ.get("DEODAR_TEST_STACK", "/var/lib/deodar/stacks/deodar-12/run"))
    if not (root / "usr/bin/tini").exists():
        pytest.skip(f"no stack at {root}: build one, or set DEODAR_TEST_STACK")
    return root
