"""Dynos in the database: wishes for one-offs, and what is known of those that run."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import RowMapping, delete, insert, select, update

from deodar.model.app import AppId
from deodar.model.dyno import Dyno, Kind, State
from deodar.store import schema
from deodar.store.db import Tx, moment, moment_or_none, seconds_or_none

table = schema.dynos


async def insert_dyno(tx: Tx, dyno: Dyno) -> None:
    await tx.execute(
        insert(table).values(
            id=dyno.id, app_id=dyno.app_id, routed=dyno.routed, **_values(tx, dyno)
        )
    )


async def update_dyno(tx: Tx, dyno: Dyno) -> None:
    """Everything but `routed` and `condemned`, which others write while the manifold looks away."""
    values = _values(tx, dyno)
    del values["condemned"]
    await tx.execute(update(table).where(table.c.id == dyno.id).values(**values))


async def set_routed(tx: Tx, dyno_id: str, routed: bool) -> None:
    """The router's word: whether it sends requests to this dyno."""
    await tx.execute(update(table).where(table.c.id == dyno_id).values(routed=routed))


async def admit(tx: Tx, dyno_id: str) -> bool:
    """The router is about to send requests to this dyno; False if it may not, being up no more.

    One transaction with the check: the manifold, which stops dynos, sees either this or nothing.
    """
    result = await tx.execute(
        update(table)
        .where(table.c.id == dyno_id)
        .where(table.c.state == State.UP.value)
        .values(routed=True)
    )
    return result.rowcount == 1


async def lay(tx: Tx, idle: Dyno) -> bool:
    """The dyno, which was up, is about to be frozen; False if it may not: the router sends requests to
    it, or its app is to be awake by now."""
    app = schema.apps
    asleep = select(app.c.id).where(app.c.id == table.c.app_id, app.c.asleep_since.is_not(None))
    result = await tx.execute(
        update(table)
        .where(table.c.id == idle.id)
        .where(table.c.state == State.UP.value)
        .where(~table.c.routed)
        .where(asleep.exists())
        .values(state=idle.state.value, state_since=idle.state_since.timestamp())
    )
    return result.rowcount == 1


async def rise(tx: Tx, app_ids: Collection[str], now: datetime) -> list[Dyno]:
    """The dynos of these apps that stood still, but those that are to be replaced: up by now, and
    routed if requests may be sent to them. One statement, since somebody waits."""
    result = await tx.execute(
        update(table)
        .where(table.c.app_id.in_(app_ids))
        .where(table.c.state == State.IDLE.value)
        .where(table.c.condemned.is_(None))
        .values(state=State.UP.value, state_since=now.timestamp(), routed=table.c.type == "web")
        .returning(*table.c)
    )
    return [from_row(tx, row) for row in result.mappings()]


async def fall_back(tx: Tx, dyno: Dyno) -> None:
    """It stands still as before."""
    await tx.execute(
        update(table).where(table.c.id == dyno.id).values(state=State.IDLE.value, routed=False)
    )


async def is_routed(tx: Tx, dyno_id: str) -> bool:
    row = await tx.first(select(table.c.routed).where(table.c.id == dyno_id))
    return row is not None and bool(row["routed"])


async def condemn(tx: Tx, dyno_id: str, why: str) -> None:
    """Wish that the dyno be replaced, or if it is a one-off, that it end; for `memory`, be killed."""
    await tx.execute(update(table).where(table.c.id == dyno_id).values(condemned=why))


async def delete_dyno(tx: Tx, dyno_id: str) -> None:
    await tx.execute(delete(table).where(table.c.id == dyno_id))


async def of_app(tx: Tx, app_id: str) -> list[Dyno]:
    """All of an app's dynos, by name, older first."""
    query = (
        select(table)
        .where(table.c.app_id == app_id)
        .order_by(table.c.type, table.c.number, table.c.created_at)
    )
    return [from_row(tx, row) for row in await tx.all(query)]


async def find(tx: Tx, app_id: str, identity: str) -> Dyno | None:
    """The app's dyno with that id or name; the newest of a name, while an old one still ends."""
    named = [dyno for dyno in await of_app(tx, app_id) if identity in (dyno.id, dyno.name)]
    return named[-1] if named else None


async def get(tx: Tx, dyno_id: str) -> Dyno | None:
    row = await tx.first(select(table).where(table.c.id == dyno_id))
    return None if row is None else from_row(tx, row)


async def every(tx: Tx) -> list[Dyno]:
    return [from_row(tx, row) for row in await tx.all(select(table))]


def _values(tx: Tx, dyno: Dyno) -> dict[str, object]:
    return {
        "type": dyno.type,
        "number": dyno.number,
        "kind": dyno.kind.value,
        "size": dyno.size,
        "command": dyno.command,
        "release_id": dyno.release_id,
        "release_version": dyno.release_version,
        "slug_id": dyno.slug_id,
        "state": dyno.state.value,
        "state_since": dyno.state_since.timestamp(),
        "created_at": dyno.created_at.timestamp(),
        "address": dyno.address,
        "port": dyno.port,
        "condemned": dyno.condemned,
        "signalled_at": seconds_or_none(dyno.signalled_at),
        "killed": dyno.killed,
        "exit_status": dyno.exit_status,
        "reason": dyno.reason,
        "fate": dyno.fate,
        "crashes": dyno.crashes,
        "restart_at": seconds_or_none(dyno.restart_at),
        "attached": dyno.attached,
        "tty": dyno.tty,
        "env": tx.seal(dyno.env),
        "time_to_live": dyno.time_to_live,
    }


def from_row(tx: Tx, row: RowMapping) -> Dyno:
    return Dyno(
        id=row["id"],
        app_id=AppId(row["app_id"]),
        type=row["type"],
        number=row["number"],
        kind=Kind(row["kind"]),
        size=row["size"],
        command=row["command"],
        release_id=row["release_id"],
        release_version=row["release_version"],
        slug_id=row["slug_id"],
        state=State(row["state"]),
        state_since=moment(row["state_since"]),
        created_at=moment(row["created_at"]),
        address=row["address"],
        port=row["port"],
        routed=row["routed"],
        condemned=row["condemned"],
        signalled_at=moment_or_none(row["signalled_at"]),
        killed=row["killed"],
        exit_status=row["exit_status"],
        reason=row["reason"],
        fate=row["fate"],
        crashes=row["crashes"],
        restart_at=moment_or_none(row["restart_at"]),
        attached=row["attached"],
        tty=row["tty"],
        env=tx.unseal(row["env"]),
        time_to_live=row["time_to_live"],
    )
