"""Which apps sleep, in the database, and when somebody last asked for each."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import bindparam, or_, select, update

from deodar.model.idling import Depth, Sleep
from deodar.store import schema
from deodar.store.db import Tx, moment

table = schema.apps


async def active(tx: Tx) -> dict[str, datetime]:
    """When somebody last asked for each app, as far as it was told, by app."""
    query = select(table.c.id, table.c.active_at).where(table.c.active_at.is_not(None))
    return {row["id"]: moment(row["active_at"]) for row in await tx.all(query)}


async def set_active(tx: Tx, moments: Mapping[str, datetime]) -> None:
    """Somebody asked for these apps; if not later than is known, that stays."""
    if moments:
        await tx.execute(
            update(table)
            .where(table.c.id == bindparam("app"))
            .where(or_(table.c.active_at.is_(None), table.c.active_at < bindparam("at")))
            .values(active_at=bindparam("at")),
            [{"app": app_id, "at": at.timestamp()} for app_id, at in moments.items()],
        )


async def recount(tx: Tx, app_id: str, now: datetime) -> None:
    """The clock was set back: nobody can have asked for it later than now."""
    await tx.execute(update(table).where(table.c.id == app_id).values(active_at=now.timestamp()))


async def fall_asleep(tx: Tx, app_id: str, sleep: Sleep) -> None:
    """Wish that the app sleep."""
    await tx.execute(update(table).where(table.c.id == app_id).values(**_values(sleep)))
    tx.ring(app_id)


async def sink(tx: Tx, app_id: str, sleep: Sleep, depth: Depth) -> None:
    """The sleep that the app has goes deeper; nothing if that has ended."""
    result = await tx.execute(
        update(table)
        .where(table.c.id == app_id)
        .where(table.c.asleep_since == sleep.since.timestamp())
        .values(asleep_depth=depth.value)
    )
    if result.rowcount:
        tx.ring(app_id)


async def rouse(tx: Tx, app_ids: Collection[str], now: datetime) -> None:
    """Somebody asks for these apps: whichever sleeps is to wake. Rings nobody."""
    await tx.execute(
        update(table).where(table.c.id.in_(app_ids)).values(active_at=now.timestamp(), **AWAKE)
    )


async def wake(tx: Tx, app_id: str) -> bool:
    """The app is to wake, if it sleeps: its owner changes what runs of it. True if it slept."""
    result = await tx.execute(
        update(table)
        .where(table.c.id == app_id)
        .where(table.c.asleep_since.is_not(None))
        .values(**AWAKE)
    )
    if result.rowcount:
        tx.ring(app_id)
    return result.rowcount > 0


AWAKE: Mapping[str, None] = {"asleep_since": None, "asleep_depth": None, "asleep_workers": None}


def _values(sleep: Sleep) -> dict[str, object]:
    return {
        "asleep_since": sleep.since.timestamp(),
        "asleep_depth": sleep.depth.value,
        "asleep_workers": sleep.workers,
    }
