"""What a sleeping dyno takes, and how long falling asleep and waking take: a Flask app under gunicorn, 2 workers.

python benchmarks/sleep.py [--rounds 10]

Needs root, a stack (DEODAR_TEST_STACK or the default one), and a machine without swap whose kernel has
zram. Asks the engine, with no platform around it.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import harness

from deodar import settings
from deodar.engines import base
from deodar.engines.local import swap as swaps
from deodar.engines.local.engine import LocalEngine
from deodar.kit import subprocess
from deodar.model import swap
from deodar.model.app import ConfigVars
from deodar.model.formation import size_of

APP = Path(__file__).parent / "apps" / "flask"
UV = shutil.which("uv") or str(Path(__file__).parent.parent / ".tools/uv/bin/uv")
UID = 20_001
PORT = 5000
MB = 1000**2
ZRAM = 2000 * MB
WARM = 200  #: requests that a dyno has served before it sleeps
DEADLINE = 60.0  #: seconds for a dyno to listen
CHECKSUM = "SHA256:" + "0" * 64


@dataclass
class Figures:
    """One list per figure, a value each round; seconds and bytes."""

    awake: list[int] = field(default_factory=list)
    frozen: list[int] = field(default_factory=list)
    asleep: list[int] = field(default_factory=list)
    swapped: list[int] = field(default_factory=list)
    compressed: list[int] = field(default_factory=list)
    freeze: list[float] = field(default_factory=list)
    reclaim: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    thaw: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    from_frozen: list[float] = field(default_factory=list)
    from_swap: list[float] = field(default_factory=list)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    if swaps.active():
        raise SystemExit("This machine has swap already: what zram holds could not be told apart.")
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="deodar-bench-") as folder:
        async with prepared(Path(folder)) as engine:
            for number in range(rounds):
                await measure(engine, f"dyno-{number}", figures)
    report(figures, rounds)


@asynccontextmanager
async def prepared(folder: Path) -> AsyncIterator[LocalEngine]:
    """An engine with zram and the app's slug."""
    stack = Path(os.environ.get("DEODAR_TEST_STACK", "/var/lib/deodar/stacks/deodar-12/run"))
    paths = settings.Paths(data=folder)
    run = paths.stacks / "deodar-12" / "run"
    run.parent.mkdir(parents=True)
    run.symlink_to(stack)
    engine = LocalEngine(paths=paths, subnet="10.84.0.0/16", zram=ZRAM)
    await engine.prepare()
    try:
        packed = await engine.pack_slug(await built(folder / "tree"), uid=UID)
        await engine.keep_slug(packed, checksum=CHECKSUM, uid=UID)
        yield engine
    finally:
        await engine.teardown()
        await engine.close()


async def built(tree: Path) -> Path:
    """The app with its packages, for the stack's Python."""
    shutil.copytree(APP, tree)
    await subprocess.run(
        *(UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", "/usr/bin/python3"),
        *("--target", str(tree / "lib"), "-r", str(tree / "requirements.txt")),
        timeout=300,
    )
    return tree


def spec(container_id: str) -> base.Spec:
    return base.Spec(
        id=container_id,
        app_id="bench",
        name="web.1",
        uid=UID,
        argv=("python3", "-m", "gunicorn", "-w", "2", "-b", f"0.0.0.0:{PORT}", "app:app"),
        env=ConfigVars(PATH="/usr/bin:/bin", HOME="/app", PYTHONPATH="/app/lib"),
        stack="deodar-12",
        slug=CHECKSUM,
        size=size_of("Basic"),
        port=PORT,
    )


async def measure(engine: LocalEngine, dyno: str, figures: Figures) -> None:
    """One dyno: awake, frozen and woken, then frozen with its memory pushed out and woken, twice."""
    address = str((await engine.create(spec(dyno))).address)
    await engine.start(dyno)
    async with asyncio.timeout(DEADLINE):
        while not await engine.ready(dyno, PORT):  # noqa: ASYNC110 - it happens in other processes
            await asyncio.sleep(0.01)
    figures.warm += [await request(address) for _ in range(WARM)][-5:]
    figures.awake.append(await resident(engine, dyno))

    figures.freeze.append(await timed(engine.freeze(dyno)))
    figures.frozen.append(await resident(engine, dyno))
    figures.thaw.append(await timed(engine.thaw(dyno)))
    await engine.freeze(dyno)
    figures.from_frozen.append(await woken(engine, dyno, address))

    for times in (figures.reclaim, figures.again):
        before = held()
        await engine.freeze(dyno)
        times.append(await timed(engine.reclaim(dyno)))
        if times is figures.reclaim:
            figures.asleep.append(await resident(engine, dyno))
            figures.swapped.append((await engine.usage([dyno]))[dyno].swap)
            figures.compressed.append(held() - before)
        figures.from_swap.append(await woken(engine, dyno, address))
    await engine.remove(dyno)


async def request(address: str) -> float:
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection(address, PORT)
    writer.write(b"GET /orders HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"The dyno answered {answer[:60]!r}")
    return time.perf_counter() - start


async def woken(engine: LocalEngine, dyno: str, address: str) -> float:
    """Seconds from the decision to wake to the answer's last byte."""
    start = time.perf_counter()
    await engine.thaw(dyno)
    await request(address)
    return time.perf_counter() - start


async def timed(act: Awaitable[None]) -> float:
    start = time.perf_counter()
    await act
    return time.perf_counter() - start


async def resident(engine: LocalEngine, dyno: str) -> int:
    usage = (await engine.usage([dyno]))[dyno]
    return usage.rss + usage.cache


def held() -> int:
    """Bytes of RAM that zram takes."""
    return sum(
        swap.stored((swaps.BLOCKS / area.zram / "mm_stat").read_text())
        for area in swaps.active()
        if area.zram
    )


def report(figures: Figures, rounds: int) -> None:
    awake, asleep = harness.median(figures.awake), harness.median(figures.asleep)
    share = harness.median(figures.compressed) / harness.median(figures.swapped)
    harness.report(
        f"Sleep of a Flask app, gunicorn with 2 workers (medians of {rounds} dynos)",
        [
            ("resident, awake", size(figures.awake), "-"),
            ("resident, frozen", size(figures.frozen), "-"),
            ("resident, frozen and reclaimed", size(figures.asleep), "-"),
            ("  of awake", f"{asleep / awake:.1%}", "≤ 3 %"),
            ("swapped", size(figures.swapped), "-"),
            ("RAM that zram takes for it", size(figures.compressed), "-"),
            ("  of what was swapped", f"{share:.0%}", "≤ 45 %"),
            ("freeze", ms(figures.freeze), "-"),
            ("reclaim, the first time", ms(figures.reclaim), "-"),
            ("reclaim, again after a request", ms(figures.again), "-"),
            ("thaw", ms(figures.thaw), "≤ 1 ms"),
            ("request to one that is awake", ms(figures.warm), "-"),
            ("thaw + request, frozen", ms(figures.from_frozen), "-"),
            ("thaw + request, reclaimed", ms(figures.from_swap), "-"),
        ],
    )


def size(values: Sequence[int]) -> str:
    return f"{harness.median(values) / MB:.1f} MB"


def ms(values: Sequence[float]) -> str:
    return f"{harness.median(values) * 1000:.2f} ms"


if __name__ == "__main__":
    asyncio.run(main())
