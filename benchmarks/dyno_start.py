"""How long a dyno takes from `create` to the first byte of its server, against the same as a plain process.

python benchmarks/dyno_start.py        needs root and a stack (DEODAR_TEST_STACK or the default one)
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path

import harness

from deodar import settings
from deodar.engines import base
from deodar.engines.local.engine import LocalEngine
from deodar.model.app import ConfigVars
from deodar.model.formation import size_of

ROUNDS = 20
AT_ONCE = 10
MANY = 100  #: containers that `sightings` sees
PORT = 5000
UID = 20_001
SERVER = "python3 -m http.server -b {address} {port}"


async def main() -> None:
    stack = Path(os.environ.get("DEODAR_TEST_STACK", "/var/lib/deodar/stacks/deodar-12/run"))
    with tempfile.TemporaryDirectory(prefix="deodar-bench-") as folder:
        paths = settings.Paths(data=Path(folder))
        run = paths.stacks / "deodar-12" / "run"
        run.parent.mkdir(parents=True)
        run.symlink_to(stack)
        engine = LocalEngine(paths=paths, subnet="10.199.0.0/16")
        await engine.prepare()
        try:
            await measure(engine, stack, Path(folder))
        finally:
            await engine.teardown()
            await engine.close()


async def measure(engine: LocalEngine, stack: Path, folder: Path) -> None:
    slug = await make_slug(engine, folder)
    plain, dyno, made, removed = [], [], [], []
    for number in range(ROUNDS):
        plain.append(await plain_start(stack, port=15_000 + number))
        start = time.perf_counter()
        address = (await engine.create(spec(f"one-{number}", slug))).address
        await engine.start(f"one-{number}")
        made.append(time.perf_counter() - start)
        await first_byte(str(address), PORT)
        dyno.append(time.perf_counter() - start)
        start = time.perf_counter()
        await engine.remove(f"one-{number}")
        removed.append(time.perf_counter() - start)
        await asyncio.sleep(0.1)  # the next slot is made meanwhile, as between two deploys
    together = [await start_together(engine, slug, round_) for round_ in range(3)]
    looks = await look_at_many(engine, slug)
    difference = harness.median(dyno) - harness.median(plain)
    harness.report(
        f"Starting a hello server (medians of {ROUNDS})",
        [
            ("plain process, start → first byte", ms(harness.median(plain)), "-"),
            ("dyno, create + start → first byte", ms(harness.median(dyno)), "-"),
            ("the difference", ms(difference), "≤ 40 ms"),
            ("the ratio", f"{harness.median(dyno) / harness.median(plain):.2f}", "-"),
            ("of it create + start", ms(harness.median(made)), "-"),
            ("remove", ms(harness.median(removed)), "-"),
            (f"{AT_ONCE} dynos at once, all answering", ms(harness.median(together)), "≤ 2000 ms"),
            (f"sightings of {MANY} containers", ms(harness.median(looks)), "≤ 5 ms"),
        ],
    )


async def make_slug(engine: LocalEngine, folder: Path) -> str:
    tree = folder / "tree"
    tree.mkdir()
    (tree / "index.html").write_text("hello\n")
    checksum = "SHA256:" + "0" * 64
    await engine.keep_slug(await engine.pack_slug(tree, uid=UID), checksum=checksum, uid=UID)
    return checksum


def spec(container_id: str, slug: str, *, command: str | None = None) -> base.Spec:
    return base.Spec(
        id=container_id,
        app_id="bench",
        name="web.1",
        uid=UID,
        argv=("bash", "-c", command or f"exec {SERVER.format(address='0.0.0.0', port=PORT)}"),
        env=ConfigVars(PATH="/usr/bin:/bin", HOME="/app"),
        stack="deodar-12",
        slug=slug,
        size=size_of("Basic"),
        port=PORT,
    )


async def plain_start(stack: Path, *, port: int) -> float:
    """The same server of the same stack, with nothing around it."""
    command = f"cd /app && exec {SERVER.format(address='127.0.0.1', port=port)}"
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *("chroot", str(stack), "bash", "-c", command),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await first_byte("127.0.0.1", port)
    taken = time.perf_counter() - start
    process.kill()
    await process.wait()
    return taken


async def start_together(engine: LocalEngine, slug: str, round_: int) -> float:
    async def one(container_id: str) -> None:
        address = (await engine.create(spec(container_id, slug))).address
        await engine.start(container_id)
        await first_byte(str(address), PORT)

    ids = [f"ten-{round_}-{number}" for number in range(AT_ONCE)]
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for container_id in ids:
            group.create_task(one(container_id))
    taken = time.perf_counter() - start
    async with asyncio.TaskGroup() as group:
        for container_id in ids:
            group.create_task(engine.remove(container_id))
    await asyncio.sleep(0.5)
    return taken


async def look_at_many(engine: LocalEngine, slug: str) -> list[float]:
    async with asyncio.TaskGroup() as group:
        for number in range(MANY):
            group.create_task(engine.create(spec(f"many-{number}", slug, command="sleep 1000")))
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        assert len(await engine.sightings()) == MANY
        taken.append(time.perf_counter() - start)
    return taken


async def first_byte(address: str, port: int) -> None:
    async with asyncio.timeout(10):
        while not await answers(address, port):  # noqa: ASYNC110 - another process answers
            await asyncio.sleep(0.001)


async def answers(address: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        byte = await reader.read(1)
        writer.close()
    except OSError:
        return False
    return byte != b""


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


if __name__ == "__main__":
    asyncio.run(main())
