"""The reconcile driver, in virtual time."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from deodar.kit.loop import AT_ONCE, Bell, Driver

pytestmark = pytest.mark.looptime

Reconcile = Callable[[str], Awaitable[float | None]]


async def drive(reconcile: Reconcile, *, seconds: float, keys: list[str], ring: list[str]) -> None:
    """Runs a driver for so long, with `ring` rung once it runs."""

    async def every_key() -> list[str]:
        return keys

    driver = Driver("test", reconcile, every_key)
    bell = Bell()
    bell.listen(driver.ring)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            group.create_task(driver.run())
            await asyncio.sleep(0.01)
            for key in ring:
                bell.ring(key)


async def test_every_key_is_swept_at_the_start_and_each_minute() -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> None:
        seen.append(key)

    await drive(reconcile, seconds=61, keys=["a", "b"], ring=[])

    assert sorted(seen) == ["a", "a", "b", "b"]


async def test_a_driver_that_nobody_waits_for_takes_the_rings_of_a_while_as_one() -> None:
    seen: list[float] = []

    async def reconcile(_key: str) -> None:
        seen.append(round(asyncio.get_running_loop().time() - begun, 3))

    async def no_keys() -> list[str]:
        return []

    driver = Driver("test", reconcile, no_keys, lag=0.5)
    begun = asyncio.get_running_loop().time()
    with suppress(TimeoutError):
        async with asyncio.timeout(3), asyncio.TaskGroup() as group:
            group.create_task(driver.run())
            await asyncio.sleep(0)
            for _ in range(4):
                driver.ring("a")
                await asyncio.sleep(0.1)
            await asyncio.sleep(1.6)
            driver.ring("a")

    assert seen == [0.5, 2.5]


async def test_rings_while_a_key_is_busy_collapse_into_one_more_run() -> None:
    runs = running = 0

    async def reconcile(key: str) -> None:
        nonlocal runs, running
        running += 1
        assert running == 1, "one worker per key"
        if runs == 0:
            for _ in range(10):
                bell.ring(key)
        await asyncio.sleep(1)
        runs += 1
        running -= 1

    async def no_keys() -> list[str]:
        return []

    driver = Driver("test", reconcile, no_keys)
    bell = Bell()
    bell.listen(driver.ring)
    with suppress(TimeoutError):
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(driver.run())
            await asyncio.sleep(0.01)
            bell.ring("a")

    assert runs == 2


async def test_different_keys_run_side_by_side() -> None:
    together = asyncio.Barrier(2)

    async def reconcile(key: str) -> None:
        await together.wait()

    await drive(reconcile, seconds=5, keys=[], ring=["a", "b"])

    assert together.n_waiting == 0


async def test_a_key_that_fails_is_tried_again_ever_later() -> None:
    loop = asyncio.get_running_loop()
    tries: list[float] = []

    async def reconcile(key: str) -> None:
        tries.append(loop.time())
        raise RuntimeError("no")

    await drive(reconcile, seconds=20, keys=[], ring=["a"])

    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert len(gaps) >= 4
    assert all(0.4 * 2**n <= gap <= 0.6 * 2**n for n, gap in enumerate(gaps))


async def test_a_key_that_asks_for_it_is_looked_at_again_after_that_time() -> None:
    loop = asyncio.get_running_loop()
    looks: list[float] = []

    async def reconcile(key: str) -> float | None:
        looks.append(round(loop.time(), 1))
        return 5.0 if len(looks) < 3 else None

    await drive(reconcile, seconds=50, keys=[], ring=["a"])

    assert [later - looks[0] for later in looks] == [0, 5, 10]


async def test_a_ring_wakes_a_key_that_rests() -> None:
    loop = asyncio.get_running_loop()
    looks: list[float] = []

    async def reconcile(key: str) -> float | None:
        looks.append(loop.time())
        if len(looks) == 1:
            asyncio.get_running_loop().call_later(1, bell.ring, "a")
            return 40.0
        return None

    async def no_keys() -> list[str]:
        return []

    driver = Driver("test", reconcile, no_keys)
    bell = Bell()
    bell.listen(driver.ring)
    with suppress(TimeoutError):
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(driver.run())
            await asyncio.sleep(0.01)
            bell.ring("a")

    assert [round(look - looks[0]) for look in looks] == [0, 1]


async def test_a_sweep_of_many_keys_is_made_a_few_at_a_time() -> None:
    busy = most = 0
    seen: list[str] = []

    async def reconcile(key: str) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.001)
        busy -= 1
        seen.append(key)

    await drive(reconcile, seconds=30, keys=[str(number) for number in range(500)], ring=[])

    assert (len(seen), most) == (500, AT_ONCE)


async def test_a_sweep_goes_on_past_keys_that_take_long() -> None:
    seen: list[str] = []

    async def reconcile(key: str) -> None:
        if key.startswith("slow"):
            await asyncio.sleep(3600)
        seen.append(key)

    slow = [f"slow-{number}" for number in range(20)]
    await drive(reconcile, seconds=20, keys=[*slow, "quick"], ring=[])

    assert seen == ["quick"]
