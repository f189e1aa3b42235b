"""Set-ups in the database, and how they came into an older one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from deodar.kit.loop import Bell
from deodar.model.app import AppId, ConfigVars
from deodar.model.setup import Setup, State
from deodar.store import apps, db, setups
from deodar.store.db import Database
from tests.store import former

KEY = Fernet.generate_key()
NOW = datetime(2030, 1, 1, tzinfo=UTC)
SETUP = Setup(
    id="1",
    app_id=AppId("a"),
    app_name="shop",
    user="ada@example.com",
    source=ConfigVars(url="https://example.com/?token=hunter2"),
    stack="deodar-12",
    env=ConfigVars(SECRET="hunter2"),
    created_at=NOW,
    updated_at=NOW,
)
WHOLE = replace(
    SETUP,
    id="2",
    app_id=AppId("b"),
    buildpacks=("heroku/go",),
    state=State.POSTDEPLOY,
    manifest="{}",
    notes=("addons[0]: none",),
    build_id="build",
    builds=1,
    dyno_id="dyno",
    output="seeding\n",
    exit_code=3,
    failure="because",
)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return db.open_sqlite(tmp_path / "deodar.db", key=KEY, bell=Bell())


async def test_a_setup_is_read_as_it_was_written(database: Database) -> None:
    async with database.write() as tx:
        for setup in (SETUP, WHOLE):
            await setups.insert_setup(tx, setup)

    async with database.read() as tx:
        assert await setups.get(tx, "1") == SETUP
        assert await setups.of_app(tx, "b") == WHOLE
        assert await setups.pending(tx) == [SETUP, WHOLE]
        assert await setups.awaited(tx) == {"dyno"}


async def test_ended_setups_are_forgotten_in_time_and_others_never(database: Database) -> None:
    ended = replace(WHOLE, state=State.SUCCEEDED)
    async with database.write() as tx:
        for setup in (SETUP, ended):
            await setups.insert_setup(tx, setup)
        await setups.forget(tx, before=NOW)
        kept = await setups.get(tx, "2")
        await setups.forget(tx, before=NOW + timedelta(seconds=1))

        assert kept == ended
        assert (await setups.get(tx, "1"), await setups.get(tx, "2")) == (SETUP, None)


async def test_addresses_and_config_are_not_readable_in_the_file(
    database: Database, tmp_path: Path
) -> None:
    async with database.write() as tx:
        await setups.insert_setup(tx, SETUP)
    await database.close()

    assert b"hunter2" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


async def test_an_older_platform_keeps_its_apps_and_can_set_up_others(tmp_path: Path) -> None:
    file = former.database(tmp_path / "old.db", "0003")

    migrated = db.open_sqlite(file, key=KEY, bell=Bell())
    try:
        async with migrated.write() as tx:
            await setups.insert_setup(tx, SETUP)
            assert await apps.ids(tx) == ["a"]
            assert await setups.get(tx, "1") == SETUP
    finally:
        await migrated.close()
