"""The router beside those that people would run in its place: HAProxy, nginx, Caddy.

python benchmarks/routers.py [--apps 1 2000] [--rounds 5] [--seconds 3]

Each proxy has one core, everything else the other; each writes an access log. Requests go to all apps
in turn. The second half asks 2,000 times a second, whatever becomes of the answers, and compares the
99th percentile with that of the server hit directly.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import harness
import router
from rich.console import Console
from rich.table import Table as Printed

from deodar.adapters import ca
from deodar.adapters.haproxy import Haproxy
from deodar.adapters.haproxy import process as haproxy_process
from deodar.adapters.haproxy.table import Server, Table
from deodar.settings import Paths, Ports, Settings

CADDY = Path(sys.executable).with_name("caddy")
RATE = 2000  #: requests a second, for latency
CLIENTS = 40

SCRIPT = """\
local requests, next = {}, 0
init = function()
  for app = 0, %(apps)d - 1 do
    requests[app] = wrk.format("GET", "/", { Host = "app-" .. app .. ".bench.localhost" })
  end
end
request = function()
  next = (next + 1) %% %(apps)d
  return requests[next]
end
"""


@dataclass
class Contestant:
    """One proxy, and its figures, one a round."""

    name: str
    port: int
    pid: int | None
    rates: list[float] = field(default_factory=list)
    micros: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)  #: ms at RATE requests a second


def host(app: int) -> str:
    return f"app-{app}.bench.localhost"


@contextmanager
def running(*argv: str, log: Path, core: int, env: dict[str, str] | None = None) -> Iterator[int]:
    """A process on one core, its pid."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            ("taskset", "-c", str(core), *argv),
            stdout=out,
            stderr=out,
            env=os.environ | (env or {}),
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def haproxy_config(folder: Path, *, apps: int, port: int, backend: int) -> Path:
    """As one would write it by hand: a map of hosts, a backend an app, `option httplog`."""
    hosts = folder / "plain.map"
    hosts.write_text("".join(f"{host(app)} app_{app}\n" for app in range(apps)))
    head = router.PLAIN.partition("frontend router")[0]
    backends = "".join(
        f"backend app_{app}\n  server dyno 127.0.0.1:{backend}\n" for app in range(apps)
    )
    file = folder / "plain.cfg"
    file.write_text(
        f"{head}frontend router\n  bind 127.0.0.1:{port}\n"
        f"  use_backend %[req.hdr(host),lower,map({hosts})]\n{backends}"
    )
    return file


def nginx_config(folder: Path, *, apps: int, port: int, backend: int) -> Path:
    servers = "".join(
        f"  upstream app_{app} {{ server 127.0.0.1:{backend}; keepalive 60; }}\n"
        f"  server {{ listen 127.0.0.1:{port}; server_name {host(app)};\n"
        f"    location / {{ proxy_pass http://app_{app}; }} }}\n"
        for app in range(apps)
    )
    file = folder / "nginx.conf"
    file.write_text(
        "worker_processes 1;\n"
        "daemon off;\n"
        f"pid {folder}/nginx.pid;\n"
        "events { worker_connections 4096; }\n"
        "http {\n"
        f"  access_log {folder}/nginx.access;\n"
        "  server_names_hash_max_size 16384;\n"
        "  server_names_hash_bucket_size 128;\n"
        "  keepalive_requests 100000000;\n"
        "  proxy_http_version 1.1;\n"
        '  proxy_set_header Connection "";\n'
        "  proxy_set_header Host $host;\n"
        "  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
        "  proxy_set_header X-Forwarded-Proto $scheme;\n"
        "  proxy_set_header X-Request-Id $request_id;\n"
        f"{servers}}}\n"
    )
    return file


def caddy_config(folder: Path, *, apps: int, port: int, backend: int) -> Path:
    dial = [{"dial": f"127.0.0.1:{backend}"}]
    routes = [
        {
            "match": [{"host": [host(app)]}],
            "handle": [{"handler": "reverse_proxy", "upstreams": dial}],
        }
        for app in range(apps)
    ]
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "automatic_https": {"disable": True},
        "routes": routes,
        "logs": {},
    }
    log = {"writer": {"output": "file", "filename": f"{folder}/caddy.access"}}
    file = folder / "caddy.json"
    file.write_text(
        json.dumps(
            {
                "admin": {"disabled": True},
                "logging": {"logs": {"default": log}},
                "apps": {"http": {"servers": {"router": server}}},
            }
        )
    )
    return file


@contextmanager
def ours(folder: Path, *, apps: int, port: int, https: int, backend: int) -> Iterator[Haproxy]:
    """The router as the platform starts it, and a reader of its log."""
    settings = Settings(paths=Paths(data=folder), ports=Ports(http=port, https=https))
    haproxy = Haproxy(settings)
    authority = ca.Authority(settings.paths.ca)
    table = Table(
        hosts={host(app): app for app in range(apps)},
        servers={
            app: (Server(name="web.1-11111111", address="127.0.0.1", port=backend),)
            for app in range(apps)
        },
        certificates={host(0): authority.leaf(host(0)).path.read_text()},
    )
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {router.PROXY_CORE})  # HAProxy inherits it, and starts as many threads
    try:
        asyncio.run(router.start(haproxy, table))
    finally:
        os.sched_setaffinity(0, everywhere)
    try:
        with running(
            *(sys.executable, router.__file__, "--read", str(folder)),
            log=folder / "reader.log",
            core=router.OTHER_CORE,
        ):
            yield haproxy
    finally:
        asyncio.run(haproxy.stop())


