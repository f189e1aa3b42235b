"""An app falls asleep, sinks and wakes: idling and manifold on the memory engine, hours in milliseconds."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from deodar.actions import dynos as wishes
from deodar.actions import formations as scaling
from deodar.actions import releases as ledger
from deodar.engines.memory import MemoryProcess
from deodar.loops.idling.loop import ASK, Idling
from deodar.loops.idling.plan import ROOM
from deodar.model.idling import Bed, Defaults, Depth, Rule
from deodar.store import apps, idling
from tests.loops.conftest import SHOP, World

Rebuilt = Callable[[World], AbstractAsyncContextManager[World]]

HALF_HOUR = timedelta(minutes=30)


@dataclass
class Night:
    """A world in which time passes and apps fall asleep; what a dyno's own file says can be set."""

    world: World
    defaults: Defaults = field(default_factory=lambda: Defaults(rule=Rule(after=HALF_HOUR)))
    available: float = 1.0

    async def look(self) -> None:
        idle = Idling(
            db=self.world.db,
            engine=self.world.engine,
            clock=self.world.clock,
            defaults=self.defaults,
            available=lambda: self.available,
            every=60,
        )
        await idle.reconcile("machine")
        await self.world.settle()

    async def passes(self, **time: float) -> None:
        self.world.now += timedelta(**time)
        await self.world.settle()
        await self.look()

    async def asked(self) -> None:
        """A request is held for the app."""
        async with self.world.db.write() as tx:
            await idling.rouse(tx, [SHOP.id], self.world.now)
            tx.ring(SHOP.id)
        await self.world.settle()

    async def depth(self) -> Depth | None:
        async with self.world.db.read() as tx:
            app = await apps.find(tx, SHOP.id)
        assert app is not None
        return app.sleep.depth if app.sleep else None

    def frozen(self) -> list[str]:
        return sorted(
            each.spec.name for each in self.world.machine.containers.values() if each.frozen
        )


@pytest.fixture
async def night(world: World) -> Night:
    world.engine._on_exec = lambda process: process.exit(1)
    await world.deploy(web=1, worker=1)
    await world.settle()
    return Night(world)


async def test_an_app_that_nobody_asks_for_is_frozen_and_goes_on_when_somebody_does(
    night: Night,
) -> None:
    before = {dyno.id for dyno in await night.world.dynos()}
    await night.passes(minutes=30)
    asleep = await night.world.states(), night.frozen()
    await night.asked()

    assert asleep == ({"web.1": "idle", "worker.1": "idle"}, ["web.1", "worker.1"])
    assert (await night.world.states(), night.frozen()) == ({"web.1": "up", "worker.1": "up"}, [])
    assert {dyno.id for dyno in await night.world.dynos()} == before
    assert [line for line in await night.world.said() if line.startswith("web.1:")][-4:] == [
        "web.1: Idling",
        "web.1: State changed from up to down",
        "web.1: Unidling",
        "web.1: State changed from down to up",
    ]


async def test_an_app_that_woke_stays_awake_as_long_as_one_that_was_asked_for(
    night: Night,
) -> None:
    await night.passes(minutes=30)
    await night.asked()
    await night.passes(minutes=29)
    still_awake = await night.depth()
    await night.passes(minutes=1)

    assert (still_awake, await night.depth()) == (None, Depth.FROZEN)


async def test_a_sleeper_sinks_into_swap_and_is_stopped_after_a_day(night: Night) -> None:
    night.world.machine.swap = 4 * ROOM
    web = (await night.world.dyno("web.1")).id
    night.world.engine.take(web, rss=ROOM)
    await night.passes(minutes=30)
    await night.passes(minutes=10)
    reclaimed = await night.depth(), night.world.machine.containers[web].usage.swap
    await night.passes(hours=24)

    assert reclaimed == (Depth.RECLAIMED, ROOM)
    assert await night.world.states() == {"web.1": "parked", "worker.1": "parked"}
    assert night.world.running() == []
    assert "web.1: Stopping all processes with SIGTERM" in await night.world.said()


async def test_a_stopped_app_boots_when_it_is_asked_for(night: Night) -> None:
    night.defaults = Defaults(rule=Rule(after=HALF_HOUR), bed=Bed.STOP)
    await night.passes(minutes=30)
    asleep = await night.world.states(), night.world.running()
    await night.asked()

    assert asleep == ({"web.1": "parked", "worker.1": "parked"}, [])
    assert await night.world.states() == {"web.1": "up", "worker.1": "up"}
    assert night.world.running() == ["web.1", "worker.1"]
    said = [line for line in await night.world.said() if line.startswith("web.1:")]
    assert said[said.index("web.1: Idling") :] == [
        "web.1: Idling",
        "web.1: Stopping all processes with SIGTERM",
        "web.1: Process exited with status 143",
        "web.1: State changed from up to down",
        "web.1: Unidling",
        "web.1: Starting process with command `run web`",
        "web.1: State changed from down to starting",
        "web.1: State changed from starting to up",
    ]


