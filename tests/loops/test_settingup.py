"""Apps that are set up from an app.json: plan, loop and manifold together, on a real store; the
compiler's part is played."""

import asyncio
import io
import json
import random
import tarfile
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deodar import settings
from deodar.actions import builds as wishes
from deodar.actions import setups
from deodar.actions.setups import Overrides
from deodar.adapters.disk import Disk
from deodar.loops.settingup.loop import SettingUp
from deodar.model.app import App, AppId
from deodar.model.build import INTERRUPTED, Build
from deodar.model.dyno import Dyno, State
from deodar.model.log import LogLine
from deodar.model.release import Slug
from deodar.model.setup import Setup
from deodar.store import apps, builds, dynos, formations
from deodar.store import releases as ledger
from deodar.store import setups as stored
from tests.loops.conftest import OWNER, World

Rebuilt = Callable[[World], AbstractAsyncContextManager[World]]

SEEDED = {
    "env": {"GREETING": "hello", "KEY": {"generator": "secret"}},
    "formation": {"web": {"quantity": 2, "size": "standard-1x"}, "clock": {}},
    "scripts": {"postdeploy": "seed"},
}


@dataclass
class Site:
    """The world's set-up loop, and one app that is set up."""

    world: World
    folder: Path
    setup_id: str = "setup-1"

    @property
    def paths(self) -> settings.Paths:
        return settings.Paths(data=self.folder)

    def loop(self) -> SettingUp:
        return SettingUp(
            db=self.world.db,
            engine=self.world.engine,
            logs=self.world.logs,
            clock=self.world.clock,
            dice=random.Random(1),
            disk=Disk([self.folder], floor=0),
            paths=self.paths,
            lasts=3600,
        )

    async def begin(
        self, files: Mapping[str, str], *, top: str = "", env: Mapping[str, str] | None = None
    ) -> Setup:
        """As the API does; `top` is a folder that everything lies in."""
        folder = self.paths.setups / self.setup_id
        folder.mkdir(parents=True)
        with tarfile.open(folder / "upload", "w:gz") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(f"{top}{name}")
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
        async with self.world.db.write() as tx:
            setup, _, _ = await setups.begin(
                tx,
                owner=OWNER,
                setup_id=self.setup_id,
                source={"url": "https://example.com/a.tgz", "version": "v1"},
                overrides=Overrides(name="garden", env=env or {}),
                dice=random.Random(1),
                now=self.world.now,
            )
        return setup

    async def begin_with(self, manifest: Mapping[str, Any], **env: str) -> Setup:
        return await self.begin({"app.json": json.dumps(manifest)}, env=env)

    async def move(self) -> float | None:
        return await self.loop().reconcile((await self.setup()).app_id)

    async def setup(self) -> Setup:
        async with self.world.db.read() as tx:
            found = await stored.get(tx, self.setup_id)
        assert found is not None
        return found

    async def app(self) -> App | None:
        async with self.world.db.read() as tx:
            return await apps.find(tx, (await self.setup()).app_id)

    async def builds(self) -> list[Build]:
        async with self.world.db.read() as tx:
            return await builds.of_app(tx, (await self.setup()).app_id)

    async def compile(self, *, types: str = "web") -> None:
        """The newest build makes its release."""
        build, app = (await self.builds())[-1], await self.app()
        assert app is not None
        slug = Slug(
            id="slug",
            app_id=app.id,
            checksum="SHA256:1",
            size=1,
            stack="deodar-12",
            process_types={types: "serve"},
            created_at=self.world.now,
        )
        async with self.world.db.write() as tx:
            build, _ = await wishes.release(tx, app, build, slug, detected=None, now=self.world.now)
            await wishes.succeed(tx, build, now=self.world.now)

    async def break_build(self, message: str) -> None:
        async with self.world.db.write() as tx:
            await wishes.fail(tx, (await self.builds())[-1], message, now=self.world.now)

    async def postdeploy(self) -> Dyno:
        async with self.world.db.read() as tx:
            found = await dynos.get(tx, (await self.setup()).dyno_id or "")
        assert found is not None
        return found

    async def config(self) -> dict[str, str]:
        async with self.world.db.read() as tx:
            release = await ledger.current(tx, (await self.setup()).app_id)
        assert release is not None
        return dict(release.config)

    async def shape(self) -> dict[str, tuple[int, str]]:
        async with self.world.db.read() as tx:
            types = await formations.of_app(tx, (await self.setup()).app_id)
        return {each.type: (each.quantity, each.size) for each in types}


