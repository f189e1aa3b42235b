"""Custom domains in the database; the platform's own name of an app is never stored, it follows."""

from datetime import datetime

from sqlalchemy import RowMapping, Select, delete, insert, select, update

from deodar.model.app import AppId
from deodar.model.certificate import Acm, AcmStatus, Chosen
from deodar.model.route import Domain, DomainKind
from deodar.store import schema
from deodar.store.db import Tx, moment, moment_or_none, seconds_or_none

table = schema.domains


def _select() -> Select[tuple[object, ...]]:
    endpoint = schema.sni_endpoints
    return select(
        *table.c,
        endpoint.c.name.label("endpoint_name"),
        endpoint.c.acm.label("endpoint_acm"),
        endpoint.c.starts_at.label("endpoint_starts_at"),
        endpoint.c.expires_at.label("endpoint_expires_at"),
        endpoint.c.updated_at.label("endpoint_updated_at"),
    ).join(endpoint, endpoint.c.id == table.c.sni_endpoint_id, isouter=True)


async def insert_domain(tx: Tx, domain: Domain) -> None:
    await tx.execute(
        insert(table).values(
            id=domain.id,
            app_id=domain.app_id,
            hostname=domain.hostname,
            created_at=domain.created_at.timestamp(),
            updated_at=domain.updated_at.timestamp(),
            sni_endpoint_id=domain.sni_endpoint.id if domain.sni_endpoint else None,
            **_acm(domain.acm),
        )
    )


async def delete_domain(tx: Tx, domain_id: str) -> None:
    orders = schema.acme_orders
    await tx.execute(delete(orders).where(orders.c.domain_id == domain_id))
    await tx.execute(delete(table).where(table.c.id == domain_id))


async def set_endpoint(tx: Tx, domain_id: str, endpoint_id: str | None, *, now: datetime) -> None:
    """The domain is served with that certificate; None: with one of the platform's own authority."""
    await tx.execute(
        update(table)
        .where(table.c.id == domain_id)
        .values(sni_endpoint_id=endpoint_id, updated_at=now.timestamp())
    )


async def set_acm(tx: Tx, domain_id: str, acm: Acm, *, now: datetime) -> None:
    """How far ACM has come with the domain."""
    await tx.execute(
        update(table).where(table.c.id == domain_id).values(updated_at=now.timestamp(), **_acm(acm))
    )


async def by_hostname(tx: Tx, hostname: str) -> Domain | None:
    row = await tx.first(_select().where(table.c.hostname == hostname))
    return None if row is None else from_row(row)


async def get(tx: Tx, domain_id: str) -> Domain | None:
    row = await tx.first(_select().where(table.c.id == domain_id))
    return None if row is None else from_row(row)


async def of_app(tx: Tx, app_id: str) -> list[Domain]:
    query = _select().where(table.c.app_id == app_id).order_by(table.c.hostname)
    return [from_row(row) for row in await tx.all(query)]


async def every(tx: Tx) -> dict[str, list[Domain]]:
    """All domains of all apps, by app."""
    found: dict[str, list[Domain]] = {}
    for row in await tx.all(_select().order_by(table.c.hostname)):
        found.setdefault(row["app_id"], []).append(from_row(row))
    return found


def _acm(acm: Acm) -> dict[str, object]:
    return {
        "acm_status": acm.status.value if acm.status else None,
        "acm_reason": acm.reason,
        "acm_failures": acm.failures,
        "acm_next_at": seconds_or_none(acm.next_at),
    }


def from_row(row: RowMapping) -> Domain:
    return Domain(
        id=row["id"],
        app_id=AppId(row["app_id"]),
        hostname=row["hostname"],
        kind=DomainKind.CUSTOM,
        sni_endpoint=_chosen(row),
        acm=Acm(
            status=AcmStatus(row["acm_status"]) if row["acm_status"] else None,
            reason=row["acm_reason"],
            failures=row["acm_failures"],
            next_at=moment_or_none(row["acm_next_at"]),
        ),
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
    )


def _chosen(row: RowMapping) -> Chosen | None:
    if row["sni_endpoint_id"] is None:
        return None
    return Chosen(
        id=row["sni_endpoint_id"],
        name=row["endpoint_name"],
        acm=row["endpoint_acm"],
        starts_at=moment(row["endpoint_starts_at"]),
        expires_at=moment(row["endpoint_expires_at"]),
        updated_at=moment(row["endpoint_updated_at"]),
    )
