"""Slugs and the release ledger in the database. The ledger only grows; at most one is current."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, delete, insert, select, update

from deodar.model.app import AppId, ConfigVars
from deodar.model.formation import ProcessType
from deodar.model.release import Entry, Release, ReleaseStatus, Slug
from deodar.store import schema
from deodar.store.db import Tx, moment

table = schema.releases
slugs = schema.slugs


async def insert_slug(tx: Tx, slug: Slug) -> None:
    await tx.execute(
        insert(slugs).values(
            id=slug.id,
            app_id=slug.app_id,
            checksum=slug.checksum,
            size=slug.size,
            stack=slug.stack,
            commit=slug.commit,
            commit_description=slug.commit_description,
            buildpack_description=slug.buildpack_description,
            process_types=dict(slug.process_types),
            created_at=slug.created_at.timestamp(),
        )
    )


async def slug(tx: Tx, slug_id: str | None) -> Slug | None:
    """Also None for a release or dyno that has none."""
    if slug_id is None:
        return None
    row = await tx.first(select(slugs).where(slugs.c.id == slug_id))
    return None if row is None else slug_from_row(row)


async def slugs_of(tx: Tx, app_id: str) -> list[Slug]:
    return [
        slug_from_row(row) for row in await tx.all(select(slugs).where(slugs.c.app_id == app_id))
    ]


async def checksums(tx: Tx) -> set[str]:
    """Checksums of every slug there is, of all apps."""
    return {row["checksum"] for row in await tx.all(select(slugs.c.checksum))}


async def entries(tx: Tx, app_id: str) -> list[Entry]:
    """The app's releases that have a slug, newest first; cheap, since no config is unsealed."""
    query = (
        select(table.c.version, table.c.slug_id, table.c.current, table.c.created_at)
        .where(table.c.app_id == app_id)
        .where(table.c.slug_id.is_not(None))
        .order_by(table.c.version.desc())
    )
    return [
        Entry(
            version=row["version"],
            slug_id=row["slug_id"],
            current=row["current"],
            created_at=moment(row["created_at"]),
        )
        for row in await tx.all(query)
    ]


async def expire(tx: Tx, slug_ids: Collection[str], *, now: datetime) -> None:
    """Those slugs are gone: releases stay, but those that could be rolled back to no longer can."""
    await tx.execute(
        update(table)
        .where(table.c.slug_id.in_(slug_ids))
        .where(table.c.status == ReleaseStatus.SUCCEEDED.value)
        .values(status=ReleaseStatus.EXPIRED.value, updated_at=now.timestamp())
    )
    for child in (table, schema.builds):
        await tx.execute(update(child).where(child.c.slug_id.in_(slug_ids)).values(slug_id=None))
    await tx.execute(delete(slugs).where(slugs.c.id.in_(slug_ids)))


async def append(tx: Tx, release: Release, *, formation_before: Sequence[ProcessType]) -> None:
    """Adds `release` to the ledger; if it is current, the one that was is not any more."""
    if release.current:
        await _none_current(tx, release.app_id)
    await tx.execute(
        insert(table).values(
            id=release.id,
            app_id=release.app_id,
            version=release.version,
            slug_id=release.slug_id,
            description=release.description,
            user=release.user,
            status=release.status.value,
            current=release.current,
            command=release.command,
            config=tx.seal(release.config),
            formation_before=_shape(formation_before),
            created_at=release.created_at.timestamp(),
            updated_at=release.updated_at.timestamp(),
        )
    )


async def stand(
    tx: Tx, release: Release, *, formation_before: Sequence[ProcessType], now: datetime
) -> None:
    """A pending release has succeeded and is current."""
    await _none_current(tx, release.app_id)
    await tx.execute(
        update(table)
        .where(table.c.id == release.id)
        .values(
            status=ReleaseStatus.SUCCEEDED.value,
            current=True,
            formation_before=_shape(formation_before),
            updated_at=now.timestamp(),
        )
    )


async def give_up(tx: Tx, pending: Release, *, now: datetime) -> None:
    """A pending release has failed; the current one stays so."""
    await tx.execute(
        update(table)
        .where(table.c.id == pending.id)
        .values(status=ReleaseStatus.FAILED.value, updated_at=now.timestamp())
    )


async def pending(tx: Tx, app_id: str) -> list[Release]:
    """The app's releases that are not decided, oldest first."""
    query = (
        select(table)
        .where(table.c.app_id == app_id)
        .where(table.c.status == ReleaseStatus.PENDING.value)
        .order_by(table.c.version)
    )
    return [from_row(tx, row) for row in await tx.all(query)]


async def pending_ids(tx: Tx) -> dict[str, set[str]]:
    """The ids of all releases that are not decided, by app."""
    query = select(table.c.app_id, table.c.id).where(table.c.status == ReleaseStatus.PENDING.value)
    found: dict[str, set[str]] = {}
    for row in await tx.all(query):
        found.setdefault(row["app_id"], set()).add(row["id"])
    return found


