"""What is wished of each process type of an app, in the database."""

from collections.abc import Iterable

from sqlalchemy import RowMapping, delete, insert, select

from deodar.model.formation import ProcessType
from deodar.store import schema
from deodar.store.db import Tx

table = schema.formations


async def of_app(tx: Tx, app_id: str) -> list[ProcessType]:
    """The app's process types by name; `web` first, as Heroku lists them."""
    rows = await tx.all(select(table).where(table.c.app_id == app_id).order_by(table.c.type))
    types = [from_row(row) for row in rows]
    return sorted(types, key=lambda each: (each.type != "web", each.type))


async def every(tx: Tx) -> dict[str, list[ProcessType]]:
    """All process types of all apps, by app."""
    types: dict[str, list[ProcessType]] = {}
    for row in await tx.all(select(table)):
        types.setdefault(row["app_id"], []).append(from_row(row))
    return types


async def replace(tx: Tx, app_id: str, types: Iterable[ProcessType]) -> None:
    """The app's formation is `types` and no other."""
    await tx.execute(delete(table).where(table.c.app_id == app_id))
    rows = [
        {
            "app_id": app_id,
            "type": each.type,
            "quantity": each.quantity,
            "size": each.size,
            "command": each.command,
        }
        for each in types
    ]
    if rows:
        await tx.execute(insert(table), rows)


def from_row(row: RowMapping) -> ProcessType:
    return ProcessType(
        type=row["type"], quantity=row["quantity"], size=row["size"], command=row["command"]
    )
