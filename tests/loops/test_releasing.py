"""Release phases from wish to end: plan, loop and manifold together, on a real store and a real log."""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from deodar.actions import dynos as one_offs
from deodar.actions import releases
from deodar.loops.releasing import plan
from deodar.loops.releasing.loop import Releasing
from deodar.model.app import AppId, ConfigVars
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.release import Release, ReleaseStatus, Slug
from deodar.store import formations
from deodar.store import releases as ledger
from tests.loops.conftest import OWNER, SHOP, START, World

Rebuilt = Callable[[World], AbstractAsyncContextManager[World]]

MIGRATE = {"worker": "work", "release": "migrate"}


@dataclass
class Phases:
    """The world's releasing loop, and who deploys."""

    world: World
    folder: Path

    def loop(self) -> Releasing:
        return Releasing(
            db=self.world.db,
            engine=self.world.engine,
            logs=self.world.logs,
            clock=self.world.clock,
            dice=random.Random(1),
            folder=self.folder,
            lasts=3600,
        )

    async def deploy(self, slug_id: str, types: Mapping[str, str] = MIGRATE) -> Release:
        slug = Slug(
            id=slug_id,
            app_id=SHOP.id,
            checksum=f"SHA256:{slug_id}",
            size=1,
            stack="deodar-12",
            process_types=types,
            created_at=self.world.now,
        )
        async with self.world.db.write() as tx:
            await ledger.insert_slug(tx, slug)
            return await releases.deploy(
                tx, SHOP, slug, description=slug_id, user=OWNER.email, now=self.world.now
            )

    async def set(self, **config: str) -> Release:
        async with self.world.db.write() as tx:
            return await releases.set_config(tx, SHOP, config, user=OWNER.email, now=self.world.now)

    async def run(self, *, status: int = 0, says: str = "") -> None:
        """The next release phase to its end: the manifold runs it, the loop decides."""
        async with self.under_way() as container_id:
            if says:
                self.world.engine.say(container_id, says)
            self.world.engine.exit(container_id, status)

    def under_way(self) -> "UnderWay":
        return UnderWay(self)

    async def told(self) -> list[tuple[int, str, bool]]:
        async with self.world.db.read() as tx:
            return [
                (each.version, each.status.value, each.current)
                for each in await ledger.of_app(tx, SHOP.id)
            ]

    async def shape(self) -> dict[str, int]:
        async with self.world.db.read() as tx:
            return {each.type: each.quantity for each in await formations.of_app(tx, SHOP.id)}

    def output(self, release: Release) -> str:
        return (self.folder / SHOP.id / f"{release.id}.log").read_text()


class UnderWay:
    """A release phase that runs; at the end of the block what became of it is decided."""

    def __init__(self, phases: Phases) -> None:
        self.phases = phases

    async def __aenter__(self) -> str:
        self.deciding = asyncio.create_task(self.phases.loop().reconcile(SHOP.id))
        dyno = await self._dyno()
        await self.phases.world.settle()
        return dyno.id

    async def __aexit__(self, *failure: object) -> None:
        async with asyncio.timeout(10):
            while not self.deciding.done():
                await self.phases.world.settle()
                await asyncio.sleep(0.001)
        await self.deciding
        await self.phases.world.settle()

    async def _dyno(self) -> Dyno:
        async with asyncio.timeout(10):
            while True:
                for dyno in await self.phases.world.dynos():
                    if dyno.type == "release" and dyno.state is State.PROVISIONING:
                        return dyno
                await asyncio.sleep(0.001)


@pytest.fixture
async def phases(world: World, tmp_path: Path) -> Phases:
    return Phases(world, tmp_path / "releases")


async def test_a_release_stands_when_its_phase_has_succeeded(phases: Phases) -> None:
    await phases.deploy("s1")
    before = await phases.told()

    await phases.run()

    assert before == [(1, "succeeded", True), (2, "pending", False)]
    assert await phases.told() == [(1, "succeeded", False), (2, "succeeded", True)]
    assert await phases.shape() == {"worker": 0, "release": 0}
    assert await phases.world.dynos() == []


