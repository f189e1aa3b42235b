"""What HAProxy is told of certificates when several things happen at once, one interleaving at a time."""

import os
import random
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from deodar.actions import certificates as wishes
from deodar.adapters import ca
from deodar.adapters import certificates as reader
from deodar.adapters.haproxy import Haproxy
from deodar.adapters.haproxy.table import Table
from deodar.kit import clock
from deodar.loops.routing.certificates import Certificates
from deodar.model.certificate import Chosen, SniEndpoint
from deodar.settings import Paths, Ports, Settings
from tests import pem
from tests.loops.conftest import SHOP, World
from tests.pem import Pair
from tests.tls import shown
from tests.web import free_ports

HOST = "www.example.com"
FIRST, SECOND = pem.certificate(HOST), pem.certificate(HOST)


@dataclass
class Router:
    world: World
    haproxy: Haproxy
    certificates: Certificates
    https: int

    async def upload(self, pair: Pair) -> Chosen:
        async with self.world.db.write() as tx:
            endpoint = await wishes.add(
                tx, SHOP, _read(pair), dice=random.Random(1), now=clock.wall()
            )
        return chosen(endpoint, endpoint.updated_at)

    async def change(self, before: Chosen, pair: Pair) -> Chosen:
        async with self.world.db.write() as tx:
            endpoint = await wishes.find(tx, SHOP, before.id)
            changed = await wishes.change(tx, SHOP, endpoint, _read(pair), now=clock.wall())
        return chosen(changed, changed.updated_at)

    async def remove(self, before: Chosen) -> None:
        async with self.world.db.write() as tx:
            endpoint = await wishes.find(tx, SHOP, before.id)
            await wishes.remove(tx, SHOP, endpoint, now=clock.wall())

    async def issuer(self) -> str:
        return (await shown(self.https, HOST)).issuer.rfc4514_string()

    async def serial(self) -> int:
        return (await shown(self.https, HOST)).serial_number


def _read(pair: Pair) -> reader.Certificate:
    return reader.read(pair.pem, pair.key, now=clock.wall())


def chosen(endpoint: SniEndpoint, updated_at: datetime) -> Chosen:
    return Chosen(
        id=endpoint.id,
        name=endpoint.name,
        acm=endpoint.acm,
        starts_at=endpoint.facts.starts_at,
        expires_at=endpoint.facts.expires_at,
        updated_at=updated_at,
    )


@pytest.fixture
def settings() -> Iterator[Settings]:
    http, https = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="dd") as folder:
        Path(folder).chmod(0o711)
        yield Settings(
            paths=Paths(data=Path(folder)),
            ports=Ports(http=http, https=https),
            haproxy=os.environ.get("DEODAR_HAPROXY"),
        )


@pytest.fixture
async def router(world: World, settings: Settings) -> AsyncIterator[Router]:
    haproxy = Haproxy(settings)
    certificates = Certificates(world.db, ca.Authority(settings.paths.ca), haproxy.runtime)
    await haproxy.start(Table(certificates=await certificates.table({"localhost": None})))
    certificates.loaded()
    yield Router(world, haproxy, certificates, settings.ports.https)
    await haproxy.stop()


async def test_what_changes_between_the_reading_of_a_table_and_its_loading_is_served_after_it(
    router: Router,
) -> None:
    before = await router.upload(FIRST)
    await router.certificates.serve({HOST: before})
    table = Table(certificates=await router.certificates.table({"localhost": None, HOST: before}))

    after = await router.change(before, SECOND)
    await router.certificates.serve({HOST: after})  # by the old worker
    await router.haproxy.reload(table)
    router.certificates.loaded()
    await router.certificates.serve({HOST: after})

    assert await router.serial() == SECOND.certificate.serial_number


async def test_a_host_that_another_app_has_by_now_keeps_its_certificate(router: Router) -> None:
    certificate = await router.upload(FIRST)
    await router.haproxy.runtime.set_host(HOST, 2)
    await router.certificates.serve({HOST: certificate})

    await router.certificates.withdraw(HOST)  # the first app's last step

    assert await router.serial() == FIRST.certificate.serial_number


async def test_a_host_that_lost_its_certificate_with_its_first_app_is_given_it_again(
    router: Router,
) -> None:
    certificate = await router.upload(FIRST)
    await router.certificates.serve({HOST: certificate})

    await router.certificates.withdraw(HOST)  # no app has it at this moment
    without = await router.serial()
    await router.certificates.serve({HOST: certificate})

    assert without != await router.serial() == FIRST.certificate.serial_number


async def test_a_certificate_that_was_removed_while_it_was_to_be_served_leaves_our_own(
    router: Router,
) -> None:
    certificate = await router.upload(FIRST)
    await router.remove(certificate)

    await router.certificates.serve({HOST: certificate})

    assert "Deodar CA" in await router.issuer()


async def test_a_haproxy_that_was_adopted_is_told_everything_again_and_what_is_too_much_goes(
    router: Router,
) -> None:
    before = await router.upload(FIRST)
    await router.certificates.serve({HOST: before, "gone.example.com": None})
    after = await router.change(before, SECOND)

    await router.certificates.adopt({"localhost", HOST})
    await router.certificates.serve({HOST: after})

    assert await router.serial() == SECOND.certificate.serial_number
    assert await router.haproxy.runtime.certified() == {"localhost", HOST}
