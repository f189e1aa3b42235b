"""Certificates from the store to the client: chosen by the owner or got by ACM, with a real router and a
real authority, while processes die."""

import asyncio
import itertools
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from deodar.actions import acm, apps, certificates
from deodar.actions import domains as wishes
from deodar.adapters import acme, ca
from deodar.adapters import certificates as reader
from deodar.adapters.haproxy import Haproxy
from deodar.kit import clock
from deodar.kit.loop import Driver
from deodar.loops.certifying.loop import Certifying
from deodar.loops.manifold.waking import Waking
from deodar.loops.routing.loop import Routing
from deodar.model import errors
from deodar.model.app import AppId
from deodar.model.certificate import AcmStatus, SniEndpoint
from deodar.model.route import Domain
from deodar.settings import Paths, Ports, Settings
from deodar.store import acme as orders
from deodar.store import sni_endpoints
from deodar.store.apps import find, insert_app
from tests import pem
from tests.acme_server import AcmeServer, serve
from tests.loops.conftest import SHOP, World
from tests.pem import DAY, Pair
from tests.tls import shown
from tests.web import free_ports

HOST = "www.example.com"


async def eventually(met: Callable[[], Awaitable[bool]], *, within: float = 60) -> None:
    async with asyncio.timeout(within):
        while True:
            if await met():
                return
            await asyncio.sleep(0.02)


@dataclass
class Platform:
    """The router's part and the certifier's, as one control plane runs them."""

    world: World
    settings: Settings
    haproxy: Haproxy
    server: AcmeServer
    ahead: timedelta = timedelta()  #: of the certifier's clock

    def now(self) -> datetime:
        return clock.wall() + self.ahead

    async def add(self, hostname: str = HOST) -> Domain:
        async with self.world.db.write() as tx:
            app = await find(tx, SHOP.id)
            assert app is not None
            return await wishes.add(
                tx, app, hostname, platform_domain="localhost", now=clock.wall()
            )

    async def remove(self, hostname: str = HOST) -> None:
        async with self.world.db.write() as tx:
            await wishes.remove(tx, SHOP, hostname, now=clock.wall())

    async def upload(self, pair: Pair) -> SniEndpoint:
        read = reader.read(pair.pem, pair.key, now=clock.wall())
        async with self.world.db.write() as tx:
            return await certificates.add(tx, SHOP, read, dice=random.Random(1), now=clock.wall())

    async def choose(self, endpoint: SniEndpoint | None, hostname: str = HOST) -> None:
        async with self.world.db.write() as tx:
            domain = await wishes.find(tx, SHOP, hostname)
            identity = endpoint.name if endpoint else None
            await certificates.choose(tx, SHOP, domain, identity, now=clock.wall())

    async def enable(self) -> None:
        async with self.world.db.write() as tx:
            app = await find(tx, SHOP.id)
            assert app is not None
            await acm.enable(tx, app, now=clock.wall())

    async def domain(self, hostname: str = HOST) -> Domain:
        async with self.world.db.read() as tx:
            return await wishes.find(tx, SHOP, hostname)

    async def endpoints(self) -> list[SniEndpoint]:
        async with self.world.db.read() as tx:
            return await sni_endpoints.of_app(tx, SHOP.id)

    async def issuer(self, host: str = HOST) -> str:
        certificate = await shown(self.settings.ports.https, host)
        return certificate.issuer.rfc4514_string()

    async def shows(self, host: str, serial: int) -> None:
        async def met() -> bool:
            try:
                seen = await shown(self.settings.ports.https, host)
            except OSError:  # HAProxy starts anew
                return False
            return seen.serial_number == serial

        await eventually(met)

    async def reaches(self, status: AcmStatus, hostname: str = HOST) -> Domain:
        async def met() -> bool:
            return (await self.domain(hostname)).acm.status is status

        await eventually(met)
        return await self.domain(hostname)


@asynccontextmanager
async def running(
    world: World, settings: Settings, server: AcmeServer, *, certifies: bool = True
) -> AsyncIterator[Platform]:
    haproxy = Haproxy(settings)
    made = Platform(world=world, settings=settings, haproxy=haproxy, server=server)
    routing = Routing(
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
    certifying = Certifying(
        db=world.db,
        authority=acme.Authority(
            settings.acme_directory, email=settings.acme_email, trust=settings.acme_ca
        ),
        logs=world.logs,
        clock=made.now,
        dice=random.Random(2),
    )
    await routing.start()
    drivers = [Driver("routing", routing.reconcile, routing.keys)]
    if certifies:
        drivers.append(Driver("certifying", certifying.reconcile, certifying.keys))
    tasks = [asyncio.create_task(routing.run())]
    for driver in drivers:
        world.bell.listen(driver.ring)
        tasks.append(asyncio.create_task(driver.run()))
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[AcmeServer, Path]]:
    (http,) = free_ports(1)
    server = AcmeServer(http)
    with serve(server, tmp_path) as bundle:
        yield server, bundle


