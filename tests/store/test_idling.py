"""What the database knows of sleeping apps."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from deodar.kit.loop import Bell
from deodar.model.app import Account, App, AppId
from deodar.model.idling import Depth, Sleep
from deodar.store import accounts, apps, db, idling
from deodar.store.db import Database
from tests.store import former

NOW = datetime(2030, 1, 1, tzinfo=UTC)
OWNER = Account(id="owner", email="ada@example.com", created_at=NOW)
APP = App(id=AppId("a"), name="one", owner=OWNER, slot=0, uid=1, created_at=NOW, updated_at=NOW)
SLEEP = Sleep(since=NOW, depth=Depth.FROZEN, workers=True)
KEY = Fernet.generate_key()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    made = db.open_sqlite(tmp_path / "deodar.db", key=KEY, bell=Bell())
    async with made.write() as tx:
        await accounts.create(tx, OWNER, token="token")
        await apps.insert_app(tx, APP)
    yield made
    await made.close()


async def sleep_of(database: Database) -> Sleep | None:
    async with database.read() as tx:
        found = await apps.find(tx, APP.id)
    assert found is not None
    return found.sleep


async def test_an_app_sleeps_until_somebody_asks_for_it(database: Database) -> None:
    seen = [await sleep_of(database)]
    async with database.write() as tx:
        await idling.fall_asleep(tx, APP.id, SLEEP)
    seen.append(await sleep_of(database))
    later = NOW + timedelta(minutes=1)
    async with database.write() as tx:
        await idling.rouse(tx, [APP.id], later)
    seen.append(await sleep_of(database))

    assert seen == [None, SLEEP, None]
    async with database.read() as tx:
        assert await idling.active(tx) == {APP.id: later}


async def test_a_change_of_the_app_leaves_its_sleep_alone(database: Database) -> None:
    async with database.write() as tx:
        await idling.fall_asleep(tx, APP.id, SLEEP)
        await apps.update_app(tx, replace(APP, maintenance=True))

    assert await sleep_of(database) == SLEEP


async def test_a_sleep_that_has_ended_does_not_go_deeper(database: Database) -> None:
    async with database.write() as tx:
        await idling.fall_asleep(tx, APP.id, SLEEP)
        await idling.sink(tx, APP.id, SLEEP, Depth.RECLAIMED)
    deeper = await sleep_of(database)
    async with database.write() as tx:
        await idling.wake(tx, APP.id)
        await idling.sink(tx, APP.id, SLEEP, Depth.STOPPED)

    assert (deeper, await sleep_of(database)) == (replace(SLEEP, depth=Depth.RECLAIMED), None)


async def test_an_app_that_was_made_before_apps_slept_is_awake(tmp_path: Path) -> None:
    file = former.database(tmp_path / "old.db", "0001")

    migrated = db.open_sqlite(file, key=KEY, bell=Bell())
    try:
        assert await sleep_of(migrated) is None
    finally:
        await migrated.close()
