"""A real platform for benchmarks to measure: own data directory, own ports, gone at the end.

Measures nothing itself. The stack is taken from DEODAR_TEST_STACKS or /var/lib/deodar/stacks, which
`make test` or `make demo` has built.
"""

import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

SAMPLES = Path(__file__).parent.parent / "samples"
CLI = (str(Path(sys.executable).with_name("deodar")),)
PORTS = ("API", "API_TLS", "RENDEZVOUS", "HTTP", "HTTPS")


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform that runs, and its owner's way in."""

    env: Mapping[str, str]
    client: Mapping[str, str]
    api: httpx.Client
    router: int  #: port of plain HTTP

    @property
    def data(self) -> Path:
        return Path(self.env["DEODAR_DATA"])

    def create(self, name: str) -> None:
        self.api.post("/apps", json={"name": name}).raise_for_status()

    def scale(self, app: str, **quantities: int) -> None:
        updates = [{"type": kind, "quantity": wish} for kind, wish in quantities.items()]
        self.api.patch(f"/apps/{app}/formation", json={"updates": updates}).raise_for_status()

    def dynos(self, app: str) -> list[dict[str, object]]:
        answer = self.api.get(f"/apps/{app}/dynos").raise_for_status()
        return list(answer.json())

    def daemon(self) -> int:
        return int((self.data / "daemon.pid").read_text())


@contextmanager
def running(**more: str) -> Iterator[Platform]:
    """A platform of its own for the length of a benchmark."""
    with tempfile.TemporaryDirectory(prefix="deodar-bench-") as folder:
        data = Path(folder, "data")
        data.mkdir(mode=0o755)
        os.chmod(folder, 0o755)
        (data / "stacks").symlink_to(stacks())
        ports = free_ports(len(PORTS))
        env = dict(os.environ) | {"DEODAR_DATA": str(data), "DEODAR_SUBNET": "10.213.0.0/16"} | more
        env |= {f"DEODAR_{name}_PORT": str(port) for name, port in zip(PORTS, ports, strict=True)}
        start(env)
        try:
            client = json.loads((data / "client.json").read_text())
            with httpx.Client(
                base_url=f"http://localhost:{ports[0]}",
                headers={
                    "Authorization": f"Bearer {client['HEROKU_API_KEY']}",
                    "Accept": "application/vnd.heroku+json; version=3",
                },
                timeout=60,
            ) as api:
                yield Platform(env, client, api, ports[3])
        finally:
            subprocess.run([*CLI, "down"], env=env, check=True, stdout=subprocess.DEVNULL)


def start(env: Mapping[str, str]) -> None:
    """Returns when the platform answers."""
    subprocess.run([*CLI, "up", "--detach"], env=env, check=True, capture_output=True)


def stacks() -> Path:
    return Path(os.environ.get("DEODAR_TEST_STACKS", "/var/lib/deodar/stacks"))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Repository:
    """A git repository with a copy of a sample, or of another folder, to be pushed."""

    def __init__(
        self,
        platform: Platform,
        folder: Path,
        *,
        app: str,
        sample: str = "",
        source: Path | None = None,
    ) -> None:
        self._env = dict(platform.env) | {
            "GIT_SSL_CAINFO": platform.client["GIT_SSL_CAINFO"],
            "GIT_TERMINAL_PROMPT": "0",
        }
        self.folder = folder
        shutil.copytree(source or SAMPLES / sample, folder)
        token = platform.client["HEROKU_API_KEY"]
        remote = f"https://heroku:{token}@{platform.client['HEROKU_GIT_HOST']}/{app}.git"
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.email", "bench@example.com")
        self.git("config", "user.name", "bench")
        self.git("remote", "add", "heroku", remote)

    def git(self, *argv: str) -> str:
        done = subprocess.run(
            ["git", *argv], cwd=self.folder, env=self._env, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"git {argv[0]} failed:\n{done.stderr}")
        return done.stderr

    def commit(self, text: str) -> None:
        (self.folder / "change.txt").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-qm", text)

    def change(self, file: str, *, old: str, new: str) -> None:
        """Commits one line of a file that is another."""
        path = self.folder / file
        text = path.read_text()
        if old not in text:
            raise RuntimeError(f"{file} has no {old!r}")
        path.write_text(text.replace(old, new))
        self.commit(new)

    def push(self) -> str:
        """Pushes main; answers what the pusher saw."""
        return self.git("push", "heroku", "main")

    def timeline(self) -> list[tuple[float, str]]:
        """Pushes main; answers each line that the pusher saw, and after how many seconds."""
        argv = ["git", "push", "heroku", "main"]
        start = time.monotonic()
        with subprocess.Popen(
            argv, cwd=self.folder, env=self._env, stderr=subprocess.PIPE, text=True
        ) as push:
            assert push.stderr is not None
            lines = [(time.monotonic() - start, line.rstrip()) for line in push.stderr]
        if push.returncode != 0:
            raise RuntimeError("\n".join(line for _, line in lines))
        return lines


def eventually(check: Callable[[], bool], *, within: float, every: float = 0.01) -> float:
    """Seconds until `check` holds. Raises TimeoutError if it does not within so many."""
    start = time.monotonic()
    while not check():
        if time.monotonic() - start > within:
            raise TimeoutError(f"not within {within:g} s")
        time.sleep(every)
    return time.monotonic() - start


def machine() -> str:
    """What it was measured on, in a line."""
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    model = names[0].split(":", 1)[1].strip() if names else platform.machine()
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines())
    total = int(memory.split()[1]) // 1024**2
    return f"{os.cpu_count()} × {model}, {total} GiB, Linux {platform.release()}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def report(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Prints a table of figure, measured, target."""
    table = Table(title=title, caption=machine(), title_justify="left", caption_justify="left")
    for column in ("figure", "measured", "target"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
