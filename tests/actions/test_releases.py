"""The release ledger, on a real database."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from deodar.actions import phases, releases
from deodar.kit.loop import Bell
from deodar.model import errors
from deodar.model.app import Account, App, AppId
from deodar.model.formation import ProcessType
from deodar.model.release import ReleaseStatus, Slug
from deodar.store import accounts, apps, db, formations
from deodar.store import releases as ledger
from deodar.store.db import Database

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OWNER = Account(id="owner", email="owner@example.com", created_at=NOW)
SHOP = App(
    id=AppId("shop-id"),
    name="shop",
    owner=OWNER,
    slot=0,
    uid=20_000,
    created_at=NOW,
    updated_at=NOW,
)


def a_slug(slug_id: str, **types: str) -> Slug:
    return Slug(
        id=slug_id,
        app_id=SHOP.id,
        checksum=f"SHA256:{slug_id}",
        size=1,
        stack="deodar-12",
        process_types=types,
        created_at=NOW,
    )


@pytest.fixture
async def database(tmp_path: Path) -> Database:
    database = db.open_sqlite(tmp_path / "deodar.db", key=Fernet.generate_key(), bell=Bell())
    async with database.write() as tx:
        await accounts.create(tx, OWNER, token="token")
        await apps.insert_app(tx, SHOP)
        await releases.first(tx, SHOP, user=OWNER.email, now=NOW)
    return database


async def deploy(database: Database, slug: Slug) -> None:
    async with database.write() as tx:
        await ledger.insert_slug(tx, slug)
        await releases.deploy(tx, SHOP, slug, description="Deploy", user=OWNER.email, now=NOW)


async def told(database: Database) -> list[tuple[int, str, str | None, bool]]:
    async with database.read() as tx:
        return [
            (each.version, each.description, each.slug_id, each.current)
            for each in await ledger.of_app(tx, SHOP.id)
        ]


async def shape(database: Database) -> dict[str, int]:
    async with database.read() as tx:
        return {each.type: each.quantity for each in await formations.of_app(tx, SHOP.id)}


async def test_a_first_deploy_starts_one_web_dyno_and_nothing_else(database: Database) -> None:
    await deploy(database, a_slug("s1", web="serve", worker="work"))

    assert await shape(database) == {"web": 1, "worker": 0}


async def test_a_later_deploy_keeps_quantities_and_drops_types_that_are_gone(
    database: Database,
) -> None:
    await deploy(database, a_slug("s1", web="serve", clock="tick"))
    async with database.write() as tx:
        types = [ProcessType(type="web", quantity=4, command="serve")]
        await formations.replace(tx, SHOP.id, types)

    await deploy(database, a_slug("s2", web="serve --new", worker="work"))

    async with database.read() as tx:
        assert await formations.of_app(tx, SHOP.id) == [
            ProcessType(type="web", quantity=4, command="serve --new"),
            ProcessType(type="worker", quantity=0, command="work"),
        ]


async def test_setting_config_makes_a_release_that_says_which_vars_but_not_their_values(
    database: Database,
) -> None:
    async with database.write() as tx:
        await releases.set_config(tx, SHOP, {"A": "secret", "B": "x"}, user=OWNER.email, now=NOW)
    async with database.write() as tx:
        await releases.set_config(tx, SHOP, {"A": None}, user=OWNER.email, now=NOW)

    assert await told(database) == [
        (1, "Initial release", None, False),
        (2, "Set A, B config vars", None, False),
        (3, "Remove A config vars", None, True),
    ]


async def test_config_of_an_addon_makes_a_release_without_release_phase(
    database: Database,
) -> None:
    await deploy(database, a_slug("s1", web="serve"))
    slug = a_slug("s2", web="serve", release="migrate")
    await deploy(database, slug)
    async with database.write() as tx:
        [phased] = await ledger.pending(tx, SHOP.id)
        behind = await releases.set_config_at_once(
            tx, SHOP, {"A": "1"}, description="Attach DATABASE", user=OWNER.email, now=NOW
        )
        for each in (phased, behind):
            await phases.succeed(tx, SHOP, each, now=NOW)
        alone = await releases.set_config_at_once(
            tx, SHOP, {"B": "2"}, description="Attach REDIS", user=OWNER.email, now=NOW
        )
        by_hand = await releases.set_config(tx, SHOP, {"C": "3"}, user=OWNER.email, now=NOW)

    assert [
        (each.description, each.command, each.status.value, each.current, each.slug_id)
        for each in (behind, alone, by_hand)
    ] == [
        ("Attach DATABASE", None, "pending", False, "s2"),
        ("Attach REDIS", None, "succeeded", True, "s2"),
        ("Set C config vars", "migrate", "pending", False, "s2"),
    ]
    assert by_hand.config == {"A": "1", "B": "2", "C": "3"}


async def test_config_that_changes_nothing_makes_no_release(database: Database) -> None:
    for _ in range(2):
        async with database.write() as tx:
            release = await releases.set_config(tx, SHOP, {"A": "1"}, user=OWNER.email, now=NOW)

    assert release.version == 2
    assert len(await told(database)) == 2


async def test_a_rollback_brings_back_code_and_config_as_a_new_release(database: Database) -> None:
    await deploy(database, a_slug("s1", web="serve"))
    async with database.write() as tx:
        await releases.set_config(tx, SHOP, {"A": "new"}, user=OWNER.email, now=NOW)
    await deploy(database, a_slug("s2", web="serve"))
    async with database.write() as tx:
        target = await ledger.find(tx, SHOP.id, "v2")
        assert target is not None
        made = await releases.roll_back(tx, SHOP, target, user=OWNER.email, now=NOW)

    assert (made.version, made.description, made.slug_id, made.config) == (
        5,
        "Rollback to v2",
        "s1",
        {},
    )


@pytest.mark.parametrize("status", [ReleaseStatus.FAILED, ReleaseStatus.EXPIRED])
async def test_a_release_that_did_not_stand_cannot_be_rolled_back_to(
    database: Database, status: ReleaseStatus
) -> None:
    await deploy(database, a_slug("s1", web="serve"))
    async with database.write() as tx:
        target = await ledger.find(tx, SHOP.id, "2")
        assert target is not None
        with pytest.raises(errors.InvalidParams, match="Cannot roll back to v2"):
            await releases.roll_back(tx, SHOP, replace(target, status=status), user="", now=NOW)


async def test_what_fails_in_a_transaction_leaves_the_ledger_as_it_was(database: Database) -> None:
    async def fail_half_way() -> None:
        async with database.write() as tx:
            await releases.set_config(tx, SHOP, {"A": "1"}, user=OWNER.email, now=NOW)
            raise RuntimeError("in the middle")

    before = await told(database)
    with pytest.raises(RuntimeError):
        await fail_half_way()

    assert await told(database) == before


async def test_config_is_not_readable_in_the_file(database: Database, tmp_path: Path) -> None:
    async with database.write() as tx:
        await releases.set_config(tx, SHOP, {"A": "hunter2-hunter2"}, user=OWNER.email, now=NOW)
    await database.close()

    assert b"hunter2" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
