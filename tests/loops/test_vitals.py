"""Owners are told what their dynos take, and those beyond measure end: with the memory engine."""

from dataclasses import replace
from datetime import timedelta

import pytest

from deodar.loops.vitals.loop import MACHINE, Vitals
from deodar.model.formation import MB
from deodar.store import apps
from tests.loops.conftest import SHOP, World


@pytest.fixture
def vitals(world: World) -> Vitals:
    return Vitals(
        db=world.db,
        engine=world.engine,
        logs=world.logs,
        clock=world.clock,
        every=timedelta(seconds=20),
    )


async def measure(world: World, wished: bool) -> None:
    async with world.db.write() as tx:
        await apps.update_app(tx, replace(SHOP, runtime_metrics=wished))


async def look(world: World, vitals: Vitals, *, seconds: float = 0) -> list[str]:
    """All that is told while those seconds pass, by the platform."""
    before = len(await world.said())
    end = world.now + timedelta(seconds=seconds)
    while True:
        rest = await vitals.reconcile(MACHINE)
        if world.now + timedelta(seconds=rest) > end:
            return (await world.said())[before:]
        world.now += timedelta(seconds=rest)


async def take(world: World, name: str = "web.1", **numbers: int) -> None:
    world.engine.take((await world.dyno(name)).id, **numbers)


async def test_nothing_is_said_within_the_quota(world: World, vitals: Vitals) -> None:
    await world.deploy(web=1)
    await world.settle()
    await take(world, rss=512 * MB, cache=900 * MB)

    assert await look(world, vitals, seconds=60) == []


async def test_r14_is_said_each_20_seconds_and_the_dyno_goes_on(
    world: World, vitals: Vitals
) -> None:
    await world.deploy(web=2)
    await world.settle()
    await take(world, "web.2", rss=600 * MB, shared=15 * MB)
    told = await look(world, vitals, seconds=40)
    await world.settle()

    assert (
        told
        == [
            "web.2: Process running mem=615M(120.1%)",
            "web.2: Error R14 (Memory quota exceeded)",
        ]
        * 3
    )
    assert await world.states() == {"web.1": "up", "web.2": "up"}


async def test_a_dyno_that_takes_less_again_is_left_alone(world: World, vitals: Vitals) -> None:
    await world.deploy(web=1)
    await world.settle()
    await take(world, rss=600 * MB)
    await look(world, vitals)
    await take(world, rss=100 * MB)
    world.now += timedelta(seconds=20)

    assert await look(world, vitals) == []


