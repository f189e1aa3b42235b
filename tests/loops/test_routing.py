"""The routing loop with the real store and a real HAProxy: requests go where the store says."""

import asyncio
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from deodar.actions import apps as wishes
from deodar.adapters import ca
from deodar.adapters.haproxy import Haproxy
from deodar.adapters.haproxy.table import Mode
from deodar.kit import clock
from deodar.kit.loop import Driver
from deodar.loops.manifold.waking import Waking
from deodar.loops.routing.loop import Routing
from deodar.model.dyno import Dyno, Kind, State
from deodar.model.idling import Depth, Sleep
from deodar.model.route import Domain, DomainKind
from deodar.settings import Paths, Ports, Settings
from deodar.store import apps, domains, dynos, idling, releases
from tests.loops.conftest import SHOP, START, World
from tests.web import Web, free_ports

HOST = "shop.localhost"


async def eventually(met: Callable[[], Awaitable[bool]], *, within: float = 10) -> None:
    async with asyncio.timeout(within):
        while True:
            if await met():
                return
            await asyncio.sleep(0.01)


async def no_server(platform: "Platform") -> bool:
    return not (await platform.haproxy.runtime.slot(SHOP.slot)).servers


async def shows(platform: "Platform", code: str | None) -> bool:
    return (await platform.haproxy.runtime.slot(SHOP.slot)).code == code


async def told(world: World, words: str) -> bool:
    return any(words in line for line in await world.said())


@dataclass
class Platform:
    """The router's part of a control plane, and what the manifold's part would do."""

    world: World
    settings: Settings
    haproxy: Haproxy
    loop: Routing
    client: httpx.AsyncClient

    async def up(self, web: Web, *, number: int = 1, state: State = State.UP) -> Dyno:
        """A dyno that the manifold has started."""
        await web.start()
        async with self.world.db.write() as tx:
            release = await releases.current(tx, SHOP.id)
            assert release is not None
            dyno = Dyno(
                id=f"{web.port:08d}-0000",
                app_id=SHOP.id,
                type="web",
                number=number,
                kind=Kind.FORMATION,
                size="Basic",
                command="serve",
                release_id=release.id,
                release_version=release.version,
                slug_id=release.slug_id,
                state=state,
                state_since=clock.wall(),
                created_at=clock.wall(),
                address="127.0.0.1",
                port=web.port,
            )
            await dynos.insert_dyno(tx, dyno)
            tx.ring(SHOP.id)
        return dyno

    async def move(self, dyno: Dyno, state: State) -> None:
        async with self.world.db.write() as tx:
            moved = replace(dyno, state=state, state_since=clock.wall())
            await dynos.update_dyno(tx, moved)
            tx.ring(SHOP.id)

    async def routed(self, dyno: Dyno, routed: bool) -> None:
        async def met() -> bool:
            async with self.world.db.read() as tx:
                now = await dynos.get(tx, dyno.id)
            return now is not None and now.routed == routed

        await eventually(met)

    async def get(self, host: str = HOST) -> httpx.Response:
        return await self.client.get("/", headers={"Host": host})

    async def answers(self, status: int, host: str = HOST) -> httpx.Response:
        """Asks until the answer has this status."""
        answer = await self.get(host)

        async def met() -> bool:
            nonlocal answer
            answer = await self.get(host)
            return answer.status_code == status

        await eventually(met)
        return answer


@asynccontextmanager
async def routing(world: World, settings: Settings) -> AsyncIterator[Platform]:
    """A control plane that routes, until the block ends; HAProxy outlives it."""
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
        drain=timedelta(seconds=settings.drain_timeout),
    )
    await loop.start()
    driver = Driver("routing", loop.reconcile, loop.keys)
    world.bell.listen(driver.ring)
    tasks = [asyncio.create_task(driver.run()), asyncio.create_task(loop.run())]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{settings.ports.http}", timeout=20
    ) as client:
        yield Platform(world=world, settings=settings, haproxy=haproxy, loop=loop, client=client)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def settings() -> AsyncIterator[Settings]:
    http, https = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="dd") as folder:
        Path(folder).chmod(0o711)
        settings = Settings(
            paths=Paths(data=Path(folder)),
            ports=Ports(http=http, https=https),
            haproxy=os.environ.get("DEODAR_HAPROXY"),
            drain_timeout=1.0,
        )
        yield settings
        await Haproxy(settings).stop()