@pytest.fixture
async def site(world: World, tmp_path: Path) -> Site:
    folder = tmp_path / "data"
    folder.mkdir()
    return Site(world, folder)


async def end_postdeploy(site: Site, *, state: State = State.COMPLETE, status: int = 0) -> None:
    """As the manifold tells of it, its output already in the log."""
    dyno = await site.postdeploy()
    async with site.world.db.write() as tx:
        await dynos.update_dyno(tx, replace(dyno, state=state, exit_status=status))


async def test_config_is_set_before_the_build_is_wished(site: Site) -> None:
    await site.begin_with(SEEDED, GREETING="bonjour", MORE="1")

    await site.move()

    config = await site.config()
    assert len(config.pop("KEY")) == 64
    assert config == {"GREETING": "bonjour", "MORE": "1"}
    [build] = await site.builds()
    assert (build.commit, (await site.setup()).status) == ("v1", "pending")
    with tarfile.open(site.paths.builds / build.id / "source.tar") as source:
        assert source.getnames() == ["app.json"]


async def test_the_folder_that_github_packs_everything_in_is_taken_away(site: Site) -> None:
    await site.begin({"app.json": "{}", "lib/a.py": "1"}, top="shop-1a2b3c/")

    await site.move()

    [build] = await site.builds()
    with tarfile.open(site.paths.builds / build.id / "source.tar") as source:
        assert source.getnames() == ["app.json", "lib/a.py"]


async def test_a_released_app_is_scaled_and_its_postdeploy_command_begun(site: Site) -> None:
    await site.begin_with(SEEDED)
    await site.move()
    await site.compile()

    await site.move()

    dyno = await site.postdeploy()
    assert (dyno.type, dyno.command, dyno.time_to_live) == ("postdeploy", "seed", 3600)
    assert await site.shape() == {"web": (2, "Standard-1X")}
    setup = await site.setup()
    assert (setup.status, setup.notes) == (
        "pending",
        ("formation.clock: the app has no process type clock",),
    )


async def test_what_the_postdeploy_command_printed_and_how_it_ended_is_kept(site: Site) -> None:
    await site.begin_with(SEEDED)
    await site.move()
    await site.compile()
    await site.move()
    dyno = await site.postdeploy()
    site.world.logs.append(
        dyno.app_id, [a_line(site, dyno.name, "seeding"), a_line(site, "web.1", "x")]
    )
    await end_postdeploy(site)

    await site.move()

    setup = await site.setup()
    assert (setup.status, setup.output, setup.exit_code) == ("succeeded", "seeding\n", 0)
    assert not (site.paths.setups / site.setup_id).exists()


def a_line(site: Site, dyno: str, text: str) -> LogLine:
    return LogLine(at=site.world.now, source="app", dyno=dyno, text=text)


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [(State.COMPLETE, 3, 3), (State.CRASHED, 0, 1), (State.DOWN, 143, 143)],
)
async def test_a_postdeploy_command_that_fails_fails_the_setup_but_not_the_app(
    site: Site, state: State, status: int, code: int
) -> None:
    await site.begin_with(SEEDED)
    await site.move()
    await site.compile()
    await site.move()
    await end_postdeploy(site, state=state, status=status)

    await site.move()

    setup = await site.setup()
    assert (setup.status, setup.exit_code, setup.failure) == (
        "failed",
        code,
        f"The postdeploy command ended with status {code}.",
    )
    assert await site.app() is not None


async def test_without_a_postdeploy_command_a_released_app_is_ready(site: Site) -> None:
    await site.begin_with({"success_url": "/hi"})
    await site.move()
    await site.compile()

    await site.move()

    setup = await site.setup()
    assert (setup.status, setup.output, setup.exit_code) == ("succeeded", None, None)


