"""A database as an older version of the platform left it, with one app in it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

OWNER = "INSERT INTO accounts VALUES ('owner', 'ada@example.com', NULL, 'x', 0)"
APP = (
    "INSERT INTO apps (id, name, owner_id, stack, build_stack, maintenance, preboot,"
    " runtime_metrics, buildpacks, slot, uid, created_at, updated_at)"
    " VALUES ('a', 'one', 'owner', 's', 's', 0, 1, 0, '[]', 0, 1, 0, 0)"
)


def database(file: Path, version: str, *more: str) -> Path:
    """The file at that version's schema, with the app `one` and what `more` statements add."""
    url = f"sqlite:///{file}"
    config = Config()
    config.set_main_option("script_location", "deodar.store:migrations")
    config.set_main_option("sqlalchemy.url", url)
    command.upgrade(config, version)
    engine = create_engine(url)
    with engine.begin() as plain:
        for statement in (OWNER, APP, *more):
            plain.execute(text(statement))
    engine.dispose()
    return file
