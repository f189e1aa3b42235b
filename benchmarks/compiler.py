"""The slug compiler on three real apps: rebuilds, clean builds, packing, mounting, and who is disturbed.

python benchmarks/compiler.py [--rounds 5]

Clean builds are compared with the package tool alone, run in the same minute on the same machine with
empty caches of its own; both fetch from the same registry.
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import harness
import httpx
from no_request_lost import Load

from deodar.adapters import slugs
from deodar.engines.local.images import Images
from deodar.engines.local.mounts import Namespace

APPS = Path(__file__).parent / "apps"
UV = shutil.which("uv") or str(Path(__file__).parent.parent / ".tools/uv/bin/uv")
UID = 20_000  #: whose files a slug's are
PACKAGES = ("django", "sqlalchemy", "psycopg[binary]", "flask", "pillow")  #: some 90 MB of files
RATE = 100  #: requests a second to the app that is watched


@dataclass(frozen=True, slots=True)
class App:
    """One of the three, and what installs its packages without us."""

    name: str
    source: str  #: the file whose line changes
    target: float | None  #: seconds for a rebuild
    tool: str
    alone: Callable[[Path], Sequence[Sequence[str]]]  #: commands, in a copy of the app


def uv(folder: Path) -> Sequence[Sequence[str]]:
    python = str(folder / "venv")
    install = (UV, "pip", "install", "--no-cache", "--compile-bytecode", "--python", python)
    return (
        (UV, "venv", "--quiet", "--python", "/usr/bin/python3", python),
        (*install, "-r", "requirements.txt"),
    )


def npm(folder: Path) -> Sequence[Sequence[str]]:
    return (("npm", "ci", "--cache", str(folder / "npm-cache"), "--no-audit", "--no-fund"),)


def uv_and_static(folder: Path) -> Sequence[Sequence[str]]:
    python = str(folder / "venv/bin/python")
    return (*uv(folder), (python, "manage.py", "collectstatic", "--noinput"))


FLASK = App("flask", "app.py", 3, "uv pip install", uv)
EXPRESS = App("express", "server.js", 4, "npm ci", npm)
DJANGO = App("django", "shop/urls.py", None, "uv pip install, collectstatic", uv_and_static)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows: list[tuple[str, str, str]] = []
    with harness.running() as platform, tempfile.TemporaryDirectory() as name:
        for app in (FLASK, EXPRESS, DJANGO):
            rows += build_often(platform, app, Path(name), rounds)
        rows.append(disturb(platform, Path(name), rounds))
    with tempfile.TemporaryDirectory(prefix="deodar-bench-") as name:
        rows += asyncio.run(pack_and_mount(Path(name), rounds))
    harness.report("The slug compiler", rows)


# ---- builds --------------------------------------------------------------------------------------


def build_often(
    platform: harness.Platform, app: App, folder: Path, rounds: int
) -> list[tuple[str, str, str]]:
    clean, alone, rebuilt = [], [], []
    for number in range(3):
        name = f"{app.name}-{number}"  # a new app has no cache
        platform.create(name)
        repository = harness.Repository(platform, folder / name, app=name, source=APPS / app.name)
        repository.commit("first")
        clean.append(compiling(repository.timeline()))
        alone.append(install_alone(app, folder / f"{name}-alone"))
    for number in range(rounds):
        version = f"version {number}"
        repository.change(
            app.source,
            old='VERSION = "first"' if number == 0 else f'VERSION = "version {number - 1}"',
            new=f'VERSION = "{version}"',
        )
        rebuilt.append(until_answered(platform, repository, name, version))
    ratio = harness.median([ours / theirs for ours, theirs in zip(clean, alone, strict=True)])
    target = f"≤ {app.target:g} s" if app.target else "-"
    return [
        (f"{app.name}: one line changed, push → answered", seconds(rebuilt), target),
        (f"{app.name}: clean build", seconds(clean), "-"),
        (f"{app.name}: {app.tool} alone", seconds(alone), "-"),
        (f"{app.name}: clean build against that", f"{ratio:.2f} ×", "≤ 1.3 ×"),
    ]


def compiling(timeline: Sequence[tuple[float, str]]) -> float:
    """Seconds from the source lying there until its slug's files do: packing has a row of its own."""
    begins = next(at for at, line in timeline if "-----> Building on" in line)
    ends = next(at for at, line in timeline if "-----> Discovering process types" in line)
    return ends - begins


def timed(act: Callable[[], object]) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


def install_alone(app: App, folder: Path) -> float:
    shutil.copytree(APPS / app.name, folder)
    env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}

    def install() -> None:
        for argv in app.alone(folder):
            subprocess.run(argv, cwd=folder, env=env, check=True, capture_output=True)

    return timed(install)