@pytest.fixture
async def platform(world: World, settings: Settings) -> AsyncIterator[Platform]:
    async with routing(world, settings) as platform:
        yield platform


async def test_an_app_without_code_shows_the_welcome_page(platform: Platform) -> None:
    assert "Welcome to your new app!" in (await platform.answers(503)).text


async def test_a_dyno_that_is_up_is_routed_and_said_to_be(platform: Platform) -> None:
    await platform.world.deploy(web=1)
    dyno = await platform.up(Web("first"))

    await platform.routed(dyno, True)

    assert (await platform.answers(200)).text == "first 0"


async def test_a_dyno_that_stops_finishes_its_requests_before_it_is_let_go(
    platform: Platform,
) -> None:
    await platform.world.deploy(web=1)
    web = Web("old", delay=0.5)
    old = await platform.up(web)
    await platform.answers(200)
    before = len(web.heads)
    running = asyncio.create_task(platform.get())
    await eventually(lambda: asyncio.sleep(0, len(web.heads) > before))

    new = await platform.up(Web("new"))
    await platform.routed(new, True)
    await platform.move(old, State.STOPPING)
    await platform.routed(old, False)

    assert running.done()
    assert running.result().text == "old 0"
    assert (await platform.get()).text == "new 0"


async def test_a_request_that_outlasts_the_drain_is_cut(platform: Platform) -> None:
    await platform.world.deploy(web=1)
    dyno = await platform.up(Web("slow", delay=0.2))
    await platform.answers(200)
    web = Web("endless", delay=60)
    endless = await platform.up(web, number=2)
    await platform.routed(endless, True)
    await platform.move(dyno, State.STOPPING)
    await platform.routed(dyno, False)
    running = asyncio.create_task(platform.get())
    await eventually(lambda: asyncio.sleep(0, bool(web.heads)))

    await platform.move(endless, State.STOPPING)
    await platform.routed(endless, False)

    assert (await running).status_code in (502, 503)


async def test_a_request_is_held_until_the_first_dyno_is_up(platform: Platform) -> None:
    await platform.world.deploy(web=1)
    dyno = await platform.up(Web("first"), state=State.STARTING)
    await eventually(lambda: shows(platform, None))
    eager = asyncio.create_task(
        platform.client.post("/", headers={"Host": HOST}, content=b"x" * 300_000)
    )
    await asyncio.sleep(0.3)
    assert not eager.done()

    await platform.move(dyno, State.UP)

    assert (await eager).text == "first 300000"


async def test_held_requests_are_told_when_the_dyno_crashes(platform: Platform) -> None:
    await platform.world.deploy(web=1)
    dyno = await platform.up(Web("first"), state=State.STARTING)
    await eventually(lambda: shows(platform, None))
    eager = asyncio.create_task(platform.get())
    await asyncio.sleep(0.2)

    await platform.move(dyno, State.CRASHED)

    answer = await eager
    assert (answer.status_code, "H10" in answer.text) == (503, True)


