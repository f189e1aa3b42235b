"""Builds from source to release, with the memory engine in the build dyno's place."""

import asyncio
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from deodar import settings
from deodar.actions import builds as wishes
from deodar.actions import releases
from deodar.adapters.disk import Disk
from deodar.engines.base import Spec
from deodar.engines.memory import MemoryEngine
from deodar.loops.compiler.loop import Compiler
from deodar.loops.compiler.pipeline import Pipeline
from deodar.model import errors
from deodar.model.app import DEFAULT_STACK
from deodar.model.build import INTERRUPTED, Build, BuildStatus
from deodar.model.release import Release
from deodar.settings import Settings
from deodar.store import apps, builds
from deodar.store import releases as ledger
from tests.loops.conftest import OWNER, SHOP, World

SOURCE = {"Procfile": "worker: python work.py\n", "work.py": "print('working')\n"}

Script = Callable[["BuildDyno"], None]


@dataclass
class BuildDyno:
    """What a test's buildpacks find, and what they may do."""

    engine: MemoryEngine
    spec: Spec

    def folder(self, target: str) -> Path:
        return next(each.source for each in self.spec.volumes if each.target == target)

    def say(self, text: str) -> None:
        self.engine.say(self.spec.id, text)

    def leave(self, name: str, text: str) -> None:
        (self.folder("/tmp/deodar/result") / name).write_text(text)

    def end(self, status: int = 0) -> None:
        self.engine.exit(self.spec.id, status)


def python(dyno: BuildDyno) -> None:
    dyno.say("-----> Python app detected")
    dyno.leave("name", "Python")
    dyno.leave("detected", "heroku/python")
    dyno.end()


@dataclass
class Shop:
    """A compiler, and the hands of somebody who pushes."""

    world: World
    settings: Settings
    compiler: Compiler
    scripts: list[Script] = field(default_factory=list)

    async def push(
        self,
        files: Mapping[str, str] = SOURCE,
        *,
        commit: str = "abcdef0123456789",
        stack: str = DEFAULT_STACK,
    ) -> str:
        """A source laid ready and its build wished; not built yet."""
        build_id = wishes.new_id()
        folder = self.settings.paths.builds / build_id
        folder.mkdir(parents=True)
        with tarfile.open(folder / "source.tar", "w") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                tar.addfile(info, io.BytesIO(text.encode()))
        async with self.world.db.write() as tx:
            await wishes.create(
                tx,
                replace(SHOP, build_stack=stack),
                build_id=build_id,
                commit=commit,
                commit_description="change",
                user=OWNER.email,
                now=self.world.now,
            )
        return build_id

    async def build(self, files: Mapping[str, str] = SOURCE, script: Script = python) -> Build:
        self.scripts.append(script)
        build_id = await self.push(files)
        await self.compiler.reconcile(SHOP.id)
        return await self.get(build_id)

    async def get(self, build_id: str) -> Build:
        async with self.world.db.read() as tx:
            build = await builds.find(tx, SHOP.id, build_id)
        assert build is not None
        return build

    async def releases(self) -> list[Release]:
        async with self.world.db.read() as tx:
            return await ledger.of_app(tx, SHOP.id)

    def output(self, build: Build) -> str:
        return (self.settings.paths.builds / f"{build.id}.log").read_text()


def lay_stack(stacks: Path, name: str) -> None:
    """What says that a stack is complete; the memory engine needs no more of it."""
    facts = {
        "name": name,
        "suite": "bookworm",
        "built_at": "2030-01-01T00:00:00+00:00",
        "digest": "SHA256:00",
        "packages": {},
        "build_packages": {},
    }
    (stacks / name).mkdir(parents=True)
    (stacks / name / "stack.json").write_text(json.dumps(facts))


@pytest.fixture
async def shop(world: World, tmp_path: Path) -> Shop:
    chosen = settings.read({"DEODAR_DATA": str(tmp_path / "data"), "DEODAR_BUILD_DISK": "2 MB"})
    for folder in (chosen.paths.builds, chosen.paths.caches, chosen.paths.slugs):
        folder.mkdir(parents=True)
    lay_stack(chosen.paths.stacks, DEFAULT_STACK)
    pipeline = Pipeline(
        db=world.db,
        engine=world.engine,
        clock=world.clock,
        settings=chosen,
        disk=Disk([chosen.paths.data], floor=0),
        web_url=lambda app: f"https://{app.name}.localhost:8443/",
    )
    compiler = Compiler(
        db=world.db,
        engine=world.engine,
        logs=world.logs,
        clock=world.clock,
        pipeline=pipeline,
        paths=chosen.paths,
    )
    made = Shop(world, chosen, compiler)

    def on_start(engine: MemoryEngine, spec: Spec) -> None:
        made.scripts.pop(0)(BuildDyno(engine, spec))

    world.engine._on_start = on_start
    return made