@pytest.fixture
async def settings(server: tuple[AcmeServer, Path]) -> AsyncIterator[Settings]:
    authority, bundle = server
    (https,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="dd") as folder:
        Path(folder).chmod(0o711)
        settings = Settings(
            paths=Paths(data=Path(folder)),
            ports=Ports(http=authority.router, https=https),
            haproxy=os.environ.get("DEODAR_HAPROXY"),
            acme_directory=authority.url,
            acme_email="owner@example.com",
            acme_ca=bundle,
        )
        yield settings
        await Haproxy(settings).stop()


@pytest.fixture
async def platform(
    world: World, settings: Settings, server: tuple[AcmeServer, Path]
) -> AsyncIterator[Platform]:
    async with running(world, settings, server[0]) as platform:
        yield platform


# ---- the owner's own -------------------------------------------------------------------------------


async def test_a_domain_is_served_with_the_certificate_that_its_owner_chose_and_the_next(
    platform: Platform,
) -> None:
    first, second = pem.certificate(HOST), pem.certificate("*.example.com")
    await platform.add()
    pid = await platform.haproxy.runtime.pid()

    endpoint = await platform.upload(first)
    await platform.choose(endpoint)
    await platform.shows(HOST, first.certificate.serial_number)
    read = reader.read(second.pem, second.key, now=clock.wall())
    async with platform.world.db.write() as tx:
        await certificates.change(tx, SHOP, endpoint, read, now=clock.wall())
    await platform.shows(HOST, second.certificate.serial_number)
    await platform.choose(None)

    async def by_our_own() -> bool:
        return "Deodar CA" in await platform.issuer()

    await eventually(by_our_own)
    assert await platform.haproxy.runtime.pid() == pid


async def test_a_domain_that_is_removed_takes_its_certificate_with_it(platform: Platform) -> None:
    pair = pem.certificate(HOST)
    await platform.add()
    await platform.choose(await platform.upload(pair))
    await platform.shows(HOST, pair.certificate.serial_number)

    await platform.remove()

    async def forgotten() -> bool:
        return HOST not in await platform.haproxy.runtime.certified()

    await eventually(forgotten)


async def test_a_haproxy_that_died_comes_back_with_the_certificates(platform: Platform) -> None:
    pair = pem.certificate(HOST)
    await platform.add()
    await platform.choose(await platform.upload(pair))
    await platform.shows(HOST, pair.certificate.serial_number)
    before = await platform.haproxy.runtime.pid()

    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        try:
            return await platform.haproxy.runtime.pid() != before
        except errors.RouterFailed:  # it is away
            return False

    await eventually(back)
    await platform.shows(HOST, pair.certificate.serial_number)


async def test_what_changed_while_the_control_plane_was_away_is_served_when_it_is_back(
    world: World, settings: Settings, server: tuple[AcmeServer, Path]
) -> None:
    first, second = pem.certificate(HOST), pem.certificate("b.example.com")
    async with running(world, settings, server[0], certifies=False) as platform:
        await platform.add()
        await platform.choose(await platform.upload(first))
        await platform.shows(HOST, first.certificate.serial_number)
    await platform.remove()
    await platform.add("b.example.com")
    await platform.choose(await platform.upload(second), "b.example.com")

    async with running(world, settings, server[0], certifies=False) as platform:
        await platform.shows("b.example.com", second.certificate.serial_number)

        assert HOST not in await platform.haproxy.runtime.certified()


# ---- ACM -------------------------------------------------------------------------------------------


async def test_acm_gets_a_certificate_which_is_served_and_renewed_before_it_ends(
    platform: Platform,
) -> None:
    await platform.add()
    await platform.enable()

    domain = await platform.reaches(AcmStatus.ISSUED)

    assert domain.sni_endpoint is not None
    (first,) = await platform.endpoints()
    assert (first.acm, first.facts.names) == (True, (HOST,))

    async def served() -> bool:
        return await platform.issuer() == "CN=Test ACME Issuer"

    await eventually(served)
    assert f"api: Certificate issued for {HOST}" in await platform.world.said()
    assert await platform.haproxy.runtime.challenges() == {}

    platform.ahead = 61 * DAY
    platform.world.bell.ring(SHOP.id)

    async def renewed() -> bool:
        return [each.id for each in await platform.endpoints()] not in ([first.id], [])

    await eventually(renewed)
    (second,) = await platform.endpoints()
    assert second.facts.expires_at > first.facts.starts_at
    await platform.reaches(AcmStatus.ISSUED)