async def test_a_websocket_that_was_held_is_joined_and_ends_with_its_dyno(
    platform: Platform,
) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
        writer.write(b"Upgrade: websocket\r\n")
        writer.write(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
        while said := await reader.read(100):
            writer.write(said.upper())
        writer.close()

    await platform.world.deploy(web=1)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    web = Web("unused")
    dyno = await platform.up(web, state=State.STARTING)
    await eventually(lambda: shows(platform, None))
    reader, writer = await asyncio.open_connection("127.0.0.1", platform.settings.ports.http)
    writer.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\n".encode())
    writer.write(b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
    writer.write(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nhello")

    dyno = replace(dyno, port=server.sockets[0].getsockname()[1])
    await platform.move(dyno, State.UP)
    head = await reader.readuntil(b"\r\n\r\n")
    echoed = await reader.readexactly(5)
    await platform.move(dyno, State.STOPPING)
    await platform.routed(dyno, False)

    assert (head[:12], echoed) == (b"HTTP/1.1 101", b"HELLO")
    assert await reader.read() == b""


async def test_a_scale_to_zero_and_maintenance_are_shown(platform: Platform) -> None:
    await platform.world.deploy(web=1)
    await platform.up(Web("first"))
    await platform.answers(200)

    await platform.world.scale(web=0)
    platform.world.bell.ring(SHOP.id)
    assert "H14" in (await platform.answers(503)).text

    await platform.world.scale(web=1)
    platform.world.bell.ring(SHOP.id)
    await platform.answers(200)

    async with platform.world.db.write() as tx:
        await wishes.set_maintenance(tx, SHOP, True, now=START)
        tx.ring(SHOP.id)
    assert "Offline for maintenance" in (await platform.answers(503)).text


async def test_a_domain_leads_to_the_app_with_a_certificate_of_its_own(platform: Platform) -> None:
    await platform.world.deploy(web=1)
    await platform.up(Web("first"))
    async with platform.world.db.write() as tx:
        domain = Domain(
            id="domain-id",
            app_id=SHOP.id,
            hostname="www.example.com",
            kind=DomainKind.CUSTOM,
            created_at=START,
            updated_at=START,
        )
        await domains.insert_domain(tx, domain)
        tx.ring(SHOP.id)
    await platform.answers(200, host="www.example.com")

    port = platform.settings.ports.https
    authority = platform.settings.paths.ca / "ca.pem"
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-s", "--cacert", str(authority), "--resolve"),
        *(f"www.example.com:{port}:127.0.0.1", f"https://www.example.com:{port}/"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert (await curl.communicate())[0] == b"first 0"

    async with platform.world.db.write() as tx:
        await domains.delete_domain(tx, domain.id)
        tx.ring(SHOP.id)
    await platform.answers(404, host="www.example.com")


async def test_nothing_is_left_of_a_destroyed_app(platform: Platform) -> None:
    await platform.world.deploy(web=1)
    await platform.up(Web("first"))
    await platform.answers(200)

    async with platform.world.db.write() as tx:
        await apps.delete_app(tx, SHOP.id)
        tx.ring(SHOP.id)

    await platform.answers(404)
    await eventually(lambda: no_server(platform))


@pytest.mark.parametrize("victim", ["master", "worker"])
async def test_a_haproxy_that_died_comes_back_and_routes(platform: Platform, victim: str) -> None:
    await platform.world.deploy(web=1)
    await platform.up(Web("first"))
    await platform.answers(200)
    pid = await platform.haproxy.runtime.pid()
    master = int(platform.haproxy.layout.pid.read_text())

    os.kill(pid if victim == "worker" else master, signal.SIGKILL)

    async def back() -> bool:
        try:
            return (await platform.get()).text == "first 0" and int(
                platform.haproxy.layout.pid.read_text()
            ) != master
        except (httpx.HTTPError, OSError, ValueError):
            return False

    await eventually(back)


async def test_a_control_plane_that_comes_back_finds_what_happened_meanwhile(
    world: World, settings: Settings
) -> None:
    async with routing(world, settings) as platform:
        await world.deploy(web=1)
        old = await platform.up(Web("old"))
        await platform.answers(200)
        await platform.routed(old, True)
    new = await platform.up(Web("new"))
    await platform.move(old, State.STOPPING)

    async with routing(world, settings) as platform:
        await platform.routed(new, True)
        await platform.routed(old, False)

        assert (await platform.get()).text == "new 0"
        seen = (await platform.haproxy.runtime.slot(SHOP.slot)).servers
        assert [(each.server.port, each.mode) for each in seen.values()] == [(new.port, Mode.READY)]


async def test_a_request_held_while_the_control_plane_is_away_is_answered_after(
    world: World, settings: Settings
) -> None:
    async with routing(world, settings) as platform:
        await world.deploy(web=1)
        dyno = await platform.up(Web("first"), state=State.STARTING)
        await eventually(lambda: shows(platform, None))
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{settings.ports.http}", timeout=20
    ) as client:
        eager = asyncio.create_task(client.get("/", headers={"Host": HOST}))
        await asyncio.sleep(0.3)
        await platform.move(dyno, State.UP)
        async with routing(world, settings):
            assert (await eager).text == "first 0"


async def test_requests_are_told_in_the_apps_log_also_those_made_while_we_were_away(
    world: World, settings: Settings
) -> None:
    async with routing(world, settings) as platform:
        await world.deploy(web=1)
        dyno = await platform.up(Web("first"))
        await platform.routed(dyno, True)
        await platform.answers(200)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.ports.http}") as client:
        await client.get("/away?a=1", headers={"Host": HOST, "X-Request-ID": "a" * 20})

    async with routing(world, settings):
        await eventually(lambda: told(world, "/away"))

    line = next(line for line in await world.said() if "/away" in line)
    assert re.fullmatch(
        r'router: at=info method=GET path="/away\?a=1" host=shop.localhost request_id=a{20} '
        r'fwd="127.0.0.1" dyno=web.1 connect=\d+ms service=\d+ms status=200 bytes=\d+ protocol=http1.1 tls=false',
        line,
    )


async def test_a_sweep_looks_at_those_apps_only_that_are_not_routed_as_they_should_be(
    platform: Platform,
) -> None:
    await platform.world.deploy(web=1)
    dyno = await platform.up(Web("first"))
    await platform.routed(dyno, True)
    await platform.answers(200)
    calm = await platform.loop.keys()
    async with platform.world.db.write() as tx:
        await dynos.update_dyno(tx, replace(dyno, state=State.CRASHED))  # and nobody rings

    assert (calm, await platform.loop.keys()) == ([], [SHOP.id])


async def test_an_app_to_which_a_request_is_open_does_not_fall_asleep(platform: Platform) -> None:
    world = platform.world
    await world.deploy(web=1)
    web = Web("first", delay=0.5)
    await platform.up(web)
    await platform.answers(200)
    before = len(web.heads)
    running = asyncio.create_task(platform.get())
    await eventually(lambda: asyncio.sleep(0, len(web.heads) > before))
    await sleep(world)
    await eventually(lambda: awake(world))

    assert (await running).status_code == 200


async def test_a_request_for_a_frozen_app_wakes_it_and_is_told_so(platform: Platform) -> None:
    world = platform.world
    await world.deploy(web=1)
    dyno = await platform.up(Web("first"))
    await platform.routed(dyno, True)
    await sleep(world)
    await platform.routed(dyno, False)
    await platform.move(dyno, State.IDLE)
    answer = await platform.client.get("/", headers={"Host": HOST, "Deodar-Wake": "ask"})

    assert answer.status_code == 200
    assert re.fullmatch(r"frozen:\d+", answer.headers["Deodar-Wake"])
    async with world.db.read() as tx:
        now = await dynos.get(tx, dyno.id)
    assert now is not None
    assert (now.state, now.routed, await awake(world)) == (State.UP, True, True)


async def sleep(world: World) -> None:
    async with world.db.write() as tx:
        wish = Sleep(since=clock.wall(), depth=Depth.FROZEN, workers=True)
        await idling.fall_asleep(tx, SHOP.id, wish)


async def awake(world: World) -> bool:
    async with world.db.read() as tx:
        app = await apps.find(tx, SHOP.id)
    return app is not None and app.sleep is None


async def test_what_the_owner_switches_on_takes_effect_without_a_reload(platform: Platform) -> None:
    await platform.world.deploy(web=1)
    await platform.up(Web("first"))
    await platform.answers(200)
    worker = await platform.haproxy.runtime.pid()

    async with platform.world.db.write() as tx:
        await wishes.set_affinity(tx, SHOP, True, now=START)
        tx.ring(SHOP.id)

    async def kept() -> bool:
        return "heroku-session-affinity=" in (await platform.get()).headers.get("set-cookie", "")

    await eventually(kept)
    assert await platform.haproxy.runtime.pid() == worker
    seen = await platform.haproxy.runtime.slot(SHOP.slot)
    assert [each.mode for each in seen.servers.values()] == [Mode.READY]
