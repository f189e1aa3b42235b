"""How long the first request of a sleeping app takes, whole: Flask under gunicorn with 2 workers.

python benchmarks/wake.py [--rounds 30] [--held 1000] [--apps 1000]

Frozen, in swap (where the machine has some, or zram that it lets us make) and stopped; then so many
requests held at once, and what so many sleeping apps take. The peer is the simplest proxy in Python that
could do it: asyncio, a SIGCONT for a process that a SIGSTOP holds, then bytes both ways.
"""

import argparse
import asyncio
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import harness
import psutil
import sleep

from deodar.actions import releases as ledger
from deodar.kit.loop import Bell
from deodar.model.app import Account, App, AppId
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.formation import ProcessType
from deodar.model.idling import Depth, Sleep
from deodar.store import accounts, apps, db, dynos, formations, idling, releases

FLASK = Path(__file__).parent / "apps" / "flask"
SETTINGS = {"DEODAR_IDLE_AFTER": "0.02", "DEODAR_IDLE_LOOK": "0.2"}
WARM = 20  #: requests before the first sleep
SETTLED = 0.5  #: seconds after an app fell asleep, for the loops to come to rest
WATCHED = 60.0  #: seconds in which the CPU of sleeping apps is counted
PEER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def request(port: int, host: str) -> float:
    """Seconds of one whole request on a connection of its own."""
    start = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=90) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while data := connection.recv(65536):
            answer += data
    if not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")):
        raise RuntimeError(f"not answered: {answer[:200]!r}")
    return time.monotonic() - start


def depth(platform: harness.Platform) -> str | None:
    """How deep the store says that the app sleeps, once its dyno does."""
    with closing(sqlite3.connect(platform.data / "deodar.db")) as store:
        row = store.execute(
            "SELECT asleep_depth FROM apps WHERE name = 'bench' AND NOT EXISTS (SELECT 1 FROM dynos"
            " WHERE app_id = apps.id AND state NOT IN ('idle', 'parked'))"
        ).fetchone()
    return None if row is None else row[0]


def wakes(platform: harness.Platform, wanted: Depth, rounds: int) -> list[float]:
    """Milliseconds of the first request, each round."""
    times = []
    for _ in range(rounds):
        harness.eventually(lambda: depth(platform) == wanted.value, within=120, every=0.1)
        time.sleep(SETTLED)
        times.append(request(platform.router, "bench.localhost") * 1000)
    return times


async def boots(rounds: int) -> list[float]:
    """Milliseconds that a boot takes by itself, with no platform around it: from the process's start to
    the end of a first request, which is asked again and again."""
    times = []
    with tempfile.TemporaryDirectory(prefix="deodar-bench-") as folder:
        async with sleep.prepared(Path(folder)) as engine:
            for number in range(rounds):
                dyno = f"dyno-{number}"
                address = str((await engine.create(sleep.spec(dyno))).address)
                await engine.start(dyno)
                start = time.monotonic()
                while not await answers(address):  # noqa: ASYNC110 - nothing tells us
                    await asyncio.sleep(0.001)
                times.append((time.monotonic() - start) * 1000)
                await engine.remove(dyno)
    return times


async def answers(address: str) -> bool:
    try:
        await sleep.request(address)
    except OSError:
        return False
    return True


async def held(platform: harness.Platform, count: int) -> Counter[str]:
    """How so many requests at once for a sleeping app end."""

    async def one() -> str:
        try:
            async with asyncio.timeout(90):
                reader, writer = await asyncio.open_connection("127.0.0.1", platform.router)
                writer.write(
                    b"GET / HTTP/1.1\r\nHost: bench.localhost\r\nConnection: close\r\n\r\n"
                )
                answer = await reader.read()
                writer.close()
        except (OSError, TimeoutError) as error:
            return type(error).__name__
        return answer.split(b"\r\n", 1)[0].decode() or "closed without an answer"

    await asyncio.to_thread(
        harness.eventually, lambda: depth(platform) is not None, within=120, every=0.1
    )
    return Counter(await asyncio.gather(*(one() for _ in range(count))))


