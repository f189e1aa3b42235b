"""Set-ups of apps in the database. They are no part of their apps: one that failed outlives its app."""

from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, delete, insert, select, update

from deodar.model.app import AppId
from deodar.model.setup import ENDED, Setup, State
from deodar.store import schema
from deodar.store.db import Tx, moment

table = schema.setups

_ended = table.c.state.in_([state.value for state in ENDED])


async def insert_setup(tx: Tx, setup: Setup) -> None:
    await tx.execute(
        insert(table).values(
            id=setup.id,
            app_id=setup.app_id,
            app_name=setup.app_name,
            user=setup.user,
            source=tx.seal(setup.source),
            stack=setup.stack,
            env=tx.seal(setup.env),
            buildpacks=None if setup.buildpacks is None else list(setup.buildpacks),
            created_at=setup.created_at.timestamp(),
            **_values(setup),
        )
    )


async def update_setup(tx: Tx, setup: Setup) -> None:
    """How far it is; what was asked for stays."""
    await tx.execute(update(table).where(table.c.id == setup.id).values(**_values(setup)))


async def get(tx: Tx, setup_id: str) -> Setup | None:
    return await _first(tx, table.c.id == setup_id)


async def of_app(tx: Tx, app_id: str) -> Setup | None:
    """The set-up that made the app, if one did."""
    return await _first(tx, table.c.app_id == app_id)


async def pending(tx: Tx) -> list[Setup]:
    """Those that have not ended, oldest first."""
    query = select(table).where(~_ended).order_by(table.c.created_at)
    return [from_row(tx, row) for row in await tx.all(query)]


async def awaited(tx: Tx) -> frozenset[str]:
    """The ids of dynos whose end a set-up waits for."""
    query = select(table.c.dyno_id).where(table.c.state == State.POSTDEPLOY.value)
    return frozenset(row["dyno_id"] for row in await tx.all(query))


async def forget(tx: Tx, *, before: datetime) -> None:
    """Those that ended before that moment are told of no more."""
    await tx.execute(delete(table).where(_ended).where(table.c.updated_at < before.timestamp()))


async def _first(tx: Tx, clause: ColumnElement[bool]) -> Setup | None:
    row = await tx.first(select(table).where(clause))
    return None if row is None else from_row(tx, row)


def _values(setup: Setup) -> dict[str, object]:
    return {
        "state": setup.state.value,
        "manifest": setup.manifest,
        "notes": list(setup.notes),
        "build_id": setup.build_id,
        "builds": setup.builds,
        "dyno_id": setup.dyno_id,
        "output": setup.output,
        "exit_code": setup.exit_code,
        "failure": setup.failure,
        "updated_at": setup.updated_at.timestamp(),
    }


def from_row(tx: Tx, row: RowMapping) -> Setup:
    return Setup(
        id=row["id"],
        app_id=AppId(row["app_id"]),
        app_name=row["app_name"],
        user=row["user"],
        state=State(row["state"]),
        source=tx.unseal(row["source"]),
        stack=row["stack"],
        env=tx.unseal(row["env"]),
        buildpacks=None if row["buildpacks"] is None else tuple(row["buildpacks"]),
        manifest=row["manifest"],
        notes=tuple(row["notes"]),
        build_id=row["build_id"],
        builds=row["builds"],
        dyno_id=row["dyno_id"],
        output=row["output"],
        exit_code=row["exit_code"],
        failure=row["failure"],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
    )
