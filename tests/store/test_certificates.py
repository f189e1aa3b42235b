"""Certificates and orders in the database: what comes back, what nobody may read there, what goes with what."""

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from deodar.kit.loop import Bell
from deodar.model.app import Account, App, AppId
from deodar.model.certificate import (
    Acm,
    AcmeAccount,
    AcmStatus,
    Chosen,
    Facts,
    Order,
    SniEndpoint,
)
from deodar.model.route import Domain, DomainKind
from deodar.store import accounts, acme, apps, db, domains, sni_endpoints
from deodar.store.db import Database
from tests.store import former

KEY = Fernet.generate_key()
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "-----BEGIN PRIVATE KEY-----\nsecret\n"
OWNER = Account(id="owner", email="ada@example.com", created_at=NOW)
APP = App(
    id=AppId("app-id"),
    name="one",
    owner=OWNER,
    slot=0,
    uid=20_000,
    created_at=NOW,
    updated_at=NOW,
)
ENDPOINT = SniEndpoint(
    id="endpoint-id",
    app_id=APP.id,
    name="calm-cove-10000",
    chain="CHAIN\n",
    facts=Facts(
        names=("www.example.com", "example.com"),
        subject="/CN=www.example.com",
        issuer="/CN=CA",
        starts_at=NOW,
        expires_at=NOW + timedelta(days=90),
        self_signed=False,
        ca_signed=True,
    ),
    acm=True,
    created_at=NOW,
    updated_at=NOW,
)
DOMAIN = Domain(
    id="domain-id",
    app_id=APP.id,
    hostname="www.example.com",
    kind=DomainKind.CUSTOM,
    acm=Acm(status=AcmStatus.FAILING, reason="no", failures=2, next_at=NOW),
    created_at=NOW,
    updated_at=NOW,
)
ORDER = Order(
    domain_id=DOMAIN.id,
    app_id=APP.id,
    hostname=DOMAIN.hostname,
    url="https://acme/order/1",
    key=SECRET,
    token="token",
    answer="answer",
    routed=False,
    created_at=NOW,
)
ACCOUNT = AcmeAccount(directory="https://acme/directory", key=SECRET, url=None)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = db.open_sqlite(tmp_path / "deodar.db", key=KEY, bell=Bell())
    async with database.write() as tx:
        await accounts.create(tx, OWNER, token="token")
        await apps.insert_app(tx, APP)
        await sni_endpoints.insert_endpoint(tx, ENDPOINT, key=SECRET)
        await domains.insert_domain(tx, DOMAIN)
        await acme.save_account(tx, ACCOUNT)
        await acme.save_order(tx, ORDER)
    yield database
    await database.close()


async def test_what_is_stored_comes_back(database: Database) -> None:
    async with database.read() as tx:
        assert await sni_endpoints.of_app(tx, APP.id) == [ENDPOINT]
        assert await sni_endpoints.pem(tx, ENDPOINT.id) == f"{SECRET}CHAIN\n"
        assert await sni_endpoints.pems(tx, {ENDPOINT.id}) == {ENDPOINT.id: f"{SECRET}CHAIN\n"}
        assert await domains.of_app(tx, APP.id) == [DOMAIN]
        assert await acme.orders_of(tx, APP.id) == await acme.every_order(tx) == [ORDER]
        assert await acme.account(tx, ACCOUNT.directory) == ACCOUNT


async def test_no_private_key_can_be_read_in_the_file(database: Database, tmp_path: Path) -> None:
    await database.close()

    assert b"PRIVATE" not in b"".join(file.read_bytes() for file in tmp_path.glob("deodar.db*"))


async def test_a_domain_knows_the_certificate_that_it_chose_until_that_is_removed(
    database: Database,
) -> None:
    async with database.write() as tx:
        await domains.set_endpoint(tx, DOMAIN.id, ENDPOINT.id, now=NOW)
        chosen = await domains.get(tx, DOMAIN.id)
        await sni_endpoints.remove(tx, ENDPOINT.id, now=NOW)
        without = await domains.get(tx, DOMAIN.id)

    assert without == DOMAIN
    assert chosen == replace(
        DOMAIN,
        sni_endpoint=Chosen(
            id=ENDPOINT.id,
            name=ENDPOINT.name,
            acm=True,
            starts_at=ENDPOINT.facts.starts_at,
            expires_at=ENDPOINT.facts.expires_at,
            updated_at=NOW,
        ),
    )


async def test_an_order_that_took_anothers_place_is_not_said_to_be_routed(
    database: Database,
) -> None:
    newer = replace(ORDER, url="https://acme/order/2")
    async with database.write() as tx:
        await acme.save_order(tx, newer)
        await acme.set_routed(tx, ORDER)
        before = await acme.every_order(tx)
        await acme.set_routed(tx, newer)
        after = await acme.every_order(tx)

    assert (before, after) == ([newer], [replace(newer, routed=True)])


async def test_a_domain_goes_with_its_order_and_an_app_with_everything(database: Database) -> None:
    async with database.write() as tx:
        await domains.set_endpoint(tx, DOMAIN.id, ENDPOINT.id, now=NOW)
        await apps.delete_app(tx, APP.id)
        left = await acme.every_order(tx), await sni_endpoints.pem(tx, ENDPOINT.id)

    assert left == ([], None)


async def test_domains_that_were_there_before_certificates_have_none_and_acm_is_off(
    tmp_path: Path,
) -> None:
    file = former.database(
        tmp_path / "old.db",
        "0002",
        "INSERT INTO domains VALUES ('d', 'a', 'www.example.com', 0, 0)",
    )

    migrated = db.open_sqlite(file, key=KEY, bell=Bell())
    try:
        async with migrated.read() as tx:
            app = await apps.find(tx, "one")
            (domain,) = await domains.of_app(tx, "a")
    finally:
        await migrated.close()

    assert app is not None
    assert (app.acm, domain.hostname, domain.sni_endpoint, domain.acm) == (
        False,
        "www.example.com",
        None,
        Acm(),
    )
    with sqlite3.connect(file) as plain:
        assert plain.execute("PRAGMA foreign_key_check").fetchall() == []
        # One host name, one app: still so after the table was made anew.
        with pytest.raises(sqlite3.IntegrityError):
            plain.execute(
                "INSERT INTO domains (id, app_id, hostname, created_at, updated_at)"
                " VALUES ('e', 'a', 'www.example.com', 0, 0)"
            )