async def test_r15_kills_says_why_and_a_clean_dyno_takes_over(world: World, vitals: Vitals) -> None:
    await world.deploy(web=1)
    await world.settle()
    old = await world.dyno("web.1")
    await take(world, rss=1029 * MB + MB // 4)
    before = len(await world.said())
    await look(world, vitals)
    await world.settle()

    assert (await world.said())[before:] == [
        "web.1: Process running mem=1029M(201.0%)",
        "web.1: Error R15 (Memory quota vastly exceeded)",
        "web.1: Stopping process with SIGKILL",
        "web.1: Process exited with status 137",
        "web.1: State changed from up to crashed",
        "web.1: State changed from crashed to starting",
        "web.1: Starting process with command `run web`",
        "web.1: State changed from provisioning to starting",
        "web.1: State changed from starting to up",
    ]
    new = await world.dyno("web.1")
    assert new.id != old.id
    assert (new.condemned, new.killed, new.crashes, new.fate) == (
        None,
        False,
        1,
        "Error R15 (Memory quota vastly exceeded)",
    )


async def test_a_second_r15_rests_as_any_crash_does(world: World, vitals: Vitals) -> None:
    await world.deploy(worker=1)
    await world.settle()
    for _ in range(2):
        await take(world, "worker.1", rss=2048 * MB)
        await look(world, vitals)
        await world.settle()
        world.now += timedelta(seconds=20)

    crashed = await world.dyno("worker.1")
    assert (crashed.state.value, crashed.reason) == (
        "crashed",
        "Error R15 (Memory quota vastly exceeded)",
    )
    await world.pass_time(minutes=10)
    assert await world.states() == {"worker.1": "up"}


async def test_a_dyno_that_lost_a_process_to_the_kernel_ends(world: World, vitals: Vitals) -> None:
    await world.deploy(web=1)
    await world.settle()
    await take(world, rss=50 * MB, oom_kills=1, peak=1024 * MB)

    assert await look(world, vitals) == ["web.1: Process running mem=1024M(200.0%)"]
    await world.settle()
    assert "web.1: Error R15 (Memory quota vastly exceeded)" in await world.said()


async def test_how_much_there_was_is_told_of_a_dyno_that_the_kernel_ended(world: World) -> None:
    await world.deploy(web=1)
    await world.settle()
    await take(world, peak=1024 * MB)
    before = len(await world.said())
    world.engine.exit((await world.dyno("web.1")).id, 137, oom_killed=True)
    await world.settle()

    assert (await world.said())[before:][:4] == [
        "web.1: Process running mem=1024M(200.0%)",
        "web.1: Process exited with status 137",
        "web.1: Error R15 (Memory quota vastly exceeded)",
        "web.1: State changed from up to crashed",
    ]


async def test_a_full_process_table_is_told_once(world: World, vitals: Vitals) -> None:
    await world.deploy(web=1)
    await world.settle()
    await take(world, forks_refused=3)
    told = await look(world, vitals, seconds=20)
    await take(world, forks_refused=900)
    told += await look(world, vitals, seconds=40)

    assert told == ["web.1: Process limit reached (256)"]


async def test_metrics_are_told_from_the_moment_they_are_wished_until_they_are_not(
    world: World, vitals: Vitals
) -> None:
    await world.deploy(web=1)
    await world.settle()
    dyno = await world.dyno("web.1")
    await take(world, rss=100 * MB, cache=20 * MB, pgpgin=30, pgpgout=10)
    world.engine.want_cpu(dyno.id, 1)
    await look(world, vitals, seconds=30)
    await measure(world, True)
    told = await look(world, vitals, seconds=80)
    await measure(world, False)
    after = await look(world, vitals, seconds=60)

    name = f"web.1: source=web.1 dyno=heroku.shop-id.{dyno.id} "
    memory = (
        "sample#memory_total=120.00MB sample#memory_rss=100.00MB sample#memory_cache=20.00MB "
        "sample#memory_swap=0.00MB sample#memory_pgpgin=30pages sample#memory_pgpgout=10pages "
        "sample#memory_quota=512.00MB"
    )
    # The load's first minute begins with the look that finds it wished.
    assert told == [name + memory] * 4
    assert after == []


async def test_the_load_is_told_after_its_first_minute(world: World, vitals: Vitals) -> None:
    await world.deploy(web=1)
    await world.settle()
    dyno = await world.dyno("web.1")
    world.engine.want_cpu(dyno.id, 2)
    await measure(world, True)
    told = await look(world, vitals, seconds=80)

    name = f"web.1: source=web.1 dyno=heroku.shop-id.{dyno.id} "
    assert [line for line in told if "load" in line] == [name + "sample#load_avg_1m=1.43"]


async def test_a_sweep_that_comes_early_changes_nothing(world: World, vitals: Vitals) -> None:
    await world.deploy(web=1)
    await world.settle()
    await take(world, rss=600 * MB)
    await look(world, vitals)

    world.now += timedelta(seconds=3)
    assert await vitals.reconcile(MACHINE) == 2
    assert await look(world, vitals) == []


async def test_a_stopping_dyno_is_left_to_its_end(world: World, vitals: Vitals) -> None:
    await world.deploy(worker=1)
    await world.settle()
    dyno = await world.dyno("worker.1")
    world.engine.deafen(dyno.id)
    await take(world, "worker.1", rss=2048 * MB)
    await world.scale(worker=0)
    await world.settle()

    assert await look(world, vitals) == []
    assert (await world.dyno("worker.1")).condemned is None
