"""Accounts and their API tokens in the database; tokens are kept as hashes only."""

import hashlib

from sqlalchemy import RowMapping, insert, select, update

from deodar.model.app import Account
from deodar.store import schema
from deodar.store.db import Tx, moment

table = schema.accounts


def digest(token: str) -> str:
    """What is kept of a token. It is random and long, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


async def create(tx: Tx, account: Account, *, token: str) -> None:
    await tx.execute(
        insert(table).values(
            id=account.id,
            email=account.email,
            name=account.name,
            token_hash=digest(token),
            created_at=account.created_at.timestamp(),
        )
    )


async def set_token(tx: Tx, account_id: str, token: str) -> None:
    await tx.execute(update(table).where(table.c.id == account_id).values(token_hash=digest(token)))


async def by_token(tx: Tx, token: str) -> Account | None:
    row = await tx.first(select(table).where(table.c.token_hash == digest(token)))
    return None if row is None else from_row(row)


async def first(tx: Tx) -> Account | None:
    """The oldest account: the owner of the machine."""
    row = await tx.first(select(table).order_by(table.c.created_at).limit(1))
    return None if row is None else from_row(row)


def from_row(row: RowMapping, prefix: str = "") -> Account:
    return Account(
        id=row[f"{prefix}id"],
        email=row[f"{prefix}email"],
        name=row[f"{prefix}name"],
        created_at=moment(row[f"{prefix}created_at"]),
    )