def until_answered(
    platform: harness.Platform, repository: harness.Repository, app: str, version: str
) -> float:
    """Seconds from the push's start until the router gives the new version's answer."""
    pushing = threading.Thread(target=repository.push)
    with httpx.Client(headers={"Host": f"{app}.localhost"}) as client:

        def answers() -> bool:
            page = client.get(f"http://127.0.0.1:{platform.router}/")
            return page.text.strip() == version

        start = time.monotonic()
        pushing.start()
        harness.eventually(answers, within=120)
        taken = time.monotonic() - start
    pushing.join()
    return taken


def seconds(values: Sequence[float]) -> str:
    return f"{harness.median(values):.2f} s"


# ---- the others, meanwhile -----------------------------------------------------------------------


def disturb(platform: harness.Platform, folder: Path, rounds: int) -> tuple[str, str, str]:
    """The p99 of a running app while another is built, against the same app in peace."""
    ratios = []
    for number in range(rounds):
        name = f"noise-{number}"
        platform.create(name)
        repository = harness.Repository(
            platform, folder / name, app=name, source=APPS / DJANGO.name
        )
        repository.commit("first")
        busy, lasted = asyncio.run(watched(platform, repository.push))
        calm, _ = asyncio.run(watched(platform, partial(time.sleep, lasted)))
        ratios.append(busy / calm)
    return (
        f"p99 at {RATE} requests/s during a clean build of another app",
        f"{harness.median(ratios):.2f} ×",
        "≤ 1.5 ×",
    )


async def watched(platform: harness.Platform, act: Callable[[], object]) -> tuple[float, float]:
    """The p99 of the Flask app's answers while `act` runs, and how long that was."""
    load = Load(platform.router, "flask-2.localhost", rate=RATE)
    over = asyncio.Event()
    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run(over))
        await asyncio.to_thread(act)
        over.set()
    lasted = time.monotonic() - start
    if set(load.outcomes) != {"HTTP/1.1 200 OK"}:
        raise RuntimeError(f"requests failed: {load.outcomes}")
    return statistics.quantiles(load.seconds, n=100)[-1], lasted


# ---- slugs ---------------------------------------------------------------------------------------


async def pack_and_mount(folder: Path, rounds: int) -> list[tuple[str, str, str]]:
    tree = await asyncio.to_thread(make_tree, folder)
    size = slugs.size_of(tree) / 1e6
    namespace = Namespace(folder / "ns" / "mnt")
    await namespace.open(hide=[])
    images = Images(slugs=folder / "slugs", points=folder / "points", namespace=namespace)
    await images.prepare()
    packed, warm, cold = [], [], []
    try:
        for _ in range(rounds):
            start = time.monotonic()
            slugs.inspect(tree)
            archive, image = await asyncio.gather(
                slugs.pack(tree, folder / "slugs"), images.pack(tree, uid=UID)
            )
            await images.keep(image, checksum=archive.checksum, uid=UID)
            packed.append(time.monotonic() - start)
            await images.mount(archive.checksum, uid=UID)
            for _ in range(10):  # ten dynos
                start = time.monotonic()
                await images.mount(archive.checksum, uid=UID)
                warm.append(time.monotonic() - start)
            mounts = len(list((folder / "points").iterdir()))
            await images.forget(archive.checksum)
            start = time.monotonic()
            await images.mount(archive.checksum, uid=UID)
            cold.append(time.monotonic() - start)
            await images.forget(archive.checksum)
    finally:
        await images.destroy()
        namespace.destroy()
    gzipped = await asyncio.to_thread(gzip, tree)
    return [
        (f"packing {size:.0f} MB: archive and image", seconds(packed), "≤ 2 s"),
        ("its archive against tar.gz", f"{archive.size / gzipped:.2f} ×", "≤ 1.0 ×"),
        ("slug ready where it is", f"{harness.median(warm) * 1000:.2f} ms", "≤ 10 ms"),
        ("slug ready from its archive", seconds(cold), "≤ 1 s"),
        ("mounts that ten dynos use", str(mounts), "1"),
    ]


def make_tree(folder: Path) -> Path:
    tree = folder / "tree"
    install = (UV, "pip", "install", "--quiet", "--compile-bytecode", "--target", str(tree))
    subprocess.run((*install, *PACKAGES), check=True)
    return tree


def gzip(tree: Path) -> int:
    """Bytes of the tree as a tar.gz."""
    done = subprocess.run(("tar", "cz", str(tree)), check=True, capture_output=True)
    return len(done.stdout)


if __name__ == "__main__":
    main()
