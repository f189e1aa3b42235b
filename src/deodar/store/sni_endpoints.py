"""Apps' certificates in the database, their private keys sealed; which one is served, domains say."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import RowMapping, delete, insert, select, update

from deodar.model.app import AppId
from deodar.model.certificate import Facts, SniEndpoint
from deodar.store import schema
from deodar.store.db import Tx, moment

table = schema.sni_endpoints
COLUMNS = [column for column in table.c if column.name != "key"]


async def insert_endpoint(tx: Tx, endpoint: SniEndpoint, *, key: str) -> None:
    """`key` is the private one, PEM."""
    await tx.execute(
        insert(table).values(
            id=endpoint.id,
            app_id=endpoint.app_id,
            name=endpoint.name,
            acm=endpoint.acm,
            created_at=endpoint.created_at.timestamp(),
            **_certificate(tx, endpoint, key=key),
        )
    )


async def replace(tx: Tx, endpoint: SniEndpoint, *, key: str) -> None:
    """The same endpoint with another certificate."""
    await tx.execute(
        update(table).where(table.c.id == endpoint.id).values(**_certificate(tx, endpoint, key=key))
    )


async def remove(tx: Tx, endpoint_id: str, *, now: datetime) -> None:
    """The domains that were served with it are served by the platform's own authority again."""
    domains = schema.domains
    await tx.execute(
        update(domains)
        .where(domains.c.sni_endpoint_id == endpoint_id)
        .values(sni_endpoint_id=None, updated_at=now.timestamp())
    )
    await tx.execute(delete(table).where(table.c.id == endpoint_id))


async def of_app(tx: Tx, app_id: str) -> list[SniEndpoint]:
    query = select(*COLUMNS).where(table.c.app_id == app_id).order_by(table.c.name)
    return [from_row(row) for row in await tx.all(query)]


async def pem(tx: Tx, endpoint_id: str) -> str | None:
    """Private key and chain in one text, as a server wants it; None when it is no more."""
    row = await tx.first(select(table.c.key, table.c.chain).where(table.c.id == endpoint_id))
    return None if row is None else _join(tx, row)


async def pems(tx: Tx, endpoint_ids: Collection[str]) -> dict[str, str]:
    """The same of many, by id."""
    if not endpoint_ids:
        return {}
    rows = await tx.all(select(table.c.id, table.c.key, table.c.chain))
    return {row["id"]: _join(tx, row) for row in rows if row["id"] in endpoint_ids}


def _join(tx: Tx, row: RowMapping) -> str:
    key, chain = tx.unseal(row["key"])["key"], str(row["chain"])
    return key + chain


def _certificate(tx: Tx, endpoint: SniEndpoint, *, key: str) -> dict[str, object]:
    facts = endpoint.facts
    return {
        "chain": endpoint.chain,
        "key": tx.seal({"key": key}),
        "names": list(facts.names),
        "subject": facts.subject,
        "issuer": facts.issuer,
        "starts_at": facts.starts_at.timestamp(),
        "expires_at": facts.expires_at.timestamp(),
        "self_signed": facts.self_signed,
        "ca_signed": facts.ca_signed,
        "updated_at": endpoint.updated_at.timestamp(),
    }


def from_row(row: RowMapping) -> SniEndpoint:
    return SniEndpoint(
        id=row["id"],
        app_id=AppId(row["app_id"]),
        name=row["name"],
        chain=row["chain"],
        facts=Facts(
            names=tuple(row["names"]),
            subject=row["subject"],
            issuer=row["issuer"],
            starts_at=moment(row["starts_at"]),
            expires_at=moment(row["expires_at"]),
            self_signed=row["self_signed"],
            ca_signed=row["ca_signed"],
        ),
        acm=row["acm"],
        created_at=moment(row["created_at"]),
        updated_at=moment(row["updated_at"]),
    )