async def test_nothing_of_a_release_boots_while_its_phase_runs(phases: Phases) -> None:
    await phases.deploy("s1", {"web": "serve", "release": "migrate"})

    async with phases.under_way() as phase:
        running = phases.world.running()
        phases.world.engine.exit(phase, 0)

    assert [name.split(".")[0] for name in running] == ["release"]
    assert phases.world.running() == ["web.1"]


async def test_a_failed_phase_leaves_code_config_and_dynos_as_they_were(phases: Phases) -> None:
    await phases.deploy("s1", {"web": "serve"})
    await phases.world.settle()
    web = await phases.world.dyno("web.1")

    failed = await phases.deploy("s2", {"web": "serve --new", "release": "migrate"})
    await phases.run(status=1, says="no such table")

    assert await phases.told() == [
        (1, "succeeded", False),
        (2, "succeeded", True),
        (3, "failed", False),
    ]
    assert [each.command for each in await phases.world.formation() if each.type == "web"] == [
        "serve"
    ]
    assert await phases.world.dynos() == [await phases.world.dyno("web.1")]
    assert (await phases.world.dyno("web.1")).id == web.id
    assert phases.output(failed) == (
        "no such table\n !     Release command failed: Process exited with status 1\n"
    )


async def test_a_change_of_config_that_fails_changes_nothing(phases: Phases) -> None:
    await phases.deploy("s1")
    await phases.run()

    await phases.set(DATABASE="elsewhere")
    await phases.run(status=1)

    async with phases.world.db.read() as tx:
        current = await ledger.current(tx, SHOP.id)
    assert current is not None
    assert (current.version, current.config) == (2, {})


async def test_the_phase_runs_with_the_config_that_it_is_to_bring(phases: Phases) -> None:
    await phases.deploy("s1")
    await phases.run()
    await phases.set(DATABASE="elsewhere")

    async with phases.under_way() as phase:
        env = phases.world.machine.containers[phase].spec.env
        phases.world.engine.exit(phase, 0)

    assert env["DATABASE"] == "elsewhere"


async def test_what_comes_after_an_undecided_release_builds_upon_it_and_waits(
    phases: Phases,
) -> None:
    await phases.deploy("s1")
    last = await phases.set(A="1")
    plain = await phases.deploy("s2", {"worker": "work"})
    before = await phases.told()

    async with phases.under_way() as phase:
        phases.world.engine.exit(phase, 0)
        async with asyncio.timeout(10):
            while len(phases.world.machine.containers) < 2:
                await phases.world.settle()
                await asyncio.sleep(0.001)
                others = [one for one in phases.world.machine.containers if one != phase]
                if others:
                    phases.world.engine.exit(others[0], 0)
                    break

    assert [status for _, status, _ in before] == ["succeeded", "pending", "pending", "pending"]
    assert (last.config, plain.config) == ({"A": "1"}, {"A": "1"})
    assert (await phases.told())[-1] == (4, "succeeded", True)
    assert await phases.shape() == {"worker": 0}


async def test_a_phase_that_takes_too_long_is_stopped_and_fails(phases: Phases) -> None:
    release = await phases.deploy("s1")

    async with phases.under_way():
        await phases.world.pass_time(hours=1)

    assert (await phases.told())[-1] == (2, "failed", False)
    assert (
        phases.output(release) == " !     Release command failed: It ran longer than 60 minutes\n"
    )


async def test_a_phase_that_somebody_stops_fails(phases: Phases) -> None:
    release = await phases.deploy("s1")

    async with phases.under_way() as phase, phases.world.db.write() as tx:
        await one_offs.end(tx, SHOP, phase, "stop")

    assert (await phases.told())[-1] == (2, "failed", False)
    assert phases.output(release) == " !     Release command failed: It was stopped\n"


