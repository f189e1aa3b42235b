"""Runs the real command in this process, and small real servers and processes for it to meet."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deodar.cli import main

Run = Callable[..., "Result"]


@dataclass(frozen=True)
class Result:
    status: int
    stdout: str
    stderr: str


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of a platform that never ran; DEODAR_* say so."""
    for name in os.environ:
        if name.startswith("DEODAR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DEODAR_DATA", str(tmp_path / "data"))
    # Somebody's platform may run here, with a router on the port that is the default.
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("DEODAR_HTTP_PORT", str(server.getsockname()[1]))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def deodar(data: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["deodar", *arguments])
        status = 0
        try:
            main.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        out, err = capfd.readouterr()
        return Result(status, out, err)

    return run


@contextmanager
def serve(answers: Mapping[str, tuple[int, object]]) -> Iterator[int]:
    """An HTTP server on loopback with one answer per path, 404 for the rest; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, {"id": "not_found", "message": "No."}))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: a test's output is its own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


DAEMON = """
import fcntl, os, signal, sys, time
data, on_term = sys.argv[3:]
if on_term == "stays":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = open(f"{data}/daemon.lock", "wb")
fcntl.flock(lock, fcntl.LOCK_EX)
with open(f"{data}/daemon.pid", "w") as file:
    file.write(str(os.getpid()))
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def daemon(data: Path, *, on_term: str = "ends") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock as the control plane does, and either obeys SIGTERM or does not."""
    process = subprocess.Popen(
        (sys.executable, "-c", DAEMON, "deodar.daemon", "run", str(data), on_term),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
