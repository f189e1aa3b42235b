"""More apps than the router has slots for: one reload makes room for all that come at once."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from deodar.adapters import ca
from deodar.adapters.haproxy import Haproxy, runtime
from deodar.kit import clock
from deodar.kit.loop import Driver
from deodar.loops.manifold.waking import Waking
from deodar.loops.routing.loop import Routing
from deodar.model.app import AppId
from deodar.settings import Paths, Ports, Settings
from deodar.store import apps
from tests.loops.conftest import SHOP, World
from tests.web import free_ports

MORE = [
    replace(
        SHOP, id=AppId(f"more-{number}"), name=f"more-{number}", slot=number, uid=30_000 + number
    )
    for number in range(1000, 1020)
]


@pytest.fixture
async def settings() -> AsyncIterator[Settings]:
    http, https = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="dd") as folder:
        Path(folder).chmod(0o711)
        settings = Settings(
            paths=Paths(data=Path(folder)),
            ports=Ports(http=http, https=https),
            haproxy=os.environ.get("DEODAR_HAPROXY"),
        )
        yield settings
        await Haproxy(settings).stop()


async def reloads(haproxy: Haproxy) -> int:
    """How often the master has had its worker replaced."""
    text = await runtime.ask(haproxy.layout.master, "show proc;quit")
    master = next(line.split() for line in text.splitlines() if " master " in line)
    return int(master[2])


async def test_many_apps_beyond_the_slots_cost_one_reload_and_every_one_is_routed(
    world: World, settings: Settings
) -> None:
    haproxy = Haproxy(settings)
    loop = Routing(
        db=world.db,
        haproxy=haproxy,
        authority=ca.Authority(settings.paths.ca),
        logs=world.logs,
        clock=clock.wall,
        ring=world.bell.ring,
        rise=Waking(world.db, world.engine, world.logs, clock.wall).rise,
        domain=settings.domain,
        drain=timedelta(seconds=1),
    )
    await loop.start()
    driver = Driver("routing", loop.reconcile, loop.keys)
    world.bell.listen(driver.ring)
    tasks = [asyncio.create_task(driver.run()), asyncio.create_task(loop.run())]
    assert await reloads(haproxy) == 0

    async with world.db.write() as tx:
        for app in MORE:
            await apps.insert_app(tx, app)
            tx.ring(app.id)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.ports.http}") as client:

        async def routed(name: str) -> None:
            async with asyncio.timeout(60):
                while True:
                    answer = await client.get("/", headers={"Host": f"{name}.localhost"})
                    if answer.status_code == 503:  # the welcome page of an app without code
                        return
                    await asyncio.sleep(0.05)

        for app in MORE:
            await routed(app.name)
    assert (haproxy.slots, await reloads(haproxy)) == (2000, 1)

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
