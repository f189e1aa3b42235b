"""One real platform for all system tests: started once, purged at the end whatever happens."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import ROOT, Platform

STACKS = Path(os.environ.get("DEODAR_TEST_STACKS") or "/var/lib/deodar/stacks")
HEROKU = Path(
    os.environ.get("DEODAR_TEST_HEROKU") or ROOT / ".tools/heroku/node_modules/.bin/heroku"
)


@pytest.fixture(scope="session")
def platform() -> Iterator[Platform]:
    if os.geteuid() != 0:
        pytest.skip("a platform needs root: run the tests as root, or by make test")
    if not (STACKS / "deodar-12/stack.json").exists():
        pytest.skip(f"no stack is built at {STACKS}: make test builds one")
    if not HEROKU.exists():
        pytest.skip(f"the official CLI is not at {HEROKU}: make test installs it")
    # A short path: the names of unix sockets below it may have 107 bytes.
    base = os.environ.get("DEODAR_TEST_DATA") or tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="dt-", dir=base))
    folder.chmod(0o711)
    made = Platform.at(folder, stacks=STACKS, heroku=HEROKU)
    try:
        made.up()
        yield made
    finally:
        made.down()
        shutil.rmtree(folder)