async def test_a_build_makes_a_slug_and_a_release(shop: Shop) -> None:
    build = await shop.build()

    assert build.status is BuildStatus.SUCCEEDED
    last = (await shop.releases())[-1]
    assert (last.version, last.description, last.id) == (2, "Deploy abcdef01", build.release_id)
    async with shop.world.db.read() as tx:
        slug = await ledger.slug(tx, str(build.slug_id))
        app = await apps.find(tx, SHOP.id)
    assert slug is not None
    assert app is not None
    assert (slug.process_types, slug.buildpack_description) == (
        {"worker": "python work.py"},
        "Python",
    )
    assert app.detected_buildpack == "heroku/python"
    assert slug.checksum in shop.world.machine.slugs


async def test_the_output_is_herokus_from_the_first_step_to_the_last(shop: Shop) -> None:
    build = await shop.build()

    lines = shop.output(build).splitlines()
    assert lines[:4] == [
        "-----> Building on the deodar-12 stack",
        "-----> Python app detected",
        "-----> Discovering process types",
        "       Procfile declares types     -> worker",
    ]
    assert lines[-6:] == [
        "       Done: 0.0M",
        "-----> Launching...",
        "       Released v2",
        "       https://shop.localhost:8443/ deployed to Deodar",
        "",
        "Verifying deploy... done.",
    ]


async def test_buildpacks_find_config_vars_as_files(shop: Shop) -> None:
    found: dict[str, str] = {}

    def look(dyno: BuildDyno) -> None:
        env = dyno.folder("/tmp/deodar/env")
        found.update({path.name: path.read_text() for path in env.iterdir()})
        python(dyno)

    async with shop.world.db.write() as tx:
        await releases.set_config(tx, SHOP, {"SECRET": "a\nb"}, user="", now=shop.world.now)
    await shop.build(script=look)

    assert found == {"SECRET": "a\nb"}


async def test_a_build_that_fails_changes_nothing_and_says_why(shop: Shop) -> None:
    def fail(dyno: BuildDyno) -> None:
        dyno.say(" !     No matching distribution found for nosuch==1")
        dyno.leave("failure", "Push rejected, failed to compile Python app.")
        dyno.end(1)

    build = await shop.build(script=fail)

    assert (build.status, build.message) == (
        BuildStatus.FAILED,
        "Push rejected, failed to compile Python app.",
    )
    assert [each.version for each in await shop.releases()] == [1]
    assert " !     No matching distribution found for nosuch==1" in shop.output(build)
    assert list(shop.settings.paths.slugs.iterdir()) == []


async def test_a_malformed_procfile_fails_the_build_with_its_line(shop: Shop) -> None:
    build = await shop.build({"Procfile": "web: serve\noops\n"})

    assert build.status is BuildStatus.FAILED
    assert " !     Procfile line 2 is not valid: 'oops'." in shop.output(build)


async def test_what_slugignore_names_is_not_in_the_slug(shop: Shop) -> None:
    seen: set[str] = set()

    def look(dyno: BuildDyno) -> None:
        seen.update(path.name for path in dyno.folder("/app").iterdir())
        python(dyno)

    await shop.build({**SOURCE, ".slugignore": "*.psd\n", "art.psd": "big"}, look)

    assert seen == {"Procfile", "work.py", ".slugignore"}


async def test_the_second_build_finds_the_cache_and_the_pinned_buildpack(shop: Shop) -> None:
    def keep(dyno: BuildDyno) -> None:
        (dyno.folder("/tmp/deodar/cache") / "kept").write_text("from the first build")
        python(dyno)

    told: list[tuple[str, ...]] = []

    def look(dyno: BuildDyno) -> None:
        kept = dyno.folder("/tmp/deodar/cache") / "kept"
        told.append((kept.read_text(), dyno.spec.argv[-1]))
        python(dyno)

    await shop.build(script=keep)
    await shop.build(script=look)

    assert told == [("from the first build", "heroku/python")]