async def fail(tx: Tx, failed: Release, *, back_to: Release, now: datetime) -> None:
    """`failed` is so, and `back_to` the current one again."""
    await _none_current(tx, failed.app_id)
    await tx.execute(
        update(table)
        .where(table.c.id == failed.id)
        .values(status=ReleaseStatus.FAILED.value, updated_at=now.timestamp())
    )
    await tx.execute(update(table).where(table.c.id == back_to.id).values(current=True))


async def formation_before(tx: Tx, app_id: str, version: int) -> dict[str, tuple[int, str]]:
    """Quantity and size of each process type as it was before the release with that version."""
    row = await tx.first(
        select(table.c.formation_before)
        .where(table.c.app_id == app_id)
        .where(table.c.version == version)
    )
    return (
        {}
        if row is None
        else {kind: (number, size) for kind, number, size in row["formation_before"]}
    )


def _shape(formation: Sequence[ProcessType]) -> list[list[object]]:
    return [[each.type, each.quantity, each.size] for each in formation]


async def _none_current(tx: Tx, app_id: str) -> None:
    await tx.execute(
        update(table).where(table.c.app_id == app_id).where(table.c.current).values(current=False)
    )


async def current(tx: Tx, app_id: str) -> Release | None:
    return await _first(tx, (table.c.app_id == app_id) & table.c.current)


async def every_current(tx: Tx) -> dict[str, Release]:
    """Every app's current release, by app."""
    rows = await tx.all(select(table).where(table.c.current))
    return {row["app_id"]: from_row(tx, row) for row in rows}


async def current_ids(tx: Tx) -> dict[str, str]:
    """The id of every app's current release, by app."""
    rows = await tx.all(select(table.c.app_id, table.c.id).where(table.c.current))
    return {row["app_id"]: row["id"] for row in rows}


async def current_configs(tx: Tx) -> dict[str, ConfigVars]:
    """The config vars that each app runs with, by app."""
    rows = await tx.all(select(table.c.app_id, table.c.config).where(table.c.current))
    return {row["app_id"]: tx.unseal(row["config"]) for row in rows}


async def get(tx: Tx, release_id: str) -> Release | None:
    return await _first(tx, table.c.id == release_id)


async def find(tx: Tx, app_id: str, identity: str) -> Release | None:
    """The app's release with that id, or version as `3` or `v3`."""
    number = identity.removeprefix("v")
    # No ledger gets beyond nine digits, and the database's integers end somewhere.
    if number.isascii() and number.isdigit() and len(number) <= 9:
        return await _first(tx, (table.c.app_id == app_id) & (table.c.version == int(number)))
    return await _first(tx, (table.c.app_id == app_id) & (table.c.id == identity))


async def of_app(tx: Tx, app_id: str) -> list[Release]:
    """All of an app's releases, oldest first."""
    query = select(table).where(table.c.app_id == app_id).order_by(table.c.version)
    return [from_row(tx, row) for row in await tx.all(query)]


async def between(
    tx: Tx, app_id: str, *, low: int | None, high: int | None, newest_first: bool, limit: int
) -> list[Release]:
    """The app's releases from version `low` to `high`, both included, `limit` of them at most.

    A ledger may have thousands, and each has a config to be unsealed: a page reads what it shows.
    """
    query = select(table).where(table.c.app_id == app_id)
    if low is not None:
        query = query.where(table.c.version >= low)
    if high is not None:
        query = query.where(table.c.version <= high)
    order = table.c.version.desc() if newest_first else table.c.version
    return [from_row(tx, row) for row in await tx.all(query.order_by(order).limit(limit))]


async def last_version(tx: Tx, app_id: AppId) -> int:
    """The highest version there is, 0 before the first."""
    query = select(table.c.version).where(table.c.app_id == app_id).order_by(table.c.version.desc())
    row = await tx.first(query.limit(1))
    return 0 if row is None else int(row["version"])


async def _first(tx: Tx, clause: ColumnElement[bool]) -> Release | None:
    row = await tx.first(select(table).where(clause))
    return None if row is None else from_row(tx, row)


def from_row(tx: Tx, row: RowMapping) -> Release:
    return Release(
        id=row["id"],
        app_id=AppId(row["app_id"]),
        version=row["version"],
        slug_id=row["slug_id"],
        description=row["description"],
        user=row["user"],
        status=ReleaseStatus(row["status"]),
        current=row["current"],
        command=row["command"],
        config=tx.unseal(row["config"]),
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
    )


def slug_from_row(row: RowMapping) -> Slug:
    return Slug(
        id=row["id"],
        app_id=AppId(row["app_id"]),
        checksum=row["checksum"],
        size=row["size"],
        stack=row["stack"],
        commit=row["commit"],
        commit_description=row["commit_description"],
        buildpack_description=row["buildpack_description"],
        process_types=dict(row["process_types"]),
        created_at=moment(row["created_at"]),
    )
