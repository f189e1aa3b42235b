"""One-offs from wish to end, as the manifold and the switchboard see to them together."""

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from deodar.actions import dynos as wishes
from deodar.actions.dynos import OneOff
from deodar.adapters.ca import Authority
from deodar.loops.manifold import attach
from deodar.model.dyno import Dyno
from tests.loops.conftest import SHOP, World

Rebuilt = Callable[[World], AbstractAsyncContextManager[World]]


@asynccontextmanager
async def served(world: World, folder: Path) -> AsyncIterator[None]:
    """The world's switchboard answers."""
    authority = Authority(folder / "ca")
    authority.ensure()
    certificate, key = authority.server_certificate(("localhost",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serving = asyncio.create_task(world.switchboard.serve("127.0.0.1", port, context))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def wish(world: World, **about: object) -> Dyno:
    async with world.db.write() as tx:
        asked = OneOff(**({"command": "bash", "env": {}} | about))  # type: ignore[arg-type]
        return await wishes.run(tx, SHOP, asked, dice=random.Random(1), now=world.now)


async def test_a_one_off_ends_after_a_day(world: World) -> None:
    await world.deploy(worker=0)
    dyno = await wish(world)
    await world.settle()
    await world.pass_time(hours=23, minutes=59)
    before = world.running()

    await world.pass_time(minutes=1)

    assert (before, world.running()) == ([dyno.name], [])
    assert await world.dynos() == []


async def test_a_one_off_that_is_stopped_ends_and_does_not_come_back(world: World) -> None:
    await world.deploy(worker=1)
    dyno = await wish(world)
    await world.settle()

    async with world.db.write() as tx:
        await wishes.end(tx, SHOP, dyno.name, "stop")
    await world.settle()

    assert world.running() == ["worker.1"]
    assert (await world.said())[-1] == f"{dyno.name}: State changed from up to complete"


async def test_one_offs_run_on_while_the_formation_is_restarted(world: World) -> None:
    await world.deploy(worker=1)
    dyno = await wish(world)
    await world.settle()
    worker = await world.dyno("worker.1")

    async with world.db.write() as tx:
        await wishes.restart_all(tx, SHOP)
    await world.settle()

    assert (await world.dyno(dyno.name)).id == dyno.id
    assert (await world.dyno("worker.1")).id != worker.id


async def test_an_attached_one_off_whose_client_went_with_the_control_plane_is_reaped(
    world: World, rebuilt: Rebuilt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "LAST_WORDS", 0.01)
    await world.deploy(worker=1)
    async with served(world, tmp_path):
        dyno = await wish(world, attached=True, tty=True)
        await world.settle()
        before = world.running()

    async with rebuilt(world) as again, served(again, tmp_path):
        await again.settle()
        await again.engine.wait(dyno.id)
        await again.settle()

        assert (before, again.running()) == ([dyno.name, "worker.1"], ["worker.1"])
        assert f"{dyno.name}: {attach.HANG_UP}" in await again.said()
        assert [each.name for each in await again.dynos()] == ["worker.1"]


async def test_a_detached_one_off_outlives_the_control_plane(
    world: World, rebuilt: Rebuilt, tmp_path: Path
) -> None:
    await world.deploy(worker=0)
    dyno = await wish(world)
    await world.settle()

    async with rebuilt(world) as again, served(again, tmp_path):
        await again.settle()
        again.now += timedelta(hours=1)
        await again.settle()

        assert again.running() == [dyno.name]
