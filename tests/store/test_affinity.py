"""An app of a database that an older version filled."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text

from deodar.kit.loop import Bell
from deodar.store import apps, db


async def test_apps_that_were_made_before_affinity_have_none(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    config = Config()
    config.set_main_option("script_location", "deodar.store:migrations")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{file}")
    command.upgrade(config, "0004")
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as plain:
        plain.execute(
            text("INSERT INTO accounts VALUES ('owner', 'ada@example.com', NULL, 'x', 0)")
        )
        plain.execute(
            text(
                "INSERT INTO apps (id, name, owner_id, stack, build_stack, maintenance, preboot,"
                " runtime_metrics, buildpacks, slot, uid, created_at, updated_at)"
                " VALUES ('a', 'one', 'owner', 's', 's', 0, 1, 0, '[]', 0, 1, 0, 0)"
            )
        )
    engine.dispose()

    migrated = db.open_sqlite(file, key=Fernet.generate_key(), bell=Bell())
    try:
        async with migrated.read() as tx:
            app = await apps.find(tx, "one")
    finally:
        await migrated.close()

    assert app is not None
    assert app.affinity is False