async def peer(rounds: int) -> list[float]:
    """Milliseconds of the first request through the simplest proxy."""
    backend, front = harness.free_ports(2)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PEER, str(backend))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        process.send_signal(signal.SIGCONT)
        there, back = await asyncio.open_connection("127.0.0.1", backend)
        forth = asyncio.create_task(copy(reader, back))
        await copy(there, writer)
        forth.cancel()

    server = await asyncio.start_server(serve, "127.0.0.1", front)
    times = []
    async with server:
        await asyncio.to_thread(harness.eventually, lambda: accepts(backend), within=20)
        for _ in range(rounds):
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(SETTLED)
            times.append(await asyncio.to_thread(request, front, "bench") * 1000)
    process.kill()
    await process.wait()
    return times


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def put_to_sleep(data: Path, count: int) -> None:
    """So many apps in the store of a platform that does not run, each with a dyno that is stopped."""
    now = datetime.now(UTC)
    store = db.open_sqlite(
        data / "deodar.db", key=(data / "config.key").read_bytes().strip(), bell=Bell()
    )
    async with store.write() as tx:
        owner = Account(id=str(uuid.uuid4()), email="many@example.com", created_at=now)
        await accounts.create(tx, owner, token="many")
        for number in range(count):
            app = App(
                id=AppId(str(uuid.uuid4())),
                name=f"app-{number}",
                owner=owner,
                slot=number,
                uid=30_000 + number,
                created_at=now,
                updated_at=now,
            )
            await apps.insert_app(tx, app)
            await ledger.first(tx, app, user="", now=now)
            await ledger.set_config(tx, app, {"DEODAR_IDLE_AFTER": "30"}, user="", now=now)
            web = ProcessType(type="web", quantity=1, command="serve")
            await formations.replace(tx, app.id, [web])
            release = await releases.current(tx, app.id)
            assert release is not None
            await dynos.insert_dyno(
                tx,
                Dyno(
                    id=str(uuid.uuid4()),
                    app_id=app.id,
                    type="web",
                    number=1,
                    kind=Kind.FORMATION,
                    size="Basic",
                    command="serve",
                    release_id=release.id,
                    release_version=release.version,
                    slug_id=None,
                    state=State.PARKED,
                    state_since=now,
                    created_at=now,
                ),
            )
            asleep = Sleep(since=now, depth=Depth.STOPPED, workers=True)
            await idling.fall_asleep(tx, app.id, asleep)
    await store.close()


def sleeping(count: int) -> tuple[float, float]:
    """MB and percent of a core that control plane and HAProxy take for so many sleeping apps."""
    with harness.running() as platform:
        subprocess.run([*harness.CLI, "down"], env=platform.env, check=True, capture_output=True)
        asyncio.run(put_to_sleep(platform.data, count))
        harness.start(platform.env)
        time.sleep(WATCHED / 2)
        ours = [psutil.Process(platform.daemon())]
        ours += [
            each
            for each in psutil.process_iter(["cmdline"])
            if f"{platform.data}/run/haproxy/haproxy.cfg" in (each.info["cmdline"] or ())
        ]
        before = cpu(ours)
        time.sleep(WATCHED)
        used = (cpu(ours) - before) / WATCHED * 100
        return sum(each.memory_full_info().pss for each in ours) / 1e6, used


def cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def figure(times: list[float]) -> str:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return f"{harness.median(times):.1f} / {p99:.1f} ms"


def measure(rounds: int, count: int) -> list[tuple[str, str, str]]:
    rows = []
    more = SETTINGS | ({} if swap() else {"DEODAR_ZRAM": "1 GB"})
    with harness.running(**more) as platform, tempfile.TemporaryDirectory() as folder:
        platform.create("bench")
        repository = harness.Repository(platform, Path(folder, "app"), app="bench", source=FLASK)
        repository.commit("first")
        repository.push()
        for _ in range(WARM):
            request(platform.router, "bench.localhost")
        frozen = wakes(platform, Depth.FROZEN, rounds)
        rows.append(("first request, frozen: p50 / p99", figure(frozen), "≤ 8 / 40 ms"))
        outcomes = asyncio.run(held(platform, count))
        lost = sum(outcomes.values()) - outcomes["HTTP/1.1 200 OK"]
        rows.append((f"{count} held at once: lost", f"{lost} ({dict(outcomes)})", "0"))

        configure(platform, DEODAR_IDLE_DEPTH="stop")
        cold = wakes(platform, Depth.STOPPED, max(3, rounds // 5))
        rows.append(("first request, stopped: p50 / p99", figure(cold), ""))
    own = harness.median(asyncio.run(boots(len(cold))))
    beyond = harness.median(cold) - own
    rows.append(("beyond its own boot", f"{beyond:.0f} ms (boot {own:.0f} ms)", "≤ 120 ms"))
    with (
        harness.running(**more, DEODAR_IDLE_RECLAIM_AFTER="0.001") as platform,
        tempfile.TemporaryDirectory() as folder,
    ):
        platform.create("bench")
        repository = harness.Repository(platform, Path(folder, "app"), app="bench", source=FLASK)
        repository.commit("first")
        repository.push()
        for _ in range(WARM):
            request(platform.router, "bench.localhost")
        swapped = wakes(platform, Depth.RECLAIMED, rounds)
        rows.append(("first request, in swap: p50 / p99", figure(swapped), "≤ 25 / 120 ms"))
    return rows


def swap() -> bool:
    return psutil.swap_memory().total > 0


def configure(platform: harness.Platform, **config: str) -> None:
    platform.api.patch("/apps/bench/config-vars", json=config).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--held", type=int, default=1000)
    parser.add_argument("--apps", type=int, default=1000)
    options = parser.parse_args()
    rows = measure(options.rounds, options.held)
    other = asyncio.run(peer(options.rounds))
    rows.insert(1, ("the simplest proxy in Python: p50 / p99", figure(other), ""))
    memory, percent = sleeping(options.apps)
    rows.append((f"{options.apps} apps asleep: memory", f"{memory:.0f} MB", "≤ 400 MB"))
    rows.append((f"{options.apps} apps asleep: CPU", f"{percent:.1f} % of a core", "≤ 3 %"))
    harness.report("wake", rows)


if __name__ == "__main__":
    main()