async def test_a_phase_outlives_the_control_plane_and_is_decided_by_the_next(
    phases: Phases, rebuilt: Rebuilt
) -> None:
    release = await phases.deploy("s1")
    killed = phases.under_way()
    phase = await killed.__aenter__()
    phases.world.engine.say(phase, "half way")
    await phases.world.settle()
    killed.deciding.cancel()
    await asyncio.gather(killed.deciding, return_exceptions=True)

    async with rebuilt(phases.world) as again:
        after = Phases(again, phases.folder)
        again.engine.say(phase, "all the way")
        again.engine.exit(phase, 0)
        deciding = UnderWay(after)
        deciding.deciding = asyncio.create_task(after.loop().reconcile(SHOP.id))
        await deciding.__aexit__()

        assert (await after.told())[-1] == (2, "succeeded", True)
        assert after.output(release) == "half way\nall the way\n"


async def test_the_owner_is_told_in_the_apps_log(phases: Phases) -> None:
    await phases.deploy("s1")

    await phases.run(status=3, says="no")

    said = [line for line in await phases.world.said() if line.startswith("api: ")]
    assert said == [
        "api: Running release v2 commands by user owner@example.com",
        "api: Release v2 failed: Process exited with status 3",
    ]


async def test_outputs_of_a_destroyed_app_go(phases: Phases) -> None:
    left = phases.folder / "gone-app"
    left.mkdir(parents=True)

    assert await phases.loop().keys() == ["gone-app"]
    await phases.loop().reconcile("gone-app")

    assert list(phases.folder.iterdir()) == []


def a_release(version: int, command: str | None = "migrate") -> Release:
    return Release(
        id=f"r{version}",
        app_id=AppId("app"),
        version=version,
        slug_id="s",
        description="",
        user="",
        status=ReleaseStatus.PENDING,
        current=False,
        command=command,
        config=ConfigVars(),
        created_at=START,
        updated_at=START,
    )


def a_phase(release: Release, state: State = State.UP, **more: object) -> Dyno:
    about: dict[str, object] = {
        "id": f"d-{release.id}",
        "app_id": release.app_id,
        "type": "release",
        "number": 1000,
        "kind": Kind.ONE_OFF,
        "size": "Basic",
        "command": "migrate",
        "release_id": release.id,
        "release_version": release.version,
        "slug_id": "s",
        "state": state,
        "state_since": START,
        "created_at": START - timedelta(seconds=1),
        "time_to_live": 3600,
    }
    return Dyno(**about | more)  # type: ignore[arg-type]


def test_the_oldest_pending_release_is_next() -> None:
    old, new = a_release(2), a_release(3, None)

    assert [plan.plan(pending, []) for pending in ([], [old, new], [new])] == [
        None,
        plan.Begin(old),
        plan.Stand(new),
    ]


def test_a_phase_that_has_its_dyno_is_attended_and_not_begun_again() -> None:
    old = a_release(2)
    ended = a_phase(old, State.COMPLETE)

    assert plan.plan([old], [ended]) == plan.Attend(old, ended)


@pytest.mark.parametrize(
    ("state", "more", "why"),
    [
        (State.COMPLETE, {"exit_status": 0}, None),
        (State.COMPLETE, {"exit_status": 1}, "Process exited with status 1"),
        (State.COMPLETE, {"exit_status": 137}, "Process exited with status 137 (SIGKILL)"),
        (
            State.COMPLETE,
            {"reason": "The machine may have restarted"},
            "The machine may have restarted",
        ),
        (State.DOWN, {"condemned": "stop", "exit_status": 0}, "It was stopped"),
        (State.DOWN, {"exit_status": 143}, "It ran longer than 60 minutes"),
        (State.DOWN, {"time_to_live": 3}, "It ran longer than 3 seconds"),
        (State.CRASHED, {"reason": "The stack is missing"}, "The stack is missing"),
    ],
)
def test_only_a_phase_that_ended_well_by_itself_is_no_failure(
    state: State, more: dict[str, object], why: str | None
) -> None:
    assert plan.failure(a_phase(a_release(2), state, **more)) == why
