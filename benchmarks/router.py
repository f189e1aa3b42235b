"""Requests per second through the router, against a plain HAProxy of the distribution on one core.

python benchmarks/router.py [--rounds 9] [--seconds 3]

Ours is the embedded HAProxy with the platform's whole configuration: 1000 slots, Heroku's headers, and
its log line, which a reader turns into an app's log. Theirs is /usr/sbin/haproxy with one backend and
`option httplog` into a file. Both proxy to the same server; the proxy has one core, everything else the
other.
"""

import argparse
import asyncio
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import harness
from rich.console import Console
from rich.table import Table as Printed

from deodar.adapters import ca
from deodar.adapters.haproxy import Haproxy
from deodar.adapters.haproxy import process as haproxy_process
from deodar.adapters.haproxy.table import Server, Table
from deodar.loops.routing.requests import Requests
from deodar.settings import Paths, Ports, Settings
from deodar.store.logs import Logs

HOST = "bench.localhost"
PROXY_CORE, OTHER_CORE = 0, 1
CONNECTIONS = 50
TICKS = os.sysconf("SC_CLK_TCK")

BACKEND = """\
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend backend
  bind 127.0.0.1:{port}
  http-request return status 200 content-type text/plain string "Hello from the dyno"
"""

PLAIN = """\
global
  nbthread 1
  maxconn 4000
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 55s
  timeout server 30s
frontend router
  bind 127.0.0.1:{port}
  default_backend app
backend app
  server dyno 127.0.0.1:{backend}
"""


@dataclass
class Runs:
    """What one contestant did, a figure a round."""

    name: str
    port: int
    pid: int | None  #: whose CPU is counted
    rates: list[float] = field(default_factory=list)
    micros: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(runs: Runs, seconds: int) -> None:
    before = cpu(runs.pid) if runs.pid else 0.0
    argv = (
        *("taskset", "-c", str(OTHER_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"),
        *("--latency", "-H", f"Host: {HOST}", f"http://127.0.0.1:{runs.port}/"),
    )
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    if re.search(r"Non-2xx|Socket errors", text):
        raise SystemExit(f"{runs.name} failed requests:\n{text}")
    done = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    slow = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    assert done is not None and rate is not None and slow is not None  # noqa: PT018
    runs.rates.append(float(rate[1]))
    runs.p99.append(float(slow[1]) * {"us": 0.001, "ms": 1, "s": 1000}[slow[2]])
    if runs.pid:
        runs.micros.append((cpu(runs.pid) - before) / int(done[1]) * 1e6)


@contextmanager
def plain_haproxy(
    binary: str, folder: Path, name: str, text: str, *, core: int
) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / f"{name}.cfg"
    config.write_text(text)
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            ("taskset", "-c", str(core), binary, "-db", "-f", str(config)), stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


@contextmanager
def ours(folder: Path, *, port: int, https: int, backend: int) -> Iterator[Haproxy]:
    """The router as the platform starts it, with one app and a reader of its log."""
    settings = Settings(paths=Paths(data=folder), ports=Ports(http=port, https=https))
    haproxy = Haproxy(settings)
    authority = ca.Authority(settings.paths.ca)
    table = Table(
        hosts={HOST: 7},
        servers={7: (Server(name="web.1-11111111", address="127.0.0.1", port=backend),)},
        certificates={HOST: authority.leaf(HOST).path.read_text()},
    )
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {PROXY_CORE})  # HAProxy inherits it, and starts as many threads
    try:
        asyncio.run(start(haproxy, table))
    finally:
        os.sched_setaffinity(0, everywhere)
    reader = subprocess.Popen(
        ("taskset", "-c", str(OTHER_CORE), sys.executable, __file__, "--read", str(folder))
    )
    try:
        yield haproxy
    finally:
        reader.terminate()
        reader.wait()
        asyncio.run(haproxy.stop())


async def start(haproxy: Haproxy, table: Table) -> None:
    await haproxy.start(table)


async def read(folder: Path) -> None:
    """The reader, a process of its own: HAProxy's lines into an app's log, until terminated."""
    settings = Settings(paths=Paths(data=folder), ports=Ports())
    logs = Logs(settings.paths.logs)
    requests = Requests(
        Haproxy(settings).layout.requests, logs, lambda _: "bench", saw=lambda app, at: None
    )
    await requests.serve()


async def worker(haproxy: Haproxy) -> int:
    return await haproxy.runtime.pid()


def compare(rounds: int, seconds: int) -> Sequence[Runs]:
    port, https, plain, backend = harness.free_ports(4)
    embedded = haproxy_process.embedded()
    with tempfile.TemporaryDirectory(prefix="dd") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with (
            plain_haproxy(
                embedded, folder, "backend", BACKEND.format(port=backend), core=OTHER_CORE
            ),
            plain_haproxy(
                "/usr/sbin/haproxy",
                folder,
                "plain",
                PLAIN.format(port=plain, backend=backend),
                core=PROXY_CORE,
            ) as theirs,
            ours(folder, port=port, https=https, backend=backend) as haproxy,
        ):
            time.sleep(0.5)
            contestants = (
                Runs("direct, no proxy", backend, None),
                Runs("HAProxy 2.6, static", plain, theirs.pid),
                Runs("Deodar's router", port, asyncio.run(worker(haproxy))),
            )
            for number in range(rounds + 1):
                for runs in contestants:
                    measure(runs, seconds)
                    if number == 0:  # warms up
                        for figures in (runs.rates, runs.micros, runs.p99):
                            figures.clear()
    return contestants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        asyncio.run(read(arguments.read))
        return
    for command in ("wrk", "taskset", "/usr/sbin/haproxy"):
        if shutil.which(command) is None:
            raise SystemExit(f"{command} is needed: scripts/install --bench")
    _, plain, router = contestants = compare(arguments.rounds, arguments.seconds)
    table = Printed("", "requests/s", "of plain", "CPU µs/request", "p99 ms")
    for runs in contestants:
        rate = statistics.median(runs.rates)
        table.add_row(
            runs.name,
            f"{rate:,.0f}",
            f"{rate / statistics.median(plain.rates):.2f}",
            f"{statistics.median(runs.micros):.1f}" if runs.micros else "",
            f"{statistics.median(runs.p99):.1f}",
        )
    Console().print(table)
    ratio = statistics.median(router.rates) / statistics.median(plain.rates)
    print(f"Deodar's router does {ratio:.2f} of a plain HAProxy's requests (wanted: 0.85).")


if __name__ == "__main__":
    main()