def child(pid: int) -> int:
    """The one worker of a process."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise SystemExit(f"process {pid} has no worker")


def throughput(each: Contestant, script: Path, seconds: int) -> None:
    before = router.cpu(each.pid) if each.pid else 0.0
    text = subprocess.run(
        (
            *("taskset", "-c", str(router.OTHER_CORE), "wrk", "-t1", "-c100", f"-d{seconds}s"),
            *("-s", str(script), f"http://127.0.0.1:{each.port}/"),
        ),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"{each.name} failed requests:\n{text}")
    done = int(text.split(" requests in")[0].split()[-1])
    each.rates.append(float(text.split("Requests/sec:")[1].split()[0]))
    if each.pid:
        each.micros.append((router.cpu(each.pid) - before) / done * 1e6)


def latency(each: Contestant, folder: Path, seconds: int) -> None:
    log = folder / "latency.tsv"
    log.unlink(missing_ok=True)
    subprocess.run(
        (
            *("taskset", "-c", str(router.OTHER_CORE), "h2load", "--h1", "-t1"),
            *(f"-c{CLIENTS}", f"--rps={RATE / CLIENTS:g}", "-D", f"{seconds}s"),
            *(f"--log-file={log}", f"--connect-to=127.0.0.1:{each.port}", f"http://{host(0)}/"),
        ),
        capture_output=True,
        check=True,
    )
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    failed = [line for line in lines if line[1] != "200"]
    if failed or len(lines) < RATE * seconds / 2:
        raise SystemExit(f"{each.name}: {len(failed)} failed of {len(lines)}")
    micros = [int(line[2]) for line in lines]
    each.p99.append(statistics.quantiles(micros, n=100)[-1] / 1000)


def compare(apps: int, rounds: int, seconds: int) -> Sequence[Contestant]:
    backend, plain, nginx, caddy, http, https = harness.free_ports(6)
    with tempfile.TemporaryDirectory(prefix="dd") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        script = folder / "hosts.lua"
        script.write_text(SCRIPT % {"apps": apps})
        serving = folder / "backend.cfg"
        serving.write_text(router.BACKEND.format(port=backend))
        embedded = haproxy_process.embedded()

        def run(what: str, *argv: str, core: int = router.PROXY_CORE, **env: str) -> int:
            return stack.enter_context(
                running(*argv, log=folder / f"{what}.log", core=core, env=env)
            )

        run("backend", embedded, "-db", "-f", str(serving), core=router.OTHER_CORE)
        config = haproxy_config(folder, apps=apps, port=plain, backend=backend)
        plain_pid = run("plain", "/usr/sbin/haproxy", "-db", "-f", str(config))
        config = nginx_config(folder, apps=apps, port=nginx, backend=backend)
        nginx_pid = run("nginx", "/usr/sbin/nginx", "-c", str(config), "-p", str(folder))
        config = caddy_config(folder, apps=apps, port=caddy, backend=backend)
        caddy_pid = run("caddy", str(CADDY), "run", "--config", str(config), GOMAXPROCS="1")
        haproxy = stack.enter_context(
            ours(folder / "ours", apps=apps, port=http, https=https, backend=backend)
        )
        contestants = (
            Contestant("direct, no proxy", backend, None),
            Contestant("HAProxy 2.6, static", plain, plain_pid),
            Contestant("nginx", nginx, child(nginx_pid)),
            Contestant("Caddy", caddy, caddy_pid),
            Contestant("Deodar's router", http, asyncio.run(router.worker(haproxy))),
        )
        time.sleep(2)
        for number in range(rounds + 1):
            for each in contestants:
                throughput(each, script, seconds)
                latency(each, folder, seconds)
                if number == 0:  # warms up
                    for figures in (each.rates, each.micros, each.p99):
                        figures.clear()
    return contestants


def show(apps: int, contestants: Sequence[Contestant]) -> None:
    direct, plain, nginx, caddy, own = contestants
    table = Printed("", "requests/s", "of HAProxy", "CPU µs/request", f"p99 ms at {RATE}/s")
    for each in contestants:
        rate = statistics.median(each.rates)
        table.add_row(
            each.name,
            f"{rate:,.0f}",
            f"{rate / statistics.median(plain.rates):.2f}",
            f"{statistics.median(each.micros):.1f}" if each.micros else "",
            f"{statistics.median(each.p99):.2f}",
        )
    table.title = f"{apps} app{'s' if apps > 1 else ''}"
    Console(width=100).print(table)
    ratios = [
        (peer.name, statistics.median(a / b for a, b in zip(own.rates, peer.rates, strict=True)))
        for peer in (plain, nginx, caddy)
    ]
    wanted = {plain.name: 0.9, nginx.name: 1.15, caddy.name: 5.0}
    for name, ratio in ratios:
        print(f"requests/s against {name}: {ratio:.2f} × (wanted: {wanted[name]:g})")
    added = statistics.median(own.p99) - statistics.median(direct.p99)
    theirs = statistics.median(nginx.p99) - statistics.median(direct.p99)
    print(f"p99 added: {added:.2f} ms (wanted: ≤ 3, and not above nginx's {theirs:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--apps", type=int, nargs="+", default=[1, 2000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    arguments = parser.parse_args()
    for command in ("wrk", "h2load", "/usr/sbin/nginx", "/usr/sbin/haproxy", str(CADDY)):
        if shutil.which(command) is None:
            raise SystemExit(f"{command} is needed: scripts/install --bench")
    for apps in arguments.apps:
        show(apps, compare(apps, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
