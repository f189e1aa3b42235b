"""Custom domains in the database; the platform's own name of an app is never stored, it follows."""

from sqlalchemy import RowMapping, delete, insert, select

from deodar.model.app import AppId
from deodar.model.route import Domain, DomainKind
from deodar.store import schema
from deodar.store.db import Tx, moment

table = schema.domains


async def insert_domain(tx: Tx, domain: Domain) -> None:
    await tx.execute(
        insert(table).values(
            id=domain.id,
            app_id=domain.app_id,
            hostname=domain.hostname,
            created_at=domain.created_at.timestamp(),
            updated_at=domain.updated_at.timestamp(),
        )
    )


async def delete_domain(tx: Tx, domain_id: str) -> None:
    await tx.execute(delete(table).where(table.c.id == domain_id))


async def by_hostname(tx: Tx, hostname: str) -> Domain | None:
    row = await tx.first(select(table).where(table.c.hostname == hostname))
    return None if row is None else from_row(row)


async def of_app(tx: Tx, app_id: str) -> list[Domain]:
    query = select(table).where(table.c.app_id == app_id).order_by(table.c.hostname)
    return [from_row(row) for row in await tx.all(query)]


def from_row(row: RowMapping) -> Domain:
    return Domain(
        id=row["id"],
        app_id=AppId(row["app_id"]),
        hostname=row["hostname"],
        kind=DomainKind.CUSTOM,
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
    )
