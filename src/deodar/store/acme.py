"""What ACME needs to go on after a crash, in the database: our account at an authority, and open orders."""

from sqlalchemy import RowMapping, delete, insert, select, update

from deodar.model.app import AppId
from deodar.model.certificate import AcmeAccount, Order
from deodar.store import schema
from deodar.store.db import Tx, moment

table = schema.acme_orders
accounts = schema.acme_accounts


async def account(tx: Tx, directory: str) -> AcmeAccount | None:
    """Ours at that authority."""
    row = await tx.first(select(accounts).where(accounts.c.directory == directory))
    if row is None:
        return None
    return AcmeAccount(directory=row["directory"], key=tx.unseal(row["key"])["key"], url=row["url"])


async def save_account(tx: Tx, account: AcmeAccount) -> None:
    await tx.execute(delete(accounts).where(accounts.c.directory == account.directory))
    await tx.execute(
        insert(accounts).values(
            directory=account.directory, key=tx.seal({"key": account.key}), url=account.url
        )
    )


async def save_order(tx: Tx, order: Order) -> None:
    """The one order of its domain."""
    await drop_order(tx, order.domain_id)
    await tx.execute(
        insert(table).values(
            domain_id=order.domain_id,
            app_id=order.app_id,
            hostname=order.hostname,
            url=order.url,
            key=tx.seal({"key": order.key}),
            token=order.token,
            answer=order.answer,
            routed=order.routed,
            created_at=order.created_at.timestamp(),
        )
    )


async def set_routed(tx: Tx, order: Order) -> None:
    """The router answers for it. Not for another order that took its place meanwhile."""
    await tx.execute(
        update(table)
        .where(table.c.domain_id == order.domain_id)
        .where(table.c.url == order.url)
        .values(routed=True)
    )


async def drop_order(tx: Tx, domain_id: str) -> None:
    await tx.execute(delete(table).where(table.c.domain_id == domain_id))


async def orders_of(tx: Tx, app_id: str) -> list[Order]:
    query = select(table).where(table.c.app_id == app_id).order_by(table.c.hostname)
    return [from_row(tx, row) for row in await tx.all(query)]


async def every_order(tx: Tx) -> list[Order]:
    return [from_row(tx, row) for row in await tx.all(select(table).order_by(table.c.hostname))]


def from_row(tx: Tx, row: RowMapping) -> Order:
    return Order(
        domain_id=row["domain_id"],
        app_id=AppId(row["app_id"]),
        hostname=row["hostname"],
        url=row["url"],
        key=tx.unseal(row["key"])["key"],
        token=row["token"],
        answer=row["answer"],
        routed=row["routed"],
        created_at=moment(row["created_at"]),
    )
