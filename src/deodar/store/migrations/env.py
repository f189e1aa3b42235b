"""Runs the migrations on the database that `store.migrate` names."""

from typing import Any

from alembic import context
from sqlalchemy import create_engine, event

from deodar.store import schema

url = context.config.get_main_option("sqlalchemy.url")
assert url is not None
engine = create_engine(url)

if engine.dialect.name == "sqlite":
    # One transaction for all, DDL included: a kill in the middle leaves the old schema, whole.
    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=schema.metadata,
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
engine.dispose()
