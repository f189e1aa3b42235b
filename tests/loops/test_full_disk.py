"""The manifold on a disk that is really full: a small file system under the store and the logs."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deodar.actions import releases
from deodar.engines.memory import Machine
from deodar.model import errors
from deodar.store import accounts, apps
from tests.loops.conftest import OWNER, SHOP, START, World, a_world

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Takes every byte that is left."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * 4096)
        except OSError:
            return file


async def test_a_full_disk_stops_no_dyno_and_with_room_again_the_wish_is_reached(
    small_disk: Path,
) -> None:
    async with a_world(small_disk, Machine()) as world:
        async with world.db.write() as tx:
            await accounts.create(tx, OWNER, token="token")
            await apps.insert_app(tx, SHOP)
            await releases.first(tx, SHOP, user=OWNER.email, now=START)
        await world.deploy(web=2, worker=1)
        await world.settle()
        before = world.running()
        filler = fill(small_disk)
        world.engine.exit((await world.dyno("worker.1")).id, 1)
        failed = await fails(world)
        running = world.running()
        filler.unlink()
        await world.settle()

        assert failed
        assert running == ["web.1", "web.2"]
        assert world.running() == before == ["web.1", "web.2", "worker.1"]


async def fails(world: World) -> bool:
    """Whether the store says so, instead of losing what it was told."""
    try:
        for _ in range(20):
            await world.manifold.reconcile(SHOP.id)
    except errors.StoreFailed as error:
        return "full" in error.message or "I/O" in error.message
    return False
