"""The world settles on the wish: the manifold on the memory engine, hours in milliseconds."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from deodar.model import errors
from deodar.store import apps, dynos
from deodar.store import releases as ledger
from tests.loops.conftest import SHOP, World

Rebuilt = Callable[[World], AbstractAsyncContextManager[World]]


async def test_a_first_deploy_brings_its_dynos_up(world: World) -> None:
    await world.deploy(web=2, worker=1)
    await world.settle()

    assert await world.states() == {"web.1": "up", "web.2": "up", "worker.1": "up"}
    assert world.running() == ["web.1", "web.2", "worker.1"]


async def test_a_dyno_gets_port_memory_and_its_name(world: World) -> None:
    await world.deploy(web=1)
    await world.settle()

    spec = world.machine.containers[(await world.dyno("web.1")).id].spec
    assert {key: spec.env[key] for key in ("PORT", "DYNO", "HOME", "MEMORY_AVAILABLE")} == {
        "PORT": "5000",
        "DYNO": "web.1",
        "HOME": "/app",
        "MEMORY_AVAILABLE": "512",
    }
    assert (spec.slug, spec.uid, spec.argv[-1]) == ("SHA256:1", 20_000, "run web")


async def test_scaling_down_leaves_nothing_behind(world: World) -> None:
    await world.deploy(web=3, worker=2)
    await world.settle()
    await world.scale(web=1, worker=0)
    await world.settle()

    assert await world.states() == {"web.1": "up"}
    assert len(world.machine.containers) == 1


async def test_a_deploy_replaces_every_dyno_and_the_old_ones_are_gone(world: World) -> None:
    await world.deploy(web=2, worker=1)
    await world.settle()
    before = {dyno.id for dyno in await world.dynos()}
    await world.deploy(web=2, worker=1)
    await world.settle()

    after = await world.dynos()
    assert {dyno.name for dyno in after} == {"web.1", "web.2", "worker.1"}
    assert not before & {dyno.id for dyno in after}
    assert len(world.machine.containers) == 3


async def test_the_old_web_dyno_stays_while_the_router_does_not_take_the_new_one(
    world: World,
) -> None:
    await world.deploy(web=1)
    await world.settle()
    world.routes = False
    await world.deploy(web=1)
    await world.settle()

    assert world.running() == ["web.1", "web.1"]


async def test_a_deploy_that_crashes_at_boot_leaves_the_old_dyno_serving(world: World) -> None:
    await world.deploy(web=1)
    await world.settle()
    old = await world.dyno("web.1")
    world.engine.refuse("The slug is damaged.")
    await world.deploy(web=1)
    await world.settle()

    assert world.machine.containers[old.id].spec.slug == "SHA256:1"
    assert world.running() == ["web.1"]
    assert "web.1: The slug is damaged." in await world.said()


async def test_a_release_that_crashes_at_boot_fails_and_the_old_one_is_whole_again(
    world: World,
) -> None:
    await world.deploy(web=2, worker=1, clock=1)
    await world.settle()
    before = {dyno.id for dyno in await world.dynos()}
    world.engine._on_start = lambda engine, spec: engine.exit(spec.id, 1)
    await world.deploy(web=2, worker=1)
    await world.settle()

    kept = {dyno.id for dyno in await world.dynos() if dyno.type != "clock"}
    assert kept <= before
    async with world.db.read() as tx:
        told = [
            (each.version, each.status.value, each.current)
            for each in await ledger.of_app(tx, SHOP.id)
        ]
    assert told == [(1, "succeeded", False), (2, "succeeded", True), (3, "failed", False)]
    assert {each.type: each.quantity for each in await world.formation()} == {
        "web": 2,
        "clock": 1,
        "worker": 1,
    }
    assert (
        "api: Release v3 failed: web.1 crashed during boot (Process exited with status 1). "
        "v2 goes on serving"
    ) in await world.said()


async def test_a_dyno_is_cycled_after_a_day(world: World) -> None:
    await world.deploy(web=1, worker=1)
    await world.settle()
    before = {dyno.id for dyno in await world.dynos()}
    await world.pass_time(hours=24, minutes=216)

    assert world.running() == ["web.1", "worker.1"]
    assert not before & {dyno.id for dyno in await world.dynos()}
    assert "worker.1: Cycling" in await world.said()


async def test_a_dyno_that_exits_restarts_at_once_then_rests_and_says_so(world: World) -> None:
    await world.deploy(worker=1)
    await world.settle()
    first = await world.dyno("worker.1")
    world.engine.exit(first.id, 1)
    await world.settle()
    second = await world.dyno("worker.1")
    world.engine.exit(second.id, 1)
    await world.settle()

    assert (second.id != first.id, second.crashes) == (True, 1)
    assert await world.states() == {"worker.1": "crashed"}
    await world.pass_time(minutes=9, seconds=59)
    assert await world.states() == {"worker.1": "crashed"}
    await world.pass_time(seconds=1)
    assert await world.states() == {"worker.1": "up"}


async def test_a_crash_is_told_in_herokus_words(world: World) -> None:
    await world.deploy(worker=1)
    await world.settle()
    world.engine.exit((await world.dyno("worker.1")).id, 3)
    await world.settle()

    assert await world.said() == [
        "worker.1: Starting process with command `run worker`",
        "worker.1: State changed from starting to up",
        "worker.1: Process exited with status 3",
        "worker.1: State changed from up to crashed",
        "worker.1: State changed from crashed to starting",
        "worker.1: Starting process with command `run worker`",
        "worker.1: State changed from starting to up",
    ]


async def test_the_last_words_of_a_dyno_are_in_the_log_before_it_is_removed(world: World) -> None:
    await world.deploy(worker=1)
    await world.settle()
    dyno = await world.dyno("worker.1")
    world.engine.say(dyno.id, "last words")
    world.engine.exit(dyno.id, 0)
    await world.settle()

    assert "worker.1: last words" in await world.said()
    assert dyno.id not in world.machine.containers


async def test_a_web_dyno_that_never_binds_is_killed_and_crashed_with_r10(world: World) -> None:
    world.engine._on_start = lambda engine, spec: None
    await world.deploy(web=1)
    await world.settle()
    assert await world.states() == {"web.1": "starting"}

    await world.pass_time(seconds=60)

    said = await world.said()
    assert (
        "web.1: Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 60 seconds of launch"
        in said
    )
    assert "web.1: State changed from starting to crashed" in said


async def test_a_dyno_that_ignores_sigterm_is_killed_with_r12(world: World) -> None:
    await world.deploy(worker=1)
    await world.settle()
    world.engine.deafen((await world.dyno("worker.1")).id)
    await world.scale(worker=0)
    await world.settle()
    assert world.running() == ["worker.1"]

    await world.pass_time(seconds=30)

    assert (world.running(), await world.states()) == ([], {})
    assert (await world.said())[-4:] == [
        "worker.1: Error R12 (Exit timeout) -> Process failed to exit within 30 seconds of SIGTERM",
        "worker.1: Stopping process with SIGKILL",
        "worker.1: Process exited with status 137",
        "worker.1: State changed from up to down",
    ]


async def test_a_wished_restart_replaces_a_dyno(world: World) -> None:
    await world.deploy(web=1)
    await world.settle()
    old = await world.dyno("web.1")
    async with world.db.write() as tx:
        await dynos.condemn(tx, old.id, "restart")
    await world.settle()

    new = await world.dyno("web.1")
    assert (new.id != old.id, world.running()) == (True, ["web.1"])


async def test_a_container_that_vanished_is_replaced(world: World) -> None:
    await world.deploy(worker=1)
    await world.settle()
    del world.machine.containers[(await world.dyno("worker.1")).id]
    await world.settle()

    assert world.running() == ["worker.1"]
    assert (
        "worker.1: The dyno's process is gone; the machine may have restarted" in await world.said()
    )


async def test_a_container_that_nobody_knows_is_removed(world: World) -> None:
    await world.deploy(worker=1)
    await world.settle()
    async with world.db.write() as tx:
        await dynos.delete_dyno(tx, (await world.dyno("worker.1")).id)
    await world.settle()

    assert (world.running(), len(world.machine.containers)) == (["worker.1"], 1)


async def test_a_destroyed_app_leaves_no_container(world: World) -> None:
    await world.deploy(web=2)
    await world.settle()
    async with world.db.write() as tx:
        await apps.delete_app(tx, SHOP.id)
    assert await world.manifold.keys() == [SHOP.id]
    await world.manifold.reconcile(SHOP.id)

    assert world.machine.containers == {}


async def test_after_a_kill_of_the_control_plane_dynos_are_found_again(
    world: World, rebuilt: Rebuilt
) -> None:
    await world.deploy(web=1, worker=1)
    await world.settle()
    before = await world.dynos()
    async with rebuilt(world) as again:
        await again.settle()

        assert await again.dynos() == before


async def test_a_dyno_that_ended_while_the_control_plane_was_away_is_restarted(
    world: World, rebuilt: Rebuilt
) -> None:
    await world.deploy(worker=1)
    await world.settle()
    world.engine.exit((await world.dyno("worker.1")).id, 9)
    async with rebuilt(world) as again:
        await again.settle()

        assert again.running() == ["worker.1"]
        assert "worker.1: Process exited with status 9" in await again.said()


async def test_after_a_reboot_of_the_machine_apps_come_back(world: World, rebuilt: Rebuilt) -> None:
    await world.deploy(web=2, worker=1)
    await world.settle()
    world.engine.reboot()
    async with rebuilt(world) as again:
        await again.settle()

        assert again.running() == ["web.1", "web.2", "worker.1"]


@pytest.mark.parametrize("lost", ["record", "container"])
async def test_a_kill_between_record_and_container_is_mended(
    world: World, rebuilt: Rebuilt, lost: str
) -> None:
    await world.deploy(worker=1)
    await world.settle()
    dyno = await world.dyno("worker.1")
    if lost == "record":
        async with world.db.write() as tx:
            await dynos.delete_dyno(tx, dyno.id)
    else:
        await world.engine.remove(dyno.id)
    async with rebuilt(world) as again:
        await again.settle()

        assert (again.running(), len(again.machine.containers)) == (["worker.1"], 1)


async def test_a_clock_set_back_an_hour_delays_no_restart(world: World) -> None:
    await world.deploy(worker=1)
    await world.settle()
    for _ in range(2):
        world.engine.exit((await world.dyno("worker.1")).id, 1)
        await world.settle()
    assert await world.states() == {"worker.1": "crashed"}

    await world.pass_time(hours=-1)
    await world.pass_time(minutes=10)

    assert await world.states() == {"worker.1": "up"}


async def test_a_full_log_disk_keeps_no_dyno_from_starting(world: World) -> None:
    def full(app_id: str, lines: object) -> None:
        raise errors.StoreFailed("No space left on device")

    world.logs.append = full  # type: ignore[method-assign]
    await world.deploy(web=1)
    await world.settle()

    assert await world.states() == {"web.1": "up"}


async def test_a_sweep_passes_over_an_app_that_is_as_it_should_be(
    world: World, rebuilt: Rebuilt
) -> None:
    await world.deploy(web=1, worker=1)
    assert await world.manifold.keys() == [SHOP.id]
    await world.settle()
    assert await world.manifold.keys() == []

    async with rebuilt(world) as again:
        assert await again.manifold.keys() == [SHOP.id], "nobody watches its dynos yet"
        await again.settle()
        assert await again.manifold.keys() == []

        again.engine.exit((await again.dyno("worker.1")).id, 1)
        assert await again.manifold.keys() == [SHOP.id]