async def test_a_stack_that_cannot_be_built_fails_the_build_and_says_why(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deodar.adapters.stacks.debian.SPACE", 10**18)
    (shop.settings.paths.stacks / DEFAULT_STACK / "stack.json").unlink()

    build = await shop.build()

    assert build.status is BuildStatus.FAILED
    lines = shop.output(build).splitlines()
    assert lines[0] == "-----> Building the stack deodar-12 (once)"
    assert lines[2].startswith(" !     Building the stack deodar-12 needs ")


async def test_a_stack_that_was_removed_fails_the_build_and_says_what_to_do(shop: Shop) -> None:
    build_id = await shop.push(stack="own")
    await shop.compiler.reconcile(SHOP.id)

    build = await shop.get(build_id)
    assert build.status is BuildStatus.FAILED
    assert shop.output(build).splitlines() == [
        "",
        " !     The stack own is not on this machine. Import it: deodar stacks:import own PATH, "
        "or choose another for the app: heroku stack:set deodar-12",
        "",
        " !     Push rejected, failed to compile the app.",
    ]


async def test_builds_of_an_app_are_made_in_their_order(shop: Shop) -> None:
    shop.scripts += [python, python]
    await shop.push(commit="1" * 16)
    await shop.push(commit="2" * 16)
    await shop.compiler.reconcile(SHOP.id)

    assert [each.description for each in await shop.releases()] == [
        "Initial release",
        "Deploy 11111111",
        "Deploy 22222222",
    ]


async def test_a_build_over_its_time_is_stopped(shop: Shop) -> None:
    def hang(dyno: BuildDyno) -> None:
        asyncio.get_running_loop().call_soon(pass_time)

    def pass_time() -> None:
        shop.world.now += timedelta(minutes=15, seconds=1)

    build = await shop.build(script=hang)

    assert build.message == "The build took longer than 15 minutes and was stopped."
    assert shop.world.machine.containers == {}


async def test_a_build_that_fills_the_disk_is_stopped_at_its_quota(shop: Shop) -> None:
    def fill(dyno: BuildDyno) -> None:
        (dyno.folder("/tmp/deodar/cache") / "much").write_bytes(b"x" * 3_000_000)
        asyncio.get_running_loop().call_soon(pass_time)

    def pass_time() -> None:
        shop.world.now += timedelta(seconds=6)

    build = await shop.build(script=fill)

    assert build.message == (
        "The build wrote more than 0.002 GB and was stopped. "
        "Remove what it does not need, or clear its cache."
    )
    assert shop.world.machine.containers == {}


async def test_builds_that_a_killed_control_plane_left_are_failed_cleanly(shop: Shop) -> None:
    waiting = await shop.get(await shop.push())
    begun = await shop.get(await shop.push())
    async with shop.world.db.write() as tx:
        await wishes.take_up(tx, begun, now=shop.world.now)
    await shop.compiler.recover()

    for build in (waiting, begun):
        ended = await shop.get(build.id)
        assert (ended.status, ended.message) == (BuildStatus.FAILED, INTERRUPTED)
    assert [path.suffix for path in shop.settings.paths.builds.iterdir()] == [".log", ".log"]


async def test_a_build_whose_release_was_made_before_the_kill_has_succeeded(shop: Shop) -> None:
    build = await shop.build()
    async with shop.world.db.write() as tx:
        await builds.update_build(tx, replace(build, status=BuildStatus.PENDING))
    await shop.compiler.recover()

    assert (await shop.get(build.id)).status is BuildStatus.SUCCEEDED


async def test_a_slug_over_the_limit_fails_the_build_and_leaves_no_image(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deodar.loops.compiler.pipeline.SLUG_LIMIT", 10)

    build = await shop.build()

    assert str(build.message).startswith("Compiled slug size: 0.0M is too large")
    assert list(shop.settings.paths.slugs.glob("*.packed")) == []
    assert shop.world.machine.slugs == {}


async def test_what_a_slug_cannot_hold_fails_the_build_before_it_is_packed(shop: Shop) -> None:
    def leave_a_pipe(dyno: BuildDyno) -> None:
        os.mkfifo(dyno.folder("/app") / "pipe")
        python(dyno)

    build = await shop.build(script=leave_a_pipe)

    assert str(build.message).startswith("pipe is a device, a pipe or a socket")
    assert list(shop.settings.paths.slugs.iterdir()) == []


async def test_an_app_destroyed_during_its_build_gets_no_release(shop: Shop) -> None:
    async def destroy() -> None:
        async with shop.world.db.write() as tx:
            await apps.delete_app(tx, SHOP.id)
        shop.world.now += timedelta(seconds=2)

    tasks = []
    shop.scripts.append(lambda dyno: tasks.append(asyncio.create_task(destroy())))
    build = await shop.push()
    await shop.compiler.reconcile(SHOP.id)
    await asyncio.gather(*tasks)

    async with shop.world.db.read() as tx:
        assert await ledger.of_app(tx, SHOP.id) == []
    assert shop.world.machine.containers == {}
    output = (shop.settings.paths.builds / f"{build}.log").read_text()
    assert " !     The app was destroyed during the build." in output


async def test_a_build_that_is_canceled_while_it_waits_is_not_begun(shop: Shop) -> None:
    build_id = await shop.push()
    await cancel(shop, build_id)
    await shop.compiler.reconcile(SHOP.id)

    build = await shop.get(build_id)
    assert (build.status, build.message) == (
        BuildStatus.FAILED,
        "The build was canceled by owner@example.com.",
    )
    assert shop.world.machine.made == 0


async def test_a_build_that_is_canceled_while_it_runs_is_stopped_and_says_so(shop: Shop) -> None:
    begun = asyncio.Event()
    shop.scripts.append(lambda dyno: begun.set())
    build_id = await shop.push()
    building = asyncio.create_task(shop.compiler.reconcile(SHOP.id))
    await begun.wait()

    await cancel(shop, build_id)
    shop.world.now += timedelta(seconds=2)
    await building

    build = await shop.get(build_id)
    assert (build.status, build.release_id) == (BuildStatus.FAILED, None)
    assert " !     The build was canceled by owner@example.com.\n" in shop.output(build)
    assert shop.world.machine.containers == {}


async def test_a_build_that_ended_cannot_be_canceled(shop: Shop) -> None:
    build = await shop.build()

    with pytest.raises(errors.Conflict, match="has ended or was released"):
        await cancel(shop, build.id)


async def test_a_heroku_yml_alone_is_refused_before_anything_runs(shop: Shop) -> None:
    build_id = await shop.push({"heroku.yml": "build: {docker: {web: Dockerfile}}"})
    await shop.compiler.reconcile(SHOP.id)

    build = await shop.get(build_id)
    assert (build.status, shop.world.machine.made) == (BuildStatus.FAILED, 0)
    assert str(build.message).startswith("The app has a heroku.yml, which builds Docker images;")


async def test_a_heroku_yml_beside_a_procfile_is_passed_over(shop: Shop) -> None:
    build = await shop.build({**SOURCE, "heroku.yml": "build: {}"})

    assert build.status is BuildStatus.SUCCEEDED


async def cancel(shop: Shop, build_id: str) -> None:
    async with shop.world.db.write() as tx:
        build = await builds.find(tx, SHOP.id, build_id)
        assert build is not None
        await wishes.cancel(tx, build, user=OWNER.email, now=shop.world.now)


async def test_a_source_that_was_uploaded_in_a_folder_of_its_own_is_built(shop: Shop) -> None:
    build_id = await shop.push({"shop-1a2b/Procfile": "worker: work\n", "shop-1a2b/work": ""})
    folder = shop.settings.paths.builds / build_id
    (folder / "source.tar").rename(folder / "upload")
    shop.scripts.append(python)

    await shop.compiler.reconcile(SHOP.id)

    assert (await shop.get(build_id)).status is BuildStatus.SUCCEEDED


async def test_a_source_that_cannot_be_fetched_fails_the_build_with_the_reason(shop: Shop) -> None:
    build_id = await shop.push()
    folder = shop.settings.paths.builds / build_id
    (folder / "source.tar").unlink()
    (folder / "address.json").write_text('{"url": "http://127.0.0.1:1/a.tgz?token=secret"}')

    await shop.compiler.reconcile(SHOP.id)

    build = await shop.get(build_id)
    assert (build.status, build.message) == (
        BuildStatus.FAILED,
        "The source http://127.0.0.1:1/a.tgz cannot be fetched: ConnectError.",
    )


async def test_the_newest_build_ends_those_that_wait_where_the_app_says_so(shop: Shop) -> None:
    async with shop.world.db.write() as tx:
        await releases.set_config(
            tx, SHOP, {"DEODAR_NEWEST_BUILD": "on"}, user=OWNER.email, now=shop.world.now
        )
    older, newer = await shop.push(), await shop.push()
    shop.scripts.append(python)

    await shop.compiler.reconcile(SHOP.id)

    ended = [await shop.get(build_id) for build_id in (older, newer)]
    assert [(build.status.value, build.message) for build in ended] == [
        ("failed", "Build canceled: a newer one was pushed"),
        ("succeeded", None),
    ]
    assert not (shop.settings.paths.builds / older).exists()


async def test_the_newest_build_ends_one_that_runs_where_the_app_says_so(shop: Shop) -> None:
    async with shop.world.db.write() as tx:
        await releases.set_config(
            tx, SHOP, {"DEODAR_NEWEST_BUILD": "on"}, user=OWNER.email, now=shop.world.now
        )
    older = await shop.push()
    begun = asyncio.Event()
    shop.scripts += [lambda _: begun.set(), python]
    building = asyncio.create_task(shop.compiler.reconcile(SHOP.id))
    await begun.wait()

    newer = await shop.push()
    shop.world.now += timedelta(seconds=2)
    await building
    await shop.compiler.reconcile(SHOP.id)

    ended = [await shop.get(build_id) for build_id in (older, newer)]
    assert [build.status.value for build in ended] == ["failed", "succeeded"]
    assert " !     Build canceled: a newer one was pushed\n" in shop.output(ended[0])
