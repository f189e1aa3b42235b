"""A workshop in a real stack for each test; without a stack, or not as root, they are skipped. A shelf
from which packages can be downloaded, until the network is cut."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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


@dataclass(frozen=True)
class Shelf:
    """A folder of files and the address at which a build finds them."""

    folder: Path
    url: str


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    folder = tmp_path / "shelf"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield Shelf(folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        serving.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
