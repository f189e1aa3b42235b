"""A real database with its owner in it, and who was rung."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from deodar.actions import accounts
from deodar.kit.loop import Bell
from deodar.model.app import Account
from deodar.store.db import Database, open_sqlite


@dataclass(frozen=True, kw_only=True)
class Ground:
    db: Database
    owner: Account
    rung: list[str]
    now: datetime


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    bell, rung = Bell(), list[str]()
    bell.listen(rung.append)
    now = datetime(2030, 1, 1, tzinfo=UTC)
    db = open_sqlite(tmp_path / "deodar.db", key=Fernet.generate_key(), bell=bell)
    async with db.write() as tx:
        owner = await accounts.ensure_owner(tx, email="ada@example.com", token="token", now=now)
    yield Ground(db=db, owner=owner, rung=rung, now=now)
    await db.close()
