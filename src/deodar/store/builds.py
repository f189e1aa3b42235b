"""Builds in the database."""

from sqlalchemy import RowMapping, insert, select, update

from deodar.model.app import AppId
from deodar.model.build import Build, BuildStatus
from deodar.store import schema
from deodar.store.db import Tx, moment, moment_or_none, seconds_or_none

table = schema.builds


async def insert_build(tx: Tx, build: Build) -> None:
    await tx.execute(insert(table).values(id=build.id, app_id=build.app_id, **_values(build)))


async def update_build(tx: Tx, build: Build) -> None:
    """Everything but `canceled_by`, which others write while the compiler looks away."""
    await tx.execute(update(table).where(table.c.id == build.id).values(**_values(build)))


async def cancel(tx: Tx, build: Build, *, by: str) -> None:
    await tx.execute(update(table).where(table.c.id == build.id).values(canceled_by=by))


async def find(tx: Tx, app_id: str, build_id: str) -> Build | None:
    row = await tx.first(
        select(table).where(table.c.id == build_id).where(table.c.app_id == app_id)
    )
    return None if row is None else from_row(row)


async def of_app(tx: Tx, app_id: str) -> list[Build]:
    """All of an app's builds, oldest first."""
    query = select(table).where(table.c.app_id == app_id).order_by(table.c.created_at)
    return [from_row(row) for row in await tx.all(query)]


async def pending(tx: Tx) -> list[Build]:
    """Builds that have not ended, of all apps, oldest first."""
    query = (
        select(table)
        .where(table.c.status == BuildStatus.PENDING.value)
        .order_by(table.c.created_at)
    )
    return [from_row(row) for row in await tx.all(query)]


async def every(tx: Tx) -> list[Build]:
    """All builds of all apps, newest first."""
    query = select(table).order_by(table.c.created_at.desc())
    return [from_row(row) for row in await tx.all(query)]


def _values(build: Build) -> dict[str, object]:
    return {
        "user": build.user,
        "status": build.status.value,
        "stack": build.stack,
        "commit": build.commit,
        "commit_description": build.commit_description,
        "buildpacks": list(build.buildpacks),
        "slug_id": build.slug_id,
        "release_id": build.release_id,
        "message": build.message,
        "started_at": seconds_or_none(build.started_at),
        "created_at": build.created_at.timestamp(),
        "updated_at": build.updated_at.timestamp(),
    }


def from_row(row: RowMapping) -> Build:
    return Build(
        id=row["id"],
        app_id=AppId(row["app_id"]),
        user=row["user"],
        status=BuildStatus(row["status"]),
        stack=row["stack"],
        commit=row["commit"],
        commit_description=row["commit_description"],
        buildpacks=tuple(row["buildpacks"]),
        slug_id=row["slug_id"],
        release_id=row["release_id"],
        canceled_by=row["canceled_by"],
        message=row["message"],
        started_at=moment_or_none(row["started_at"]),
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
    )
