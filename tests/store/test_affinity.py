"""An app of a database that an older version filled."""

from pathlib import Path

from cryptography.fernet import Fernet

from deodar.kit.loop import Bell
from deodar.store import apps, db
from tests.store import former


async def test_apps_that_were_made_before_affinity_have_none(tmp_path: Path) -> None:
    file = former.database(tmp_path / "old.db", "0004")

    migrated = db.open_sqlite(file, key=Fernet.generate_key(), bell=Bell())
    try:
        async with migrated.read() as tx:
            app = await apps.find(tx, "one")
    finally:
        await migrated.close()

    assert app is not None
    assert app.affinity is False
