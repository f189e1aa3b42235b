"""Apps in the database."""

from sqlalchemy import ColumnElement, RowMapping, Select, delete, func, insert, or_, select, update

from deodar.model.app import App, AppId
from deodar.model.idling import Depth, Sleep
from deodar.store import accounts, schema
from deodar.store.db import Tx, moment, moment_or_none, seconds_or_none

table = schema.apps

FIRST_UID = 20_000  #: above what distributions give to people and services


def _select() -> Select[tuple[object, ...]]:
    owner = schema.accounts
    return select(
        *table.c,
        owner.c.email.label("owner_email"),
        owner.c.name.label("owner_name"),
        owner.c.created_at.label("owner_created_at"),
    ).join(owner, owner.c.id == table.c.owner_id)


async def insert_app(tx: Tx, app: App) -> None:
    await tx.execute(insert(table).values(id=app.id, uid=app.uid, slot=app.slot, **_values(app)))


async def update_app(tx: Tx, app: App) -> None:
    """Everything but its sleep, which others write at any moment."""
    await tx.execute(update(table).where(table.c.id == app.id).values(**_values(app)))


async def delete_app(tx: Tx, app_id: AppId) -> None:
    """Removes the app and all that is its: releases, slugs, builds, formation, dynos, domains,
    certificates."""
    for child in (
        schema.dynos,
        schema.builds,
        schema.releases,
        schema.slugs,
        schema.formations,
        schema.acme_orders,
        schema.domains,
        schema.sni_endpoints,
    ):
        await tx.execute(delete(child).where(child.c.app_id == app_id))
    await tx.execute(delete(table).where(table.c.id == app_id))


async def find(tx: Tx, identity: str) -> App | None:
    """The app with that id or name."""
    return await _first(tx, or_(table.c.id == identity, table.c.name == identity))


async def every(tx: Tx) -> list[App]:
    return [from_row(row) for row in await tx.all(_select().order_by(table.c.name))]


async def ids(tx: Tx) -> list[str]:
    return [row["id"] for row in await tx.all(select(table.c.id))]


async def preboots(tx: Tx) -> dict[str, bool]:
    """Whether each app's web dynos are replaced before they stop, by app."""
    rows = await tx.all(select(table.c.id, table.c.preboot))
    return {row["id"]: row["preboot"] for row in rows}


async def asleep(tx: Tx) -> dict[str, Sleep]:
    """How those apps sleep that do, by app."""
    query = select(table).where(table.c.asleep_since.is_not(None))
    return {row["id"]: sleep for row in await tx.all(query) if (sleep := sleep_of(row))}


async def free_slot(tx: Tx) -> int:
    """The lowest router slot that no app has."""
    taken = {row["slot"] for row in await tx.all(select(table.c.slot))}
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


async def next_uid(tx: Tx) -> int:
    """A user that no app has; the newest app's is not given again while an older one lives."""
    row = await tx.first(select(func.max(table.c.uid).label("uid")))
    return FIRST_UID if row is None or row["uid"] is None else int(row["uid"]) + 1


async def _first(tx: Tx, clause: ColumnElement[bool]) -> App | None:
    row = await tx.first(_select().where(clause))
    return None if row is None else from_row(row)


def _values(app: App) -> dict[str, object]:
    return {
        "name": app.name,
        "owner_id": app.owner.id,
        "stack": app.stack,
        "build_stack": app.build_stack,
        "maintenance": app.maintenance,
        "preboot": app.preboot,
        "runtime_metrics": app.runtime_metrics,
        "acm": app.acm,
        "affinity": app.affinity,
        "buildpacks": list(app.buildpacks),
        "detected_buildpack": app.detected_buildpack,
        "slug_size": app.slug_size,
        "repo_size": app.repo_size,
        "created_at": app.created_at.timestamp(),
        "updated_at": app.updated_at.timestamp(),
        "released_at": seconds_or_none(app.released_at),
    }


def from_row(row: RowMapping) -> App:
    return App(
        id=AppId(row["id"]),
        name=row["name"],
        owner=accounts.from_row(row, prefix="owner_"),
        stack=row["stack"],
        build_stack=row["build_stack"],
        maintenance=row["maintenance"],
        preboot=row["preboot"],
        runtime_metrics=row["runtime_metrics"],
        acm=row["acm"],
        affinity=row["affinity"],
        buildpacks=tuple(row["buildpacks"]),
        detected_buildpack=row["detected_buildpack"],
        slot=row["slot"],
        uid=row["uid"],
        slug_size=row["slug_size"],
        repo_size=row["repo_size"],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
        released_at=moment_or_none(row["released_at"]),
        sleep=sleep_of(row),
    )


def sleep_of(row: RowMapping) -> Sleep | None:
    if row["asleep_since"] is None:
        return None
    return Sleep(
        since=moment(row["asleep_since"]),
        depth=Depth(row["asleep_depth"]),
        workers=bool(row["asleep_workers"]),
    )
