"""Opens the database and hands out transactions; what is in the tables is for its neighbours.

`async with db.write() as tx` is the only way to write: one writer at a time, committed when the block
ends well, rolled back otherwise. What the block rings goes out after the commit, so nobody wakes to a
wish that is not there yet. Differences between SQLite and PostgreSQL become methods here.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import URL, CursorResult, Executable, RowMapping, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from deodar.kit.loop import Bell
from deodar.model import errors
from deodar.model.app import ConfigVars

HEAD = "0005"  #: the newest migration
BUSY_TIMEOUT = 10.0  #: seconds that SQLite waits for another process's lock
WAL_LIMIT = 16 * 1024 * 1024  #: bytes


class Tx:
    """One transaction: read with it, write with it if it came from `write`, ring for after it."""

    def __init__(self, connection: AsyncConnection, cipher: Fernet) -> None:
        self._connection = connection
        self._cipher = cipher
        self.rings: list[str] = []

    async def execute(self, statement: Executable, values: Any = None) -> CursorResult[Any]:
        return await self._connection.execute(statement, values)

    async def first(self, statement: Executable) -> RowMapping | None:
        result = await self._connection.execute(statement)
        return result.mappings().first()

    async def all(self, statement: Executable) -> list[RowMapping]:
        result = await self._connection.execute(statement)
        return list(result.mappings())

    def ring(self, app_id: str) -> None:
        """Wake the loops for this app once the transaction is committed."""
        if app_id not in self.rings:
            self.rings.append(app_id)

    def seal(self, config: Mapping[str, str]) -> bytes:
        if not config:
            return b""  # most dynos have no env of their own, and there is nothing to hide
        return self._cipher.encrypt(msgspec.json.encode(dict(config)))

    def unseal(self, token: bytes) -> ConfigVars:
        """Raises StoreFailed when the key file is not the one that sealed it."""
        if not token:
            return ConfigVars()
        try:
            return ConfigVars(msgspec.json.decode(self._cipher.decrypt(token), type=dict[str, str]))
        except InvalidToken as error:
            raise errors.StoreFailed(
                "Config vars cannot be decrypted: config.key is not the key they were sealed with."
            ) from error


class Database:
    """The platform's database; see `open_sqlite`."""

    def __init__(self, engine: AsyncEngine, cipher: Fernet, bell: Bell) -> None:
        self._engine = engine
        self._cipher = cipher
        self._bell = bell
        self._writer = asyncio.Lock()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Tx]:
        """A transaction that commits. Raises StoreFailed when the database cannot take it."""
        async with self._writer:
            try:
                async with self._engine.begin() as connection:
                    tx = Tx(connection, self._cipher)
                    yield tx
            except SQLAlchemyError as error:
                raise errors.StoreFailed(f"The store cannot write: {error}") from error
        for app_id in tx.rings:
            self._bell.ring(app_id)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """A transaction that sees one moment and changes nothing."""
        try:
            async with self._engine.connect() as connection:
                yield Tx(connection, self._cipher)
        except SQLAlchemyError as error:
            raise errors.StoreFailed(f"The store cannot be read: {error}") from error

    async def close(self) -> None:
        await self._engine.dispose()


def open_sqlite(path: Path, *, key: bytes, bell: Bell) -> Database:
    """The database at `path`, migrated to this version, made if it is not there."""
    # Config vars in it are sealed, but who owns which app is nobody's business either.
    path.touch(mode=0o600)
    url = URL.create("sqlite+aiosqlite", database=str(path))
    if _version(path) != HEAD:
        # Imported only here: it takes a fifth of the time in which a killed control plane is back.
        from deodar.store import migrate

        migrate.upgrade(URL.create("sqlite", database=str(path)))
    engine = create_async_engine(url, pool_size=4, max_overflow=8)

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, see below
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        # A commit survives kill -9; a power cut may undo the last ones, never corrupt.
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # What a burst of writes made of the log in front of the database is given back after it.
        cursor.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        # The driver's own BEGIN comes late, and two readers that turn writers would deadlock.
        connection.exec_driver_sql("BEGIN")

    return Database(engine, Fernet(key), bell)


def _version(path: Path) -> str | None:
    """The newest migration that the database has had; None for one that is new, or no database."""
    try:
        with closing(sqlite3.connect(path)) as plain:
            row = plain.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else str(row[0])


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)


def seconds_or_none(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