async def test_acm_answers_while_the_app_is_in_maintenance(platform: Platform) -> None:
    async with platform.world.db.write() as tx:
        await apps.set_maintenance(tx, SHOP, True, now=clock.wall())
    await platform.add()
    await platform.enable()

    assert (await platform.reaches(AcmStatus.ISSUED)).sni_endpoint is not None


async def test_an_order_is_finished_by_the_process_after_the_one_that_was_killed(
    world: World, settings: Settings, server: tuple[AcmeServer, Path]
) -> None:
    authority, _ = server
    async with running(world, settings, authority) as platform:
        await platform.add()
        await platform.enable()

        async def ordered() -> bool:
            async with world.db.read() as tx:
                return bool(await orders.every_order(tx))

        await eventually(ordered)

    async with running(world, settings, authority) as platform:
        domain = await platform.reaches(AcmStatus.ISSUED)

    assert domain.sni_endpoint is not None
    assert authority.asked.count("newAccount") == 1
    assert authority.asked.count("newOrder") == 1


async def test_a_refusal_is_shown_to_the_owner_and_tried_again_when_he_says_so(
    platform: Platform,
) -> None:
    platform.server.refusing = "too many certificates"
    await platform.add()
    await platform.enable()

    failing = await platform.reaches(AcmStatus.FAILING)
    assert failing.acm.reason == "The certificate authority refuses: too many certificates"
    assert any("too many certificates" in line for line in await platform.world.said())

    platform.server.refusing = None
    async with platform.world.db.write() as tx:
        app = await find(tx, SHOP.id)
        assert app is not None
        await acm.refresh(tx, app, now=clock.wall())

    await platform.reaches(AcmStatus.ISSUED)


async def test_no_public_authority_is_asked_for_names_that_it_cannot_certify(
    platform: Platform,
) -> None:
    for hostname in ("shop.test", "*.example.com"):
        await platform.add(hostname)
    await platform.enable()

    private = await platform.reaches(AcmStatus.ISSUED, "shop.test")
    wildcard = await platform.reaches(AcmStatus.FAILED, "*.example.com")

    assert private.acm.reason == (
        "By the platform's own authority: no public one certifies this name."
    )
    assert wildcard.acm.reason == (
        "ACM cannot cover wildcard domains. Add a certificate: heroku certs:add"
    )
    assert platform.server.asked == []


async def test_acm_that_is_turned_off_takes_its_certificates_with_it_and_no_others(
    platform: Platform,
) -> None:
    own = await platform.upload(pem.certificate("b.example.com"))
    await platform.add("b.example.com")
    await platform.choose(own, "b.example.com")
    await platform.add()
    await platform.enable()
    await platform.reaches(AcmStatus.ISSUED)

    async with platform.world.db.write() as tx:
        await acm.disable(tx, replace(SHOP, acm=True), now=clock.wall())

    assert [each.id for each in await platform.endpoints()] == [own.id]
    assert (await platform.domain()).acm.status is None
    assert (await platform.domain("b.example.com")).sni_endpoint is not None


# ---- what happens at once --------------------------------------------------------------------------


async def test_a_domain_that_goes_from_app_to_app_keeps_a_certificate(platform: Platform) -> None:
    other = replace(SHOP, id=AppId("other-id"), name="other", slot=1, uid=20_001)
    async with platform.world.db.write() as tx:
        await insert_app(tx, other)
        tx.ring(other.id)
    owners = [SHOP, other] * 6

    for before, after in itertools.pairwise(owners):
        async with platform.world.db.write() as tx:
            with suppress(errors.NotFound):  # at first nobody has it
                await wishes.remove(tx, before, HOST, now=clock.wall())
            await wishes.add(tx, after, HOST, platform_domain="localhost", now=clock.wall())
        for _ in range(random.Random(after.name).randrange(20)):
            await asyncio.sleep(0.001)

    async def settled() -> bool:
        return (
            await platform.haproxy.runtime.owner(HOST) == other.slot
            and (await shown(platform.settings.ports.https, HOST)).subject.rfc4514_string()
            == f"CN={HOST}"
        )

    await eventually(settled)
