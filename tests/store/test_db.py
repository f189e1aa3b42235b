"""The database as a file and as transactions."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from cryptography.fernet import Fernet
from sqlalchemy import insert, select

from deodar.kit.loop import Bell
from deodar.model import errors
from deodar.store import db, schema
from deodar.store.db import Database

KEY = Fernet.generate_key()
ACCOUNT = {"id": "1", "email": "ada@example.com", "token_hash": "x", "created_at": 0.0}


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def database(tmp_path: Path, bell: Bell) -> Database:
    return db.open_sqlite(tmp_path / "deodar.db", key=KEY, bell=bell)


async def emails(database: Database) -> list[str]:
    async with database.read() as tx:
        return [row["email"] for row in await tx.all(select(schema.accounts.c.email))]


async def test_only_its_owner_reads_the_file(database: Database, tmp_path: Path) -> None:
    assert (tmp_path / "deodar.db").stat().st_mode & 0o777 == 0o600


async def test_what_is_written_is_there_after_the_block(database: Database) -> None:
    async with database.write() as tx:
        await tx.execute(insert(schema.accounts).values(**ACCOUNT))

    assert await emails(database) == ["ada@example.com"]


async def test_the_bell_rings_after_the_commit_and_not_for_what_was_rolled_back(
    database: Database, bell: Bell
) -> None:
    rung: list[str] = []
    bell.listen(rung.append)

    async def fail() -> None:
        async with database.write() as tx:
            tx.ring("lost")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await fail()
    async with database.write() as tx:
        tx.ring("kept")
        tx.ring("kept")
        assert rung == []

    assert rung == ["kept"]


async def test_writers_take_turns(database: Database) -> None:
    async def write(number: int) -> None:
        async with database.write() as tx:
            await tx.execute(
                insert(schema.accounts).values(
                    **ACCOUNT | {"id": str(number), "email": str(number), "token_hash": str(number)}
                )
            )

    await asyncio.gather(*(write(number) for number in range(20)))

    assert len(await emails(database)) == 20


async def test_a_refused_write_is_a_failure_of_the_store_and_leaves_nothing(
    database: Database,
) -> None:
    async def twice() -> None:
        async with database.write() as tx:
            await tx.execute(insert(schema.accounts).values(**ACCOUNT))
            await tx.execute(insert(schema.accounts).values(**ACCOUNT))

    with pytest.raises(errors.StoreFailed, match="cannot write"):
        await twice()

    assert await emails(database) == []


async def test_another_key_does_not_open_what_was_sealed(
    database: Database, tmp_path: Path, bell: Bell
) -> None:
    async with database.read() as tx:
        sealed = tx.seal({"SECRET": "x"})
    other = db.open_sqlite(tmp_path / "other.db", key=Fernet.generate_key(), bell=bell)
    async with other.read() as tx:
        with pytest.raises(errors.StoreFailed, match=r"config\.key is not the key"):
            tx.unseal(sealed)


def test_migrations_make_what_the_schema_says(database: Database, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "deodar.db") as plain:
        made = {
            (table, column[1])
            for table in schema.metadata.tables
            for column in plain.execute(f"PRAGMA table_info({table})")
        }

    assert made == {
        (table.name, column.name)
        for table in schema.metadata.tables.values()
        for column in table.columns
    }


def test_the_newest_migration_is_the_one_that_a_start_looks_for() -> None:
    config = Config()
    config.set_main_option("script_location", "deodar.store:migrations")

    assert ScriptDirectory.from_config(config).get_heads() == [db.HEAD]


def test_a_file_that_is_no_database_is_said_so(tmp_path: Path, bell: Bell) -> None:
    (tmp_path / "deodar.db").write_text("not a database, but a text of some length" * 100)

    with pytest.raises(errors.StoreFailed, match="cannot be opened"):
        db.open_sqlite(tmp_path / "deodar.db", key=KEY, bell=bell)