@pytest.mark.parametrize(
    ("files", "failure", "notes"),
    [
        ({"Procfile": "web: serve"}, "app.json not found", ()),
        ({"app.json": '{"env": {"A": {}}}'}, "invalid app.json", ("env.A: config var A is required",)),
        ({"app.json": '{"stack": 5}'}, "invalid app.json", ("stack: must be a text",)),
        ({"app.json": "{}" + " " * 300_000}, "app.json is over 262144 bytes.", ()),
    ],
)  # fmt: skip
async def test_of_a_bad_app_json_nothing_is_left_but_the_words(
    site: Site, files: dict[str, str], failure: str, notes: tuple[str, ...]
) -> None:
    await site.begin(files)

    await site.move()

    setup = await site.setup()
    assert (setup.status, setup.failure, setup.notes) == ("failed", failure, notes)
    assert await site.app() is None
    assert await site.builds() == []
    left = [*site.paths.setups.glob("*"), *site.paths.builds.glob("*")]
    assert left == []


async def test_an_app_that_was_pushed_to_meanwhile_outlives_a_bad_app_json(site: Site) -> None:
    await site.begin({"Procfile": "web: serve"})
    app = await site.app()
    assert app is not None
    async with site.world.db.write() as tx:
        await wishes.create(
            tx,
            app,
            build_id="pushed",
            commit="1a2b3c",
            commit_description="Push",
            user=OWNER.email,
            now=site.world.now,
        )

    await site.move()

    assert (await site.setup()).status == "failed"
    assert await site.app() is not None


async def test_a_build_that_fails_fails_the_setup_and_leaves_the_app(site: Site) -> None:
    await site.begin_with({})
    await site.move()
    await site.break_build("No default language could be detected for this app.")

    await site.move()

    setup = await site.setup()
    assert (setup.status, setup.failure) == (
        "failed",
        "The build failed: No default language could be detected for this app.",
    )
    assert await site.app() is not None


async def test_a_build_that_our_end_interrupted_is_wished_again_a_few_times(site: Site) -> None:
    await site.begin_with({})
    await site.move()
    states = []
    for _ in range(3):
        await site.break_build(INTERRUPTED)
        await site.move()
        states.append((len(await site.builds()), (await site.setup()).status))

    assert states == [(2, "pending"), (3, "pending"), (3, "failed")]


async def test_an_app_that_is_destroyed_ends_its_setup(site: Site) -> None:
    setup = await site.begin_with({})
    await site.move()
    async with site.world.db.write() as tx:
        await apps.delete_app(tx, AppId(setup.app_id))

    await site.move()

    assert (await site.setup()).failure == "The app was destroyed while it was set up."


async def test_a_control_plane_that_starts_again_goes_on_where_it_was(
    site: Site, rebuilt: Rebuilt
) -> None:
    await site.begin_with(SEEDED)
    await site.move()
    await site.compile()
    async with rebuilt(site.world) as again:
        revived = Site(again, site.folder)
        await revived.move()
        await end_postdeploy(revived)
    async with rebuilt(site.world) as third:
        last = Site(third, site.folder)

        keys = await last.loop().keys()
        await last.move()

        assert keys == [(await last.setup()).app_id]
        assert (await last.setup()).status == "succeeded"
        assert await last.loop().keys() == []


async def test_the_manifold_keeps_an_ended_postdeploy_dyno_until_it_was_looked_at(
    site: Site,
) -> None:
    await site.begin_with({"scripts": {"postdeploy": "seed"}})
    await site.move()
    await site.compile(types="worker")
    await site.move()
    dyno = await site.postdeploy()

    await settle(site, dyno)
    site.world.engine.exit(dyno.id, 0)
    await settle(site, dyno)
    kept = (await site.postdeploy()).state
    await site.move()
    await settle(site, dyno)

    assert (kept, (await site.setup()).status) == (State.COMPLETE, "succeeded")
    async with site.world.db.read() as tx:
        assert await dynos.get(tx, dyno.id) is None


async def settle(site: Site, dyno: Dyno) -> None:
    for _ in range(10):
        await site.world.manifold.reconcile(dyno.app_id)
        for _ in range(10):
            await asyncio.sleep(0)


async def test_a_source_that_nobody_wants_any_more_is_cleared_away(site: Site) -> None:
    await site.begin_with({})
    left = site.paths.setups / "left"
    left.mkdir()
    site.world.now = site.world.now.now(site.world.now.tzinfo)
    young = await site.loop().keys()
    stays = left.exists()
    await site.world.pass_time(hours=2)

    assert await site.loop().keys() == young
    assert (stays, left.exists()) == (True, False)
