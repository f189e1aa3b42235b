"""The disk stays bounded: real files and SQLite, the memory engine, a clock that tests move."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from deodar.actions import builds as wishes
from deodar.actions import releases
from deodar.adapters import stacks
from deodar.adapters.disk import Disk
from deodar.engines.base import Spec
from deodar.loops.housekeeping.loop import LOG_LIMIT, Chore, Housekeeping
from deodar.loops.housekeeping.plan import Rules
from deodar.model import errors
from deodar.model.app import ConfigVars
from deodar.model.build import Build
from deodar.model.disk import Space
from deodar.model.formation import size_of
from deodar.model.release import ReleaseStatus
from deodar.settings import Paths
from deodar.store import apps, builds
from deodar.store import releases as ledger
from tests.loops.conftest import OWNER, SHOP, World


def digits(number: int) -> str:
    return f"{number:064x}"


class FullDisk(Disk):
    """A disk that is full until `relieved` says otherwise."""

    relieved: Callable[[], bool] = staticmethod(lambda: False)

    def space(self) -> Space:
        free = 1000 if self.relieved() else 1
        return Space(free=free, total=10_000, floor=100)


@dataclass
class House:
    """A data directory, and what lies in it."""

    world: World
    paths: Paths
    disk: FullDisk
    keeper: Housekeeping

    async def deploy(self, **quantities: int) -> str:
        """A release whose slug lies on disk as a build leaves it; answers the slug's checksum."""
        await self.world.deploy(**quantities)
        checksum = f"SHA256:{digits(self.world.released)}"
        async with self.world.db.write() as tx:
            await tx.execute(
                ledger.slugs.update()
                .where(ledger.slugs.c.id == f"slug-{self.world.released}")
                .values(checksum=checksum)
            )
        self.lay_slug(checksum)
        return checksum

    def lay_slug(self, checksum: str) -> None:
        (self.paths.slugs / f"{checksum.removeprefix('SHA256:')}.tar.zst").touch()
        self.world.machine.slugs[checksum] = self.paths.slugs

    def slugs(self) -> tuple[set[str], set[str]]:
        """Those with an archive, and those with an image."""
        archives = self.paths.slugs.glob("*.tar.zst")
        return (
            {f"SHA256:{path.name.removesuffix('.tar.zst')}" for path in archives},
            set(self.world.machine.slugs),
        )

    async def statuses(self) -> list[tuple[str, str | None]]:
        async with self.world.db.read() as tx:
            found = await ledger.of_app(tx, SHOP.id)
        return [(each.status.value, each.slug_id) for each in found]

    async def build(self, build_id: str, *, started: bool = False) -> Build:
        async with self.world.db.write() as tx:
            wish = await wishes.create(
                tx,
                SHOP,
                build_id=build_id,
                commit=None,
                commit_description=None,
                user=OWNER.email,
                now=self.world.now,
            )
            return await wishes.take_up(tx, wish, now=self.world.now) if started else wish

    def lay(self, path: Path, *, size: int = 0) -> Path:
        """A file, written now by the world's clock."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        at = self.world.now.timestamp()
        for each in (path, path.parent):
            os.utime(each, (at, at))
        return path


@pytest.fixture
async def house(world: World, tmp_path: Path) -> House:
    paths = Paths(data=tmp_path)
    for folder in (paths.slugs, paths.builds, paths.caches, paths.repos):
        folder.mkdir()
    disk = FullDisk([tmp_path], floor=100)
    keeper = Housekeeping(
        db=world.db,
        engine=world.engine,
        logs=world.logs,
        clock=world.clock,
        paths=paths,
        disk=disk,
        rules=Rules(slugs_kept=2, cache_limit=100_000, dyno_disk=1000, outputs_kept=2),
    )
    return House(world, paths, disk, keeper)


async def test_an_old_slug_goes_and_its_release_cannot_be_rolled_back_to(house: House) -> None:
    await house.deploy(worker=0)
    second, third = await house.deploy(worker=0), await house.deploy(worker=0)
    house.world.now += timedelta(days=31)

    await house.keeper.reconcile(Chore.SLUGS)

    assert await house.statuses() == [
        ("succeeded", None),
        ("expired", None),
        ("succeeded", "slug-2"),
        ("succeeded", "slug-3"),
    ]
    assert house.slugs() == ({second, third}, {second, third})
    async with house.world.db.write() as tx:
        target = await ledger.find(tx, SHOP.id, "v2")
        assert target is not None
        with pytest.raises(errors.InvalidParams, match="it has no slug that can run"):
            await releases.roll_back(tx, SHOP, target, user="", now=house.world.now)


async def test_a_build_of_an_old_slug_stays_in_the_list(house: House) -> None:
    for _ in range(3):
        await house.deploy(worker=0)
    made = replace(await house.build("b1"), slug_id="slug-1")
    async with house.world.db.write() as tx:
        await builds.update_build(tx, made)
    house.world.now += timedelta(days=31)

    await house.keeper.reconcile(Chore.SLUGS)

    async with house.world.db.read() as tx:
        assert await builds.find(tx, SHOP.id, "b1") == replace(made, slug_id=None)


async def test_a_slug_that_a_dyno_runs_stays(house: House) -> None:
    house.world.routes = False  # the new release never serves, so the old dyno stays
    first = await house.deploy(web=1)
    await house.world.settle()
    for _ in range(3):
        await house.deploy(web=1)
    house.world.now += timedelta(days=31)

    await house.keeper.reconcile(Chore.SLUGS)

    assert first in house.slugs()[0]
    assert len(house.slugs()[0]) == 3


async def test_a_file_that_another_slug_shares_stays(house: House) -> None:
    shared = await house.deploy(worker=0)
    for _ in range(3):
        await house.deploy(worker=0)
    async with house.world.db.write() as tx:
        await tx.execute(
            ledger.slugs.update().where(ledger.slugs.c.id == "slug-4").values(checksum=shared)
        )
    house.world.now += timedelta(days=31)

    await house.keeper.reconcile(Chore.SLUGS)

    assert (await house.statuses())[1] == ("expired", None)
    assert shared in house.slugs()[0]


async def test_files_that_no_slug_names_go_unless_a_build_may_be_making_them(house: House) -> None:
    house.lay_slug(f"SHA256:{digits(99)}")
    begun = await house.build("b1", started=True)

    await house.keeper.reconcile(Chore.SLUGS)
    during = house.slugs()
    async with house.world.db.write() as tx:
        await wishes.fail(tx, begun, "", now=house.world.now)
    await house.keeper.reconcile(Chore.SLUGS)

    assert during == ({f"SHA256:{digits(99)}"}, {f"SHA256:{digits(99)}"})
    assert house.slugs() == (set(), set())


async def test_half_made_archives_go_after_an_hour(house: House) -> None:
    old = house.lay(house.paths.slugs / ".old.partial")
    house.world.now += timedelta(hours=2)
    new = house.lay(house.paths.slugs / ".new.partial")

    await house.keeper.reconcile(Chore.SLUGS)

    assert (old.exists(), new.exists()) == (False, True)


async def test_leftovers_of_builds_and_old_uploads_go(house: House) -> None:
    for number in range(4):
        house.world.now += timedelta(minutes=1)
        build = await house.build(f"b{number}")
        house.lay(house.paths.builds / f"b{number}.log")
        house.lay(house.paths.builds / f"b{number}/source.tar")
        if number != 1:
            async with house.world.db.write() as tx:
                await wishes.fail(tx, build, "", now=house.world.now)
    house.lay(house.paths.sources / "old")
    house.world.now += timedelta(days=1)
    house.lay(house.paths.sources / "new")

    await house.keeper.reconcile(Chore.BUILDS)

    # b1 waits; b2 and b3 are the newest two
    left = sorted(path.name for path in house.paths.builds.iterdir())
    assert left == ["b1", "b1.log", "b2.log", "b3.log"]
    assert [path.name for path in house.paths.sources.iterdir()] == ["new"]


async def test_an_overgrown_cache_is_emptied_but_not_while_it_is_built_with(house: House) -> None:
    house.lay(house.paths.caches / SHOP.id / "wheels", size=200_000)
    house.lay(house.paths.caches / "other" / "wheels", size=50_000)
    build = await house.build("b1", started=True)

    await house.keeper.reconcile(Chore.CACHES)
    during = sorted(path.name for path in house.paths.caches.iterdir())
    async with house.world.db.write() as tx:
        await wishes.fail(tx, build, "", now=house.world.now)
    await house.keeper.reconcile(Chore.CACHES)

    assert during == ["other", SHOP.id]
    assert [path.name for path in house.paths.caches.iterdir()] == ["other"]


async def test_a_cache_whose_deletion_a_kill_cut_short_is_deleted(house: House) -> None:
    house.lay(house.paths.caches / ".doomed-1" / "wheels")

    await house.keeper.reconcile(Chore.CACHES)

    assert list(house.paths.caches.iterdir()) == []


async def test_a_dyno_that_writes_too_much_is_told_and_restarted(house: House) -> None:
    await house.deploy(worker=1)
    await house.world.settle()
    before = await house.world.dyno("worker.1")
    house.world.engine.write(before.id, 1001)

    await house.keeper.reconcile(Chore.DYNOS)
    await house.world.settle()

    assert (await house.world.dyno("worker.1")).id != before.id
    assert (
        "worker.1: Disk quota exceeded: 1 kB written, 1 kB allowed. Restarting with an empty disk"
        in await house.world.said()
    )


async def test_a_full_disk_costs_caches_first_and_nothing_more_than_it_takes(house: House) -> None:
    await house.deploy(worker=1)
    await house.deploy(worker=1)
    await house.world.settle()
    slugs = house.slugs()
    cache = house.lay(house.paths.caches / SHOP.id / "wheels", size=50_000)
    house.disk.relieved = lambda: not cache.exists()

    await house.keeper.reconcile(Chore.SPACE)

    assert (cache.exists(), house.slugs()) == (False, slugs)
    assert house.world.running() == ["worker.1"]


async def test_a_full_disk_then_costs_idle_images_and_slugs_kept_for_their_age(
    house: House,
) -> None:
    for _ in range(4):
        await house.deploy(worker=1)
    await house.world.settle()

    await house.keeper.reconcile(Chore.SPACE)

    third, fourth = f"SHA256:{digits(3)}", f"SHA256:{digits(4)}"
    assert house.slugs() == ({third, fourth}, {fourth})
    assert house.world.running() == ["worker.1"]
    assert [status for status, _ in await house.statuses()].count(ReleaseStatus.EXPIRED) == 2


async def test_a_destroyed_app_leaves_nothing_on_disk(house: House) -> None:
    await house.deploy(worker=1)
    await house.world.settle()
    (house.paths.repos / f"{SHOP.id}.git").mkdir()
    house.lay(house.paths.caches / SHOP.id / "wheels")
    house.world.logs.append(SHOP.id, [])
    async with house.world.db.write() as tx:
        await apps.delete_app(tx, SHOP.id)

    assert await house.keeper.left_behind() == [SHOP.id]
    assert await house.keeper.clear(SHOP.id) is not None  # its dyno runs still
    await house.world.settle()
    assert await house.keeper.clear(SHOP.id) is None

    paths = house.paths
    left = [*paths.repos.iterdir(), *paths.caches.iterdir(), *paths.logs.iterdir()]
    assert (left, house.slugs(), await house.keeper.left_behind()) == ([], (set(), set()), [])


async def test_an_app_that_is_there_is_not_cleared(house: House) -> None:
    cache = house.lay(house.paths.caches / SHOP.id / "wheels")

    assert await house.keeper.left_behind() == []
    assert await house.keeper.clear(SHOP.id) is None
    assert cache.exists()


async def test_a_build_of_a_destroyed_app_is_ended(house: House) -> None:
    spec = Spec(
        id="b1",
        app_id="gone",
        name="build",
        uid=1,
        argv=(),
        env=ConfigVars(),
        stack="deodar-12",
        build=True,
        size=size_of("Basic"),
    )
    await house.world.engine.create(spec)

    await house.keeper.clear("gone")

    assert house.world.machine.containers == {}


async def test_our_own_log_begins_anew_when_it_is_long(house: House) -> None:
    with house.paths.log.open("ab", buffering=0) as log:
        log.write(b"x" * (LOG_LIMIT + 1))

        await house.keeper.reconcile(Chore.LOG)
        log.write(b"on it goes\n")

    assert house.paths.log.read_bytes() == b"on it goes\n"
    assert house.paths.log.with_suffix(".log.1").stat().st_size == LOG_LIMIT + 1


async def test_a_replaced_stack_is_discarded_when_nothing_runs_any_more(house: House) -> None:
    folder = house.paths.stacks
    for name in (".deodar-12@1", ".deodar-12@2"):
        (folder / name / "run").mkdir(parents=True)
    (folder / "deodar-12").symlink_to(".deodar-12@2")
    await house.world.deploy(web=1)
    await house.world.settle()

    await house.keeper.reconcile(Chore.STACKS)
    while_it_runs = [path.name for path in stacks.former(folder)]
    await house.world.scale(web=0)
    await house.world.settle()
    await house.keeper.reconcile(Chore.STACKS)

    assert while_it_runs == [".deodar-12@1"]
    assert stacks.former(folder) == []
    assert (folder / "deodar-12/run").is_dir()


async def test_a_folder_of_stacks_that_is_lent_is_left_to_its_owner(
    house: House, tmp_path: Path
) -> None:
    (tmp_path / "lent/.deodar-12@1/run").mkdir(parents=True)
    house.paths.stacks.symlink_to(tmp_path / "lent")

    await house.keeper.reconcile(Chore.STACKS)

    assert (tmp_path / "lent/.deodar-12@1/run").is_dir()
