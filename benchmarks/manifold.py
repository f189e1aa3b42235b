"""What the manifold takes to bring a crashed dyno back, to start a hundred, to keep them, and to look at a
thousand apps.

    python benchmarks/manifold.py
"""

import asyncio
import json
import logging
import os
import signal
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import harness
import psutil
import structlog
from cryptography.fernet import Fernet

from deodar.actions import releases
from deodar.engines.memory import MemoryEngine
from deodar.kit.loop import Bell
from deodar.kit.signing import Signer
from deodar.loops.manifold.attach import Switchboard
from deodar.loops.manifold.loop import Manifold
from deodar.loops.manifold.plan import Limits
from deodar.model.app import Account, App, AppId
from deodar.model.release import Slug
from deodar.store import accounts, apps, db
from deodar.store import releases as ledger
from deodar.store.logs import Logs

CRASHES = 15
MANY = 100
APPS = 1000


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with (
        harness.running(
            DEODAR_CRASH_FIRST_REST="0.001", DEODAR_CRASH_LAST_REST="0.001"
        ) as platform,
        tempfile.TemporaryDirectory() as folder,
    ):
        platform.create("bench")
        repository = harness.Repository(platform, Path(folder, "app"), app="bench", sample="go-web")
        repository.commit("first")
        repository.push()
        plain = [boot(platform, folder) for _ in range(CRASHES)]
        crashes = [crash(platform) for _ in range(CRASHES)]
        start = time.monotonic()
        platform.scale("bench", web=MANY)
        harness.eventually(lambda: up(platform) == MANY, within=120, every=0.1)
        many = time.monotonic() - start
        supervision = supervisors(platform) / MANY
    looks = asyncio.run(reconcile_many())
    back = harness.median(crashes) - harness.median(plain)
    harness.report(
        "The manifold",
        [
            (
                f"dyno killed → a request answered by its successor, less {harness.median(plain) * 1e3:.0f} ms "
                f"of its own boot (median of {CRASHES})",
                f"{back * 1e3:.0f} ms",
                "≤ 150 ms",
            ),
            (f"web=0 → {MANY} dynos accepting", f"{many:.1f} s", "≤ 15 s"),
            ("supervision of an idle dyno, PSS", f"{supervision / 1e6:.2f} MB", "≤ 2 MB"),
            (
                f"reconcile of {APPS} apps, nothing to do, memory engine",
                f"{looks:.2f} s",
                "≤ 0.5 s",
            ),
        ],
    )


def up(platform: harness.Platform) -> int:
    return sum(dyno["state"] == "up" for dyno in platform.dynos("bench"))


def crash(platform: harness.Platform) -> float:
    """Seconds from the end of the only dyno until a request that comes then is answered."""
    harness.eventually(lambda: up(platform) == 1, within=30)
    before = {str(dyno["id"]) for dyno in platform.dynos("bench")}
    [record] = [each for each in records(platform) if each["id"] in before]
    start = time.monotonic()
    os.kill(int(str(record["init"])), signal.SIGKILL)
    harness.eventually(
        lambda: any(
            dyno["state"] == "up" and dyno["id"] not in before for dyno in platform.dynos("bench")
        ),
        within=30,
        every=0.002,
    )
    return time.monotonic() - start


def boot(platform: harness.Platform, folder: str) -> float:
    """Seconds until the app's own program accepts connections as a plain process."""
    import socket
    import subprocess

    binary = next(
        Path("/proc", str(each["init"]), "root/app/bin").glob("*") for each in records(platform)
    )
    program = next(iter(binary))
    port = harness.free_ports(1)[0]
    start = time.monotonic()
    process = subprocess.Popen([program], env={"PORT": str(port)}, stdout=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return time.monotonic() - start
            time.sleep(0.001)
    finally:
        process.kill()
        process.wait()


def records(platform: harness.Platform) -> list[dict[str, object]]:
    """What the engine has written down of each container that runs."""
    files = (platform.data / "run/containers").glob("*/record.json")
    return [json.loads(file.read_text()) for file in files]


def supervisors(platform: harness.Platform) -> int:
    """Bytes of all conmons of this platform, shared pages in shares."""
    pids = [int(str(record["supervisor"])) for record in records(platform)]
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids)


async def reconcile_many() -> float:
    """Seconds for a sweep of APPS apps with one web dyno each, all as it should be."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        bell, engine = Bell(), MemoryEngine()
        database = db.open_sqlite(Path(folder, "db"), key=Fernet.generate_key(), bell=bell)
        logs = Logs(Path(folder, "logs"))
        switchboard = Switchboard(engine, database, logs, lambda: now, Signer(b"key", "rendezvous"))
        manifold = Manifold(
            db=database,
            engine=engine,
            logs=logs,
            bell=bell,
            clock=lambda: now,
            switchboard=switchboard,
            limits=Limits(cycle=timedelta(days=99)),
        )
        owner = Account(id="owner", email="owner@example.com", created_at=now)
        async with database.write() as tx:
            await accounts.create(tx, owner, token="token")
            for number in range(APPS):
                await add_app(tx, owner, number, now)
        watches = asyncio.create_task(manifold.run())
        while keys := await manifold.keys():  # until all are up
            for key in keys:
                await manifold.reconcile(key)
        start = time.monotonic()
        left = await manifold.keys()
        taken = time.monotonic() - start
        if left:
            raise RuntimeError(f"{len(left)} apps want a look where all should be well")
        watches.cancel()
        await asyncio.gather(watches, return_exceptions=True)
        logs.close()
        await database.close()
    return taken


async def add_app(tx: db.Tx, owner: Account, number: int, now: datetime) -> None:
    app = App(
        id=AppId(f"app-{number}"),
        name=f"app-{number}",
        owner=owner,
        slot=number,
        uid=20_000 + number,
        created_at=now,
        updated_at=now,
    )
    slug = Slug(
        id=f"slug-{number}",
        app_id=app.id,
        checksum=f"SHA256:{number}",
        size=1,
        stack="deodar-12",
        process_types={"web": "serve"},
        created_at=now,
    )
    await apps.insert_app(tx, app)
    await releases.first(tx, app, user=owner.email, now=now)
    await ledger.insert_slug(tx, slug)
    await releases.deploy(tx, app, slug, description="Deploy", user=owner.email, now=now)


if __name__ == "__main__":
    main()