async def test_a_boot_that_fails_after_a_sleep_is_a_crash_and_says_why(night: Night) -> None:
    night.defaults = Defaults(rule=Rule(after=HALF_HOUR), bed=Bed.STOP)
    await night.passes(minutes=30)
    night.world.engine.refuse("The slug is damaged.")
    await night.asked()

    assert (await night.world.dyno("web.1")).state.value == "crashed"
    assert "web.1: The slug is damaged." in await night.world.said()


async def test_a_dyno_that_is_busy_with_itself_is_let_work(night: Night) -> None:
    touched = night.world.now + timedelta(minutes=25)

    def answer(process: MemoryProcess) -> None:
        assert process.argv == ASK
        process.say(f"{touched.timestamp():.0f}\n".encode())
        process.exit(0)

    night.world.engine._on_exec = answer
    await night.passes(minutes=30)
    busy = await night.depth()
    await night.passes(minutes=24)
    waiting = await night.depth()
    await night.passes(minutes=1)

    assert (busy, waiting, await night.depth()) == (None, None, Depth.FROZEN)


async def test_somebody_who_is_in_a_dyno_keeps_it_awake(night: Night) -> None:
    web = (await night.world.dyno("web.1")).id
    night.world.engine._on_exec = None
    async with night.world.engine.exec(web, ("bash",), env={}):
        night.world.engine._on_exec = lambda process: process.exit(1)
        await night.passes(minutes=30)
        await night.world.settle()

    assert (await night.depth(), await night.world.states()) == (
        None,
        {"web.1": "up", "worker.1": "up"},
    )


@pytest.mark.parametrize("change", ["scale", "restart", "config"])
async def test_what_its_owner_changes_wakes_it(night: Night, change: str) -> None:
    await night.passes(minutes=30)
    async with night.world.db.write() as tx:
        match change:
            case "scale":
                await scaling.scale(tx, SHOP, [scaling.Wish(type="web", quantity=2)])
            case "restart":
                await wishes.restart_all(tx, SHOP)
            case "config":
                await ledger.set_config(tx, SHOP, {"A": "b"}, user="", now=night.world.now)
    await night.world.settle()

    assert (await night.depth(), night.frozen()) == (None, [])
    assert set((await night.world.states()).values()) == {"up"}


async def test_an_app_says_for_itself_when_it_sleeps(night: Night) -> None:
    changes: dict[str, str | None] = {"DEODAR_IDLE_AFTER": "5", "DEODAR_IDLE_WORKERS": "off"}
    async with night.world.db.write() as tx:
        await ledger.set_config(tx, SHOP, changes, user="", now=night.world.now)
    await night.world.settle()
    await night.passes(minutes=5)

    assert await night.world.states() == {"web.1": "idle", "worker.1": "up"}


async def test_a_machine_that_rebooted_finds_its_sleepers_parked(
    night: Night, rebuilt: Rebuilt
) -> None:
    await night.passes(minutes=30)
    night.world.engine.reboot()
    async with rebuilt(night.world) as after:
        await after.settle()
        parked = await after.states(), after.running()
        await Night(after).asked()

        assert parked == ({"web.1": "parked", "worker.1": "parked"}, [])
        assert after.running() == ["web.1", "worker.1"]


async def test_a_control_plane_that_died_between_deed_and_record_finds_the_sleeper(
    night: Night, rebuilt: Rebuilt
) -> None:
    await night.passes(minutes=30)
    for container in night.world.machine.containers.values():
        container.frozen = container.spec.name == "worker.1"
    async with rebuilt(night.world) as after:
        await after.settle()

        assert (await after.states(), Night(after).frozen()) == (
            {"web.1": "idle", "worker.1": "idle"},
            ["web.1", "worker.1"],
        )


async def test_a_sleeping_app_is_destroyed_with_all_that_is_its(night: Night) -> None:
    await night.passes(minutes=30)
    async with night.world.db.write() as tx:
        await apps.delete_app(tx, SHOP.id)
    await night.world.manifold.reconcile(SHOP.id)

    assert night.world.machine.containers == {}
